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
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ometria_replica import sql
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.schema import StateTable
from ometria_replica.selection import Selection, Values, chunks
from ometria_replica.warehouse.engines.base import Engine
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.engines.duckdb_file import FileAttachment
from ometria_replica.warehouse.local_merge.row_copies import RowCopies
from ometria_replica.warehouse.local_merge.selections import at_times, texts, touched
from ometria_replica.warehouse.local_merge.state_copy import StateCopy
from ometria_replica.warehouse.remotes.base import Relation, retried
from ometria_replica.warehouse.state_tables import WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.remotes.base import Remote
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

logger = logging.getLogger(__name__)

_DIFFERING = "differing"
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
        self._copies = RowCopies(local, remote)
        self._state = StateCopy(local, remote)
        self._wrote_rows = False

    # --- statements run in memory ---

    @override
    @contextmanager
    def session(self, doing: str) -> Iterator[None]:
        with self._remote.explaining(doing), self._local.session(doing):
            self._state.set_up()
            yield

    @override
    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """
        Commit in memory, then write the state that has changed. Rows were written before.

        Watermarks that moved past no new row wait: a crash only repeats the reading. They are
        written with the next change, the end of the lease at the latest.
        """
        self._wrote_rows = False
        with self._state.reading_undone(), self._local.transaction(name):
            yield
        self._state.write(but_watermarks=not self._wrote_rows and name in _MAY_WAIT)

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

    @override
    def name(self, table: Table | StateTable) -> str:
        return self._state.name(table) if isinstance(table, StateTable) else self._local.name(table)

    @override
    def insert(self, table: StateTable, *rows: Sequence[object]) -> None:
        """Add rows, which for the history needs no look at those that are there."""
        self._local.insert(table, *rows)

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
        self._copies.stage(batch)

    @override
    def stage_more(self, table: Table, selection: Selection) -> None:
        self._copies.take_more(table, selection)

    @override
    def prefetch(self, table: Table, selection: Selection) -> None:
        self._copies.take(table, selection)

    @override
    def apply(self, changes: Changes) -> None:
        """Write the rows that differ to the remote, and keep the copy of a full read up to date."""
        with self._copies.changing(changes):
            self._write_rows(changes)
            self._delete_gone(changes)

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
        self._copies.forget_full()
        found = self.count(table, selection)
        if found:
            self._remote.delete(table, selection)
        return found

    @override
    def delete_records(self, table: Table, of: Table, selection: Selection) -> None:
        if not self.exists(table):
            return
        self.prefetch(of, selection)
        keys = texts(self._local, f"SELECT __sync_key FROM {self._local.name(of)}")
        theirs = Selection(selection.source_id, Values("__sync_key", keys))
        for part in chunks(theirs, _KEYS_AT_ONCE, _KEYS_AT_ONCE):
            self._remote.delete(table, part)

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
        before = texts(self._local, f"SELECT __sync_key FROM {here}")
        if not before:
            return
        self._local.update(table, selection, values, parameters)
        gone = sorted({*before}.difference(texts(self._local, f"SELECT __sync_key FROM {here}")))
        part = Selection(selection.source_id)
        if table.time:
            times = f"SELECT {sql.quoted(table.time)} FROM {here}"
            part = at_times(self._local, part, table.time, times)
        rows = Relation(self._local.connection, f"SELECT {sql.names(table)} FROM {here}")
        with step("remote rows"):
            retried(lambda: self._remote.replace(table, part, rows, adds=False, gone=gone))

    @override
    def lock(self, table: StateTable) -> None:
        """Read the table anew: a remote has no locks."""
        self.refresh(table)

    @override
    def refresh(self, table: StateTable) -> None:
        if table is WATERMARKS:
            self._state.write()  # Some may wait.
        self._state.read([table])

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
                self._state.write()
        except WarehouseError as error:
            logger.info("the next run reads again what this one read: %s", error)
        self._remote.close()

    # --- helpers ---

    def _write_rows(self, changes: Changes) -> None:
        table, differing = changes.table, self._differing(changes)
        if not self.count_of(differing.rows):
            return
        self._wrote_rows = True
        query = f"SELECT {sql.names(table)} FROM {differing.rows}"
        rows = Relation(self._local.connection, query)
        part, adds = touched(self._local, differing), not differing.replaces
        with step("remote rows"):
            self._remote.replace(table, part, rows, adds=adds)

    def _delete_gone(self, changes: Changes) -> None:
        if not changes.removes:
            return
        self._wrote_rows = True
        keys = texts(self._local, f"SELECT __sync_key FROM {changes.gone}")
        with step("remote removal"):
            gone = Selection(changes.source_id, Values("__sync_key", keys))
            self._remote.delete(changes.table, gone)

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
