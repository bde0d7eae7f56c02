"""Reading a table in batches, each with the state to commit with it: API and export."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from ometria_replica.batch import Batch, DeleteDetection, FileLogEntry, TableState
from ometria_replica.batching import file_batches, page_batches, stage_files, stage_pages
from ometria_replica.failpoints import step
from ometria_replica.run_context import TableProgress
from ometria_replica.selection import Selection
from ometria_replica.temp_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ometria_replica.config import AccountSettings
    from ometria_replica.mapping import Staging
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.records import FeedObject, FetchedFile, Page, Unreadable
    from ometria_replica.run_context import RunContext
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

TICK = timedelta(microseconds=1)

LIST_ALL = timedelta(days=1)
"""A file whose name sorts before those of a week ago is found this late at the latest."""


class Pending(Protocol):
    """Records that were read and are not staged yet. *is_first* marks a read's first batch."""

    @property
    def is_first(self) -> bool:
        """Whether this is the first batch of a read."""

    def stage(self, staging: Staging) -> Batch:
        """Stage them; return the state to commit with them."""


@dataclass
class TableRead:
    """One table of one account, about to be read."""

    run: RunContext
    warehouse: Warehouse
    account: AccountSettings
    source: AccountSource
    table: Table

    @cached_property
    def progress(self) -> TableProgress:
        """The counts of the table."""
        return TableProgress(self.run, self.account, self.table.name)

    @property
    def state(self) -> TableState:
        """The table's state in the warehouse, read now."""
        return self.warehouse.state.table_state(self.account.source_id, self.table.name)

    def batch(self, synced_at: datetime) -> Batch:
        """Make a batch that moves no state."""
        source_id = self.account.source_id
        lease = self.run.lease(source_id)
        return Batch(self.table, source_id, self.run.run_id, synced_at, lease=lease)


# --- the API -----------------------------------------------------------------------------------


def api_batches(read: TableRead) -> Iterator[Pending]:
    """Read pages in batches; the watermark moves with the last of them."""
    state, source_id = read.state, read.account.source_id
    is_full = read.run.window.full or _is_due_in_full(read, state)
    window = read.run.window
    reading = read.source.read(
        read.table, TableState() if is_full else state, window.since, window.until
    )
    known = 0
    if reading.is_full and reading.total is None:
        known = read.warehouse.count(read.table, Selection(source_id))
    read.run.progress.start(
        source_id, read.table.name, reading.total or known or None, reading.unit
    )
    is_first = True
    for pages, is_last in page_batches(_watched(read, reading), read.warehouse.batch_size):
        batch = replace(read.batch(read.run.clock()), is_full=reading.is_full)
        if is_last:
            batch = _with_state(read, reading, batch)
        yield PendingPages(pages, batch, is_first=is_first)
        is_first = False
    if reading.failure is not None:
        raise reading.failure  # After the last batch, with what else was read, is committed.


@dataclass(frozen=True)
class PendingPages:
    """Pages of the API. *is_first* marks the first batch of a read."""

    pages: Sequence[Page]
    batch: Batch
    is_first: bool

    def stage(self, staging: Staging) -> Batch:
        """Stage the pages; a full read also collects the keys that it has seen."""
        stage_pages(staging, self.pages, self.batch.synced_at)
        return self.batch


def _is_due_in_full(read: TableRead, state: TableState) -> bool:
    if read.table.record_id is None:
        return False
    days = read.account.detect_deletes_every_days
    if read.run.window.detect_deletes or state.full_read_at is None or days is None:
        return read.run.window.detect_deletes
    return read.run.started_at - state.full_read_at >= timedelta(days=days)


def _watched(read: TableRead, reading: Reading) -> Iterator[Page]:
    """Pass pages on, and report each as progress."""
    records, before = 0, read.source.requests
    for page in reading.pages():
        records += len(page.records)
        done = records if reading.unit == "records" else reading.done
        read.run.progress.advance(records, read.source.requests - before, done)
        yield page


def _with_state(read: TableRead, reading: Reading, batch: Batch) -> Batch:
    """Add the state to commit with the last page."""
    is_partial = read.run.window.is_partial
    until = None if is_partial else read.source.read_until
    deletes = None
    if reading.is_full and read.table.record_id is not None and not reading.is_doubtful:
        deletes = DeleteDetection(read.account.deletes == "remove", read.account.max_deleted_share)
    return replace(
        batch,
        watermark=until,
        full_read_at=until if reading.is_full else None,
        deletes=deletes,
        retry=None if is_partial else reading.retry,
    )


