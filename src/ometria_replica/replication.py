"""
The hallway: read, map, merge, report, a table at a time. The file to read first.

Lists come before their changes, because each list is asked for its own. Everything
else is independent: a table that Ometria refuses does not hold back the next.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from ometria_replica import __version__
from ometria_replica.batch import (
    Batch,
    DeleteDetection,
    FileLogEntry,
    Lease,
    Owner,
    Run,
    TableState,
)
from ometria_replica.catalog import CATALOG
from ometria_replica.config import masked
from ometria_replica.errors import (
    AccessDenied,
    Busy,
    ConfigError,
    ReplicaError,
    UnexpectedResponse,
    WarehouseError,
)
from ometria_replica.mapping import Staging
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.records import FeedFile, StagedFile, Unreadable
from ometria_replica.report import RunReport, TableReport
from ometria_replica.schema import Feed
from ometria_replica.steps import step
from ometria_replica.tables import TABLES
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse import file_name_warning, open_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ometria_replica.batch import BatchSize
    from ometria_replica.ometria.readings import Reading
    from ometria_replica.records import Brought, FeedObject, Page
    from ometria_replica.report import Outcome
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)

TICK = timedelta(microseconds=1)

# Names that nobody documents come from the records themselves, and could be anything.
FIELD_NAME = re.compile(r"@?[A-Za-z_][A-Za-z0-9_ .:-]{0,39}")
MOST_FIELDS = 20

BATCH_SECONDS = 120.0  # However little came: each batch renews the lease.

LEASE = timedelta(minutes=30)
"""Longer than any batch takes, with its retries, or a slow download."""

LIST_WHOLE = timedelta(days=1)
"""A file whose name sorts before those of a week ago is found this late at the latest."""

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


class Fetch(Protocol):
    """Brings files of the feed, and may leave staging them to other machines."""

    def __call__(
        self, account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[Brought]:
        """Bring *files* into *folder*, in the order given, as whoever takes them goes on."""


def utc_now() -> datetime:
    """Tell the time, with its zone."""
    return datetime.now(UTC)


def sync(
    config: Config,
    tables: Sequence[str] = (),
    *,
    full: bool = False,
    detect_deletes: bool = False,
    since: date | None = None,
    until: date | None = None,
    dry_run: bool = False,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
    fetch: Fetch | None = None,
) -> RunReport:
    """
    Replicate every account of *config*, and report what was done.

    *tables* names some of the five; none means all. Each goes on where it stopped,
    unless *full* reads everything again, or *since* all from that day on; with *until*
    up to the end of that day, where Ometria can be asked so. Neither moves the watermark.
    *detect_deletes* reads profiles and lists in full, to find the deleted ones. *dry_run*
    reads, maps and compares, and writes nothing. *fetch* brings the files of the feed;
    None leaves it to this machine.

    Raises ConfigError before anything is contacted. Any other error of ours is raised
    when all tables were tried, with what was done as its attribute ``report``.
    """
    chosen = _chosen(tables)
    _refuse_contradictions(full=full, detect_deletes=detect_deletes, since=since, until=until)
    run = _Run(clock(), full, detect_deletes, since, until, clock, progress or Unwatched(), fetch)
    if warning := file_name_warning(config.warehouse.url, CATALOG):
        run.warnings.append(warning)
    with open_warehouse(config.warehouse.url, dry_run=dry_run) as warehouse:
        for account in config.accounts:
            warehouse.prepare(owner_of(account), run.clock())
        for account in config.accounts:
            _sync_account(run, warehouse, account, chosen)
        outcome: Outcome = "failed" if run.errors else "dry run" if dry_run else "succeeded"
        report = run.report(masked(config.warehouse.url), outcome)
        with run.hiding_what_follows():
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


def _refuse_contradictions(
    *, full: bool, detect_deletes: bool, since: date | None, until: date | None
) -> None:
    if (since or until) and (full or detect_deletes):
        raise ConfigError(
            "--since and --until read a part of a table, --full and --detect-deletes all of it."
            " Leave out one or the other."
        )
    if since and until and since > until:
        raise ConfigError(f"The first day, {since}, is after the last one, {until}.")


@dataclass
class _Run:
    """What all tables of a run share, and what they have come to so far."""

    started_at: datetime
    full: bool
    sweep: bool
    since: date | None
    until: date | None
    clock: Callable[[], datetime]
    progress: Progress
    fetch: Fetch | None
    tables: list[TableReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[ReplicaError] = field(default_factory=list)
    run_id: str = field(init=False)

    @property
    def is_partial(self) -> bool:
        """Whether the run reads a stretch of time that somebody chose."""
        return self.since is not None or self.until is not None

    def lease(self, source_id: str) -> Lease:
        return Lease.of_this_process(source_id, self.run_id, self.clock() + LEASE)

    @contextmanager
    def hiding_what_follows(self) -> Iterator[None]:
        """Tell why the warehouse failed first, and not that it then fails at everything."""
        try:
            yield
        except WarehouseError as error:
            if not any(isinstance(earlier, WarehouseError) for earlier in self.errors):
                raise
            logger.info("%s", error)

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


def owner_of(account: AccountSettings) -> Owner:
    """Tell whose rows an account's are, and how their keys are made."""
    return Owner(account.account_id, account.source_id, account.wide_keys)


