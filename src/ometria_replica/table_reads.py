"""Reading a table in batches, each with the state to commit with it: API and export."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from ometria_replica.batch import Batch, DeleteDetection, FileLogEntry, TableState
from ometria_replica.batching import (
    discard,
    file_batches,
    page_batches,
    stage_files,
    stage_pages,
)
from ometria_replica.drift import Drift
from ometria_replica.errors import NotEnoughMemory
from ometria_replica.failpoints import step
from ometria_replica.observer import FeedListed, Watch, current_place
from ometria_replica.read_position import InterruptedRead
from ometria_replica.records import Unreadable
from ometria_replica.retention import clipped
from ometria_replica.run_context import TableProgress
from ometria_replica.schema import Feed, Growing
from ometria_replica.selection import Selection
from ometria_replica.temp_files import temp_folder
from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.batch import WaitingFile
    from ometria_replica.config import AccountSettings
    from ometria_replica.drift import Changes
    from ometria_replica.mapping import Staged, Staging
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.read_position import ReadPosition
    from ometria_replica.records import FeedObject, FetchedFile, Page
    from ometria_replica.run_context import RunContext, Window
    from ometria_replica.run_results import Results
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

Answer = TypeVar("Answer")

TICK = timedelta(microseconds=1)

STARTED_OVER = "an interrupted full read could not be continued, and started over"

LIST_ALL = timedelta(days=1)
"""A file whose name sorts before those of a week ago is found this late at the latest."""


FIRST_WAIT, LONGEST_WAIT = timedelta(hours=1), timedelta(days=7)
"""Between two attempts to read a file that the store does not give; each is twice the last."""


NO_MEMORY_FOR_IT = (
    "DuckDB has not enough memory for it; raise warehouse.memory_limit (OMETRIA_MEMORY_LIMIT), or"
    " lower warehouse.threads"
)


class Pending(Protocol):
    """Records that were read and are not staged yet. *is_first* marks a read's first batch."""

    @property
    def is_first(self) -> bool:
        """Whether this is the first batch of a read."""

    def stage(self, staging: Staging) -> Batch:
        """Stage them; return the state to commit with them."""

    def finish(self) -> None:
        """Count them, once they are loaded."""

    def in_parts(self) -> Sequence[Pending]:
        """Divide what needs too much memory as a whole; none if that is not possible."""


@dataclass
class TableRead:
    """
    One table of one account, about to be read.

    *tables* are all of the account: what an erased person leaves may be in any of them. *inside*
    are those of which rows are inside the records of *table*: they are read with it. The thread
    that reads may be another than the one that uses the *warehouse*: it has to :meth:`ask`.
    """

    run: RunContext
    results: Results
    warehouse: Warehouse
    account: AccountSettings
    source: AccountSource
    table: Table
    tables: tuple[Table, ...] = ()
    inside: tuple[Table, ...] = ()

    @cached_property
    def progress(self) -> TableProgress:
        """The counts of the table."""
        return TableProgress(self.run, self.results, self.account, self.table.name)

    def ask(self, question: Callable[[Warehouse], Answer]) -> Answer:
        """Ask the warehouse, in the thread that uses it."""
        return self.run.threads.call(lambda: question(self.warehouse))

    def start(self, total: int | None, unit: str) -> None:
        """Report that the table begins."""
        self.run.progress.start(self.account.source_id, self.table.name, total, unit)

    def advance(self, records: int, requests: int, done: int) -> None:
        """Report how far the table is."""
        name = self.table.name
        self.run.progress.advance(self.account.source_id, name, records, requests, done)

    @property
    def requests(self) -> int:
        """Requests sent to the API so far; none for a feed, beside which others may be sent."""
        return 0 if isinstance(self.table.read, Feed) else self.source.requests

    @property
    def rate_limited(self) -> int:
        """Those of the requests that Ometria answered with 429."""
        return 0 if isinstance(self.table.read, Feed) else self.source.rate_limited

    @cached_property
    def progress_inside(self) -> dict[str, TableProgress]:
        """The counts of the tables that are inside, by the full name of each."""
        return {
            each.full_name: TableProgress(self.run, self.results, self.account, each.name)
            for each in self.inside
        }

    @cached_property
    def drift(self) -> Drift:
        """What is known of the fields of the table's records, with what this run has seen."""
        return Drift(self.warehouse.fields.of(self.account.source_id, self.table.name))

    def drift_in(self, batch: Batch, staged: Staged) -> Changes:
        """Compare the fields of a batch's records with what is known of the table's."""
        is_full = batch.is_full and not self.progress.report.continued_after
        return self.drift.changes(
            staged.structures,
            batch.synced_at,
            is_full=is_full,
            is_last=batch.full_read_at is not None,
            of_files=bool(batch.files),
        )

    def note_drift(self, changes: Changes) -> None:
        """Take over what a batch has changed, now that it is committed, and warn of it."""
        self.drift.committed(changes)
        for warning in changes.warnings:
            self.progress.warn(warning)

    @property
    def window(self) -> Window:
        """The window of the run, from the first day on of which the table keeps rows."""
        window = self.run.window
        return replace(window, since=clipped(self.table, window.since))

    @property
    def state(self) -> TableState:
        """The table's state in the warehouse, read now."""
        return self.state_of(self.table)

    def state_of(self, table: Table) -> TableState:
        """Read the state of this table, or of one that is inside it."""
        source_id, name = self.account.source_id, table.name
        return self.ask(lambda warehouse: warehouse.state.table_state(source_id, name))

    def count_rows(self) -> int:
        """Count the rows of the account in the table, now."""
        selection = Selection(self.account.source_id)
        return self.ask(lambda warehouse: warehouse.count(self.table, selection))

    def batch(self, synced_at: datetime) -> Batch:
        """Make a batch that moves no state."""
        source_id = self.account.source_id
        lease = self.run.lease(source_id)
        return Batch(self.table, source_id, self.run.run_id, synced_at, lease=lease)


