# Seeded randomness is the point; nothing here is a secret.
"""What happens in a shop as time passes: orders, refunds, products, and the age of purchases."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ometria_simulator import catalogue, moments, orders, people, vocabulary
from ometria_simulator.segments import about
from ometria_simulator.shop_records import WHOLE

if TYPE_CHECKING:
    from ometria_simulator.records import Json, Profile
    from ometria_simulator.state import State

# Daily shares of orders, profiles and products. Guesses: no source has figures.
_REFUND, _DELETE_ORDER = 0.0005, 0.00005
_FAILED_ORDER, _CHANGE_TAGS = 0.0005, 0.001
_CHANGE_PRODUCT, _NEW_PRODUCT, _DELETE_PRODUCT = 0.02, 0.003, 0.002
_CANCELED = 0.05


def begin(state: State) -> None:
    """Start to watch the age of purchases; before time passes, nobody needs to."""
    orders.place_history(state)
    if state.shop.ageing is None:
        state.shop.ageing = []
        for profile in state.profiles.values():
            dates = profile.fields.get("dates")
            last = dates.get("last_purchase") if isinstance(dates, dict) else None
            if isinstance(last, str) and orders.orders_of(state, profile.id):
                orders.watch_age(state, profile.id, moments.read(last))


def pass_time(state: State, start: datetime, days: float) -> None:
    """Change orders, products and profiles from *start* to now."""
    _proceed(state, start)
    _change_orders(state, start, days)
    _change_people(state, start, days)
    _change_products(state, start, days)
    _age(state, start)


def _proceed(state: State, start: datetime) -> None:
    """Move the open orders on that are due; some are canceled. No change is before *start*."""
    shop = state.shop
    for order_id, due in list(shop.open_orders.items()):
        if due > state.now:
            continue
        order, at = shop.orders[order_id], max(due, start)
        if shop.random.random() < _CANCELED:
            orders.change(state, order, at, status=orders.CANCELED, is_valid=False)
        elif order.status == orders.PENDING:
            orders.change(state, order, at, status=orders.PROCESSING)
            shop.open_orders[order_id] = at + shop.random.random() * timedelta(days=5)
        else:
            orders.change(state, order, at, status=orders.COMPLETE)
            shop.open_orders.pop(order_id, None)


def _change_orders(state: State, start: datetime, days: float) -> None:
    """Refund some orders, in part or whole, and delete a few."""
    shop, random = state.shop, state.shop.random
    refunds = about(random, len(shop.orders) * days * _REFUND)
    deletions = about(random, len(shop.orders) * days * _DELETE_ORDER)
    if not refunds and not deletions:
        return
    ids = list(shop.orders)
    for order_id in random.sample(ids, min(refunds, len(ids))):
        order = shop.orders[order_id]
        if order.status == orders.COMPLETE:
            refund(state, order.id, moment(state, start), whole=random.random() < 0.5)
    for order_id in random.sample(ids, min(deletions, len(ids))):
        orders.remove(state, order_id, moment(state, start))


def refund(state: State, order_id: str, at: datetime, *, whole: bool) -> None:
    """Refund an order, or its first line; revenue stays as it was. Raises KeyError."""
    order = state.shop.orders[order_id]
    if whole:
        orders.change(state, order, at, status=orders.REFUNDED, refunded_lines=WHOLE)
    else:
        orders.change(state, order, at, refunded_lines=max(1, order.refunded_lines))


def _change_people(state: State, start: datetime, days: float) -> None:
    """Fail some orders at their payment, and change some tags and identities."""
    random, amount = state.shop.random, len(state.profiles) * days
    for _ in range(about(random, amount * _FAILED_ORDER)):
        profile, at = _random_profile(state), moment(state, start)
        if profile.is_anonymous or profile.created_at > at:
            continue
        order = orders.place(state, orders.failed_order(random, profile, at), state.now)
        state.update_profile(profile.id, {"stats": orders.stats_with(profile, order)}, at=at)
    for _ in range(about(random, amount * _CHANGE_TAGS)):
        profile, at = _random_profile(state), moment(state, start)
        if not profile.is_anonymous:
            state.update_profile(profile.id, _other_tags(state, profile), at=at)


def _other_tags(state: State, profile: Profile) -> dict[str, Json]:
    """Add a tag, or remove the first one; the person also becomes known by the customer's id."""
    old = profile.fields.get("tags")
    tags = list(old) if isinstance(old, list) else []
    tag = state.shop.random.choice(vocabulary.TAGS)
    fields: dict[str, Json] = {"tags": tags[1:] if tag in tags else [*tags, tag]}
    customer = profile.fields.get("customer_id")
    identities = profile.fields.get("identities")
    if customer and isinstance(identities, list):
        identity: Json = {"id": customer, "type": "customer_id"}
        fields["identities"] = (
            [other for other in identities if other != identity]
            if identity in identities
            else [*identities, identity]
        )
    return fields


def _change_products(state: State, start: datetime, days: float) -> None:
    shop, random = state.shop, state.shop.random
    amount = len(shop.products) * days
    for _ in range(about(random, amount * _CHANGE_PRODUCT)):
        catalogue.change_at_random(state, random.choice(list(shop.products)), moment(state, start))
    for _ in range(about(random, amount * _NEW_PRODUCT)):
        catalogue.add(state, catalogue.new_fields(state), at=moment(state, start))
    for _ in range(about(random, amount * _DELETE_PRODUCT)):
        if len(shop.products) > 1:  # The last product stays.
            catalogue.remove(state, random.choice(list(shop.products)))


def _age(state: State, start: datetime) -> None:
    """Change the lifecycle stage of those whose last purchase is long ago by now."""
    ageing = state.shop.ageing or []
    while ageing and ageing[0][0] < state.now:
        due, profile_id = heapq.heappop(ageing)
        if profile_id not in state.internal_ids:
            continue
        stage = orders.purchase_dates(state, profile_id)["lifecycle_status"]
        if state.profile(profile_id).fields.get("lifecycle_status") != stage:
            at = min(max(due + timedelta(seconds=1), start), state.now)
            state.update_profile(profile_id, {"lifecycle_status": stage}, at=at)


def moment(state: State, start: datetime) -> datetime:
    """Return a random time from *start* to now."""
    return people.moment_between(state.shop.random, start, state.now)


def _random_profile(state: State) -> Profile:
    """Return a random profile; internal ids are dense, so it draws until one exists."""
    newest = next(reversed(state.profiles))
    while True:
        profile = state.profiles.get(state.shop.random.randint(1, newest))
        if profile:
            return profile
