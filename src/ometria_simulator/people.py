# Seeded randomness is the point; nothing here is a secret.
"""The fields of fictional profiles, with ordinary and with difficult values."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ometria_simulator import moments, vocabulary
from ometria_simulator.records import Json, as_day

if TYPE_CHECKING:
    from random import Random

_AT_RISK_AFTER = timedelta(days=182)  # Ometria's defaults, article "Lifecycle stages".
_LAPSED_AFTER = timedelta(days=385)
STAGE_LIMITS = (_AT_RISK_AFTER, _LAPSED_AFTER)
"""Times after the last purchase at which a person changes the lifecycle stage."""

_ANY_SHAPE: tuple[Json, ...] = (
    7,
    7.5,
    1e21,
    True,
    None,
    [1, "two", None],
    {"shoe": {"size": 42.5}},
)


def profile_id(random: Random) -> str:
    """Return an id like ``2695-c473e2-4aaf58``: hexadecimal groups of variable length."""
    return "-".join(
        f"{random.randrange(16 ** (length - 1), 16**length):x}"
        for length in (random.choice((4, 4, 5)), 6, random.choice((3, 5, 6, 6)))
    )


def email_address(random: Random, number: int) -> str:
    """Return an address with mixed case, +tags or dots, at a domain reserved for examples."""
    person = f"shopper{random.choice(('.', '_', '-', ''))}{number}"
    shape = random.random()
    if shape < 0.12:
        person += f"+{random.choice(('sale', 'news', 'a+b'))}"
    elif shape < 0.24:
        person = person.title()
    elif shape < 0.245:
        person = f"o'{person}"
    return f"{person}@{random.choice(vocabulary.MAIL_DOMAINS)}"


def new_person(
    random: Random,
    *,
    number: int,
    created_at: datetime,
    now: datetime,
    shared_email: str | None = None,
    nul_characters: bool = False,
) -> dict[str, Json]:
    """
    Return the fields of a profile created at *created_at*.

    *shared_email* is an address that another profile also has.
    """
    first, last, gender = random.choice(vocabulary.PEOPLE)
    last = random.choice(vocabulary.PEOPLE)[1] if random.random() < 0.5 else last
    if random.random() < 0.005:
        last = random.choice(vocabulary.HOSTILE_TEXTS)
    if nul_characters and random.random() < 0.01:
        last = vocabulary.NUL_TEXT
    place = random.choice(vocabulary.PLACES)
    kind = random.random()
    email = None if kind < 0.04 else shared_email or email_address(random, number)
    phone = f"+4477009{random.randrange(10**5):05d}" if kind < 0.35 else None
    fields: dict[str, Json] = {
        "email": email,
        "customer_id": str(50_000 + number) if random.random() < 0.8 else None,
        "name": f"{first} {last}" if random.random() < 0.95 else None,
        "firstname": first,
        "middlename": None,
        "lastname": last,
        "prefix": random.choice(vocabulary.PREFIXES) if random.random() < 0.2 else None,
        "suffix": None,
        "gender": gender if random.random() < 0.6 else None,
        "country": place[0] if random.random() < 0.9 else None,
        "date_of_birth": _date_of_birth(random),
        "marketing_optin": _optin(random),
        "seen": random.random() < 0.7,
        "tags": list(random.sample(vocabulary.TAGS, random.choice((0, 0, 1, 2)))),
        "properties": _properties(random, place),
        "identities": [{"id": email, "type": "email"}] if email else [],
        **_behaviour(random, created_at, now),
        "is_email_valid": None if email is None else random.random() < 0.98,
        "phone_number": phone,
        "phone_number_country": "GB" if phone else None,
        "timezone": place[3],
    }
    _leave_some_out(random, fields)
    if random.random() < 0.03:  # A reader must accept undocumented fields.
        fields["loyalty_v2"] = {"tier": random.choice(("gold", None)), "points": 12.5}
    return fields


def lifecycle(last_purchase: datetime | None, now: datetime) -> str:
    """Return the lifecycle stage; the stages are documented, their texts are a guess."""
    if last_purchase is None:
        return "lead"
    if now - last_purchase <= _AT_RISK_AFTER:
        return "active"
    return "at_risk" if now - last_purchase <= _LAPSED_AFTER else "lapsed"


def moment_between(random: Random, start: datetime, end: datetime) -> datetime:
    """Return a random whole second from *start* to *end*."""
    return start + timedelta(seconds=random.randint(0, max(0, int((end - start).total_seconds()))))


def _behaviour(random: Random, created_at: datetime, now: datetime) -> dict[str, Json]:
    """Return consistent dates and stats: no purchase before *created_at* or after *now*."""
    orders = random.choice((0, 0, 0, 1, 1, 2, 3, 7))
    first = moment_between(random, created_at, now) if orders else None
    last = moment_between(random, first, now) if first else None
    first = last if orders == 1 else first
    seen = moment_between(random, last or created_at, now)
    revenue = round(sum(random.uniform(8, 240) for _ in range(orders)), 2)
    dates: dict[str, Json] = {
        "acquired": moments.iso(created_at),
        "first_purchase": moments.iso(first) if first else None,
        "first_seen": moments.iso(created_at),
        "last_purchase": moments.iso(last) if last else None,
        "last_seen": moments.iso(seen),
    }
    if random.random() < 0.6:
        dates["account_created"] = moments.iso(created_at)
    if random.random() < 0.6:
        dates["marketing_optin"] = moments.iso(created_at)
        # Documented: subscription dates can contradict each other and the status.
        if random.random() < 0.1:
            dates["marketing_optout"] = moments.iso(moment_between(random, created_at, now))
    stats: dict[str, Json] = {
        "aov": round(revenue / orders, 2) if orders else 0,
        "orders": orders,
        "orders_attempted": orders + random.choice((0, 0, 1)),
        "revenue": revenue,
        "total_items": orders * random.randint(1, 4),
        "visits": random.randint(1, 60),
    }
    return {"dates": dates, "stats": stats, "lifecycle_status": lifecycle(last, now)}


def _date_of_birth(random: Random) -> str | None:
    chance = random.random()
    if chance < 0.6:
        return None
    if chance < 0.602:
        return "0000-00-00"
    return as_day(datetime(1940, 1, 1) + timedelta(days=random.randrange(24_000)))  # noqa: DTZ001 -- a day has no zone


def _optin(random: Random) -> Json:
    return random.choices(
        (True, False, None, "EXPLICITLY_OPTEDIN", "NOT_SPECIFIED", "EXPLICITLY_OPTEDOUT"),
        (45, 20, 20, 8, 4, 3),
    )[0]


def _properties(random: Random, place: tuple[str, str, str, str, str]) -> dict[str, Json]:
    if random.random() < 0.25:
        return {}
    zipcode: Json = place[4]
    if place[4].isdigit() and random.random() < 0.3:
        zipcode = int(place[4])
    properties: dict[str, Json] = {
        "zip": zipcode,
        "city": place[2],
        "address1": f"{random.randint(1, 200)} {random.choice(vocabulary.STREETS)}",
        "address2": random.choice(
            ("", None, "Flat 2", random.choice(vocabulary.HOSTILE_TEXTS[:6]))
        ),
        "province": place[1],
    }
    tags = random.sample(vocabulary.TAGS, random.randint(0, 3))
    chance = random.random()
    if chance < 0.5:
        properties["shopify_tags"] = ", ".join(tags)
    elif chance < 0.8:
        properties["shopify_tags"] = list(tags)
    if random.random() < 0.1:
        properties["survey"] = random.choice(_ANY_SHAPE)
    return properties


def _leave_some_out(random: Random, fields: dict[str, Json]) -> None:
    """Remove some null fields: a field without a value can be null or absent."""
    if random.random() < 0.3:
        for name in [name for name, value in fields.items() if value is None]:
            if random.random() < 0.5:
                del fields[name]
