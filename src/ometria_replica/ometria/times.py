"""The times that Ometria writes into its records, read in one way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ometria_replica.records import field_text

if TYPE_CHECKING:
    from ometria_replica.records import Record


def time_of(record: Record, source: str) -> datetime | None:
    """
    Read the field *source* as a time with its zone; without one it is UTC.

    None where there is none that Python can read. Spaces around it do not matter.
    """
    try:
        found = datetime.fromisoformat((field_text(record, source) or "").strip())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
