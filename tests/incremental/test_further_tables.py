"""The further tables: off by default, read by requests that fit how Ometria gives them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from ometria_replica.catalog import CATALOG
from ometria_replica.config import Secret
from ometria_replica.doctor.run import check
from ometria_replica.erasing import erase, ids_of
from ometria_replica.errors import AccessDenied, ConfigError
from ometria_replica.more_tables import DELETION_REQUESTS_ENDPOINT as LIMITED
from ometria_replica.more_tables import MORE_TABLES
from ometria_replica.rehashing import rehash
from ometria_replica.replication import sync
from ometria_simulator import Account as Simulated
from ometria_simulator import Quirks, serve
from ometria_simulator.shapes import Shape
from tests.duck import opened, read_file
from tests.e2e.oracle import expected_further
from tests.incremental.further import Endpoints, orders, reading
from tests.incremental.shops import DAY, NOON, account, config, replicate
from tests.replicas import of

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server
    from tests.duck import Row


QUICK = replace(CATALOG, further=tuple(
    replace(each, read=replace(LIMITED, requests_per_minute=600)) if each.read == LIMITED else each
    for each in CATALOG.further
))  # fmt: skip
"""The tables without the limit of 6 requests a minute, so that no test waits for it."""


def statuses(warehouse: Path) -> dict[str, str]:
    return {
        row["order_id"]: row["status"]
        for row in read_file(warehouse, "ometria.orders", order="order_id")
    }


# --- orders, and all that grow -----------------------------------------------------------------


def test_new_orders_are_read_from_the_end_of_the_last_read(warehouse: Path) -> None:
    """A run between two full reads costs a few requests, however many orders there are."""
    shop = Endpoints({"orders": orders(1, 1200)})
    with shop.served() as listener:
        settings = reading(listener, "orders")
        replicate(warehouse, settings, at=NOON)
        shop.records["orders"] += orders(1201, 1207)
        listener.asked.clear()

        report = replicate(warehouse, settings, at=NOON + DAY)

    assert of(report, "orders").inserted == 7
    assert len(statuses(warehouse)) == 1207
    offsets = [asked.offset for asked in listener.asked if "updateSince" not in asked.query]
    assert min(offsets) >= 1200 - 250
    assert len(listener.asked) <= 8


def test_changed_orders_are_read_where_ometria_selects_by_a_date(warehouse: Path) -> None:
    """The next run brings an old order that changed, without a full read."""
    shop = Endpoints({"orders": orders(1, 600)}, honours=True)
    with shop.served() as listener:
        settings = reading(listener, "orders")
        replicate(warehouse, settings, at=NOON)
        shop.records["orders"][2]["status"] = "shipped"
        shop.changed["orders", "000003"] = date(2026, 3, 3)
        listener.asked.clear()

        report = replicate(warehouse, settings, at=NOON + DAY)

    assert (of(report, "orders").updated, of(report, "orders").inserted) == (1, 0)
    assert statuses(warehouse)["000003"] == "shipped"
    assert len(listener.asked) <= 8


def test_changed_orders_are_read_once_a_week_where_ometria_ignores_the_date(
    warehouse: Path,
) -> None:
    """A date in the future that selects records shows that it is ignored."""
    shop = Endpoints({"orders": orders(1, 600)})
    with shop.served() as listener:
        settings = reading(listener, "orders")
        replicate(warehouse, settings, at=NOON)
        shop.records["orders"][2]["status"] = "shipped"

        replicate(warehouse, settings, at=NOON + 6 * DAY)
        assert statuses(warehouse)["000003"] == "new"

        replicate(warehouse, settings, at=NOON + 7 * DAY)
        assert statuses(warehouse)["000003"] == "shipped"


def test_a_full_read_finds_orders_that_were_deleted(warehouse: Path) -> None:
    """They are reported, and removed if the settings say so."""
    shop = Endpoints({"orders": orders(1, 600)})
    with shop.served() as listener:
        settings = reading(listener, "orders", full_read_every_days=1, deletes="remove")
        replicate(warehouse, settings, at=NOON)
        del shop.records["orders"][10:13]

        report = replicate(warehouse, settings, at=NOON + DAY)

    assert (of(report, "orders").deleted_upstream, of(report, "orders").removed) == (3, 3)
    assert len(statuses(warehouse)) == 597


@pytest.mark.parametrize("deleted", [1, 20, 120, 400])
def test_no_new_order_is_missed_after_others_were_deleted(warehouse: Path, deleted: int) -> None:
    """Deletions move the end to the left; if it cannot be found again, all is read."""
    shop = Endpoints({"orders": orders(1, 900)})
    with shop.served() as listener:
        settings = reading(listener, "orders")
        replicate(warehouse, settings, at=NOON)
        del shop.records["orders"][-deleted:]
        shop.records["orders"] += orders(901, 905)

        replicate(warehouse, settings, at=NOON + DAY)

    assert {f"{number:06}" for number in range(901, 906)} <= set(statuses(warehouse))


def test_no_new_order_is_missed_where_the_newest_come_first(warehouse: Path) -> None:
    """An end that has moved to the right shows it, and all is read."""
    shop = Endpoints({"orders": orders(1, 700)}, in_reverse=True)
    with shop.served() as listener:
        settings = reading(listener, "orders")
        replicate(warehouse, settings, at=NOON)
        shop.records["orders"] += orders(701, 703)

        replicate(warehouse, settings, at=NOON + DAY)

    assert len(statuses(warehouse)) == 703


def test_contacts_of_each_collection_are_read(warehouse: Path) -> None:
    """Ids are unique within a collection only; a new collection is read whole."""
    shop = Endpoints(
        {
            "contacts": [{"collection": "shop", "count": 300}, {"collection": "a/b", "count": 1}],
            "contacts/shop": [{"id": f"{n}", "email": f"{n}@example.com"} for n in range(300)],
            "contacts/a%2Fb": [{"id": "1", "email": "x@example.com"}],
        }
    )
    with shop.served() as listener:
        settings = reading(listener, "collections", "contacts")
        first = replicate(warehouse, settings, at=NOON)
        shop.records["contacts"] += [{"collection": "new", "count": 1}]
        shop.records["contacts/new"] = [{"id": "1", "email": "y@example.com"}]
        shop.records["contacts/shop"] += [{"id": "300", "email": "z@example.com"}]

        second = replicate(warehouse, settings, at=NOON + DAY)

    assert (of(first, "contacts").inserted, of(second, "contacts").inserted) == (301, 2)
    rows = read_file(warehouse, "ometria.contacts", order="ALL")
    assert {row["collection"] for row in rows if row["contact_id"] == "1"} == {"shop", "a/b", "new"}
    counts = read_file(warehouse, "ometria.collections", order="collection")
    assert [row["contact_count"] for row in counts] == [1, 1, 300]


def test_a_collection_that_is_refused_is_left_out(warehouse: Path) -> None:
    """The others are read, no contact counts as deleted, and the report says so."""
    shop = Endpoints(
        {
            "contacts": [{"collection": "a"}, {"collection": "b"}],
            "contacts/a": [{"id": "1"}],
            "contacts/b": [{"id": "2"}],
        }
    )
    with shop.served() as listener:
        settings = reading(listener, "contacts", full_read_every_days=1)
        replicate(warehouse, settings, at=NOON)
        shop.status["contacts/a"] = 403

        report = replicate(warehouse, settings, at=NOON + DAY)

    assert (of(report, "contacts").records, of(report, "contacts").deleted_upstream) == (1, 0)
    assert any("nothing was read from contacts/a" in warning for warning in report.warnings)


def test_a_period_is_read_again_without_another_state(warehouse: Path) -> None:
    """A backfill selects by the date where Ometria does, and reads all where it does not."""
    shop = Endpoints({"orders": orders(1, 300)}, honours=True)
    with shop.served() as listener:
        settings = reading(listener, "orders")
        replicate(warehouse, settings, at=NOON)
        shop.changed["orders", "000003"] = date(2026, 3, 1)

        chosen = replicate(warehouse, settings, at=NOON, since=date(2026, 3, 1))
        shop.honours = False
        whole = replicate(warehouse, settings, at=NOON, since=date(2026, 3, 1))

    assert (of(chosen, "orders").records, of(whole, "orders").unchanged >= 300) == (1, True)


# --- what only the newest are given of ---------------------------------------------------------


def errors(first: int, last: int) -> list[dict[str, object]]:
    return [
        {
            "request_id": f"r-{n}", "record_type": "order", "record_id": f"{n}",
            "record": {"id": f"{n}", "email": "ann@example.com"},
            "message": {"error_message": "too large", "error_path": "id"},
            "timestamp": f"2026-03-01T00:{n // 60:02}:{n % 60:02}+00:00",
        }
        for n in range(last, first - 1, -1)
    ]  # fmt: skip


def test_errors_stay_when_ometria_no_longer_gives_them(warehouse: Path) -> None:
    """It gives the newest 100. A run of which all are new warns that others may be missing."""
    shop = Endpoints({"push/_errors": errors(1, 60)})
    with shop.served() as listener:
        settings = reading(listener, "push_errors")
        first = replicate(warehouse, settings, at=NOON)
        shop.records["push/_errors"] = errors(50, 149)
        second = replicate(warehouse, settings, at=NOON + DAY)
        shop.records["push/_errors"] = errors(200, 299)
        third = replicate(warehouse, settings, at=NOON + 2 * DAY)

    assert [of(each, "push_errors").inserted for each in (first, second, third)] == [60, 89, 100]
    assert len(read_file(warehouse, "ometria.push_errors", order="ALL")) == 249
    assert (first.warnings, second.warnings) == ((), ())
    assert ["all of the newest 100 are new" in each for each in third.warnings] == [True]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404])
def test_a_further_table_that_is_refused_is_a_warning(warehouse: Path, status: int) -> None:
    """A key may lack rights, and an endpoint may not exist: the others are read."""
    shop = Endpoints({"products": [{"id": "1", "price": 1.10}]}, status={"orders": status})
    with shop.served() as listener:
        report = replicate(warehouse, reading(listener, "orders", "products"), at=NOON)

    assert of(report, "products").inserted == 1
    assert ["orders: it could not be read" in each for each in report.warnings] == [True]
    (row,) = read_file(warehouse, "ometria.products", order="ALL")
    assert row["price"] == Decimal("1.10")


@pytest.mark.parametrize(
    ("tables", "more"), [(("orders",), {}), (("orders", "products"), {"require": ("orders",)})]
)
def test_it_is_an_error_where_nothing_or_something_required_is_refused(
    warehouse: Path, tables: tuple[str, ...], more: dict[str, tuple[str, ...]]
) -> None:
    """A key that opens nothing is wrong; a required table is wanted."""
    shop = Endpoints({"products": [{"id": "1"}]}, status={"orders": 403})
    with shop.served() as listener, pytest.raises(AccessDenied):
        replicate(warehouse, reading(listener, *tables, **more), at=NOON)


def test_check_warns_of_a_further_table_as_a_sync_does(warehouse: Path) -> None:
    """The tables of the five are errors; a required one is too."""
    shop = Endpoints({"products": [{"id": "1"}]}, status={"orders": 403, "push/_errors": 404})
    with shop.served() as listener:
        settings = reading(listener, "orders", "products", "push_errors")
        found = list(check(config(warehouse, settings)))
        required = list(check(config(warehouse, replace(settings, require=("orders",)))))

    assert [each.error for each in found] == [None] * len(found)
    warned = [each.text.partition(":")[0] for each in found if each.level == "warn"]
    assert warned == ["GET /orders", "GET /push/_errors"]
    assert [type(each.error) for each in required if each.error] == [AccessDenied]


def test_deletion_requests_are_read_once_for_the_table_and_for_erasures(warehouse: Path) -> None:
    """Their limit is 6 requests a minute."""
    shop = people()
    with shop.served() as listener:
        asked = []
        for follows in (False, True):
            settings = reading(listener, "data_deletion_requests", follow_erasures=follows)
            report = sync(config(warehouse, settings), catalog=QUICK, clock=lambda: NOON)
            asked.append(len(listener.asked))

    assert asked[1] == 2 * asked[0]
    assert of(report, "deletion_requests").requests == 0
    (row,) = read_file(warehouse, "ometria.data_deletion_requests", order="ALL")
    assert (row["request_id"], row["user_email"]) == ("q", "me@shop.com")


def test_deletion_requests_that_are_refused_are_asked_for_once(warehouse: Path) -> None:
    """The table and the erasures are both told why, and the run goes on."""
    shop = people()
    shop.status["data-deletion-requests"] = 403
    with shop.served() as listener:
        settings = reading(listener, "data_deletion_requests", "orders", follow_erasures=True)
        without = replace(settings, follow_erasures=False)
        sync(config(warehouse, without), catalog=QUICK, clock=lambda: NOON)
        asked = [each.path for each in listener.asked]
        report = sync(config(warehouse, settings), catalog=QUICK, clock=lambda: NOON)
        asked_again = [each.path for each in listener.asked[len(asked) :]]

    path = "/v2/data-deletion-requests"
    assert asked_again.count(path) == asked.count(path)
    assert [each.partition(":")[0] for each in report.warnings] == [
        "data_deletion_requests",
        "deletion_requests",
    ]
    assert report.outcome == "succeeded"


# --- the setting -------------------------------------------------------------------------------


def test_a_table_that_is_off_is_refused_by_the_name_of_the_setting(
    server: Server, warehouse: Path
) -> None:
    """Before anything is contacted; a name that is nearly right is told."""
    settings = config(warehouse, account(server))
    with pytest.raises(
        ConfigError, match=r"'orders' is switched off\. Name it in the setting tables"
    ):
        sync(settings, ["orders"])
    with pytest.raises(ConfigError, match=r"There is no table 'order'; did you mean orders\?"):
        sync(settings, ["order"])
    with pytest.raises(ConfigError, match="'orders' is switched off"):
        sync(config(warehouse, account(server, require=("orders",))))
    with pytest.raises(ConfigError, match="tables of 'uk': There is no table 'ordrs'"):
        sync(config(warehouse, account(server, tables=("ordrs",))))
    assert server.requests == []


def test_the_default_is_the_five(shop: Account, server: Server, warehouse: Path) -> None:
    """A further table is neither created nor asked for; one of the five can be switched off."""
    report = replicate(warehouse, account(server), at=shop.now)
    assert sorted(table.table for table in report.tables) == [
        "lists", "member_lists", "profiles", "unsubscribes",
    ]  # fmt: skip

    fewer = replicate(warehouse, account(server, tables=("lists",)), at=shop.now)
    assert [table.table for table in fewer.tables] == ["lists"]


def test_accounts_have_tables_of_their_own(warehouse: Path) -> None:
    """Of two accounts in one warehouse, one may replicate what the other does not."""
    shop = Endpoints({"orders": orders(1, 3), "products": [{"id": "1"}]})
    with shop.served() as listener:
        report = replicate(
            warehouse,
            reading(listener, "orders"),
            replace(reading(listener, "products"), account_id="b", source_id="de"),
            at=NOON,
        )

    assert [(t.source_id, t.table) for t in report.tables] == [("uk", "orders"), ("de", "products")]


# --- a whole account ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(),
        pytest.param(
            Quirks(
                update_since_on=frozenset(),
                money_form="text",
                reversed_order=frozenset({"orders"}),
                timestamp_forms=dict.fromkeys(
                    ("orders", "contacts", "custom-events", "push-errors"), "postgres"
                ),
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["honoured", "ignored"],
)
def test_the_further_tables_are_what_the_account_has(warehouse: Path, quirks: Quirks) -> None:
    """By the oracle, which shares no code: at first, after a day, and once what is gone is gone."""
    shop = Simulated.create(profiles=30, lists=0, email_events=0, seed=7)
    shop.request_deletion(shop.profiles[0].email or "", completed_after=DAY)
    shape = Shape(quirks.timestamp_forms.get("orders", "iso"), quirks.money_form)
    with serve(shop, requests_per_second=None, quirks=quirks) as server:
        names = tuple(table.name for table in MORE_TABLES)
        settings = config(warehouse, account(server, tables=names, deletes="remove",
                                             max_deleted_share=1.0))  # fmt: skip
        for days in (0, 1, 7):
            shop.advance(days * DAY)
            sync(settings, catalog=QUICK, clock=lambda: shop.now)
            expected = expected_further(shop, "1042", "uk", shape)
            for table in MORE_TABLES:
                promised = {row["__sync_key"]: row for row in expected[table.name]}
                rows = read_file(warehouse, table.full_name, order="__sync_key")
                found = {row["__sync_key"]: without_load_time(row) for row in rows}
                assert promised
                assert promised.keys() <= found.keys(), (table.name, days)
                if days == 1 and table.name in DUE_LATER - (quirks.update_since_on & DUE_LATER):
                    continue
                assert {key: found[key] for key in promised} == promised, (table.name, days)
                if days != 1 and table.name != "push_errors":  # Of which old ones stay.
                    assert found.keys() == promised.keys(), table.name


DUE_LATER = {"contacts", "orders", "products", "custom_events"}
"""What has changed of these comes with the next full read, unless dates are honoured."""


def without_load_time(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "__synced_at"}


# --- people ------------------------------------------------------------------------------------

ANN = "Ann@Example.com"
OF_PEOPLE = ("contacts", "orders", "custom_events", "push_errors", "data_deletion_requests")


def people() -> Endpoints:
    """Make a shop in which each table tells of Ann, and of Bob."""
    named = {
        "contacts/c": ("id", "email", "customer_id"),
        "orders": ("id", "", "customer_id"),
        "custom-events": ("id", "identity_email", ""),
    }
    shop = Endpoints({"contacts": [{"collection": "c"}], "products": [{"id": "1"}]})
    for path, fields in named.items():
        shop.records[path] = [
            {name: text for name, text in zip(fields, texts, strict=True) if name}
            for texts in (("1", ANN, "c-ann"), ("2", "bob@example.com", "c-bob"))
        ]
    shop.records["push/_errors"] = [
        {"request_id": "r1", "record_id": "1", "record": {"email": " ANN@example.com", "age": 5}},
        {"request_id": "r2", "record_id": "2", "record": {"customer_id": "c-ann"}},
        {"request_id": "r3", "record_id": "3", "record": {"email": "bob@example.com"}},
        {"request_id": "r4", "customer_id": "c-ann", "timestamp": "2026-03-01T00:00:00Z"},
    ]
    shop.records["data-deletion-requests"] = [
        {"id": "q", "comment": f"asked by {ANN}", "source": {"user": {"email": "me@shop.com"}}}
    ]
    return shop


def test_a_person_is_erased_from_the_further_tables(warehouse: Path) -> None:
    """By her address and all ids beside it, also within records that could not be pushed."""
    shop = people()
    with shop.served() as listener:
        settings = config(warehouse, reading(listener, *OF_PEOPLE))
        sync(settings, catalog=QUICK, clock=lambda: NOON)

        (receipt,) = erase(settings, ids_of([ANN]), catalog=QUICK, clock=lambda: NOON)
        assert {name: rows for name, rows in receipt.rows.items() if rows} == {
            "contacts": 1, "orders": 1, "custom_events": 1, "push_errors": 3,
        }  # fmt: skip
        again = sync(settings, full=True, catalog=QUICK, clock=lambda: NOON + DAY)

    assert {t.table: t.suppressed for t in again.tables if t.suppressed} == {
        "contacts": 1, "orders": 1, "custom_events": 1, "push_errors": 3,
    }  # fmt: skip
    kept = read_file(warehouse, "ometria.push_errors", order="request_id")
    assert [row["request_id"] for row in kept] == ["r3"]


def test_a_person_is_erased_from_a_table_that_is_switched_off(warehouse: Path) -> None:
    """What a table holds stays when it is switched off, and so does what erasures do."""
    with people().served() as listener:
        sync(config(warehouse, reading(listener, *OF_PEOPLE)), catalog=QUICK, clock=lambda: NOON)
        (receipt,) = erase(
            config(warehouse, reading(listener, "orders")),
            ids_of([ANN]),
            catalog=QUICK,
            clock=lambda: NOON,
        )

    assert receipt.rows["contacts"] == 1
    rows = read_file(warehouse, "ometria.contacts", order="ALL")
    assert [row["email"] for row in rows] == ["bob@example.com"]


@pytest.mark.parametrize("setting", ["exclude", "hash"])
def test_no_address_is_left_where_addresses_are_hidden(warehouse: Path, setting: str) -> None:
    """Neither in its column nor in a record that is quoted; a table that is off is named too."""
    columns = ("*.email", "custom_events.identity_email", "data_deletion_requests.user_email")
    hidden = {setting: columns, "hash_key": Secret("0123456789abcdef", "the test")}
    with people().served() as listener:
        sync(
            config(warehouse, reading(listener, *OF_PEOPLE, **hidden)),
            catalog=QUICK,
            clock=lambda: NOON,
        )
        sync(
            config(warehouse, reading(listener, "orders", **hidden)),
            catalog=QUICK,
            clock=lambda: NOON + DAY,
        )
        sync(
            config(warehouse, reading(listener, *OF_PEOPLE, **hidden)),
            catalog=QUICK,
            clock=lambda: NOON + 2 * DAY,
        )

    assert read_file(warehouse, "ometria.push_errors", order="ALL")
    with opened(warehouse) as connection:
        for table in MORE_TABLES:
            if table.name not in OF_PEOPLE:
                continue
            (texts,) = connection.execute(
                f"SELECT lower(string_agg(t::VARCHAR, ' ')) FROM {table.full_name} t"
            ).fetchall()[0]
            assert "@" not in texts.replace("@anonymous.ometria", ""), table.name


def test_a_treatment_of_a_table_that_is_off_cannot_change(warehouse: Path) -> None:
    """Its rows hold what was, so that switching it on would mix both."""
    with people().served() as listener:
        sync(config(warehouse, reading(listener, *OF_PEOPLE)), catalog=QUICK, clock=lambda: NOON)
        changed = reading(listener, "orders", exclude=("contacts.email",))
        with pytest.raises(ConfigError, match=r"contacts\.email: .* holds it as it came"):
            sync(config(warehouse, changed), catalog=QUICK, clock=lambda: NOON)
        rehash(config(warehouse, changed), catalog=QUICK, clock=lambda: NOON)
        sync(config(warehouse, changed), catalog=QUICK, clock=lambda: NOON)

    rows = read_file(warehouse, "ometria.contacts", order="ALL")
    assert [row["email"] for row in rows] == [None, None]
