"""
Reads one table of one account into Arrow batches of rows and of rejects.

A load is staged completely before its first batch: each key is in it once, with its newest
row, so the result does not depend on how dlt's merge treats duplicate keys. The staging
spills to disk when it exceeds its memory limit.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ometria_replica.arrow_types import ARROW_TYPES
from ometria_replica.batch import TableState
from ometria_replica.batching import discard, stage_files, stage_pages
from ometria_replica.catalog import CATALOG
from ometria_replica.config import NO_LIMITS
from ometria_replica.extraction.open_table import open_table
from ometria_replica.extraction.state import advance, file_log_in, set_file_log, table_state_in
from ometria_replica.mapping import REJECT_COLUMNS, REJECTED, STAGED, Staging, quoted
from ometria_replica.records import Unreadable
from ometria_replica.ways_to_read import Feed, Growing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb

    from ometria_replica.batch import FileLogEntry
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.extraction.file_log import FileLog
    from ometria_replica.extraction.open_table import OpenTable
    from ometria_replica.extraction.state import State
    from ometria_replica.ometria.export import ExportFiles
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

BATCH_ROWS = 100_000

NEVER_NULL = ("_account_id", "__source_id", "__sync_key", "__synced_at")


@dataclass(frozen=True)
class Rows:
    """A batch of rows for the table, or of its rejects if *rejected*."""

    data: pa.Table
    rejected: bool = False


def read(
    account: AccountSettings,
    table: Table,
    state: State,
    catalog: Catalog = CATALOG,
    limits: Limits = NO_LIMITS,
) -> Iterator[Rows]:
    """
    Yield the rows that are new since *state*, each key once, and then advance *state*.

    A load without new rows yields no batch: dlt fails to load an empty one into PostgreSQL.
    """
    with open_table(account, table, catalog, limits) as opened:
        staging = opened.staging()
        stage = _stage_files if isinstance(table.read, Feed) else _stage_pages
        advance_state = stage(opened, state, staging)
        opened.finish(staging)
        yield from staged_rows(opened.connection, opened.table)
        yield from staged_rejects(opened.connection, opened.now)
        advance_state()


def _stage_pages(opened: OpenTable, state: State, staging: Staging) -> Callable[[], None]:
    """Stage the pages of the API; return a callback that records them as read."""
    known = table_state_in(state)
    if isinstance(opened.table.read, Growing) and is_due_in_full(
        known, opened.now, opened.account.full_read_every_days
    ):
        known = TableState()
    reading = opened.source.read(opened.table, known)
    for page in reading.pages():
        stage_pages(staging, [page], opened.now)
    until = opened.source.read_until
    return lambda: advance(state, reading, until)


def is_due_in_full(known: TableState, now: datetime, every_days: int) -> bool:
    """Whether the last full read is at least so many days old, or there was none."""
    return known.full_read_at is None or now - known.full_read_at >= timedelta(days=every_days)


def _stage_files(opened: OpenTable, state: State, staging: Staging) -> Callable[[], None]:
    """Stage the new export files, oldest first; return a callback that records them as read."""
    table = opened.table
    log, export = file_log_in(state), opened.source.export(table)
    listed = list(export.list())
    if not listed:
        warn_of_nothing(table, export, log)
        return lambda: None  # If the files come back, the log still knows them.
    warn_of_late(table, log.late(listed), "Load with refresh='drop_data' once")
    files = export.fetch(sorted(log.new_files(listed)), opened.folder / "files")
    read = [file.origin for file in files if stage_file(staging, file, opened.now)]
    return lambda: set_file_log(state, log.after(listed, read))


def warn_of_nothing(table: Table, export: ExportFiles, log: FileLog) -> None:
    """Warn that a listing found no file, unless one is there that may still grow."""
    if not export.waiting:
        logger.warning("%s: %s", table.name, export.nothing_found(log.read_before))


def warn_of_late(table: Table, late: int, how_to_read_all: str) -> None:
    """Warn of files that arrived too late for the file log, if there are any."""
    if late:
        logger.warning(
            "%s: late files that were not read: %d. They are older than every file that the state"
            " records one by one. %s to read all files again.",
            table.name,
            late,
            how_to_read_all,
        )


def stage_file(staging: Staging, file: FetchedFile, synced_at: datetime) -> bool:
    """Stage a file; False if the next load must try it again."""
    (outcome,) = stage_files(staging, [file], [synced_at])
    discard([file])
    return is_read(staging, outcome, file.origin)


def is_read(staging: Staging, outcome: FileLogEntry | Unreadable, origin: FeedObject) -> bool:
    """Reject a file that cannot be read; False for one that the next load must try again."""
    is_left = isinstance(outcome, Unreadable)
    reason = outcome.reason if isinstance(outcome, Unreadable) else outcome.unreadable_because
    if reason is not None:
        logger.warning("%s: %s: %s", staging.table.name, origin.name, reason)
        if not is_left:
            staging.reject_file(origin, reason)
    return not is_left


def staged_rows(connection: duckdb.DuckDBPyConnection, table: Table) -> Iterator[Rows]:
    """Yield the rows of a finished batch."""
    schema = arrow_schema(table)
    names = ", ".join(quoted(name) for name in schema.names)
    found = _rows(connection, f"SELECT {names} FROM {STAGED}").to_arrow_reader(BATCH_ROWS)
    for batch in found:
        if len(batch):
            yield Rows(pa.Table.from_batches([batch]).cast(schema))


def staged_rejects(connection: duckdb.DuckDBPyConnection, now: datetime) -> Iterator[Rows]:
    """Yield the rejects of a finished batch, each once."""
    found = _rows(
        connection,
        f"SELECT DISTINCT ON (reject_id) {', '.join(REJECT_COLUMNS)},"
        f" TIMESTAMPTZ '{now.isoformat()}' AS rejected_at FROM {REJECTED}",
    ).to_arrow_table()
    if len(found):
        yield Rows(found.cast(pa.schema(_REJECT_FIELDS)), rejected=True)


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    connection.execute("SELECT 1").fetchall()  # Ends the previous query, as DuckDB 2 requires.
    return connection.sql(query)  # Unlike execute, it converts to Arrow without an extra copy.


_REJECT_FIELDS: list[pa.Field[Any]] = [
    pa.field("reject_id", pa.string(), nullable=False),
    *(pa.field(name, pa.string()) for name in REJECT_COLUMNS[1:-1]),
    pa.field(REJECT_COLUMNS[-1], pa.int64()),
    pa.field("rejected_at", ARROW_TYPES["timestamptz"]),
]


def arrow_schema(table: Table) -> pa.Schema:
    """Return the columns of *table* in order, with their Arrow types."""
    return pa.schema(
        pa.field(column.name, ARROW_TYPES[column.type], nullable=column.name not in NEVER_NULL)
        for column in table.all_columns
    )
