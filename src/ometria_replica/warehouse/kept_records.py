"""Reads the fields of kept records, in bulk and without their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.field_paths import STRUCTURE, FieldPaths
from ometria_replica.local_duckdb import registered
from ometria_replica.raw_records import raw_table
from ometria_replica.selection import Selection
from ometria_replica.warehouse.sessions import Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table

_ARRIVED = "arrived_records"
_STRUCTURES = (
    f"SELECT {STRUCTURE.replace('{', '{{')} AS structure, count(*) AS records,"
    " min(__synced_at) AS first_at, max(__synced_at) AS last_at FROM {relation}"
    " WHERE record IS NOT NULL{where} GROUP BY ALL"
)


@dataclass(frozen=True)
class KeptRecords(Part):
    """The kept records of one warehouse. Where it is no DuckDB, *mapping* reads their texts."""

    mapping: DuckDBPyConnection

    def fields(self, table: Table, source_id: str) -> FieldPaths | None:
        """Find the fields in the records of a table; None if none are kept of it."""
        raw = raw_table(table)
        found = FieldPaths()
        with self.sessions.open(f"reading the records of {table.name}"):
            if not self._engine.exists(raw):
                return None
            for batch in self._structures(raw, source_id):
                columns = [column.to_pylist() for column in batch.columns]
                for structure, records, first_at, last_at in zip(*columns, strict=True):
                    found.add(structure, records, first_at, last_at)
        return found

    def _structures(self, raw: Table, source_id: str) -> Iterator[pa.Table | pa.RecordBatch]:
        of_source = Selection(source_id)
        if self._engine.reads_json:
            where = f" AND {sql.condition(of_source)}"
            yield from self._engine.batches(
                _STRUCTURES.format(relation=self._engine.name(raw), where=where)
            )
            return
        for rows in self._engine.scan(raw, of_source):
            with registered(self.mapping, _ARRIVED, rows):
                yield self.mapping.sql(
                    _STRUCTURES.format(relation=_ARRIVED, where="")
                ).to_arrow_table()
