"""The objects of an account, and their exact form in the API and in the export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ometria_simulator import moments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, timedelta

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Record: TypeAlias = "dict[str, Json]"


class Absent:
    """The type of :data:`ABSENT`."""

    def __repr__(self) -> str:
        """Return the name of the only instance."""
        return "ABSENT"


ANONYMOUS_DOMAIN: Final = "anonymous.ometria"
"""Domain of the hashed addresses in deletion requests: article on GDPR."""

ABSENT: Final = Absent()
"""As the value of a field, it removes the field, unlike null."""


@dataclass(frozen=True, slots=True)
class Profile:
    """
    One merged person.

    ``internal_id`` is the default order of the API, and ``updated_at`` with
    ``update_sequence`` the order of ``orderby=timestamp_update``; the API never shows them.
    ``fields`` are the other fields, absent or null as given.
    """

    internal_id: int
    id: str
    created_at: datetime
    updated_at: datetime
    update_sequence: int
    fields: Mapping[str, Json]

    @property
    def email(self) -> str | None:
        """The address, or None if the profile has none."""
        email = self.fields.get("email")
        return email if isinstance(email, str) and email else None

    @property
    def is_anonymous(self) -> bool:
        """True after a deletion request replaced the address by its hash."""
        return (self.email or "").endswith(f"@{ANONYMOUS_DOMAIN}")

    def record(self) -> Record:
        """Return the object that ``GET /profiles`` shows."""
        return {"@type": "profile", "id": self.id, **self.fields}


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One list, which Ometria calls a segment.

    ``refresh_every`` is None if time does not refresh the list. ``archived`` is visible
    through the parameter ``mode`` only.
    """

    id: str
    title: str
    description: str | None
    type: str
    status: str
    size: int
    total_orders: int
    total_revenue: float
    created_at: datetime
    refreshed_at: datetime
    stats_updated_at: datetime
    archived: bool = False
    refresh_every: timedelta | None = None

    def record(self) -> Record:
        """Return the object that ``GET /lists`` shows."""
        return {
            "@type": "list",
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "status": self.status,
            "type": self.type,
            "size": self.size,
            "total_orders": self.total_orders,
            "total_revenue": self.total_revenue,
            "timestamp_created": moments.iso(self.created_at),
            "timestamp_last_refreshed": moments.iso(self.refreshed_at),
            "timestamp_stats_updated": moments.iso(self.stats_updated_at),
        }


@dataclass(frozen=True, slots=True)
class ListChange:
    """An entry of a profile into a list or its exit; ``at`` is the time of the refresh."""

    list_id: str
    profile_id: str
    email: str | None
    event: str
    at: datetime

    def record(
        self,
        timestamp_form: moments.TimestampForm = "iso",
        *,
        with_list_id: bool = False,
    ) -> Record:
        """Return the object that ``GET /lists/{id}/changes`` shows."""
        record: Record = {"list_id": self.list_id} if with_list_id else {}
        record |= {
            "profile_id": self.profile_id,
            "email": self.email,
            "event": self.event,
            "timestamp": moments.write(self.at, timestamp_form),
        }
        return record


API_OPT_OUT = "api"
"""Type of an opt-out through the API, which ``GET /unsubscribes`` never shows."""


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """One opt-out."""

    profile_id: str | None
    email_address: str | None
    type: str
    at: datetime
    reason: str | None = None
    reason_text: str | None = None
    send_id: str | None = None
    mass_campaign_id: int | str | None = None
    trigger_campaign_id: int | str | None = None

    def record(self) -> Record:
        """Return the object that ``GET /unsubscribes`` shows."""
        return {
            "profile_id": self.profile_id,
            "email_address": self.email_address,
            "type": self.type,
            "timestamp": moments.postgres(self.at),
            "reason": self.reason,
            "reason_text": self.reason_text,
            "send_id": self.send_id,
            "mass_campaign_id": self.mass_campaign_id,
            "trigger_campaign_id": self.trigger_campaign_id,
        }


@dataclass(frozen=True, slots=True)
class DeletionRequest:
    """
    One request to anonymise a person, whose addresses it holds as hashes only.

    ``completed_at`` is None until Ometria has processed the request, which takes up to 14 days.
    ``origin`` is ``api`` or ``app``; ``user`` is the ``(email, name)`` of the requesting user.
    """

    id: str
    hashed_emails: tuple[str, ...]
    created_at: datetime
    completed_at: datetime | None = None
    comment: str | None = None
    summary: str | None = None
    origin: str = "api"
    user: tuple[str, str] | None = None

    def record(self, timestamp_form: moments.TimestampForm = "postgres_micro") -> Record:
        """
        Return the object that ``GET /data-deletion-requests`` shows.

        The fields are in the order of the documented example, which also has the
        request's own id as ``api_request_id``.
        """
        completed = moments.write(self.completed_at, timestamp_form) if self.completed_at else None
        return {
            "action": "anonymise",
            "comment": self.comment,
            "id": self.id,
            "identities": [{"hashed_email": hashed} for hashed in self.hashed_emails],
            "source": {
                "api_request_id": self.id if self.origin == "api" else None,
                "origin": self.origin,
                "user": {"email": self.user[0], "name": self.user[1]} if self.user else None,
            },
            "summary": self.summary,
            "timestamp_completed": completed,
            "timestamp_created": moments.write(self.created_at, timestamp_form),
        }


@dataclass(frozen=True, slots=True)
class PendingDeletion:
    """
    The part of an open deletion request that the API never shows.

    ``emails`` are in lower case; ``profiles`` has the hashed address of each profile id.
    """

    request_id: str
    due_at: datetime
    emails: frozenset[str]
    profiles: Mapping[str, str]
    removes_profile: bool = False


@dataclass(frozen=True, slots=True)
class EmailEvent:
    """
    One event of one message.

    All events of a message have the ``uuid`` of its send. ``available_at`` is the time from
    which the export can contain the event: for a late one, days after ``dt_occurred``.
    """

    to_address: str | None
    event_type: str
    dt_occurred: datetime
    available_at: datetime
    event_id: str | None = None
    uuid: str | None = None
    bounce_class: str | None = None
    reason: str | None = None
    device_type: str | None = None
    geo_country: str | None = None
    geo_region: str | None = None
    geo_timezone: str | None = None
    target_url: str | None = None
    campaign_title: str | None = None
    campaign_type: str | None = None
    geo_city: str | None = None
    delay_class: str | None = None

    def cells(self, timestamp_form: moments.TimestampForm) -> dict[str, str | None]:
        """Return every column of the export as text; None is null."""
        return {
            "event_id": self.event_id,
            "uuid": self.uuid,
            "to_address": self.to_address,
            "event_type": self.event_type,
            "dt_occurred": moments.write(self.dt_occurred, timestamp_form),
            "bounce_class": self.bounce_class,
            "reason": self.reason,
            "device_type": self.device_type,
            "geo_country": self.geo_country,
            "geo_region": self.geo_region,
            "geo_timezone": self.geo_timezone,
            "target_url": self.target_url,
            "campaign_title": self.campaign_title,
            "campaign_type": self.campaign_type,
            "geo_city": self.geo_city,
            "delay_class": self.delay_class,
        }


def as_day(moment: datetime | date) -> str:
    """Write a date in the form of ``date_of_birth``."""
    return f"{moment:%Y-%m-%d}"
