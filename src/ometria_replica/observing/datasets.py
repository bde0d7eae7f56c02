"""
The names of sources and tables as OpenLineage has them: a namespace, and a name in it.

They follow OpenLineage's naming (openlineage.io/docs/spec/naming) and, where that has no rule, as
for DuckDB, its integration for dbt: so the graph of a dbt project begins at our tables. No name
holds a user or a password.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from ometria_replica.duckdb_files import duckdb_catalog, duckdb_path
from ometria_replica.ometria.bucket import naming_a_folder
from ometria_replica.warehouse import scheme_of
from ometria_replica.ways_to_read import Feed, Inside

if TYPE_CHECKING:
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, FeedSettings
    from ometria_replica.schema import Table

_SYSTEMS = {
    "md": "duckdb",
    "postgres": "postgresql",
    "redshift": "aws.redshift",
    "bigquery": "gcp.bigquery",
}
"""OpenTelemetry's names, where they are not the scheme of our URL."""

_PORTS = {"postgresql": "5432", "postgres": "5432", "redshift": "5439", "clickhouse": "9440"}


class DatasetName(NamedTuple):
    """A *name* within a *namespace*, which is that of the whole source."""

    namespace: str
    name: str


def system_of(url: str) -> str:
    """Name the kind of warehouse at *url*, as OpenTelemetry's ``db.system.name`` does."""
    scheme = _scheme(url).partition("+")[0]
    return _SYSTEMS.get(scheme, scheme)


def table_name(url: str, table: Table) -> DatasetName:
    """Name a table of the warehouse at *url*."""
    scheme, address = _scheme(url), _Address.of(url)
    if scheme in {"delta", "delta+s3"}:
        return _in_lake(url, table)
    database = address.path
    match scheme:
        case "duckdb":
            path = str(Path(duckdb_path(url.removeprefix("dlt+")) or "").absolute())
            namespace, database = f"duckdb://{path}", duckdb_catalog(path)
        case "md":
            database = url.removeprefix("md:").partition("?")[0]
            namespace = f"duckdb://md:{database}"
        case "postgresql" | "postgres":
            namespace = f"postgres://{address.host}:{address.port}"
        case "redshift" | "clickhouse":
            namespace = f"{scheme}://{address.host}:{address.port}"
        case "snowflake":
            namespace = f"snowflake://{address.host}"
        case "bigquery":
            namespace, database = "bigquery", address.host
        case "databricks":
            namespace, database = f"databricks://{address.host}", address.options.get("catalog", "")
        case _:  # A catalog of Iceberg, which knows where its tables are.
            namespace, database = f"{scheme}://{address.place}", ""
    return DatasetName(namespace, f"{database}.{table.full_name}".removeprefix("."))


def _in_lake(url: str, table: Table) -> DatasetName:
    """Name a table of Delta by the folder of its files."""
    scheme, _, rest = url.partition("://")
    if scheme == "delta":
        namespace, folder = "file", str(Path(rest.removeprefix("/")).absolute())
    else:
        bucket, _, prefix = rest.strip("/").partition("/")
        namespace, folder = f"s3://{bucket}", prefix
    parts = [folder] if folder else []
    return DatasetName(namespace, "/".join([*parts, table.schema, table.name]))


def source_name(account: AccountSettings, table: Table, catalog: Catalog) -> DatasetName:
    """
    Name the source of *table*: an endpoint of the API, by account, or the place of the export.

    A table inside the records of another has the source of that one.
    """
    if isinstance(table.read, Inside):
        parents = [each for each in catalog.every if each.name == table.read.parent]
        return source_name(account, parents[0], catalog)
    if isinstance(table.read, Feed):
        return _feed_name(account.feed)
    api = urlsplit(account.api_url)
    port = f":{api.port}" if api.port else ""
    return DatasetName(
        f"{api.scheme}://{api.hostname}{port}", f"{account.account_id}/{table.read.endpoint}"
    )


def _feed_name(feed: FeedSettings | None) -> DatasetName:
    if feed is None:  # Then the table is not read.
        return DatasetName("file", "")
    url = naming_a_folder(feed).url
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return DatasetName(f"s3://{bucket}", prefix.strip("/") or "/")
    path = unquote(urlsplit(url).path) if url.startswith("file://") else url
    return DatasetName("file", str(Path(path).expanduser().absolute()))


def _scheme(url: str) -> str:
    return scheme_of(url).removeprefix("dlt+")


class _Address(NamedTuple):
    """The parts of a URL that say where a warehouse is."""

    host: str
    port: str
    path: str
    options: dict[str, str]

    @property
    def place(self) -> str:
        """Host, port and path, without those that are not there."""
        port = f":{self.port}" if self.port else ""
        return f"{self.host}{port}/{self.path}".strip("/") or "localhost"

    @classmethod
    def of(cls, url: str) -> _Address:
        """
        Take *url* apart as libpq does: it may name several hosts, the first of which counts.

        All up to the last ``@`` is dropped, since a password may hold any character.
        """
        scheme, rest = _scheme(url), url.partition("://")[2]
        place, _, query = rest.rpartition("@")[2].partition("?")
        hosts, _, path = place.partition("/")
        options = dict(parse_qsl(query))
        first = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d+))?", hosts.partition(",")[0])
        host, port = (first[1], first[2]) if first else ("", None)
        return cls(
            unquote(host) or options.get("host", "") or "localhost",
            port or options.get("port", "") or _PORTS.get(scheme, ""),
            unquote(path).strip("/") or options.get("dbname", ""),
            options,
        )
