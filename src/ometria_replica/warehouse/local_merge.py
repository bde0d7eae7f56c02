"""
Merges for targets that cannot run the merge statements: lakes, and warehouses loaded by dlt.

The rows that a batch may replace are copied into a DuckDB in memory and compared there, by the
statements that other engines run. Then the rows that differ are written to the remote. The state
tables are read when a run begins and written after each transaction that needs it. Rows are
written first and state second, since no remote writes both at once: a crash between the two
repeats a batch, and by the key a repetition changes nothing.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ometria_replica import sql
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.history import history_table
from ometria_replica.mapping import STAGED
from ometria_replica.schema import STATE_SCHEMA, StateTable
from ometria_replica.selection import Selection, Span, Times, Values
from ometria_replica.warehouse.engines.base import Engine
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.engines.duckdb_file import FileAttachment
from ometria_replica.warehouse.remotes.base import Relation, StateChange, retried
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
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch, Part
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.remotes.base import Remote
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

logger = logging.getLogger(__name__)

_SENT, _DIFFERING = "sent_rows", "differing"
_OF_ONE_RUN = (REJECTS, FILES, RUNS, LEASES)
"""Other runs do not write the same keys there, so that new rows are only added."""

_READ_LATER = (RUNS, LEASES, ERASURES, SUPPRESSION_SECRETS)
"""Not read when a run begins: the history is only added to, and leases are always read anew."""

_KEYS_AT_ONCE = 5_000  # In a condition.

_MAY_WAIT = ("the batch", "the listing")
"""Commits whose watermarks may be written with what a run writes next, if they are all."""


def local_merge(connection: DuckDBPyConnection, remote: Remote) -> LocalMergeEngine:
    """Merge into *remote* in a DuckDB in memory, attached to *connection*."""
    memory = FileAttachment(remote.place, in_memory=True)
    local = DuckDBEngine(connection, memory)
    local.types = LocalMergeEngine.types  # type: ignore[misc]  # A remote has no type for JSON.
    return LocalMergeEngine(local, remote)


class LocalMergeEngine(Engine):
    """
    The tables of *remote*, merged in *local*, a DuckDB in memory.

    The tables in memory hold the rows that were copied for a batch; the state tables are whole.
    With *dry_run* nothing is written to the remote, as no statement that writes is run.
    """

    types: ClassVar[Mapping[str, str]] = {**DuckDBEngine.types, "json": "VARCHAR"}
    row_id = DuckDBEngine.row_id
    prunes_by_time = False  # The copied rows lie within the batch's span already.
    locks = False
    rewrites_unchanged = False
    commits_rows_with_state = False
    notes_replaced = False  # It would cost a query for each table in every run.

    def __init__(self, local: DuckDBEngine, remote: Remote) -> None:
        self.place = remote.place
        self.batch_size = remote.batch_size
        self.catalog = local.catalog
        self._local = local
        self._remote = remote
        self._has_state = False
        self._read: set[str] = set()
        self._wrote_rows = False
        self._full_copies: set[tuple[str, str]] = set()

    # --- statements run in memory ---

    @override
    @contextmanager
    def session(self, doing: str) -> Iterator[None]:
        with self._remote.explaining(doing), self._local.session(doing):
            if not self._has_state:
                self._set_up_state()
                self._has_state = True
            yield

    @override
    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """
        Commit in memory, then write the state that has changed. Rows were written before.

        Watermarks that moved past no new row wait: a crash only repeats the reading. They are
        written with the next change, the end of the lease at the latest.
        """
        self._wrote_rows, read = False, set(self._read)
        try:
            with self._local.transaction(name):
                yield
        except BaseException:
            self._read = read  # What was read since is rolled back with the rest.
            raise
        changes = self._state_changes()
        if not self._wrote_rows and name in _MAY_WAIT:
            changes = [] if all(each.table is WATERMARKS for each in changes) else changes
        self._write_state(changes)

    @override
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._local.execute(statement, parameters)

    @override
    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self._local.rows(query, parameters)

    @override
    def temporary(
        self, name: str, query: str, parameters: Sequence[object] = (), *, by_index: bool = False
    ) -> None:
        self._local.temporary(name, query, parameters, by_index=by_index)

    # --- tables are those of the remote ---

    @override
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """List the columns; a state table is in memory, and exists there from the first session."""
        if isinstance(table, StateTable):
            return self._local.columns(table)
        ours = dict(sql.columns_of(table))
        return [
            (name, "json" if kind == "text" and ours.get(name) == "json" else kind)
            for name, kind in self._remote.columns(table)
        ]

    @override
    def missing(self, tables: Sequence[StateTable]) -> list[StateTable]:
        """List the state tables that the remote does not have; in memory they all are."""
        return [table for table in tables if not self._remote.columns(table)]

    @override
    def look_up(self, tables: Sequence[Table]) -> None:
        self._remote.look_up(tables)

    @override
    def create_schema(self, name: str) -> None:
        self._local.create_schema(name)

    @override
    def create_table(self, table: Table | StateTable) -> None:
        self.create_missing([table])

    @override
    def drop_table(self, table: StateTable) -> None:
        self._local.drop_table(table)

    @override
    def create_missing(self, tables: Sequence[Table | StateTable]) -> None:
        """Create all tables of the remote in one request, where it can."""
        for table in tables:
            self._local.create_schema(sql.schema_of(table))
            self._local.create_table(table)
        with step("schema"):
            self._remote.create(tables)

    @override
    def stage(self, batch: Batch) -> None:
        """Copy the rows that the batch may replace; for a full read all rows, once."""
        tables = [batch.table, *(part.table for part in batch.parts)]
        if batch.table.keeps_history:
            tables.append(history_table(batch.table))
        wanted = {(table.full_name, batch.source_id) for table in tables if batch.is_full}
        self._full_copies &= wanted
        self._stage(batch.table, batch, self._replaceable(batch))
        for part in batch.parts:
            self._stage(part.table, batch, self._replaceable_of(part, batch.source_id))

        if batch.table.keeps_history:
            self._stage_history(history_table(batch.table), batch)

    def _stage(self, table: Table, batch: Batch, replaceable: Iterable[Selection]) -> None:
        copy = (table.full_name, batch.source_id)
        if copy in self._full_copies:
            return
        self._copy(table, [Selection(batch.source_id)] if batch.is_full else replaceable)
        if batch.is_full:
            self._full_copies.add(copy)

    def _stage_history(self, history: Table, batch: Batch) -> None:
        """Copy the versions that hold: those of the batch's keys, or of a full read all, once."""
        copy = (history.full_name, batch.source_id)
        if copy in self._full_copies:
            return
        keys = None if batch.is_full else Values("__sync_key", self._staged_keys(STAGED))
        held = Times("valid_to", untimed=True)
        self._copy(history, [Selection(batch.source_id, keys, held)])
        if batch.is_full:
            self._full_copies.add(copy)

    @override
    def stage_more(self, table: Table, selection: Selection) -> None:
        """Read from the remote what was not copied yet."""
        self._copy_more(table, [selection], are_known=True)

    @override
    def prefetch(self, table: Table, selection: Selection) -> None:
        self._full_copies.clear()
        self._copy(table, [selection])

    @override
    def apply(self, changes: Changes) -> None:
        """
        Write the rows that differ to the remote, and keep the copy of a full read up to date.

        If writing fails the remote may have the rows or not, so the copy is dropped.
        """
        full_copies, self._full_copies = self._full_copies, set()
        table = changes.table
        differing = self._differing(changes)
        if self.count_of(differing.rows):
            self._wrote_rows = True
            names = sql.names(table)
            rows = Relation(self._local.connection, f"SELECT {names} FROM {differing.rows}")
            touched, adds = self._touched(differing), not differing.replaces
            with step("remote rows"):
                self._remote.replace(table, touched, rows, adds=adds)
        if changes.removes:
            self._wrote_rows = True
            keys = self._texts(f"SELECT __sync_key FROM {changes.gone}")
            with step("remote removal"):
                self._remote.delete(table, Selection(changes.source_id, Values("__sync_key", keys)))
        if (table.full_name, changes.source_id) in full_copies:
            self._local.apply(changes)
        self._full_copies = full_copies

    @override
    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        yield from self._local.batches(query)

    @override
    def read(self, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
        self.prefetch(table, selection)
        yield from self._local.read(table, selection)

    @override
    def scan(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        yield from self._remote.read(table, selection)

    @override
    def distinct(
        self, table: Table, source_id: str, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        yield from self._remote.distinct(table, source_id, columns)

    @override
    def containing(
        self, table: Table, source_id: str, columns: Sequence[str], parts: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        yield from self._remote.distinct(
            table, source_id, ["__sync_key", *columns], containing=parts
        )

    @override
    def count(self, table: Table, selection: Selection) -> int:
        return self._remote.count(table, selection)

    @override
    def newest(self, table: Table, column: str, selection: Selection) -> datetime | None:
        return self._remote.newest(table, column, selection)

    @override
    def holding(self, tables: Sequence[Table], source_id: str) -> set[str]:
        return self._remote.holding(tables, source_id)

    @override
    def delete(self, table: Table, selection: Selection) -> int:
        self._full_copies.clear()
        found = self.count(table, selection)
        if found:
            self._remote.delete(table, selection)
        return found

    @override
    def delete_records(self, table: Table, of: Table, selection: Selection) -> None:
        if not self.exists(table):
            return
        self.prefetch(of, selection)
        keys = self._texts(f"SELECT __sync_key FROM {self._local.name(of)}")
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = Values("__sync_key", keys[start : start + _KEYS_AT_ONCE])
            self._remote.delete(table, Selection(selection.source_id, some))

    @override
    def update(
        self,
        table: Table,
        selection: Selection,
        values: Mapping[str, str],
        parameters: Sequence[object] = (),
    ) -> None:
        """Write what the rows become in their place: a crash loses none, whatever their keys."""
        self.prefetch(table, selection)
        here = self._local.name(table)
        before = self._texts(f"SELECT __sync_key FROM {here}")
        if not before:
            return
        self._local.update(table, selection, values, parameters)
        gone = sorted({*before}.difference(self._texts(f"SELECT __sync_key FROM {here}")))
        touched = Selection(selection.source_id)
        if table.time:
            touched = self._at_times(
                touched, table.time, f"SELECT {sql.quoted(table.time)} FROM {here}"
            )
        rows = Relation(self._local.connection, f"SELECT {sql.names(table)} FROM {here}")
        with step("remote rows"):
            retried(lambda: self._remote.replace(table, touched, rows, adds=False, gone=gone))

    @override
    def lock(self, table: StateTable) -> None:
        """Read the table anew: a remote has no locks."""
        self.refresh(table)

    @override
    def refresh(self, table: StateTable) -> None:
        if table is WATERMARKS:
            self._write_state(self._state_changes())  # Some may wait.
        self._read_state([table])

    @override
    def check_access(self) -> None:
        self._remote.check_access()

    @override
    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        return self._remote.forget_deleted(tables)

    @override
    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:
        return self._remote.maintain(table, upkeep)

    @override
    def maintenance_due(self, table: Table) -> Due | None:
        return self._remote.maintenance_due(table)

    @property
    @override
    def maintains_itself(self) -> str:
        return self._remote.maintains_itself

    @override
    def detach(self) -> None:
        self._remote.detach()

    @override
    def close(self) -> None:
        """Write watermarks that wait, which at the end of a run none does, and disconnect."""
        try:
            with self._remote.explaining("writing the state"):
                self._write_state(self._state_changes() if self._has_state else [])
        except WarehouseError as error:
            logger.info("the next run reads again what this one read: %s", error)
        self._remote.close()

    # --- which rows ---

    def _replaceable(self, batch: Batch) -> Iterator[Selection]:
        """
        Select the rows that staged rows may replace: by their keys, or by the days of events.

        A staged row without a time may replace one that has a time, on any day.
        """
        if batch.any_time:
            return iter(
                [Selection(batch.source_id, Values("__sync_key", self._staged_keys(STAGED)))]
            )
        return self._replaceable_by(STAGED, batch.table, batch.source_id)

    def _replaceable_of(self, part: Part, source_id: str) -> Iterator[Selection]:
        """Select the rows that a part may replace, and those inside the batch's records."""
        if part.parent and part.whole:
            records = self._texts(f"SELECT DISTINCT parent FROM {part.whole}")
            yield Selection(source_id, Values(part.parent, records))
        else:
            yield from self._replaceable_by(part.staged, part.table, source_id)

    def _replaceable_by(self, staged: str, table: Table, source_id: str) -> Iterator[Selection]:
        if table.time is None:
            yield Selection(source_id, Values("__sync_key", self._staged_keys(staged)))
            return
        time = sql.quoted(table.time)
        days = self.rows(
            f"SELECT DISTINCT ({time} AT TIME ZONE 'UTC')::DATE FROM {staged}"
            f" WHERE {time} IS NOT NULL ORDER BY ALL"
        )
        spans = tuple(_stretches([day for (day,) in days]))
        yield Selection(source_id, times=Times(table.time, spans, untimed=True))
        untimed = self._staged_keys(staged, f"WHERE {time} IS NULL")
        if untimed:
            yield Selection(source_id, Values("__sync_key", untimed))

    def _touched(self, changes: Changes) -> Selection:
        """Select a part of the table that holds the rows to write and those that they replace."""
        table = changes.table
        if table.time is None:
            return Selection(changes.source_id)
        time = sql.quoted(table.time)
        return self._at_times(
            Selection(changes.source_id),
            table.time,
            f"SELECT {time} FROM {changes.rows} UNION ALL SELECT {time}"
            f" FROM {self._local.name(table)} t"
            f" JOIN {changes.replaced} r ON t.rowid = r.target_row",
        )

    def _at_times(self, selection: Selection, column: str, times: str) -> Selection:
        """Select the part of *selection* with the *times*, a query, of each day."""
        moments = f"({times}) AS times(moment)"
        bounds = self.rows(
            f"SELECT min(moment), max(moment) FROM {moments} WHERE moment IS NOT NULL"
            " GROUP BY (moment AT TIME ZONE 'UTC')::DATE ORDER BY ALL"
        )
        untimed = self.scalar(f"SELECT count(*) FROM {moments} WHERE moment IS NULL") > 0
        spans = tuple(Span(first, last) for first, last in bounds)
        return replace(selection, times=Times(column, spans, untimed))

    def _differing(self, changes: Changes) -> Changes:
        """
        Leave out rows that are the same but for their load time: to write a row costs.

        Rows of the export stay, since the load time says which file they are from.
        """
        counts = changes.counts
        if changes.from_files or changes.state is None or not counts.unchanged:
            return changes
        self.temporary(
            _DIFFERING,
            f"SELECT * FROM {changes.rows} WHERE NOT EXISTS (SELECT 1 FROM {changes.replaced}"
            f" WHERE same AND staged_row = {changes.rows}.{self.row_id})",
        )
        return replace(changes, rows=_DIFFERING, counts=replace(counts, unchanged=0))

    def _staged_keys(self, staged: str, where: str = "") -> tuple[str, ...]:
        return self._texts(f"SELECT __sync_key FROM {staged} {where}")

    def _texts(self, query: str) -> tuple[str, ...]:
        return tuple(text for (text,) in self.rows(query))

    # --- copies ---

    def _copy(self, table: Table, selections: Iterable[Selection]) -> None:
        """Copy rows of the remote, each once, in place of what was copied before."""
        self._local.create_schema(table.schema)
        self._local.create_table(table)
        self.execute(f"DELETE FROM {self._local.name(table)}")
        if self._remote.columns(table):
            self._copy_more(table, selections)

    def _copy_more(
        self, table: Table, selections: Iterable[Selection], *, are_known: bool = False
    ) -> None:
        """Copy rows that are not here yet, of which the first selection has none, or some do."""
        here, names = self._local.name(table), sql.names(table)
        for place, selection in enumerate(selections):
            may_be_here = place or are_known
            anew = f" ANTI JOIN {here} USING ({', '.join(table.key)})" if may_be_here else ""
            for rows in self._remote.read(table, selection):
                self._insert(
                    f"INSERT INTO {here} ({names}) SELECT {names} FROM {_SENT}{anew}", rows
                )

    def _insert(self, statement: str, rows: pa.Table | pa.RecordBatch) -> None:
        connection = self._local.connection
        connection.register(_SENT, rows)
        try:
            self.execute(statement)
        finally:
            connection.unregister(_SENT)

    # --- state ---

    @override
    def name(self, table: Table | StateTable) -> str:
        """Name a table in full; the history and the leases are read when they are first named."""
        if isinstance(table, StateTable) and table in _READ_LATER and table.name not in self._read:
            self._read_state([table])
        return self._local.name(table)

    @override
    def insert(self, table: StateTable, *rows: Sequence[object]) -> None:
        """Add rows, which for the history needs no look at those that are there."""
        self._local.insert(table, *rows)

    def _set_up_state(self) -> None:
        self._local.create_schema(STATE_SCHEMA)
        for table in STATE_TABLES:
            self._local.create_table(table)
            here = self._local.name(table)
            self.execute(f"CREATE TEMP TABLE {_remote(table)} AS FROM {here}")
        self._read_state([table for table in STATE_TABLES if table not in _READ_LATER])
        if not self.count_of(self.name(VERSION)):  # Then it may be of an earlier version.
            for table in OLD_TABLES:
                if self._remote.columns(table):
                    self._local.create_table(table)
                    (found,) = self._remote.read_state([table])
                    self._fill(self.name(table), table, found)

    def _read_state(self, tables: Sequence[StateTable]) -> None:
        """Read state tables anew. What was added here and is not written yet stays."""
        for table, found in zip(tables, self._remote.read_state(tables), strict=True):
            added = self._arrow(self._added(table)) if table.name not in self._read else None
            self._read.add(table.name)
            for name in (self._local.name(table), _remote(table)):
                self.execute(f"DELETE FROM {name}")
                self._fill(name, table, found)
            self._fill(self._local.name(table), table, added)

    def _fill(self, name: str, table: StateTable, found: pa.Table | None) -> None:
        if found is not None and found.num_rows:
            columns = ", ".join(sql.quoted(column) for column in table.column_names)
            self._insert(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {_SENT}", found)

    def _added(self, table: StateTable) -> str:
        return f"FROM {self._local.name(table)} EXCEPT FROM {_remote(table)}"

    def _state_changes(self) -> list[StateChange]:
        changes = (self._state_change(table) for table in STATE_TABLES)
        return [each for each in changes if each.new.num_rows or each.gone.num_rows]

    def _state_change(self, table: StateTable) -> StateChange:
        added, key = self._added(table), ", ".join(sql.quoted(name) for name in table.key)
        removed = f"FROM {_remote(table)} EXCEPT FROM {self._local.name(table)}"
        replaced = "" if table in _OF_ONE_RUN else f" UNION ALL ({added})"
        gone = f"SELECT DISTINCT {key} FROM (({removed}){replaced})"
        return StateChange(table, self._arrow(gone), self._arrow(added))

    def _write_state(self, changes: Sequence[StateChange]) -> None:
        if not changes:
            return
        self._remote.write_state(changes)
        for table in (each.table for each in changes):
            self.execute(f"DELETE FROM {_remote(table)}")
            self.execute(f"INSERT INTO {_remote(table)} FROM {self._local.name(table)}")

    def _arrow(self, query: str) -> pa.Table:
        found: pa.Table = self._local.connection.sql(query).to_arrow_table()
        return found


def _remote(table: StateTable) -> str:
    """Name the temporary table that holds a state table as the remote has it."""
    return sql.quoted(f"remote {table.name}")


def _stretches(days: Sequence[date]) -> Iterator[Span]:
    """Return the spans of *days* in UTC, which are in order; days in a row are one span."""
    for _, stretch in groupby(enumerate(days), key=lambda each: each[1].toordinal() - each[0]):
        in_a_row = [datetime.combine(day, time(), UTC) for _, day in stretch]
        yield Span(in_a_row[0], in_a_row[-1] + timedelta(days=1, microseconds=-1))
