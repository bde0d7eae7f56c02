"""
Lakes: tables that are folders of files, of which a selection is replaced in one commit.

No table format's own upsert is used. That of delta-rs 1.6 refuses good batches of more than a
few thousand rows ("matched a target row with multiple source rows", delta-rs issues 4471 and
4572), and ended the process at 50,000. So DuckDB computes the rows that a selection holds
afterwards: those that stay, and those of the batch. A commit succeeds only if no other commit
came after the table was read, so a repeated or a late commit doubles nothing.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import our_columns
from ometria_replica.batch import BatchSize
from ometria_replica.comments import comments, missing_comments
from ometria_replica.errors import CommitConflict, WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.schema import StateTable
from ometria_replica.selection import ALL, Selection, Values, joined
from ometria_replica.text import counted
from ometria_replica.warehouse.remotes.base import (
    ROWS_AT_ONCE,
    Relation,
    Remote,
    StateChange,
    retried,
)
from ometria_replica.warehouse.state_tables import RUNS, STATE_TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

MOST_SPANS = 32  # Of a selection: each is a condition, and conditions are tested row by row.
MOST_KEYS = 200  # Of a filter. delta-rs 1.6 ended the process at 50,000.
KEPT = timedelta(days=7)  # Old versions of the state tables: longer than a reader takes.

ABANDONED = timedelta(hours=24)
"""
The age from which a file that belongs to no version is one that a killed run has left.

A younger one may be that of a commit under way, which takes seconds in a sync, and some hours at
most in another program.
"""
BUCKETS = (
    "If the bucket of {place} has versioning, replication or backups, those keep the removed"
    " files until they expire."
)

_SOUGHT, _STORED, _NEW, _GONE = "sought", "stored_rows", "new_state", "gone_state"


class LakeTable(Protocol):
    """A table as it was when it was opened."""

    def schema(self) -> pa.Schema:
        """Return the Arrow schema."""

    def comments(self) -> Mapping[str, str] | None:
        """
        Read the comments of columns, and of the table, under ``""``.

        None where each would cost a commit of its own, so that none is written later.
        """

    def write_comments(self, comments: Mapping[str, str]) -> None:
        """Write comments in one commit. Not called where :meth:`comments` returns None."""

    def rows(
        self, selection: Selection, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """
        Read rows; those with other values than selected may be among them.

        Of *columns*, or of all of them.
        """

    def scan(self) -> object:
        """Return what a DuckDB can register as a relation, and read any number of times."""

    def count(self, selection: Selection) -> int:
        """Count rows."""

    def append(self, rows: pa.RecordBatchReader) -> None:
        """Add rows. Raises CommitConflict if the table has changed since it was opened."""

    def overwrite(self, selection: Selection, rows: pa.RecordBatchReader) -> None:
        """Write *rows* in place of a selection in which they all lie. Raises as append()."""


class Lake(Protocol):
    """A place with tables."""

    @property
    def place(self) -> str:
        """The name in messages, without a password."""

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours, without their text: it may quote personal data."""

    def open(self, schema: str, name: str) -> LakeTable | None:
        """Open a table as it is now; None if it does not exist."""

    def create(
        self,
        schema: str,
        name: str,
        columns: Sequence[tuple[str, str]],
        comments: Mapping[str, str],
    ) -> None:
        """
        Create a table with *columns* of our types, unless it exists by now.

        *comments* are those of columns by name, and that of the table under ``""``.
        """

    def expire(self, schema: str, name: str, older_than: timedelta) -> None:
        """Remove the versions of a table that were replaced that long ago."""

    def forget_deleted(self, schema: str, name: str) -> Sequence[str]:
        """
        Remove all versions of a table but the newest, with their files and statistics.

        Returns what stays, as parts of a sentence. Raises CommitConflict if the table changes
        meanwhile.
        """

    def kept_elsewhere(self) -> str:
        """Say what the place itself may keep of files that were removed; empty for a folder."""

    def check_access(self) -> None:
        """Raise WarehouseError if this user cannot write here, as far as a look can tell."""


