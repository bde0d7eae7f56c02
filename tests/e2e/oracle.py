"""
The rows that an account should leave, from the simulator's own state and the page.

Nothing here comes from the replica: the account's records go through the oracle in
``tests/spec``, newest last, and of equal keys the last one stands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ometria_simulator.shapes import SHAPE
from tests.spec import oracle
from tests.spec.further import further_tables
from tests.spec.page import page_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ometria_simulator import Account, Feed
    from ometria_simulator.shapes import Shape
    from tests.spec.oracle import Row

_PAGES = {table.name: table for table in (*page_tables(), *further_tables())}


def expected(account: Account, feed: Feed, account_id: str, source_id: str) -> dict[str, list[Row]]:
    """Give the rows of the five tables, ordered by key, without the load time."""
    return {
        name: _ordered(oracle.rows_by_key(_PAGES[name], found, account_id, source_id))
        for name, found in _records(account, feed).items()
    }


def expected_records(
    account: Account, feed: Feed, source_id: str, *, further: bool = False
) -> dict[str, dict[str, dict[str, Any]]]:
    """
    Give the records that belong to the rows of the five tables, by table and by key.

    Parsed, with the digits of their numbers, and without what is null or empty: a CSV file may
    write these alike. With *further*, also those of the further tables.
    """
    kept: dict[str, dict[str, dict[str, Any]]] = {}
    every = _records(account, feed) | (_further_records(account) if further else {})
    for name, records in every.items():
        kept[name] = {
            oracle.md5(_PAGES[name].key, record, source_id): told(
                {
                    field: value
                    for field, value in record.items()
                    if (name, field) != ("member_lists", "id")  # Joined to it, and not sent.
                }
            )
            for record in records
            if oracle.identified(_PAGES[name], record)
        }
    return kept


def told(record: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is null or empty."""
    return {name: value for name, value in record.items() if value not in (None, "")}


def _records(account: Account, feed: Feed) -> dict[str, Iterable[Mapping[str, Any]]]:
    return {
        "profiles": (_as_sent(profile.record()) for profile in account.profiles),
        "lists": (_as_sent(segment.record()) for segment in account.lists),
        "member_lists": (
            _as_sent({**change.record(), "id": change.list_id}) for change in account.changes
        ),
        "unsubscribes": (_as_sent(u.record()) for u in account.unsubscribes_visible()),
        "email_events": _events(feed),
    }


def expected_further(
    account: Account, account_id: str, source_id: str, shape: Shape = SHAPE
) -> dict[str, list[Row]]:
    """Give the rows of the further tables, ordered by key, of what the API shows now."""
    return {
        name: _ordered(oracle.rows_by_key(_PAGES[name], found, account_id, source_id))
        for name, found in _further_records(account, shape).items()
    }


def row_of(name: str, record: Mapping[str, Any], account_id: str, source_id: str) -> Row | None:
    """Map one record of a table, parsed with the digits of its numbers; None without identity."""
    return oracle.row(_PAGES[name], record, account_id, source_id)


def _further_records(
    account: Account, shape: Shape = SHAPE
) -> dict[str, Iterable[Mapping[str, Any]]]:
    shop = account.shop
    records: dict[str, Iterable[Mapping[str, Any]]] = {
        "collections": (
            {"collection": name, "count": count} for name, count in shop.collections.items()
        ),
        "contacts": (
            contact.record(shape) for name in shop.collections for contact in shop.contacts(name)
        ),
        "orders": (shop.order_record(order, shape) for order in shop.orders),
        "products": (product.record() for product in shop.products),
        "custom_events": (event.record(shape) for event in shop.custom_events),
        "push_errors": (error.record(shape) for error in shop.push_errors[:100]),
        "data_deletion_requests": (each.record() for each in account.deletion_requests),
    }
    return {name: map(_as_sent, found) for name, found in records.items()}


def after(
    before: Mapping[str, list[Row]], now: Mapping[str, list[Row]], asked_since: datetime
) -> dict[str, list[Row]]:
    """
    Give the rows after an incremental sync: what has gone stays, and changes are stamped.

    Decision 4: a profile that is new or other than it was has *asked_since* as its
    ``updated_at``, the day that the request asked with; any other keeps what it had.
    """
    rows: dict[str, list[Row]] = {}
    for name, found in now.items():
        old = {row["__sync_key"]: row for row in before[name]}
        merged = dict(old)
        for row in found:
            known = old.get(row["__sync_key"])
            merged[row["__sync_key"]] = (
                _stamped(row, known, asked_since) if name == "profiles" else row
            )
        rows[name] = _ordered(merged)
    return rows


def _stamped(row: Row, known: Row | None, asked_since: datetime) -> Row:
    if known and {**known, "updated_at": None} == {**row, "updated_at": None}:
        return known
    return {**row, "updated_at": asked_since}


def _events(feed: Feed) -> list[Mapping[str, Any]]:
    """Decision 3: the file's time, then its name, then the line."""
    delivered = sorted(feed.delivered, key=lambda d: (d.modified_at, d.file, d.version, d.position))
    return [record.cells for record in delivered]


def _as_sent(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = oracle.read_json(json.dumps(record))
    return found


def _ordered(rows: Mapping[str, Row]) -> list[Row]:
    return [rows[key] for key in sorted(rows)]
