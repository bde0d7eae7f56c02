# Seeded randomness is the point; nothing here is a secret.
"""Advances an account in time, in steps of a few hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ometria_simulator import happenings, messages, orders, people, segments, shop_passes
from ometria_simulator.segments import about

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_simulator.records import Profile
    from ometria_simulator.state import State

_TICK = timedelta(hours=4)  # The shortest refresh: article "Refresh your dynamic segments".

# Daily shares of all profiles. Guesses for a mid-sized shop; no source has figures.
_JOIN, _CHANGE, _OPT_OUT = 0.002, 0.01, 0.0005
_MERGE, _DELETE, _ANONYMISE = 0.0003, 0.0001, 0.00005
# Daily shares of the usual and of the active number of lists, so that the two balance.
_NEW_LIST, _ARCHIVE_LIST, _DELETE_LIST = 0.01, 0.008, 0.002


def advance(state: State, span: timedelta) -> None:
    """Advance the state by *span*, in steps of at most four hours."""
    end = state.now + span
    while state.now < end:
        start, state.now = state.now, min(state.now + _TICK, end)
        days = (state.now - start) / timedelta(days=1)
        shop_passes.begin(state)
        _change_profiles(state, start, days)
        shop_passes.pass_time(state, start, days)
        _refresh_lists(state)
        _add_and_remove_lists(state, days)
        _send_mails(state, start, days)
        state.release_events()
    state.version += 1


def _change_profiles(state: State, start: datetime, days: float) -> None:
    amount = len(state.profiles) * days
    for at in _moments(state, start, amount * _JOIN):
        shares = state.profiles and state.random.random() < 0.02
        happenings.join(state, at, shared_email=_random_email(state) if shares else None)
    orders.place_history(state)
    for at in _moments(state, start, amount * _CHANGE):
        happenings.change(state, _random_profile(state), at)
    for at in _moments(state, start, amount * _OPT_OUT):
        happenings.opt_out(state, _random_profile(state), at)
    for at in _moments(state, start, amount * _ANONYMISE):
        person = _random_profile(state)
        if not person.is_anonymous:
            happenings.request_deletion(state, at, profiles=[person])
    happenings.complete_deletions(state, state.now)
    for at in _moments(state, start, amount * _MERGE):
        survivor, loser = _random_profile(state), _random_profile(state)
        if survivor.id != loser.id:
            happenings.merge(state, survivor.id, [loser.id], at)
    for _ in _moments(state, start, amount * _DELETE):
        if len(state.profiles) > 1:  # The last profile stays.
            state.remove_profile(_random_profile(state).id)


def _refresh_lists(state: State) -> None:
    """Refresh every list that is due; entries and exits update no profile."""
    everyone = list(state.profiles.values())
    for list_id, due in list(state.next_refresh.items()):
        while due <= state.now and list_id in state.segments:
            segments.natural_refresh(state, list_id, due, everyone)
            due = state.next_refresh.get(list_id, datetime.max.replace(tzinfo=due.tzinfo))  # noqa: PLW2901 -- the loop catches up


def _add_and_remove_lists(state: State, days: float) -> None:
    random = state.random
    active = [segment.id for segment in state.segments.values() if not segment.archived]
    amount = len(active) * days
    for _ in range(about(random, state.usual_lists * days * _NEW_LIST)):
        segment = segments.new_segment(state, state.now)
        everyone = list(state.profiles.values())
        segments.fill(state, segment.id, state.now, random.sample(everyone, len(everyone) // 50))
    for _ in range(about(random, amount * _ARCHIVE_LIST)):
        archive(state, random.choice(active))
    for _ in range(about(random, amount * _DELETE_LIST)):
        state.remove_segment(random.choice(list(state.segments)))


def archive(state: State, list_id: str) -> None:
    """Archive a list: only ``mode`` shows it, and it no longer refreshes."""
    state.put_segment(replace(state.segments[list_id], archived=True))
    state.next_refresh.pop(list_id, None)


def _send_mails(state: State, start: datetime, days: float) -> None:
    random = state.random
    if not state.profiles or not state.campaigns:
        return
    if random.random() < days * 2 / 7:
        at = people.moment_between(random, start, state.now)
        newest = max(campaign.id for campaign in state.campaigns)
        state.campaigns.append(messages.broadcast(random, newest + 1, at))
    amount = state.events_per_day * days / messages.EVENTS_PER_MESSAGE
    recent = [
        campaign
        for campaign in state.campaigns
        if campaign.sent_at is None or campaign.sent_at > start - timedelta(days=1)
    ]
    for at in _moments(state, start, amount):
        profile = _random_profile(state)
        if profile.email and not profile.is_anonymous:
            micro = timedelta(microseconds=random.randrange(1_000_000))
            happenings.mail(state, random.choice(recent), profile, min(at + micro, state.now))


def _moments(state: State, start: datetime, amount: float) -> Iterator[datetime]:
    """Yield *amount* random times of this step in order; a fraction is rounded at random."""
    count = about(state.random, amount)
    yield from sorted(people.moment_between(state.random, start, state.now) for _ in range(count))


def _random_email(state: State) -> str | None:
    profile = _random_profile(state)
    return None if profile.is_anonymous else profile.email


def _random_profile(state: State) -> Profile:
    """Return a random profile; internal ids are dense, so it draws until one exists."""
    random = state.random
    newest = next(reversed(state.profiles))
    while True:
        profile = state.profiles.get(random.randint(1, newest))
        if profile:
            return profile
