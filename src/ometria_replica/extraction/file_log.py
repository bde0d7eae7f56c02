"""
The export files that were read, stored compactly: loaders write their state again and again.

The log has a fingerprint of each of the newest files: a hash of name, ETag and size. For
older files it has only the time up to which they were read, and their number.
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
"""Six weeks at a file per hour, in 8 kB of state. Redshift's limit for a text is 64 kB."""

_HASH_BYTES = 6  # A new file equals one of a thousand others with a probability of 1 in 10^11.
_FINGERPRINT = 8  # Characters of a hash in base64.


@dataclass(frozen=True)
class FileLog:
    """
    The files that were read.

    *files* are the fingerprints of the newest ones. *horizon* is the modification time of the
    newest older one, None if there are none, and *forgotten* is the number of older ones that
    are still in the feed. *retry* are the fingerprints of files older than the horizon that
    could not be read yet.
    """

    files: frozenset[str] = frozenset()
    horizon: datetime | None = None
    forgotten: int = 0
    retry: frozenset[str] = frozenset()

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FileLog:
        """Read the JSON of :meth:`to_state`; an empty one gives an empty log."""
        horizon = state.get("horizon")
        return cls(
            _split(state.get("files", "")),
            datetime.fromisoformat(horizon) if horizon else None,
            state.get("forgotten", 0),
            _split(state.get("unread", "")),
        )

    @property
    def read_before(self) -> int:
        """The number of files in the feed that were read."""
        return len(self.files) + self.forgotten

    def to_state(self) -> dict[str, Any]:
        """Return the log in the types of JSON; the keys are stored in users' pipelines."""
        return {
            "files": "".join(sorted(self.files)),
            "horizon": self.horizon.isoformat() if self.horizon else None,
            "forgotten": self.forgotten,
            "unread": "".join(sorted(self.retry)),
        }

    def new_files(self, listed: Iterable[FeedObject]) -> list[FeedObject]:
        """Return the files whose version was not read yet."""
        return [file for file in listed if not self._is_read(file)]

    def late(self, listed: Iterable[FeedObject]) -> int:
        """Count the files below the horizon that arrived too late, and are never read."""
        return max(0, sum(map(self._is_forgotten, listed)) - self.forgotten)

    def after(self, listed: Sequence[FeedObject], read: Iterable[FeedObject]) -> FileLog:
        """Return the log after the files *read*, out of *listed*, were read."""
        fingerprints = self.files | {fingerprint(file) for file in read}
        known = sorted(
            (file for file in listed if fingerprint(file) in fingerprints),
            key=lambda file: (file.modified_at, file.name),
        )
        dropped, kept = known[:-MOST_FILES], known[-MOST_FILES:]
        horizon = dropped[-1].modified_at if dropped else None
        horizon = max(filter(None, (self.horizon, horizon)), default=None)
        return FileLog(
            frozenset(map(fingerprint, kept)),
            horizon,
            min(self.forgotten, sum(map(self._is_forgotten, listed))) + len(dropped),
            frozenset(
                fingerprint(file)
                for file in self.new_files(listed)
                if fingerprint(file) not in fingerprints and horizon and file.modified_at <= horizon
            ),
        )

    def _is_read(self, file: FeedObject) -> bool:
        return fingerprint(file) in self.files or self._is_forgotten(file)

    def _is_forgotten(self, file: FeedObject) -> bool:
        if self.horizon is None or file.modified_at > self.horizon:
            return False
        return fingerprint(file) not in self.files | self.retry


def fingerprint(file: FeedObject) -> str:
    """Identify a version of a file by eight characters."""
    version = "\0".join((file.name, file.etag, str(file.size)))
    digest = hashlib.blake2b(version.encode(), digest_size=_HASH_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _split(fingerprints: str) -> frozenset[str]:
    starts = range(0, len(fingerprints), _FINGERPRINT)
    return frozenset(fingerprints[start : start + _FINGERPRINT] for start in starts)
