"""The behaviour of the account where Ometria documents none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_simulator.moments import TimestampForm
    from ometria_simulator.shapes import MoneyForm

Endpoint = Literal[
    "profiles",
    "lists",
    "changes",
    "unsubscribes",
    "data-deletion-requests",
    "orders",
    "products",
    "collections",
    "contacts",
    "custom-events",
    "push-errors",
]

PAGED: frozenset[Endpoint] = frozenset(
    {"profiles", "orders", "products", "collections", "contacts", "custom-events"}
)
"""Endpoints for which a source names ``limit`` and ``offset``."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """
    One possible behaviour of Ometria.

    The defaults are documented, or else the most likely behaviour; the other values are
    further ways in which Ometria may behave.
    """

    # Pages
    above_max_limit: Literal["clamp", "reject"] = "clamp"
    """Effect of a limit above 250: it counts as 250, or returns 400."""
    paged: frozenset[Endpoint] = PAGED
    """Endpoints with ``limit`` and ``offset``; the others return all records."""
    ignore_limit: frozenset[Endpoint] = frozenset()
    """Paged endpoints that ignore ``limit`` and return pages of the default size."""
    ignore_offset: frozenset[Endpoint] = frozenset()
    """Paged endpoints that ignore ``offset`` and always return the first page."""
    frozen_first_page: frozenset[Endpoint] = frozenset()
    """Endpoints that repeat their first response to a query byte for byte, for every page."""
    silent_caps: Mapping[Endpoint, int] = field(default_factory=dict)
    """Maximum number of records in a response, by endpoint; the rest is cut silently."""
    max_offset: int | None = None
    """Highest offset; a page beyond it is empty."""
    ignore_orderby: frozenset[Endpoint] = frozenset()
    """Endpoints that ignore ``orderby`` and stay in internal order."""
    reversed_order: frozenset[Endpoint] = frozenset()
    """Endpoints whose internal order is reversed."""

    # Time bounds
    since_inclusive: bool = True
    """True if the response includes the time ``since``; ``updateSince`` has a quirk of its own."""
    before_inclusive: bool = False
    """True if the response includes the time ``before``."""
    unsubscribes_default_days: int | None = None
    """Days that ``/unsubscribes`` returns without ``since``; None returns all."""
    changes_since_param: str = "since"
    """Name of the parameter of ``/lists/{id}/changes``, which is inferred."""
    changes_kept_days: int | None = None
    """Retention of list changes in days; None keeps all."""
    update_since_on: frozenset[Endpoint] = frozenset({"profiles", "orders", "contacts"})
    """Endpoints with ``updateSince``: documented for profiles, inferred for the others."""
    ignore_update_since: bool = False
    """True to ignore ``updateSince`` everywhere, so that every read is a full read."""
    update_since_inclusive: bool = True
    """True if the response includes the day of ``updateSince``."""
    update_since_utc_offset_hours: float = 0.0
    """Hours ahead of UTC of the time zone of that day, which is not documented."""

    # Shapes
    numbers_as_strings: bool = False
    """True to return numbers as text, except in changes and unsubscribes."""
    money_form: MoneyForm = "shortest"
    """Form of the amounts of orders: ``12.5``, ``12.50`` or ``"12.50"``."""
    timestamp_forms: Mapping[Endpoint, TimestampForm] = field(default_factory=dict)
    """Form of the times of orders, contacts, custom events and push errors; ISO 8601 if absent."""
    line_items_name: str = "lineitems"
    """Name of the array of line items in an order, which is inferred."""
    order_customer_id: Literal["customer_id", "profile_id"] = "customer_id"
    """Id in the ``customer_id`` of an order: the shop's, or the one of the profile."""
    absent_fields: Mapping[Endpoint, frozenset[str]] = field(default_factory=dict)
    """Fields that are absent from every record, by endpoint."""
    null_fields: Mapping[Endpoint, frozenset[str]] = field(default_factory=dict)
    """Fields that are null in every record that has them, by endpoint."""
    missing_fields: frozenset[str] = frozenset()
    """Profile fields that are always absent."""
    only_on_single_profile: frozenset[str] = frozenset({"lists"})
    """Profile fields that only ``/profiles/{id}`` returns."""
    email_lookup: Literal["array", "object"] = "array"
    """Result of ``?email=``: an array as in practice, or an object as documented."""
    changes_carry_list_id: bool = False
    """True if each change contains the id of its list."""
    changes_timestamp_form: TimestampForm = "iso"
    """Form of the timestamp of a change."""
    deletion_timestamp_form: TimestampForm = "postgres_micro"
    """Form of the timestamps of a deletion request; the default is that of the example."""
    archived_changes: Literal["all", "none", "not_found"] = "all"
    """The changes of an archived list: all, none, or a 404."""

    # Errors and latency
    absent_endpoints: frozenset[Endpoint] = frozenset()
    """Endpoints that do not exist: their paths return 404."""
    no_rights: frozenset[Endpoint] = frozenset()
    """Endpoints to which the key has no right: their paths return 403."""
    wrong_key_status: Literal[401, 403] = 403
    """Status for a missing or wrong key; Ometria documents 403 only."""
    retry_after: Literal["none", "seconds", "date"] = "none"
    """Form of ``Retry-After`` in a 429; none is documented."""
    error_body: Literal["text", "html", "json"] = "text"
    """Form of the body of an error."""
    refused_requests_count: bool = False
    """True if a request with the response 429 counts against the rate limit."""
    latency_seconds: float = 0.0
    """Duration of every response."""
