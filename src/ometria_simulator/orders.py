# Seeded randomness is the point; nothing here is a secret.
"""Orders and the ``stats`` of profiles, which are the sums of their orders."""

from __future__ import annotations

import heapq
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING

from ometria_simulator import moments, people
from ometria_simulator.order_records import split
from ometria_simulator.shapes import pence_of
from ometria_simulator.shop_records import WHOLE, Order
from ometria_simulator.shop_state import Draft

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from ometria_simulator.records import Json, Profile
    from ometria_simulator.state import State

PENDING, PROCESSING, COMPLETE = "pending", "processing", "complete"
CANCELED, FAILED, REFUNDED = "canceled", "payment_failed", "refunded"
"""No source has the values of ``status``: these are the usual words of shops."""

_OPEN_FOR = timedelta(days=10)
_REFUNDED_IN_HISTORY = 0.05


def place_history(state: State) -> None:
    """
    Place the orders of profiles that were added since the last call, in the order of time.

    Whoever reads or changes orders calls it before. The orders are those that the profiles
    had told of at the end of the history, so that it does not matter when that is.
    """
    shop = state.shop
    if shop.born:
        until = shop.history_until or state.now
        drafts = [draft for profile in shop.born for draft in _drafts(shop.random, profile, until)]
        shop.born.clear()
        for draft in sorted(drafts, key=attrgetter("placed_at")):
            place(state, draft, until)
    shop.history_until = None


def _drafts(random: Random, profile: Profile, until: datetime) -> Iterator[Draft]:
    """Yield the orders that the ``stats`` and ``dates`` of a new profile tell of."""
    stats, dates = profile.fields.get("stats"), profile.fields.get("dates")
    if not isinstance(stats, dict) or not isinstance(dates, dict):
        return
    customer_id = customer_of(profile)
    count = _whole(stats, "orders")
    if count:
        first = datetime.fromisoformat(str(dates["first_purchase"]))
        last = datetime.fromisoformat(str(dates["last_purchase"]))
        times = [last] if count == 1 else [first, last]
        times += [people.moment_between(random, first, last) for _ in range(count - 2)]
        amounts = split(random, pence_of(str(stats["revenue"])), count, least=99)
        quantities = split(random, _whole(stats, "total_items"), count, least=1)
        for at, pence, quantity in zip(times, amounts, quantities, strict=True):
            yield Draft(at, profile.id, customer_id, pence, quantity, is_valid=True)
    for _ in range(_whole(stats, "orders_attempted") - count):
        at = people.moment_between(random, profile.created_at, until)
        yield failed_order(random, profile, at)


def failed_order(random: Random, profile: Profile, at: datetime) -> Draft:
    """Return an order that is an attempt only."""
    pence, quantity = random.randint(800, 24_000), random.randint(1, 4)
    return Draft(at, profile.id, customer_of(profile), pence, quantity, is_valid=False)


def customer_of(profile: Profile) -> str | None:
    """Return the shop's id of the customer; None for a guest."""
    customer = profile.fields.get("customer_id")
    return customer if isinstance(customer, str) else None


def place(state: State, draft: Draft, now: datetime) -> Order:
    """Add an order at the end of the internal order, with the status that its age gives it."""
    shop, random, age = state.shop, state.shop.random, now - draft.placed_at
    refunded = 0
    updated_at = draft.placed_at
    if not draft.is_valid:
        status = random.choice((CANCELED, FAILED))
    elif age > _OPEN_FOR:
        status, updated_at = COMPLETE, draft.placed_at + random.random() * _OPEN_FOR
        if random.random() < _REFUNDED_IN_HISTORY:
            status, refunded = random.choice(((REFUNDED, WHOLE), (COMPLETE, 1)))
    else:
        status = PENDING
    shop.last_order_number += random.randint(1, 3)
    order = Order(
        str(shop.last_order_number),
        draft.profile_id,
        draft.customer_id,
        draft.placed_at,
        draft.pence,
        draft.quantity,
        draft.is_valid,
        status,
        updated_at,
        state.shop.next_update(),
        refunded,
    )
    if status == PENDING:
        shop.open_orders[order.id] = draft.placed_at + random.random() * timedelta(days=2)
    return add(state, order)


def add(state: State, order: Order) -> Order:
    """Add an order; its profile's ``stats`` are left as they are."""
    if order.id in state.shop.orders:
        message = f"order {order.id!r} exists already"
        raise ValueError(message)
    state.shop.version += 1
    state.shop.orders[order.id] = order
    if order.profile_id is not None:
        state.shop.orders_of.setdefault(order.profile_id, []).append(order.id)
        if order.is_valid:
            watch_age(state, order.profile_id, order.placed_at)
    return order


