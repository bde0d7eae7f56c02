"""Rows of a remote as a relation of the DuckDB in memory, while a statement reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ometria_replica.local_duckdb import registered

if TYPE_CHECKING:
    import pyarrow as pa

    from ometria_replica.warehouse.engines.duckdb import DuckDBEngine

RECEIVED: Final = "received_rows"
"""The relation, as the statement names it."""


def insert_received(engine: DuckDBEngine, statement: str, rows: pa.Table | pa.RecordBatch) -> None:
    """Run an INSERT from :data:`RECEIVED`, which holds *rows*."""
    with registered(engine.connection, RECEIVED, rows):
        engine.execute(statement)
