"""The ``stats`` of a profile, its purchase dates and its stage are what its orders say."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_simulator import Account, shop_passes, time_passes

if TYPE_CHECKING:
    import pytest

    from ometria_simulator.shop_records import Order

DAY = timedelta(days=1)


def told(account: Account, profile_id: str) -> dict[str, Any]:
    """Compute what the orders of a profile say, from their records alone."""
    records: list[Any] = [account.shop.order_record(o) for o in account.shop.orders_of(profile_id)]
    valid = [record for record in records if record["is_valid"]]
    revenue = round(sum(record["grand_total"] for record in valid), 2)
    times = sorted(str(record["timestamp"]) for record in valid)
    return {
        "orders": len(valid),
        "orders_attempted": len(records),
        "revenue": revenue,
        "aov": round(revenue / len(valid), 2) if valid else 0,
        "total_items": sum(record["total_unit_quantity"] for record in valid),
        "first_purchase": times[0] if times else None,
        "last_purchase": times[-1] if times else None,
        "lifecycle_status": _stage(times[-1] if times else None, account.now),
    }


def shown(account: Account, profile_id: str) -> dict[str, Any]:
    """Return the same figures as the profile shows them."""
    record: Any = account.profile(profile_id).record()
    figures = {**record["stats"], **record["dates"], "lifecycle_status": record["lifecycle_status"]}
    return {name: figures[name] for name in told(account, profile_id)}


def _stage(last: str | None, now: datetime) -> str:
    if last is None:
        return "lead"
    days = (now - datetime.fromisoformat(last)) / DAY
    return "active" if days <= 182 else "at_risk" if days <= 385 else "lapsed"


def assert_stats_are_true(account: Account) -> None:
    """Compare all profiles with their orders."""
    for profile in account.profiles:
        assert shown(account, profile.id) == told(account, profile.id), profile.id


@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.floats(0.1, 60), max_size=2),
)
@settings(deadline=None)
def test_stats_are_what_the_orders_say(seed: int, steps: list[float]) -> None:
    """For any seed and any passing of time, with merges, deletions and cancellations."""
    account = Account.create(seed, profiles=20, lists=0, email_events=0)

    assert_stats_are_true(account)
    for days in steps:
        account.advance(days * DAY)
        survivor, loser = account.profiles[0].id, account.profiles[-1].id
        account.merge_profiles(survivor, [loser])
        assert_stats_are_true(account)
    for order in account.shop.orders[:3]:
        account.shop.cancel_order(order.id)
        account.shop.delete_order(order.id)
    account.shop.add_order(profile_id=account.profiles[1].id, grand_total="12.50", quantity=2)
    assert_stats_are_true(account)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_the_amounts_of_an_order_add_up(seed: int) -> None:
    """Subtotal, tax, shipping and discount give the total, and lines give theirs, to the penny."""
    account = Account.create(seed, profiles=20, lists=0, email_events=0)

    for order in account.shop.orders:
        record: Any = account.shop.order_record(order)
        pence = {name: round(value * 100) for name, value in record.items()
                 if isinstance(value, (int, float))}  # fmt: skip
        assert pence["grand_total"] == (
            pence["subtotal"] + pence["tax"] + pence["shipping"] - pence["discount"]
        )
        lines = record.get("lineitems")
        if lines:
            assert sum(line["quantity"] for line in lines) == record["total_unit_quantity"]
            assert (
                sum(round(line["total"] * 100) for line in lines)
                == pence["grand_total"] - pence["shipping"]
            )
            assert all(line["total"] >= 0 for line in lines)
            if record["status"] != "refunded":  # Then the shipping is refunded too.
                refunded = sum(round(line["refunded"] * 100) for line in lines)
                assert refunded == pence["total_refunded"]


def test_it_does_not_matter_when_orders_are_first_read() -> None:
    """Orders that are read at once, after a change, or after time has passed are the same."""

    def orders(read_at_once: bool) -> str:
        account = Account.create(5, profiles=60, lists=1, email_events=10)
        if read_at_once:
            assert account.shop.orders
        account.update_profile(account.profiles[0].id, stats={"orders": 99}, customer_id="x")
        account.delete_profile(account.profiles[1].id)
        account.set_time(account.now + 3 * DAY)
        account.advance(20 * DAY)
        records = [account.shop.order_record(order) for order in account.shop.orders]
        return hashlib.sha256(json.dumps(records).encode()).hexdigest()

    assert orders(read_at_once=True) == orders(read_at_once=False)


def test_orders_change_as_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a month, orders are placed, completed, canceled, refunded in part and whole, deleted."""
    monkeypatch.setattr(shop_passes, "_REFUND", 0.01)
    monkeypatch.setattr(shop_passes, "_DELETE_ORDER", 0.002)
    account = Account.create(profiles=300, lists=0, email_events=0)
    before = {order.id: order for order in account.shop.orders}

    account.advance(30 * DAY)

    after = {order.id: order for order in account.shop.orders}
    assert after.keys() - before.keys()
    assert before.keys() - after.keys()
    changes = Counter(
        (before[i].status, after[i].status) for i in before.keys() & after.keys()
        if before[i] != after[i] and before[i].profile_id == after[i].profile_id
    )  # fmt: skip
    assert changes["pending", "complete"]
    assert changes["pending", "canceled"]
    assert changes["complete", "refunded"]
    assert changes["complete", "complete"]  # In part.
    assert {order.status for order in after.values()} == {
        "pending", "processing", "complete", "canceled", "payment_failed", "refunded",
    }  # fmt: skip
    assert all(_is_consistent(order, account.now) for order in after.values())
    assert_stats_are_true(account)


