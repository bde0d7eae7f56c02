"""Where a warehouse can be, as the tests need it: a URL, and a look at what is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import duckdb

from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

SCHEMAS = ("ometria", "ometria_replica")


class Place(Protocol):
    """A warehouse somewhere, which may not be there yet."""

    @property
    def url(self) -> str:
        """Give the URL, as a user would."""

    @property
    def is_there(self) -> bool:
        """Tell whether anything has been made there."""

    def looking(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Give a DuckDB with a copy of both schemas, read by another program than ours."""

    def like_this(self, folder: Path) -> Self:
        """Make another place with the same contents, which may use *folder*."""

    def remove(self) -> None:
        """Take it away."""

    def add_column(self, table: str, name: str) -> None:
        """Add a column of somebody's own to one of the five tables."""


@dataclass(frozen=True)
class DuckDBPlace:
    """A DuckDB file."""

    path: Path

    @property
    def url(self) -> str:
        """See the protocol."""
        return f"duckdb:///{self.path}"

    @property
    def is_there(self) -> bool:
        """See the protocol."""
        return self.path.exists()

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """See the protocol. A copy is opened: looking must not mend what a crash left."""
        copy = self.path.with_name("copy.duckdb")
        for suffix in ("", ".wal"):
            source = self.path.with_name(self.path.name + suffix)
            target = copy.with_name(copy.name + suffix)
            target.unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, target)
        with duckdb.connect(str(copy)) as connection:
            yield connection

    def like_this(self, folder: Path) -> Self:
        """See the protocol."""
        shutil.copyfile(self.path, folder / self.path.name)
        return type(self)(folder / self.path.name)

    def remove(self) -> None:
        """See the protocol."""
        self.path.unlink(missing_ok=True)

    def add_column(self, table: str, name: str) -> None:
        """See the protocol."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(f"ALTER TABLE ometria.{table} ADD COLUMN {name} VARCHAR")


@dataclass(frozen=True)
class PostgresPlace:
    """A database of the tests' server."""

    database: str

    @classmethod
    def new(cls) -> Self:
        """Make an empty one."""
        return cls(postgres().new_database())

    @property
    def url(self) -> str:
        """See the protocol."""
        return postgres().url(self.database)

    @property
    def is_there(self) -> bool:
        """See the protocol."""
        return bool(self._tables())

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """See the protocol."""
        with (
            duckdb.connect() as connection,
            postgres().connected(self.database) as cursor,
        ):
            connection.execute("SET TimeZone = 'UTC'")
            for schema, table in self._tables():
                cursor.execute(f'SELECT * FROM "{schema}"."{table}"')
                connection.register("found", cursor.fetch_arrow_table())
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                connection.execute(f"CREATE TABLE {schema}.{table} AS FROM found")
            yield connection

    def _tables(self) -> list[tuple[str, str]]:
        return postgres().rows(
            "SELECT schemaname::text, tablename::text FROM pg_tables"
            f" WHERE schemaname IN {SCHEMAS}",
            database=self.database,
        )

    def like_this(self, folder: Path) -> Self:  # noqa: ARG002 -- of the protocol.
        """See the protocol."""
        return type(self)(postgres().new_database(like=self.database))

    def remove(self) -> None:
        """See the protocol."""
        postgres().drop(self.database)

    def add_column(self, table: str, name: str) -> None:
        """See the protocol."""
        statement = f"ALTER TABLE ometria.{table} ADD COLUMN {name} text"
        postgres().run(statement, database=self.database)


def _duckdb(folder: Path) -> Place:
    return DuckDBPlace(folder / "replica.duckdb")


def _postgres(folder: Path) -> Place:
    return PostgresPlace.new()


NewPlace = Callable[["Path"], Place]

KINDS: dict[str, NewPlace] = {"duckdb": _duckdb, "postgres": _postgres}
"""Each kind of warehouse that can be tried here: how to make one, given a folder of its own."""
