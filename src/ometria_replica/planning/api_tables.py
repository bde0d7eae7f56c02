"""Plans the read of a table of the API: its requests, its records, the rows that they replace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING

from ometria_replica.due import api_due
from ometria_replica.ometria.growing_collections import GrowingReading
from ometria_replica.ometria.prefetch import IN_FLIGHT
from ometria_replica.ometria.read_strategies import (
    CollectionReading,
    NewestReading,
    OffsetReading,
    PerParentReading,
    WindowReading,
)
from ometria_replica.ometria.request_counts import of_pages, of_windows
from ometria_replica.ometria.start_times import read_from
from ometria_replica.planning.figures import NOTHING, Figure, estimated, known, total, unknown
from ometria_replica.planning.last_runs import (
    FEW,
    FEW_REQUESTS,
    PastRead,
    records_in,
    requests_of,
    share_there,
)
from ometria_replica.planning.reasons import reasons
from ometria_replica.planning.table_plan import TablePlan
from ometria_replica.selection import Selection, Span, Times
from ometria_replica.ways_to_read import Growing, Newest, Pages, PerParent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.due import ApiDue
    from ometria_replica.ometria.growing_collections import Branch
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.ometria.record_counts import Counted
    from ometria_replica.planning.last_runs import LastRuns
    from ometria_replica.planning.table_plan import Why
    from ometria_replica.report import Due
    from ometria_replica.table_reads import TableRead

OF_A_GROWING = 3
"""Requests of a collection whose end is known: the page there, and whether dates are honoured."""

_NOT_COUNTED = "its records could not be counted: Ometria answers at every offset, or it changes"


@dataclass(frozen=True)
class ApiPlanner:
    """
    Plans one table of the API.

    If *is_offline*, nothing is requested: the numbers rest on the run history, and on the rows of
    the tables.
    """

    read: TableRead
    runs: LastRuns
    is_offline: bool = False

    def plan(self) -> TablePlan:
        """Plan the table. Raises OmetriaError as the read would."""
        read = self.read
        plan = TablePlan(read.account.source_id, read.table.name, self.kind, rows=self.rows)
        plan = replace(plan, why=self.why, per_minute=self._per_minute)
        before = read.source.requests
        planned = self._with_reading(plan, before) if self._can_read else self._offline(plan)
        if read.window.until and planned.due == "period" and not self._honours_until:
            planned = planned.noting(
                "it is read up to now: Ometria has no parameter for a last day"
            )
        return replace(planned, rewritten=self._rewritten(planned.records))

    # --- what is decided ---

    @cached_property
    def due(self) -> ApiDue:
        """What is due, as a sync decides it."""
        return api_due(self.read)

    @cached_property
    def reading(self) -> Reading:
        """The read, as a sync makes it."""
        window = self.read.window
        return self.read.source.read(self.read.table, self.due.known, window.since, window.until)

    @cached_property
    def rows(self) -> int:
        """The rows of the source in the table."""
        return self.read.count_rows()

    @cached_property
    def kind(self) -> Due:
        """Which records are due."""
        if self.read.window.is_partial:
            return "period"
        if self._can_read:
            return self.due.kind(self.read.window, self.reading)
        always = any(why.code in {"weekly round", "small collection"} for why in self.why)
        return "all" if self.due.whole or always else "new"

    @cached_property
    def why(self) -> tuple[Why, ...]:
        """Why all records are due."""
        return tuple(reasons(self.read, self.due, self.runs))

    @property
    def _can_read(self) -> bool:
        """Whether the read can be made: without requests, unless these are allowed."""
        match self.read.table.read:
            case PerParent():
                return not self.is_offline
            case Growing(parent=parent):
                return not self.is_offline or parent is None
        return True

    @property
    def _honours_until(self) -> bool:
        return isinstance(self.reading, WindowReading) if self._can_read else False

    @property
    def _per_minute(self) -> int | None:
        read = self.read.table.read
        return read.requests_per_minute if isinstance(read, Pages) else None

    # --- what earlier runs tell ---

    @cached_property
    def past(self) -> Sequence[PastRead]:
        """Earlier reads of the same kind; for those of a period, what reads of new records tell."""
        kind: Due = "all" if self.kind == "all" else "new"
        return self.runs.reads(self.read.account.source_id, self.read.table.name, kind)

    @property
    def _past_of_all(self) -> Sequence[PastRead]:
        return self.runs.reads(self.read.account.source_id, self.read.table.name, "all")

    @property
    def _began(self) -> datetime | None:
        """The time from which on records are due; None if all are."""
        since = self.read.window.since
        start = datetime.combine(since, time(), UTC) if since else self.due.known.watermark
        return read_from(self.read.table.read, start) if start else None

    @property
    def _of_earlier(self) -> Figure:
        """The records, by what earlier reads have found, or by the rows of the table."""
        if self.kind == "all" or self._began is None:
            return self._about(self.rows) if self.rows else unknown()
        if self.kind == "period" and self.read.table.time:
            return estimated(self._rows_since(self._began))
        return self._in_time(self._began)

    def _in_time(self, began: datetime, requests: int | None = None) -> Figure:
        """Estimate the records since a time, by how many the last reads have found."""
        span = max(timedelta(), self.read.run.started_at - began)
        return records_in(self.past, partial(read_from, self.read.table.read), span, requests)

    @staticmethod
    def _about(rows: int) -> Figure:
        return estimated(rows, rows // 2, 2 * rows + FEW)

    def _rows_since(self, since: datetime) -> int:
        until, table = self.read.window.until, self.read.table
        last = datetime.max.replace(tzinfo=UTC)
        if until and self._honours_until:
            last = datetime.combine(until, time.max, UTC)
        times = Times(table.time or "", (Span(since, last),))
        selection = Selection(self.read.account.source_id, times=times)
        return self.read.ask(lambda warehouse: warehouse.count(table, selection))

    def _rewritten(self, records: Figure) -> Figure:
        """Estimate the rows that are there and are written again."""
        if not self.rows:
            return NOTHING
        rewrites = self.read.warehouse.rewrites_unchanged
        if self.kind == "all" and rewrites:
            most = self.rows if records.high is None else min(records.high, self.rows)
            return estimated(min(most, records.value or self.rows), 0, most)
        share = share_there(self.past, unchanged=rewrites)
        if records.value is None or share is None:
            return replace(unknown(), high=self.rows)
        most = self.rows if records.high is None else min(records.high, self.rows)
        return estimated(min(most, round(records.value * share)), 0, most)

    # --- each way to read ---

    def _offline(self, plan: TablePlan) -> TablePlan:
        """Plan a read that needs the records of a parent, without asking for these."""
        records, last = self._of_earlier, self.due.known.full_read_at
        if self.kind == "all" and last and isinstance(self.read.table.read, PerParent):
            records = self._of_a_round(last)
        return replace(plan, requests=requests_of(self.past), records=records)

    def _with_reading(self, plan: TablePlan, before: int) -> TablePlan:
        reading = self.reading
        match reading:
            case OffsetReading():
                return self._pages(plan, reading)
            case CollectionReading():
                return self._collection(plan, reading, before)
            case WindowReading():
                return self._windows(plan, reading)
            case PerParentReading():
                return self._lists(plan, reading, self.read.source.requests - before)
            case GrowingReading():
                return self._growing(plan, reading, self.read.source.requests - before)
            case NewestReading():
                newest = self.read.table.read
                most = newest.most if isinstance(newest, Newest) else None
                records = requests_or_most(records_in_newest(self.past), most)
                return replace(plan, requests=known(1), records=records)
        raise TypeError(type(reading).__name__)

    def _pages(self, plan: TablePlan, reading: OffsetReading) -> TablePlan:
        expected = self._of_earlier
        if self.is_offline:
            return replace(plan, records=expected, requests=of_estimated(expected))
        counted = reading.count(expected.value or 0)
        if counted is None:
            return replace(plan, records=expected, requests=unknown(2)).noting(_NOT_COUNTED)
        start = reading.resumed.position.start if reading.resumed else 0
        done = reading.resumed.position.offset if reading.resumed else 0
        return replace(
            plan,
            records=known(max(0, counted.records - done)),
            requests=self._of_counted(counted, start),
        )

    def _of_counted(self, counted: Counted, start: int = 0) -> Figure:
        """
        Return the requests for records that were counted.

        While an answer is slow, pages are requested ahead, some of which may not be needed.
        """
        needed = of_pages(max(0, counted.records - start), counted.page_size)
        if needed > 1:
            return estimated(needed, needed, needed + 2 * IN_FLIGHT)
        return known(needed)

    def _collection(self, plan: TablePlan, reading: CollectionReading, before: int) -> TablePlan:
        if self.is_offline or self._per_minute:
            requests = requests_of(self.past)
            requests = unknown(1) if requests.value is None else requests
            return replace(plan, requests=requests, records=self._of_earlier)
        records = sum(len(page.records) for page in reading.pages())
        return replace(
            plan, requests=known(self.read.source.requests - before), records=known(records)
        )

    def _windows(self, plan: TablePlan, reading: WindowReading) -> TablePlan:
        events, least = self._of_earlier, reading.windows
        requests = requests_of(self.past) if self.kind != "period" else unknown()
        if requests.value is None and events.value is not None:
            high = None if events.high is None else 3 * of_windows(events.high) + 2 * least
            requests = estimated(of_windows(events.value) + least - 1, least, high)
        if requests.value is None:
            requests = unknown(least)
        return replace(plan, requests=requests, records=events)

    def _lists(self, plan: TablePlan, reading: PerParentReading, asked: int) -> TablePlan:
        due = reading.total or 0
        requests = unknown(due)  # The answers may have pages: that is not documented.
        if not due:
            requests = NOTHING
        elif most := requests_of(self.past or self._past_of_all).high:
            requests = estimated(due + 1, due, max(most, 2 * due + FEW_REQUESTS))
        return replace(
            plan,
            requests=known(asked) + requests,
            records=self._of_lists(due),
            parts=known(due),
            parts_total=len(self.read.source.parents(self.read.table)),
            unit="list",
        )

    def _of_lists(self, due: int) -> Figure:
        """Estimate the changes of the lists that are due."""
        if not due:
            return NOTHING
        if self.kind == "all" and self.due.known.full_read_at is not None:
            return self._of_a_round(self.due.known.full_read_at)
        if self.kind != "new" or self._began is None:
            return self._of_earlier
        found, of_all = self._in_time(self._began, due), self._of_earlier
        if found.high is None or of_all.high is None:
            return found
        return replace(  # Lists differ: what is due may be one that hardly changes, or the largest.
            found, low=min(found.low, of_all.low), high=max(found.high, of_all.high)
        )

    def _of_a_round(self, last: datetime) -> Figure:
        """Estimate the changes of all lists since the *last* round, by what other runs found."""
        source_id, table = self.read.account.source_id, self.read.table
        new = self.runs.reads(source_id, table.name, "new")
        span = self.read.run.started_at - read_from(table.read, last)
        found = records_in(new, partial(read_from, table.read), span)
        return found if found.value is None else replace(found, low=0)

    def _growing(self, plan: TablePlan, reading: GrowingReading, asked: int) -> TablePlan:
        branches = list(reading.branches)
        whole = [each for each in branches if not self._continues(reading, each)]
        counts = [self._count(reading, each, alone=len(branches) == 1) for each in whole]
        records = total(each for each, _ in counts)
        requests = known(asked) + total(each for _, each in counts)
        if rest := len(branches) - len(whole):
            found = requests_of(self.past) if self.kind != "all" and not whole else unknown()
            if found.value is None:
                found = estimated(OF_A_GROWING * rest, rest)
            requests, records = requests + found, records + self._of_earlier
        if len(branches) > 1 or (branches[:1] and branches[0].joined):
            plan = replace(
                plan, parts=known(len(branches)), parts_total=len(branches), unit="collection"
            )
        return replace(plan, requests=requests, records=records)

    def _continues(self, reading: GrowingReading, branch: Branch) -> bool:
        """Whether a collection is read from its known end; not so what is asked for by a day."""
        return self.kind == "period" or (self.kind == "new" and reading.is_known(branch))

    def _count(
        self, reading: GrowingReading, branch: Branch, *, alone: bool
    ) -> tuple[Figure, Figure]:
        """Count the records of a collection that is read whole, and the requests for them."""
        growing = self.read.table.read
        told = branch.told
        if told is not None:
            return estimated(told, told // 2, 2 * told + FEW), of_estimated(self._about(told))
        rows = self.rows if alone else 0
        if self.is_offline or not (isinstance(growing, Growing) and growing.pages):
            expected = self._about(rows) if rows else unknown()
            return expected, of_estimated(expected)
        counted = reading.count(branch, rows)
        if counted is None:
            return unknown(), unknown(2)
        start = reading.resumed.position.start if reading.resumed and alone else 0
        return known(max(0, counted.records - start)), self._of_counted(counted, start)


def of_estimated(records: Figure) -> Figure:
    """Estimate the requests for records by offset pages."""
    if records.value is None:
        return unknown(1)
    high = None if records.high is None else of_pages(records.high) + 2 * IN_FLIGHT
    return estimated(of_pages(records.value), of_pages(records.low), high)


def records_in_newest(past: Sequence[PastRead]) -> Figure:
    """Estimate the records of an endpoint that gives its newest ones: as many as the last time."""
    return estimated(past[0].report.records) if past else unknown()


def requests_or_most(records: Figure, most: int | None) -> Figure:
    """Bound records by the most that an endpoint gives."""
    value = None if records.value is None or most is None else min(records.value, most)
    return replace(records, value=value, high=most)
