"""What accounts have shown, with the names of the models, and what the oracles of marts share."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from tests.spec.oracle import Row

KINDS = {
    "send": "sent", "open": "opened", "click": "clicked", "bounce": "bounced", "delay": "delayed",
    "spam_complaint": "complained",
}  # fmt: skip
CONSENTS = {
    "true": "opted_in", "explicitly_optedin": "opted_in",
    "false": "opted_out", "explicitly_optedout": "opted_out",
}  # fmt: skip
SOURCE = ("source_id", "account_id")
CAMPAIGN = (*SOURCE, "campaign_type", "campaign_title")
_END = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Shown:
    """
    All that the accounts have shown, at the moment *now*, with days in the time *zone*.

    *rows* are those of the tables, and *deleted* names the records that are gone, by table,
    source and id.
    """

    rows: Mapping[str, list[Row]]
    deleted: frozenset[tuple[str, str, str]]
    now: datetime
    zone: str

    def table(self, name: str) -> list[Row]:
        """Give the rows of a table, with the names and addresses of the models."""
        return [_staged(row) for row in self.rows[name]]

    def existing(self, name: str, record_id: str) -> list[Row]:
        """Give the rows whose records Ometria has."""
        return [
            row
            for row in self.table(name)
            if (name, row["source_id"], row[record_id]) not in self.deleted
        ]

    def day(self, moment: datetime | None) -> date | None:
        """Give the day of a moment."""
        return moment.astimezone(ZoneInfo(self.zone)).date() if moment else None

    def events(self) -> list[Row]:
        """Give the events, with what each says."""
        return [
            {
                **row,
                "send_key": row["send_id"] or row["sync_key"],
                "kind": KINDS.get((row["event_type"] or "").strip().lower(), "other"),
            }
            for row in self.table("email_events")
        ]


def _staged(row: Row) -> Row:
    lineage = {"__source_id": "source_id", "_account_id": "account_id", "__sync_key": "sync_key"}
    named = {lineage.get(name, name): value for name, value in row.items()}
    if "email" in named:
        named["email"] = (named["email"] or "").strip(" \t\n\v\f\r").lower() or None
    return named


def groups(rows: Iterable[Row], columns: tuple[str, ...]) -> list[list[Row]]:
    """Give the rows by the values of *columns*."""
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in columns)].append(row)
    return list(found.values())


def named_of(columns: tuple[str, ...], rows: list[Row]) -> Row:
    """Give *columns* of the first of *rows*."""
    return {column: rows[0][column] for column in columns}


def least(values: Iterable[Any]) -> Any:
    """Give the least that is not None; None of nothing."""
    return min((value for value in values if value is not None), default=None)


def most(values: Iterable[Any]) -> Any:
    """Give the most that is not None; None of nothing."""
    return max((value for value in values if value is not None), default=None)


def ratio(part: Any, whole: Any) -> float | None:
    """Divide; None by nothing."""
    return float(part) / float(whole) if whole else None


def domain_of(address: str | None) -> str | None:
    """Give what is after the last @."""
    return address.rpartition("@")[2] or None if address and "@" in address else None


def consent_of(row: Row) -> str:
    """Give the consent of a profile."""
    return CONSENTS.get((row["marketing_optin"] or "").strip(" ").lower(), "unknown")


def seconds_between(first: datetime | None, last: datetime | None) -> int | None:
    """Count whole seconds; None unless *last* is the later."""
    return None if not first or not last or last < first else (last - first) // timedelta(seconds=1)


def in_order(events: Iterable[Row]) -> list[Row]:
    """Order events by time, and then by key."""
    return sorted(events, key=lambda each: (each["event_at"] or _END, each["sync_key"]))
