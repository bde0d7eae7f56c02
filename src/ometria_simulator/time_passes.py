# Seeded randomness is the point; nothing here is a secret.
"""Time passes: a few hours at a time, the account lives on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ometria_simulator import happenings, messages, people, segments
from ometria_simulator.segments import about

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_simulator.records import Profile
    from ometria_simulator.state import State

_TICK = timedelta(hours=4)  # No list refreshes more often: article "Refresh your dynamic segments".

# Shares of all profiles, a day. Guesses at a mid-sized shop; no source gives any.
_JOIN, _CHANGE, _OPT_OUT = 0.002, 0.01, 0.0005
_MERGE, _DELETE, _ANONYMISE = 0.0003, 0.0001, 0.00005
# Shares a day: of the usual number of lists, and of the active ones, so that the two balance.
_NEW_LIST, _ARCHIVE_LIST, _DELETE_LIST = 0.01, 0.008, 0.002


def advance(state: State, span: timedelta) -> None:
    """Let *span* pass in steps of at most four hours."""
    end = state.now + span
    while state.now < end:
        start, state.now = state.now, min(state.now + _TICK, end)
        days = (state.now - start) / timedelta(days=1)
        _people_live(state, start, days)
        _lists_refresh(state)
        _lists_come_and_go(state, days)
        _mails_go_out(state, start, days)
        state.release_events()
    state.version += 1


def _people_live(state: State, start: datetime, days: float) -> None:
    amount = len(state.profiles) * days
    for at in _moments(state, start, amount * _JOIN):
        shares = state.profiles and state.random.random() < 0.02
        happenings.join(state, at, shared_email=_any_email(state) if shares else None)
    for at in _moments(state, start, amount * _CHANGE):
        happenings.change(state, _anyone(state), at)
    for at in _moments(state, start, amount * _OPT_OUT):
        happenings.opt_out(state, _anyone(state), at)
    for at in _moments(state, start, amount * _ANONYMISE):
        person = _anyone(state)
        if not person.is_anonymous:
            happenings.request_deletion(state, at, profiles=[person])
    happenings.complete_deletions(state, state.now)
    for at in _moments(state, start, amount * _MERGE):
        survivor, loser = _anyone(state), _anyone(state)
        if survivor.id != loser.id:
            happenings.merge(state, survivor.id, [loser.id], at)
    for _ in _moments(state, start, amount * _DELETE):
        if len(state.profiles) > 1:  # The shop stays alive.
            state.remove_profile(_anyone(state).id)


def _lists_refresh(state: State) -> None:
    """Refresh every list that is due; being in or out of a list updates no profile."""
    everyone = list(state.profiles.values())
    for list_id, due in list(state.next_refresh.items()):
        while due <= state.now and list_id in state.segments:
            segments.natural_refresh(state, list_id, due, everyone)
            due = state.next_refresh.get(list_id, datetime.max.replace(tzinfo=due.tzinfo))  # noqa: PLW2901 -- the loop catches up


def _lists_come_and_go(state: State, days: float) -> None:
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
    """Archive a list: it is shown on request only, and refreshes no more."""
    state.put_segment(replace(state.segments[list_id], archived=True))
    state.next_refresh.pop(list_id, None)


def _mails_go_out(state: State, start: datetime, days: float) -> None:
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
        profile = _anyone(state)
        if profile.email and not profile.is_anonymous:
            micro = timedelta(microseconds=random.randrange(1_000_000))
            happenings.mail(state, random.choice(recent), profile, min(at + micro, state.now))


def _moments(state: State, start: datetime, amount: float) -> Iterator[datetime]:
    """Give *amount* moments of this step, in order; a fraction comes by chance."""
    count = about(state.random, amount)
    yield from sorted(people.moment_between(state.random, start, state.now) for _ in range(count))


def _any_email(state: State) -> str | None:
    profile = _anyone(state)
    return None if profile.is_anonymous else profile.email


def _anyone(state: State) -> Profile:
    """Pick any profile; the internal ids are dense enough to draw until one is alive."""
    random = state.random
    newest = next(reversed(state.profiles))
    while True:
        profile = state.profiles.get(random.randint(1, newest))
        if profile:
            return profile
