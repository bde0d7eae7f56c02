"""The rows whose records Ometria has deleted: a full read did not find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.failpoints import step
from ometria_replica.mapping import SEEN_KEYS
from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import DELETED_UPSTREAM

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.batch import Batch
    from ometria_replica.warehouse.changes import Changes


@dataclass(frozen=True)
class DeletedUpstream(Part):
    """The rows of one warehouse whose records are gone. In a transaction of the caller."""

    def write(self, changes: Changes, batch: Batch) -> None:
        """Add the rows that a full read did not find; drop those whose records came back."""
        if batch.table.record_id is None:
            return
        self._forget(batch, changes.rows)
        if changes.gone is None:
            return
        self._forget(batch, SEEN_KEYS)
        deleted, key = self._engine.name(DELETED_UPSTREAM), [batch.source_id, batch.table.name]
        with step("deleted upstream"):
            self._engine.execute(
                f"INSERT INTO {deleted} ({', '.join(DELETED_UPSTREAM.column_names)})"
                " SELECT ?::VARCHAR, ?::VARCHAR, __sync_key, record_id,"
                f" ?::TIMESTAMPTZ, NULL::TIMESTAMPTZ, ?::VARCHAR FROM {changes.gone} gone"
                f" WHERE NOT EXISTS (SELECT 1 FROM {deleted} known"
                " WHERE known.source_id = ? AND known.table_name = ?"
                " AND known.sync_key = gone.__sync_key)",
                [*key, batch.synced_at, batch.run_id, *key],
            )
            if changes.removes:
                self._engine.execute(
                    f"UPDATE {deleted} SET removed_at = ? WHERE source_id = ? AND table_name = ?"
                    f" AND sync_key IN (SELECT __sync_key FROM {changes.gone})",
                    [batch.synced_at, *key],
                )

    def note_removed(self, source_id: str, table_name: str, now: datetime) -> None:
        """Note that all rows of a table are gone."""
        self._engine.execute(
            f"UPDATE {self._engine.name(DELETED_UPSTREAM)} SET removed_at = ?"
            " WHERE source_id = ? AND table_name = ? AND removed_at IS NULL",
            [now, source_id, table_name],
        )

    def _forget(self, batch: Batch, found: str) -> None:
        """Drop the rows whose keys are in the temporary table *found*."""
        self._engine.execute(
            f"DELETE FROM {self._engine.name(DELETED_UPSTREAM)}"
            " WHERE source_id = ? AND table_name = ?"
            f" AND sync_key IN (SELECT __sync_key FROM {found})",
            [batch.source_id, batch.table.name],
        )
