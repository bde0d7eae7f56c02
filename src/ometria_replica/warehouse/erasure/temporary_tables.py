"""Temporary tables of the DuckDB in which records are mapped, and statements on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ometria_replica.local_duckdb import registered
from ometria_replica.pseudonyms import parameters_in

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.pseudonyms import Pseudonyms
    from ometria_replica.suppressions import Suppressions

ARRIVED: Final = "arrived_rows"
"""The rows that :meth:`TemporaryTables.insert` takes, as its statement names them."""


@dataclass(frozen=True)
class TemporaryTables:
    """
    Makes, fills and reads temporary tables of *connection*.

    Statements may compute *pseudonyms*, if columns are hashed, and the hashes of suppressions that
    are handed in with them.
    """

    connection: DuckDBPyConnection
    pseudonyms: Pseudonyms | None

    def make(self, name: str, columns: str) -> None:
        """Create a table in place of an earlier one."""
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")

    def drop(self, *names: str) -> None:
        """Drop the tables that exist."""
        for name in names:
            self.connection.execute(f"DROP TABLE IF EXISTS {name}")

    def insert(self, statement: str, rows: pa.RecordBatch | pa.Table, joined: str = "") -> None:
        """Run an INSERT with a SELECT from *rows*, which *joined* may narrow."""
        with registered(self.connection, ARRIVED, rows):
            self.execute(f"{statement} FROM {ARRIVED}{joined}")

    def execute(self, statement: str, suppressions: Suppressions | None = None) -> None:
        """Run a statement with the parameters that it names."""
        parameters = parameters_in(statement, self.pseudonyms, suppressions)
        self.connection.execute(statement, parameters)

    def rows(self, query: str, suppressions: Suppressions | None = None) -> list[tuple[Any, ...]]:
        """Read the rows of a query."""
        parameters = parameters_in(query, self.pseudonyms, suppressions)
        return self.connection.execute(query, parameters).fetchall()

    def texts(self, query: str, suppressions: Suppressions | None = None) -> tuple[str, ...]:
        """Read the texts of a query's one column."""
        return tuple(str(text) for (text,) in self.rows(query, suppressions))

    def count(self, name: str) -> int:
        """Count the rows of a table."""
        ((number,),) = self.connection.execute(f"SELECT count(*) FROM {name}").fetchall()
        return int(number)
