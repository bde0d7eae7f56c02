"""Opens the warehouse that a URL names."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ometria_replica.catalog import CATALOG
from ometria_replica.config import NO_LIMITS
from ometria_replica.errors import ConfigError
from ometria_replica.local_duckdb import open_staging
from ometria_replica.permissions import CLOSED_UMASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duckdb import DuckDBPyConnection

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Limits
    from ometria_replica.warehouse.engines.base import Engine
    from ometria_replica.warehouse.warehouse import Warehouse

__all__ = [
    "SCHEMES",
    "duckdb_catalog",
    "duckdb_path",
    "file_name_warning",
    "local_places",
    "open_warehouse",
]


def open_warehouse(
    url: str,
    *,
    catalog: Catalog = CATALOG,
    dry_run: bool = False,
    storage_version: str | None = None,
    limits: Limits = NO_LIMITS,
) -> Warehouse:
    """
    Open the warehouse at *url*; with *dry_run*, one that compares and counts but never writes.

    A DuckDB file that does not exist is created in *storage_version*; None means the default.
    *limits* are those of each DuckDB that this opens.

    Raises ConfigError for a URL that names no warehouse, and for one whose packages are not
    installed or cannot be loaded.
    """
    from ometria_replica.warehouse.warehouse import Warehouse  # noqa: PLC0415 -- only to open one.

    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise ConfigError(
            f"warehouse.url: '{scheme}://' is not a known kind of warehouse."
            f" Use one of {', '.join(SCHEMES)}, or the path of a .duckdb file."
        )
    module = imported(scheme)
    with ExitStack() as opening:
        connection = open_staging(opening, limits)
        for place in local_places(url):
            opening.enter_context(CLOSED_UMASK.held(place))
        options = {"storage_version": storage_version} if scheme == "duckdb" else {}
        engine = _engine(module, url, connection, limits, dry_run=dry_run, **options)
        return Warehouse(connection, engine, catalog, opening.pop_all(), dry_run=dry_run)


def sees_marts(url: str) -> bool:
    """Whether the warehouse at *url* is SQL of this program, which then reaches the marts too."""
    return scheme_of(url) in {"duckdb", "md", "postgresql", "postgres"}


def local_places(url: str) -> list[Path]:
    """List the files and folders of a URL in which libraries make files as they like."""
    kind, _, rest = url.partition("://")
    path, _, query = rest.removeprefix("/").partition("?")
    match kind:
        case "dlt+duckdb" | "delta":
            return [Path(path)]
        case "iceberg+sqlite":
            folder = dict(parse_qsl(query)).get("warehouse", "").removeprefix("file://")
            return [Path(path), Path(folder or path)]
    return []


def _engine(
    module: Any,
    url: str,
    connection: DuckDBPyConnection,
    limits: Limits,
    *,
    dry_run: bool,
    **options: str | None,
) -> Engine:
    """Open an engine that merges itself, or the local merge for a remote that cannot."""
    if hasattr(module, "open_engine"):
        engine: Engine = module.open_engine(url, connection, dry_run=dry_run, **options)
        return engine
    from ometria_replica.warehouse.local_merge.engine import local_merge  # noqa: PLC0415 -- for remotes.

    if hasattr(module, "open_remote"):
        return local_merge(connection, module.open_remote(url, connection))
    from ometria_replica.warehouse.remotes.dlt_remote import open_destination  # noqa: PLC0415

    destination = open_destination(module.DESTINATION, url, limits, dry_run=dry_run)
    return local_merge(connection, destination)


def imported(scheme: str) -> Any:
    """Import the module of a scheme. Raises ConfigError if its packages are not installed."""
    known = SCHEMES[scheme]
    try:
        return import_module(f"ometria_replica.warehouse.{known.module}")
    except ImportError as error:
        if not known.extra or str(error.name).startswith("ometria_replica"):
            raise
        raise ConfigError(_lacking(scheme, known.extra, error)) from error


def _lacking(scheme: str, extra: str, error: ImportError) -> str:
    """Say what to install: packages, or a library that an installed package needs."""
    if isinstance(error, ModuleNotFoundError):
        needs, install = "needs more packages:", "pip install"
    else:
        needs = f"needs a package that is installed, but does not load: {error}."
        install = "Install the library that it lacks, or newer packages: pip install --upgrade"
    return f"warehouse.url: {scheme}:// {needs} {install} 'ometria-replica[{extra}]'."


@dataclass(frozen=True)
class Scheme:
    """The *module* that opens a kind of URL, and the *extra* that it needs."""

    module: str
    extra: str = ""


def _dlt_destinations(*ours: str) -> dict[str, Scheme]:
    """
    List the warehouses that dlt loads: one for each file in ``remotes/dlt_destinations``.

    The file's name is a scheme, and with ``dlt+`` before it another. The warehouses that are
    *ours* to write without dlt have only the longer scheme.
    """
    found: dict[str, Scheme] = {}
    folder = Path(__file__).parent / "remotes" / "dlt_destinations"
    for name in sorted(path.stem for path in folder.glob("*.py")):
        if name in ours:
            found[f"dlt+{name}"] = Scheme(f"remotes.dlt_destinations.{name}", f"dlt-{name}")
        elif name != "__init__":
            found[name] = found[f"dlt+{name}"] = Scheme(f"remotes.dlt_destinations.{name}", name)
    return found


SCHEMES: Mapping[str, Scheme] = {
    "duckdb": Scheme("engines.duckdb"),
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
    **_dlt_destinations("duckdb", "postgresql"),
}
"""
The kinds of warehouse, by the scheme of their URL.

Each module has ``open_engine``, ``open_remote`` or a ``DESTINATION`` of dlt's.
"""


_LAKES = ("delta", "iceberg")


def is_lake(url: str) -> bool:
    """Return whether *url* names a warehouse that is files of a table format."""
    scheme = scheme_of(url)
    return scheme.partition("+")[0] in _LAKES and scheme in SCHEMES


def scheme_of(url: str) -> str:
    """Read the scheme; a bare path names a DuckDB file, and MotherDuck's URL has no slashes."""
    scheme, separator, _ = url.partition(":" if url.startswith("md:") else "://")
    return scheme if separator else "duckdb"
