# Seeded randomness is the point; nothing here is a secret.
"""The events of one mail: sent, delayed or bounced, opened, clicked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ometria_simulator import vocabulary
from ometria_simulator.records import EmailEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from ometria_simulator.records import Profile

EVENTS_PER_MESSAGE = 1.6  # The measured result of the rates below; used to plan volumes.

BROADCAST, AUTOMATION, TRANSACTIONAL = "broadcast", "automation", "transactional"


@dataclass(frozen=True, slots=True)
class Campaign:
    """The campaign of a mail; ``sent_at`` is None for a campaign that sends continuously."""

    id: int
    title: str
    type: str
    sent_at: datetime | None = None


def standing_campaigns() -> list[Campaign]:
    """Return the automation and transactional campaigns of every shop."""
    titles = [(title, AUTOMATION) for title in vocabulary.AUTOMATIONS]
    titles += [(title, TRANSACTIONAL) for title in vocabulary.TRANSACTIONAL]
    return [Campaign(number, title, kind) for number, (title, kind) in enumerate(titles, 700)]


def broadcast(random: Random, campaign_id: int, sent_at: datetime) -> Campaign:
    """Return one broadcast campaign; titles repeat, as a title is not an id."""
    title = random.choice(vocabulary.BROADCASTS)
    return Campaign(campaign_id, title, BROADCAST, sent_at)


def uuid_text(random: Random) -> str:
    """Return 128 random bits in the form of a UUID."""
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def address_as_sent(random: Random, profile: Profile) -> str:
    """Return the profile's address as the export has it: case and spaces can differ."""
    email = profile.email or ""
    chance = random.random()
    if chance < 0.05:
        return email.lower()
    return f"{email} " if chance < 0.052 else email


def message_events(
    random: Random,
    campaign: Campaign,
    to_address: str,
    sent_at: datetime,
) -> Iterator[EmailEvent]:
    """
    Yield all events of one mail in order, including future ones.

    Known event types are send, open, click, bounce and delay; a rare ``spam_complaint``
    represents types that a reader does not know.
    """
    sent = EmailEvent(
        to_address=to_address,
        event_type="send",
        dt_occurred=sent_at,
        available_at=sent_at,
        uuid=uuid_text(random),
        campaign_title=campaign.title,
        campaign_type=campaign.type,
    )
    yield _seen(random, sent)
    chance = random.random()
    if chance < 0.03:
        code, reason = random.choice(vocabulary.BOUNCES)
        yield _later(random, sent, 1, 900, "bounce", bounce_class=code, reason=reason)
        return
    if chance < 0.05:
        code, reason = random.choice(vocabulary.DELAYS)
        yield _later(random, sent, 60, 3600, "delay", delay_class=code, reason=reason)
    elif chance < 0.0505:
        yield _later(random, sent, 60, 90_000, "spam_complaint")
    if random.random() < 0.34:
        yield from _opens_and_clicks(random, sent)


def _opens_and_clicks(random: Random, sent: EmailEvent) -> Iterator[EmailEvent]:
    place = random.choice(vocabulary.PLACES)
    at_home = replace(
        sent,
        device_type=random.choice(vocabulary.DEVICES),
        geo_country=place[0],
        geo_region=place[1],
        geo_timezone=place[3],
        geo_city=place[2],
    )
    opened = _later(random, at_home, 30, 200_000, "open")
    yield opened
    if random.random() < 0.2:
        yield _later(random, opened, 60, 400_000, "open")
    if random.random() < 0.25:
        url = _url(random, sent)
        clicked = _later(random, opened, 2, 600, "click", target_url=url)
        yield clicked
        if (
            random.random() < 0.15
        ):  # A second link in the same second: a different event with the same key.
            moment = clicked.dt_occurred
            if random.random() < 0.5:
                moment = moment.replace(microsecond=random.randrange(1_000_000))
            second = replace(clicked, dt_occurred=moment, target_url=_url(random, sent))
            yield _seen(random, second)


def _url(random: Random, sent: EmailEvent) -> str:
    path = random.choice(vocabulary.PATHS)
    version, node = random.randint(1, 9), random.randint(1, 99)
    return f"https://shop.example{path}?om_campaign=om_{version:06x}_{version}_{node}&om_send={sent.uuid}"


def _later(
    random: Random,
    before: EmailEvent,
    least_seconds: int,
    most_seconds: int,
    event_type: str,
    **details: str | None,
) -> EmailEvent:
    # Most events happen soon: the square of a uniform number favours small values.
    wait = least_seconds + (most_seconds - least_seconds) * random.random() ** 2
    moment = before.dt_occurred + timedelta(microseconds=int(wait * 1_000_000))
    event = replace(before, event_type=event_type, dt_occurred=moment, target_url=None)
    return _seen(random, replace(event, **details) if details else event)  # type: ignore[arg-type]


def _seen(random: Random, event: EmailEvent) -> EmailEvent:
    """Add the id, with rare exceptions, and the time when the export first contains the event."""
    late = random.random() < 0.005
    wait = random.randint(86_400, 5 * 86_400) if late else random.randint(5, 1_800)
    event_id = None if random.random() < 0.003 else uuid_text(random)
    return replace(
        event, event_id=event_id, available_at=event.dt_occurred + timedelta(seconds=wait)
    )
