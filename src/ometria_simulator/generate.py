# Seeded randomness is the point; nothing here is a secret.
"""Generates the history of an account."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_simulator import catalogue, contacts, happenings, messages, people, segments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ometria_simulator.records import Profile
    from ometria_simulator.state import State

# A list that refreshes every 4 hours for half a year would have most of the changes.
_REFRESHES_IN_HISTORY = 40


def populate(
    state: State,
    *,
    profiles: int,
    lists: int,
    email_events: int,
    history_days: int,
) -> None:
    """Fill an empty state, with exactly *email_events* events available at its ``now``."""
    start = state.now - timedelta(days=history_days)
    state.usual_lists = lists
    state.events_per_day = email_events / history_days
    state.shop.history_since, state.shop.history_until = start, state.now
    state.shop.collections = dict.fromkeys(contacts.COLLECTIONS)
    catalogue.populate(state)
    _people(state, profiles, start)
    _mails(state, email_events, start)
    _opt_outs(state)
    everyone = list(state.profiles.values())
    for _ in range(lists):
        _segment(state, start, everyone)


def _people(state: State, count: int, start: datetime) -> None:
    """Add profiles; half of them are older than the history."""
    random = state.random
    before = start - (state.now - start)
    births = sorted(people.moment_between(random, before, state.now) for _ in range(count))
    addresses: list[str] = []
    for born in births:
        shares = addresses and random.random() < 0.02
        profile = happenings.join(
            state, born, shared_email=random.choice(addresses) if shares else None
        )
        if profile.email:
            addresses.append(profile.email)


def _mails(state: State, count: int, start: datetime) -> None:
    random = state.random
    state.campaigns = messages.standing_campaigns()
    weeks = max(1, (state.now - start).days // 7)
    state.campaigns += [
        messages.broadcast(random, number, people.moment_between(random, start, state.now))
        for number in range(1000, 1000 + 2 * weeks)
    ]
    mailable = [profile for profile in state.profiles.values() if profile.email]
    births = [profile.created_at for profile in mailable]
    if not mailable:
        return
    while len(state.events) < count:
        campaign = random.choice(state.campaigns)
        sent_at = campaign.sent_at or people.moment_between(random, start, state.now)
        sent_at += timedelta(microseconds=random.randrange(600_000_000))
        known = bisect_right(births, sent_at)
        if not known:
            sent_at, known = state.now, len(mailable)
        profile = state.profiles[mailable[random.randrange(known)].internal_id]
        happenings.mail(state, campaign, profile, sent_at)
        state.release_events()
    del state.events[count:]
    state.events.sort(key=lambda event: event.available_at)


def _opt_outs(state: State) -> None:
    """Opt about 2 % of the profiles out, without a preceding mail."""
    random = state.random
    everyone = list(state.profiles.values())
    for profile in random.sample(everyone, len(everyone) // 50):
        at = people.moment_between(random, profile.created_at, state.now)
        happenings.opt_out(state, profile, at)
    # No order is documented: the account keeps them in the order of their times.
    state.unsubscribes.sort(key=lambda unsubscribe: unsubscribe.at)


def _segment(state: State, start: datetime, everyone: Sequence[Profile]) -> None:
    random = state.random
    created_at = people.moment_between(random, start, state.now)
    segment = segments.new_segment(state, created_at)
    births = [profile.created_at for profile in everyone]
    known = everyone[: bisect_right(births, created_at)]
    share = random.choice((0.0, 0.005, 0.02, 0.05, 0.15))
    segments.fill(state, segment.id, created_at, random.sample(known, int(len(known) * share)))
    if segment.refresh_every:
        count = min(_REFRESHES_IN_HISTORY, (state.now - created_at) // segment.refresh_every)
        for back in range(count - 1, -1, -1):
            at = state.now - segment.refresh_every * back - timedelta(minutes=random.randint(1, 30))
            at = max(at, created_at)
            known = everyone[: bisect_right(births, at)]
            segments.natural_refresh(state, segment.id, at, known)
    if random.random() < 0.15:
        state.put_segment(replace(state.segments[segment.id], archived=True))
        state.next_refresh.pop(segment.id, None)
