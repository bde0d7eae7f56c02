"""DuckDB files as warehouses: the path in a URL, and names that make trouble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.schema import STATE_SCHEMA

if TYPE_CHECKING:
    from ometria_replica.catalog import Catalog

STORAGE_VERSION = "v1.4.0"
"""The storage version of a new file: DuckDB of that version, and newer, can open it."""

STORAGE_VERSIONS = (STORAGE_VERSION, "v1.5.0", "v2.0.0", "latest")


def duckdb_path(url: str) -> str | None:
    """Read the file from ``duckdb:///warehouse.duckdb`` or a bare path; None for another URL."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme != "duckdb":
        return None
    return rest.removeprefix("/")


def duckdb_catalog(path: str) -> str:
    """Name the catalog that DuckDB makes of a file: its name up to the first dot."""
    return Path(path).name.lstrip(".").partition(".")[0]


def file_name_warning(url: str, catalog: Catalog) -> str | None:
    """Warn of a DuckDB file that has the name of a schema in it; None for any other warehouse."""
    path = duckdb_path(url.removeprefix("dlt+"))
    if path is None:
        return None
    schema = duckdb_catalog(path).lower()
    if schema not in {STATE_SCHEMA, *(table.schema for table in catalog)}:
        return None
    return (
        f"{path}: DuckDB names the catalog after the file, so {schema}.TABLE fails in it with"
        ' "Ambiguous reference to catalog or schema". Rename the file, for example to'
        " warehouse.duckdb, and change warehouse.url. The state is in the file, so nothing is"
        " lost."
    )
