"""Events that are read by windows of time, which are split until each answer is proven whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ometria_replica.ometria.collection import Collection
from ometria_replica.ometria.offset_pages import OffsetReader
from ometria_replica.ometria.page_overlap import by_all
from ometria_replica.ometria.prefetch import Prefetch
from ometria_replica.ometria.times import time_of, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ometria_replica.ometria.client import Client
    from ometria_replica.ometria.page_overlap import Identity
    from ometria_replica.records import Page, Record
    from ometria_replica.ways_to_read import Windows

# A first read requests the last year, then longer spans before it, but only while they hold
# few events: no answer holds the decade of a large account.
YEAR = timedelta(days=366)
MOST_YEARS = 4
_YEAR = int(YEAR.total_seconds())
FEW_EVENTS = 5_000

SMALLEST_CUT = 3  # An answer of two events is whole; no server cuts at two.


def read_windows(
    client: Client, windows: Windows, *, since: datetime, until: datetime
) -> Iterator[Page]:
    """
    Read the events between *since* and *until* (aware times), both included, in no fixed order.

    The last year is requested first, then the time before it, in one request or a few.
    Such an answer may be cut silently, at an undocumented size, so it counts as whole only if
    it is shorter than another answer of this run: a server that cuts at c never sends more
    than c, so an answer that is shorter than another is shorter than c. Every answer that is
    not proven whole is requested again in two halves, split at the middle event. Each half then
    holds about half of the events, which proves it whole, or as many as before, which proves
    the cut, and is split further, down to one second. If the endpoint does page, pages are read
    instead.

    An hour without events costs one request, most others three; a decade with few events four.
    """
    first, last = math.floor(_seconds(since)), math.ceil(_seconds(until))
    reach = _YEAR
    with Prefetch(client) as prefetch:
        while first <= last:
            window, found = _Window(max(first, last - reach), last), 0
            for page in _read_window(prefetch, client, windows, window):
                found += len(page.records)
                yield page
            last = window.first - 1
            reach = _next_reach(reach, found)


def least_windows(since: datetime, until: datetime) -> int:
    """Count the windows that are requested, unless an answer has to be split, or holds many."""
    first, last = math.floor(_seconds(since)), math.ceil(_seconds(until))
    windows, reach = 0, _YEAR
    while first <= last:
        windows, last, reach = windows + 1, max(first, last - reach) - 1, _next_reach(reach, 0)
    return windows


def _next_reach(reach: int, found: int) -> int:
    """Choose the length of the next window, in seconds: longer while windows hold few events."""
    return min(reach * 2, MOST_YEARS * _YEAR) if found < FEW_EVENTS else _YEAR


def _read_window(
    prefetch: Prefetch, client: Client, windows: Windows, whole: _Window
) -> Iterator[Page]:
    """Read a window, then the halves of each answer that is not proven whole."""
    waiting = [whole]
    behaviour = client.behaviour(windows.endpoint)
    while waiting:
        for window in waiting[-prefetch.depth(behaviour) :]:
            window.request(prefetch, client, windows)
        window = waiting.pop()
        yield from window.pages()
        waiting += window.parts(client, windows)


@dataclass
class _Window:
    """
    Whole seconds from *first* to *last*, as Unix time.

    *known* are the records of the answer of which this window is a half.
    """

    first: int
    last: int
    known: frozenset[Identity] = frozenset()
    _reader: OffsetReader | None = field(default=None, repr=False)

    def request(self, prefetch: Prefetch, client: Client, windows: Windows) -> None:
        """
        Send the first request, unless it was sent.

        It is not documented whether the bounds belong to the window, so the request has one
        second more on either side.
        """
        if self._reader is None:
            query = {
                windows.since: utc_text(datetime.fromtimestamp(self.first - 1, UTC)),
                windows.before: utc_text(datetime.fromtimestamp(self.last + 1, UTC)),
            }
            # The whole span is split before paging is tried: three requests prove it, not four.
            collection = Collection(
                windows.endpoint,
                query,
                by_all,
                client.behaviour(windows.endpoint),
                parted_first=not self.known,
            )
            self._reader = OffsetReader(prefetch, collection)

    def pages(self) -> Iterator[Page]:
        """Yield the records that the answer to the larger window did not hold."""
        for page in self._reader.pages() if self._reader else ():
            news = [record for record in page.records if by_all(record) not in self.known]
            if news or not page.records:
                yield replace(page, records=news)

    def parts(self, client: Client, windows: Windows) -> list[_Window]:
        """Split the window in two if its answer may be cut; warn if it cannot be split."""
        records = self._reader.unproven if self._reader else None
        if self._reader is None or records is None or len(records) < SMALLEST_CUT:
            return []
        names, times = frozenset(map(by_all, records)), _times(records, windows.time)
        if (reason := self._why_not_split(names, times)) is not None:
            self._reader.collection.behaviour.is_doubtful = True
            client.warn(
                f"{windows.endpoint}: an answer of {len(records)} records may be cut: {reason}"
            )
            return []
        middle = min(max(times[len(times) // 2], self.first + 1), self.last)
        return [_Window(self.first, middle - 1, names), _Window(middle, self.last, names)]

    def _why_not_split(self, names: frozenset[Identity], times: list[int]) -> str | None:
        """Return the reason why the window cannot be split; None if it can."""
        if not times:
            return "their times cannot be read, so the window cannot be split"
        if self.first >= self.last:
            return "they fall into one second, so the window cannot be split"
        outside = times[0] < self.first - 1 or times[-1] > self.last + 1
        if names == self.known and outside:
            return "the bounds of the window are ignored"
        return None


def _times(records: Iterable[Record], source: str) -> list[int]:
    """Read the events' times from the field *source*, as whole seconds of Unix time, in order."""
    times = (time_of(record, source) for record in records)
    return sorted(math.floor(time.timestamp()) for time in times if time is not None)


def _seconds(time: datetime) -> float:
    if time.tzinfo is None:
        raise ValueError("a time without a zone would mean another moment on each machine")
    return time.timestamp()
