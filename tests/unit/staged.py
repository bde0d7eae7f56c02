"""Stages records through the real mapping in an in-memory DuckDB, and returns the result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ometria_replica.mapping import Staging
from ometria_replica.records import (
    Dialect,
    FeedFile,
    FeedObject,
    Page,
    TextRecord,
    Unreadable,
    parse,
    storable_json,
)
from tests.duck import Row, connected, read

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.mapping import Staged
    from ometria_replica.schema import Table

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORIGIN = "GET /somewhere offset=0"


@dataclass(frozen=True)
class Outcome:
    """The counts, the staged rows in order, and the rejects."""

    counts: Staged
    rows: list[Row]
    rejects: list[Row]

    @property
    def row(self) -> Row:
        """The only row."""
        assert len(self.rows) == 1
        return self.rows[0]


def page(*records: str, at: datetime = NOON, origin: str = ORIGIN) -> Page:
    """Return a page of records given as JSON text, as an answer gives them if texts are kept."""
    return Page([TextRecord(parse(text), storable_json(text)) for text in records], at, origin)


def stage(table: Table, *pages: Page, source_id: str = "uk") -> Outcome:
    """Stage *pages* as one batch."""
    with connected() as connection:
        staging = Staging(connection, table, "1042", source_id)
        staging.add_pages(pages, NOON)
        return finish(staging)


def stage_records(table: Table, *records: str, source_id: str = "uk") -> Outcome:
    """Stage records, given as JSON text, as one page."""
    return stage(table, page(*records), source_id=source_id)


def stage_file(table: Table, file: FeedFile, source_id: str = "uk") -> Outcome:
    """Stage one readable file."""
    with connected() as connection:
        staging = Staging(connection, table, "1042", source_id)
        assert not isinstance(staging.add_file(file, NOON), Unreadable)
        return finish(staging)


def finish(staging: Staging) -> Outcome:
    """Finish a batch and return its rows and rejects."""
    counts = staging.finish()
    names = [column.name for column in staging.table.all_columns]
    rows = read(staging.connection, "staged")
    return Outcome(
        counts,
        [{name: row[name] for name in names} for row in rows],
        read(staging.connection, "rejected"),
    )


def file_of(
    folder: Path, content: bytes, dialect: Dialect, name: str = "events", at: datetime = NOON
) -> FeedFile:
    """Write a normalised file, as the feed returns it."""
    path = folder / name
    path.write_bytes(content)
    return FeedFile(FeedObject(name, "etag", len(content), at), path, dialect)
