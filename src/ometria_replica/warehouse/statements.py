"""The statements that reading and writing a DuckDB warehouse are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ometria_replica.warehouse import sql
from ometria_replica.warehouse.attached import CATALOG
from ometria_replica.warehouse.state import STATE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb import DuckDBPyConnection

    from ometria_replica.warehouse.state import StateTable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Statements:
    """Runs statements on the attached warehouse."""

    connection: DuckDBPyConnection

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement whose answer nobody needs."""
        self.connection.execute(statement, list(parameters))

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Run a query; rows are tuples."""
        return self.connection.execute(statement, list(parameters)).fetchall()

    def scalar(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run a query for one number."""
        return int(self.rows(statement, parameters)[0][0])

    def replace(self, table: StateTable, row: Sequence[object]) -> None:
        """Put *row* in the place of the one with its key."""
        values = dict(zip(table.column_names, row, strict=True))
        self.delete(table, **{name: values[name] for name in table.key})
        self.insert(table, row)

    def delete(self, table: StateTable, **key: object) -> None:
        """Delete the rows where each column of *key* has its value."""
        where = " AND ".join(f"{sql.quoted(name)} = ?" for name in key)
        self.execute(f"DELETE FROM {self.state(table)} WHERE {where}", list(key.values()))

    def insert(self, table: StateTable, row: Sequence[object]) -> None:
        """Add *row*, its values in the order of the table's columns."""
        places = ", ".join("?" for _ in table.columns)
        self.execute(f"INSERT INTO {self.state(table)} VALUES ({places})", row)

    def has(self, table: StateTable) -> bool:
        """Tell whether a state table is there."""
        return self.exists(table.name, STATE_SCHEMA)

    def exists(self, name: str, schema: str) -> bool:
        """Tell whether a table is there."""
        return bool(
            self.scalar(
                "SELECT count(*) FROM information_schema.tables"
                " WHERE table_catalog = ? AND table_schema = ? AND table_name = ?",
                [CATALOG, schema, name],
            )
        )

    def data(self, table_name: str) -> str:
        """Name one of the five in full."""
        return sql.qualified(table_name, CATALOG)

    def state(self, table: StateTable) -> str:
        """Name a state table in full."""
        return sql.state(table, CATALOG)


def instant(microseconds: int) -> datetime:
    """Read a time as `epoch_us` writes it: DuckDB's own way needs a package of time zones."""
    return _EPOCH + timedelta(microseconds=microseconds)


def instant_or_none(microseconds: int | None) -> datetime | None:
    """Read a time that may be null."""
    return None if microseconds is None else instant(microseconds)
