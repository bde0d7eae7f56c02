"""What the report shows, as it is counted: in the warehouse by SQL, and of its runs."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.html_report.marts import SendsMart, sends_mart
from ometria_replica.html_report.periods import Period
from ometria_replica.html_report.statement import statement
from ometria_replica.replica_status import read_status
from ometria_replica.report import RunReport, report_from_dict
from ometria_replica.state_commands import read_runs
from ometria_replica.status_report import TOO_OLD, Status
from ometria_replica.text import printable
from ometria_replica.warehouse.queries.run import ask, can_ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config

RUN_DAYS = 60
"""The longest period of the charts of runs, which have a bar for each day."""

_RUNS_AT_ONCE = 1_000
_LONGEST_LABEL, _MOST_READ = 80, 500
_ADDRESS = re.compile(r"""[^\s<>"'(),;:=&?/]*(?:@|%40|%2540)[^\s<>"'(),;:=&?/]*""", re.IGNORECASE)


class Row(NamedTuple):
    """A row of the statement: see :data:`.statement.COLUMNS`."""

    figure: str
    source: str | None
    label: str | None
    part: str | None
    day: date | None
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class DayOfRuns:
    """
    What the runs did that started on one day, in UTC: *rows* are new or changed.

    *failed* of the *runs* failed, were stopped or did not end.
    """

    runs: int = 0
    failed: int = 0
    requests: int = 0
    rows: int = 0
    seconds: float = 0.0

    def __add__(self, other: DayOfRuns) -> DayOfRuns:
        return DayOfRuns(
            self.runs + other.runs,
            self.failed + other.failed,
            self.requests + other.requests,
            self.rows + other.rows,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Figures:
    """
    All that the report shows.

    *rows* are those of the statement, by the name of their figure. *counts* is False for a
    warehouse that this program cannot query. *sends* says whether campaigns are counted in the
    mart of sends. *runs* are the days of *run_period* with a run.
    """

    status: Status
    catalog: Catalog
    period: Period
    run_period: Period
    runs: dict[date, DayOfRuns]
    counts: bool
    rows: dict[str, list[Row]] = field(default_factory=dict)
    sends: SendsMart = field(default_factory=SendsMart)

    def of(self, figure: str) -> list[Row]:
        """List the rows of a figure; none if its table is missing or empty."""
        return self.rows.get(figure, [])

    def rows_of(self, table: str) -> int:
        """Count the rows of a table, of all accounts."""
        return sum(each.rows for each in self.status.tables if each.table == table)


def read_figures(
    config: Config,
    *,
    days: int,
    max_age: timedelta = TOO_OLD,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Figures:
    """Read the figures of the accounts of *config*. Raises as :func:`read_status`."""
    status = read_status(config, max_age=max_age, catalog=catalog, clock=clock)
    today = status.asked_at.astimezone(UTC).date()
    period = Period.ending(today, days)
    run_period = Period.ending(today, min(days, RUN_DAYS))
    sources = [account.source_id for account in config.accounts]
    there = {each.table for each in status.tables if each.rows}
    rejects = any(each.rejects for each in status.tables)
    counts = can_ask(config.warehouse.url)
    sends = sends_mart(config, sources) if counts and "email_events" in there else SendsMart()
    text = statement(
        there, sources, period.first, today, rejects=rejects, has_sends=sends.is_current
    )
    found: dict[str, list[Row]] = defaultdict(list)
    if counts and text is not None:
        for row in _asked(config, text):
            found[row.figure].append(row)
    runs: dict[date, DayOfRuns] = {}
    if not status.is_new:
        # Named only where needed: a run that failed early names no account.
        reports = _reports_since(config, sources if status.elsewhere else (), run_period.first)
        runs = _days_of_runs(reports, run_period)
    return Figures(
        status, catalog.of(config.accounts), period, run_period, runs, counts, dict(found), sends
    )


def _asked(config: Config, text: str) -> Iterator[Row]:
    with ask(config.warehouse.url, text, config.warehouse.limits) as answer:
        for batch in answer.batches:
            for figure, source, label, part, day, *numbers in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                counts = tuple(number for number in numbers if number is not None)
                yield Row(figure, source, _label(label), _label(part), day, counts)


def _label(text: str | None) -> str | None:
    """
    Shorten a text of the shop's own, and leave out addresses.

    Titles and reasons are no personal data, but nothing keeps a user of Ometria from writing an
    address there.
    """
    if text is None:
        return None
    words = " ".join(text[:_MOST_READ].split())
    if len(text) > _MOST_READ:
        words = words.rpartition(" ")[0] or words  # No part of an address.
    known = printable(_ADDRESS.sub("[address]", words))
    return known if len(known) <= _LONGEST_LABEL else f"{known[: _LONGEST_LABEL - 1]}…"


def _reports_since(config: Config, accounts: Sequence[str], day: date) -> list[RunReport]:
    """Read the runs that started since *day*: as many of the newest as that takes."""
    number = _RUNS_AT_ONCE
    while True:
        reports = [report_from_dict(each) for each in read_runs(config, number, accounts)]
        if len(reports) < number or reports[-1].started_at.astimezone(UTC).date() < day:
            return reports
        number *= 4


def _days_of_runs(reports: Sequence[RunReport], period: Period) -> dict[date, DayOfRuns]:
    found: dict[date, DayOfRuns] = defaultdict(DayOfRuns)
    for report in reports:
        day = report.started_at.astimezone(UTC).date()
        if period.holds(day) and report.outcome != "dry run":
            seconds = (report.finished_at - report.started_at).total_seconds()
            failed = int(report.outcome != "succeeded")
            found[day] += DayOfRuns(1, failed, report.requests, report.changed, seconds)
    return dict(sorted(found.items()))