# --- the API -----------------------------------------------------------------------------------


def api_batches(read: TableRead) -> Iterator[Pending]:
    """
    Read pages in batches; the watermark moves with the last of them.

    The others of a full read note how far it has come, so that the next run can continue it.
    """
    window = read.window
    state, unread = _with_inside(read)
    is_full = window.full or _is_due_in_full(read, state)
    if unread and not is_full and not window.is_partial:
        is_full = True
        read.progress.remark(
            f"all records were read, since they were not read for {', '.join(unread)} before"
        )
    known_state = TableState() if is_full else state
    if known_state.watermark is None:
        known_state = replace(known_state, interrupted=_to_continue(read, state))
    if known_state.ends:
        known_state = replace(known_state, ends=_credible_ends(read, known_state))
    reading = read.source.read(read.table, known_state, window.since, window.until)
    known = 0
    if reading.is_full and reading.total is None:
        known = read.count_rows()
    read.start(reading.total or known or None, reading.unit)
    is_first = True
    size = read.warehouse.batch_size
    for pages, is_last in page_batches(_watched(read, reading), size, read.run.ahead):
        batch = replace(read.batch(read.run.clock()), is_full=reading.is_full)
        if is_last:
            batch = _with_state(read, reading, batch)
            if known_state.interrupted and not reading.resumed:
                read.progress.warn(STARTED_OVER)
        elif not window.is_partial:
            batch = replace(batch, interrupted=_reached(read, reading, pages))
        read.progress.resumed(reading.resumed)
        yield PendingPages(pages, batch, is_first=is_first)
        is_first = is_first and not batch.is_full
    if reading.failure is not None:
        raise reading.failure  # After the last batch, with what else was read, is committed.


def _with_inside(read: TableRead) -> tuple[TableState, list[str]]:
    """
    Read the state of a table and of those that are inside it, as if they were one.

    Also name those for which all of its records have to be read: they were never read with them;
    or a full read was without them, which may have removed records; or any read, where no
    watermark tells from when on to read. An interrupted full read is continued only if it was one
    of them all.
    """
    state = read.state
    inside = {table.name: read.state_of(table) for table in read.inside}
    if any(each.interrupted != state.interrupted for each in inside.values()):
        state = replace(state, interrupted=None)
    if state.watermark is None:
        return state, []
    needed = state.full_read_at
    if isinstance(read.table.read, Growing):
        needed = state.watermark
    unread = [
        name
        for name, each in inside.items()
        if each.watermark is None or (needed is not None and each.watermark < needed)
    ]
    known = [each.watermark for each in inside.values() if each.watermark is not None]
    return replace(state, watermark=min([state.watermark, *known])), unread


