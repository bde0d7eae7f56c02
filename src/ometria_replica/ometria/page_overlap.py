"""
Joins pages that overlap, and detects a gap between two of them.

Offsets count from the start of a collection that changes while it is read: a record that is
deleted or merged away shifts all records after it to the left, and a reader that trusts its
offsets skips them. So each page begins a little before the end of the previous one, and must
share a record with the records already read.

Why one shared record is enough. The order of a collection is fixed (by default it is Ometria's
internal id): records appear and disappear, but two of them never change places. A page is thus
a run without holes of the records that existed when it was served. Let U be the records read so
far, without holes from the start to the last record of U. Let B be a page, and x a record in
both. Take any record r that existed throughout and does not come after the last record of B.
If r does not come after the last record of U, it is in U. If it does, it comes after x, hence
after the first record of B, so it lies within B. In both cases it is read: U and B together
have no holes up to the later of their ends. This holds whichever request was served first, so
pages can be requested concurrently.
A page at offset 0 needs no shared record: it begins at the start.

A read that continues an interrupted one has U from another run, and remembers its last records
only by their hashes. Its first page must hold many of them, in their order and with no other
record between, since the order itself may have changed in the meantime.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.records import field_text, json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ometria_replica.read_position import ReadPosition
    from ometria_replica.records import Record

OVERLAP = 5  # Survives four deletions between two pages without an extra request.
REMEMBERED_PAGES = 40  # More than the longest step back, which therefore cannot land before them.

Identity = bytes


def by_id(record: Record) -> Identity:
    """Identify a record by its ``id``; if it has none, by its whole content."""
    return (field_text(record, "id") or "").encode() or by_all(record)


def by_all(record: Record) -> Identity:
    """
    Identify a record by a hash of its whole content.

    Events never change and need no id; if they carry one, it may be their list's.
    """
    return hashlib.blake2b(json_text(record).encode(errors="replace"), digest_size=16).digest()


def overlap_of(page_size: int) -> int:
    """Return the number of records that a page repeats of the previous one: at most half of it."""
    return min(OVERLAP, page_size // 2)


@dataclass(frozen=True)
class Joined:
    """
    A page that joins the records already read.

    *news* are the records that the caller needs: those never read before, and those read
    before by an earlier request. For each record, the last copy given is thus the newest.
    Records that are identified by their whole content have one copy only.
    *unread* is the number of records never read before. *next_offset* is where to continue, an
    overlap before the end. *repeats* is the number of consecutive pages that equal the one
    before them although their offset is higher. *ends* says that the page proves that nothing
    follows the records already read.
    """

    news: list[Record]
    unread: int
    next_offset: int
    repeats: int = 0
    ends: bool = False


@dataclass(frozen=True)
class _Seen:
    position: int
    requested_at: datetime
    page: int


class OverlapCheck:
    """
    The records read so far of one collection, as far back as a page may still overlap them.

    With *position*, an earlier run has read those before it.
    """

    def __init__(
        self, identity: Callable[[Record], Identity], position: ReadPosition | None = None
    ) -> None:
        self._identity = identity
        self._position = position
        self.tail: list[Identity] = []  # The page with the last record read, in its order.
        self._can_change = identity is not by_all
        self._seen: dict[Identity, _Seen] = {}
        self._pages: deque[list[Identity]] = deque()
        self._count = 0
        self.end = 0  # The position just after the last record read.
        self.is_disordered = False  # Whether two records have changed places: then a gap may hide.
        self._missed = False  # Whether a page failed to join since the last new record.
        self._next = 0
        self._repeats = 0
        self._last: tuple[int, list[Identity]] = (-1, [])

    def join(self, offset: int, found: Sequence[Record], requested_at: datetime) -> Joined | None:
        """
        Join the page at *offset*.

        None means that the page shares no record with those already read, so that records may
        be missing in between.
        """
        names = [self._identity(record) for record in found]
        if not self._shares(offset, names):
            self._missed = True
            return None
        news = [
            record
            for record, name in zip(found, names, strict=True)
            if name not in self._seen
            or (self._can_change and self._seen[name].requested_at <= requested_at)
        ]
        unread = sum(name not in self._seen for name in names)
        self.is_disordered = self.is_disordered or self._changes_order(names)
        (last_offset, last_names), due = self._last, self._next
        is_further = offset > last_offset >= 0
        is_repeated = is_further and sorted(names) == sorted(last_names) and bool(names)
        self._repeats = self._repeats + 1 if is_repeated else 0
        self._last = (offset, names)
        self._next = self._find_next(offset, names, unread)
        self._remember(offset, names, requested_at)
        ends = is_further and offset >= due and not unread and self._ends_alike(names, last_names)
        return Joined(news, unread, self._next, self._repeats, ends)

    @property
    def has_begun(self) -> bool:
        """Whether a page has joined."""
        return self._count > 0

    def _shares(self, offset: int, names: list[Identity]) -> bool:
        if self._position is not None and not self.has_begun:
            return self._position.is_joined_by(names)
        return offset == 0 or any(name in self._seen for name in names)

    def _changes_order(self, names: list[Identity]) -> bool:
        """Whether two records stand in another order than on the page that held both before."""
        last: dict[int, int] = {}
        for name in dict.fromkeys(names):
            seen = self._seen.get(name)
            if seen is not None:
                if seen.position < last.get(seen.page, 0):
                    return True
                last[seen.page] = seen.position
        return False

    def _ends_alike(self, names: list[Identity], last_names: list[Identity]) -> bool:
        """
        Whether a page requested from where the last one ends holds only that end again.

        A page may be short because the server removed records from it after cutting it to
        size, so its size proves nothing. Only a server that removes all records of a page
        except the overlap, twice in a row, could still hide records that follow.
        """
        same_end = bool(names and last_names) and names[-1] == last_names[-1]
        return same_end and not self._repeats

    def _find_next(self, offset: int, names: list[Identity], unread: int) -> int:
        """
        Find the offset of the rest.

        If the page's last record is known, the page lies within the records already read, and
        the record's shift since then gives the new position of their end. A wrong guess costs
        requests, never records: the next page must join as well. If it does not, the guess is
        dropped, and the page that follows this one is next.
        """
        page_end = offset + len(names)
        last = self._seen.get(names[-1]) if names else None
        self.end = page_end if last is None else self.end + (page_end - 1) - last.position
        self.tail = names if names and last is None else self.tail
        self._missed = self._missed and not unread
        end = page_end if self._missed else max(self.end, page_end)
        return max(end - overlap_of(len(names)), offset + 1)

    def _remember(self, offset: int, names: list[Identity], requested_at: datetime) -> None:
        self._count += 1
        for position, name in enumerate(names, start=offset):
            seen = self._seen.get(name)
            newest = max(requested_at, seen.requested_at) if seen else requested_at
            self._seen[name] = _Seen(position, newest, self._count)
        self._pages.append(names)
        if len(self._pages) > REMEMBERED_PAGES:
            self._forget(self._pages.popleft(), self._count - REMEMBERED_PAGES)

    def _forget(self, names: list[Identity], page: int) -> None:
        for name in names:
            seen = self._seen.get(name)
            if seen and seen.page == page:
                del self._seen[name]