def _sync_account(
    run: _Run, warehouse: Warehouse, account: AccountSettings, tables: Iterable[Table]
) -> None:
    lease = run.lease(account.source_id)
    try:
        warehouse.acquire_lease(lease, run.clock())
    except Busy as error:
        run.errors.append(error)  # The rows of the other accounts may well be free.
        return
    try:
        with AccountSource(account, run.started_at) as inputs:
            _sync_tables(run, warehouse, account, tables, inputs)
            run.warnings += inputs.warnings
    except BaseException:
        with suppress(WarehouseError):  # What failed first is what to tell.
            warehouse.release_lease(lease)
        raise
    with run.hiding_what_follows():
        warehouse.release_lease(lease)


def _sync_tables(
    run: _Run,
    warehouse: Warehouse,
    account: AccountSettings,
    tables: Iterable[Table],
    inputs: AccountSource,
) -> None:
    for specified in tables:
        table = specified.with_wide_keys() if account.wide_keys else specified
        if not inputs.can_read(table):
            continue
        try:
            with step(f"table {table.name}"):
                _TableSync(run, warehouse, account, inputs, table).go()
        except (AccessDenied, UnexpectedResponse) as error:
            run.errors.append(error)  # The next table may well be allowed.
        except ReplicaError as error:
            run.errors.append(error)  # Without a network or a disk, none is.
            return


@dataclass(frozen=True)
class _Marks:
    """What becomes true with a batch. *collect* remembers its keys for the sweep."""

    watermark: datetime | None = None
    whole_at: datetime | None = None
    sweep: DeleteDetection | None = None
    unread: dict[str, datetime] | None = None
    files: tuple[FileLogEntry, ...] = ()
    collect: bool = False


