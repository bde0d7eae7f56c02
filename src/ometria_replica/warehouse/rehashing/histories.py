"""Rewrites the history of a table after the treatments of its columns have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.batch import Batch, Loaded
from ometria_replica.history import history_table
from ometria_replica.mapping import quoted
from ometria_replica.schema import LINEAGE
from ometria_replica.selection import Selection
from ometria_replica.warehouse.rehashing.rows import Rewritten, RowRewriting

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.schema import Table

_MERGED = "merged_versions"
_VALIDITY = {"valid_from", "valid_to"}


@dataclass(frozen=True)
class HistoryRewriting(RowRewriting):
    """Rewrites versions, and joins those that differed in a value that is no longer there."""

    def rewrite(
        self, stored: Table, wanted: Table, source_id: str, run_id: str, now: datetime
    ) -> None:
        """
        Make the versions of a source as *wanted* of those as *stored*, if there are any.

        A version whose key cannot be made anew goes. Without a transaction, a crash may lose the
        history: then the next load begins it anew.
        """
        table = history_table(wanted)
        if not self._engine.exists(table) or not self._engine.holding([table], source_id):
            return
        found = self.prepare(history_table(stored), table, source_id)
        rewritten = self._with_alike_joined(found)
        batch = Batch(table, source_id, run_id, now)
        self.stage(rewritten)
        self._engine.stage(batch)
        self._engine.delete(table, Selection(source_id))
        self.insert_staged(table, source_id, Loaded(inserted=rewritten.rows))

    def remove_history(self, table: Table, source_id: str) -> None:
        """Remove the versions of a source: their values cannot be made anew."""
        history = history_table(table)
        if self._engine.exists(history):
            self._engine.delete(history, Selection(source_id))

    def _with_alike_joined(self, found: Rewritten) -> Rewritten:
        lineage = {column.name for column in LINEAGE} | _VALIDITY
        contents = [
            quoted(column.name)
            for column in found.table.all_columns
            if column.name not in lineage and column.stamp is None
        ]
        columns = ", ".join(
            f"first({quoted(column.name)} ORDER BY valid_from) AS {quoted(column.name)}"
            for column in found.table.all_columns
            if column.name != "valid_to"
        )
        alike = " AND ".join(f"{name} IS NOT DISTINCT FROM lag({name}) OVER k" for name in contents)
        of_key = "(PARTITION BY __sync_key ORDER BY valid_from)"
        self.mapping.execute(
            f"CREATE OR REPLACE TEMP TABLE {_MERGED} AS WITH once AS ("
            f"SELECT * FROM {quoted(found.name)} WHERE __sync_key IS NOT NULL QUALIFY row_number()"
            " OVER (PARTITION BY __sync_key, valid_from ORDER BY _old_key) = 1), begun AS ("
            f"SELECT *, coalesce(NOT ({alike} AND valid_from = lag(valid_to) OVER k), true)"
            f" AS begins FROM once WINDOW k AS {of_key}), numbered AS ("
            f"SELECT *, sum(begins::INTEGER) OVER {of_key} AS number FROM begun)"
            f" SELECT {columns}, last(valid_to ORDER BY valid_from) AS valid_to, true AS _kept"
            " FROM numbered GROUP BY numbered.__sync_key, number"
        )
        ((rows,),) = self.mapping.execute(f"SELECT count(*) FROM {_MERGED}").fetchall()
        self.mapping.execute(f"DROP TABLE {quoted(found.name)}")
        return Rewritten(found.table, _MERGED, rows, 0, 0, has_new_keys=True)
