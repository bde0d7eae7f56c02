"""The forms in which Ometria writes times."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

TimestampForm = Literal[
    "iso",
    "iso_z",
    "iso_micro",
    "postgres",
    "postgres_micro",
    "naive",
    "date",
    "epoch",
    "epoch_ms",
]
"""
Profiles and lists use ``iso``, unsubscribes use ``postgres``, and data deletion requests
use ``postgres_micro``. The form in the export is not documented; the others are guesses.
"""


def iso(moment: datetime) -> str:
    """Write ``2014-11-01T15:34:35+00:00``, without microseconds."""
    return moment.isoformat(timespec="seconds")


def postgres(moment: datetime) -> str:
    """Write ``2017-05-17 22:08:07+00``, the form of unsubscribes."""
    return f"{moment:%Y-%m-%d %H:%M:%S}+00"


def postgres_micro(moment: datetime) -> str:
    """Write ``2017-02-04 10:18:12.833949+00``, the form of data deletion requests."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}+00"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMS: dict[TimestampForm, Callable[[datetime], str]] = {
    "iso": iso,
    "iso_z": lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}Z",
    "iso_micro": lambda moment: moment.isoformat(timespec="microseconds"),
    "postgres": postgres,
    "postgres_micro": postgres_micro,
    "naive": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}",
    "date": lambda moment: f"{moment:%Y-%m-%d}",
    "epoch": lambda moment: str(int(moment.timestamp())),
    "epoch_ms": lambda moment: str((moment - _EPOCH) // timedelta(milliseconds=1)),
}


def write(moment: datetime, form: TimestampForm) -> str:
    """Write *moment*, which is in UTC, in *form*."""
    return _FORMS[form](moment)


def read(text: str) -> datetime:
    """
    Read a date or a time in ISO 8601 or Postgres form, in UTC unless it has a zone.

    Raises ValueError for other texts.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_date(text: str) -> date:
    """Read a date, or the date part of a time as written. Raises ValueError."""
    return datetime.fromisoformat(text).date()
