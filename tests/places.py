"""Where a warehouse can be, as the tests need it: a URL, and a look at what is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, Self

import boto3
import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, QueryBuilder
from deltalake.schema import PrimitiveType
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import StringType

from ometria_replica.catalog import CATALOG
from ometria_replica.warehouse.state_tables import STATE_TABLES
from tests.duck import opened
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader

SCHEMAS = ("ometria", "ometria_replica", "ometria_raw", "ometria_history")


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
        """Add a foreign column to one of the five tables."""

    def drop_table(self, table: str) -> None:
        """Drop one of the five tables."""


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
        with opened(copy, read_only=False) as connection:
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

    def drop_table(self, table: str) -> None:
        """See the protocol."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(f"DROP TABLE ometria.{table}")


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

    def drop_table(self, table: str) -> None:
        """See the protocol."""
        postgres().run(f"DROP TABLE ometria.{table}", database=self.database)


@dataclass(frozen=True)
class DeltaPlace:
    """A folder of Delta tables, read by DataFusion, which the replica does not read with."""

    folder: Path

    @property
    def url(self) -> str:
        """See the protocol."""
        return f"delta:///{self.folder}"

    @property
    def is_there(self) -> bool:
        """See the protocol."""
        return self.folder.exists()

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """See the protocol."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for log in sorted(self.folder.glob("*/*/_delta_log")):
                schema, name = log.parts[-3:-1]
                copy_delta(connection, schema, name, DeltaTable(log.parent))
            yield connection

    def like_this(self, folder: Path) -> Self:
        """See the protocol."""
        shutil.copytree(self.folder, folder / self.folder.name)
        return type(self)(folder / self.folder.name)

    def remove(self) -> None:
        """See the protocol."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_column(self, table: str, name: str) -> None:
        """See the protocol."""
        DeltaTable(self.folder / "ometria" / table).alter.add_columns(
            Field(name, PrimitiveType("string"))
        )

    def drop_table(self, table: str) -> None:
        """See the protocol."""
        shutil.rmtree(self.folder / "ometria" / table)

    def files(self, table: str) -> list[str]:
        """Name the files that one of the five tables is made of now."""
        return DeltaTable(self.folder / "ometria" / table).file_uris()

    def versions(self, schema: str, table: str) -> int:
        """Count the files of a table, those of old versions too."""
        return len(list((self.folder / schema / table).glob("*.parquet")))


