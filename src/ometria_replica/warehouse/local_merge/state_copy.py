"""The state tables of a remote in a DuckDB in memory: read at first, written as they change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.schema import STATE_SCHEMA
from ometria_replica.warehouse.local_merge.received_rows import RECEIVED, insert_received
from ometria_replica.warehouse.remotes.base import StateChange
from ometria_replica.warehouse.state_tables import (
    ERASURES,
    FILES,
    LEASES,
    REJECTS,
    RUNS,
    STATE_TABLES,
    SUPPRESSION_SECRETS,
    VERSION,
    WATERMARKS,
)
from ometria_replica.warehouse.state_upgrades import OLD_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
    from ometria_replica.warehouse.remotes.base import Remote

_OF_ONE_RUN = (REJECTS, FILES, RUNS, LEASES)
"""Other runs do not write the same keys there, so that new rows are only added."""

_READ_LATER = (RUNS, LEASES, ERASURES, SUPPRESSION_SECRETS)
"""Not read when a run begins: the history is only added to, and leases are always read anew."""


class StateCopy:
    """
    The state tables of *remote* in *local*, whole.

    Beside each stands a temporary table with its rows as the remote has them, so that the
    difference is what is to be written.
    """

    def __init__(self, local: DuckDBEngine, remote: Remote) -> None:
        self._local = local
        self._remote = remote
        self._is_there = False
        self._read: set[str] = set()

    def set_up(self) -> None:
        """Create the tables, and read those that a run begins with, unless that was done."""
        if self._is_there:
            return
        self._local.create_schema(STATE_SCHEMA)
        for table in STATE_TABLES:
            self._local.create_table(table)
            here = self._local.name(table)
            self._local.execute(f"CREATE TEMP TABLE {_remote(table)} AS FROM {here}")
        self.read([table for table in STATE_TABLES if table not in _READ_LATER])
        if not self._local.count_of(self._local.name(VERSION)):  # It may be of an earlier version.
            self._read_old_tables()
        self._is_there = True

    def name(self, table: StateTable) -> str:
        """Name a table in full; the history and the leases are read when they are first named."""
        if table in _READ_LATER and table.name not in self._read:
            self.read([table])
        return self._local.name(table)

    def read(self, tables: Sequence[StateTable]) -> None:
        """Read tables anew. What was added here and is not written yet stays."""
        for table, found in zip(tables, self._remote.read_state(tables), strict=True):
            added = self._arrow(self._added(table)) if table.name not in self._read else None
            self._read.add(table.name)
            for name in (self._local.name(table), _remote(table)):
                self._local.execute(f"DELETE FROM {name}")
                self._fill(name, table, found)
            self._fill(self._local.name(table), table, added)

    @contextmanager
    def reading_undone(self) -> Iterator[None]:
        """If the block fails, and its transaction with it, forget what was read within it."""
        read = set(self._read)
        try:
            yield
        except BaseException:
            self._read = read
            raise

    def write(self, *, but_watermarks: bool = False) -> None:
        """
        Write what has changed to the remote.

        With *but_watermarks* nothing is written if nothing else has changed.
        """
        changes = self._changes() if self._is_there else []
        if not changes or (but_watermarks and all(each.table is WATERMARKS for each in changes)):
            return
        self._remote.write_state(changes)
        for table in (each.table for each in changes):
            self._local.execute(f"DELETE FROM {_remote(table)}")
            self._local.execute(f"INSERT INTO {_remote(table)} FROM {self._local.name(table)}")

    def _read_old_tables(self) -> None:
        for table in OLD_TABLES:
            if self._remote.columns(table):
                self._local.create_table(table)
                (found,) = self._remote.read_state([table])
                self._fill(self._local.name(table), table, found)

    def _fill(self, name: str, table: StateTable, found: pa.Table | None) -> None:
        if found is not None and found.num_rows:
            columns = ", ".join(sql.quoted(column) for column in table.column_names)
            statement = f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {RECEIVED}"
            insert_received(self._local, statement, found)

    def _added(self, table: StateTable) -> str:
        return f"FROM {self._local.name(table)} EXCEPT FROM {_remote(table)}"

    def _changes(self) -> list[StateChange]:
        changes = (self._change(table) for table in STATE_TABLES)
        return [each for each in changes if each.new.num_rows or each.gone.num_rows]

    def _change(self, table: StateTable) -> StateChange:
        added, key = self._added(table), ", ".join(sql.quoted(name) for name in table.key)
        removed = f"FROM {_remote(table)} EXCEPT FROM {self._local.name(table)}"
        replaced = "" if table in _OF_ONE_RUN else f" UNION ALL ({added})"
        gone = f"SELECT DISTINCT {key} FROM (({removed}){replaced})"
        return StateChange(table, self._arrow(gone), self._arrow(added))

    def _arrow(self, query: str) -> pa.Table:
        found: pa.Table = self._local.connection.sql(query).to_arrow_table()
        return found


def _remote(table: StateTable) -> str:
    """Name the temporary table that holds a state table as the remote has it."""
    return sql.quoted(f"remote {table.name}")
