"""Everything that writes, and nothing else does: the Warehouse protocol and who speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedObject
    from ometria_replica.warehouse.state import Batch, Loaded, Run

__all__ = ["Warehouse", "open_warehouse"]


class Warehouse(Protocol):
    """
    Where the five tables live.

    *staging* is the DuckDB in which records are mapped, whatever the warehouse.
    Errors of the driver leave as :class:`~ometria_replica.errors.WarehouseError`,
    with the batch rolled back.
    """

    staging: DuckDBPyConnection

    def prepare(self, account_id: str, source_id: str, now: datetime) -> None:
        """
        Make what is missing, and note which source the account is.

        Raises ConfigError when the account was loaded under another source id, and
        WarehouseError when a table is there with other columns than ours.
        """

    def accounts(self) -> list[tuple[str, str]]:
        """List the accounts that were loaded here: account id and source id."""

    def watermark(self, source_id: str, table_name: str) -> datetime | None:
        """Tell up to when a table has been read; None if it never was."""

    def unseen(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """Keep the files of which this version is not in the ledger, oldest first."""

    def last_loaded_at(self, source_id: str) -> datetime | None:
        """Tell the newest ``loaded_at`` in the ledger, since each file's must be its own."""

    def row_count(self, source_id: str, table_name: str) -> int:
        """Count the rows that a source has in a table; 0 if there is no table yet."""

    def load(self, batch: Batch) -> Loaded:
        """Merge a batch and move its state, in one transaction."""

    def record_run(self, run: Run) -> None:
        """Add a run to the history, or replace it."""

    def runs(self, limit: int) -> list[Run]:
        """Read the newest runs, newest first."""

    def close(self) -> None:
        """Let go of connections and locks. Safe to call twice."""

    def __enter__(self) -> Self:
        """Use as a context manager."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""


def open_warehouse(url: str, *, dry_run: bool = False) -> Warehouse:
    """
    Open the warehouse at *url*; with *dry_run*, one that counts but never writes.

    Raises ConfigError for an address that no warehouse of ours answers to.
    """
    path = duckdb_path(url)
    if path is not None:
        from ometria_replica.warehouse.duckdb import DuckDBWarehouse  # noqa: PLC0415 -- 130 ms.

        return DuckDBWarehouse(path, dry_run=dry_run)
    scheme = url.partition("://")[0]
    raise ConfigError(
        f"warehouse.url: no warehouse speaks '{scheme}://'."
        " Write duckdb:///FILE, or the path of a .duckdb file."
    )


def duckdb_path(url: str) -> str | None:
    """Read the file out of ``duckdb:///ometria.duckdb`` or a bare path; None if it is neither."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme != "duckdb":
        return None
    return rest.removeprefix("/")
