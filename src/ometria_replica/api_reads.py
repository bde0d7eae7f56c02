"""Reading a table of the API in batches, each with the state to commit with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.batch import DeleteDetection
from ometria_replica.batching import page_batches, stage_pages
from ometria_replica.due import api_due
from ometria_replica.read_position import InterruptedRead
from ometria_replica.ways_to_read import Newest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ometria_replica.batch import Batch
    from ometria_replica.mapping import Staging
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.records import Page
    from ometria_replica.table_reads import Pending, TableRead

STARTED_OVER = "an interrupted full read could not be continued, and started over"


def api_batches(read: TableRead) -> Iterator[Pending]:
    """
    Read pages in batches; the watermark moves with the last of them.

    The others of a full read note how far it has come, so that the next run can continue it.
    """
    window = read.window
    way = read.table.read
    may_miss = way if isinstance(way, Newest) and read.state.watermark is not None else None
    due = api_due(read)
    if due.whole[:1] == ("inside",):
        read.progress.remark(
            f"all records were read, since they were not read for {', '.join(due.inside)} before"
        )
    if due.starts_over:
        read.progress.warn(STARTED_OVER)
    reading = read.source.read(read.table, due.known, window.since, window.until)
    read.progress.is_due(due.kind(window, reading))
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
            if due.known.interrupted and not reading.resumed:
                read.progress.warn(STARTED_OVER)
        elif not window.is_partial:
            batch = replace(batch, interrupted=_reached(read, reading, pages))
        read.progress.resumed(reading.resumed)
        yield PendingPages(pages, batch, is_first=is_first)
        is_first = is_first and not batch.is_full
    if reading.failure is not None:
        raise reading.failure  # After the last batch, with what else was read, is committed.
    if may_miss is not None:
        _warn_if_missed(read, may_miss)


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


def _warn_if_missed(read: TableRead, newest: Newest) -> None:
    """Warn if an endpoint that gives its newest records gave none that was known."""
    report = read.progress.report
    is_known = report.unchanged or report.updated or report.merged
    if report.records >= newest.most and not is_known:
        read.progress.warn(
            f"all of the newest {newest.most} are new, so there were probably more since the last"
            " run, and Ometria no longer gives them; run more often to miss none"
        )


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