@dataclass(frozen=True)
class PendingPages:
    """Pages of the API. *is_first* marks the first batch of a full read."""

    pages: Sequence[Page]
    batch: Batch
    is_first: bool

    def stage(self, staging: Staging) -> Batch:
        """Stage the pages; a full read also collects the keys that it has seen."""
        stage_pages(staging, self.pages, self.batch.synced_at)
        return self.batch

    def finish(self) -> None:
        """Do nothing: records are counted as rows."""

    def in_parts(self) -> Sequence[Pending]:
        """Keep the pages together: the state of the last holds for all."""
        return ()


def _is_due_in_full(read: TableRead, state: TableState) -> bool:
    if read.table.record_id is None:
        return False
    grows = isinstance(read.table.read, Growing)
    account = read.account
    days = account.full_read_every_days if grows else account.detect_deletes_every_days
    if read.run.window.detect_deletes or days is None:
        return read.run.window.detect_deletes
    if state.full_read_at is None:  # So far a full read was only continued.
        return not read.run.window.is_partial
    return read.run.started_at - state.full_read_at >= timedelta(days=days)


def _to_continue(read: TableRead, state: TableState) -> InterruptedRead | None:
    """Find the full read that this run can continue; a full read that is asked for is a new one."""
    window, found = read.run.window, state.interrupted
    if found is None or window.full or window.detect_deletes or window.is_partial:
        return None
    if found.is_credible(read.run.started_at, _rows(read, state)):
        return found
    read.progress.warn(STARTED_OVER)
    return None


def _credible_ends(read: TableRead, state: TableState) -> tuple[ReadPosition, ...]:
    """Give the known ends of collections, unless the warehouse lacks rows before them."""
    rows = _rows(read, state)
    return state.ends if rows >= sum(end.offset for end in state.ends) else ()


def _rows(read: TableRead, state: TableState) -> int:
    """Count the records that were read, as far as the warehouse knows."""
    rows = read.count_rows() + state.rejects
    return rows + (len(read.table.suppressions.hashes) if read.table.suppressions else 0)


def _began_at(read: TableRead, reading: Reading) -> datetime:
    """Give the time up to which the table is complete after the read."""
    return reading.resumed.began_at if reading.resumed else read.source.read_until


def _reached(read: TableRead, reading: Reading, pages: Sequence[Page]) -> InterruptedRead | None:
    positions = [page.position for page in pages if page.position is not None]
    return InterruptedRead(positions[-1], _began_at(read, reading)) if positions else None


def _watched(read: TableRead, reading: Reading) -> Iterator[Page]:
    """Pass pages on, and report each as progress."""
    records, before = 0, read.source.requests
    for page in reading.pages():
        records += len(page.records)
        done = records if reading.unit == "records" else reading.done
        read.advance(records, read.source.requests - before, done)
        yield page


def _with_state(read: TableRead, reading: Reading, batch: Batch) -> Batch:
    """Add the state to commit with the last page."""
    is_partial = read.run.window.is_partial
    until = None if is_partial else _began_at(read, reading)
    deletes = None
    if reading.is_full and read.table.record_id is not None and not reading.is_doubtful:
        deletes = DeleteDetection(read.account.deletes == "remove", read.account.max_deleted_share)
    return replace(
        batch,
        watermark=until,
        full_read_at=until if reading.is_full else None,
        deletes=deletes,
        retry=None if is_partial else reading.retry,
        refreshed={} if is_partial else reading.refreshed,
        ends=None if is_partial else reading.ends,
    )


# --- the export --------------------------------------------------------------------------------


