"""The further tables, and their numbers, in every kind of warehouse."""

from __future__ import annotations

import json
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import DeleteDetection, Loaded, Owner
from ometria_replica.catalog import CATALOG
from ometria_replica.more_tables import MORE_TABLES, ORDERS
from ometria_replica.selection import Selection
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.state_tables import REJECTS
from tests.clickhouse import ClickHousePlace
from tests.places import KINDS
from tests.spec import oracle
from tests.spec.further import further_tables
from tests.warehouses.loads import HOUR, NOON, Load, columns_of, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.duck import Row
    from tests.places import Place

PAGES = {table.name: table for table in further_tables()}
DUCKDB_TYPES = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "decimal": "DECIMAL(38,9)",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
}

AMOUNTS = [
    *("0", "1.10", "-3.5", "1e3", "0.000000001", "99999999999999999999999999999.999999999"),
    *('"12.50"', '"-99999999999999999999999999999.999999999"', "null", '""', '"1,234.50"'),
    *("1.0000000001", '"n/a"'),
]
RECORDS: dict[str, list[str]] = {
    "collections": [
        f'{{"collection": "c{n}", "count": {text}}}'
        for n, text in enumerate(["0", "9223372036854775807", '"12"', "1.0", "null", "1.5"])
    ],
    "contacts": [
        (
            '{"collection": "shop", "id": "1", "email": "ann@example.com", "store_ids": ["a", "b"],'
            ' "dt_object_updated": "2026-03-01T10:00:00+00:00"}'
        ),
        '{"collection": "news", "id": "1", "marketing_optin": "EXPLICITLY_OPTEDIN"}',
    ],
    "orders": [
        f'{{"id": "{n}", "grand_total": {text}, "tax": {text}, "is_valid": true,'
        ' "timestamp": "2026-03-01T10:00:00+00:00"}'
        for n, text in enumerate(AMOUNTS)
    ],
    "products": ['{"id": "1", "price": 9.99, "is_active": true, "is_variant": null}'],
    "custom_events": ['{"id": "1", "event_type": "quiz", "identity_email": "ann@example.com"}'],
    "push_errors": [
        (
            '{"request_id": "r", "record_id": "1", "record": {"id": "1", "total": 1.10},'
            ' "message": {"error_message": "too large", "error_path": "id"},'
            ' "timestamp": "2026-03-01 10:00:00.5+00"}'
        )
    ],
    "data_deletion_requests": [
        (
            '{"id": "q", "action": "anonymise", "source": {"user": {"email": "me@shop.com"}},'
            ' "identities": [{"hashed_email":'
            ' "c4ca4238a0b923820dcc509a6f75849b@anonymous.ometria"}]}'
        )
    ],
}


@pytest.fixture(params=["duckdb", *(
    pytest.param(kind, marks=pytest.mark.slow) for kind in (*KINDS, "clickhouse")
    if kind != "duckdb"
)])  # fmt: skip
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written, ClickHouse in this process too."""
    made = {**KINDS, "clickhouse": ClickHousePlace.new}[request.param](tmp_path)
    yield made
    made.remove()


@contextmanager
def opened(place: Place) -> Iterator[Warehouse]:
    with open_warehouse(place.url, catalog=CATALOG.every) as warehouse:
        warehouse.prepare(Owner("account of uk", "uk"), NOON)
        yield warehouse


def plain(found: list[Row], table: Table) -> list[dict[str, Any]]:
    """Give rows without the load time, with numbers as numbers: PostgreSQL's come as text."""
    numbers = {column.name for column in table.columns if column.type == "decimal"}
    return [
        {
            name: Decimal(str(value)) if name in numbers and value is not None else value
            for name, value in row.items()
            if name != "__synced_at"
        }
        for row in found
    ]


def expected(name: str) -> list[Row]:
    records = [oracle.read_json(text) for text in RECORDS[name]]
    found = oracle.rows_by_key(PAGES[name], records, "account of uk", "uk")
    return [found[key] for key in sorted(found)]


def test_the_further_tables_hold_what_was_sent(place: Place) -> None:
    """Columns are the page's, numbers are exact, and a second load changes nothing."""
    with opened(place) as warehouse:
        for table in MORE_TABLES:
            count = len(RECORDS[table.name])
            first = Load(table, RECORDS[table.name]).into(warehouse)
            again = Load(table, RECORDS[table.name], at=NOON + HOUR).into(warehouse)
            assert (first, again) == (Loaded(inserted=count), Loaded(unchanged=count))

    with opened(place) as warehouse:  # A later run finds the columns as its own.
        read = [batch for batch in warehouse.read(ORDERS, Selection("uk")) if len(batch)]
        assert sum(map(len, read)) == len(AMOUNTS)
    for table in MORE_TABLES:
        there = columns_of(place, table.name)
        if "postgresql" not in place.url:  # Its driver gives numbers as texts.
            promised = [(name, DUCKDB_TYPES[kind]) for name, kind in PAGES[table.name].columns]
            assert there == promised
        assert plain(rows(place, table.name), table) == expected(table.name)


def test_an_amount_that_changes_is_written_and_a_deleted_order_removed(place: Place) -> None:
    """By any digit; and one that is written otherwise is the same."""
    with opened(place) as warehouse:
        Load(ORDERS, ['{"id": "1", "tax": 1.10}', '{"id": "2", "tax": 2}']).into(warehouse)
        same = Load(ORDERS, ['{"id": "1", "tax": "1.1"}'], at=NOON + HOUR).into(warehouse)
        other = Load(
            ORDERS,
            ['{"id": "1", "tax": 1.100000001}'],
            at=NOON + 2 * HOUR,
            whole=DeleteDetection(remove=True, max_share=1.0),
        ).into(warehouse)

    assert (same.unchanged, other.updated, other.removed) == (1, 1, 1)
    (row,) = rows(place, "orders")
    assert Decimal(str(row["tax"])) == Decimal("1.100000001")


def test_a_rejected_amount_that_converts_now_fills_its_row(place: Place) -> None:
    """As a replay after an upgrade does, whose conversions may read more."""
    with opened(place) as warehouse:
        Load(ORDERS, [json.dumps({"id": "1", "tax": "1,10", "shipping": 5})]).into(warehouse)
        with warehouse.sessions.writing("a test"):
            engine = warehouse._engine
            rejects = engine.name(REJECTS)
            engine.execute(f"UPDATE {rejects} SET raw = '1.10'")
        assert warehouse.rejects.replay("uk") == 1

    (row,) = rows(place, "orders")
    assert (Decimal(str(row["tax"])), Decimal(str(row["shipping"]))) == (Decimal("1.1"), Decimal(5))
