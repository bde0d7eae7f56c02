"""The temporary tables of a batch: its rows, its rejects, and where each file and page begins."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica.local_duckdb import registered
from ometria_replica.mapping.quoting import literal
from ometria_replica.mapping.readers import has_nuls, json_object_sql
from ometria_replica.mapping.select import (
    PARENT_ROW,
    RECORD,
    REJECTED,
    STAGED,
    mapping_sql,
    moments_sql,
    records_ddl,
    staged_ddl,
)
from ometria_replica.mapping.treatments import parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedFile, FeedObject
    from ometria_replica.schema import Table

UNNAMED = "names not kept"
"""In place of the undocumented names in a table of which columns are hashed or excluded."""

REJECT_COLUMNS = (
    "reject_id",
    "source_id",
    "table_name",
    "sync_key",
    "column_name",
    "raw",
    "reason",
    "origin",
    "position",
)
"""The columns of a reject: *column_name* None for a whole record, *position* from 1 in *origin*."""

_SPANS = "staged_spans"
TEXT_NOT_KEPT = " (its text is not kept, since columns of the table are hashed or excluded)"


def file_reject(source_id: str, table_name: str, file: FeedObject, reason: str) -> dict[str, Any]:
    """Return the reject of an unreadable file, by the names of REJECT_COLUMNS."""
    known = {
        "reject_id": f"{source_id}|{table_name}|{file.name}|{file.etag}",
        "source_id": source_id,
        "table_name": table_name,
        "reason": reason,
        "origin": file.name,
    }
    return dict.fromkeys(REJECT_COLUMNS) | known


@dataclass(frozen=True)
class Relations:
    """
    The temporary tables of one table in a batch: its rows are *staged*, its rejects *rejected*.

    *row* is the column with the row of the record, by which its page is known: that of the
    parent, for a table that is inside another.
    """

    staged: str = STAGED
    rejected: str = REJECTED
    row: str = "rowid"

    @classmethod
    def inside(cls, number: int) -> Relations:
        """Name those of one of the tables that are inside the table of the batch."""
        return cls(f"{STAGED}_inside_{number}", f"{REJECTED}_inside_{number}", PARENT_ROW)


@dataclass
class StagedTables:
    """
    The rows and rejects of one table in one batch, in *relations*, and what is noted beside.

    *unknown_fields* are names that Ometria does not document, or UNNAMED. *old_files* were
    written before what the table keeps. *file_columns* are the names of columns in files.
    """

    connection: DuckDBPyConnection
    table: Table
    account_id: str
    source_id: str
    relations: Relations = field(default_factory=Relations)
    unknown_fields: set[str] = field(default_factory=set)
    old_files: set[str] = field(default_factory=set)
    file_columns: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection.execute(staged_ddl(self.table, self.staged))
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {self.rejected} ({_rejected_columns()})"
        )
        if self.relations.row == PARENT_ROW:
            return  # The rest is that of the parent.
        self.connection.execute("SET TimeZone = 'UTC'")  # A time without a zone is UTC.
        self.connection.execute("SET preserve_insertion_order = true")  # Later rows are newer.
        if self.table.keeps_records:
            self.connection.execute(records_ddl())
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_SPANS} (first_row BIGINT, origin VARCHAR)"
        )

    @property
    def staged(self) -> str:
        """The temporary table of the rows."""
        return self.relations.staged

    @property
    def rejected(self) -> str:
        """The temporary table of the rejects."""
        return self.relations.rejected

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Keep all that the block stages, or nothing."""
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def insert_texts(self, texts: pa.Table, synced_at: datetime) -> int:
        """Stage *texts*, a table of :func:`to_arrow`; return how many rows."""
        names = self.table.fields
        record = json_object_sql(names) if self.table.is_treated else '"_record"'
        with registered(self.connection, "incoming", texts):
            return self.insert(
                "incoming", names, record, synced_at, nuls=has_nuls(texts.select(names))
            )

    def insert(
        self,
        relation: str,
        available: Sequence[str],
        record: str,
        *synced_at: datetime,
        kept: str = RECORD,
        nuls: bool = True,
    ) -> int:
        """Stage *relation* by the statement of :func:`mapping_sql`; return how many rows."""
        statement = mapping_sql(
            self.table,
            relation,
            available,
            account_id=self.account_id,
            source_id=self.source_id,
            synced_at=synced_at,
            record=record,
            kept=kept,
            nuls=nuls,
        )
        return self.scalar(
            f"INSERT INTO {self.staged} {statement}", parameters(self.table, statement)
        )

    def reject_file(self, file: FeedObject, reason: str) -> None:
        """Reject a file that cannot be read at all."""
        row = file_reject(self.source_id, self.table.name, file, reason)
        parameters = ", ".join("?" for _ in row)
        self.connection.execute(
            f"INSERT INTO {self.rejected} ({', '.join(row)}) VALUES ({parameters})",
            list(row.values()),
        )

    def reject_texts(self, origin: str, lines: Sequence[tuple[int, str, str]]) -> int:
        """Reject *lines*: the number, the text and the reason of each; return how many."""
        if not lines:
            return 0
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

        names = ("line", "raw", "reason")
        columns = dict(zip(names, zip(*lines, strict=True), strict=True))
        with registered(self.connection, "bad_lines", pa.table(columns)):
            return self.reject_lines(origin, "SELECT line, raw, reason FROM bad_lines")

    def reject_lines(self, origin: str, lines: str) -> int:
        """Reject *lines*, a SELECT of the number, the text and the reason; return how many."""
        table, source, place = (literal(text) for text in (self.table.name, self.source_id, origin))
        raw, reason = "raw", "'line cannot be parsed: ' || reason"
        if self.table.is_treated:  # Where in the line the values are is not known.
            raw, reason = "NULL::VARCHAR", f"{reason} || {literal(TEXT_NOT_KEPT)}"
        return self.scalar(
            f"INSERT INTO {self.rejected}"
            f" SELECT md5(concat_ws('|', {source}, {table}, {place}, line, {raw})),"
            f" {source}, {table}, NULL, NULL, {raw}, {reason},"
            f" {place}, line"
            f" FROM ({lines}) lines (line, raw, reason)"
        )

    def reject_staged(self, *, key: str, column: str, raw: str, reason: str, where: str) -> None:
        """
        Reject the staged rows *where* a condition holds, which stay staged.

        *key*, *column*, *raw* and *reason* are SQL expressions for the columns of the reject.
        """
        rows = f"{self.staged} WHERE {where}"
        self._reject(rows, key=key, column=column, raw=raw, reason=reason)

    def reject_rows(self, rows: str, *, raw: str, reason: str) -> None:
        """Reject *rows*, of which nothing is staged; their pages are known as those of staged."""
        self._reject(rows, key="NULL", column="NULL", raw=raw, reason=reason)

    def _reject(self, rows: str, *, key: str, column: str, raw: str, reason: str) -> None:
        table, source = literal(self.table.name), literal(self.source_id)
        self.connection.execute(
            f"INSERT INTO {self.rejected}"
            f" SELECT md5(concat_ws('|', {source}, {table}, {key}, {column}, {raw})) AS reject_id,"
            f" {source}, {table}, {key}, {column}, {raw}, {reason},"
            " spans.origin, s.row_number - spans.first_row + 1"
            f" FROM (SELECT {self.relations.row} AS row_number, * FROM {rows}) s"
            f" ASOF LEFT JOIN {_SPANS} spans ON s.row_number >= spans.first_row"
        )

    def next_row(self) -> int:
        """Return the row id that the next staged row gets."""
        return self.scalar(f"SELECT coalesce(max(rowid) + 1, 0) FROM {self.staged}")

    def note_span(self, first: int, origin: str) -> None:
        """Note that the rows from row *first* on came from *origin*."""
        self.connection.execute(f"INSERT INTO {_SPANS} VALUES (?, ?)", [first, origin])

    def note_spans(self, first: int, files: Sequence[tuple[FeedFile, datetime]]) -> list[int]:
        """Note where the rows of each file begin, from row *first* on; return their numbers."""
        records = [0] * len(files)
        spans = self.connection.execute(
            f"SELECT list_position({moments_sql(at for _, at in files)}, __synced_at) - 1,"
            f" min(rowid), count(*) FROM {self.staged} WHERE rowid >= {first} GROUP BY 1"
        ).fetchall()
        for place, _, count in spans:
            records[place] = count
        rows = [f"({row}, {literal(files[place][0].origin.name)})" for place, row, _ in spans]
        if rows:
            self.connection.execute(f"INSERT INTO {_SPANS} VALUES {', '.join(rows)}")
        return records

    def note_unknown(self, names: Collection[str]) -> None:
        """
        Note undocumented names; of a table with a treatment only that there are some.

        Where a writer has confused names and values, such a name could be what is hashed.
        """
        self.unknown_fields |= {UNNAMED} if names and self.table.is_treated else set(names)

    def note_age(self, file: FeedObject) -> None:
        """Note a file that was written before what the table keeps, so that all in it is older."""
        if self.table.oldest and file.modified_at < self.table.oldest:
            self.old_files.add(file.name)

    def count(self, name: str) -> int:
        """Count the rows of the table *name*."""
        return self.scalar(f"SELECT count(*) FROM {name}")

    def scalar(self, statement: str, parameters: Mapping[str, object] | None = None) -> int:
        """Run *statement*; return the only number of its result, or 0 if it has no row."""
        return self.row(statement, parameters)[0]

    def row(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[int]:
        """Run *statement*; return the numbers in the first row of its result."""
        found = self.connection.execute(statement, dict(parameters or {})).fetchall()
        return [int(number) for number in (found[0] if found else (0,))]


def _rejected_columns() -> str:
    return ", ".join(
        f"{name} {'BIGINT' if name == 'position' else 'VARCHAR'}" for name in REJECT_COLUMNS
    )