def export_batches(read: TableRead) -> Iterator[Pending]:
    """Read the files whose version the file log lacks, oldest first, in batches."""
    state, export = read.state, read.source.export(read.table)
    if export.warning:
        read.progress.warn(export.warning)
    waiting = _waiting(read, state)
    start_after = _list_after(read, state, len(waiting))
    watch = Watch()
    with step("listing"):
        listed = list(export.list(start_after))
        if start_after is not None and not listed and not export.waiting:
            start_after = None  # Files of the last week were there, and are gone.
            listed = list(export.list())
    read.run.observe(FeedListed(watch.began_at, watch.seconds, current_place(), len(listed)))
    files = _files_to_read(read, listed, waiting)
    is_expected = state.files or not read.run.window.is_partial
    if not listed and not export.waiting and is_expected:
        read.progress.warn(export.nothing_found(state.files - state.unreadable))
    if export.waiting:
        read.progress.remark(_too_young(export.waiting, export.settle_seconds))
    size = sum(file.size for file in files)
    read.start(size, "bytes")
    loaded_at, counter = state.loaded_at, _FileCounter(read, waiting, left=bool(export.waiting))
    with _fetched(read, files) as fetched:
        for batch in file_batches(fetched, read.warehouse.batch_size, read.run.ahead):
            now = read.run.clock()
            # A row's file is known by its __synced_at: no two files have the same.
            first = max(now, loaded_at + TICK) if loaded_at else now
            moments = [first + place * TICK for place in range(len(batch))]
            loaded_at = moments[-1]
            yield PendingFiles(batch, moments, read.batch(now), counter)
    if counter.too_large > 1 and not counter.loaded:
        raise NotEnoughMemory(
            f"DuckDB has not enough memory for any file of {read.table.name}. Raise"
            " warehouse.memory_limit (OMETRIA_MEMORY_LIMIT), or lower warehouse.threads, then run"
            " `ometria-replica rejects replay`."
        )
    whole = listed if start_after is None else None
    read.ask(lambda _: _note_listing(read, state, whole, counter))


def _note_listing(
    read: TableRead, state: TableState, whole: Sequence[FeedObject] | None, counter: _FileCounter
) -> None:
    """Note that the *whole* feed was listed, if it was; or that the next run has to list it."""
    source_id, table_name = read.account.source_id, read.table.name
    feed, store = read.source.feed_name(read.table), read.warehouse.state
    if counter.left:
        if feed in state.listed:
            store.forget_listed(source_id, table_name, feed)
    elif whole is not None and not read.run.window.is_partial:
        there = {file.name for file in whole}
        if gone := [name for name in counter.waiting if name not in there]:
            store.forget_waiting(source_id, table_name, gone)
        store.set_listed(source_id, table_name, feed, read.run.started_at, read.run.run_id)


@dataclass(frozen=True)
class PendingFiles:
    """Export files, each with the ``__synced_at`` of its rows. No state depends on the first."""

    files: Sequence[FetchedFile]
    synced_at: Sequence[datetime]
    batch: Batch
    counter: _FileCounter
    is_first: bool = False
    outcomes: list[FileLogEntry | Unreadable] = field(default_factory=list)

    def stage(self, staging: Staging) -> Batch:
        """Stage the files; those that can be read, or cannot, go into the file log."""
        self.outcomes[:] = [
            self.counter.logged(outcome, at)
            for outcome, at in zip(
                stage_files(staging, self.files, self.synced_at), self.synced_at, strict=True
            )
        ]
        entries = [each for each in self.outcomes if isinstance(each, FileLogEntry)]
        return replace(self.batch, files=tuple(entries))

    def finish(self) -> None:
        """Count the files, and remove them from this machine."""
        self.counter.add(self.files, self.outcomes)
        discard(self.files)

    def in_parts(self) -> Sequence[Pending]:
        """Divide the files into halves; a file that needs too much by itself is set aside."""
        if len(self.files) == 1:
            (file,) = self.files
            if isinstance(file, Unreadable):
                return ()
            discard(self.files)
            self.counter.too_large += 1
            return [self._part([Unreadable(file.origin, NO_MEMORY_FOR_IT, later=True)], slice(1))]
        middle = len(self.files) // 2
        halves = slice(middle), slice(middle, None)
        return [self._part(self.files[half], half) for half in halves]

    def _part(self, files: Sequence[FetchedFile], part: slice) -> PendingFiles:
        return PendingFiles(files, self.synced_at[part], self.batch, self.counter)


