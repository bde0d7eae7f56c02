"""How far a full read of a collection has come, so that the next run can continue there."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

TAIL = 100  # Remembered records. With a step back of one page, each shift of up to a page is found.
ENOUGH = 20  # Of them in the same order, with no other between: not by chance in another order.
MOST_DELETED = 0.2  # Of them. If more are missing, they may have another place now.
_HASH_BYTES = 4

MOST_AGE = timedelta(days=8)
"""Of a read that is continued: as long as other tables look back. Later it starts over."""


@dataclass(frozen=True)
class ReadPosition:
    """
    The end of the records that were read without a gap from the start of a collection.

    *collection* identifies address and parameters, *offset* is the number of records before the
    end, *page_size* is the longest page that the server sent, and *tail* are hashes of the last
    records, in their order: profile ids do not reach the state.
    """

    collection: str
    offset: int
    page_size: int
    tail: tuple[bytes, ...]

    @classmethod
    def of(cls, collection: str, offset: int, page_size: int, names: Sequence[bytes]) -> Self:
        """Make the position after the records *names*, the last ones read."""
        return cls(collection, offset, page_size, tuple(map(_hashed, names[-TAIL:])))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the text of a position; None if another release wrote it in another form."""
        try:
            collection, offset, page_size, tail = text.split(" ")
            hashes = base64.b64decode(tail, validate=True)
            position = cls(collection, int(offset), int(page_size), tuple(_parts(hashes)))
        except (ValueError, binascii.Error):
            return None
        return position if position.tail and position.offset > 0 < position.page_size else None

    def __str__(self) -> str:
        tail = base64.b64encode(b"".join(self.tail)).decode()
        return f"{self.collection} {self.offset} {self.page_size} {tail}"

    @property
    def start(self) -> int:
        """The offset of the first request: its page holds the tail, whether a bit was shifted."""
        return max(0, self.offset - max(len(self.tail), self.page_size // 2))

    def end_in(self, names: Sequence[bytes]) -> int:
        """Return the place in the page of *names* just after the last record of the tail."""
        tail = frozenset(self.tail)
        return max(
            (at + 1 for at, name in enumerate(map(_hashed, names)) if name in tail), default=0
        )

    def is_joined_by(self, names: Sequence[bytes]) -> bool:
        """
        Whether the page of *names* holds the end of the tail as it was, so that it joins.

        A few records of the tail may have been deleted. The others are still in their order, and
        no other record is between them; else the order of the collection has changed. A longer
        page shows that the server has changed.
        """
        places = {name: place for place, name in enumerate(self.tail)}
        hashes = [_hashed(name) for name in names]
        found = [(at, places[name]) for at, name in enumerate(hashes) if name in places]
        if len(names) > self.page_size or len(found) < min(ENOUGH, (len(self.tail) + 1) // 2):
            return False
        is_unbroken = found[-1][0] - found[0][0] == len(found) - 1
        in_order = all(one[1] < next_[1] for one, next_ in pairwise(found))
        span = found[-1][1] - found[0][1] + 1
        return is_unbroken and in_order and len(found) >= (1 - MOST_DELETED) * span


@dataclass(frozen=True)
class InterruptedRead:
    """A full read that has not ended: its *position*, and the watermark at which it *began*."""

    position: ReadPosition
    began_at: datetime

    def is_credible(self, now: datetime, rows: int) -> bool:
        """Whether it is recent, and the *rows* in the warehouse are those that it has read."""
        return timedelta() <= now - self.began_at <= MOST_AGE and rows >= self.position.offset


def collection_id(*parts: str) -> str:
    """Identify a collection by its address and its parameters."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _hashed(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=_HASH_BYTES).digest()


def _parts(hashes: bytes) -> list[bytes]:
    if len(hashes) % _HASH_BYTES:
        raise ValueError("cut")
    return [hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)]
