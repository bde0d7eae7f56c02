"""
One table of one account becomes Arrow rows here, and what was set aside goes beside them.

A load is staged whole before the first row leaves: so each key leaves once, with its newest
row, whatever dlt's merge would make of two. The staging lies on the disk where memory ends.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ometria_replica.dlt.state import ledger_in, memory_in, move
from ometria_replica.local_duckdb import open_duckdb
from ometria_replica.mapping import REJECT_COLUMNS, REJECTED, STAGED, Staging, quoted
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.records import Unreadable
from ometria_replica.schema import Feed
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse.arrow import ARROW_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    from ometria_replica.config import AccountSettings
    from ometria_replica.dlt.state import State
    from ometria_replica.records import FeedFile
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

BATCH_ROWS = 100_000
MEMORY = "1GB"  # Of a table being staged; more goes to the disk.

NEVER_NULL = ("_account_id", "__source_id", "__sync_key", "__synced_at")


@dataclass(frozen=True)
class Rows:
    """A batch for the table, or, where *set_aside*, of what could not be loaded into it."""

    data: pa.Table
    set_aside: bool = False


def read(account: AccountSettings, table: Table, state: State) -> Iterator[Rows]:
    """
    Yield what is new since *state*, each key once, and move *state* when all of it was taken.

    Without news there is no batch: an empty one would fail on its way into PostgreSQL.
    """
    now = datetime.now(UTC)
    specified = table.with_wide_keys() if account.wide_keys else table
    with (
        temp_folder() as folder,
        open_duckdb(folder / "spilled", MEMORY) as engine,
        AccountSource(account, now) as inputs,
    ):
        staging = Staging(engine, specified, account.account_id, account.source_id)
        stage = _stage_files if isinstance(table.read, Feed) else _stage_pages
        note = stage(_Load(inputs, specified, staging, state, now, folder))
        staged = staging.finish()
        logger.info("%s: %d rows", table.name, staged.rows)
        if set_aside := staged.records_rejected + staged.values_rejected:
            logger.warning("%s: %d records or values were set aside", table.name, set_aside)
        yield from _batches(engine, specified)
        yield from _rejects(engine, now)
        for warning in inputs.warnings:
            logger.warning("%s: %s", table.name, warning)
        note()


@dataclass(frozen=True)
class _Load:
    """What is read into what, at *now*, with *folder* for files."""

    inputs: AccountSource
    table: Table
    staging: Staging
    state: State
    now: datetime
    folder: Path


def _stage_pages(load: _Load) -> Callable[[], None]:
    """Stage the pages of the API; gives what notes that they were read."""
    reading = load.inputs.read(load.table, memory_in(load.state))
    for page in reading.pages():
        load.staging.add_pages([page], load.now)
    until = load.inputs.read_until
    return lambda: move(load.state, reading, until)


def _stage_files(load: _Load) -> Callable[[], None]:
    """Stage the files of the feed that are new, oldest first; gives what notes them as read."""
    ledger, feed = ledger_in(load.state), load.inputs.export(load.table)
    listed = list(feed.list())
    if late := ledger.late(listed):
        logger.warning(
            "%s: files that are older than all that are remembered one by one came after them,"
            " and are not read (%d). To read all files again, load with refresh='drop_data' once.",
            load.table.name,
            late,
        )
    files = sorted(ledger.new_files(listed), key=lambda file: (file.modified_at, file.name))
    brought = feed.fetch(files, load.folder / "files")
    read = [file.origin for file in brought if _stage_file(load, file)]
    return lambda: load.state.update(ledger=ledger.after(listed, read).to_state())


def _stage_file(load: _Load, file: FeedFile | Unreadable) -> bool:
    """Stage a file, and tell whether that is done with; False to try it again next time."""
    staged = file if isinstance(file, Unreadable) else load.staging.add_file(file, load.now)
    if not isinstance(file, Unreadable):
        file.path.unlink(missing_ok=True)  # The next files need the room.
    if not isinstance(staged, Unreadable):
        return True
    logger.warning("%s: %s: %s", load.table.name, staged.origin.name, staged.reason)
    if not staged.again:
        _set_aside(load, staged)
    return not staged.again


def _set_aside(load: _Load, unreadable: Unreadable) -> None:
    file, source_id = unreadable.origin, load.staging.source_id
    row = dict.fromkeys(REJECT_COLUMNS) | {
        "reject_id": f"{source_id}|{load.table.name}|{file.name}|{file.etag}",
        "source_id": source_id,
        "table_name": load.table.name,
        "reason": unreadable.reason,
        "origin": file.name,
    }
    marks = ", ".join("?" for _ in row)
    load.staging.connection.execute(
        f"INSERT INTO {REJECTED} ({', '.join(row)}) VALUES ({marks})", list(row.values())
    )


def _batches(engine: duckdb.DuckDBPyConnection, table: Table) -> Iterator[Rows]:
    schema = arrow_schema(table)
    names = ", ".join(quoted(name) for name in schema.names)
    found = _rows(engine, f"SELECT {names} FROM {STAGED}").to_arrow_reader(BATCH_ROWS)
    for batch in found:
        if len(batch):
            yield Rows(pa.Table.from_batches([batch]).cast(schema))


def _rejects(engine: duckdb.DuckDBPyConnection, now: datetime) -> Iterator[Rows]:
    found = _rows(
        engine,
        f"SELECT DISTINCT ON (reject_id) {', '.join(REJECT_COLUMNS)},"
        f" TIMESTAMPTZ '{now.isoformat()}' AS rejected_at FROM {REJECTED}",
    ).to_arrow_table()
    if len(found):
        yield Rows(found.cast(pa.schema(_REJECT_FIELDS)), set_aside=True)


def _rows(engine: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    engine.execute("SELECT 1").fetchall()  # Ends what was asked last; DuckDB 2 insists on it.
    return engine.sql(query)  # Not execute: from there, Arrow costs a copy more.


_REJECT_FIELDS: list[pa.Field[Any]] = [
    pa.field("reject_id", pa.string(), nullable=False),
    *(pa.field(name, pa.string()) for name in REJECT_COLUMNS[1:-1]),
    pa.field(REJECT_COLUMNS[-1], pa.int64()),
    pa.field("rejected_at", ARROW_TYPES["timestamptz"]),
]


def arrow_schema(table: Table) -> pa.Schema:
    """Give the columns of *table* in their order, as Arrow knows them."""
    return pa.schema(
        pa.field(column.name, ARROW_TYPES[column.type], nullable=column.name not in NEVER_NULL)
        for column in table.all_columns
    )
