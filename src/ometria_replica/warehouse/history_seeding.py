"""Begins the history of a table that has rows already: these are the first versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.batch import Loaded
from ometria_replica.failpoints import step
from ometria_replica.history import history_table
from ometria_replica.selection import Selection
from ometria_replica.warehouse.changes import Changes
from ometria_replica.warehouse.sessions import Part

if TYPE_CHECKING:
    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.state.leases import Leases

_NOTHING = "nothing_replaced"


@dataclass(frozen=True)
class Seeding(Part):
    """Begins histories. Each is looked at once for each source."""

    leases: Leases
    _begun: set[tuple[str, str]] = field(default_factory=set)

    def seed(self, batch: Batch) -> int:
        """
        Begin the history of the table of *batch*, if it has rows and its history has none.

        Each row becomes a version since it was loaded. Returns how many; none in a dry run.
        Within a session of the caller.
        """
        table, source_id = batch.table, batch.source_id
        if not table.keeps_history or self.sessions.dry_run:
            return 0
        if (table.name, source_id) in self._begun:
            return 0
        rows = self._seed(batch) if self.is_due(table, source_id) else 0
        self._begun.add((table.name, source_id))
        return rows

    def is_due(self, table: Table, source_id: str) -> bool:
        """Whether a table has rows of a source, and its history none. Within a session."""
        history = history_table(table)
        if self._engine.exists(history) and self._engine.holding([history], source_id):
            return False
        return self._engine.exists(table) and bool(self._engine.holding([table], source_id))

    def _seed(self, batch: Batch) -> int:
        engine, table, of_source = self._engine, batch.table, Selection(batch.source_id)
        with step("seeding"), engine.transaction("the history"):
            if batch.lease:
                self.leases.renew(batch.lease)
            engine.prefetch(table, of_source)
            engine.temporary(_NOTHING, "SELECT NULL AS target_row WHERE 1 = 0")
            versions = (
                f"(SELECT *, __synced_at AS valid_from, {sql.NO_TIME} AS valid_to,"
                f" false AS is_deleted FROM {engine.name(table)}"
                f" WHERE {sql.condition(of_source)}) versions"
            )
            rows = engine.count_of(versions)
            counts = Loaded(inserted=rows)
            engine.apply(
                Changes(
                    history_table(table), batch.source_id, versions, _NOTHING, None, counts, None
                )
            )
        return rows
