"""
How many records a collection has, found by few requests: the API tells no total.

A record at an offset shows that there are more than so many. The end is bracketed by steps that
double, then by halves, and the last page tells where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.ometria.collection import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.ometria.client import Client
    from ometria_replica.records import Record

MOST_REQUESTS = 60  # For a hundred million records; a million take 25.
MOST_RECORDS = 1 << 27  # Beyond them, the server answers every offset.


@dataclass(frozen=True)
class Counted:
    """So many *records*, in pages of *page_size* at most."""

    records: int
    page_size: int = PAGE_SIZE


def count_records(
    client: Client, path: str, query: Mapping[str, str], guess: int = 0
) -> Counted | None:
    """
    Count the records of the collection at *path*; the closer the *guess*, the fewer requests.

    None if offsets do not tell: the server answers every one of them, or the collection moves.
    The number is that of the moment: it may change before anybody reads the collection.
    """
    return _Search(client, path, query).counted(guess)


@dataclass
class _Search:
    client: Client
    path: str
    query: Mapping[str, str]
    requests: int = 0
    page_size: int = PAGE_SIZE
    first: list[Record] = field(default_factory=list)

    def counted(self, guess: int) -> Counted | None:
        self.first = self._page(0, PAGE_SIZE)
        if not self.first or not self._has(len(self.first)):
            return Counted(len(self.first))
        self.page_size = len(self.first)  # A server may send fewer than it is asked for.
        bracket = self._bracket(self.page_size, guess)
        if bracket is None:
            return None
        low, high = bracket  # There is a record at low, and none at high.
        while high - low > self.page_size:
            if self.requests > MOST_REQUESTS:
                return None
            middle = (low + high) // 2
            low, high = (middle, high) if self._has(middle) else (low, middle)
        last = self._page(low, PAGE_SIZE)
        if not last or last == self.first:  # It has shrunk, or the offset is ignored.
            return None
        return Counted(low + len(last), self.page_size)

    def _bracket(self, low: int, guess: int) -> tuple[int, int] | None:
        """Find an offset with a record, at least *low*, and one beyond the end."""
        step = self.page_size
        if guess > low + 1:
            if self._has(guess - 1):
                low = guess - 1
            else:
                return self._below(low, guess - 1)
        while self._has(low + step):
            low, step = low + step, step * 2
            if low > MOST_RECORDS or self.requests > MOST_REQUESTS:
                return None
        return low, low + step

    def _below(self, low: int, high: int) -> tuple[int, int]:
        """Find the end below *high*, near it if it is near."""
        step = self.page_size
        while high - step > low and not self._has(high - step):
            high, step = high - step, step * 2
        return max(low, high - step), high

    def _has(self, offset: int) -> bool:
        return bool(self._page(offset, 1))

    def _page(self, offset: int, limit: int) -> list[Record]:
        self.requests += 1
        page = {"limit": str(limit), "offset": str(offset)}
        return list(self.client.get(self.path, {**self.query, **page}).records)
