"""MotherDuck: DuckDB with another address, which many may write at once."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import duckdb

from ometria_replica.config import masked
from ometria_replica.errors import Busy, ConfigError, Unreachable, WarehouseError
from ometria_replica.local_duckdb import is_full, open_staging
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.sql import literal
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def open_url(url: str, *, dry_run: bool = False) -> Warehouse:
    """
    Open ``md:database``; the token is in ``MOTHERDUCK_TOKEN``, or behind ``?motherduck_token=``.

    Raises ConfigError for a name that no database has.
    """
    closing = ExitStack()
    staging = open_staging(closing)
    return Warehouse(staging, MotherDuck(staging, url), closing, dry_run=dry_run)


class MotherDuck(DuckDBEngine):
    """
    The database of *url*, attached to *connection* for as long as the warehouse is open.

    There is no file to lock: two runs could take a lease at the same moment, so it is a flag.
    """

    flags_leases = True

    def __init__(self, connection: DuckDBPyConnection, url: str) -> None:
        super().__init__(connection, masked(url))
        self._url = url
        name = re.fullmatch(r"md:([A-Za-z_][A-Za-z0-9_]*)(\?.*)?", url)
        if not name:
            raise ConfigError(
                "warehouse.url: write md:DATABASE, with a name of letters, digits and _."
            )
        self.catalog = name[1]

    def release(self) -> None:
        """See the base. Nobody waits for it."""

    def try_access(self) -> None:
        """See the base. Only a write would tell."""

    def _attach(self) -> None:
        # The one extension that is fetched, and only where it is asked for.
        self._connection.execute("INSTALL motherduck")
        self._connection.execute("LOAD motherduck")
        self._connection.execute(f"ATTACH {literal(self._url)}")
        self._attached = True

    def _explained(self, error: duckdb.Error, doing: str) -> WarehouseError:
        text = str(error)
        if is_full(error):
            return super()._explained(error, doing)
        if isinstance(error, duckdb.HTTPException) or "extension" in text:
            return Unreachable(
                f"{self.place} cannot be reached: DuckDB's extension for MotherDuck could not be"
                " fetched or loaded. Check that this machine has a way out, then run again."
            )
        if isinstance(error, duckdb.TransactionException):
            return Busy(
                f"Somebody else changed tables of {self.place} while {doing}. The batch was"
                " rolled back. Run again."
            )
        if "token" in text.lower() or "auth" in text.lower():
            return WarehouseError(
                f"MotherDuck refused the token for {self.place}. Nothing was changed."
                " Check MOTHERDUCK_TOKEN."
            )
        return WarehouseError(
            f"MotherDuck refused while {doing} in {self.place} ({type(error).__name__})."
            " The batch was rolled back. Run again; if it happens again, report it."
        )
