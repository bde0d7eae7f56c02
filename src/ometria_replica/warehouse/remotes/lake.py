"""
Lakes: tables that are folders of files, of which a selection is replaced in one commit.

No table format's own upsert is used. That of delta-rs 1.6 refuses good batches of more than a
few thousand rows ("matched a target row with multiple source rows", delta-rs issues 4471 and
4572), and ended the process at 50,000. So DuckDB computes the rows that a selection holds
afterwards: those that stay, and those of the batch. A commit succeeds only if no other commit
came after the table was read, so a repeated or a late commit doubles nothing.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import our_columns
from ometria_replica.batch import BatchSize
from ometria_replica.comments import comments, missing_comments
from ometria_replica.errors import CommitConflict
from ometria_replica.schema import StateTable
from ometria_replica.selection import ALL, Selection, Values, joined
from ometria_replica.warehouse.remotes.base import Relation, Remote, StateChange, retried
from ometria_replica.warehouse.remotes.lake_joins import Joins
from ometria_replica.warehouse.remotes.lake_state import GRACE, LakeState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.lake_format import Lake, LakeTable
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

MOST_SPANS = 32  # Of a selection: each is a condition, and conditions are tested row by row.
MOST_KEYS = 200  # Of a filter. delta-rs 1.6 ended the process at 50,000.

_SOUGHT, _STORED = "sought", "stored_rows"


class LakeRemote(Remote):
    """
    The tables of *lake*; *connection* joins what is stored with what is new.

    Batches are large, since each commit has a price and a row has none.
    """

    batch_size = BatchSize(records=50_000)

    def __init__(self, connection: DuckDBPyConnection, lake: Lake) -> None:
        self.place = lake.place
        self._joins = Joins(connection)
        self._lake = lake
        self._state = LakeState(self._joins, lake, self._open)
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
        self._state.write(changes)

    @override
    def read(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        rows = self._open(table).rows(selection.without_values())
        if selection.values is None:
            yield from rows
            return
        column = sql.quoted(selection.values.column)
        with (
            self._sought(selection.values),
            self._joins.registered(_STORED, rows),
            self._joins.streaming(),
        ):
            query = f"FROM {_STORED} SEMI JOIN {_SOUGHT} USING ({column})"
            found: pa.Table = self._joins.connection.sql(query).to_arrow_table()
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
            self._joins.stream(rows.query, there.append)
            return
        if touched.times is None and not gone and (keys := self._few_keys(rows)):
            by_key = replace(touched, values=Values("__sync_key", keys))
            self._joins.stream(rows.query, lambda new: there.overwrite(by_key, new))
            return
        touched = joined(touched, MOST_SPANS)
        old = Values("__sync_key", tuple(gone))
        with self._joins.registered(_STORED, there.rows(touched)), self._sought(old):
            stays = (
                f" WHERE __source_id <> {sql.literal(touched.source_id or '')}"
                f" OR __sync_key NOT IN (SELECT __sync_key FROM {_SOUGHT})"
            )
            self._joins.stream(
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
    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:
        return retried(partial(self._maintain, table, upkeep))

    @override
    def maintenance_due(self, table: Table) -> Due | None:
        return retried(partial(self._maintenance_due, table))

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
        found = tuple(key for (key,) in self._joins.connection.execute(query).fetchall())
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

    def _maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:
        with self._lake.explaining(f"maintaining {table.name}"):
            if self._lake.open(sql.schema_of(table), table.name) is None:
                return None
            if isinstance(table, StateTable) and (
                upkeep.retention is None or upkeep.retention > GRACE
            ):
                upkeep = replace(upkeep, retention=GRACE)
            return self._lake.maintain(table, upkeep)

    def _maintenance_due(self, table: Table) -> Due | None:
        with self._lake.explaining(f"looking at the files of {table.name}"):
            return self._lake.maintenance_due(table.schema, table.name)

    def _delete(self, table: Table, selection: Selection) -> None:
        """Overwrite the part of the table that holds the selection with the rows that stay."""
        there, part = self._open(table), selection.without_values()
        touched, gone = joined(part, MOST_SPANS), f"({sql.condition(part)})"
        with ExitStack() as registered:
            if selection.values is not None:
                registered.enter_context(self._sought(selection.values))
                column = sql.quoted(selection.values.column)
                gone += f" AND {column} IN (SELECT {column} FROM {_SOUGHT})"
            registered.enter_context(self._joins.registered(_STORED, there.rows(touched)))
            self._joins.stream(
                f"SELECT {sql.names(table)} FROM {_STORED} WHERE ({gone}) IS NOT TRUE",
                lambda kept: there.overwrite(touched, kept),
            )

    def _sought(self, values: Values) -> AbstractContextManager[None]:
        """Register the values as a table: a list of them in SQL takes kilobytes for each."""
        texts = pa.array(values.texts, pa.string())
        return self._joins.registered(_SOUGHT, pa.table({values.column: texts}))
