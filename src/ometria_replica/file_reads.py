"""Reading the export files of a table in batches, each with the state to commit with it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_replica.batch import FileLogEntry
from ometria_replica.batching import discard, file_batches, stage_files
from ometria_replica.due import LONGEST_WAIT, files_due
from ometria_replica.errors import NotEnoughMemory
from ometria_replica.records import Unreadable
from ometria_replica.temp_files import temp_folder
from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.batch import Batch, TableState, WaitingFile
    from ometria_replica.mapping import Staging
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.table_reads import Pending, TableRead

TICK = timedelta(microseconds=1)

FIRST_WAIT = timedelta(hours=1)
"""Before a file that the store does not give is tried again; each wait is twice the last."""

NO_MEMORY_FOR_IT = (
    "DuckDB has not enough memory for it; raise warehouse.memory_limit (OMETRIA_MEMORY_LIMIT), or"
    " lower warehouse.threads"
)


def export_batches(read: TableRead) -> Iterator[Pending]:
    """Read the files whose version the file log lacks, oldest first, in batches."""
    export = read.source.export(read.table)
    if export.warning:
        read.progress.warn(export.warning)
    due = files_due(read)
    read.progress.is_due(due.kind(read))
    state, files, waiting = due.state, due.files, due.waiting
    is_expected = state.files or not read.run.window.is_partial
    if not due.listed and not due.young and is_expected:
        read.progress.warn(export.nothing_found(state.files - state.unreadable))
    if due.young:
        read.progress.remark(_too_young(due.young, export.settle_seconds))
    size = sum(file.size for file in files)
    read.start(size, "bytes")
    loaded_at, counter = state.loaded_at, _FileCounter(read, waiting, left=bool(due.young))
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
    whole = due.listed if due.is_whole else None
    read.ask(lambda _: _note_listing(read, state, whole, counter))


def _note_listing(
    read: TableRead, state: TableState, whole: Sequence[FeedObject] | None, counter: _FileCounter
) -> None:
    """Note that the *whole* feed was listed, if it was; or that the next run has to list it."""
    source_id, table_name = read.account.source_id, read.table.name
    feed, log = read.source.feed_name(read.table), read.warehouse.file_log
    if counter.left:
        if feed in state.listed:
            log.forget_listed(source_id, table_name, feed)
    elif whole is not None and not read.run.window.is_partial:
        there = {file.name for file in whole}
        if gone := [name for name in counter.waiting if name not in there]:
            log.forget_waiting(source_id, table_name, gone)
        log.set_listed(source_id, table_name, feed, read.run.started_at, read.run.run_id)


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
