# Seeded randomness is the point; nothing here is a secret.
"""The record of an order, with its line items, derived from its id and its totals."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, cast

from ometria_simulator import moments, vocabulary
from ometria_simulator.records import Absent
from ometria_simulator.shapes import SHAPE, Shape, money
from ometria_simulator.shop_records import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_simulator.records import Json, Record
    from ometria_simulator.shop_records import Order, Product
    from ometria_simulator.shop_state import ShopState

CURRENCY = "GBP"
_AMOUNTS = ("discount", "subtotal", "tax", "total")
_LOCAL = (("GBP", 100), ("EUR", 117), ("USD", 127), ("JPY", 19_012))
_CHANNELS = ("web", "web", "web", "store", "app", None)
_PAYMENTS = ("card", "paypal", "klarna", "gift card", "cash", None)
_SHIPPINGS = (("standard", 395), ("express", 799), ("collect", 0))


def record(shop: ShopState, order: Order, shape: Shape = SHAPE) -> Record:
    """
    Return the object that ``GET /orders`` shows.

    The grand total is the subtotal with tax and shipping and without the discount, and the
    lines add up to it, but for the few orders whose lines were lost.
    """
    random = Random(f"{shop.seed}/{order.id}")  # noqa: S311 -- seeded on purpose
    method, shipping = random.choice(_SHIPPINGS)
    shipping = shipping if order.pence >= 2 * shipping else 0
    tax = (order.pence - shipping) // 6
    net = order.pence - shipping - tax
    discount = net // 10 if random.random() < 0.2 else 0
    totals = {"subtotal": net + discount, "discount": discount, "tax": tax}
    lines = _lines(random, shop.assortment, order, totals)
    refunded = sum(line["refunded"] for line, _ in lines)
    if order.refunded_lines >= WHOLE:
        refunded = order.pence

    def shown(pence: int) -> Json:
        return cast("Json", money(pence, shape.money_form))

    customer = order.customer_id if shape.order_customer_id == "customer_id" else order.profile_id
    result: Record = {
        "@type": "order",
        "id": order.id,
        "customer_id": customer,
        "timestamp": moments.write(order.placed_at, shape.timestamp_form),
        "web_id": f"W{order.id}",
        "status": order.status,
        "is_valid": order.is_valid,
        "currency": CURRENCY,
        "grand_total": shown(order.pence),
        "subtotal": shown(totals["subtotal"]),
        "discount": shown(discount),
        "shipping": shown(shipping),
        "tax": shown(tax),
        "total_refunded": shown(refunded),
        "total_unit_quantity": order.quantity,
        "total_unit_quantity_refunded": sum(line["quantity_refunded"] for line, _ in lines),
        "coupon_code": random.choice(("WELCOME10", "soldes-été", "10%")) if discount else None,
        "payment_method": random.choice(_PAYMENTS),
        "shipping_method": method if shipping or method == "collect" else None,
        "channel": random.choice(_CHANNELS),
        "store": random.choice(vocabulary.STORES),
        "ip_address": f"203.0.113.{random.randrange(256)}" if random.random() < 0.7 else None,
    }
    local = random.choice(_LOCAL) if random.random() < 0.3 else _LOCAL[0]
    chance = random.random()
    if chance >= 0.005:  # Else the array is absent.
        kept = [] if chance < 0.015 else lines
        result[shape.line_items_name] = (
            None
            if 0.015 <= chance < 0.02
            else [_line_record(random, line, product, local, shape) for line, product in kept]
        )
    if random.random() < 0.03:  # A reader must accept undocumented fields.
        result["gift_message"] = random.choice(vocabulary.HOSTILE_TEXTS[:6])
    return _with(result, order, shape)


def _with(result: Record, order: Order, shape: Shape) -> Record:
    """Replace the derived fields by those that the order has of its own."""
    for name, value in order.fields.items():
        shown = shape.line_items_name if name == "lineitems" else name
        if isinstance(value, Absent):
            result.pop(shown, None)
        else:
            result[shown] = value
    return result


def _lines(
    random: Random,
    assortment: Sequence[Product],
    order: Order,
    totals: dict[str, int],
) -> list[tuple[dict[str, int], Product | None]]:
    """Return the amounts in pence and the product of each line; they add up to *totals*."""
    count = min(order.quantity, random.choice((1, 1, 2, 3, 5)))
    if not count:
        return []
    quantities = split(random, order.quantity, count, least=1)
    subtotals = split(random, totals["subtotal"], count)
    parts = {name: _shared(pence, subtotals) for name, pence in totals.items()}
    lines = []
    for index in range(count):
        line = {name: part[index] for name, part in parts.items()}
        line["total"] = line["subtotal"] + line["tax"] - line["discount"]
        refunded = index < order.refunded_lines
        line["quantity"] = quantities[index]
        line["refunded"] = line["total"] if refunded else 0
        line["quantity_refunded"] = quantities[index] if refunded else 0
        lines.append((line, random.choice(assortment) if assortment else None))
    return lines


def split(random: Random, total: int, parts: int, *, least: int = 0) -> list[int]:
    """Split a total into whole parts at random, each at least *least*, that add up to it."""
    free = total - least * parts
    cuts = sorted(random.randint(0, free) for _ in range(parts - 1))
    return [end - start + least for start, end in zip([0, *cuts], [*cuts, free], strict=True)]


def _shared(total: int, weights: Sequence[int]) -> list[int]:
    """Share a total by weight into whole parts; the rest goes to the largest."""
    whole = sum(weights)
    parts = [total * weight // whole if whole else 0 for weight in weights]
    parts[weights.index(max(weights))] += total - sum(parts)
    return parts


def _line_record(
    random: Random,
    line: dict[str, int],
    product: Product | None,
    local: tuple[str, int],
    shape: Shape,
) -> Record:
    sku = product.fields.get("sku") if product else None
    size = random.choice(("S", "M", "L", None))
    unit_price = line["subtotal"] // line["quantity"]
    shown: Record = {
        "product_id": product.id if product else None,
        "variant_id": f"{product.id}-{size}" if product and size else None,
        "sku": f"{sku}-{size}" if sku and size else sku,
        "quantity": line["quantity"],
        "quantity_refunded": line["quantity_refunded"],
    }
    amounts = {"unit_price": unit_price} | {name: line[name] for name in (*_AMOUNTS, "refunded")}
    for prefix, (currency, rate) in (("", _LOCAL[0]), ("base_", _LOCAL[0]), ("local_", local)):
        shown[f"{prefix}currency"] = currency
        for name, pence in amounts.items():
            amount = cast("Json", money(pence * rate // 100, shape.money_form))
            shown[f"{prefix}{name}"] = amount
    options: list[Json] = [{"id": size.lower(), "type": "size", "label": size}] if size else []
    if size and random.random() < 0.5:
        options.append({"id": "7", "type": "colour", "label": random.choice(("Écru", "navy"))})
    shown["variant_options"] = options
    return shown
