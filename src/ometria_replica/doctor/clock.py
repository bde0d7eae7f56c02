"""Compares the clock of this machine with that of a server, by the ``Date`` of its answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

RESOLUTION = timedelta(seconds=1)
"""A ``Date`` header has whole seconds, and servers cut off the rest."""


@dataclass(frozen=True)
class Heard:
    """
    An answer: our time just before it was asked for and just after it came, and the server's time.

    *served_at* is None if the answer has no date.
    """

    asked_at: datetime
    answered_at: datetime
    served_at: datetime | None

    @property
    def ahead(self) -> timedelta | None:
        """
        How far this machine's clock is ahead of the server's, at least; negative if it is behind.

        Zero if the server may have answered between the two times. None without a date.
        """
        if self.served_at is None:
            return None
        if self.served_at + RESOLUTION < self.asked_at:
            return self.asked_at - self.served_at - RESOLUTION
        return min(timedelta(), self.answered_at - self.served_at)


def ahead_of(answers: Iterable[Heard]) -> timedelta | None:
    """
    How far this machine's clock is ahead of the server's, by all *answers*.

    Each tells at least how far: the largest tells most. None if no answer has a date.
    """
    found = [each.ahead for each in answers if each.ahead is not None]
    return max(found, key=abs, default=None)
