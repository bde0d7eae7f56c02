# Seeded randomness is the point; nothing here is a secret.
"""The events of profiles: joins, changes, opt-outs, mails, merges, deletion requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import md5
from operator import attrgetter
from typing import TYPE_CHECKING

from ometria_simulator import messages, moments, orders, people, vocabulary
from ometria_simulator.records import (
    ANONYMOUS_DOMAIN,
    API_OPT_OUT,
    DeletionRequest,
    Json,
    PendingDeletion,
    Unsubscribe,
)
from ometria_simulator.shop_state import Draft

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

ANONYMISED_WITHIN = timedelta(days=14)  # Article on GDPR.
_PERSONAL_FIELDS = (
    "customer_id",
    "name",
    "firstname",
    "middlename",
    "lastname",
    "prefix",
    "suffix",
    "gender",
    "date_of_birth",
    "phone_number",
    "phone_number_country",
)


def join(state: State, created_at: datetime, *, shared_email: str | None = None) -> Profile:
    """Add a new profile, created at *created_at*."""
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
    profile = state.add_profile(profile_id, fields, created_at=created_at, updated_at=updated_at)
    state.shop.born.append(profile)
    return profile


def change(state: State, profile: Profile, at: datetime) -> None:
    """Change a profile at random: an order, a place, a name, an address or a visit."""
    if profile.is_anonymous:
        return
    random = state.random
    fields: dict[str, Json]
    chance = random.random()
    if chance < 0.4:
        fields = _buy(state, profile, at)
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
    Record an opt-out, in response to *message* or without one.

    The profile shows every opt-out; ``/unsubscribes`` hides those by API.
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
    """Send one mail and schedule all events that follow from it."""
    address = messages.address_as_sent(state.random, profile)
    if state.nul_characters and state.random.random() < 0.01:
        campaign = replace(campaign, title=vocabulary.NUL_TEXT)
    for event in messages.message_events(state.random, campaign, address, sent_at):
        state.add_event(event)
        answered = event.event_type in {"open", "click"}
        if answered and event.dt_occurred <= state.now and state.random.random() < 0.01:
            opt_out(state, profile, event.dt_occurred, event)


def merge(state: State, survivor_id: str, loser_ids: Sequence[str], at: datetime) -> Profile:
    """Add the losers' figures to the survivor and remove the losers without a tombstone."""
    orders.place_history(state)
    survivor = state.profile(survivor_id)
    losers = [state.remove_profile(loser_id) for loser_id in loser_ids]
    fields: dict[str, Json] = {}
    for name in ("email", "phone_number", "customer_id"):
        if not survivor.fields.get(name):
            known = (loser.fields.get(name) for loser in losers)
            fields[name] = next((value for value in known if value), None)
    stats: dict[str, Json] = {}
    figures = [profile.fields.get("stats") for profile in (survivor, *losers)]
    for name in ("orders", "orders_attempted", "revenue", "visits", "total_items"):
        amounts = [figure.get(name) for figure in figures if isinstance(figure, dict)]
        stats[name] = round(sum(a for a in amounts if isinstance(a, (int, float))), 2)
    bought, revenue = stats["orders"], stats["revenue"]
    if isinstance(bought, int) and isinstance(revenue, (int, float)):
        stats["aov"] = round(revenue / bought, 2) if bought else 0
    for loser in losers:
        orders.move(state, survivor_id, loser.id, at)
    known_fields: dict[str, Json] = {name: value for name, value in fields.items() if value}
    if orders.orders_of(state, survivor_id):
        known_fields |= orders.purchase_dates(state, survivor_id)
    identities = _joined_identities(survivor, losers)
    if identities:
        known_fields["identities"] = identities
    return state.update_profile(survivor_id, {**known_fields, "stats": stats}, at=at)


def _joined_identities(survivor: Profile, losers: Sequence[Profile]) -> list[Json]:
    """Return the identities of all, each once: a merged person keeps every address."""
    joined: list[Json] = []
    for profile in (survivor, *losers):
        identities = profile.fields.get("identities")
        if isinstance(identities, list):
            joined += [identity for identity in identities if identity not in joined]
    return joined