@dataclass
class _FileCounter:
    """
    Counts the files of a table. *left* says that the next run has to read one of them.

    *loaded* files were read; *too_large* ones need more memory than DuckDB may use. *waiting* are
    the files that could not be read by an earlier run.
    """

    read: TableRead
    waiting: Mapping[str, WaitingFile]
    records: int = 0
    size: int = 0
    left: bool = False
    loaded: int = 0
    too_large: int = 0

    def logged(self, outcome: FileLogEntry | Unreadable, at: datetime) -> FileLogEntry | Unreadable:
        """Return the entry of a file that may be readable *later*, and of any other its own."""
        if isinstance(outcome, Unreadable):
            if not outcome.later:
                return outcome
            retry_at = self.read.run.clock() + _wait(
                self.waiting.get(outcome.origin.name), outcome.origin
            )
            outcome = FileLogEntry(outcome.origin, at, 0, outcome.reason, retry_at)
        return replace(outcome, was_waiting=outcome.file.name in self.waiting)

    def add(
        self, files: Sequence[FetchedFile], outcomes: Sequence[FileLogEntry | Unreadable]
    ) -> None:
        for file, outcome in zip(files, outcomes, strict=True):
            self.size += file.origin.size
            if isinstance(outcome, FileLogEntry):
                self.records += outcome.records
                reason = outcome.unreadable_because
                if outcome.retry_at is not None:
                    if self._is_known(outcome):
                        continue
                    reason = f"{reason}; it is tried again in an hour, and then ever more rarely"
            else:
                self.left, reason = True, outcome.reason
            self.read.progress.count(**{"files" if reason is None else "files_unreadable": 1})
            if reason is None:
                self.loaded += 1
            else:
                self.read.progress.warn(f"{file.origin.name}: {reason}")
        self.read.advance(self.records, 0, self.size)

    def _is_known(self, entry: FileLogEntry) -> bool:
        """Whether an earlier run has warned of the same."""
        known = self.waiting.get(entry.file.name)
        return known is not None and (known.file, known.reason) == (
            entry.file,
            entry.unreadable_because,
        )


def _wait(known: WaitingFile | None, file: FeedObject) -> timedelta:
    """
    Double the last wait for this version of a file.

    For one that was loaded before, the log keeps the time of that: its second wait is the longest.
    """
    if known is None or known.file != file:
        return FIRST_WAIT
    last = timedelta(seconds=round((known.retry_at - known.tried_at).total_seconds()))
    return min(max(2 * last, FIRST_WAIT), LONGEST_WAIT)


def _too_young(count: int, settle_seconds: float) -> str:
    files = counted(count, "file is", "files are")
    waits = "waits" if count == 1 else "wait"
    return f"{files} younger than {settle_seconds:g} s and {waits} for the next run"


@contextmanager
def _fetched(read: TableRead, files: Sequence[FeedObject]) -> Iterator[Iterator[FetchedFile]]:
    with temp_folder(read.run.temp_directory) as folder:
        if read.run.fetch is None:
            yield read.source.export(read.table).fetch(files, folder)
        else:
            yield read.run.fetch(read.account, read.table, files, folder)


def _waiting(read: TableRead, state: TableState) -> Mapping[str, WaitingFile]:
    source_id, name = read.account.source_id, read.table.name
    return read.ask(
        lambda warehouse: warehouse.state.waiting_files(source_id, name, state.retry_files)
    )


def _list_after(read: TableRead, state: TableState, waiting: int) -> str | None:
    """Find the name after which to list; None for all, which is due each day."""
    if read.run.window.full or read.run.window.is_partial:
        return None
    listed_at = state.listed.get(read.source.feed_name(read.table))
    if listed_at is None or not timedelta() <= read.run.started_at - listed_at < LIST_ALL:
        return None
    source_id, name = read.account.source_id, read.table.name
    return read.ask(lambda warehouse: warehouse.state.list_after(source_id, name, waiting))


def _files_to_read(
    read: TableRead, listed: Sequence[FeedObject], waiting: Mapping[str, WaitingFile]
) -> list[FeedObject]:
    """Choose files by the file log, or by the days on which they were written."""
    window = read.window
    if window.is_partial:
        first, last = window.since or date.min, window.until or date.max
        return sorted(file for file in listed if first <= file.modified_at.date() <= last)
    if window.full:
        return sorted(listed)
    source_id, name = read.account.source_id, read.table.name
    files = read.ask(lambda warehouse: warehouse.state.new_files(source_id, name, listed))
    now = read.run.started_at
    return sorted(file for file in files if not _has_to_wait(waiting.get(file.name), file, now))


def _has_to_wait(known: WaitingFile | None, file: FeedObject, now: datetime) -> bool:
    """
    Whether this version of a file could not be read, and is not due again.

    After a clock that was ahead, no wait is longer than the longest.
    """
    return known is not None and known.file == file and now < known.retry_at <= now + LONGEST_WAIT