@dataclass(frozen=True)
class IcebergPlace:
    """Iceberg tables in a folder, in a catalog in SQLite; read by DuckDB from their files."""

    folder: Path

    @property
    def url(self) -> str:
        """See the protocol."""
        return f"iceberg+sqlite:///{self.folder}/catalog.db?warehouse=file://{self.folder}"

    @property
    def is_there(self) -> bool:
        """See the protocol."""
        return any(self.folder.iterdir())

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """See the protocol."""
        catalog = self._catalog()
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for (schema,) in catalog.list_namespaces():
                for _, name in catalog.list_tables(schema):
                    table = catalog.load_table((schema, name))
                    files = [task.file.file_path for task in table.scan().plan_files()]
                    empty = table.schema().as_arrow().empty_table()
                    copy(connection, schema, name, empty)
                    for file in files:
                        path = file.removeprefix("file://")
                        connection.execute(
                            f"INSERT INTO {schema}.{name} BY NAME FROM read_parquet('{path}')"
                        )
            yield connection
        catalog.close()

    def like_this(self, folder: Path) -> Self:
        """See the protocol."""
        raise NotImplementedError

    def remove(self) -> None:
        """See the protocol."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def add_column(self, table: str, name: str) -> None:
        """See the protocol."""
        catalog = self._catalog()
        with catalog.load_table(("ometria", table)).update_schema() as update:
            update.add_column(name, StringType())
        catalog.close()

    def drop_table(self, table: str) -> None:
        """See the protocol."""
        catalog = self._catalog()
        catalog.drop_table(("ometria", table))
        catalog.close()

    def files(self, table: str) -> list[str]:
        """Name the files that one of the five tables is made of now."""
        catalog = self._catalog()
        found = catalog.load_table(("ometria", table)).scan().plan_files()
        catalog.close()
        return [task.file.file_path for task in found]

    def versions(self, schema: str, table: str) -> int:
        """Count the versions that a table still has."""
        catalog = self._catalog()
        found = catalog.load_table((schema, table)).metadata.snapshots
        catalog.close()
        return len(found)

    def _catalog(self) -> SqlCatalog:
        uri = f"sqlite:///{self.folder}/catalog.db"
        return SqlCatalog("default", uri=uri, warehouse=f"file://{self.folder}")


@dataclass(frozen=True)
class BucketPlace:
    """Delta tables below a prefix of a bucket; who may look is in the AWS_* variables."""

    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """See the protocol."""
        return f"delta+s3://{self.bucket}/{self.prefix}"

    @property
    def is_there(self) -> bool:
        """See the protocol."""
        return bool(self._keys())

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """See the protocol."""
        tables = {tuple(key.removeprefix(f"{self.prefix}/").split("/")[:2]) for key in self._keys()}
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for schema, name in sorted(tables):
                place = f"s3://{self.bucket}/{self.prefix}/{schema}/{name}"
                table = DeltaTable(place, storage_options={"allow_http": "true"})
                copy_delta(connection, schema, name, table)
            yield connection

    def like_this(self, folder: Path) -> Self:
        """See the protocol."""
        raise NotImplementedError

    def remove(self) -> None:
        """See the protocol. It goes with the server."""

    def add_column(self, table: str, name: str) -> None:
        """See the protocol."""
        raise NotImplementedError

    def drop_table(self, table: str) -> None:
        """See the protocol."""
        raise NotImplementedError

    def _keys(self) -> list[str]:
        client = boto3.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/"
        )
        return [item["Key"] for page in pages for item in page.get("Contents", ())]


def copy_delta(
    connection: duckdb.DuckDBPyConnection, schema: str, name: str, table: DeltaTable
) -> None:
    """Copy a Delta table, read by DataFusion."""
    query = QueryBuilder().register("found", table)
    copy(connection, schema, name, pa.table(query.execute("SELECT * FROM found")))


def copy(connection: duckdb.DuckDBPyConnection, schema: str, table: str, found: pa.Table) -> None:
    """Copy what was read into a table of DuckDB's."""
    connection.register("found", found)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    connection.execute(f"CREATE TABLE {schema}.{table} AS FROM found")
    connection.unregister("found")


class BridgedDuckDBPlace(DuckDBPlace):
    """A DuckDB file, written to by dlt."""

    @property
    def url(self) -> str:
        """See the protocol."""
        return f"dlt+{super().url}"


class BridgedPostgresPlace(PostgresPlace):
    """A database of the tests' server, written to by dlt."""

    @property
    def url(self) -> str:
        """See the protocol."""
        return f"dlt+{super().url}"


