"""Gathers pages and files into batches, and stages a batch."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.batch import FileLogEntry, Part
from ometria_replica.failpoints import step
from ometria_replica.mapping import STAGED_RECORDS
from ometria_replica.observer import BatchLoaded, Place
from ometria_replica.raw_records import raw_table
from ometria_replica.records import FeedFile, StagedFile, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from ometria_replica.batch import Batch, BatchSize, Loaded
    from ometria_replica.mapping import Staged, Staging
    from ometria_replica.observer import Watch
    from ometria_replica.records import FetchedFile, Page

BATCH_SECONDS = 120.0  # However few records came: each batch renews the lease.


MOST_AHEAD = 4  # Batches, of all tables that are read at the same time: bounds memory and disk.


@dataclass
class Held:
    """Counts records, or bytes, that are in the batches of all tables that are read."""

    most: float
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_full(self) -> bool:
        """Whether there are so many that each table loads what it has."""
        return self._now > self.most

    def add(self, number: int) -> None:
        """Count what was read, or with a negative number what was loaded."""
        with self._lock:
            self._now += number


class ReadAhead:
    """What all tables of a run together have read and not loaded: *records* and *bytes*."""

    def __init__(self, size: BatchSize | None = None) -> None:
        self.records = Held(MOST_AHEAD * size.records if size else math.inf)
        self.bytes = Held(MOST_AHEAD * size.bytes if size else math.inf)


def page_batches(
    pages: Iterable[Page], most: BatchSize, ahead: ReadAhead | None = None
) -> Iterator[tuple[list[Page], bool]]:
    """
    Gather pages into batches, and mark the last one. There always is a last one.

    A batch counts in *ahead* until the next one is asked for. It is smaller where that is full.
    """
    held = (ahead or ReadAhead()).records
    batch: list[Page] = []
    records, began = 0, time.monotonic()
    try:
        for page in pages:
            if (
                records >= most.records
                or (records and held.is_full)
                or time.monotonic() - began > BATCH_SECONDS
            ):
                yield batch, False
                held.add(-records)
                batch, records, began = [], 0, time.monotonic()
            batch.append(page)
            records += len(page.records)
            held.add(len(page.records))
        yield batch, True
    finally:
        held.add(-records)


def file_batches(
    files: Iterable[FetchedFile], most: BatchSize, ahead: ReadAhead | None = None
) -> Iterator[list[FetchedFile]]:
    """Gather files into batches; none without files. They count in *ahead* as pages do."""
    held = (ahead or ReadAhead()).bytes
    batch: list[FetchedFile] = []
    size, began = 0, time.monotonic()
    try:
        for file in files:
            batch.append(file)
            size += file.origin.size
            held.add(file.origin.size)
            slow = time.monotonic() - began > BATCH_SECONDS
            if size >= most.bytes or len(batch) >= most.files or slow or held.is_full:
                yield batch
                held.add(-size)
                batch, size, began = [], 0, time.monotonic()
        if batch:
            yield batch
    finally:
        held.add(-size)


def stage_pages(staging: Staging, pages: Sequence[Page], synced_at: datetime) -> None:
    """Stage pages in their order."""
    with step("page"):
        staging.add_pages(pages, synced_at)


def stage_files(
    staging: Staging, files: Sequence[FetchedFile], synced_at: Sequence[datetime]
) -> list[FileLogEntry | Unreadable]:
    """
    Stage export files in their order, each with its ``__synced_at``.

    Returns the entry of each for the file log, or, for a file that another run may read, why it
    could not be read. A run fetches files, or files that others have staged, and never both.
    """
    timed = list(zip(files, synced_at, strict=True))
    unstaged = [(file, at) for file, at in timed if isinstance(file, FeedFile)]
    with step("file"):
        staged = iter(staging.add_files(unstaged))
    outcomes: list[FileLogEntry | Unreadable] = []
    for file, at in timed:
        records: int | Unreadable
        match file:
            case Unreadable():
                records = file
            case StagedFile():
                records = staging.add_staged(file, at)
            case FeedFile():
                records = next(staged)
        outcomes.append(_outcome(file, records, at))
    return outcomes


def parts_of(staging: Staging) -> tuple[Part, ...]:
    """Make the parts of a staged batch: what is inside its records, and these as they came."""
    table = staging.table
    records = (Part(raw_table(table), STAGED_RECORDS),) if table.keeps_records else ()
    inside = (
        Part(
            nested.table,
            nested.tables.staged,
            parent=nested.table.parent_column.name if nested.table.parent_column else None,
            whole=nested.whole,
            rejected=nested.tables.rejected,
        )
        for nested in staging.nested
    )
    return (*inside, *records)


def batch_loaded(
    watch: Watch,
    mapping_seconds: float,
    batch: Batch,
    staged: Staged,
    loaded: Loaded,
) -> BatchLoaded:
    """Make the event of a batch that was loaded just now, and that *watch* has timed."""
    return BatchLoaded(
        watch.began_at,
        watch.seconds,
        Place(batch.source_id, batch.table.name),
        mapping_seconds=mapping_seconds,
        files=len(batch.files),
        records=staged.records,
        inserted=loaded.inserted,
        updated=loaded.updated,
        unchanged=loaded.unchanged,
        removed=loaded.removed,
        records_rejected=staged.records_rejected,
        values_rejected=staged.values_rejected,
    )


def discard(files: Iterable[FetchedFile]) -> None:
    """Remove files from this machine: the next ones need the room."""
    for file in files:
        if not isinstance(file, Unreadable):
            file.discard()


def _outcome(
    file: FetchedFile, records: int | Unreadable, loaded_at: datetime
) -> FileLogEntry | Unreadable:
    if isinstance(records, Unreadable):
        if records.again or records.later:
            return records
        return FileLogEntry(file.origin, loaded_at, 0, records.reason)
    return FileLogEntry(file.origin, loaded_at, records)
