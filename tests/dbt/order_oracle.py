"""What the marts of orders must hold: see `oracle.py`."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.dbt.shown import CAMPAIGN, SOURCE, groups, least, most, named_of, ratio, seconds_between

if TYPE_CHECKING:
    from tests.dbt.shown import Shown
    from tests.spec.oracle import Row

ATTRIBUTION = timedelta(days=7)


def customers_of(shown: Shown) -> list[Row]:
    """Make the rows of `customer_orders`."""
    profiles = defaultdict(list)
    for row in shown.existing("profiles", "profile_id"):
        profiles[row["source_id"], row["customer_id"]].append(row)
    rows = []
    columns = (*SOURCE, "customer_id", "currency")
    orders = [row for row in shown.existing("orders", "order_id") if row["customer_id"] is not None]
    for found in groups(orders, columns):
        valid = [row for row in found if row["is_valid"] is not False]
        same = profiles[found[0]["source_id"], found[0]["customer_id"]]
        sums = {
            name: sum((row[column] or Decimal(0) for row in valid), Decimal(0))
            for name, column in (
                ("units", "total_unit_quantity"), ("revenue", "grand_total"),
                ("refunded", "total_refunded"), ("discount", "discount"),
            )
        }  # fmt: skip
        rows.append(
            named_of(columns, found)
            | sums
            | {
                "profiles": len(same),
                "profile_id": same[0]["profile_id"] if len(same) == 1 else None,
                "email": same[0]["email"] if len(same) == 1 else None,
                "orders": len(valid),
                "invalid_orders": len(found) - len(valid),
                "first_ordered_at": least(row["ordered_at"] for row in valid),
                "last_ordered_at": most(row["ordered_at"] for row in valid),
                "net_revenue": sums["revenue"] - sums["refunded"],
                "orders_with_coupon": sum(bool(row["coupon_code"]) for row in valid),
                "average_order_value": ratio(sums["revenue"], len(valid)),
            }
        )
    return rows


def attributed_of(shown: Shown, sends: list[Row]) -> list[Row]:
    """Make the rows of `order_attribution`."""
    addresses = {
        (row["source_id"], row["customer_id"], row["email"]) for row in shown.table("profiles")
    }
    campaigns = {(send["source_id"], send["send_key"]): send for send in sends}
    clicks = [each for each in shown.events() if each["kind"] == "clicked" and each["email"]]
    rows = []
    for order in shown.existing("orders", "order_id"):
        if order["is_valid"] is False or not order["customer_id"] or not order["ordered_at"]:
            continue
        before = [
            each
            for each in clicks
            if (each["source_id"], order["customer_id"], each["email"]) in addresses
            and each["source_id"] == order["source_id"]
            and order["ordered_at"] - ATTRIBUTION <= each["event_at"] <= order["ordered_at"]
        ]
        if not before:
            continue
        click = max(before, key=lambda each: (each["event_at"], each["sync_key"]))
        send = campaigns[click["source_id"], click["send_key"]]
        rows.append(
            named_of((*SOURCE, "order_id", "customer_id", "ordered_at", "currency"), [order])
            | {
                "ordered_on": shown.day(order["ordered_at"]),
                "revenue": order["grand_total"] or Decimal(0),
                "refunded": order["total_refunded"] or Decimal(0),
                "send_key": click["send_key"],
                "campaign_type": send["campaign_type"],
                "campaign_title": send["campaign_title"],
                "clicked_at": click["event_at"],
                "seconds_to_order": seconds_between(click["event_at"], order["ordered_at"]),
            }
        )
    return rows


def revenue_of(attributed: list[Row]) -> list[Row]:
    """Make the rows of `campaign_revenue`."""
    columns = (*CAMPAIGN, "ordered_on", "currency")
    rows = []
    for found in groups(attributed, columns):
        revenue = sum((row["revenue"] for row in found), Decimal(0))
        refunded = sum((row["refunded"] for row in found), Decimal(0))
        rows.append(
            named_of(columns, found)
            | {
                "orders": len(found),
                "customers": len({row["customer_id"] for row in found}),
                "revenue": revenue,
                "refunded": refunded,
                "net_revenue": revenue - refunded,
            }
        )
    return rows