@dataclass(frozen=True)
class DistantPlace:
    """A warehouse that dlt loads, named in an environment variable; the tests empty it."""

    url: str
    folder: Path

    @property
    def is_there(self) -> bool:
        """See the protocol."""
        with self._asked() as loader:
            return any(self._there(loader))

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """See the protocol. Nothing else than dlt reaches it, so that this does not either."""
        from ometria_replica.arrow_types import arrow_schema  # noqa: PLC0415 -- dlt.
        from ometria_replica.warehouse.remotes.dlt_schemas import TYPES  # noqa: PLC0415 -- dlt.

        ours = {kind: name for name, kind in TYPES.items()}
        with duckdb.connect() as connection, self._asked() as loader:
            connection.execute("SET TimeZone = 'UTC'")
            for schema, table, columns in self._there(loader):
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                kinds = arrow_schema((name, ours[kind]) for name, kind in columns)
                names = ", ".join(loader.quoted(name) for name in kinds.names)
                query = f"SELECT {names} FROM {loader.qualified(schema, table)}"
                found = pa.concat_tables([kinds.empty_table(), *loader.fetch(query, kinds)])
                connection.register("found", found)
                connection.execute(f"CREATE TABLE {schema}.{table} AS FROM found")
            yield connection

    def like_this(self, folder: Path) -> Self:
        """See the protocol."""
        pytest.skip(f"{folder} cannot hold a copy of a warehouse that is elsewhere")

    def remove(self) -> None:
        """See the protocol."""
        with self._asked() as loader:
            for schema in sorted({schema for schema, *_ in self._there(loader)}):
                with (
                    loader._asking() as client,
                    client.sql_client.with_alternative_dataset_name(schema),
                ):
                    client.sql_client.drop_dataset()

    def add_column(self, table: str, name: str) -> None:
        """See the protocol."""
        from ometria_replica.warehouse.remotes.dlt_schemas import schema_of  # noqa: PLC0415 -- dlt: 0.8 s.

        column: Any = {"name": name, "data_type": "text", "nullable": True}
        schema = schema_of("one", [{"name": table, "columns": {name: column}}])
        with self._asked() as loader, loader._asking():
            client = loader._new_client(schema, "ometria")
            for statement in client._get_table_update_sql(table, [column], True):
                loader.execute(statement)

    def drop_table(self, table: str) -> None:
        """See the protocol."""
        with self._asked() as loader:
            loader.execute(f"DROP TABLE {loader.qualified('ometria', table)}")

    @contextmanager
    def _asked(self) -> Iterator[DltLoader]:
        from ometria_replica.warehouse.remotes.dlt_destinations import Address  # noqa: PLC0415
        from ometria_replica.warehouse.remotes.dlt_loader import DltLoader  # noqa: PLC0415 -- dlt: 0.8 s.

        scheme = self.url.partition("://")[0].removeprefix("dlt+")
        module = import_module(f"ometria_replica.warehouse.remotes.dlt_destinations.{scheme}")
        options = module.DESTINATION.options(Address.read(self.url))
        loader = DltLoader(module.DESTINATION, options, self.folder)
        yield loader
        loader.close()

    @staticmethod
    def _there(loader: DltLoader) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
        names = {
            "ometria": [table.name for table in CATALOG.every],
            "ometria_raw": [table.name for table in CATALOG.every],
            "ometria_replica": [table.name for table in STATE_TABLES],
            "ometria_history": [table.name for table in CATALOG.every],
        }
        for schema, tables in names.items():
            for table, columns in loader.columns(schema, tables).items():
                if columns:
                    yield schema, table, columns


def _duckdb(folder: Path) -> Place:
    return DuckDBPlace(folder / "replica.duckdb")


def _postgres(folder: Path) -> Place:
    return PostgresPlace.new()


def _delta(folder: Path) -> Place:
    return DeltaPlace(folder / "lake")


def _iceberg(folder: Path) -> Place:
    (folder / "lake").mkdir()
    return IcebergPlace(folder / "lake")


def _bridged_duckdb(folder: Path) -> Place:
    return BridgedDuckDBPlace(folder / "replica.duckdb")


def _bridged_postgres(folder: Path) -> Place:
    return BridgedPostgresPlace.new()


def _emptied(url: str, folder: Path) -> Place:
    place = DistantPlace(url, folder)
    place.remove()  # What a test that was killed left.
    return place


NewPlace = Callable[["Path"], Place]

KINDS: dict[str, NewPlace] = {
    "duckdb": _duckdb,
    "postgres": _postgres,
    "delta": _delta,
    "iceberg": _iceberg,
    "dlt+duckdb": _bridged_duckdb,
    "dlt+postgres": _bridged_postgres,
    **{
        url.partition("://")[0] + " elsewhere": partial(_emptied, url)
        for url in os.environ.get("OMETRIA_TEST_WAREHOUSES", "").split()
    },
}
"""Each kind of warehouse that can be tried here: how to make one, given a folder of its own."""
