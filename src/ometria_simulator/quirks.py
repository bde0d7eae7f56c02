"""How the account behaves where Ometria's documentation is silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_simulator.moments import TimestampForm

Endpoint = Literal["profiles", "lists", "changes", "unsubscribes", "data-deletion-requests"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """
    One possible Ometria.

    The defaults are what the documentation says, or else what is likeliest;
    everything else is one more way in which the real thing may differ.
    """

    # Pages
    above_max_limit: Literal["clamp", "reject"] = "clamp"
    """What a limit above 250 does: it counts as 250, or is a 400."""
    paged: frozenset[Endpoint] = frozenset({"profiles"})
    """Endpoints that know ``limit`` and ``offset`` at all; the others answer everything."""
    ignore_limit: frozenset[Endpoint] = frozenset()
    """Paged endpoints that always give pages of the default size."""
    ignore_offset: frozenset[Endpoint] = frozenset()
    """Paged endpoints that always start at the first record: the same page for ever."""
    frozen_first_page: frozenset[Endpoint] = frozenset()
    """Endpoints that repeat, byte for byte, their first answer to a question, whatever the page."""
    silent_caps: Mapping[Endpoint, int] = field(default_factory=dict)
    """Most records in one answer, by endpoint; what is beyond is cut without a word."""
    max_offset: int | None = None
    """Highest offset; beyond it a page is empty."""
    ignore_orderby: frozenset[Endpoint] = frozenset()
    """Endpoints that stay in internal order whatever ``orderby`` says."""
    reversed_order: frozenset[Endpoint] = frozenset()
    """Endpoints whose internal order runs backwards."""

    # Time bounds
    since_inclusive: bool = True
    """Whether ``since`` itself belongs to the answer; for profiles the whole day always does."""
    before_inclusive: bool = False
    """Whether ``before`` itself belongs to the answer."""
    unsubscribes_default_days: int | None = None
    """Days back that ``/unsubscribes`` gives without ``since``; None gives everything."""
    changes_since_param: str = "since"
    """Name of the parameter of ``/lists/{id}/changes``; it is inferred, not documented."""
    changes_kept_days: int | None = None
    """Days for which list changes are kept; None keeps all."""
    ignore_update_since: bool = False
    """Whether ``updateSince`` is ignored, so that every read is a full one."""
    update_since_inclusive: bool = True
    """Whether the day that ``updateSince`` names belongs to the answer."""
    update_since_utc_offset_hours: float = 0.0
    """Where that day begins, as hours ahead of UTC: its zone is not documented."""

    # Shapes
    numbers_as_strings: bool = False
    """Whether the numbers of profiles and lists come as text."""
    missing_fields: frozenset[str] = frozenset()
    """Profile fields that never come."""
    only_on_single_profile: frozenset[str] = frozenset({"lists"})
    """Profile fields that come with ``/profiles/{id}`` only."""
    email_lookup: Literal["array", "object"] = "array"
    """What ``?email=`` gives: an array as in practice, or an object as documented."""
    changes_carry_list_id: bool = False
    """Whether each change repeats the id of its list."""
    changes_timestamp_form: TimestampForm = "iso"
    """How a change's timestamp is written."""
    archived_changes: Literal["all", "none", "not_found"] = "all"
    """What the changes of an archived list are."""

    # Answers that are no data
    wrong_key_status: Literal[401, 403] = 403
    """Status for a missing or wrong key; Ometria documents only 403."""
    retry_after: Literal["none", "seconds", "date"] = "none"
    """What a 429 says about the wait; nothing is documented."""
    error_body: Literal["text", "html", "json"] = "text"
    """What an error's body is."""
    refused_requests_count: bool = False
    """Whether a request answered with 429 uses up quota too."""
    latency_seconds: float = 0.0
    """How long every answer takes."""