def _is_consistent(order: Order, now: datetime) -> bool:
    is_failed = order.status in {"canceled", "payment_failed"}
    return order.is_valid != is_failed and order.placed_at <= order.updated_at <= now


def test_a_stage_changes_with_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile whose last order is 182 days old becomes at risk, and lapsed after 385."""
    monkeypatch.setattr(time_passes, "_CHANGE", 0)
    monkeypatch.setattr(shop_passes, "_FAILED_ORDER", 0)
    account = Account.create(profiles=0, lists=0, email_events=0)
    account.add_profile(id="a", email="a@example.com")
    account.shop.add_order(profile_id="a")
    stages = []
    for days in (181, 2, 202, 1):
        account.advance(days * DAY)
        profile = account.profile("a")
        stages.append((profile.fields["lifecycle_status"], profile.updated_at > account.now - DAY))

    assert [stage for stage, _ in stages] == ["active", "at_risk", "at_risk", "lapsed"]
    assert stages[-1][1]


def test_tags_and_identities_change_as_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags come and go, a customer's id becomes an identity, and each is an update."""
    monkeypatch.setattr(shop_passes, "_CHANGE_TAGS", 0.1)
    account = Account.create(profiles=100, lists=0, email_events=0)
    before = {profile.id: profile for profile in account.profiles}

    account.advance(10 * DAY)

    both = [(before[p.id], p) for p in account.profiles if p.id in before]
    grown = [len(p.fields["tags"]) - len(old.fields["tags"]) for old, p in both]  # type: ignore[arg-type]
    assert max(grown) > 0 > min(grown)
    changed = [p for old, p in both if old.fields["identities"] != p.fields["identities"]]
    kinds = {i["type"] for p in changed for i in p.fields["identities"]}  # type: ignore[index,call-overload,union-attr]
    assert kinds == {"email", "customer_id"}
    assert all(p.updated_at > old.updated_at for old, p in both if old.fields != p.fields)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_whatever_changes_is_updated_after_its_last_read(seed: int) -> None:
    """An order or profile that differs after time has passed has an update time in that time."""
    account = Account.create(seed, profiles=20, lists=0, email_events=0)
    read_at = account.now
    orders = {order.id: account.shop.order_record(order) for order in account.shop.orders}
    profiles = {profile.id: profile.record() for profile in account.profiles}

    account.advance(12 * DAY)

    for order in account.shop.orders:
        if orders.get(order.id) != account.shop.order_record(order):
            assert order.updated_at >= read_at
    for profile in account.profiles:
        if profiles.get(profile.id) != profile.record():
            assert profile.updated_at >= read_at
