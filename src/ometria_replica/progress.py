"""
Shows the progress of a run: a bar for each table on a terminal, else a line for each table, which
can be a log line.

It goes to standard error, so that standard output holds only the report.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from ometria_replica.run_context import NoProgress
from ometria_replica.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from ometria_replica.report import TableReport
    from ometria_replica.run_context import Progress


logger = logging.getLogger(__name__)

Shown = Literal["as text", "as log lines", "not at all"]

_COUNTS = (
    "seconds",
    "requests",
    "rate_limited",
    "files",
    "records",
    "inserted",
    "updated",
    "unchanged",
    "removed",
    "rejected",
)
"""Those of a table's report that are fields of its log line."""


@contextmanager
def watching(shown: Shown = "as text") -> Iterator[Progress]:
    """Show the progress of a run on standard error."""
    if shown == "not at all":
        yield NoProgress()
        return
    if shown == "as log lines":
        yield _LogLines()
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # noqa: PLC0415 -- 60 ms, and only for a terminal.
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[records]} records"),
        TextColumn("{task.fields[requests]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    ) as bars:
        yield _Bars(bars)


class _Bars:
    """
    One bar for each table. Without a known total, the bar moves back and forth.

    Several tables may be under way: those of accounts that are read at the same time.
    """

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._totals: dict[TaskID, int | None] = {}

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        self._make_room()
        task = self._bars.add_task(
            f"{source_id} {table}", total=total, records="0", requests="", unit=unit
        )
        self._tasks[source_id, table], self._totals[task] = task, total

    def advance(self, source_id: str, table: str, records: int, requests: int, done: int) -> None:
        self._bars.update(
            self._tasks[source_id, table],
            completed=done,
            records=f"{records:,}",
            requests=_requests(requests),
        )

    def finish(self, report: TableReport) -> None:
        task = self._tasks.pop((report.source_id, report.table), None)
        if task is None:  # It failed before it started.
            return
        total = self._totals[task]
        done = total if total is not None and not report.error else max(report.records, 1)
        self._bars.update(
            task,
            total=done if not report.error else total,
            completed=done,
            records=f"{report.records:,}",
            requests=_requests(report.requests),
        )
        self._bars.stop_task(task)

    def _make_room(self) -> None:
        """Hide bars of tables that are done, the oldest first, where the terminal is full."""
        shown = [task.id for task in self._bars.tasks if task.visible]
        done = [task for task in shown if task not in self._tasks.values()]
        surplus = len(shown) + 1 - self._bars.console.height
        for task in done[: max(0, surplus)]:
            self._bars.update(task, visible=False)


class _Lines:
    """One line for each table, at its end."""

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        pass

    def advance(self, source_id: str, table: str, records: int, requests: int, done: int) -> None:
        pass

    def finish(self, report: TableReport) -> None:
        print(  # noqa: T201 -- To standard error, for log files.
            printable(f"{report.source_id} {report.table}: {_summary(report)}"),
            file=sys.stderr,
            flush=True,
        )


class _LogLines(NoProgress):
    """A log line for each table, at its end, with its counts as fields."""

    def finish(self, report: TableReport) -> None:
        fields = {
            "account": report.source_id,
            "table": report.table,
            "outcome": "failed" if report.error else "read",
            **{name: getattr(report, name) for name in _COUNTS},
        }
        level = logging.ERROR if report.error else logging.INFO
        reason = f": {report.error}" if report.error else ""
        logger.log(level, "%s%s", _summary(report), reason, extra={"fields": fields})


def _summary(report: TableReport) -> str:
    outcome = "failed after" if report.error else "read"
    records = counted(report.records, "record")
    more = f", {_requests(report.requests)}" if report.requests else ""
    files = f", {counted(report.files, 'file')}" if report.files else ""
    return f"{outcome} {records}{more}{files}, {report.seconds:.1f} s"


def _requests(number: int) -> str:
    return counted(number, "request") if number else ""
