"""
The texts of which the keys of stored rows were made.

A table has no copy of its records. But a key is the MD5 of texts, all of which are stored except
the form of a time, and there are not many: the one that gives the key is the one that it had.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING

from ometria_replica.mapping import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ometria_replica.schema import Table

_DAYS = ("%Y-%m-%d", "%Y/%m/%d")
_CLOCKS = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S.%g", "%H:%M:%S.trimmed", "%H:%M")
_WORDS = ("", "Z", "z", "UTC", " UTC", "GMT", " GMT")
_QUARTERS = range(-12 * 4, 14 * 4 + 1)  # The offsets from UTC that there are, in quarters of hours.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TimeForm:
    """
    A form in which a time was written: ``2026-07-01T10:00:00+01:00``, for example.

    *day* and *clock* are formats, *minutes* the distance from UTC, *end* what follows. Without
    *day* the time is a number of *clock*: ``s`` or ``ms`` since 1970.
    """

    day: str
    clock: str
    minutes: int = 0
    end: str = ""

    def text(self, at: datetime) -> str:
        """Write a time."""
        if not self.day:
            since = (at - _EPOCH) // timedelta(microseconds=1)
            return str(since // (1_000_000 if self.clock == "s" else 1000))
        local = at.astimezone(UTC) + timedelta(minutes=self.minutes)
        clock, micros = self.clock, f"{local.microsecond:06}"
        if clock.endswith(".trimmed"):
            clock = clock.replace(".trimmed", f".{micros.rstrip('0')}".rstrip("."))
        clock = clock.replace("%g", micros[:3])
        return local.strftime(self.day + clock) + self.end

    def sql(self, at: str) -> str:
        """Write the expression of DuckDB for the text of *at*, an expression of a time."""
        if not self.day:
            return f"(epoch_us({at}) // {1_000_000 if self.clock == 's' else 1000})::VARCHAR"
        local = f"(({at}) AT TIME ZONE 'UTC' + to_minutes({self.minutes}))"
        clock, fraction = self.clock, ""
        if clock.endswith(".trimmed"):
            clock = clock.removesuffix(".trimmed")
            fraction = f" || rtrim(rtrim(strftime({local}, '.%f'), '0'), '.')"
        return f"(strftime({local}, {literal(self.day + clock)}){fraction} || {literal(self.end)})"


def _forms() -> Iterator[TimeForm]:
    yield from (TimeForm("", unit) for unit in ("s", "ms"))
    yield from (TimeForm(day, "") for day in _DAYS)
    for day, between, clock in product(_DAYS, ("T", " "), _CLOCKS):
        for word in _WORDS:
            yield TimeForm(day + between, clock, end=word)
        for quarters, space in product(_QUARTERS, ("", " ")):
            minutes = quarters * 15
            hours, rest = divmod(abs(minutes), 60)
            sign = "-" if minutes < 0 else "+"
            ends = [f"{sign}{hours:02}:{rest:02}", f"{sign}{hours:02}{rest:02}"]
            ends += [] if rest else [f"{sign}{hours:02}"]
            for end in ends:
                yield TimeForm(day + between, clock, minutes, space + end)


FORMS = tuple(_forms())
"""The forms that are tried: those that the mapping reads."""


@dataclass(frozen=True)
class KeyTexts:
    """The parts of the key of *table* in the rows of *source_id*, as expressions of DuckDB."""

    table: Table
    source_id: str

    @property
    def is_stored(self) -> bool:
        """Whether each part has a column, of text, of a whole number or of a time."""
        return all(
            self._type(part) in {"text", "integer", "timestamptz"}
            for part in self.table.sync_key.sources
        )

    @property
    def time(self) -> str | None:
        """The column of the time in the key; None if there is none."""
        for column in self.table.columns:
            if column.source in self.table.sync_key.parts and column.type == "timestamptz":
                return quoted(column.name)
        return None

    def columns(self) -> list[str]:
        """Write the parts as texts, but for the time, which stays one."""
        return [self._stored(part) for part in self.table.sync_key.parts]

    def sql(self, form: TimeForm | None, replaced: Mapping[str, str] | None = None) -> str:
        """Write the key with the time in *form*; *replaced* are other texts, by their source."""
        texts = []
        for part in self.table.sync_key.parts:
            stored = (replaced or {}).get(part) or self._stored(part)
            texts.append(form.sql(stored) if form and self._type(part) == "timestamptz" else stored)
        return f"md5(concat({', '.join(texts)}))"

    def form_of(self, parts: Sequence[str | datetime | None], key: str) -> TimeForm | None:
        """Find the form of the time of a row, given what :meth:`columns` select of it."""
        return next((form for form in FORMS if _md5(parts, form) == key), None)

    def _type(self, part: str) -> str | None:
        return next((each.type for each in self.table.columns if each.source == part), None)

    def _stored(self, part: str) -> str:
        if part not in self.table.sync_key.sources:
            return literal(self.source_id) if part == "source_id" else part
        name = quoted(next(each.name for each in self.table.columns if each.source == part))
        return f"{name}::VARCHAR" if self._type(part) == "integer" else name


def _md5(parts: Iterable[str | datetime | None], form: TimeForm) -> str:
    texts = (form.text(each) if isinstance(each, datetime) else each or "" for each in parts)
    return hashlib.md5("".join(texts).encode(), usedforsecurity=False).hexdigest()
