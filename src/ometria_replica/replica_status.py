"""
The state of health of a replica: how fresh each table is, and what needs attention.

It reads the state and counts rows; it takes no lease and changes nothing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import masked
from ometria_replica.duckdb_files import duckdb_path
from ometria_replica.ometria.account_source import setting_missing
from ometria_replica.report import RunReport, report_from_dict
from ometria_replica.run_context import unended
from ometria_replica.selection import ALL, Selection
from ometria_replica.state_commands import opened
from ometria_replica.status_report import TOO_OLD, AccountStatus, Disk, Status, TableStatus
from ometria_replica.text import names_of
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime, timedelta

    from ometria_replica.batch import Lease
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.report import TableReport
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

RECENT_RUNS = 100  # Of the history. More are read only to find the last success.


def read_status(
    config: Config,
    tables: Sequence[str] = (),
    *,
    max_age: timedelta = TOO_OLD,
    details: bool = True,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Status:
    """
    Read the status of the accounts of *config*, and of *tables*, none for all that are on.

    Without *details*, the newest event of a table is not looked for, nor whether its files need
    maintenance. Raises ConfigError for a name that is no table, or none that is on.
    """
    catalog = catalog.of(config.accounts)
    tables = names_of(tables)
    chosen = catalog.only(tables)
    with (
        opened(config, catalog, dry_run=True) as warehouse,
        warehouse.sessions.open("reading the status"),
    ):
        now = clock()
        sources = [account.source_id for account in config.accounts]
        runs = _Runs.read(warehouse, sources)
        owners = [owner.source_id for owner in warehouse.accounts.owners()]
        leases = [lease for source_id in sources if (lease := warehouse.leases.holder(source_id))]
        active = tuple(lease for lease in leases if warehouse.leases.is_active(lease, now))
        reading = _Reading(warehouse, runs, alone=len(owners) == 1, events=details)
        return Status(
            asked_at=now,
            warehouse=masked(config.warehouse.url),
            max_age=max_age,
            accounts=tuple(
                AccountStatus(each.account_id, each.source_id, runs.last_success(each.source_id))
                for each in config.accounts
            ),
            tables=tuple(
                reading.of(account, table)
                for account in config.accounts
                for table in chosen.for_account(account)
                if setting_missing(account, table) is None
            ),
            not_read=tuple(
                left_out
                for each in config.accounts
                for left_out in _not_read(each, catalog, tables)
            ),
            last_run=runs.last([lease for lease in leases if lease not in active], config),
            active_runs=active,
            disk=_disk(config.warehouse.url),
            elsewhere=tuple(name for name in owners if name not in sources),
            maintenance_due=tuple(
                warehouse.maintenance_due([*chosen.stored, *chosen.records]) if details else ()
            ),
        )


@dataclass(frozen=True)
class _Reading:
    """
    Reads the status of tables. *alone*: all rows are of one source.

    Then no condition is needed, so that lakes and clouds count without reading a row.
    """

    warehouse: Warehouse
    runs: _Runs
    alone: bool
    events: bool

    def of(self, account: AccountSettings, table: Table) -> TableStatus:
        source_id = account.source_id
        known = self.warehouse.state.table_state(source_id, table.name)
        selection = ALL if self.alone else Selection(source_id)
        reports = self.runs.of(source_id, table.name)
        complete_until = known.watermark
        if isinstance(table.read, Feed):  # It has none, since each run reads every new file.
            starts = [at for at, report in reports if report.error is None]
            complete_until = max([*starts, *known.listed.values()], default=None)
        return TableStatus(
            source_id=source_id,
            table=table.name,
            rows=self.warehouse.count(table, selection),
            complete_until=complete_until,
            newest_event=self.warehouse.newest(table, selection) if self.events else None,
            rejects=known.rejects,
            merged=sum(report.merged for _, report in reports),
            deleted_upstream=known.deleted_upstream,
            files=known.files,
            files_unreadable=known.unreadable,
            files_waiting=len(known.retry_files),
            lists_waiting=len(known.retry),
            error=reports[0][1].error if reports else None,
        )


@dataclass(frozen=True)
class _Runs:
    """The newest runs, newest first, that read one of some sources, or none at all."""

    reports: tuple[RunReport, ...]

    @classmethod
    def read(cls, warehouse: Warehouse, sources: Sequence[str]) -> _Runs:
        """Read RECENT_RUNS, and more while a source has no success among them."""
        limit = RECENT_RUNS
        while True:
            recorded = warehouse.runs.newest(limit)
            reports = (report_from_dict(json.loads(run.report)) for run in recorded)
            runs = cls(tuple(each for each in reports if _is_of(each, sources)))
            if len(recorded) < limit or all(map(runs.last_success, sources)):
                return runs
            limit *= 10

    def last_success(self, source_id: str) -> datetime | None:
        ended = (each.finished_at for each in self.reports if _has_read(each, source_id))
        return next(ended, None)

    def last(self, left: Sequence[Lease], config: Config) -> RunReport | None:
        """Find the last run that has ended; one that was killed has *left* its lease."""
        known = {report.run_id for report in self.reports}
        killed = [
            report_from_dict(json.loads(run.report))
            for lease in left
            if lease.run_id not in known and (run := unended(lease, masked(config.warehouse.url)))
        ]
        # A run that found another at work has read no table, and says nothing of the replica.
        told = [each for each in self.reports if each.tables or each.outcome != "failed"]
        return max([*killed, *told], key=lambda report: report.finished_at, default=None)

    def of(self, source_id: str, table: str) -> list[tuple[datetime, TableReport]]:
        """List what the newest runs did to a table, each with the start of its run."""
        return [
            (run.started_at, report)
            for run in self.reports[:RECENT_RUNS]
            for report in run.tables
            if (report.source_id, report.table) == (source_id, table)
        ]


def _is_of(report: RunReport, sources: Sequence[str]) -> bool:
    return not report.tables or any(each.source_id in sources for each in report.tables)


def _has_read(report: RunReport, source_id: str) -> bool:
    """Return whether a run read a source without error, although others may have failed."""
    own = [table.error for table in report.tables if table.source_id == source_id]
    others = [table.error for table in report.tables if table.source_id != source_id]
    return (
        bool(own)
        and not any(own)
        and (report.outcome == "succeeded" or (report.outcome == "failed" and any(others)))
    )


def _not_read(
    account: AccountSettings, catalog: Catalog, chosen: Sequence[str]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name those of *chosen*, or of all, that an account's settings leave out, by the reason."""
    on = catalog.for_account(account)
    found: dict[str, list[str]] = {}
    for table in on:
        if reason := setting_missing(account, table):
            found.setdefault(reason, []).append(table.name)
    if off := [table.name for table in catalog.every if table.name not in on.names]:
        found["switched off in the settings"] = off
    for reason, names in found.items():
        if told := tuple(name for name in names if not chosen or name in chosen):
            yield account.source_id, reason, told


def _disk(url: str) -> Disk | None:
    path = duckdb_path(url)
    file = Path(path) if path else None
    if file is None or not file.is_file():
        return None
    parts = [file, file.with_name(f"{file.name}.wal")]
    size = sum(part.stat().st_size for part in parts if part.is_file())
    return Disk(str(file), size, shutil.disk_usage(file.absolute().parent).free)
