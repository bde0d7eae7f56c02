"""Batches of records for a warehouse, without Ometria: through the real mapping, by hand."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ometria_replica.batch import Batch, DeleteDetection, FileLogEntry, Lease, Owner
from ometria_replica.batching import parts_inside
from ometria_replica.catalog import CATALOG
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import Staging
from ometria_replica.records import FeedObject
from ometria_replica.warehouse import open_warehouse
from tests.duck import read
from tests.unit.staged import page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ometria_replica.batch import Loaded, TableState
    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.duck import Row
    from tests.places import Place

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_lease(source_id: str = "uk", run_id: str = "a-run", until: datetime = NOON + HOUR) -> Lease:
    """Give a lease of this process."""
    return Lease.of_this_process(source_id, run_id, until)


def somebody_elses(lease: Lease) -> Lease:
    """Give the same lease as it would be of another machine's process."""
    return Lease(lease.source_id, "another-run", "elsewhere", os.getpid(), lease.expires_at)


@contextmanager
def opened(
    place: Place,
    *sources: str,
    dry_run: bool = False,
    catalog: Catalog = CATALOG,
    history: Sequence[str] = (),
) -> Iterator[Warehouse]:
    """Open the warehouse for *sources*, "uk" if none is named, with the *history* of tables."""
    with open_warehouse(place.url, catalog=catalog, dry_run=dry_run) as warehouse:
        for source_id in sources or ("uk",):
            owner = Owner(f"account of {source_id}", source_id, history=frozenset(history))
            warehouse.prepare(owner, NOON)
        yield warehouse


@dataclass(frozen=True)
class Load:
    """
    What a batch brings: JSON *records*, of a *file* if one is named, and what comes true.

    *whole* says that it is all there is of the source, so that the rest is missing. *inside* are
    tables of which rows are inside the records.
    """

    table: Table
    records: Sequence[str]
    source_id: str = "uk"
    at: datetime = NOON
    file: tuple[str, datetime] | None = None
    watermark: datetime | None = None
    whole: DeleteDetection | None = None
    lease: Lease | None = None
    retry: Mapping[str, datetime] | None = None
    refreshed: Mapping[str, datetime] = field(default_factory=dict)
    inside: tuple[Table, ...] = ()

    def into(self, warehouse: Warehouse) -> Loaded:
        """Load it."""
        return warehouse.load(self.staged(warehouse))

    def staged(self, warehouse: Warehouse) -> Batch:
        """Stage it, and give the batch to load."""
        account_id = f"account of {self.source_id}"
        with translating("staging"):
            staging = Staging(
                warehouse.connection, self.table, account_id, self.source_id, self.inside
            )
            staging.add_pages([page(*self.records)], self.at)
            staging.finish()
            if self.whole:
                staging.collect_keys(afresh=True)
        return Batch(
            table=self.table,
            source_id=self.source_id,
            run_id="a-run",
            synced_at=self.at,
            watermark=self.watermark,
            full_read_at=self.at if self.whole else None,
            files=self._entries(),
            deletes=self.whole,
            lease=self.lease,
            is_full=self.whole is not None,
            retry=self.retry,
            refreshed=self.refreshed,
            parts=parts_inside(staging),
        )

    def _entries(self) -> tuple[FileLogEntry, ...]:
        if self.file is None:
            return ()
        name, modified_at = self.file
        etag = f"{name} of {modified_at.isoformat()}"
        file = FeedObject(name, etag, len(self.records), modified_at)
        return (FileLogEntry(file, self.at, len(self.records)),)


def rows(
    place: Place, table: str, source_id: str | None = None, schema: str = "ometria"
) -> list[Row]:
    """Read a table of *schema* as it lies there, ordered by key; of one source, if it is named."""
    with place.looking() as connection:
        found = read(connection, f"{schema}.{table}", "__sync_key")
    return [row for row in found if source_id in (None, row["__source_id"])]


def state(place: Place, table: str) -> list[Row]:
    """Read a state table as it lies there."""
    with place.looking() as connection:
        return read(connection, f"ometria_replica.{table}", "ALL")


def table_state_of(place: Place, table: str, source_id: str = "uk") -> TableState:
    """Ask a warehouse that was opened anew what it knows."""
    with open_warehouse(place.url, dry_run=True) as warehouse:
        return warehouse.state.table_state(source_id, table)


def columns_of(place: Place, table: str) -> list[tuple[str, str]]:
    """Give the names and DuckDB's types of the columns, in order."""
    with place.looking() as connection:
        described: list[Any] = connection.execute(f"DESCRIBE ometria.{table}").fetchall()
    return [(str(name), str(kind)) for name, kind, *_ in described]
