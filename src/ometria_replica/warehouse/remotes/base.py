"""Targets that cannot run the merge statements: the protocol of lakes and of dlt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import BatchSize
    from ometria_replica.schema import Table
    from ometria_replica.selection import Selection
    from ometria_replica.warehouse.state_tables import StateTable

ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Relation:
    """A query of a DuckDB *connection*, which can be read more than once."""

    connection: DuckDBPyConnection
    query: str

    def reader(self, rows_at_once: int = ROWS_AT_ONCE) -> pa.RecordBatchReader:
        """Run the query and read its rows as a stream."""
        rows: pa.RecordBatchReader = self.connection.sql(self.query).to_arrow_reader(rows_at_once)
        return rows


class Remote(Protocol):
    """Tables elsewhere that can be read and written, and not merged."""

    @property
    def place(self) -> str:
        """The name in messages, without a password."""

    @property
    def batch_size(self) -> BatchSize:
        """How much it takes at once."""

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours, without their text: it may quote personal data."""

    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """List a table's columns with our types, in order; empty if there is no such table."""

    def create(self, tables: Sequence[Table | StateTable]) -> None:
        """Create tables and their schemas, unless they exist."""

    def read_state(self, table: StateTable) -> pa.Table | None:
        """Read a state table, all of it; None if there is no such table."""

    def write_state(self, table: StateTable, gone: pa.Table, new: pa.Table) -> None:
        """Delete the rows with the keys *gone* (the key's columns), then add the rows *new*."""

    def read(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        """Read rows with all their columns, by name. More rows than selected do no harm."""

    def count(self, table: Table, selection: Selection) -> int:
        """Count rows; 0 if there is no such table."""

    def replace(self, table: Table, touched: Selection, rows: Relation, *, adds: bool) -> None:
        """
        Write *rows*, one for each key, in place of those with their keys.

        The rows and those that they replace lie within *touched*. *adds* says that none is
        replaced.
        """

    def delete(self, table: Table, selection: Selection) -> None:
        """Delete rows."""

    def check_access(self) -> None:
        """Raise WarehouseError if this user cannot write here, as far as a look can tell."""

    def detach(self) -> None:
        """Let other programs in, where one at a time may connect."""

    def close(self) -> None:
        """Close connections. Safe to call twice."""
