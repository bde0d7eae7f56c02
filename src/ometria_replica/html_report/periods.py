"""The period of a chart, and its steps: days, weeks or months."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Step = Literal["day", "week", "month"]

_MOST_DAYS, _MOST_WEEKS = 92, 75 * 7
"""The longest period in days, and in weeks, of which a chart shows each step as a bar."""

_FEWEST = 14
"""Steps of a chart of which only the last have data."""

_ONE = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """The days from *first* to *last*, both included, in steps; *first* begins one."""

    first: date
    last: date
    step: Step

    @classmethod
    def ending(cls, last: date, days: int) -> Self:
        """Make the period of *days* to *last*, and what the first step has before."""
        step: Step = "day" if days <= _MOST_DAYS else "week" if days <= _MOST_WEEKS else "month"
        first = last - timedelta(days=days - 1)
        return cls(_start(first, step), last, step)

    def from_first(self, days: Iterable[date | None]) -> Self:
        """Begin at the first of *days* in the period, but keep enough steps to see a course."""
        least = self.starts()[-_FEWEST:][0]
        first = min((day for day in days if day is not None and self.holds(day)), default=least)
        return type(self)(min(self.start(first), least), self.last, self.step)

    def starts(self) -> list[date]:
        """List the first day of each step."""
        found = [self.first]
        while (following := self.end(found[-1])) <= self.last:
            found.append(following)
        return found

    def start(self, day: date) -> date:
        """Find the first day of the step of *day*."""
        return _start(day, self.step)

    def end(self, start: date) -> date:
        """Find the first day of the step after that which begins at *start*."""
        match self.step:
            case "day":
                return start + _ONE
            case "week":
                return start + 7 * _ONE
            case "month":
                return (start.replace(day=28) + 4 * _ONE).replace(day=1)

    def holds(self, day: date | None) -> bool:
        """Return whether *day* is in the period."""
        return day is not None and self.first <= day <= self.last

    def is_complete(self, start: date) -> bool:
        """Return whether the step that begins at *start* ends before the last day, which runs."""
        return self.end(start) <= self.last

    def name(self, start: date) -> str:
        """Name a step for a table: a day, a month, or the first day of a week."""
        return f"{start:%b %Y}" if self.step == "month" else f"{start:%Y-%m-%d}"

    def sums(self, counts: Iterable[tuple[date | None, int]]) -> Mapping[date, int]:
        """Sum counts of days by step, in order; what is not in the period is left out."""
        found = dict.fromkeys(self.starts(), 0)
        for day, count in counts:
            if day is not None and self.holds(day):
                found[self.start(day)] += count
        return found


def _start(day: date, step: Step) -> date:
    match step:
        case "day":
            return day
        case "week":
            return day - day.weekday() * _ONE
        case "month":
            return day.replace(day=1)
