"""The parts of a page: sections, panels with a chart, and tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from markupsafe import Markup

    from ometria_replica.html_report.periods import Period

NOTHING = "-"  # In a cell without a value.


@dataclass(frozen=True)
class Cell:
    """A cell of a table. *share*, from 0 to 1, is drawn as a bar beside the text."""

    text: str
    share: float | None = None
    is_number: bool = True


@dataclass(frozen=True)
class Grid:
    """
    A table. The first *names* columns are texts, and the very first names the row.

    With a *summary*, the table is folded behind it.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1
    summary: str = ""


@dataclass(frozen=True)
class Panel:
    """A chart: *value* is what it shows in one number, and *note* explains it."""

    title: str
    value: str
    note: str
    chart: Markup


@dataclass(frozen=True)
class Section:
    """A part of the page. *text* says what its figures count, *notes* what they leave out."""

    id: str
    title: str
    text: str
    panels: tuple[Panel, ...] = ()
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    drawing: Markup | None = None


def name(text: str) -> Cell:
    """Make a cell with a text."""
    return Cell(text, is_number=False)


def number(value: float, largest: float | None = None) -> Cell:
    """Make a cell with a whole number; *largest* is that with a bar of full length."""
    return Cell(f"{value:,.0f}", value / largest if largest else None)


def rate(part: int, whole: int, largest: float) -> Cell:
    """Make a cell with a share in percent, and a bar next to others up to *largest*."""
    if not whole:
        return Cell(NOTHING)
    return Cell(percent(part / whole), part / whole / largest if largest else 0.0)


def percent(share: float) -> str:
    """Write a share, such as 0.0312 as ``3.1%``; one that is not zero never reads as zero."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{100 * share:.1f}%"


def seconds(value: float) -> str:
    """Write a time that something took."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(time: datetime | None) -> str:
    """Write a time, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" if time else NOTHING


def by_step(period: Period, columns: Mapping[str, Mapping[date, int]], noun: str) -> Grid:
    """Make the folded table of counts by step, the newest first."""
    starts = [
        start
        for start in reversed(period.starts())
        if any(counts.get(start) for counts in columns.values())
    ]
    rows = tuple(
        (name(period.name(start)), *(number(counts.get(start, 0)) for counts in columns.values()))
        for start in starts
    )
    head = {"day": "Day", "week": "Week from", "month": "Month"}[period.step]
    return Grid((head, *columns), rows, summary=f"{noun} by {period.step}, as numbers")


def ranked(
    head: str, noun: str, counts: Sequence[tuple[str, int]], total: int, others: int
) -> Grid:
    """
    Make a table of *counts*, with bars and shares of *total*.

    What is not among them is the last row, of so many *others*.
    """
    rest = total - sum(count for _, count in counts)
    lines = [*counts, *([(f"{others:,} others", rest)] if others and rest else [])]
    largest = max((count for _, count in lines), default=0)
    rows = tuple(
        (name(text), number(count, largest), Cell(percent(count / total))) for text, count in lines
    )
    return Grid((head, noun, "Share"), rows)


def outside(period: Period, counts: Iterable[tuple[date | None, int]]) -> int:
    """Sum what has a day that is not in the period, or none."""
    return sum(count for day, count in counts if not period.holds(day))
