# Seeded randomness is the point; nothing here is a secret.
"""The products of a shop, and how they change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_simulator import moments, vocabulary
from ometria_simulator.order_records import CURRENCY
from ometria_simulator.records import Absent, Json
from ometria_simulator.shop_records import Product

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ometria_simulator.state import State

PRODUCTS = 40


def populate(state: State) -> None:
    """Fill the catalogue of a new shop."""
    for _ in range(PRODUCTS):
        add(state, new_fields(state), at=state.now)
    state.shop.assortment = tuple(state.shop.products.values())


def new_fields(state: State) -> dict[str, Json]:
    """Return the fields of a new product."""
    random = state.shop.random
    number = state.shop.last_product_number + 1
    title = f"{random.choice(vocabulary.PRODUCTS)} {number}"
    price: Json = random.choice((12, 19.5, 24.99, 85, "49.00", None)) if number % 5 == 0 else 19.99
    url = f"https://shop.example/products/{number}"
    image = f"{url}.jpg" if random.random() < 0.9 else None
    active = random.random() < 0.85
    on_sale = random.random() < 0.2
    return {
        "title": random.choice(vocabulary.HOSTILE_TEXTS[:6]) if random.random() < 0.05 else title,
        "sku": f"SKU-{number:05d}" if random.random() < 0.95 else None,
        "currency": CURRENCY,
        "price": price,
        "special_price": 9.9 if on_sale else None,
        "special_price_dt_from": moments.iso(state.now) if on_sale else None,
        "special_price_dt_to": moments.iso(state.now + timedelta(days=9)) if on_sale else None,
        "is_active": active,
        "is_in_stock": random.random() < 0.8,
        "is_variant": random.random() < 0.3,
        "url": url,
        "image_url": image,
        "properties": {"care": random.choice(("wash cold", None)), "origin": {"country": "PT"}},
        "stores": list(random.sample(vocabulary.STORES, random.randint(0, 2))),
        "attributes": [{"id": "3", "type": "range", "label": random.choice(("Linen", "Été"))}],
        "listings": [
            {
                "store": vocabulary.STORES[0],
                "currency": CURRENCY,
                "title": title,
                "price": price,
                "is_active": active,
                "url": url,
                "image_url": image,
            }
        ],
    }


def add(
    state: State, fields: Mapping[str, Json], *, at: datetime, product_id: str | None = None
) -> Product:
    """Add a product at the end of the internal order. Raises ValueError if its id exists."""
    shop = state.shop
    shop.last_product_number += 1
    product_id = product_id or f"p{shop.last_product_number}"
    if product_id in shop.products:
        message = f"product {product_id!r} exists already"
        raise ValueError(message)
    state.shop.version += 1
    product = Product(product_id, at, state.shop.next_update(), fields)
    shop.products[product.id] = product
    return product


def change(
    state: State, product_id: str, fields: Mapping[str, Json | Absent], *, at: datetime
) -> Product:
    """Change fields of a product and mark it as updated. Raises KeyError."""
    state.shop.version += 1
    old = state.shop.products[product_id]
    changed = {name: value for name, value in fields.items() if not isinstance(value, Absent)}
    kept = {name: value for name, value in old.fields.items() if name not in fields}
    ordered = {
        name: changed.get(name, kept.get(name))
        for name in (*old.fields, *changed)
        if name in kept or name in changed
    }
    product = replace(
        old,
        fields=ordered,
        updated_at=max(at, old.updated_at),
        update_sequence=state.shop.next_update(),
    )
    state.shop.products[product_id] = product
    return product


def remove(state: State, product_id: str) -> Product:
    """Delete a product; lines of orders still name it. Raises KeyError."""
    state.shop.version += 1
    return state.shop.products.pop(product_id)


def change_at_random(state: State, product_id: str, at: datetime) -> None:
    """Change the price or the stock of a product, or whether it is active."""
    random = state.shop.random
    no_sale: dict[str, Json] = dict.fromkeys(
        ("special_price", "special_price_dt_from", "special_price_dt_to")
    )
    changes: tuple[dict[str, Json], ...] = (
        {"price": random.randint(500, 20_000) / 100},
        {"is_in_stock": random.random() < 0.5},
        {"is_active": random.random() < 0.7},
        no_sale,
    )
    fields = random.choice(changes)
    change(state, product_id, fields, at=at)