@dataclass
class _TableSync:
    """One table of one account on its way, and its counts so far."""

    run: _Run
    warehouse: Warehouse
    account: AccountSettings
    inputs: AccountSource
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
        memory = self.warehouse.table_state(source, name)
        whole = self.run.full or self._is_due_whole(memory.whole_at)
        self.warehouse.release()
        reading = self.inputs.read(
            self.table, TableState() if whole else memory, self.run.since, self.run.until
        )
        known = self.warehouse.count_rows(source, name) if reading.is_full else 0
        self.warehouse.release()
        self.run.progress.start(source, name, reading.total or known or None, reading.unit)
        first = True
        size = self.warehouse.batch_size
        for pages, last in _in_batches(self._watched(reading, requests_before), size):
            now = self.run.clock()
            with self._mapping():
                staging = self._staging()
                with step("page"):
                    staging.add_pages(pages, now)
            self._load(staging, now, self._marks(reading, last=last), swept_first=first)
            first = False
            if not last:
                self.warehouse.release()

    def _watched(self, reading: Reading, requests_before: int) -> Iterator[Page]:
        """Pass pages on, and tell of each."""
        records = 0
        for page in reading.pages():
            records += len(page.records)
            requests = self.inputs.requests - requests_before
            self.run.progress.advance(records, requests, reading.done)
            yield page

    def _is_due_whole(self, whole_at: datetime | None) -> bool:
        if self.table.record_id is None:
            return False
        days = self.account.detect_deletes_every_days
        if self.run.sweep or whole_at is None or days is None:
            return self.run.sweep
        return self.run.started_at - whole_at >= timedelta(days=days)

    def _marks(self, reading: Reading, *, last: bool) -> _Marks:
        """Tell what becomes true with a batch: nothing, before the last one."""
        if not last:
            return _Marks(collect=reading.is_full)
        unread = None if self.run.is_partial else dict(reading.retry)
        until = None if self.run.is_partial else self.inputs.read_until
        sweep = None
        if reading.is_full and self.table.record_id is not None and not reading.is_doubtful:
            sweep = DeleteDetection(
                self.account.deletes == "remove", self.account.max_deleted_share
            )
        whole_at = until if reading.is_full else None
        return _Marks(until, whole_at, sweep, unread, collect=reading.is_full)

    def _feed(self) -> None:
        """Read the files whose version the ledger lacks, oldest first, in batches."""
        source, name = self.account.source_id, self.table.name
        start_after = self._list_from()
        files = self._files_to_read(start_after)
        self.run.progress.start(source, name, sum(file.size for file in files), "bytes")
        loaded_at, done, left = self.warehouse.table_state(source, name).loaded_at, 0, False
        self.warehouse.release()
        with temp_folder() as folder:
            size = self.warehouse.batch_size
            for batch in _in_file_batches(self._fetch(files, folder), size):
                now = self.run.clock()
                # A row's file is known by its __synced_at: no two files have the same.
                first = max(now, loaded_at + TICK) if loaded_at else now
                moments = [first + place * TICK for place in range(len(batch))]
                loaded_at = moments[-1]
                with self._mapping():
                    staging = self._staging()
                    entries = self._stage(staging, batch, moments)
                left |= len(entries) < len(batch)
                done += sum(file.origin.size for file in batch)
                staged = sum(entry.records for entry in entries)
                self.run.progress.advance(self.report.records + staged, 0, done)
                self._load(staging, now, _Marks(files=entries))
                self.warehouse.release()
        if start_after is None and not left and not self.run.is_partial:
            self.warehouse.set_listed(
                source,
                name,
                self.inputs.feed_name(self.table),
                self.run.started_at,
                self.run.run_id,
            )

    def _fetch(self, files: Sequence[FeedObject], folder: Path) -> Iterator[Brought]:
        if self.run.fetch is None:
            return self.inputs.export(self.table).fetch(files, folder)
        return self.run.fetch(self.account, self.table, files, folder)

    def _list_from(self) -> str | None:
        """Tell after which name to list: None for all, which is due each day."""
        if self.run.full or self.run.is_partial:
            return None
        source, name = self.account.source_id, self.table.name
        listed_at = self.warehouse.table_state(source, name).listed.get(
            self.inputs.feed_name(self.table)
        )
        if listed_at is None or not timedelta() <= self.run.started_at - listed_at < LIST_WHOLE:
            return None
        return self.warehouse.list_after(source, name)

    def _files_to_read(self, start_after: str | None) -> list[FeedObject]:
        """Choose by the ledger, or by the days on which the files were written."""
        with step("listing"):
            files = list(self.inputs.export(self.table).list(start_after))
        if self.run.is_partial:
            first, last = self.run.since or date.min, self.run.until or date.max
            files = [file for file in files if first <= file.modified_at.date() <= last]
        elif not self.run.full:
            files = self.warehouse.new_files(self.account.source_id, self.table.name, files)
        return sorted(files, key=lambda file: (file.modified_at, file.name))

    def _stage(
        self, staging: Staging, files: Sequence[Brought], moments: Sequence[datetime]
    ) -> tuple[FileLogEntry, ...]:
        """Stage files, and say what the ledger should know: nothing of what is to be read again."""
        timed = list(zip(files, moments, strict=True))
        # A run brings files, or what others staged of them, and never both.
        mapped = [(file, moment) for file, moment in timed if isinstance(file, FeedFile)]
        with step("file"):
            found = iter(staging.add_files(mapped))
        entries = []
        for file, moment in timed:
            records: int | Unreadable
            match file:
                case Unreadable():
                    records = file
                case StagedFile():
                    records = staging.add_staged(file, moment)
                case FeedFile():
                    records = next(found)
            if not isinstance(file, Unreadable):
                file.discard()  # The next files need the room.
            entries.append(self._noted(file, records, moment))
        return tuple(entry for entry in entries if entry is not None)

    def _noted(
        self, file: Brought, records: int | Unreadable, loaded_at: datetime
    ) -> FileLogEntry | None:
        """Count a file and say what the ledger should know; None to read it next time."""
        if isinstance(records, Unreadable):
            self._add(files_unreadable=1)
            self.run.warnings.append(f"{self.table.name}: {file.origin.name}: {records.reason}")
            if records.again:
                return None
            return FileLogEntry(file.origin, loaded_at, 0, records.reason)
        self._add(files=1)
        return FileLogEntry(file.origin, loaded_at, records)

    def _mapping(self) -> AbstractContextManager[None]:
        return self.warehouse.guarded(f"mapping {self.table.name}")

    def _staging(self) -> Staging:
        account = self.account
        return Staging(self.warehouse.staging, self.table, account.account_id, account.source_id)

    def _load(
        self, staging: Staging, now: datetime, marks: _Marks, *, swept_first: bool = True
    ) -> None:
        with self._mapping():
            with step("mapping"):
                staged = staging.finish()
            if marks.collect:
                staging.sweep(afresh=swept_first)
        batch = Batch(
            table=self.table,
            source_id=self.account.source_id,
            run_id=self.run.run_id,
            synced_at=now,
            watermark=marks.watermark,
            whole_at=marks.whole_at,
            files=marks.files,
            sweep=marks.sweep,
            unread=marks.unread,
            lease=self.run.lease(self.account.source_id),
            whole=marks.collect,
        )
        loaded = self.warehouse.load(batch)
        self._add(
            records=staged.records,
            inserted=loaded.inserted,
            updated=loaded.updated,
            unchanged=loaded.unchanged,
            older=loaded.older,
            merged=staged.merged + loaded.merged,
            deleted_upstream=loaded.missing,
            removed=loaded.removed,
            records_rejected=staged.records_rejected,
            values_rejected=staged.values_rejected,
            nuls_removed=staged.nuls_removed,
        )
        if loaded.sweep_refused:
            self.run.warnings.append(
                f"{self.table.name}: {loaded.missing:,} rows were not found in Ometria, more than"
                f" max_deleted_share ({self.account.max_deleted_share:.0%}) of the table. None was"
                " removed. If so many are really gone, raise the setting for one run."
            )
        unknown = staged.unknown_fields | set(self.report.unknown_fields)
        shown = sorted(name for name in unknown if FIELD_NAME.fullmatch(name))[:MOST_FIELDS]
        self.report = replace(self.report, unknown_fields=tuple(shown))
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


def _in_batches(pages: Iterable[Page], most: BatchSize) -> Iterator[tuple[list[Page], bool]]:
    """Gather pages into batches, and say which is the last. There is always a last one."""
    batch: list[Page] = []
    size, began = 0, time.monotonic()
    for page in pages:
        if size >= most.records or time.monotonic() - began > BATCH_SECONDS:
            yield batch, False
            batch, size, began = [], 0, time.monotonic()
        batch.append(page)
        size += len(page.records)
    yield batch, True


def _in_file_batches(files: Iterable[Brought], most: BatchSize) -> Iterator[list[Brought]]:
    batch: list[Brought] = []
    size, began = 0, time.monotonic()
    for file in files:
        batch.append(file)
        size += file.origin.size
        slow = time.monotonic() - began > BATCH_SECONDS
        if size >= most.bytes or len(batch) >= most.files or slow:
            yield batch
            batch, size, began = [], 0, time.monotonic()
    if batch:
        yield batch
