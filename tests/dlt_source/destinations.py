"""The destinations that dlt loads in the tests, and their rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import dlt
import duckdb
import psycopg2

from tests.duck import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.duck import Row

TABLES = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")


class Destination(Protocol):
    """A dataset and the pipeline into it."""

    @property
    def pipelines(self) -> Path:
        """The folder of dlt's working files."""

    def pipeline(self, name: str = "shop") -> dlt.Pipeline:
        """Create the pipeline, or open it again."""

    def rows(self, table: str) -> list[Row]:
        """Return all rows of a table in any order, with times in UTC."""

    def tables(self) -> set[str]:
        """Return the names of the dataset's tables."""

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Return the names and types of a table's columns, in order."""

    def execute(self, statement: str) -> None:
        """Run a statement outside dlt."""


@dataclass(frozen=True)
class DuckDB:
    """A DuckDB file."""

    path: Path
    pipelines: Path

    def pipeline(self, name: str = "shop") -> dlt.Pipeline:
        """See Destination."""
        destination = dlt.destinations.duckdb(str(self.path))
        return _pipeline(name, destination, self.pipelines)

    def rows(self, table: str) -> list[Row]:
        """See Destination."""
        return read_file(self.path, f"ometria.{table}")

    def tables(self) -> set[str]:
        """See Destination."""
        return {str(name) for (name,) in self._ask(_TABLES)}

    def columns(self, table: str) -> list[tuple[str, str]]:
        """See Destination."""
        kinds = {"VARCHAR": "text", "TIMESTAMP WITH TIME ZONE": "timestamp with time zone"}
        found = self._ask(_COLUMNS.format(table=table))
        return [(name, kinds.get(kind, kind.lower())) for name, kind in found]

    def execute(self, statement: str) -> None:
        """See Destination."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(statement)

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.execute(query).fetchall()


@dataclass(frozen=True)
class Postgres:
    """A new database in a PostgreSQL server."""

    url: str
    pipelines: Path

    def pipeline(self, name: str = "shop") -> dlt.Pipeline:
        """See Destination."""
        return _pipeline(name, dlt.destinations.postgres(self.url), self.pipelines)

    def rows(self, table: str) -> list[Row]:
        """See Destination."""
        names = [name for name, _ in self.columns(table)]
        found = self._ask(f"SELECT * FROM ometria.{table}")
        return [dict(zip(names, map(_in_utc, row), strict=True)) for row in found]

    def tables(self) -> set[str]:
        """See Destination."""
        return {str(name) for (name,) in self._ask(_TABLES)}

    def columns(self, table: str) -> list[tuple[str, str]]:
        """See Destination."""
        kinds = {"character varying": "text"}
        found = self._ask(_COLUMNS.format(table=table))
        return [(name, kinds.get(kind, kind)) for name, kind in found]

    def execute(self, statement: str) -> None:
        """See Destination."""
        connection = psycopg2.connect(self.url)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            connection.close()


_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ometria'"
_COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = 'ometria' AND table_name = '{table}' ORDER BY ordinal_position"
)


def _pipeline(name: str, destination: Any, folder: Path) -> dlt.Pipeline:
    return dlt.pipeline(
        name, destination=destination, dataset_name="ometria", pipelines_dir=str(folder)
    )


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def everything(destination: Destination, *, load_time: bool = False) -> dict[str, list[Row]]:
    """Return the five tables ordered by key; without the load time by default."""
    left_out = set() if load_time else {"__synced_at"}
    return {
        name: [
            {column: row[column] for column in row if column not in left_out}
            for row in sorted(destination.rows(name), key=lambda row: str(row["__sync_key"]))
        ]
        for name in TABLES
    }
