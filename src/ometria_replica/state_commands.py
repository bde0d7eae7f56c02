"""Operations between two runs: show state and runs, rewind a table, list and replay rejects."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from ometria_replica.accounts import owner_of, source_ids
from ometria_replica.batch import Lease
from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import masked
from ometria_replica.errors import ConfigError
from ometria_replica.log_context import logging_for
from ometria_replica.run_checks import reachable, refuse_future
from ometria_replica.run_context import LEASE
from ometria_replica.selection import Selection
from ometria_replica.text import names_of
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import date

    from ometria_replica.batch import Owner, Reject, Run
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableStatus:
    """
    How far a table of a source was read, and what it holds.

    *read_until* None: no read of its API has ended yet, or the table is read from the feed.
    """

    source_id: str
    table: str
    rows: int
    read_until: datetime | None
    files: int
    unreadable: int
    rejects: int
    deleted_upstream: int


@dataclass(frozen=True)
class ReplicaState:
    """The state of all tables, and the *leases* that runs hold at the moment."""

    tables: tuple[TableStatus, ...]
    leases: tuple[Lease, ...]


def read_state(
    config: Config, accounts: Sequence[str] = (), *, catalog: Catalog = CATALOG
) -> ReplicaState:
    """
    Read the state of each table of each source in the warehouse, or of the named *accounts*.

    These, here and below, may be in the warehouse or only in the settings. Raises ConfigError
    for a name that is in neither.
    """
    catalog = catalog.of(config.accounts)
    with opened(config, catalog, dry_run=True) as warehouse:
        chosen = chosen_sources(warehouse, config, accounts)
        sources = [
            owner.source_id
            for owner in warehouse.accounts.owners()
            if chosen is None or owner.source_id in chosen
        ]
        tables = [
            _status(warehouse, source_id, table) for source_id in sources for table in catalog
        ]
        leases = [warehouse.leases.holder(source_id) for source_id in sources]
    return ReplicaState(tuple(tables), tuple(lease for lease in leases if lease))


def _status(warehouse: Warehouse, source_id: str, table: Table) -> TableStatus:
    known = warehouse.state.table_state(source_id, table.name)
    return TableStatus(
        source_id=source_id,
        table=table.name,
        rows=warehouse.count(table, Selection(source_id)),
        read_until=known.watermark,
        files=known.files,
        unreadable=known.unreadable,
        rejects=known.rejects,
        deleted_upstream=known.deleted_upstream,
    )


def rewind(
    config: Config,
    tables: Sequence[str],
    since: date | None,
    *,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> None:
    """
    Make the next run read *tables* again from *since* on; None means from the beginning.

    Raises ConfigError for a name that is not in *catalog* and for a day in the future, and Busy
    while a run is active.
    """
    catalog = catalog.of(config.accounts)
    tables = names_of(tables)
    chosen = catalog.only(tables) if tables else ()
    refuse_future(since, clock())
    day = reachable(since)
    moment = datetime.combine(day, time(), UTC) if day else None
    refuse_if_unknown(config)
    with opened(config, catalog) as warehouse:
        for account in config.accounts:
            with leased(warehouse, owner_of(account, catalog)):
                for table in chosen:
                    warehouse.state.rewind(account.source_id, table.name, moment)


def read_runs(config: Config, limit: int, accounts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """
    Read the reports of the newest *limit* runs, newest first, as plain data.

    With *accounts*, only runs that read one of them, and only what they did for these.
    """
    with opened(config, dry_run=True) as warehouse:
        chosen = chosen_sources(warehouse, config, accounts)
        number = limit
        while True:
            recorded = warehouse.runs.newest(number)
            found = _runs_of(chosen, recorded)
            if len(found) >= limit or len(recorded) < number:
                return found[:limit]
            number *= 10  # Runs of other accounts were among them.


def _runs_of(chosen: set[str] | None, recorded: list[Run]) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = [json.loads(run.report) for run in recorded]
    if chosen is None:
        return reports
    of_them = [
        {**report, "tables": [t for t in report["tables"] if t["source_id"] in chosen]}
        for report in reports
    ]
    return [report for report in of_them if report["tables"]]


def read_rejects(config: Config, limit: int, accounts: Sequence[str] = ()) -> list[Reject]:
    """Read the newest *limit* rejects; their raw values may be personal data."""
    with opened(config, dry_run=True) as warehouse:
        return warehouse.rejects.newest(limit, chosen_sources(warehouse, config, accounts))


def count_rejects(config: Config, tables: Collection[str] | None = None) -> int:
    """Count the rejects that the warehouse holds of the accounts and *tables*, None for all."""
    if tables is None:
        tables = CATALOG.of(config.accounts).names
    tables = names_of(tables)
    with opened(config, dry_run=True) as warehouse:
        return sum(
            warehouse.state.table_state(account.source_id, table).rejects
            for account in config.accounts
            for table in tables
        )


def replay(config: Config, *, catalog: Catalog = CATALOG) -> int:
    """
    Convert rejected values again, and make the next run read unreadable files again.

    Returns the number of values that converted. Raises Busy while a run is active.
    """
    catalog = catalog.of(config.accounts)
    refuse_if_unknown(config)
    with opened(config, catalog) as warehouse:
        converted = 0
        for account in config.accounts:
            with leased(warehouse, owner_of(account, catalog)):
                converted += warehouse.rejects.replay(account.source_id)
        return converted


def opened(config: Config, catalog: Catalog = CATALOG, *, dry_run: bool = False) -> Warehouse:
    """Open the warehouse of the settings."""
    settings = config.warehouse
    return open_warehouse(settings.url, catalog=catalog, dry_run=dry_run, limits=settings.limits)


def chosen_sources(warehouse: Warehouse, config: Config, names: Sequence[str]) -> set[str] | None:
    """Return the sources of the named accounts; None without names, for all."""
    if not names:
        return None
    return source_ids([*warehouse.accounts.owners(), *config.accounts], names)


def refuse_if_unknown(config: Config) -> None:
    """Refuse to change a warehouse without a source of that name: the URL is likely wrong."""
    with opened(config, dry_run=True) as warehouse:
        known = {owner.source_id for owner in warehouse.accounts.owners()}
    unknown = [account for account in config.accounts if account.source_id not in known]
    if unknown:
        raise ConfigError(
            f"{masked(config.warehouse.url)} has no rows of source '{account.source_id}'."
            " Check warehouse.url and source_id, or run `ometria-replica sync` first."
            for account in unknown
        )


@contextmanager
def leased(warehouse: Warehouse, owner: Owner) -> Iterator[Callable[[], Lease]]:
    """
    Hold the lease of an account, so that no run starts while its rows or state change.

    Yields what gives the lease from now on, to renew it. Its id is in the place of a run's.
    """

    def from_now() -> Lease:
        until = utc_now() + LEASE
        return Lease.of_this_process(owner.source_id, f"by hand {os.getpid()}", until)

    now = utc_now()
    with logging_for(account=owner.source_id):
        for warning in warehouse.prepare(owner, now):
            logger.warning("%s", warning)
        lease = from_now()
        warehouse.leases.acquire(lease, now)
        try:
            yield from_now
        finally:
            warehouse.leases.release(lease)
