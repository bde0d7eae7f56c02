"""One run: its options, its clock, and the results of its tables so far."""

from __future__ import annotations

import logging
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ometria_replica.batch import Lease, Run
from ometria_replica.batching import ReadAhead
from ometria_replica.errors import Busy, ReplicaError, WarehouseError
from ometria_replica.observer import (
    Place,
    TableEnded,
    TableStarted,
    Watch,
    ending,
    ignore,
)
from ometria_replica.ometria.export import FILES_AHEAD
from ometria_replica.report import RunReport, TableReport
from ometria_replica.run_results import in_order
from ometria_replica.schema import HISTORY_SCHEMA
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from ometria_replica.batch import Loaded
    from ometria_replica.config import AccountSettings
    from ometria_replica.mapping import Staged
    from ometria_replica.observer import Observe
    from ometria_replica.read_position import InterruptedRead
    from ometria_replica.reading_threads import Threads
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.report import Due, Outcome
    from ometria_replica.run_results import Results
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

# Undocumented names come from the records themselves, and could be anything.
FIELD_NAME = re.compile(r"@?[A-Za-z_][A-Za-z0-9_ .:-]{0,39}")
MOST_FIELDS = 20

RUN_TIME = "%Y%m%dT%H%M%S"  # With which the id of a run begins.

LEASE = timedelta(minutes=30)
"""Longer than any batch takes, with its retries, or a slow download."""


class Progress(Protocol):
    """
    Receives the progress of a run, in the thread that runs it.

    Several tables may be under way: each is known by its source and its name.
    """

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        """Begin a table: *total* of *unit* to do, None if that is not known."""

    def advance(self, source_id: str, table: str, records: int, requests: int, done: int) -> None:
        """Set the records and requests of a table so far, and the units done."""

    def finish(self, report: TableReport) -> None:
        """End a table."""


class NoProgress:
    """Progress that reports nothing."""

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        """Report nothing."""

    def advance(self, source_id: str, table: str, records: int, requests: int, done: int) -> None:
        """Report nothing."""

    def finish(self, report: TableReport) -> None:
        """Report nothing."""


@dataclass(frozen=True)
class ToldProgress:
    """Passes on to *progress* what several threads report, in the one thread of *threads*."""

    progress: Progress
    threads: Threads

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        """Begin a table."""
        self.threads.tell(partial(self.progress.start, source_id, table, total, unit))

    def advance(self, source_id: str, table: str, records: int, requests: int, done: int) -> None:
        """Set how far a table is."""
        self.threads.tell(partial(self.progress.advance, source_id, table, records, requests, done))

    def finish(self, report: TableReport) -> None:
        """End a table."""
        self.threads.tell(partial(self.progress.finish, report))


