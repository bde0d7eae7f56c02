"""Where dlt loads to in the tests, and what it left there."""

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


class Place(Protocol):
    """A dataset and the pipeline into it."""

    @property
    def pipelines(self) -> Path:
        """Where dlt keeps its work."""

    def pipeline(self, name: str = "shop") -> dlt.Pipeline:
        """Make the pipeline, or find it again."""

    def rows(self, table: str) -> list[Row]:
        """Read a table whole, in no order, times in UTC."""

    def tables(self) -> set[str]:
        """Name the tables of the dataset."""

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Name a table's columns and their types, in order."""

    def execute(self, statement: str) -> None:
        """Change something behind dlt's back."""


@dataclass(frozen=True)
class DuckDB:
    """A DuckDB file."""

    path: Path
    pipelines: Path

    def pipeline(self, name: str = "shop") -> dlt.Pipeline:
        """See Place."""
        destination = dlt.destinations.duckdb(str(self.path))
        return _pipeline(name, destination, self.pipelines)

    def rows(self, table: str) -> list[Row]:
        """See Place."""
        return read_file(self.path, f"ometria.{table}")

    def tables(self) -> set[str]:
        """See Place."""
        return {str(name) for (name,) in self._ask(_TABLES)}

    def columns(self, table: str) -> list[tuple[str, str]]:
        """See Place."""
        kinds = {"VARCHAR": "text", "TIMESTAMP WITH TIME ZONE": "timestamp with time zone"}
        found = self._ask(_COLUMNS.format(table=table))
        return [(name, kinds.get(kind, kind.lower())) for name, kind in found]

    def execute(self, statement: str) -> None:
        """See Place."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(statement)

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.execute(query).fetchall()


@dataclass(frozen=True)
class Postgres:
    """A database of its own in a PostgreSQL."""

    url: str
    pipelines: Path

    def pipeline(self, name: str = "shop") -> dlt.Pipeline:
        """See Place."""
        return _pipeline(name, dlt.destinations.postgres(self.url), self.pipelines)

    def rows(self, table: str) -> list[Row]:
        """See Place."""
        names = [name for name, _ in self.columns(table)]
        found = self._ask(f"SELECT * FROM ometria.{table}")
        return [dict(zip(names, map(_in_utc, row), strict=True)) for row in found]

    def tables(self) -> set[str]:
        """See Place."""
        return {str(name) for (name,) in self._ask(_TABLES)}

    def columns(self, table: str) -> list[tuple[str, str]]:
        """See Place."""
        kinds = {"character varying": "text"}
        found = self._ask(_COLUMNS.format(table=table))
        return [(name, kinds.get(kind, kind)) for name, kind in found]

    def execute(self, statement: str) -> None:
        """See Place."""
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


def everything(place: Place, *, load_time: bool = False) -> dict[str, list[Row]]:
    """Read the five tables, ordered by key, by default without the load time."""
    left_out = set() if load_time else {"__synced_at"}
    return {
        name: [
            {column: row[column] for column in row if column not in left_out}
            for row in sorted(place.rows(name), key=lambda row: str(row["__sync_key"]))
        ]
        for name in TABLES
    }
