"""The account, which tests can change while a reader reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from threading import RLock
from typing import TYPE_CHECKING, Self

from ometria_simulator import generate, happenings, people, segments, time_passes
from ometria_simulator.records import (
    API_OPT_OUT,
    Absent,
    DeletionRequest,
    EmailEvent,
    Json,
    ListChange,
    Profile,
    Segment,
    Unsubscribe,
)
from ometria_simulator.shop import Shop
from ometria_simulator.shop_state import ShopState
from ometria_simulator.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""The simulated time of an account that is created without one: never the wall clock."""


class Account:
    """
    One seeded Ometria account.

    Each property returns a copy, each method holds one lock, and the same calls on the
    same seed give the same account.
    """

    def __init__(self, seed: int = 7, *, now: datetime = DEFAULT_NOW) -> None:
        """Create an empty account; :meth:`create` makes one with a history."""
        self.lock = RLock()
        shop = ShopState(seed, Random(f"{seed}/shop"))  # noqa: S311 -- seeded on purpose
        self.state = State(now.astimezone(UTC), Random(seed), shop)  # noqa: S311
        self.shop = Shop(self.state, self.lock)

    @classmethod
    def create(
        cls,
        seed: int = 7,
        *,
        profiles: int = 1_000,
        lists: int = 10,
        email_events: int = 5_000,
        now: datetime = DEFAULT_NOW,
        history_days: int = 180,
        nul_characters: bool = False,
    ) -> Self:
        """Create a shop with *history_days*; ``nul_characters`` puts U+0000 into some names."""
        account = cls(seed, now=now)
        account.state.nul_characters = nul_characters
        generate.populate(
            account.state,
            profiles=profiles,
            lists=lists,
            email_events=email_events,
            history_days=history_days,
        )
        return account

    # Reading

    @property
    def now(self) -> datetime:
        """The simulated time, in UTC."""
        with self.lock:
            return self.state.now

    @property
    def profiles(self) -> list[Profile]:
        """All profiles, in internal-id order."""
        with self.lock:
            return list(self.state.profiles.values())

    @property
    def lists(self) -> list[Segment]:
        """All lists, archived ones too, in internal-id order."""
        with self.lock:
            return list(self.state.segments.values())

    @property
    def changes(self) -> list[ListChange]:
        """All changes, list by list, each list's in the order they were recorded."""
        with self.lock:
            return [change for changes in self.state.changes.values() for change in changes]

    @property
    def unsubscribes(self) -> list[Unsubscribe]:
        """All opt-outs, those by API too."""
        with self.lock:
            return list(self.state.unsubscribes)

    @property
    def events(self) -> list[EmailEvent]:
        """All mail events that an export can contain now, by the time they became available."""
        with self.lock:
            return list(self.state.events)

    @property
    def deletion_requests(self) -> list[DeletionRequest]:
        """All deletion requests, in the order they were filed."""
        with self.lock:
            return list(self.state.deletion_requests.values())

    def profile(self, profile_id: str) -> Profile:
        """Return a profile; KeyError if it does not exist or was removed."""
        with self.lock:
            return self.state.profile(profile_id)

    def changes_of(self, list_id: str) -> list[ListChange]:
        """Return the changes of one list; KeyError if the list does not exist."""
        with self.lock:
            return list(self.state.changes[list_id])

    def members(self, list_id: str) -> list[str]:
        """Return the ids of the current members of a list."""
        with self.lock:
            return list(self.state.members[list_id])

    def unsubscribes_visible(self) -> list[Unsubscribe]:
        """Return the opt-outs that ``GET /unsubscribes`` shows: all except those by API."""
        return [u for u in self.unsubscribes if u.type != API_OPT_OUT]

    def lists_of(self, profile_id: str) -> list[Json]:
        """Return the ``lists`` that the response for a single profile shows."""
        with self.lock:
            return segments.lists_of(self.state, profile_id)

    def counts(self) -> dict[str, int]:
        """Return the number of objects of each kind."""
        with self.lock:
            return {
                "profiles": len(self.state.profiles),
                "lists": len(self.state.segments),
                "changes": sum(map(len, self.state.changes.values())),
                "unsubscribes": len(self.unsubscribes_visible()),
                "email_events": len(self.state.events),
                "deletion_requests": len(self.state.deletion_requests),
            }

    # Time

    def advance(self, span: timedelta) -> None:
        """Advance the clock by *span*, with all changes that happen in it."""
        with self.lock:
            time_passes.advance(self.state, span)

    def set_time(self, now: datetime) -> None:
        """Set the clock; only due deletion requests complete, and due events become available."""
        with self.lock:
            self.state.now = now.astimezone(UTC)
            happenings.complete_deletions(self.state, self.state.now)
            self.state.release_events()

    # Profiles

    def add_profile(
        self,
        id: str | None = None,  # noqa: A002 -- Ometria's own word
        *,
        created_at: datetime | None = None,
        **fields: Json,
    ) -> Profile:
        """Add a profile with exactly these fields, at the end of the internal order."""
        with self.lock:
            created = created_at or self.state.now
            return self.state.add_profile(
                id or people.profile_id(self.state.random),
                fields,
                created_at=created,
                updated_at=max(created, self.state.now),
            )

    def update_profile(
        self,
        id: str,  # noqa: A002 -- Ometria's own word
        /,
        **fields: Json | Absent,
    ) -> Profile:
        """
        Change fields and mark the profile as updated now.

        ``properties``, ``dates`` and ``stats`` are merged with the old ones, and ``ABSENT``
        removes a field. Raises KeyError if the profile does not exist.
        """
        with self.lock:
            return self.state.update_profile(id, fields, at=self.state.now)

    def delete_profile(self, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Remove a profile without a tombstone. Raises KeyError if it does not exist."""
        with self.lock:
            self.state.remove_profile(id)

    def merge_profiles(self, survivor: str, losers: Sequence[str]) -> Profile:
        """Merge *losers* into *survivor* and remove them without a tombstone."""
        with self.lock:
            return happenings.merge(self.state, survivor, losers, self.state.now)

    def anonymise_profile(self, id: str) -> DeletionRequest:  # noqa: A002 -- Ometria's own word
        """Anonymise one profile by a deletion request that is completed within the second."""
        with self.lock:
            return happenings.anonymise_now(self.state, self.state.profile(id))

    def request_deletion(
        self,
        emails: str | Sequence[str],
        *,
        completed_after: timedelta | None = None,
        removes_profile: bool = False,
        comment: str | None = None,
        origin: str = "api",
        user: tuple[str, str] | None = None,
    ) -> DeletionRequest:
        """
        File a deletion request for every profile with one of *emails*, in any case.

        The request stays open until *completed_after* has passed; None means a moment within
        the 14 days that Ometria documents, and zero means now. Then the profiles are
        anonymised, or removed if *removes_profile*. *user* is an email and a name.
        """
        with self.lock:
            now = self.state.now
            request = happenings.request_deletion(
                self.state,
                now,
                emails=[emails] if isinstance(emails, str) else emails,
                due_at=None if completed_after is None else now + completed_after,
                removes_profile=removes_profile,
                comment=comment,
                origin=origin,
                user=user,
            )
            happenings.complete_deletions(self.state, now)
            return self.state.deletion_requests[request.id]

    # Lists

    def add_list(
        self,
        id: str | None = None,  # noqa: A002 -- Ometria's own word
        *,
        title: str = "Made by a test",
        description: str | None = None,
        type: str = "STATIC",  # noqa: A002 -- Ometria's own word
        status: str = "READY",
        size: int = 0,
        total_orders: int = 0,
        total_revenue: float = 0.0,
        created_at: datetime | None = None,
        refreshed_at: datetime | None = None,
        stats_updated_at: datetime | None = None,
        refresh_every: timedelta | None = None,
        archived: bool = False,
    ) -> Segment:
        """Add a list without members; with ``refresh_every``, time refreshes it."""
        with self.lock:
            created = created_at or self.state.now
            list_id = id or self.state.new_list_id()
            if list_id in self.state.segments:
                message = f"list {list_id!r} exists already"
                raise ValueError(message)
            if refresh_every:
                self.state.next_refresh[list_id] = self.state.now + refresh_every
            return self.state.put_segment(
                Segment(
                    id=list_id,
                    title=title,
                    description=description,
                    type=type,
                    status=status,
                    size=size,
                    total_orders=total_orders,
                    total_revenue=total_revenue,
                    created_at=created,
                    refreshed_at=refreshed_at or created,
                    stats_updated_at=stats_updated_at or created,
                    archived=archived,
                    refresh_every=refresh_every,
                )
            )

    def update_list(self, id: str, **fields: object) -> Segment:  # noqa: A002 -- Ometria's own word
        """Change fields of :class:`Segment`. Raises KeyError if the list does not exist."""
        with self.lock:
            return self.state.put_segment(replace(self.state.segments[id], **fields))  # type: ignore[arg-type]

    def archive_list(self, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Archive a list: ``mode=active`` no longer shows it."""
        with self.lock:
            time_passes.archive(self.state, id)

    def delete_list(self, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Delete a list with its changes: both paths return 404 from now on."""
        with self.lock:
            self.state.remove_segment(id)

    def refresh_list(
        self,
        id: str,  # noqa: A002 -- Ometria's own word
        *,
        enter: Iterable[str] | None = None,
        leave: Iterable[str] | None = None,
    ) -> list[ListChange]:
        """
        Refresh a list now and return its new changes.

        *enter* and *leave* are profile ids; without both, the changes are random. An id in
        both leaves and enters at the same timestamp.
        """
        with self.lock:
            return segments.refresh_now(self.state, id, enter=enter, leave=leave)

    def add_change(
        self,
        list_id: str,
        profile_id: str,
        event: str,
        *,
        at: datetime | None = None,
        email: str | None = None,
    ) -> ListChange:
        """Record one change as given; *email* defaults to the address of the profile."""
        with self.lock:
            internal_id = self.state.internal_ids.get(profile_id)
            if email is None and internal_id is not None:
                email = self.state.profiles[internal_id].email
            change = ListChange(list_id, profile_id, email, event, at or self.state.now)
            self.state.add_change(change)
            return change

    # Opt-outs and mails

    def add_unsubscribe(
        self,
        profile_id: str | None,
        type: str = "link_unsubscribe",  # noqa: A002 -- Ometria's own word
        *,
        email_address: str | None = None,
        at: datetime | None = None,
        reason: str | None = None,
        reason_text: str | None = None,
        send_id: str | None = None,
        mass_campaign_id: int | str | None = None,
        trigger_campaign_id: int | str | None = None,
    ) -> Unsubscribe:
        """Record one opt-out and change no profile; the API never shows type ``"api"``."""
        unsubscribe = Unsubscribe(
            profile_id=profile_id,
            email_address=email_address,
            type=type,
            at=at or self.now,
            reason=reason,
            reason_text=reason_text,
            send_id=send_id,
            mass_campaign_id=mass_campaign_id,
            trigger_campaign_id=trigger_campaign_id,
        )
        with self.lock:
            self.state.add_unsubscribe(unsubscribe)
        return unsubscribe

    def add_event(
        self,
        to_address: str | None,
        event_type: str,
        *,
        occurred_at: datetime | None = None,
        available_at: datetime | None = None,
        **columns: str | None,
    ) -> EmailEvent:
        """Record one mail event, which exports contain from *available_at* on, by default now."""
        with self.lock:
            event = EmailEvent(
                to_address=to_address,
                event_type=event_type,
                dt_occurred=occurred_at or self.state.now,
                available_at=available_at or self.state.now,
                **columns,
            )
            self.state.add_event(event)
            self.state.release_events()
            return event
