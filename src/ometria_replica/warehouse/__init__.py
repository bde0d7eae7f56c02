"""Opens the warehouse that a URL names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ometria_replica.errors import ConfigError
from ometria_replica.warehouse.state_tables import STATE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.catalog import Catalog
    from ometria_replica.warehouse.warehouse import Warehouse

__all__ = ["SCHEMES", "duckdb_catalog", "duckdb_path", "file_name_warning", "open_warehouse"]


def open_warehouse(url: str, *, dry_run: bool = False) -> Warehouse:
    """
    Open the warehouse at *url*; with *dry_run*, one that counts but never writes.

    Raises ConfigError for an address that no warehouse of ours answers to, and for one
    whose packages are not installed, or do not load.
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise ConfigError(
            f"warehouse.url: no warehouse speaks '{scheme}://'."
            f" There are {', '.join(SCHEMES)}, or the path of a .duckdb file."
        )
    module = _imported(scheme, SCHEMES[scheme])
    opened: Warehouse = module.open_url(url, dry_run=dry_run)
    return opened


def _imported(scheme: str, known: Scheme) -> Any:
    try:
        return import_module(f"ometria_replica.warehouse.{known.module}")
    except ImportError as error:
        if not known.extra or str(error.name).startswith("ometria_replica"):
            raise
        raise ConfigError(_lacking(scheme, known.extra, error)) from error


def _lacking(scheme: str, extra: str, error: ImportError) -> str:
    """Say what to install: packages, or what one that is there asks of the machine."""
    if isinstance(error, ModuleNotFoundError):
        needs, install = "needs more packages:", "pip install"
    else:
        needs = f"needs what is installed, but does not load: {error}."
        install = "Install the library that it lacks, or newer packages: pip install --upgrade"
    return f"warehouse.url: {scheme}:// {needs} {install} 'ometria-replica[{extra}]'."


@dataclass(frozen=True)
class Scheme:
    """Where a kind of URL leads: a *module* of this folder, and the *extra* that it needs."""

    module: str
    extra: str = ""


def _bridged(*ours: str) -> dict[str, Scheme]:
    """
    Find what dlt takes rows to: what there are files for in ``destinations``.

    Each file's name is a scheme, and with ``dlt+`` before it another; the warehouses that
    are *ours* to write to without dlt have the longer one alone.
    """
    found: dict[str, Scheme] = {}
    for name in sorted(
        path.stem for path in (Path(__file__).parent / "remotes" / "dlt_destinations").glob("*.py")
    ):
        if name in ours:
            found[f"dlt+{name}"] = Scheme(f"remotes.dlt_destinations.{name}", f"dlt-{name}")
        elif name != "__init__":
            found[name] = found[f"dlt+{name}"] = Scheme(f"remotes.dlt_destinations.{name}", name)
    return found


SCHEMES: Mapping[str, Scheme] = {
    "duckdb": Scheme("duckdb"),
    "md": Scheme("engines.motherduck"),
    "postgresql": Scheme("engines.postgres", "postgres"),
    "postgres": Scheme("engines.postgres", "postgres"),
    "delta": Scheme("remotes.delta", "delta"),
    "delta+s3": Scheme("remotes.delta", "delta"),
    "iceberg": Scheme("remotes.iceberg", "iceberg"),
    "iceberg+sqlite": Scheme("remotes.iceberg", "iceberg"),
    "iceberg+postgresql": Scheme("remotes.iceberg", "iceberg"),
    "iceberg+http": Scheme("remotes.iceberg", "iceberg"),
    "iceberg+https": Scheme("remotes.iceberg", "iceberg"),
    **_bridged("duckdb", "postgresql"),
}
"""The warehouses, by the scheme of their URL. Each module has a function ``open_url``."""


def scheme_of(url: str) -> str:
    """Read the scheme; a bare path is that of a DuckDB file, and MotherDuck has no slashes."""
    scheme, separator, _ = url.partition(":" if url.startswith("md:") else "://")
    return scheme if separator else "duckdb"


def duckdb_path(url: str) -> str | None:
    """Read the file out of ``duckdb:///warehouse.duckdb`` or a bare path; None if it is neither."""
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
