"""What the last runs tell of the next one: their requests, and records by time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil, floor
from statistics import median
from typing import TYPE_CHECKING

from ometria_replica.planning.figures import Figure, estimated, unknown
from ometria_replica.report import report_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from ometria_replica.report import Due, RunReport, TableReport
    from ometria_replica.warehouse.warehouse import Warehouse

MOST_RUNS = 100  # Of the history.
MOST_READS = 10  # Of a table: what it was like long ago says little.
FEW = 10  # Records more or less by chance; of requests, a few.
FEW_REQUESTS = 3


@dataclass(frozen=True)
class PastRead:
    """What a run did to a table; *before* is the start of the last run before that read it."""

    started_at: datetime
    before: datetime | None
    report: TableReport


@dataclass(frozen=True)
class LastRuns:
    """The newest runs, newest first."""

    reports: Sequence[RunReport]

    @classmethod
    def read(cls, warehouse: Warehouse) -> LastRuns:
        """Read them from the run history."""
        runs = warehouse.runs.newest(MOST_RUNS)
        return cls([report_from_dict(json.loads(run.report)) for run in runs])

    def has_read(self, source_id: str, table: str) -> bool:
        """Whether one of them has read a table to its end."""
        return bool(self._of(source_id, table))

    def reads(self, source_id: str, table: str, due: Due) -> list[PastRead]:
        """List the newest reads of a table that requested the same: all records, or new ones."""
        return [each for each in self._of(source_id, table) if each.report.due == due][:MOST_READS]

    def _of(self, source_id: str, table: str) -> list[PastRead]:
        found: list[PastRead] = []
        before = None
        for run in reversed([each for each in self.reports if _has_ended(each)]):
            for report in run.tables:
                named = (report.source_id, report.table) == (source_id, table)
                if not named or report.error is not None:
                    continue
                found.append(PastRead(run.started_at, before, report))
                if report.due != "period":  # Then the watermark has moved.
                    before = run.started_at
        return found[::-1]


def records_in(
    past: Sequence[PastRead],
    reach: Callable[[datetime], datetime],
    span: timedelta,
    requests: int | None = None,
) -> Figure:
    """
    Estimate the records of a *span* of time, by how many *past* reads have found in theirs.

    *reach* gives the time from which a run reads, by the start of the run before it. With
    *requests*, so many parts are asked for, each by one; else the same as in the past. The range is
    from half of the least to twice the most, and a few less or more.
    """
    rates = [
        each.report.records / seconds / (each.report.requests or 1 if requests is not None else 1)
        for each in past
        if each.before and (seconds := (each.started_at - reach(each.before)).total_seconds()) > 0
    ]
    parts = 1 if requests is None else requests
    return _around([rate * parts * span.total_seconds() for rate in rates], FEW)


def requests_of(past: Sequence[PastRead]) -> Figure:
    """Estimate the requests of a read by those of *past* ones."""
    return _around([each.report.requests for each in past], FEW_REQUESTS)


def files_in(past: Sequence[PastRead], span: timedelta) -> Figure:
    """Estimate the files of a *span* of time, by how many *past* reads have found in theirs."""
    rates = [
        each.report.files / seconds
        for each in past
        if each.before and (seconds := (each.started_at - each.before).total_seconds()) > 0
    ]
    return _around([rate * span.total_seconds() for rate in rates], FEW_REQUESTS)


def share_there(past: Sequence[PastRead], *, unchanged: bool) -> float | None:
    """
    Return the share of records whose row was there before and was written again; None: not known.

    *unchanged* rows are only written where the warehouse notes when a row was last read.
    """
    records = sum(each.report.records for each in past)
    again = sum(each.report.updated + (each.report.unchanged if unchanged else 0) for each in past)
    return min(1.0, again / records) if records else None


def _has_ended(run: RunReport) -> bool:
    """Whether the tables without an error were read to their end."""
    failed = run.outcome == "failed" and any(table.error for table in run.tables)
    return run.outcome == "succeeded" or failed


def _around(values: Sequence[float], few: int) -> Figure:
    if not values:
        return unknown()
    low, high = floor(min(values) / 2) - few, ceil(2 * max(values)) + few
    return estimated(round(median(values)), max(0, low), high)
