"""What an account holds, and exactly how each thing looks on the wire."""

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
        """Name the one instance."""
        return "ABSENT"


ANONYMOUS_DOMAIN: Final = "anonymous.ometria"
"""Domain of the hashed addresses in deletion requests: article on GDPR."""

ABSENT: Final = Absent()
"""Given as a field's value it takes the field away, which is not the same as null."""


@dataclass(frozen=True, slots=True)
class Profile:
    """
    One merged person.

    ``internal_id`` gives the API's default order and ``updated_at`` (then
    ``update_sequence``) the order of ``orderby=timestamp_update``; neither is
    ever shown. ``fields`` is everything else, absent or null as it stands.
    """

    internal_id: int
    id: str
    created_at: datetime
    updated_at: datetime
    update_sequence: int
    fields: Mapping[str, Json]

    @property
    def email(self) -> str | None:
        """The address, or None for a person known by phone or by id only."""
        email = self.fields.get("email")
        return email if isinstance(email, str) and email else None

    @property
    def is_anonymous(self) -> bool:
        """True once a deletion request replaced the address by its hash."""
        return (self.email or "").endswith(f"@{ANONYMOUS_DOMAIN}")

    def record(self) -> Record:
        """Give the object that ``GET /profiles`` shows."""
        return {"@type": "profile", "id": self.id, **self.fields}


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One list, which Ometria calls a segment.

    ``refresh_every`` is None for a list that never refreshes by itself, and
    ``archived`` shows only through the parameter ``mode``.
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
        """Give the object that ``GET /lists`` shows."""
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
    """One person's entry to or exit from one list; ``at`` is the refresh that saw it."""

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
        """Give the object that ``GET /lists/{id}/changes`` shows."""
        record: Record = {"list_id": self.list_id} if with_list_id else {}
        record |= {
            "profile_id": self.profile_id,
            "email": self.email,
            "event": self.event,
            "timestamp": moments.write(self.at, timestamp_form),
        }
        return record


API_OPT_OUT = "api"
"""Type of an opt-out made through the API, which ``GET /unsubscribes`` never shows."""


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
        """Give the object that ``GET /unsubscribes`` shows."""
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

    def record(self) -> Record:
        """
        Return the object that ``GET /data-deletion-requests`` shows.

        The fields are in the order of the documented example, which also has the
        request's own id as ``api_request_id``.
        """
        completed = moments.postgres_micro(self.completed_at) if self.completed_at else None
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
            "timestamp_created": moments.postgres_micro(self.created_at),
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
    One thing that happened to one message.

    ``uuid`` names the send and is shared by all events of a message.
    ``available_at`` is when the export may first contain the event: for a late
    one, days after ``dt_occurred``.
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
        """Give every column of the export as text; None is a null."""
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
    """Write the day only, as ``date_of_birth`` does."""
    return f"{moment:%Y-%m-%d}"
