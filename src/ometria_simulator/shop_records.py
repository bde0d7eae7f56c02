"""What a shop pushes to Ometria, and its exact form in the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_simulator import moments
from ometria_simulator.shapes import SHAPE, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ometria_simulator.records import Absent, Json, Record

WHOLE = 1_000
"""As the number of refunded lines of an order: all of them, and the shipping."""


@dataclass(frozen=True, slots=True)
class Order:
    """
    One order, without what :mod:`ometria_simulator.order_records` derives from its id.

    ``profile_id`` is the person whose ``stats`` count the order; the API does not show it.
    ``pence`` is the grand total. ``fields`` replace the derived fields of the record.
    ``updated_at`` and ``update_sequence`` are as in a profile.
    """

    id: str
    profile_id: str | None
    customer_id: str | None
    placed_at: datetime
    pence: int
    quantity: int
    is_valid: bool
    status: str
    updated_at: datetime
    update_sequence: int
    refunded_lines: int = 0
    fields: Mapping[str, Json | Absent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the catalogue; ``updated_at`` and ``update_sequence`` are not shown."""

    id: str
    updated_at: datetime
    update_sequence: int
    fields: Mapping[str, Json]

    @property
    def is_active(self) -> bool:
        """Whether ``active=true`` selects it."""
        return bool(self.fields.get("is_active"))

    def record(self) -> Record:
        """Return the object that ``GET /products`` shows."""
        return {"@type": "product", "id": self.id, **self.fields}


@dataclass(frozen=True, slots=True)
class Contact:
    """
    One listing of a person in a collection; ``id`` is unique within the collection only.

    ``fields`` replace or extend those of the record.
    """

    collection: str
    id: str
    profile_id: str | None
    created_at: datetime
    updated_at: datetime
    update_sequence: int
    fields: Mapping[str, Json]

    def record(self, shape: Shape = SHAPE) -> Record:
        """Return the object that ``GET /contacts/{collection}`` shows."""
        created = moments.write(self.created_at, shape.timestamp_form)
        updated = moments.write(self.updated_at, shape.timestamp_form)
        return {
            "@type": "contact",
            "id": self.id,
            "collection": self.collection,
            "profile_id": self.profile_id,
            "dt_object_created": created,
            "dt_object_observed": created,
            "dt_object_updated": updated,
            "dt_observed": updated,
            "object_version": int(self.updated_at.timestamp()),
            **self.fields,
        }


@dataclass(frozen=True, slots=True)
class CustomEvent:
    """One event that the shop defines; ``fields`` are its custom keys."""

    id: str
    profile_id: str | None
    event_type: str
    at: datetime
    identity_account_id: str | None = None
    identity_email: str | None = None
    fields: Mapping[str, Json] = field(default_factory=dict)

    def record(self, shape: Shape = SHAPE) -> Record:
        """Return the object that ``GET /custom-events`` shows."""
        at = moments.write(self.at, shape.timestamp_form)
        return {
            "@type": "custom_event",
            "id": self.id,
            "profile_id": self.profile_id,
            "event_type": self.event_type,
            "identity_account_id": self.identity_account_id,
            "identity_email": self.identity_email,
            "timestamp": at,
            "dt_observed": at,
            **self.fields,
        }


@dataclass(frozen=True, slots=True)
class PushError:
    """One record of a push that Ometria refused; ``record_sent`` is the record as pushed."""

    request_id: str
    record_type: str
    record_id: str
    at: datetime
    error_message: str
    error_path: str | None
    record_sent: Mapping[str, Json]
    customer_id: str | None = None
    source: str = "api"

    def record(self, shape: Shape = SHAPE) -> Record:
        """Return the object that ``GET /push/_errors`` shows."""
        at = moments.write(self.at, shape.timestamp_form)
        return {
            "request_id": self.request_id,
            "record_type": self.record_type,
            "record_id": self.record_id,
            "record": dict(self.record_sent),
            "customer_id": self.customer_id,
            "account": "simulated",
            "source": self.source,
            "timestamp": at,
            "timestamp_acquired": at,
            "message": {"error_message": self.error_message, "error_path": self.error_path},
        }