def change(state: State, order: Order, at: datetime, **fields: object) -> Order:
    """Change an order and mark it as updated; its profile's ``stats`` follow."""
    state.shop.version += 1
    new = replace(
        order,
        updated_at=max(at, order.updated_at),
        update_sequence=state.shop.next_update(),
        **fields,  # type: ignore[arg-type]
    )
    state.shop.orders[order.id] = new
    if not new.is_valid:
        state.shop.open_orders.pop(order.id, None)
    if (order.is_valid, order.pence, order.quantity) != (new.is_valid, new.pence, new.quantity):
        count(state, [order], -1, at)
        count(state, [new], 1, at)
    return new


def remove(state: State, order_id: str, at: datetime) -> Order:
    """Delete an order; its profile's ``stats`` no longer count it. Raises KeyError."""
    state.shop.version += 1
    order = state.shop.orders.pop(order_id)
    state.shop.open_orders.pop(order_id, None)
    if order.profile_id is not None:
        state.shop.orders_of[order.profile_id].remove(order_id)
        count(state, [order], -1, at)
    return order


def move(state: State, survivor_id: str, loser_id: str, at: datetime) -> None:
    """Give the orders of a merged profile to the survivor; they keep the customer's id."""
    moved = state.shop.orders_of.pop(loser_id, [])
    if moved:
        state.shop.orders_of.setdefault(survivor_id, []).extend(moved)
        for order_id in moved:
            change(state, state.shop.orders[order_id], at, profile_id=survivor_id)
        _watch_last(state, survivor_id)


def orders_of(state: State, profile_id: str) -> list[Order]:
    """Return the orders of a profile, valid or not, in internal order."""
    return [state.shop.orders[order_id] for order_id in state.shop.orders_of.get(profile_id, ())]


def count(state: State, changed: Iterable[Order], sign: int, at: datetime) -> None:
    """Add orders to the ``stats`` of their profiles, or take them away with -1, and update."""
    for order in changed:
        if order.profile_id not in state.internal_ids:
            continue
        profile = state.profile(order.profile_id)
        figures = stats_with(profile, order, sign)
        state.update_profile(
            profile.id, {"stats": figures, **purchase_dates(state, profile.id)}, at=at
        )
        if sign < 0:
            _watch_last(state, profile.id)


def stats_with(profile: Profile, order: Order, sign: int = 1) -> dict[str, Json]:
    """Return the ``stats`` that change if *order* is added, or taken away with -1."""
    old = profile.fields.get("stats")
    stats = old if isinstance(old, dict) else {}
    figures: dict[str, Json] = {
        "orders_attempted": max(0, _whole(stats, "orders_attempted") + sign)
    }
    if order.is_valid:
        figures["orders"] = orders = max(0, _whole(stats, "orders") + sign)
        pence = pence_of(str(stats.get("revenue") or 0)) + sign * order.pence
        figures |= {
            "revenue": pence / 100,
            "aov": round(pence / 100 / orders, 2) if orders else 0,
            "total_items": max(0, _whole(stats, "total_items") + sign * order.quantity),
        }
    return figures


def purchase_dates(state: State, profile_id: str) -> dict[str, Json]:
    """Return the first and last purchase of a profile, and its stage, from its orders."""
    times = [order.placed_at for order in orders_of(state, profile_id) if order.is_valid]
    first, last = (min(times), max(times)) if times else (None, None)
    return {
        "dates": {
            "first_purchase": moments.iso(first) if first else None,
            "last_purchase": moments.iso(last) if last else None,
        },
        "lifecycle_status": people.lifecycle(last, state.now),
    }


def watch_age(state: State, profile_id: str, last_purchase: datetime) -> None:
    """Note when a profile will change its stage; only accounts whose time passes need it."""
    if state.shop.ageing is not None:
        for limit in people.STAGE_LIMITS:
            heapq.heappush(state.shop.ageing, (last_purchase + limit, profile_id))


def _watch_last(state: State, profile_id: str) -> None:
    """Note when the stage changes after another order became the last one."""
    times = [order.placed_at for order in orders_of(state, profile_id) if order.is_valid]
    if times:
        watch_age(state, profile_id, max(times))


def _whole(stats: dict[str, Json], name: str) -> int:
    value = stats.get(name)
    return value if isinstance(value, int) else 0
