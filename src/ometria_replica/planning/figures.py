"""Numbers that say what they rest on: known, estimated or unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Basis = Literal["known", "estimated", "unknown"]


@dataclass(frozen=True)
class Figure:
    """
    A number between *low* and *high*; None: no upper bound is known.

    *value* is the best guess. It is exact if *basis* is ``known``, and None if it is ``unknown``.
    A known number is that of the moment: the account moves on.
    """

    value: int | None
    basis: Basis
    low: int
    high: int | None

    def __add__(self, other: Figure) -> Figure:
        value = None if self.value is None or other.value is None else self.value + other.value
        high = None if self.high is None or other.high is None else self.high + other.high
        basis = max(self.basis, other.basis, key=("known", "estimated", "unknown").index)
        return Figure(value, basis, self.low + other.low, high)

    def __str__(self) -> str:
        if self.value is not None:
            return f"{'~' if self.basis == 'estimated' else ''}{self.value:,}"
        return f">={self.low:,}" if self.low else "?"

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {"value": self.value, "basis": self.basis, "low": self.low, "high": self.high}


def known(value: int) -> Figure:
    """Make an exact number."""
    return Figure(value, "known", value, value)


def estimated(value: int, low: int = 0, high: int | None = None) -> Figure:
    """Make a number that rests on earlier runs, or on the rows of a table."""
    return Figure(value, "estimated", min(low, value), None if high is None else max(high, value))


def unknown(low: int = 0) -> Figure:
    """Make a number of which nothing is known, but that it is at least *low*."""
    return Figure(None, "unknown", low, None)


NOTHING = known(0)


def total(figures: Iterable[Figure]) -> Figure:
    """Add numbers; the sum rests on the weakest of them."""
    return sum(figures, NOTHING)
