"""
Reads one table of one account in batches, each with the state after it.

A loader that stores the state of a batch only once the rows of that batch are stored can be
stopped at any time: the next read continues after the last stored batch. A key can be in several
batches; the later row is the newer one.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ometria_replica.batch import BatchSize, TableState
from ometria_replica.batching import discard, file_batches, page_batches, stage_files, stage_pages
from ometria_replica.catalog import CATALOG
from ometria_replica.config import NO_LIMITS
from ometria_replica.extraction.open_table import OpenTable, open_table
from ometria_replica.extraction.reading import (
    is_due_in_full,
    is_read,
    warn_of_late,
    warn_of_nothing,
)
from ometria_replica.extraction.state import (
    advance,
    file_log_in,
    interrupt,
    set_file_log,
    table_state_in,
)
from ometria_replica.local_duckdb import translating
from ometria_replica.ways_to_read import Feed, Growing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.extraction.state import State
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.records import FetchedFile, Page
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class StagedBatch:
    """
    A batch of *table*, whose rows and rejects are staged in *connection* until the next one.

    *state* is the state after it. *is_full* marks every batch of a full read, also of one that an
    earlier read has begun. The last one of these *is_complete* if no record can be missing.
    """

    connection: duckdb.DuckDBPyConnection
    table: Table
    staged_at: datetime
    state: State
    is_full: bool = False
    is_complete: bool = False


def read_batches(
    account: AccountSettings,
    table: Table,
    state: State,
    catalog: Catalog = CATALOG,
    *,
    limits: Limits = NO_LIMITS,
    size: BatchSize | None = None,
) -> Iterator[StagedBatch]:
    """
    Yield what is new since *state*, which is not changed, in batches of about *size*.

    Raises what a sync raises where Ometria or the bucket refuses.
    """
    with open_table(account, table, catalog, limits) as opened:
        read = _Read(opened, size or BatchSize())
        yield from (read.files if isinstance(table.read, Feed) else read.pages)(state)


@dataclass(frozen=True)
class _Read:
    """One read of a table, in batches of about *size*."""

    opened: OpenTable
    size: BatchSize

    @property
    def table(self) -> Table:
        """The table that is read."""
        return self.opened.table

    def pages(self, state: State) -> Iterator[StagedBatch]:
        """Read pages of the API; the watermark moves with the last batch."""
        reading = self.opened.source.read(self.table, self._known(table_state_in(state)))
        for pages, is_last in page_batches(reading.pages(), self.size):
            staged_at = datetime.now(UTC)
            self._stage_pages(pages, staged_at)
            state = copy.deepcopy(state)
            if is_last:
                advance(state, reading, self._began_at(reading))
            elif positions := [page.position for page in pages if page.position is not None]:
                interrupt(state, positions[-1], self._began_at(reading))
            is_full = reading.is_full or reading.resumed is not None
            is_complete = is_full and is_last and not reading.is_doubtful and not reading.failure
            yield self._batch(staged_at, state, is_full=is_full, is_complete=is_complete)
        if reading.failure is not None:
            raise reading.failure  # After what else was read.

    def files(self, state: State) -> Iterator[StagedBatch]:
        """Read the new export files, oldest first; each batch adds its files to the file log."""
        log, export = file_log_in(state), self.opened.source.export(self.table)
        if export.warning:
            logger.warning("%s: %s", self.table.name, export.warning)
        listed = list(export.list())
        if not listed:
            warn_of_nothing(self.table, export, log)
            return
        warn_of_late(self.table, log.late(listed), "Start once without the state of this stream")
        files = export.fetch(sorted(log.new_files(listed)), self.opened.folder / "files")
        for batch in file_batches(files, self.size):
            staged_at = datetime.now(UTC)
            read = self._stage_files(batch, staged_at)
            log = log.after(listed, [file.origin for file in read])
            state = copy.deepcopy(state)
            set_file_log(state, log)
            yield self._batch(staged_at, state)

    def _known(self, known: TableState) -> TableState:
        """Forget what is known if a full read is due; it continues one that was interrupted."""
        grows = isinstance(self.table.read, Growing)
        account, now = self.opened.account, self.opened.now
        days = account.full_read_every_days if grows else account.detect_deletes_every_days
        if self.table.record_id is None:
            days = None
        if days is not None and is_due_in_full(known, now, days):
            known = TableState(interrupted=known.interrupted)
        found = known.interrupted
        if found is not None and not found.is_credible(now, found.position.offset):
            logger.warning(
                "%s: an interrupted full read is too old, and starts over", self.table.name
            )
            known = replace(known, interrupted=None)
        return known

    def _began_at(self, reading: Reading) -> datetime:
        """Give the time up to which the table is complete after the read."""
        return reading.resumed.began_at if reading.resumed else self.opened.source.read_until

    def _stage_pages(self, pages: Sequence[Page], staged_at: datetime) -> None:
        with translating(f"mapping {self.table.name}", self.opened.connection):
            staging = self.opened.staging()
            stage_pages(staging, pages, staged_at)
            self.opened.finish(staging)

    def _stage_files(self, files: Sequence[FetchedFile], staged_at: datetime) -> list[FetchedFile]:
        """Stage files, each with a time of its own; return those that are not to be read again."""
        times = [staged_at + place * TICK for place in range(len(files))]
        with translating(f"mapping {self.table.name}", self.opened.connection):
            staging = self.opened.staging()
            outcomes = zip(files, stage_files(staging, files, times), strict=True)
            read = [file for file, outcome in outcomes if is_read(staging, outcome, file.origin)]
            discard(files)
            self.opened.finish(staging)
        return read

    def _batch(
        self, staged_at: datetime, state: State, *, is_full: bool = False, is_complete: bool = False
    ) -> StagedBatch:
        return StagedBatch(
            self.opened.connection, self.table, staged_at, state, is_full, is_complete
        )
