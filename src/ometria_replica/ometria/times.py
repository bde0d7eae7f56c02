"""Times as Ometria writes them into records and reads them in requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ometria_replica.records import field_text

if TYPE_CHECKING:
    from ometria_replica.records import Record


def time_of(record: Record, source: str) -> datetime | None:
    """
    Read the field *source* as a time with its zone; without a zone, it is in UTC.

    None if the field holds no time that Python can read. Spaces around it are ignored.
    """
    try:
        found = datetime.fromisoformat((field_text(record, source) or "").strip())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def utc_text(time: datetime) -> str:
    """Write a time as Ometria documents it for ``since`` and ``before``: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
