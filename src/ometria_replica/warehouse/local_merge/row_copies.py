"""Copies of a remote's rows in a DuckDB in memory: those that a batch may replace."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.history import history_table
from ometria_replica.selection import Selection
from ometria_replica.warehouse.local_merge.received_rows import RECEIVED, insert_received
from ometria_replica.warehouse.local_merge.selections import (
    replaceable,
    replaceable_of,
    versions_that_hold,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
    from ometria_replica.warehouse.remotes.base import Remote


class RowCopies:
    """
    Copies of rows of *remote* in the tables of *local*.

    For a full read all rows of a table and a source are copied, once: the batches that follow find
    them there.
    """

    def __init__(self, local: DuckDBEngine, remote: Remote) -> None:
        self._local = local
        self._remote = remote
        self._full: set[tuple[str, str]] = set()

    def stage(self, batch: Batch) -> None:
        """Copy the rows that *batch* may replace; for a full read all rows, once."""
        tables = [batch.table, *(part.table for part in batch.parts)]
        if batch.table.keeps_history:
            tables.append(history_table(batch.table))
        self._full &= {(table.full_name, batch.source_id) for table in tables if batch.is_full}
        local, source_id = self._local, batch.source_id
        all_rows = [Selection(source_id)] if batch.is_full else None
        self._stage(batch.table, batch, all_rows or replaceable(local, batch))
        for part in batch.parts:
            self._stage(part.table, batch, all_rows or replaceable_of(local, part, source_id))
        if batch.table.keeps_history:
            self._stage(history_table(batch.table), batch, [versions_that_hold(local, batch)])

    def take(self, table: Table, selection: Selection) -> None:
        """Copy rows of a table in place of what was copied before, of any table in full."""
        self._full.clear()
        self._take(table, [selection])

    def take_more(self, table: Table, selection: Selection) -> None:
        """Copy rows of a table beside what was copied before."""
        self._add(table, [selection], are_known=True)

    def forget_full(self) -> None:
        """Copy anew for the next batch: rows of the remote are about to change."""
        self._full.clear()

    @contextmanager
    def changing(self, changes: Changes) -> Iterator[None]:
        """
        Write *changes* in the block; a full copy of the table has them afterwards.

        If the block fails the remote may have the rows or not, so full copies are dropped.
        """
        full, self._full = self._full, set()
        yield
        if (changes.table.full_name, changes.source_id) in full:
            self._local.apply(changes)
        self._full = full

    def _stage(self, table: Table, batch: Batch, selections: Iterable[Selection]) -> None:
        copy = (table.full_name, batch.source_id)
        if copy in self._full:
            return
        self._take(table, selections)
        if batch.is_full:
            self._full.add(copy)

    def _take(self, table: Table, selections: Iterable[Selection]) -> None:
        """Copy rows, each once, in place of what was copied before."""
        self._local.create_schema(table.schema)
        self._local.create_table(table)
        self._local.execute(f"DELETE FROM {self._local.name(table)}")
        if self._remote.columns(table):
            self._add(table, selections)

    def _add(
        self, table: Table, selections: Iterable[Selection], *, are_known: bool = False
    ) -> None:
        """Copy rows that are not here yet, of which the first selection has none, or some do."""
        here, names = self._local.name(table), sql.names(table)
        for place, selection in enumerate(selections):
            may_be_here = place or are_known
            anew = f" ANTI JOIN {here} USING ({', '.join(table.key)})" if may_be_here else ""
            for rows in self._remote.read(table, selection):
                insert_received(
                    self._local,
                    f"INSERT INTO {here} ({names}) SELECT {names} FROM {RECEIVED}{anew}",
                    rows,
                )
