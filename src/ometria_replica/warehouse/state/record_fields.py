"""Notes the fields of kept records, by which the next run tells what has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.failpoints import step
from ometria_replica.field_paths import NotedField
from ometria_replica.warehouse.sessions import Part, reads
from ometria_replica.warehouse.state_tables import FIELDS

if TYPE_CHECKING:
    from ometria_replica.batch import Batch


@dataclass(frozen=True)
class RecordFields(Part):
    """The noted fields of the sources of one warehouse."""

    @reads("reading the fields of the records")
    def of(self, source_id: str, table_name: str) -> dict[str, NotedField]:
        """Read the noted fields of a table of a source, by path."""
        found = self._engine.rows(
            f"SELECT path, types, first_at, records, of_records FROM {self._readable(FIELDS)}"
            " WHERE source_id = ? AND table_name = ? ORDER BY path",
            [source_id, table_name],
        )
        return {
            path: NotedField(path, frozenset(filter(None, types.split(","))), *rest)
            for path, types, *rest in found
        }

    def write(self, batch: Batch) -> None:
        """Note the fields that a batch has changed. Within its transaction."""
        if not batch.fields:
            return
        with step("fields"):
            key = [batch.source_id, batch.table.name]
            rows = [
                [*key, each.path, ",".join(sorted(each.types)), each.first_at, each.records,
                 each.of_records, batch.run_id]
                for each in batch.fields
            ]  # fmt: skip
            self._engine.replace(FIELDS, *rows)
