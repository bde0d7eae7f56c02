# Seeded randomness is the point; nothing here is a secret.
"""What happens to people: they join, change, opt out, are mailed, merged and forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import md5
from typing import TYPE_CHECKING

from ometria_simulator import messages, moments, people, vocabulary
from ometria_simulator.records import API_OPT_OUT, DeletionRequest, Json, Unsubscribe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from random import Random

    from ometria_simulator.records import EmailEvent, Profile
    from ometria_simulator.state import State

UNSUBSCRIBE_TYPES = (
    "link_unsubscribe",
    "list_unsubscribe",
    "preferences_centre",
    "app",
    "stopword_unsubscribe_TF",
    "stopword_unsubscribe_DO",
    API_OPT_OUT,
)
_TYPE_WEIGHTS = (40, 17, 12, 6, 6, 6, 13)


def join(state: State, created_at: datetime, *, shared_email: str | None = None) -> Profile:
    """Let a new person appear at *created_at*."""
    random = state.random
    fields = people.new_person(
        random,
        number=state.version + 1,
        created_at=created_at,
        now=state.now,
        shared_email=shared_email,
        nul_characters=state.nul_characters,
    )
    updated_at = _last_touch(random, created_at, state.now)
    profile_id = people.profile_id(random)
    while profile_id in state.internal_ids:
        profile_id = people.profile_id(random)
    return state.add_profile(profile_id, fields, created_at=created_at, updated_at=updated_at)


def change(state: State, profile: Profile, at: datetime) -> None:
    """Let something about a person change: an order, an address, a name, a visit."""
    random = state.random
    fields: dict[str, Json]
    chance = random.random()
    if chance < 0.4:
        fields = _order(random, profile, at)
    elif chance < 0.6:
        place = random.choice(vocabulary.PLACES)
        fields = {
            "country": place[0],
            "timezone": place[3],
            "properties": {"city": place[2], "zip": place[4], "province": place[1]},
        }
    elif chance < 0.7:
        fields = {"lastname": random.choice(vocabulary.PEOPLE)[1]}
    elif chance < 0.75 and profile.email:
        email = people.email_address(random, state.version)
        fields = {"email": email, "identities": [{"id": email, "type": "email"}]}
    else:
        fields = {"seen": True, "dates": {"last_seen": moments.iso(at)}}
    state.update_profile(profile.id, fields, at=at)


def opt_out(
    state: State,
    profile: Profile,
    at: datetime,
    message: EmailEvent | None = None,
) -> Unsubscribe:
    """
    Let a person opt out, in answer to *message* or without one.

    The profile shows it either way; ``/unsubscribes`` hides what came by API.
    """
    random = state.random
    if message:
        kind = random.choice(UNSUBSCRIBE_TYPES[:2])
    else:
        kind = random.choices(UNSUBSCRIBE_TYPES, _TYPE_WEIGHTS)[0]
    by_sms = kind.startswith("stopword")
    mass = message is not None and message.campaign_type == messages.BROADCAST
    unsubscribe = Unsubscribe(
        profile_id=profile.id,
        email_address=random.choice(("", None)) if by_sms else profile.email,
        type=kind,
        at=at.replace(microsecond=0),
        reason=random.choice(vocabulary.UNSUBSCRIBE_REASONS),
        reason_text=random.choice(vocabulary.REASON_TEXTS),
        send_id=message.uuid if message else None,
        mass_campaign_id=random.randint(1000, 9999) if mass else None,
        trigger_campaign_id=f"t{random.randint(1, 99)}" if message and not mass else None,
    )
    state.add_unsubscribe(unsubscribe)
    dates: dict[str, Json] = {"marketing_optout": moments.iso(at)}
    state.update_profile(profile.id, {"marketing_optin": False, "dates": dates}, at=at)
    return unsubscribe


def mail(
    state: State,
    campaign: messages.Campaign,
    profile: Profile,
    sent_at: datetime,
) -> None:
    """Send one mail, and let everything that follows from it happen in its time."""
    address = messages.address_as_sent(state.random, profile)
    if state.nul_characters and state.random.random() < 0.01:
        campaign = replace(campaign, title=vocabulary.NUL_TEXT)
    for event in messages.message_events(state.random, campaign, address, sent_at):
        state.add_event(event)
        answered = event.event_type in {"open", "click"}
        if answered and event.dt_occurred <= state.now and state.random.random() < 0.01:
            opt_out(state, profile, event.dt_occurred, event)


def merge(state: State, survivor_id: str, loser_ids: Sequence[str], at: datetime) -> Profile:
    """Give the losers' figures to the survivor and let them vanish without a tombstone."""
    survivor = state.profile(survivor_id)
    losers = [state.remove_profile(loser_id) for loser_id in loser_ids]
    fields: dict[str, Json] = {}
    for name in ("email", "phone_number", "customer_id"):
        if not survivor.fields.get(name):
            known = (loser.fields.get(name) for loser in losers)
            fields[name] = next((value for value in known if value), None)
    stats: dict[str, Json] = {}
    for name in ("orders", "revenue", "visits", "total_items"):
        figures = [profile.fields.get("stats") for profile in (survivor, *losers)]
        amounts = [figure.get(name) for figure in figures if isinstance(figure, dict)]
        stats[name] = round(sum(a for a in amounts if isinstance(a, (int, float))), 2)
    known_fields = {name: value for name, value in fields.items() if value}
    return state.update_profile(survivor_id, {**known_fields, "stats": stats}, at=at)


def anonymise(state: State, profile: Profile, at: datetime) -> DeletionRequest:
    """
    Forget a person on request.

    The request is documented; that the profile stays, with the hashed address
    in place of its own, is inferred.
    """
    plain = (profile.email or profile.id).lower().encode()
    hashed = f"{md5(plain, usedforsecurity=False).hexdigest()}@anonymous.ometria"
    request = DeletionRequest(
        id=messages.uuid_text(state.random),
        hashed_email=hashed,
        created_at=at,
        completed_at=at + timedelta(microseconds=833_949),
    )
    state.deletion_requests.append(request)
    blank: dict[str, Json] = dict.fromkeys(
        ("name", "firstname", "middlename", "lastname", "phone_number", "date_of_birth")
    )
    blank |= {"email": hashed, "identities": [{"id": hashed, "type": "email"}]}
    state.update_profile(profile.id, blank, at=at)
    return request


def _order(random: Random, profile: Profile, at: datetime) -> dict[str, Json]:
    old = profile.fields.get("stats")
    stats = old if isinstance(old, dict) else {}
    orders, revenue = stats.get("orders"), stats.get("revenue")
    count = (orders if isinstance(orders, int) else 0) + 1
    total = (revenue if isinstance(revenue, (int, float)) else 0) + random.uniform(8, 240)
    dates: dict[str, Json] = {"last_purchase": moments.iso(at), "last_seen": moments.iso(at)}
    if count == 1:
        dates["first_purchase"] = moments.iso(at)
    figures: dict[str, Json] = {
        "orders": count,
        "revenue": round(total, 2),
        "aov": round(total / count, 2),
    }
    return {"stats": figures, "dates": dates, "lifecycle_status": people.lifecycle(at, at)}


def _last_touch(random: Random, created_at: datetime, now: datetime) -> datetime:
    """Pick an update time; recent ones are likelier, as in a living shop."""
    span = max(0, int((now - created_at).total_seconds()))
    return now - timedelta(seconds=int(span * random.random() ** 2))
