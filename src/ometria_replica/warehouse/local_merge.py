"""
An engine for places where no SQL of ours can merge: lakes, and warehouses behind a bridge.

What such a place holds is looked up, compared here in memory by the very statements that
other engines run, and sent there; its state tables are read when a run begins and written
after each transaction. Rows go first and state after them, since both at once is more than
such a place can do: a crash in between repeats a batch, and by the key repeats are harmless.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.mapping import STAGED, staged_ddl
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.steps import step
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.state_tables import (
    ACCOUNTS,
    DELETED_UPSTREAM,
    FILES,
    LEASES,
    REJECTS,
    RUNS,
    STATE_SCHEMA,
    WATERMARKS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Column, Table
    from ometria_replica.warehouse.state_tables import StateTable

# What was set aside before the ledger that says it was read, and the marks after both.
_IN_ORDER = (ACCOUNTS, REJECTS, DELETED_UPSTREAM, FILES, WATERMARKS, RUNS, LEASES)


@dataclass(frozen=True)
class Wanted:
    """
    The rows of a table to look up: all of the source's, or those that fit one of the rest.

    *keys* are ``__sync_key``s; *days*, in UTC, are those of the table's time, and with
    days also the rows without a time are wanted. Both None: all of the source's.
    """

    source_id: str
    keys: tuple[str, ...] | None = None
    days: tuple[date, ...] | None = None


class LocalMergeEngine(DuckDBEngine):
    """
    The place called *place*, of which a part is in memory.

    The five tables in memory hold only what was looked up; the state tables all there is.
    """

    prunes_by_time = False  # What is looked up lies within the batch's span already.
    flags_leases = True

    def __init__(self, staging: DuckDBPyConnection, place: str, *, read_only: bool = False) -> None:
        super().__init__(staging, ":memory:", read_only=read_only)
        self.place = place
        self._connection = staging
        self._is_remembered = False
        self._whole: tuple[str, str] | None = None

    # --- what the place must do ---

    @abstractmethod
    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Turn the errors of the place's driver into ours, without what they quote."""

    @abstractmethod
    def far_columns(self, table: Table) -> list[tuple[str, str]]:
        """Name the columns that a table has there, with DuckDB's types; none if it is not there."""

    @abstractmethod
    def make_far_table(self, table: Table) -> None:
        """Make one of the five there. It is not there yet."""

    @abstractmethod
    def make_far_state(self) -> None:
        """Make the state tables there that are missing."""

    @abstractmethod
    def read_state(self, table: StateTable) -> pa.Table | None:
        """Read a state table, all of it; None if it is not there."""

    @abstractmethod
    def write_state(self, table: StateTable, gone: pa.Table, new: pa.Table) -> None:
        """Delete the rows with the keys *gone* (the key's columns), then add the rows *new*."""

    @abstractmethod
    def fetch(self, table: Table, wanted: Wanted) -> Iterable[pa.Table | pa.RecordBatch]:
        """Bring rows of a table, with all its columns by name. More than is wanted is no harm."""

    @abstractmethod
    def send(self, table: Table, rows: pa.RecordBatchReader) -> None:
        """Put rows there, one a key, each in the place of the one with its ``__sync_key``."""

    @abstractmethod
    def remove(self, table: Table, keys: Sequence[str]) -> None:
        """Delete the rows with these ``__sync_key``s there."""

    @abstractmethod
    def count_rows(self, table_name: str, source_id: str) -> int:
        """Count a source's rows there; 0 where there is no such table."""

    # --- what every engine does ---

    @contextmanager
    def using(self, doing: str) -> Iterator[None]:
        """See the base."""
        with self.explaining(doing), super().using(doing):
            if not self._is_remembered:
                self._remember()
            yield

    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """Commit here, and then send the state that has changed. Rows were sent by then."""
        with super().transaction(name):
            yield
        for table in _IN_ORDER:
            self._send_state(table)

    def columns(self, schema: str, name: str) -> list[tuple[str, str]]:
        """See the base."""
        if schema == DATA_SCHEMA:
            return self.far_columns(_named(name))
        return super().columns(schema, name)

    def make_schema(self, name: str) -> None:
        """See the base. Here they are made when the state is read."""
        if name == STATE_SCHEMA:
            self.make_far_state()

    def make_table(self, table: Table) -> None:
        """See the base."""
        if not self.far_columns(table):
            self.make_far_table(table)

    def look_up(self, batch: Batch) -> None:
        """Bring what the batch may touch; of a whole read all, once, since it asks for all."""
        whole = (batch.table.name, batch.source_id) if batch.whole else None
        if whole and whole == self._whole:
            return
        self.execute(f"DELETE FROM {self.data(batch.table.name)}")
        if self.far_columns(batch.table):
            self._bring_here(batch.table, self._wanted(batch))
        self._whole = whole

    def replace_rows(self, table: Table) -> None:
        """
        See the base. Rows of a whole read are kept up here too, for its next batch.

        Where sending them fails they may be there all the same, so that what is here is not.
        """
        whole, self._whole = self._whole, None
        names = sql.names(table)
        with step("remote rows"):
            self.send(
                table, self._connection.sql(f"SELECT {names} FROM {STAGED}").to_arrow_reader()
            )
        if whole:
            super().replace_rows(table)
        self._whole = whole

    def remove_rows(self, table: Table) -> None:
        """See the base."""
        super().remove_rows(table)
        with step("remote removal"):
            self.remove(table, [key for (key,) in self.rows("SELECT __sync_key FROM gone")])

    def fill_in(self, table: Table, column: Column, found: Sequence[tuple[str, object]]) -> None:
        """
        See the base: look the rows up, fill them in here, and send them.

        They are put back here as they are there: *column* may tell where they lie.
        """
        self._whole = None
        here, names = self.data(table.name), sql.names(table)
        self.execute(f"DELETE FROM {here}")
        self._bring_here(table, Wanted("", keys=tuple(key for key, _ in found)))
        self.temporary("unfilled", f"FROM {here}")
        super().fill_in(table, column, found)
        self.execute(staged_ddl(table))
        self.execute(f"INSERT INTO {STAGED} ({names}) SELECT {names} FROM {here}")
        self.execute(f"DELETE FROM {here}")
        self.execute(f"INSERT INTO {here} FROM unfilled")
        self.replace_rows(table)

    def lock(self, table: StateTable) -> None:
        """See the base: nobody can be kept out, so look at what they wrote."""
        self.refresh(table)

    def refresh(self, table: StateTable) -> None:
        """See the base."""
        found = self.read_state(table)
        for name in (self.state(table), _far(table)):
            self.execute(f"DELETE FROM {name}")
            if found is not None and found.num_rows:
                self._insert(name, table.column_names, found)

    # --- helpers ---

    def _remember(self) -> None:
        for schema in (DATA_SCHEMA, STATE_SCHEMA):
            super().make_schema(schema)
        for table in TABLES:
            self.execute(sql.create_table(table, self.catalog))
        for state in _IN_ORDER:
            self.execute(sql.create_state_table(state, self.catalog))
            self.execute(f"CREATE TEMP TABLE {_far(state)} AS FROM {self.state(state)}")
            self.refresh(state)
        self._is_remembered = True

    def _send_state(self, table: StateTable) -> None:
        here, there = self.state(table), _far(table)
        new = self._arrow(f"FROM {here} EXCEPT FROM {there}")
        key = ", ".join(sql.quoted(name) for name in table.key)
        gone = self._arrow(f"SELECT DISTINCT {key} FROM (FROM {there} EXCEPT FROM {here})")
        if new.num_rows or gone.num_rows:
            with step("remote state"):
                self.write_state(table, gone, new)
            self.execute(f"DELETE FROM {there}")
            self.execute(f"INSERT INTO {there} FROM {here}")

    def _wanted(self, batch: Batch) -> Wanted:
        table = batch.table
        if batch.whole:
            return Wanted(batch.source_id)
        if table.time is None:
            return Wanted(batch.source_id, keys=self._staged_keys())
        time = sql.quoted(table.time)
        days = self.rows(
            f"SELECT DISTINCT ({time} AT TIME ZONE 'UTC')::DATE FROM {STAGED}"
            f" WHERE {time} IS NOT NULL ORDER BY ALL"
        )
        untimed = self._staged_keys(f"WHERE {time} IS NULL")
        return Wanted(batch.source_id, keys=untimed, days=tuple(day for (day,) in days))

    def _staged_keys(self, where: str = "") -> tuple[str, ...]:
        return tuple(key for (key,) in self.rows(f"SELECT __sync_key FROM {STAGED} {where}"))

    def _bring_here(self, table: Table, wanted: Wanted) -> None:
        names = [column.name for column in table.all_columns]
        for rows in self.fetch(table, wanted):
            self._insert(self.data(table.name), names, rows)

    def _insert(self, target: str, names: Sequence[str], rows: pa.Table | pa.RecordBatch) -> None:
        columns = ", ".join(sql.quoted(name) for name in names)
        self._connection.register("brought", rows)
        try:
            self.execute(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM brought")
        finally:
            self._connection.unregister("brought")

    def _arrow(self, query: str) -> pa.Table:
        found: pa.Table = self._connection.sql(query).to_arrow_table()
        return found


def _far(table: StateTable) -> str:
    """Name the temporary table that holds a state table as it is at the place."""
    return sql.quoted(f"far {table.name}")


def _named(name: str) -> Table:
    return next(table for table in TABLES if table.name == name)