class LakeRemote(Remote):
    """
    The tables of *lake*; *connection* joins what is stored with what is new.

    Batches are large, since each commit has a price and a row has none.
    """

    batch_size = BatchSize(records=50_000)

    def __init__(self, connection: DuckDBPyConnection, lake: Lake) -> None:
        self.place = lake.place
        self._connection = connection
        self._lake = lake
        self._columns: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._comments: dict[tuple[str, str], Mapping[str, str] | None] = {}

    @override
    def explaining(self, doing: str) -> AbstractContextManager[None]:
        return self._lake.explaining(doing)

    @override
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """List the columns. Columns of an existing table are read once and kept."""
        key = (sql.schema_of(table), table.name)
        if key not in self._columns:
            there = self._lake.open(*key)
            if there is None:
                return []
            self._columns[key] = our_columns(there.schema())
            self._comments[key] = there.comments()
        return self._columns[key]

    def scan(self, schema: str, name: str) -> object | None:
        """Return a table as LakeTable.scan() does; None if it does not exist."""
        with self.explaining(f"reading {name}"):
            there = self._lake.open(schema, name)
            return None if there is None else there.scan()

    @override
    def look_up(self, tables: Sequence[Table]) -> None:
        """Do nothing: each table is opened by itself."""

    @override
    def create(self, tables: Sequence[Table | StateTable]) -> None:
        for table in tables:
            if not self.columns(table):
                described = {} if isinstance(table, StateTable) else comments(table)
                columns = sql.columns_of(table)
                self._lake.create(sql.schema_of(table), table.name, columns, described)
            elif not isinstance(table, StateTable):
                self._write_comments(table)

    def _write_comments(self, table: Table) -> None:
        """Write the comments that are missing; or the next run does, after a commit conflict."""
        key = (table.schema, table.name)
        there = self._comments.pop(key, None)
        if there is not None and (missing := missing_comments(table, there)):
            with suppress(CommitConflict), self.explaining("writing comments"):
                self._open(table).write_comments(missing)

    @override
    def read_state(self, tables: Sequence[StateTable]) -> list[pa.Table | None]:
        opened = (self._lake.open(sql.schema_of(table), table.name) for table in tables)
        return [None if there is None else there.rows(ALL).read_all() for there in opened]

    @override
    def write_state(self, changes: Sequence[StateChange]) -> None:
        """
        Write at once, or after a commit conflict again: other runs write other rows meanwhile.

        Then in place of the new rows too: a store may do what it reports as failed.
        """
        for change in changes:
            with step("remote state"):
                try:
                    self._write_state(change)
                except CommitConflict:
                    keys = change.new.select(change.table.key)
                    again = replace(change, gone=pa.concat_tables([change.gone, keys]))
                    retried(partial(self._write_state, again))
        if any(change.table is RUNS for change in changes):  # Nothing waits for the run any more.
            self._expire_old_state()

    @override
    def read(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        rows = self._open(table).rows(selection.without_values())
        if selection.values is None:
            yield from rows
            return
        column = sql.quoted(selection.values.column)
        with self._sought(selection.values), self._registered(_STORED, rows), self._streaming():
            query = f"FROM {_STORED} SEMI JOIN {_SOUGHT} USING ({column})"
            found: pa.Table = self._connection.sql(query).to_arrow_table()
            yield found

    @override
    def distinct(
        self,
        table: Table,
        source_id: str,
        columns: Sequence[str],
        *,
        containing: Sequence[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        yield from self._open(table).rows(Selection(source_id), columns)

    @override
    def count(self, table: Table, selection: Selection) -> int:
        there = self._lake.open(table.schema, table.name)
        return 0 if there is None else there.count(selection)

    @override
    def newest(self, table: Table, column: str, selection: Selection) -> datetime | None:
        found = (pc.max(batch[column]) for batch in self._open(table).rows(selection, [column]))
        return max((newest.as_py() for newest in found if newest.is_valid), default=None)

    @override
    def holding(self, tables: Sequence[Table], source_id: str) -> set[str]:
        return {table.name for table in tables if self.count(table, Selection(source_id))}

    @override
    def replace(
        self,
        table: Table,
        touched: Selection,
        rows: Relation,
        *,
        adds: bool,
        gone: Sequence[str] = (),
    ) -> None:
        """
        Append new rows; else overwrite what is touched with the rows that stay and *rows*.

        A few rows without a time replace those with their keys: the library writes only the
        files anew that hold one.
        """
        there = self._open(table)
        if adds:
            self._stream(rows.query, there.append)
            return
        if touched.times is None and not gone and (keys := self._few_keys(rows)):
            by_key = replace(touched, values=Values("__sync_key", keys))
            self._stream(rows.query, lambda new: there.overwrite(by_key, new))
            return
        touched = joined(touched, MOST_SPANS)
        old = Values("__sync_key", tuple(gone))
        with self._registered(_STORED, there.rows(touched)), self._sought(old):
            stays = (
                f" WHERE __source_id <> {sql.literal(touched.source_id or '')}"
                f" OR __sync_key NOT IN (SELECT __sync_key FROM {_SOUGHT})"
            )
            self._stream(
                f"SELECT {sql.names(table)} FROM {_STORED}"
                f" ANTI JOIN ({rows.query}) new_rows USING ({', '.join(table.key)})"
                f"{stays if gone else ''} UNION ALL {rows.query}",
                lambda merged: there.overwrite(touched, merged),
            )

    @override
    def delete(self, table: Table, selection: Selection) -> None:
        """Delete now, or after a commit conflict again: what was deleted is not found again."""
        retried(lambda: self._delete(table, selection))

    @override
    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        """Remove old versions of *tables*. Readers of these fail, and succeed when they reopen."""
        found = [
            f"{sql.schema_of(table)}.{table.name} keeps {what}"
            for table in tables
            for what in retried(partial(self._forget_deleted, table))
        ]
        stays = f"In {self.place} {', '.join(found)}." if found else ""
        return " ".join(filter(None, (stays, self._lake.kept_elsewhere())))

    @override
    def check_access(self) -> None:
        self._lake.check_access()

    @override
    def detach(self) -> None:
        """Do nothing: a lake lets in any number of programs."""

    @override
    def close(self) -> None:
        """Do nothing: a lake has no connection."""

    # --- helpers ---

    def _few_keys(self, rows: Relation) -> tuple[str, ...]:
        """Return the keys of *rows*; none if they are more than a filter can list."""
        query = f"SELECT __sync_key FROM ({rows.query}) LIMIT {MOST_KEYS + 1}"
        found = tuple(key for (key,) in self._connection.execute(query).fetchall())
        return found if len(found) <= MOST_KEYS else ()

    def _open(self, table: Table | StateTable) -> LakeTable:
        there = self._lake.open(sql.schema_of(table), table.name)
        if there is None:
            raise CommitConflict(
                f"The table {sql.schema_of(table)}.{table.name} in {self.place} is gone, though it"
                " was there a moment ago. Nothing of this batch was written. Run again."
            )
        return there

    def _forget_deleted(self, table: Table | StateTable) -> Sequence[str]:
        schema, name = sql.schema_of(table), table.name
        with self._lake.explaining("removing old versions"):
            there = self._lake.open(schema, name)
            return self._lake.forget_deleted(schema, name) if there else ()

    def _delete(self, table: Table, selection: Selection) -> None:
        """Overwrite the part of the table that holds the selection with the rows that stay."""
        there, part = self._open(table), selection.without_values()
        touched, gone = joined(part, MOST_SPANS), f"({sql.condition(part)})"
        with ExitStack() as registered:
            if selection.values is not None:
                registered.enter_context(self._sought(selection.values))
                column = sql.quoted(selection.values.column)
                gone += f" AND {column} IN (SELECT {column} FROM {_SOUGHT})"
            registered.enter_context(self._registered(_STORED, there.rows(touched)))
            self._stream(
                f"SELECT {sql.names(table)} FROM {_STORED} WHERE ({gone}) IS NOT TRUE",
                lambda kept: there.overwrite(touched, kept),
            )

    def _sought(self, values: Values) -> AbstractContextManager[None]:
        """Register the values as a table: a list of them in SQL takes kilobytes for each."""
        texts = pa.array(values.texts, pa.string())
        return self._registered(_SOUGHT, pa.table({values.column: texts}))

    def _write_state(self, change: StateChange) -> None:
        table, gone, new = change.table, change.gone, change.new
        names = ", ".join(sql.quoted(name) for name in table.column_names)
        with self._lake.explaining("writing the state"), self._registered(_NEW, new):
            there = self._open(table)
            if not gone.num_rows or not self._holds_any(there, table, gone):
                self._stream(f"SELECT {names} FROM {_NEW}", there.append)
                return
            with self._registered(_GONE, gone), self._registered(_STORED, there.rows(ALL)):
                self._stream(
                    f"SELECT {names} FROM {_STORED} f WHERE NOT EXISTS"
                    f" (SELECT 1 FROM {_GONE} g WHERE {_same_key(table)})"
                    f" UNION ALL SELECT {names} FROM {_NEW}",
                    lambda rows: there.overwrite(ALL, rows),
                )

    def _holds_any(self, there: LakeTable, table: StateTable, keys: pa.Table) -> bool:
        with self._registered(_GONE, keys), self._registered(_STORED, there.rows(ALL)):
            found = f"SELECT 1 FROM {_STORED} f JOIN {_GONE} g ON {_same_key(table)} LIMIT 1"
            return bool(self._connection.execute(found).fetchall())

    def _expire_old_state(self) -> None:
        """Remove old versions of the state tables: each run makes a dozen."""
        for table in STATE_TABLES:
            try:
                with self._lake.explaining("removing old versions"):
                    self._lake.expire(sql.schema_of(table), table.name, KEPT)
            except WarehouseError as error:
                logger.info("%s", error)  # The next run does it.

    def _stream(self, query: str, take: Callable[[pa.RecordBatchReader], None]) -> None:
        relation = Relation(self._connection, query)
        with self._streaming(), closing(relation.reader(ROWS_AT_ONCE)) as rows:
            take(rows)

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        """
        Have joins keep the right side in memory: a batch, and not the rows that stream by.

        DuckDB cannot know how many those are, and would keep them: 2 GB for 3 million profiles.
        """
        self._connection.execute("SET disabled_optimizers = 'build_side_probe_side'")
        try:
            yield
        finally:
            self._connection.execute("RESET disabled_optimizers")

    @contextmanager
    def _registered(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> Iterator[None]:
        self._connection.register(name, rows)
        try:
            yield
        finally:
            self._connection.unregister(name)


def abandoned(files: int) -> str:
    """Say that young files that belong to no version were not removed."""
    return (
        f"{counted(files, 'file')} that a run may be writing, or may have left when it was killed"
        f" less than {ABANDONED // timedelta(hours=1)} hours ago"
    )


def _same_key(table: StateTable) -> str:
    names = [sql.quoted(name) for name in table.key]
    return " AND ".join(f"f.{name} IS NOT DISTINCT FROM g.{name}" for name in names)
