"""The state of an account and its primitive changes; the caller holds the lock."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_simulator.records import (
    Absent,
    DeletionRequest,
    EmailEvent,
    Json,
    ListChange,
    PendingDeletion,
    Profile,
    Segment,
    Unsubscribe,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from random import Random

    from ometria_simulator.messages import Campaign
    from ometria_simulator.shop_state import ShopState

_MERGED_KEY_BY_KEY = frozenset({"properties", "dates", "stats"})


@dataclass(slots=True)
class State:
    """
    All objects of an account.

    Dictionaries keep the internal order: a profile keeps its position, and new ones go to
    the end. ``version`` counts changes, so that a sorted view of one version can be cached.
    """

    now: datetime
    random: Random
    shop: ShopState
    profiles: dict[int, Profile] = field(default_factory=dict)
    internal_ids: dict[str, int] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    next_refresh: dict[str, datetime] = field(default_factory=dict)
    members: dict[str, dict[str, None]] = field(default_factory=dict)
    changes: dict[str, list[ListChange]] = field(default_factory=dict)
    unsubscribes: list[Unsubscribe] = field(default_factory=list)
    deletion_requests: dict[str, DeletionRequest] = field(default_factory=dict)
    pending_deletions: list[PendingDeletion] = field(default_factory=list)
    events: list[EmailEvent] = field(default_factory=list)
    pending: list[tuple[datetime, int, EmailEvent]] = field(default_factory=list)
    campaigns: list[Campaign] = field(default_factory=list)
    events_per_day: float = 0.0
    usual_lists: int = 0
    nul_characters: bool = False
    version: int = 0
    _last_internal_id: int = 0
    _last_list_id: int = 1000
    _last_update: int = 0
    _last_event: int = 0

    def profile(self, profile_id: str) -> Profile:
        """Return a profile by its public id; KeyError if it does not exist."""
        return self.profiles[self.internal_ids[profile_id]]

    def add_profile(
        self,
        profile_id: str,
        fields: Mapping[str, Json],
        *,
        created_at: datetime,
        updated_at: datetime,
    ) -> Profile:
        """Add a profile at the end of the internal order."""
        if profile_id in self.internal_ids:
            message = f"profile {profile_id!r} exists already"
            raise ValueError(message)
        self.version += 1
        self._last_internal_id += 1
        profile = Profile(
            self._last_internal_id, profile_id, created_at, updated_at, self.next_update(), fields
        )
        self.profiles[profile.internal_id] = profile
        self.internal_ids[profile_id] = profile.internal_id
        return profile

    def update_profile(
        self,
        profile_id: str,
        fields: Mapping[str, Json | Absent],
        *,
        at: datetime,
    ) -> Profile:
        """Change fields and mark the profile as updated; its update time never decreases."""
        self.version += 1
        old = self.profile(profile_id)
        profile = replace(
            old,
            fields=merged(old.fields, fields),
            updated_at=max(at, old.updated_at),
            update_sequence=self.next_update(),
        )
        self.profiles[profile.internal_id] = profile
        return profile

    def remove_profile(self, profile_id: str) -> Profile:
        """Remove a profile without tombstone or ``list_exit``; its events and changes stay."""
        self.version += 1
        profile = self.profiles.pop(self.internal_ids.pop(profile_id))
        for members in self.members.values():
            members.pop(profile_id, None)
        return profile

    def next_update(self) -> int:
        """Return the next number in the order of updates, of profiles and of all else."""
        self._last_update += 1
        return self._last_update

    def new_list_id(self) -> str:
        """Return the next list id: ascending numbers with gaps."""
        self._last_list_id += self.random.randint(1, 9)
        while str(self._last_list_id) in self.segments:
            self._last_list_id += 1
        return str(self._last_list_id)

    def put_segment(self, segment: Segment) -> Segment:
        """Add a list, or replace the list with the same id."""
        self.version += 1
        self.segments[segment.id] = segment
        self.members.setdefault(segment.id, {})
        self.changes.setdefault(segment.id, [])
        return segment

    def remove_segment(self, list_id: str) -> None:
        """Remove a list and its changes: both paths return 404 from now on."""
        self.version += 1
        del self.segments[list_id], self.members[list_id], self.changes[list_id]
        self.next_refresh.pop(list_id, None)

    def add_change(self, change: ListChange) -> None:
        """Record an entry or an exit and update the members of the list."""
        self.version += 1
        self.changes[change.list_id].append(change)
        members = self.members[change.list_id]
        if change.event == "list_enter" and change.profile_id in self.internal_ids:
            members[change.profile_id] = None
        elif change.event == "list_exit":
            members.pop(change.profile_id, None)

    def add_unsubscribe(self, unsubscribe: Unsubscribe) -> None:
        """Record an opt-out."""
        self.version += 1
        self.unsubscribes.append(unsubscribe)

    def add_event(self, event: EmailEvent) -> None:
        """Store an event until :meth:`release_events` finds it available."""
        self._last_event += 1
        heapq.heappush(self.pending, (event.available_at, self._last_event, event))

    def release_events(self) -> None:
        """Move available events to ``events``, by the time they became available."""
        while self.pending and self.pending[0][0] <= self.now:
            self.events.append(heapq.heappop(self.pending)[2])


def merged(old: Mapping[str, Json], new: Mapping[str, Json | Absent]) -> dict[str, Json]:
    """Merge *new* into *old*: properties, dates and stats by key, other fields as a whole."""
    result = dict(old)
    for name, value in new.items():
        below = result.get(name)
        if isinstance(value, Absent):
            result.pop(name, None)
        elif name in _MERGED_KEY_BY_KEY and isinstance(below, dict) and isinstance(value, dict):
            result[name] = merged(below, value)
        else:
            result[name] = value
    return result
