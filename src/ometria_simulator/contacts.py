"""The contacts and custom events of profiles, derived when they are read."""

from __future__ import annotations

from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING
from zlib import crc32

from ometria_simulator.shop_records import Contact, CustomEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_simulator.records import Json, Profile
    from ometria_simulator.state import State

CUSTOMERS, NEWSLETTER, CHECKOUT = "customers", "Newsletter – footer", "checkout"  # noqa: RUF001 -- a dash as marketers type it
COLLECTIONS = (CUSTOMERS, NEWSLETTER, CHECKOUT)
EVENT_TYPES = ("wishlist.add", "Review written", "loyalty_points", "store visit")
_FIRST_CONTACT = 40_000
_OPT_IN = {
    True: "EXPLICITLY_OPTEDIN",
    False: "EXPLICITLY_OPTEDOUT",
    None: "NOT_SPECIFIED",
}


def in_collection(state: State, collection: str) -> list[Contact]:
    """Return the contacts of a collection in internal order: first those of the profiles."""
    shop = state.shop
    found = []
    if shop.history_since and collection in shop.collections:
        for profile in state.profiles.values():
            if collection in _collections_of(profile):
                contact = _contact(profile, collection)
                if (collection, contact.id) not in shop.gone_contacts:
                    found.append(contact)
    return [*found, *(c for c in shop.contacts.values() if c.collection == collection)]


def counts(state: State) -> dict[str, int]:
    """Return the number of contacts in each collection, in internal order."""
    shop = state.shop
    numbers = dict.fromkeys(shop.collections, 0)
    if shop.history_since:
        for profile in state.profiles.values():
            contact_id = _contact_id(profile)
            for name in _collections_of(profile):
                if name in numbers and (name, contact_id) not in shop.gone_contacts:
                    numbers[name] += 1
    for contact in shop.contacts.values():
        numbers[contact.collection] += 1
    return numbers


def custom_events(state: State) -> list[CustomEvent]:
    """Return all custom events so far, in the order of their times."""
    derived = _derived_events(state) if state.shop.history_since else iter(())
    events = [event for event in derived if event.id not in state.shop.gone_custom_events]
    return sorted([*events, *state.shop.custom_events.values()], key=attrgetter("at"))


def _collections_of(profile: Profile) -> tuple[str, ...]:
    """Return the collections of a profile: one to three, the same at any time."""
    number = crc32(profile.id.encode())
    found: tuple[str, ...] = (CUSTOMERS,) if number % 5 else (NEWSLETTER,)
    if number % 7 == 0:
        found = (CUSTOMERS, NEWSLETTER)
    return (*found, CHECKOUT) if number % 3 == 0 else found


def _contact_id(profile: Profile) -> str:
    """Return the id, which is the same in each collection: it is unique within one only."""
    return str(_FIRST_CONTACT + profile.internal_id)


def _contact(profile: Profile, collection: str) -> Contact:
    given = profile.fields.get("marketing_optin")
    opt_in: Json = given if isinstance(given, str) else _OPT_IN.get(given)  # type: ignore[arg-type]
    number = crc32(profile.id.encode())
    stores: list[Json] = [["1"], ["1", "2"], []][number % 3]  # type: ignore[assignment]
    fields: dict[str, Json] = {
        "customer_id": profile.fields.get("customer_id"),
        "email": profile.email,
        "marketing_optin": opt_in,
        "phone_number": profile.fields.get("phone_number"),
        "source": ("shop", "form", None)[number % 3],
        "store_ids": stores,
    }
    return Contact(
        collection,
        _contact_id(profile),
        profile.id,
        profile.created_at,
        profile.updated_at,
        profile.update_sequence,
        fields,
    )


def _derived_events(state: State) -> Iterator[CustomEvent]:
    """Yield the events of each profile that have happened by now: a fifth have one or two."""
    for profile in state.profiles.values():
        number = crc32(profile.id.encode())
        for index in range(max(0, number % 11 - 8)):
            at = profile.created_at + timedelta(seconds=(number >> 8) % 8_000_000 * (index + 1))
            if at > state.now:
                continue
            fields: dict[str, Json] = {"points": number % 100 / 4} if number % 2 else {}
            if number % 13 == 0:
                fields["basket"] = [{"sku": "SKU-00001", "quantity": 2}]
            account_id = profile.fields.get("customer_id")
            yield CustomEvent(
                f"{number:08x}-{index}",
                profile.id,
                EVENT_TYPES[number % len(EVENT_TYPES)],
                at,
                account_id if isinstance(account_id, str) else None,
                profile.email,
                fields,
            )
