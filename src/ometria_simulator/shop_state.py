"""What a shop has pushed: the part of an account's state beside profiles, lists and mails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

    from ometria_simulator.records import Profile
    from ometria_simulator.shop_records import Contact, CustomEvent, Order, Product, PushError


@dataclass(frozen=True, slots=True)
class Draft:
    """An order that has no id yet: those of a history get theirs in the order of time."""

    placed_at: datetime
    profile_id: str
    customer_id: str | None
    pence: int
    quantity: int
    is_valid: bool


@dataclass(slots=True)
class ShopState:
    """
    All objects of the shop.

    ``random`` is a stream of its own, so that what happens here changes no profile, list or
    mail of a seed. Contacts, custom events and push errors of ``history_since`` on are
    derived when they are read, and none are if it is None; what is stored here was added,
    and ``gone_…`` are derived ones that were deleted. ``born`` are the profiles whose orders
    :func:`orders.place_history` has not placed yet, as they were at ``history_until``.
    ``version`` counts changes.
    """

    seed: int
    random: Random
    history_since: datetime | None = None
    history_until: datetime | None = None
    born: list[Profile] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    orders_of: dict[str, list[str]] = field(default_factory=dict)
    open_orders: dict[str, datetime] = field(default_factory=dict)
    ageing: list[tuple[datetime, str]] | None = None
    products: dict[str, Product] = field(default_factory=dict)
    assortment: tuple[Product, ...] = ()
    collections: dict[str, None] = field(default_factory=dict)
    contacts: dict[tuple[str, str], Contact] = field(default_factory=dict)
    gone_contacts: set[tuple[str, str]] = field(default_factory=set)
    custom_events: dict[str, CustomEvent] = field(default_factory=dict)
    gone_custom_events: set[str] = field(default_factory=set)
    push_errors: list[PushError] = field(default_factory=list)
    version: int = 0
    last_update: int = 0
    last_order_number: int = 50_000
    last_product_number: int = 0

    def next_update(self) -> int:
        """Return the next number in the order of updates of orders and products."""
        self.last_update += 1
        return self.last_update
