"""
A plugin of dbt-duckdb: the tables of a lake, as views in the DuckDB in which models are built.

DuckDB would need extensions that it downloads to attach a lake. So each table is registered as the
dataset that its own library reads, whose columns and rows are read as a model needs them.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin

from ometria_replica import sql
from ometria_replica.local_duckdb import open_staging
from ometria_replica.models.place import LAKE
from ometria_replica.warehouse import imported, scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from duckdb import DuckDBPyConnection


class Lake:
    """The tables of a lake that models read, by schema and name, each in one version."""

    def __init__(self) -> None:
        self.scans: dict[tuple[str, str], object] = {}
        self._closing = ExitStack()

    def open(self, url: str, tables: Iterable[str]) -> None:
        """Open those of *tables* that the lake at *url* has; they are named with their schemas."""
        atexit.register(self._closing.close)
        connection = open_staging(self._closing)
        remote = imported(scheme_of(url)).open_remote(url, connection)
        for full_name in tables:
            schema, _, name = full_name.partition(".")
            if (rows := remote.scan(schema, name)) is not None:
                self.scans[schema, name] = rows


OF_THIS_PROCESS = Lake()
"""Not a setting of the plugin: dbt writes profiles to files, and the URL may hold a secret."""


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt is in an environment of its own.
    """Registers the tables of a lake in each connection of dbt."""

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Create the views, which all connections see."""
        conn.execute(f"ATTACH ':memory:' AS {LAKE}")
        self.configure_cursor(conn)
        for schema, name in OF_THIS_PROCESS.scans:
            registered = sql.quoted(f"{schema}.{name}")
            conn.execute(f"CREATE SCHEMA IF NOT EXISTS {LAKE}.{sql.quoted(schema)}")
            conn.execute(
                f"CREATE VIEW {LAKE}.{sql.quoted(schema)}.{sql.quoted(name)}"
                f" AS FROM temp.main.{registered}"
            )

    def configure_cursor(self, cursor: Any) -> None:
        """Register what the views read: a connection has temporary things of its own."""
        for (schema, name), rows in OF_THIS_PROCESS.scans.items():
            cursor.register(f"{schema}.{name}", rows)
