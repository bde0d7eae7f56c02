"""
Pages that overlap are joined here, and a gap between two of them is noticed.

Offsets count from the start of a collection that changes while it is read: whoever is
deleted or merged away shifts all that follow to the left, and a reader that trusts its
offsets skips them. So each page begins a little before the last one's end, and must share
a record with what is already read.

Why one shared record is enough. A collection's order is fixed (the default is by Ometria's
internal id): records come and go, but two of them never change places. A page is then a
run without holes of what there was when it was served. Let U be what is read so far, without
holes from the start to its last record, let B be a page, and x a record in both. Take any
record r that was there throughout and does not come after B's last. If r does not come after
U's last, it is in U. If it does, it comes after x, hence after B's first, so it lies within B.
Either way it is read: U and B together have no holes up to the later of their ends. Nothing
here depends on which request was served first, so pages can be asked for side by side.
A page at offset 0 needs no shared record: it begins at the start.
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

    from ometria_replica.records import Record

OVERLAP = 5  # Survives four deletions between two pages without a request more.
REMEMBERED_PAGES = 40  # More than the longest step back, so that it can't land before them.

Identity = bytes


def by_id(record: Record) -> Identity:
    """Know a record by its ``id``; one without, by all it holds."""
    return (field_text(record, "id") or "").encode() or by_all(record)


def by_all(record: Record) -> Identity:
    """
    Know a record by all it holds, as a hash.

    Events never change and need no id; where they carry one, it may be their list's.
    """
    return hashlib.blake2b(json_text(record).encode(errors="replace"), digest_size=16).digest()


def overlap_of(page_size: int) -> int:
    """Give how many records of a page the next one repeats: half of it at most."""
    return min(OVERLAP, page_size // 2)


@dataclass(frozen=True)
class _Seen:
    position: int
    requested_at: datetime
    page: int


class OverlapCheck:
    """What is read so far of one collection, as far back as it can still matter."""

    def __init__(self, identity: Callable[[Record], Identity]) -> None:
        self._identity = identity
        self._can_change = identity is not by_all
        self._seen: dict[Identity, _Seen] = {}
        self._pages: deque[list[Identity]] = deque()
        self._count = 0
        self._end = 0  # The position just after the last record read.
        self._missed = False  # Whether a page failed to join since the last new record.
        self._next = 0
        self.brought = 0
        """How many records the last page held that were new."""
        self.repeats = 0
        """How many pages in a row equalled the one before, though asked further on."""
        self.at_end = False
        """Whether the last page proved that nothing comes after what is read."""
        self._last: tuple[int, list[Identity]] = (-1, [])

    @property
    def next_offset(self) -> int:
        """Where to go on, an overlap before the end."""
        return self._next

    def join(
        self, offset: int, found: Sequence[Record], requested_at: datetime
    ) -> list[Record] | None:
        """
        Join the page at *offset*, and give those of its records that are news.

        News is what was not read yet, or was read by an earlier request: for each record
        the last copy given is the newest. What is known by all it holds has but one copy.
        None means that the page shares nothing with what is read, so that records may be
        missing between.
        """
        names = [self._identity(record) for record in found]
        if offset > 0 and not any(name in self._seen for name in names):
            self._missed = True
            return None
        news = [
            record
            for record, name in zip(found, names, strict=True)
            if name not in self._seen
            or (self._can_change and self._seen[name].requested_at <= requested_at)
        ]
        (last_offset, last_names), due = self._last, self._next
        self._note_repeat(offset, names)
        self._note_next(offset, names)
        further_on = offset > last_offset >= 0 and offset >= due
        self.at_end = further_on and self._ends_alike(names, last_names)
        self._remember(offset, names, requested_at)
        return news

    def _note_repeat(self, offset: int, names: list[Identity]) -> None:
        last_offset, last_names = self._last
        same = offset > last_offset >= 0 and sorted(names) == sorted(last_names) and bool(names)
        self.repeats = self.repeats + 1 if same else 0
        self._last = (offset, names)

    def _ends_alike(self, names: list[Identity], last_names: list[Identity]) -> bool:
        """
        Tell whether a page that was asked for where the last one ends brought only its end again.

        A page may be short because the server took records out of it after it was cut, so
        that its size proves nothing. Only a server that takes out all the rest of a page
        but the overlap, twice in a row, still could hide what follows.
        """
        same_end = bool(names and last_names) and names[-1] == last_names[-1]
        return same_end and not self.brought and not self.repeats

    def _note_next(self, offset: int, names: list[Identity]) -> None:
        """
        Find where the rest begins.

        Where the page's last record is known, the page lies within what is read, and
        its shift since then says where the end is now. A wrong guess costs requests,
        never records: the next page must join as well. If it did not, the guess is
        dropped, and the next page is the one that follows.
        """
        self.brought = sum(name not in self._seen for name in names)
        page_end = offset + len(names)
        last = self._seen.get(names[-1]) if names else None
        self._end = page_end if last is None else self._end + (page_end - 1) - last.position
        self._missed = self._missed and not self.brought
        end = page_end if self._missed else max(self._end, page_end)
        self._next = max(end - overlap_of(len(names)), offset + 1)

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
