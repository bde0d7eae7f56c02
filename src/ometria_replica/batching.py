"""Gathers pages and files into batches, and stages a batch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ometria_replica.batch import FileLogEntry, Part
from ometria_replica.failpoints import step
from ometria_replica.records import FeedFile, StagedFile, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from ometria_replica.batch import BatchSize
    from ometria_replica.mapping import Staging
    from ometria_replica.records import FetchedFile, Page

BATCH_SECONDS = 120.0  # However few records came: each batch renews the lease.


def page_batches(pages: Iterable[Page], most: BatchSize) -> Iterator[tuple[list[Page], bool]]:
    """Gather pages into batches, and mark the last one. There always is a last one."""
    batch: list[Page] = []
    records, began = 0, time.monotonic()
    for page in pages:
        if records >= most.records or time.monotonic() - began > BATCH_SECONDS:
            yield batch, False
            batch, records, began = [], 0, time.monotonic()
        batch.append(page)
        records += len(page.records)
    yield batch, True


def file_batches(files: Iterable[FetchedFile], most: BatchSize) -> Iterator[list[FetchedFile]]:
    """Gather files into batches; none without files."""
    batch: list[FetchedFile] = []
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


def parts_inside(staging: Staging) -> tuple[Part, ...]:
    """Make the parts of a batch of the tables that are inside its records."""
    return tuple(
        Part(
            nested.table,
            nested.tables.staged,
            parent=nested.table.parent_column.name if nested.table.parent_column else None,
            whole=nested.whole,
            rejected=nested.tables.rejected,
        )
        for nested in staging.nested
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
