"""
Which files of the feed were read, in little room: dlt writes its state with every load.

The newest files are remembered one by one, by a hash of name, ETag and size. Of the older
ones only the time is known up to which they were read, and how many there are.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ometria_replica.records import FeedObject

MOST_FILES = 1000
"""Six weeks of a file an hour, in 8 kB of state. Redshift takes no text of more than 64 kB."""

_HASH_BYTES = 6  # A new file is taken for one of a thousand with a chance of 1 in 10^11.
_MARK = 8  # Characters of a hash in base64.


@dataclass(frozen=True)
class Ledger:
    """
    *files* are the marks of those remembered; *horizon* is when the newest forgotten file was
    last changed, None while none is, and *forgotten* counts those that were still in the
    feed. *unread* are the marks of files older than that which could not be read yet.
    """

    files: frozenset[str] = frozenset()
    horizon: datetime | None = None
    forgotten: int = 0
    unread: frozenset[str] = frozenset()

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ledger:
        """Read what :meth:`to_state` wrote; nothing makes an empty ledger."""
        horizon = state.get("horizon")
        return cls(
            _split(state.get("files", "")),
            datetime.fromisoformat(horizon) if horizon else None,
            state.get("forgotten", 0),
            _split(state.get("unread", "")),
        )

    def to_state(self) -> dict[str, Any]:
        """Write it in the types of JSON."""
        return {
            "files": "".join(sorted(self.files)),
            "horizon": self.horizon.isoformat() if self.horizon else None,
            "forgotten": self.forgotten,
            "unread": "".join(sorted(self.unread)),
        }

    def new_files(self, listed: Iterable[FeedObject]) -> list[FeedObject]:
        """Keep the files that were not read in this version."""
        return [file for file in listed if not self._is_read(file)]

    def late(self, listed: Iterable[FeedObject]) -> int:
        """Count the files that are taken for read because of their time, and can't all be."""
        return max(0, sum(map(self._is_forgotten, listed)) - self.forgotten)

    def after(self, listed: Sequence[FeedObject], read: Iterable[FeedObject]) -> Ledger:
        """Give the ledger once *read*, of the files *listed*, were read."""
        marks = self.files | {mark_of(file) for file in read}
        known = sorted(
            (file for file in listed if mark_of(file) in marks),
            key=lambda file: (file.modified_at, file.name),
        )
        dropped, kept = known[:-MOST_FILES], known[-MOST_FILES:]
        horizon = dropped[-1].modified_at if dropped else None
        horizon = max(filter(None, (self.horizon, horizon)), default=None)
        return Ledger(
            frozenset(map(mark_of, kept)),
            horizon,
            min(self.forgotten, sum(map(self._is_forgotten, listed))) + len(dropped),
            frozenset(
                mark_of(file)
                for file in self.new_files(listed)
                if mark_of(file) not in marks and horizon and file.modified_at <= horizon
            ),
        )

    def _is_read(self, file: FeedObject) -> bool:
        return mark_of(file) in self.files or self._is_forgotten(file)

    def _is_forgotten(self, file: FeedObject) -> bool:
        if self.horizon is None or file.modified_at > self.horizon:
            return False
        return mark_of(file) not in self.files | self.unread


def mark_of(file: FeedObject) -> str:
    """Know a version of a file by eight characters."""
    version = "\0".join((file.name, file.etag, str(file.size)))
    digest = hashlib.blake2b(version.encode(), digest_size=_HASH_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _split(marks: str) -> frozenset[str]:
    return frozenset(marks[start : start + _MARK] for start in range(0, len(marks), _MARK))
