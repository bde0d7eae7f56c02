# Seeded randomness is the point; nothing here is a secret.
"""Lists and their refreshes, the only times at which profiles enter and leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_simulator import vocabulary
from ometria_simulator.records import ListChange, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from random import Random

    from ometria_simulator.records import Json, Profile
    from ometria_simulator.state import State

# Article "Refresh your dynamic segments": every 4 hours, daily, twice a week, weekly.
CADENCES = (timedelta(hours=4), timedelta(days=1), timedelta(days=3.5), timedelta(days=7))

ENTER, EXIT = "list_enter", "list_exit"


def new_segment(state: State, created_at: datetime, *, static: bool | None = None) -> Segment:
    """Add an empty list; by default, one in eight is static and never refreshes."""
    random = state.random
    is_static = random.random() < 0.125 if static is None else static
    title = random.choice(vocabulary.SEGMENTS)
    segment = Segment(
        id=state.new_list_id(),
        title=f"{title} {random.randint(1, 99)}"[:64],
        description=random.choice((None, "", f'About "{title}"; made by hand')),
        type="STATIC" if is_static else "DYNAMIC",
        status="READY",
        size=0,
        total_orders=0,
        total_revenue=0.0,
        created_at=created_at,
        refreshed_at=created_at,
        stats_updated_at=created_at,
        refresh_every=None if is_static else random.choice(CADENCES),
    )
    state.put_segment(segment)
    if segment.refresh_every:
        state.next_refresh[segment.id] = created_at + segment.refresh_every
    return segment


def fill(state: State, list_id: str, at: datetime, people: Sequence[Profile]) -> None:
    """Add *people* at *at*, as the first refresh of a list does."""
    refresh(state, list_id, at, enter=people)


def refresh(
    state: State,
    list_id: str,
    at: datetime,
    *,
    leave: Iterable[str] = (),
    enter: Iterable[Profile] = (),
) -> None:
    """Record exits, then entries, with the timestamp of the refresh; update the figures."""
    members = state.members[list_id]
    for profile_id in leave:
        email = _email(state, profile_id)
        state.add_change(ListChange(list_id, profile_id, email, EXIT, at))
    for profile in enter:
        if profile.id not in members:
            state.add_change(ListChange(list_id, profile.id, profile.email, ENTER, at))
    size = len(members)
    state.put_segment(
        replace(
            state.segments[list_id],
            size=size,
            total_orders=size * 2,
            total_revenue=round(size * 61.37, 2),
            refreshed_at=at,
            stats_updated_at=at,
        )
    )


def natural_refresh(state: State, list_id: str, at: datetime, people: Sequence[Profile]) -> None:
    """
    Refresh at random: about 1 % of the members leave, and about as many profiles enter.

    Sometimes a profile leaves and enters in one refresh, so that two of its changes have
    the same timestamp.
    """
    random = state.random
    members = list(state.members[list_id])
    churn = len(members) * random.uniform(0, 0.02)
    leave = random.sample(members, min(len(members), about(random, churn)))
    enter = random.sample(people, min(len(people), about(random, churn + 0.1)))
    if leave and random.random() < 0.1 and leave[0] in state.internal_ids:
        enter.append(state.profile(leave[0]))
    refresh(state, list_id, at, leave=leave, enter=enter)
    every = state.segments[list_id].refresh_every
    if every:
        state.next_refresh[list_id] = at + every


def refresh_now(
    state: State,
    list_id: str,
    *,
    enter: Iterable[str] | None,
    leave: Iterable[str] | None,
) -> list[ListChange]:
    """Refresh as asked, or at random without profile ids; return the new changes."""
    before = len(state.changes[list_id])
    if enter is None and leave is None:
        natural_refresh(state, list_id, state.now, list(state.profiles.values()))
    else:
        entering = [state.profile(profile_id) for profile_id in enter or ()]
        refresh(state, list_id, state.now, leave=leave or (), enter=entering)
    return state.changes[list_id][before:]


def lists_of(state: State, profile_id: str) -> list[Json]:
    """Return the ``lists`` of a profile, in internal order."""
    return [
        {"id": segment.id, "title": segment.title, "type": segment.type}
        for segment in state.segments.values()
        if profile_id in state.members[segment.id]
    ]


def about(random: Random, amount: float) -> int:
    """Round up or down at random, so that small rates are correct on average."""
    whole = int(amount)
    return whole + (random.random() < amount - whole)


def _email(state: State, profile_id: str) -> str | None:
    internal_id = state.internal_ids.get(profile_id)
    return state.profiles[internal_id].email if internal_id else None