class Fetch(Protocol):
    """Fetches export files, and may have other machines stage them."""

    def __call__(
        self, account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[FetchedFile]:
        """Fetch *files* into *folder*, in the order given, as the caller iterates."""


@dataclass(frozen=True)
class Window:
    """
    Which records of each table a run reads.

    *full* reads all of them, *detect_deletes* all of the tables whose records can be deleted.
    *since* and *until* limit the read to a span of days, both included; then no watermark moves.
    """

    full: bool = False
    detect_deletes: bool = False
    since: date | None = None
    until: date | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the window is a span of days."""
        return self.since is not None or self.until is not None


def new_id(now: datetime) -> str:
    """Make an id, of a run or an erasure: ids sort by time."""
    return f"{now:{RUN_TIME}}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class RunContext:
    """
    State shared by all tables of a run; their results are beside it. *fetch* as in sync().

    If there are *several* accounts, then log lines, warnings and errors name theirs. Temporary
    files go to *temp_directory*, None for the system's own. *threads* are those in which accounts
    are read, and *table_names* the tables in the order of the report. *ahead* limits what all
    threads together have read and not loaded, *files_ahead* the files that each downloads.
    *observe* is told of what happens, in the thread in which it does. *run_id* is made of the time
    if it is not given. *leases* are those that are held, by source. *refusals* of the warehouse are
    in the order of time: after the first, others may only follow from it.
    """

    started_at: datetime
    window: Window
    clock: Callable[[], datetime]
    progress: Progress
    threads: Threads
    fetch: Fetch | None = None
    temp_directory: str | None = None
    several: bool = False
    table_names: Sequence[str] = ()
    ahead: ReadAhead = field(default_factory=ReadAhead)
    files_ahead: int = FILES_AHEAD
    observe: Observe = ignore
    run_id: str = ""
    leases: dict[str, Lease] = field(default_factory=dict)
    refusals: list[WarehouseError] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.run_id:
            object.__setattr__(self, "run_id", new_id(self.started_at))

    def lease(self, source_id: str) -> Lease:
        """Make a lease of a source that ends a while from now."""
        return Lease.of_this_process(source_id, self.run_id, self.clock() + LEASE)

    def note(self, error: ReplicaError, results: Results) -> None:
        """Note an error, and whether the warehouse refused something."""
        results.errors.append(error)
        if isinstance(error, WarehouseError) and not isinstance(error, Busy):
            self.refusals.append(error)

    def naming(self, source_id: str, text: str) -> str:
        """Put the name of the account in front of *text*, if the run has several."""
        return f"{source_id}: {text}" if self.several else text

    def report(
        self, results: Results, warehouse: str, outcome: Outcome, reason: str | None = None
    ) -> RunReport:
        """Report the results of all accounts, and why the run did not go through."""
        return RunReport(
            run_id=self.run_id,
            version=__version__,
            warehouse=warehouse,
            started_at=self.started_at,
            finished_at=self.clock(),
            outcome=outcome,
            tables=in_order(results.tables, self.table_names),
            warnings=tuple(results.warnings),
            not_read=tuple(results.left_out()),
            reason=reason,
        )


def history_of(report: RunReport) -> Run:
    """Make the row of the run history."""
    return Run(
        run_id=report.run_id,
        started_at=report.started_at,
        finished_at=report.finished_at,
        outcome=report.outcome,
        version=report.version,
        report=report.to_json(),
    )


def unended(lease: Lease, warehouse: str) -> Run | None:
    """
    Make the row of a run that left its *lease*; None if a command by hand did.

    It ended after it had renewed the lease for the last time.
    """
    try:
        started_at = datetime.strptime(lease.run_id[:15], RUN_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    heard_at = max(started_at, lease.expires_at - LEASE)
    reason = (
        f"process {lease.pid} on {lease.host} ended without a report (killed, or the machine"
        f" stopped), or was silent for too long; last heard of at {heard_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    return history_of(
        RunReport(
            run_id=lease.run_id,
            version="unknown",
            warehouse=warehouse,
            started_at=started_at,
            finished_at=heard_at,
            outcome="did not end",
            tables=(),
            reason=reason,
        )
    )


class TableProgress:
    """Counts what a run does to one table of one account."""

    def __init__(
        self, run: RunContext, results: Results, account: AccountSettings, table_name: str
    ) -> None:
        self.report = TableReport(account.source_id, table_name)
        self._run = run
        self._results = results
        self._account = account

    @contextmanager
    def reported(
        self, requests: Callable[[], int], rate_limited: Callable[[], int] = lambda: 0
    ) -> Iterator[None]:
        """
        Add the table's report to the run, however the block ends.

        *requests* counts them, and *rate_limited* those that were answered with 429.
        """
        watch, before, limited = Watch(), requests(), rate_limited()
        place = Place(self.report.source_id, self.report.table)
        failure: BaseException | None = None
        self._run.observe(TableStarted(watch.began_at, place))
        try:
            yield
        except BaseException as error:
            failure = error
            if isinstance(error, ReplicaError):
                self.report = replace(self.report, error=str(error))
            raise
        finally:
            self.report = replace(
                self.report,
                seconds=round(watch.seconds, 3),
                requests=requests() - before,
                rate_limited=rate_limited() - limited,
            )
            self._results.tables.append(self.report)
            self._run.progress.finish(self.report)
            self._run.observe(
                TableEnded(watch.began_at, watch.seconds, place, ending(failure), self.report)
            )

    def count(self, **counts: int) -> None:
        """Add to the counts of the report, by name."""
        sums = {name: getattr(self.report, name) + count for name, count in counts.items()}
        self.report = replace(self.report, **sums)

    def is_due(self, due: Due) -> None:
        """Note which records of the table are requested."""
        self.report = replace(self.report, due=due)

    def resumed(self, read: InterruptedRead | None) -> None:
        """Note which full read was continued; None if the table was read anew."""
        offset = read.position.offset if read else 0
        self.report = replace(self.report, continued_after=offset)

    def warn(self, text: str) -> None:
        """Add a warning to the run's report."""
        table = self.report.table
        place = f"{self.report.source_id} {table}" if self._run.several else table
        self._results.warnings.append(f"{place}: {text}")

    def _add_versions(self, history: Loaded | None) -> None:
        if history:
            self.count(versions_opened=history.inserted, versions_closed=history.updated)

    @property
    def _more_ids(self) -> str:
        return (
            f"{self.report.source_id}: records of erased people had ids that were not known, which"
            " are suppressed from now on. Rows may have been loaded with them before:"
            " `ometria-replica erase --again` removes these."
        )

    def remark(self, text: str) -> None:
        """Add a remark to the table's report."""
        self.report = replace(self.report, remarks=(*self.report.remarks, text))

    def add(self, staged: Staged, loaded: Loaded) -> None:
        """Add a batch."""
        self.count(
            records=staged.records,
            inserted=loaded.inserted,
            updated=loaded.updated,
            unchanged=loaded.unchanged,
            older=loaded.older,
            merged=staged.merged + loaded.merged,
            deleted_upstream=loaded.deleted_upstream,
            removed=loaded.removed,
            removable=loaded.removable,
            records_rejected=staged.records_rejected,
            values_rejected=staged.values_rejected,
            nuls_removed=staged.nuls_removed,
            suppressed=staged.suppressed,
            too_old=staged.too_old,
        )
        self._add_versions(loaded.parts.get(f"{HISTORY_SCHEMA}.{self.report.table}"))
        if staged.joined_ids:
            self._results.warn_once(self._more_ids)
        if loaded.removal_refused:
            self.warn(
                f"{loaded.deleted_upstream:,} rows were not found in Ometria, more than"
                f" max_deleted_share ({self._account.max_deleted_share:.0%}) of the table. None was"
                " removed. If so many were really deleted, raise the setting for one run."
            )
        unknown = staged.unknown_fields | set(self.report.unknown_fields)
        shown = sorted(name for name in unknown if FIELD_NAME.fullmatch(name))[:MOST_FIELDS]
        self.report = replace(self.report, unknown_fields=tuple(shown))
        logger.info(
            "loaded %s: %d inserted, %d updated, %d unchanged",
            self.report.table,
            loaded.inserted,
            loaded.updated,
            loaded.unchanged,
        )
