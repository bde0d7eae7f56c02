"""The maintenance of a warehouse: small files are written together, old versions removed."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_replica.batch import Lease
from ometria_replica.catalog import CATALOG
from ometria_replica.config import masked
from ometria_replica.errors import ConfigError
from ometria_replica.maintenance_report import Maintenance
from ometria_replica.replication import LEASE, utc_now
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.state_tables import STATE_TABLES
from ometria_replica.warehouse.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import WarehouseSettings
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.warehouse import Warehouse

FLOOR = timedelta(days=1)
"""A shorter retention could remove what a query of today still reads."""


def maintain(
    settings: WarehouseSettings,
    names: Sequence[str] = (),
    *,
    retention: timedelta | None = None,
    optimize: bool = True,
    dry_run: bool = False,
    force: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Maintenance:
    """
    Maintain the tables *names* of a warehouse with their histories and records; by default all,
    with the state.

    No account can be synced meanwhile. Readers of versions that were replaced longer than
    *retention* ago fail; None means a week, or what the properties of a table say if that is
    longer.

    Raises ConfigError for an unknown name, for a warehouse that no account was synced to, for a
    retention that is not of whole hours, and without *force* for one below FLOOR; Busy while a run
    is active.
    """
    _refuse(retention, force=force)
    upkeep = Upkeep(retention, optimize, dry_run)
    tables = _tables(catalog.every, names)
    place = masked(settings.url)
    with open_warehouse(
        settings.url, catalog=catalog, dry_run=dry_run, limits=settings.limits
    ) as warehouse:
        if reason := warehouse.maintains_itself():
            return Maintenance(place, dry_run, retention, (), reason)
        sources = [owner.source_id for owner in warehouse.state.owners()]
        if not sources:
            raise ConfigError(
                f"{place} holds no account. Check warehouse.url, or run `ometria-replica sync`"
                " first."
            )
        done = []
        with _alone(warehouse, sources, clock) as renew:
            for table in tables:
                renew()
                if (found := warehouse.maintain(table, upkeep)) is not None:
                    done.append(found)
    return Maintenance(place, dry_run, retention, tuple(done))


def _refuse(retention: timedelta | None, *, force: bool) -> None:
    """Raise ConfigError for a retention that formats cannot keep, or that breaks readers."""
    if retention is None:
        return
    if retention < timedelta() or retention % timedelta(hours=1):
        raise ConfigError(
            f"--retention: {retention} is not a number of whole hours, such as 36h or 7d. Nothing"
            " was changed."
        )
    if retention < FLOOR and not force:
        raise ConfigError(
            "--retention: less than a day may remove files that a query is reading, and ends time"
            " travel. To do it all the same, add --force, or in Python force=True. Nothing was"
            " changed."
        )


def _tables(catalog: Catalog, names: Sequence[str]) -> list[Table | StateTable]:
    chosen = catalog.only(names)
    return [*chosen.stored, *chosen.records, *(() if names else STATE_TABLES)]


@contextmanager
def _alone(
    warehouse: Warehouse, sources: Sequence[str], clock: Callable[[], datetime]
) -> Iterator[Callable[[], None]]:
    """Hold the leases of all sources, and yield what renews them; in a dry run do nothing."""

    def leases() -> list[Lease]:
        until = clock() + LEASE
        name = f"by hand {os.getpid()}"
        return [Lease.of_this_process(source_id, name, until) for source_id in sources]

    def renew() -> None:
        if not warehouse.sessions.dry_run:
            with warehouse.sessions.writing("renewing the lease"):
                for lease in leases():
                    warehouse.leases.renew(lease)

    with ExitStack() as held:
        if not warehouse.sessions.dry_run:
            for lease in leases():
                warehouse.leases.acquire(lease, clock())
                held.callback(warehouse.leases.release, lease)
        yield renew
