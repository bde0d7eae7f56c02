"""DuckDB, the default warehouse: a file, attached to the DuckDB that maps the records."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ometria_replica.local_duckdb import open_staging
from ometria_replica.warehouse import duckdb_path
from ometria_replica.warehouse.engines.duckdb import WAIT_SECONDS, DuckDBEngine
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def open_url(url: str, *, dry_run: bool = False) -> DuckDBWarehouse:
    """Open ``duckdb:///FILE``."""
    return DuckDBWarehouse(duckdb_path(url) or "", dry_run=dry_run)


class DuckDBWarehouse(Warehouse):
    """
    The file at *path*, made if it is not there.

    With *dry_run* it is opened to read only, or not made at all. Another program's lock
    on it is waited for *wait_seconds*.
    """

    def __init__(
        self, path: str, *, dry_run: bool = False, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        closing = ExitStack()
        staging = open_staging(closing)
        self._file = DuckDBEngine(staging, path, read_only=dry_run, wait_seconds=wait_seconds)
        super().__init__(staging, self._file, closing, dry_run=dry_run)

    def guarded(self, doing: str) -> AbstractContextManager[None]:
        """See the protocol. The staging is in the connection of the file."""
        return self._file.translating(doing)
