"""Where models are built: the configured warehouse, or a DuckDB file beside a lake."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ometria_replica.config import masked
from ometria_replica.duckdb_files import duckdb_catalog, duckdb_path
from ometria_replica.errors import ConfigError
from ometria_replica.schema import (
    DATA_SCHEMA,
    HISTORY_SCHEMA,
    MARTS_SCHEMA,
    RAW_SCHEMA,
    STATE_SCHEMA,
)
from ometria_replica.warehouse import SCHEMES, is_lake, scheme_of

LAKE = "lake"
"""The catalog in which DuckDB sees the tables of a lake."""

_SCHEMAS = (DATA_SCHEMA, HISTORY_SCHEMA, MARTS_SCHEMA, RAW_SCHEMA, STATE_SCHEMA)
_POSTGRES = ("postgresql", "postgres")
_ADAPTERS = {
    "bigquery": "dbt-bigquery",
    "databricks": "dbt-databricks",
    "redshift": "dbt-redshift",
    "snowflake": "dbt-snowflake",
}
_EXTRAS = {"duckdb": "models", "postgres": "models-postgres"}


@dataclass(frozen=True)
class Place:
    """
    Where models are built.

    *kind* is dbt's name of the warehouse. *url* is that of the database in which they are built,
    and *file* its path if it is a DuckDB file. *lake* is the URL of the tables, if these are
    elsewhere. *own_profile* says that a profile of the user names the database.
    """

    kind: str
    url: str
    file: str | None = None
    lake: str | None = None
    own_profile: bool = False

    @property
    def name(self) -> str:
        """The name in messages, without a password."""
        return masked(self.url)

    @property
    def lake_name(self) -> str | None:
        """The name of the lake in messages; None if the tables are not in one."""
        return masked(self.lake) if self.lake else None

    @property
    def is_locked_by_runs(self) -> bool:
        """Whether a run that writes the tables keeps models from being built, and the reverse."""
        return self.file is not None and self.lake is None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables with which the package finds the tables, beside their names."""
        return {"ometria_database": LAKE} if self.lake else {}

    def refuse_without_adapter(self) -> None:
        """Raise ConfigError unless dbt and its adapter for the database are installed."""
        adapter = ("dbt.cli", f"dbt.adapters.{self.kind}")
        missing = [name for name in adapter[: 1 if self.own_profile else 2] if not _is_there(name)]
        if missing:
            extra = _EXTRAS.get(self.kind, "models")
            raise ConfigError(f"Models need more packages: pip install 'ometria-replica[{extra}]'.")


def place_of(url: str, into: str | None, *, own_profile: bool = False) -> Place:
    """
    Find where the models of the warehouse at *url* are built: in itself, or *into* a DuckDB file.

    With *own_profile*, a profile of the user says where. Raises ConfigError for a warehouse that
    needs one, for ClickHouse, for a lake without a file, and for a file that a warehouse does not
    need.
    """
    scheme, native = scheme_of(url), url.removeprefix("dlt+")
    if scheme == "clickhouse":
        raise ConfigError(
            f"warehouse.url: models cannot be built in {masked(url)}. ClickHouse has no schemas, so"
            " its tables are named ometria___profiles, which the dbt package does not look for."
            " Query the tables themselves, or sync into another warehouse too."
        )
    if own_profile:
        if into is not None:
            raise ConfigError("--into has no effect with --profiles-dir. Leave out one of them.")
        return Place("", url, file=duckdb_path(native), own_profile=True)
    if is_lake(url):
        return _beside_lake(url, into)
    if into is not None:
        raise ConfigError(
            f"--into is for lakes. The models of {masked(url)} are built in it. Leave --into out."
        )
    if (path := duckdb_path(native)) is not None:
        return Place("duckdb", url, file=_named_apart(path))
    if scheme_of(native) in _POSTGRES:
        return Place("postgres", native)
    raise ConfigError(_needs_own_profile(scheme))


def installed_place() -> Place:
    """Return a place for the adapter that is installed. Raises ConfigError if none is."""
    places = (Place("duckdb", ":memory:", file=":memory:"), Place("postgres", ""))
    found = next((each for each in places if _is_there(f"dbt.adapters.{each.kind}")), places[0])
    found.refuse_without_adapter()
    return found


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # A package that it is in.
        return False


def _beside_lake(url: str, into: str | None) -> Place:
    if into is None:
        raise ConfigError(
            f"dbt cannot write models into {masked(url)}: it reads a lake through DuckDB, which"
            " writes none. Name a DuckDB file for them:"
            " ometria-replica models build --into marts.duckdb"
        )
    path = duckdb_path(into)
    if path is None:
        raise ConfigError(f"--into names a DuckDB file, such as marts.duckdb, and not {into}.")
    return Place("duckdb", path, file=_named_apart(path), lake=url)


def _named_apart(path: str) -> str:
    """Refuse a file that has the name of a schema in it: DuckDB could not tell these apart."""
    catalog = duckdb_catalog(path).lower()
    if catalog in _SCHEMAS:
        raise ConfigError(
            f"{path}: DuckDB names the catalog after the file, so {catalog}.TABLE is ambiguous in"
            " the views of the models. Rename the file, for example to warehouse.duckdb, and"
            " change warehouse.url. The state is in the file, so nothing is lost."
        )
    return str(Path(path).absolute())


def _needs_own_profile(scheme: str) -> str:
    if scheme not in SCHEMES:
        return (
            f"warehouse.url: '{scheme}://' is not a known kind of warehouse."
            f" Use one of {', '.join(SCHEMES)}, or the path of a .duckdb file."
        )
    adapter = _ADAPTERS.get(scheme.removeprefix("dlt+"), "the adapter of dbt for it")
    return (
        f"warehouse.url: this command makes no profile of dbt for {scheme}:// warehouses, which"
        f" have many ways to sign in. Run pip install {adapter}, write a profile named 'ometria',"
        " and run ometria-replica models build --profiles-dir FOLDER."
        " docs/how-to/models.md shows one."
    )