def request_deletion(
    state: State,
    at: datetime,
    *,
    emails: Sequence[str] = (),
    profiles: Sequence[Profile] = (),
    due_at: datetime | None = None,
    removes_profile: bool = False,
    comment: str | None = None,
    origin: str = "api",
    user: tuple[str, str] | None = None,
) -> DeletionRequest:
    """
    File a request to anonymise *profiles*, and every profile with one of *emails*.

    The request is due at *due_at*; None picks a moment of the 14 days that Ometria
    documents. :func:`complete_deletions` completes it.
    """
    hashes = {profile.id: hashed_email(profile.email or profile.id) for profile in profiles}
    request = DeletionRequest(
        id=messages.uuid_text(state.random),
        hashed_emails=tuple(dict.fromkeys([*map(hashed_email, emails), *hashes.values()])),
        created_at=at,
        comment=comment,
        origin=origin,
        user=user,
    )
    # From the id, which is random already: another draw would change accounts of known seeds.
    share = int(request.id[:8], 16) / 2**32
    state.deletion_requests[request.id] = request
    state.pending_deletions.append(
        PendingDeletion(
            request.id,
            due_at or at + ANONYMISED_WITHIN * share,
            frozenset(email.lower() for email in emails),
            hashes,
            removes_profile,
        )
    )
    return request


def anonymise_now(state: State, profile: Profile) -> DeletionRequest:
    """Anonymise one profile by a request that is completed within the second."""
    done_at = state.now + timedelta(microseconds=833_949)
    request = request_deletion(state, state.now, profiles=[profile], due_at=done_at)
    complete_deletions(state, done_at)
    return state.deletion_requests[request.id]


def complete_deletions(state: State, until: datetime) -> None:
    """Complete the requests that are due by *until*, in the order of their due times."""
    due = [pending for pending in state.pending_deletions if pending.due_at <= until]
    state.pending_deletions = [p for p in state.pending_deletions if p.due_at > until]
    for pending in sorted(due, key=attrgetter("due_at")):
        _complete(state, pending)


def hashed_email(email: str) -> str:
    """
    Return the address that replaces *email* after a deletion request.

    The form, 32 hexadecimal digits ``@anonymous.ometria``, is documented. That the digits
    are the MD5 of the address in lower case is inferred.
    """
    digest = md5(email.lower().encode(), usedforsecurity=False).hexdigest()
    return f"{digest}@{ANONYMOUS_DOMAIN}"


def _complete(state: State, pending: PendingDeletion) -> None:
    found = [
        profile
        for profile in state.profiles.values()
        if not profile.is_anonymous
        and (profile.id in pending.profiles or (profile.email or "").lower() in pending.emails)
    ]
    for profile in found:
        if pending.removes_profile:
            state.remove_profile(profile.id)
        else:
            hashed = pending.profiles.get(profile.id) or hashed_email(profile.email or "")
            _anonymise(state, profile, hashed, pending.due_at)
    done = "removed" if pending.removes_profile else "anonymised"
    state.deletion_requests[pending.request_id] = replace(
        state.deletion_requests[pending.request_id],
        completed_at=pending.due_at,
        summary=f"{len(found)} contact {'record' if len(found) == 1 else 'records'} {done}",
    )
    state.version += 1


def _anonymise(state: State, profile: Profile, hashed: str, at: datetime) -> None:
    """
    Remove the personal data of a profile and replace its address by *hashed*.

    That personal data is removed or anonymised is documented. That the profile stays,
    and that it shows the hashed address, is inferred.
    """
    fields: dict[str, Json] = {
        name: None for name in _PERSONAL_FIELDS if profile.fields.get(name) is not None
    }
    properties = profile.fields.get("properties")
    if isinstance(properties, dict):
        fields["properties"] = dict.fromkeys(properties)
    fields |= {"email": hashed, "identities": [{"id": hashed, "type": "email"}]}
    state.update_profile(profile.id, fields, at=at)


def _buy(state: State, profile: Profile, at: datetime) -> dict[str, Json]:
    """Place an order and return the fields of the profile that follow from it."""
    pence = round(state.random.uniform(8, 240) * 100)
    quantity, customer_id = state.shop.random.randint(1, 4), orders.customer_of(profile)
    draft = Draft(at, profile.id, customer_id, pence, quantity, is_valid=True)
    order = orders.place(state, draft, state.now)
    fields: dict[str, Json] = {"stats": orders.stats_with(profile, order)}
    known = orders.purchase_dates(state, profile.id)
    dates = known["dates"] if isinstance(known["dates"], dict) else {}
    return {**fields, **known, "dates": {**dates, "last_seen": moments.iso(at)}}


def _last_touch(random: Random, created_at: datetime, now: datetime) -> datetime:
    """Return a random update time; recent times are more likely."""
    span = max(0, int((now - created_at).total_seconds()))
    return now - timedelta(seconds=int(span * random.random() ** 2))
