"""A user's query in the warehouse that a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.duckdb_files import duckdb_path
from ometria_replica.errors import ConfigError
from ometria_replica.warehouse import SCHEMES, imported, is_lake, scheme_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ometria_replica.config import Limits
    from ometria_replica.warehouse.queries.answer import Answer

_POSTGRES = ("postgresql", "postgres")


def can_ask(url: str) -> bool:
    """Return whether this program can query the warehouse at *url*."""
    native = url.removeprefix("dlt+")
    return duckdb_path(native) is not None or scheme_of(native) in _POSTGRES or is_lake(url)


def ask(url: str, text: str, limits: Limits) -> AbstractContextManager[Answer]:
    """
    Run the query *text*, which can only read, in the warehouse at *url*.

    Raises ConfigError for a warehouse that this program cannot query, and for a text that is not
    one statement that reads; QueryError if the warehouse refuses it.
    """
    scheme = scheme_of(url)
    native = url.removeprefix("dlt+")
    if (path := duckdb_path(native)) is not None:
        from ometria_replica.warehouse.queries.duckdb import ask_file  # noqa: PLC0415 -- one of them.

        return ask_file(path, text, limits)
    if scheme_of(native) in _POSTGRES:
        imported("postgresql")  # Raises if packages are missing.
        from ometria_replica.warehouse.queries.postgres import ask_postgres  # noqa: PLC0415

        return ask_postgres(native, text)
    if is_lake(url):
        from ometria_replica.warehouse.queries.lake import ask_lake  # noqa: PLC0415

        return ask_lake(imported(scheme), url, text, limits)
    if scheme in SCHEMES:
        raise ConfigError(
            f"warehouse.url: this command does not query {scheme}:// warehouses."
            " Use the console or the command line of that warehouse."
        )
    raise ConfigError(
        f"warehouse.url: '{scheme}://' is not a known kind of warehouse."
        f" Use one of {', '.join(SCHEMES)}, or the path of a .duckdb file."
    )
