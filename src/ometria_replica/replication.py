"""
The hallway: read, map, merge, report, a table at a time. The file to read first.

Lists come before their changes, because each list is asked for its own. Everything
else is independent: a table that Ometria refuses does not hold back the next.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ometria_replica import __version__
from ometria_replica.errors import AccessDenied, ConfigError, ReplicaError, UnexpectedResponse
from ometria_replica.mapping import Staging
from ometria_replica.ometria.inputs import Inputs
from ometria_replica.records import Unreadable
from ometria_replica.report import RunReport, TableReport
from ometria_replica.schema import Feed
from ometria_replica.settings import masked
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.state import Batch, LedgerEntry, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ometria_replica.records import FeedFile, FeedObject, Page
    from ometria_replica.report import Outcome
    from ometria_replica.schema import Table
    from ometria_replica.settings import AccountSettings, Config
    from ometria_replica.warehouse import Warehouse

logger = logging.getLogger(__name__)

BATCH_RECORDS = 20_000  # Of the API: some 80 pages, 20 seconds of the account's budget.
BATCH_BYTES = 64 * 2**20  # Of the feed, as listed: five files of the usual size. Bounds memory.
BATCH_FILES = 500  # Of the feed: thousands of tiny files still become few transactions.
TICK = timedelta(microseconds=1)

READING_ORDER = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")


class Progress(Protocol):
    """Hears how a run goes on."""

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        """Hear that a table begins: *total* of *unit* to do, None where nobody knows."""

    def advance(self, records: int, requests: int, done: int) -> None:
        """Hear how many records and requests there were so far, and units done."""

    def finish(self, report: TableReport) -> None:
        """Hear that the table ended."""


class Unwatched:
    """The progress that nobody watches."""

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        """Say nothing."""

    def advance(self, records: int, requests: int, done: int) -> None:
        """Say nothing."""

    def finish(self, report: TableReport) -> None:
        """Say nothing."""


def utc_now() -> datetime:
    """Tell the time, with its zone."""
    return datetime.now(UTC)


def sync(
    config: Config,
    tables: Sequence[str] = (),
    *,
    full: bool = False,
    since: date | None = None,
    dry_run: bool = False,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
) -> RunReport:
    """
    Replicate every account of *config*, and report what was done.

    *tables* names some of the five; none means all. *full* reads everything again,
    *since* all from that day on without moving the watermark; otherwise each table
    goes on where it stopped. *dry_run* reads, maps and compares, and writes nothing.

    Raises ConfigError before anything is contacted. Any other error of ours is raised
    when all tables were tried, with what was done as its attribute ``report``.
    """
    chosen = _chosen(tables)
    run = _Run(clock(), full, since, clock, progress or Unwatched())
    with open_warehouse(config.warehouse.url, dry_run=dry_run) as warehouse:
        for account in config.accounts:
            _sync_account(run, warehouse, account, chosen)
        outcome: Outcome = "failed" if run.errors else "dry run" if dry_run else "succeeded"
        report = run.report(masked(config.warehouse.url), outcome)
        warehouse.record_run(_history(report))
    if run.errors:
        run.errors[0].report = report
        raise run.errors[0]
    return report


def _chosen(names: Sequence[str]) -> list[Table]:
    known = {table.name: table for table in TABLES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"There is no table '{name}'. The tables are {', '.join(known)}." for name in unknown
        )
    return [known[name] for name in READING_ORDER if not names or name in names]


@dataclass
class _Run:
    """What all tables of a run share, and what they have come to so far."""

    started_at: datetime
    full: bool
    since: date | None
    clock: Callable[[], datetime]
    progress: Progress
    tables: list[TableReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[ReplicaError] = field(default_factory=list)
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.run_id = f"{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"

    def report(self, warehouse: str, outcome: Outcome) -> RunReport:
        return RunReport(
            run_id=self.run_id,
            version=__version__,
            warehouse=warehouse,
            started_at=self.started_at,
            finished_at=self.clock(),
            outcome=outcome,
            tables=tuple(self.tables),
            warnings=tuple(self.warnings),
        )


def _history(report: RunReport) -> Run:
    return Run(
        run_id=report.run_id,
        started_at=report.started_at,
        finished_at=report.finished_at,
        outcome=report.outcome,
        version=report.version,
        report=report.to_json(),
    )


def _sync_account(
    run: _Run, warehouse: Warehouse, account: AccountSettings, tables: Iterable[Table]
) -> None:
    warehouse.prepare(account.account_id, account.source_id, run.clock())
    with Inputs(account, run.started_at) as inputs:
        for table in tables:
            if not inputs.can_read(table):
                continue
            try:
                _TableSync(run, warehouse, account, inputs, table).go()
            except (AccessDenied, UnexpectedResponse) as error:
                run.errors.append(error)  # The next table may well be allowed.
            except ReplicaError as error:
                run.errors.append(error)  # Without a network or a disk, none is.
                break
        run.warnings += inputs.warnings


@dataclass
class _TableSync:
    """One table of one account on its way, and its counts so far."""

    run: _Run
    warehouse: Warehouse
    account: AccountSettings
    inputs: Inputs
    table: Table
    report: TableReport = field(init=False)

    def __post_init__(self) -> None:
        self.report = TableReport(self.account.source_id, self.table.name)

    def go(self) -> None:
        began, requests = time.monotonic(), self.inputs.requests
        try:
            if isinstance(self.table.read, Feed):
                self._feed()
            else:
                self._api(requests)
        except ReplicaError as error:
            self.report = replace(self.report, error=str(error))
            raise
        finally:
            self._add(
                requests=self.inputs.requests - requests,
                seconds=round(time.monotonic() - began, 3),
            )
            self.run.tables.append(self.report)
            self.run.progress.finish(self.report)

    def _api(self, requests_before: int) -> None:
        """Read pages in batches; the watermark moves with the last of them."""
        source, name = self.account.source_id, self.table.name
        watermark = None if self.run.full else self.warehouse.watermark(source, name)
        reading = self.inputs.read(self.table, watermark, self.run.since)
        known = self.warehouse.row_count(source, name) if reading.whole else 0
        self.run.progress.start(source, name, reading.total or known or None, reading.unit)
        for pages, last in _in_batches(reading.pages):
            now = self.run.clock()
            staging = self._staging()
            staging.add_pages(pages, now)
            moves = last and self.run.since is None
            self._load(staging, now, watermark=self.inputs.read_until if moves else None)
            self.run.progress.advance(
                self.report.records,
                self.inputs.requests - requests_before,
                reading.done if reading.total else self.report.records,
            )

    def _feed(self) -> None:
        """Read the files whose version the ledger lacks, oldest first, in batches."""
        source, name = self.account.source_id, self.table.name
        files = self._files_to_read()
        self.run.progress.start(source, name, sum(file.size for file in files), "bytes")
        loaded_at, done = self.warehouse.last_loaded_at(source), 0
        with tempfile.TemporaryDirectory(prefix="ometria-replica-") as folder:
            for batch in _in_file_batches(self.inputs.feed.fetch(files, Path(folder))):
                staging, entries = self._staging(), []
                now = self.run.clock()
                for file in batch:
                    # A row's file is known by its __synced_at: no two files have the same.
                    loaded_at = max(now, loaded_at + TICK) if loaded_at else now
                    entries.append(self._stage(staging, file, loaded_at))
                    done += file.origin.size
                known = tuple(entry for entry in entries if entry is not None)
                self._load(staging, now, files=known)
                self.run.progress.advance(self.report.records, 0, done)

    def _files_to_read(self) -> list[FeedObject]:
        listed = list(self.inputs.feed.list())
        fresh = self.warehouse.unseen(self.account.source_id, self.table.name, listed)
        if self.run.full:
            chosen = listed
        elif self.run.since:
            midnight = datetime.combine(self.run.since, datetime.min.time(), UTC)
            chosen = [file for file in listed if file.modified_at >= midnight]
        else:
            chosen = fresh
        return sorted(chosen, key=lambda file: (file.modified_at, file.name))

    def _stage(
        self, staging: Staging, file: FeedFile | Unreadable, loaded_at: datetime
    ) -> LedgerEntry | None:
        """Stage a file and say what the ledger should know; None to read it next time."""
        records = file if isinstance(file, Unreadable) else staging.add_file(file, loaded_at)
        if not isinstance(file, Unreadable):
            file.path.unlink(missing_ok=True)  # The next files need the room.
        if isinstance(records, Unreadable):
            self._add(files_unreadable=1)
            self.run.warnings.append(f"{self.table.name}: {file.origin.name}: {records.reason}")
            if records.again:
                return None
            return LedgerEntry(file.origin, loaded_at, 0, records.reason)
        self._add(files=1)
        return LedgerEntry(file.origin, loaded_at, records)

    def _staging(self) -> Staging:
        account = self.account
        return Staging(self.warehouse.staging, self.table, account.account_id, account.source_id)

    def _load(
        self,
        staging: Staging,
        now: datetime,
        *,
        watermark: datetime | None = None,
        files: tuple[LedgerEntry, ...] = (),
    ) -> None:
        staged = staging.finish()
        batch = Batch(
            table=self.table,
            source_id=self.account.source_id,
            staging=staging,
            run_id=self.run.run_id,
            synced_at=now,
            watermark=watermark,
            files=files,
        )
        loaded = self.warehouse.load(batch)
        self._add(
            records=staged.records,
            inserted=loaded.inserted,
            updated=loaded.updated,
            unchanged=loaded.unchanged,
            older=loaded.older,
            merged=staged.merged + loaded.merged,
            records_rejected=staged.records_rejected,
            values_rejected=staged.values_rejected,
            nuls_removed=staged.nuls_removed,
        )
        unknown = staged.unknown_fields | set(self.report.unknown_fields)
        self.report = replace(self.report, unknown_fields=tuple(sorted(unknown)))
        logger.info(
            "loaded %s: %d inserted, %d updated, %d unchanged",
            self.table.name,
            loaded.inserted,
            loaded.updated,
            loaded.unchanged,
        )

    def _add(self, **counts: float) -> None:
        """Add to the report's counts, by name."""
        sums = {name: getattr(self.report, name) + count for name, count in counts.items()}
        self.report = replace(self.report, **sums)


def _in_batches(pages: Iterable[Page]) -> Iterator[tuple[list[Page], bool]]:
    """Gather pages into batches, and say which is the last. There is always a last one."""
    batch: list[Page] = []
    size = 0
    for page in pages:
        if size >= BATCH_RECORDS:
            yield batch, False
            batch, size = [], 0
        batch.append(page)
        size += len(page.records)
    yield batch, True


def _in_file_batches(
    files: Iterable[FeedFile | Unreadable],
) -> Iterator[list[FeedFile | Unreadable]]:
    batch: list[FeedFile | Unreadable] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.origin.size
        if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
