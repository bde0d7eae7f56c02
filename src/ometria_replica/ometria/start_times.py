"""From when on a table is read again: the watermark, less a look-back; lists, if refreshed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from ometria_replica.ometria.times import time_of
from ometria_replica.records import field_text
from ometria_replica.ways_to_read import PerParent, Windows

if TYPE_CHECKING:
    from ometria_replica.batch import TableState
    from ometria_replica.records import Record
    from ometria_replica.ways_to_read import Read

OVERLAP = timedelta(days=2)
"""`updateSince` is a date of unknown time zone and bounds.

If it excludes its day and counts in UTC-12, it starts 36 hours after that day began in UTC.
"""

LOOK_BACK = timedelta(days=8)
"""Lists are refreshed as rarely as weekly: support.ometria.com, "Refresh your dynamic segments"."""

REFRESH_GRACE = timedelta(hours=3)
"""How long a refresh may take to appear in the changes: a list is read again for so long."""

REFRESHED_AT = "timestamp_last_refreshed"

FULL_ROUND = timedelta(days=7)
"""How often the changes of every list are read, refreshed or not."""

BEGINNING = datetime(2010, 1, 1, tzinfo=UTC)
"""Before Ometria existed: the start of a read of everything."""


def read_from(read: Read, watermark: datetime) -> datetime:
    """Return the time from which on a table with that *watermark* is read again."""
    if isinstance(read, Windows | PerParent):
        return watermark - LOOK_BACK
    return datetime.combine((watermark - OVERLAP).date(), time(), UTC)


def due_since(state: TableState, now: datetime, parent: Record) -> datetime:
    """
    Return the time from which on some sync of the next week reads the changes of a list again.

    BEGINNING if it reads them all.
    """
    since = Refreshed(state, now + FULL_ROUND).since(parent)
    return BEGINNING if since is None else since


@dataclass(frozen=True)
class Refreshed:
    """
    Decides from when on to read the changes of a list; not at all if it was not refreshed.

    A dynamic list changes only when it is refreshed. A refresh may show late, so it is compared
    with the one that was seen when the list was last read: the changes since then are read, also
    if Ometria has not listed it for a while. A list that was never read is read whole. All lists
    are read once a week even so, in case this is not the full truth. A list that Ometria refused
    is read in every run, from the time from which it is due.
    """

    state: TableState
    now: datetime

    @property
    def is_full_round(self) -> bool:
        """Whether every list is read, which makes the next full round due in a week."""
        watermark, whole_at = self.state.watermark, self.state.full_read_at
        return watermark is None or whole_at is None or self.now - whole_at >= FULL_ROUND

    def since(self, record: Record) -> datetime | None:
        """Return the time from which to read a list's changes; None to skip the list."""
        watermark, whole_at = self.state.watermark, self.state.full_read_at
        list_id = field_text(record, "id") or ""
        due = self.state.retry.get(list_id)
        if due is not None:
            return due
        if watermark is None or whole_at is None:
            return BEGINNING
        refreshed_at, known = time_of(record, REFRESHED_AT), self.state.refreshed.get(list_id)
        if refreshed_at is not None and known is None and self.state.refreshed:
            return BEGINNING  # Its changes may be older than the watermark.
        start = min(watermark, whole_at) if self.is_full_round else watermark
        if known is not None and known != refreshed_at:
            start = max(min(start, known), BEGINNING + LOOK_BACK)
        elif known is not None and not self.is_full_round:
            is_dynamic = field_text(record, "type") == "DYNAMIC"
            if is_dynamic and known < watermark - REFRESH_GRACE:
                return None
        return start - LOOK_BACK
