"""MotherDuck: DuckDB with another attachment, which many programs may write at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb

from ometria_replica.config import masked
from ometria_replica.errors import Busy, ConfigError, Unreachable, WarehouseError
from ometria_replica.local_duckdb import lack
from ometria_replica.sql import literal
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def open_engine(
    url: str,
    connection: DuckDBPyConnection,
    *,
    dry_run: bool = False,  # noqa: ARG001 -- A dry run writes nothing; there is no file to create.
) -> DuckDBEngine:
    """
    Open ``md:database``; the token is in ``MOTHERDUCK_TOKEN``, or in ``?motherduck_token=``.

    Raises ConfigError for a name that no database can have.
    """
    return DuckDBEngine(connection, MotherDuckAttachment(url))


class MotherDuckAttachment:
    """
    The database of *url*, attached as long as the warehouse is open.

    There is no file to lock, so two runs could take a lease at the same moment.
    """

    locks = False

    def __init__(self, url: str) -> None:
        self.place = masked(url)
        self._url = url
        name = re.fullmatch(r"md:([A-Za-z_][A-Za-z0-9_]*)(\?.*)?", url)
        if not name:
            raise ConfigError(
                "warehouse.url: write md:DATABASE, with a name of letters, digits and _."
            )
        self.catalog = name[1]

    def attach(self, connection: DuckDBPyConnection) -> None:
        """Install the one extension that DuckDB has to download, and attach the database."""
        connection.execute("INSTALL motherduck")
        connection.execute("LOAD motherduck")
        connection.execute(f"ATTACH {literal(self._url)}")

    def detach(self, connection: DuckDBPyConnection) -> bool:  # noqa: ARG002 -- of the protocol.
        """Stay attached: no other program waits for it."""
        return False

    def merge_row_groups(self, connection: DuckDBPyConnection, *, now: bool) -> None:
        """Do nothing: the service does it."""

    def check_access(self) -> None:
        """Only a write would tell."""

    def forget_deleted(self, connection: DuckDBPyConnection) -> str:  # noqa: ARG002 -- of the protocol.
        """Say what MotherDuck keeps: https://motherduck.com/docs/concepts/storage-lifecycle."""
        return (
            f"{self.place} keeps deleted rows in snapshots, for the days of its"
            " SNAPSHOT_RETENTION_DAYS (by default 7 with the Business plan, 1 with Lite), in named"
            " snapshots, shares and clones until these are dropped, and then for 7 days in"
            " MotherDuck's failsafe storage, or 1 day if the database is transient."
        )

    def explained(self, error: duckdb.Error, doing: str) -> WarehouseError:
        """Explain an error of the service."""
        text = str(error)
        if explained := lack(error, doing):
            return explained
        if isinstance(error, duckdb.HTTPException) or "extension" in text:
            return Unreachable(
                f"{self.place} cannot be reached: DuckDB's extension for MotherDuck could not be"
                " downloaded or loaded. Check that this machine can reach it, then run again."
            )
        if isinstance(error, duckdb.TransactionException):
            return Busy(
                f"Another session changed tables of {self.place} while {doing}. The batch was"
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