# --- the export --------------------------------------------------------------------------------


def export_batches(read: TableRead) -> Iterator[Pending]:
    """Read the files whose version the file log lacks, oldest first, in batches."""
    state = read.state
    start_after = _list_after(read, state)
    files = _files_to_read(read, start_after)
    if not files and not state.files and not read.run.window.is_partial:
        read.progress.warn(read.source.export(read.table).nothing_found())
    size = sum(file.size for file in files)
    read.run.progress.start(read.account.source_id, read.table.name, size, "bytes")
    loaded_at, counter = state.loaded_at, _FileCounter(read)
    with _fetched(read, files) as fetched:
        for batch in file_batches(fetched, read.warehouse.batch_size):
            now = read.run.clock()
            # A row's file is known by its __synced_at: no two files have the same.
            first = max(now, loaded_at + TICK) if loaded_at else now
            moments = [first + place * TICK for place in range(len(batch))]
            loaded_at = moments[-1]
            yield PendingFiles(batch, moments, read.batch(now), counter)
    if start_after is None and not counter.left and not read.run.window.is_partial:
        read.warehouse.state.set_listed(
            read.account.source_id, read.table.name, read.source.feed_name(read.table),
            read.run.started_at, read.run.run_id,
        )  # fmt: skip


@dataclass(frozen=True)
class PendingFiles:
    """Export files, each with the ``__synced_at`` of its rows. No state depends on the first."""

    files: Sequence[FetchedFile]
    synced_at: Sequence[datetime]
    batch: Batch
    counter: _FileCounter
    is_first: bool = False

    def stage(self, staging: Staging) -> Batch:
        """Stage the files; those that can be read, or never can, go into the file log."""
        outcomes = stage_files(staging, self.files, self.synced_at)
        entries = [each for each in outcomes if isinstance(each, FileLogEntry)]
        self.counter.add(self.files, outcomes)
        return replace(self.batch, files=tuple(entries))


@dataclass
class _FileCounter:
    """Counts the files of a table. *left* says that a later run has to read one of them."""

    read: TableRead
    records: int = 0
    size: int = 0
    left: bool = False

    def add(
        self, files: Sequence[FetchedFile], outcomes: Sequence[FileLogEntry | Unreadable]
    ) -> None:
        for file, outcome in zip(files, outcomes, strict=True):
            self.size += file.origin.size
            if isinstance(outcome, FileLogEntry):
                self.records += outcome.records
                reason = outcome.unreadable_because
            else:
                self.left, reason = True, outcome.reason
            self.read.progress.count(**{"files" if reason is None else "files_unreadable": 1})
            if reason is not None:
                self.read.progress.warn(f"{file.origin.name}: {reason}")
        self.read.run.progress.advance(self.records, 0, self.size)


@contextmanager
def _fetched(read: TableRead, files: Sequence[FeedObject]) -> Iterator[Iterator[FetchedFile]]:
    with temp_folder(read.run.temp_directory) as folder:
        if read.run.fetch is None:
            yield read.source.export(read.table).fetch(files, folder)
        else:
            yield read.run.fetch(read.account, read.table, files, folder)


def _list_after(read: TableRead, state: TableState) -> str | None:
    """Find the name after which to list; None for all, which is due each day."""
    if read.run.window.full or read.run.window.is_partial:
        return None
    listed_at = state.listed.get(read.source.feed_name(read.table))
    if listed_at is None or not timedelta() <= read.run.started_at - listed_at < LIST_ALL:
        return None
    return read.warehouse.state.list_after(read.account.source_id, read.table.name)


def _files_to_read(read: TableRead, start_after: str | None) -> list[FeedObject]:
    """Choose files by the file log, or by the days on which they were written."""
    with step("listing"):
        files = list(read.source.export(read.table).list(start_after))
    window = read.run.window
    if window.is_partial:
        first, last = window.since or date.min, window.until or date.max
        files = [file for file in files if first <= file.modified_at.date() <= last]
    elif not window.full:
        files = read.warehouse.state.new_files(read.account.source_id, read.table.name, files)
    return sorted(files)
