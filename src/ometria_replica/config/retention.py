"""How long a table keeps its rows, by the calendar in UTC."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, cast, get_args

Unit = Literal["day", "week", "month", "year"]

_WRITTEN: Final = re.compile(rf"([1-9][0-9]{{0,3}}) ({'|'.join(get_args(Unit))})s?")
_DAYS: Final = {"day": 1, "week": 7}
_MONTHS: Final = {"month": 1, "year": 12}


@dataclass(frozen=True)
class Retention:
    """Rows of *table_name* are kept for *number* days, weeks, months or years."""

    table_name: str
    number: int
    unit: Unit

    @classmethod
    def parse(cls, table_name: str, text: str) -> Retention | None:
        """Read a span such as ``25 months``; None if *text* is none."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            return None
        return cls(table_name, int(found[1]), cast("Unit", found[2]))

    def oldest(self, now: datetime) -> datetime:
        """
        Return the oldest time of a row that is kept: the beginning of a day in UTC.

        Of the day so long before *now*; where its month has no such day, of the month's last.
        """
        today = now.astimezone(UTC).date()
        return datetime.combine(self._before(today), time(), UTC)

    def _before(self, day: date) -> date:
        if self.unit in _DAYS:
            return day - timedelta(days=self.number * _DAYS[self.unit])
        months = day.year * 12 + day.month - 1 - self.number * _MONTHS[self.unit]
        year, month = max(months // 12, 1), months % 12 + 1
        return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))

    def __str__(self) -> str:
        plural = "" if self.number == 1 else "s"
        return f"{self.table_name} {self.number} {self.unit}{plural}"
