"""The records of pushes that Ometria refused, derived from the time when they are read."""

from __future__ import annotations

from datetime import timedelta
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Final

from ometria_simulator import messages
from ometria_simulator.shop_records import PushError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ometria_simulator.records import Json
    from ometria_simulator.state import State

SHOWN: Final = 100  # Documented: only the most recent ones can be read.
_EVERY = timedelta(hours=5)

# Texts of list-errors and of the article on the Push API where they have one.
_MESSAGES: tuple[tuple[str, str | None], ...] = (
    ("Payload invalid: Record is too large.", None),
    ("This value should not be blank.", "email"),
    ("This value is not a valid currency.", "currency"),
    ('Not an integer: "2.0"', "lineitems[0].quantity"),
)
_TYPES = ("order", "order", "contact", "product", "custom_event")


def newest(state: State, most: int | None = SHOWN) -> list[PushError]:
    """Return the newest errors, newest first; None returns all of the account."""
    errors = [error for error in state.shop.push_errors if error.at <= state.now]
    errors += _derived(state, most)
    return sorted(errors, key=attrgetter("at"), reverse=True)[:most]


def _derived(state: State, most: int | None) -> Iterator[PushError]:
    since = state.shop.history_since
    if since is None:
        return
    passed = (state.now - since) // _EVERY
    # One more, as the newest may not have happened yet.
    for number in range(0 if most is None else max(0, passed - most), passed + 1):
        error = _error(state.shop.seed, number, since + number * _EVERY)
        if error.at <= state.now:
            yield error


def _error(seed: int, number: int, start: datetime) -> PushError:
    random = Random(f"{seed}/push error {number}")  # noqa: S311 -- seeded on purpose
    text, path = random.choice(_MESSAGES)
    kind = random.choice(_TYPES)
    record_id = str(random.randint(1, 99_999))
    sent: dict[str, Json] = {"@type": kind, "id": record_id}
    customer_id = None
    if kind in {"order", "contact"} and random.random() < 0.7:
        customer_id = str(random.randint(50_000, 60_000))
        sent |= {"email": f"shopper{customer_id}@example.com", "customer_id": customer_id}
    return PushError(
        request_id=messages.uuid_text(random),
        record_type=kind,
        record_id=record_id,
        at=start + random.random() * _EVERY,
        error_message=text,
        error_path=path,
        record_sent=sent,
        customer_id=customer_id,
        source=random.choice(("api", "push")),
    )
