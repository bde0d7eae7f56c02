"""Opens what a read of one table needs: the account's source, a DuckDB to stage in, a folder."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ometria_replica.local_duckdb import open_duckdb
from ometria_replica.mapping import Staging
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.retention import retained
from ometria_replica.temp_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenTable:
    """
    A *table* of *account*, as its settings have it, that is read at the time *now*.

    Its records come from *source*, and are staged in *connection*. *folder* is for downloaded
    files. The source and the connection are closed, and the folder removed, after the read.
    """

    account: AccountSettings
    table: Table
    source: AccountSource
    connection: duckdb.DuckDBPyConnection
    now: datetime
    folder: Path

    def staging(self) -> Staging:
        """Begin a batch."""
        account = self.account
        return Staging(self.connection, self.table, account.account_id, account.source_id)

    def finish(self, staging: Staging) -> None:
        """Finish a batch: each key is in it once. Log how many rows and rejects it has."""
        staged = staging.finish()
        logger.info("%s: %d rows", self.table.name, staged.rows)
        if rejected := staged.records_rejected + staged.values_rejected:
            logger.warning("%s: %d records or values were rejected", self.table.name, rejected)


@contextmanager
def open_table(
    account: AccountSettings, table: Table, catalog: Catalog, limits: Limits
) -> Iterator[OpenTable]:
    """Open *table* of *catalog* for a read; log the warnings of its source after the read."""
    now = datetime.now(UTC)
    specified = retained(catalog.every.as_set(account).table(table.name), account, now)
    with (
        temp_folder(limits.temp_directory) as folder,
        open_duckdb(folder / "spilled", limits) as connection,
        AccountSource(account, now, catalog) as source,
    ):
        yield OpenTable(account, specified, source, connection, now, folder)
        for warning in source.warnings:
            logger.warning("%s: %s", table.name, warning)
