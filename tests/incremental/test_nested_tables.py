"""Tables that are arrays inside records of another: what a run reads for them, and what goes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica import failpoints
from ometria_replica.batch import BatchSize, Lease
from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.config import Secret
from ometria_replica.describe import describe
from ometria_replica.doctor.run import check
from ometria_replica.erasing import erase, ids_of, read_held
from ometria_replica.errors import ConfigError
from ometria_replica.nested_tables import NESTED_TABLES, ORDER_LINES, PROFILE_TAGS
from ometria_replica.rehashing import rehash
from ometria_replica.schema import Column, Feed, Inside, Pages, Table, md5
from ometria_replica.selection import ALL
from ometria_replica.state_commands import read_state, replay, rewind
from ometria_replica.tables import EMAIL_EVENTS, PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, serve
from tests.duck import opened as opened_file
from tests.duck import read_file
from tests.incremental.further import Endpoints, orders, reading
from tests.incremental.shops import (
    DAY,
    HOUR,
    NOON,
    YEAR,
    ReceivedRequests,
    account,
    config,
    replicate,
    state,
    watermark_of,
)
from tests.nested_arrays import IDENTITIES, LINES, LISTS, TAGS, Expected
from tests.places import DuckDBPlace
from tests.replicas import of
from tests.warehouses.loads import Load, a_lease
from tests.warehouses.loads import opened as opened_place

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.report import RunReport
    from ometria_simulator import Server

FIVE = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")
WITH_TAGS = (*FIVE, "profile_tags", "profile_identities")


@pytest.fixture
def tagged(shop: Account) -> Account:
    """Give the three profiles tags and identities."""
    for name in ("ann", "bob", "cat"):
        identities: list[Any] = [
            {"id": f"{name}@example.com", "type": "email"},
            {"id": name, "type": "phone"},
        ]
        shop.update_profile(name, tags=["all", name], identities=identities)
    shop.set_time(shop.now + 5 * DAY)
    return shop


def tags(warehouse: Path) -> list[str]:
    rows = read_file(warehouse, "ometria.profile_tags")
    return sorted(f"{row['profile_id']} {row['tag']}" for row in rows)


def settings(server: Server, **more: Any) -> AccountSettings:
    return account(server, tables=more.pop("tables", WITH_TAGS), **more)


# --- which runs read what ----------------------------------------------------------------------


def test_a_table_that_is_switched_on_later_is_read_whole_once(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """The report says so; from then on the tags come with the profiles that changed."""
    replicate(warehouse, account(server), at=tagged.now)
    received = ReceivedRequests(server)
    first = replicate(warehouse, settings(server), at=tagged.now)

    assert received.values("profiles", "updateSince") == {None}
    assert "not read for profile_identities, profile_tags before" in first.to_text()
    assert (of(first, "profiles").unchanged, of(first, "profile_tags").inserted) == (3, 6)
    assert of(first, "profile_tags").requests == 0
    assert watermark_of(warehouse, "profile_tags") == watermark_of(warehouse, "profiles")

    tagged.set_time(tagged.now + 8 * DAY)
    tagged.update_profile("ann", tags=["ann", "new"])
    received = ReceivedRequests(server)
    second = replicate(warehouse, settings(server), at=tagged.now)

    assert None not in received.values("profiles", "updateSince")
    counts = of(second, "profile_tags")
    assert (counts.inserted, counts.unchanged, counts.removed) == (1, 1, 1)
    assert "profile_tags: 1 row that no record has any longer removed." in second.to_text()
    assert tags(warehouse) == ["ann ann", "ann new", "bob all", "bob bob", "cat all", "cat cat"]


def test_a_run_without_them_is_as_it_was(tagged: Account, server: Server, warehouse: Path) -> None:
    """No table, no statement about one, and no request is added."""
    report = replicate(warehouse, account(server), at=tagged.now)

    assert [table.table for table in report.tables] == ["profiles", *FIVE[1:4]]
    with opened_file(warehouse) as connection:
        found = connection.execute("SELECT DISTINCT table_name FROM duckdb_tables()").fetchall()
    assert not any("profile_" in name for (name,) in found)


@pytest.mark.parametrize("name", ["profiles", "profile_tags"])
def test_one_of_them_alone_is_read_with_all_that_are_read_at_once(
    name: str, tagged: Account, server: Server, warehouse: Path
) -> None:
    """They share their requests, so that none of them falls behind the others."""
    report = replicate(warehouse, settings(server), at=tagged.now, tables=[name])

    assert [each.table for each in report.tables] == [
        "profiles", "profile_identities", "profile_tags",
    ]  # fmt: skip
    assert of(report, "profile_tags").inserted == 6


def test_a_table_without_the_one_that_it_is_inside_is_refused(
    server: Server, warehouse: Path
) -> None:
    """Before anything is read, and by `check` too."""
    alone = settings(server, tables=("lists", "profile_tags"))
    message = "profile_tags: its rows are inside the records of profiles, which is not replicated"
    with pytest.raises(ConfigError, match=message):
        replicate(warehouse, alone, at=NOON)
    assert server.requests == []
    assert any(message in str(each.error) for each in check(config(warehouse, alone)))


@pytest.mark.slow
def test_a_part_of_the_profiles_brings_their_tags_and_moves_no_state(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """Neither does it count as a read of all."""
    replicate(warehouse, account(server), at=tagged.now)
    tagged.set_time(tagged.now + 5 * DAY)
    tagged.update_profile("bob", tags=["late"])
    since = tagged.now.date()
    report = replicate(warehouse, settings(server), at=tagged.now, since=since)

    assert tags(warehouse) == ["bob late"]
    assert of(report, "profiles").remarks == ()
    assert not [row for row in state(warehouse, "watermarks") if row["table_name"] not in FIVE]
    replicate(warehouse, settings(server), at=tagged.now)
    assert tags(warehouse) == ["ann all", "ann ann", "bob late", "cat all", "cat cat"]


def test_what_changed_while_a_table_was_off_is_read_when_it_is_on_again(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """From its own watermark on; the profiles' is newer."""
    replicate(warehouse, settings(server), at=tagged.now)
    tagged.set_time(tagged.now + 2 * DAY)
    tagged.update_profile("ann", tags=["off"])
    tagged.set_time(tagged.now + 8 * DAY)
    replicate(warehouse, account(server), at=tagged.now)
    received = ReceivedRequests(server)
    replicate(warehouse, settings(server), at=tagged.now)

    assert None not in received.values("profiles", "updateSince")
    assert tags(warehouse)[0] == "ann off"


@pytest.mark.slow
def test_rows_inside_profiles_that_went_while_a_table_was_off_go(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """A full read removed the profile without them, so that all are read again."""
    removing: dict[str, Any] = {"deletes": "remove", "max_deleted_share": 1.0}
    replicate(warehouse, settings(server, **removing), at=tagged.now)
    tagged.delete_profile("bob")
    tagged.set_time(tagged.now + DAY)
    replicate(warehouse, account(server, **removing), at=tagged.now, full=True)
    assert "bob bob" in tags(warehouse)

    tagged.set_time(tagged.now + DAY)
    report = replicate(warehouse, settings(server, **removing), at=tagged.now)

    assert of(report, "profile_tags").removed == 2
    assert tags(warehouse) == ["ann all", "ann ann", "cat all", "cat cat"]


@pytest.mark.parametrize("to", [None, NOON.date()])
def test_a_table_inside_is_rewound_with_the_one_that_it_is_inside(
    to: Any, tagged: Account, server: Server, warehouse: Path
) -> None:
    """Its own watermark goes back, and the next run reads both from there on."""
    on = settings(server)
    replicate(warehouse, on, at=tagged.now)
    with opened_file(warehouse, read_only=False) as connection:
        connection.execute("DELETE FROM ometria.profile_tags WHERE tag = 'all'")
    rewind(config(warehouse, on), ["profile_tags"], to)
    replicate(warehouse, on, at=tagged.now)

    assert len(tags(warehouse)) == 6


def test_lost_rows_are_read_again(tagged: Account, server: Server, warehouse: Path) -> None:
    """A table that was dropped or emptied is a reason to read all profiles."""
    on = settings(server)
    replicate(warehouse, on, at=tagged.now)
    with opened_file(warehouse, read_only=False) as connection:
        connection.execute("DELETE FROM ometria.profile_tags")
        connection.execute("DROP TABLE ometria.profile_identities")
    report = replicate(warehouse, on, at=tagged.now)

    assert len(report.warnings) == 2
    assert (len(tags(warehouse)), of(report, "profile_identities").inserted) == (6, 6)


def test_a_table_whose_arrays_are_all_empty_now_has_lost_nothing(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """The rows went since no profile has a tag any longer, and no run reads all for that."""
    on = settings(server)
    replicate(warehouse, on, at=tagged.now)
    for name in ("ann", "bob", "cat"):
        tagged.update_profile(name, tags=[])
    tagged.set_time(tagged.now + HOUR)
    replicate(warehouse, on, at=tagged.now)
    assert tags(warehouse) == []
    received = ReceivedRequests(server)
    report = replicate(warehouse, on, at=tagged.now + HOUR)

    assert report.warnings == ()
    assert None not in received.values("profiles", "updateSince")


# --- interrupted reads -------------------------------------------------------------------------


def interrupt(warehouse: Path, account_: AccountSettings, at: datetime) -> None:
    """End a sync of profiles as a kill does, after the commit of its first batch."""

    def end(step: str) -> None:
        if step == "after commit of the batch":
            raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Warehouse, "batch_size", BatchSize(records=30))
        patch.setattr(failpoints, "_listeners", [end])
        with pytest.raises(MemoryError):
            replicate(warehouse, account_, at=at, tables=["profiles"])


@pytest.mark.parametrize("was_on", [True, False])
def test_an_interrupted_first_read_is_continued_if_it_was_one_of_both(
    was_on: bool, shop: Account, server: Server, warehouse: Path
) -> None:
    """Else the records that it has read would have no tags for ever."""
    shop.set_time(NOON)
    for number in range(600):
        shop.add_profile(f"p{number:03}", email="x@example.com", tags=["old"])
    shop.set_time(shop.now + DAY)
    on, off = settings(server), account(server)
    interrupt(warehouse, on if was_on else off, shop.now)
    shop.set_time(shop.now + HOUR)
    received = ReceivedRequests(server)
    replicate(warehouse, on, at=shop.now, tables=["profiles"])

    first = min(int(offset or 0) for offset in received.values("profiles", "offset"))
    assert (first > 0) == was_on
    assert len(tags(warehouse)) == 600


# --- what goes with a profile ------------------------------------------------------------------


def test_a_person_is_erased_from_them_too(tagged: Account, server: Server, warehouse: Path) -> None:
    """By an address that stands in an identity alone as well, and for good."""
    on = settings(server)
    tagged.update_profile("bob", identities=[{"id": "second@example.com", "type": "email"}])
    replicate(warehouse, on, at=tagged.now)
    ids = ids_of(emails=["SECOND@example.com"])

    held = read_held(config(warehouse, on), ids)["uk"]
    assert {name: len(rows) for name, rows in held.items() if rows} == {
        "profiles": 1, "profile_tags": 2, "profile_identities": 1, "unsubscribes": 1,
        "member_lists": 1,
    }  # fmt: skip
    (receipt,) = erase(config(warehouse, on), ids, clock=lambda: tagged.now)
    assert (receipt.rows["profile_tags"], receipt.rows["profile_identities"]) == (2, 1)

    report = replicate(warehouse, on, at=tagged.now + HOUR, full=True)
    assert tags(warehouse) == ["ann all", "ann ann", "cat all", "cat cat"]
    assert (of(report, "profiles").suppressed, of(report, "profile_tags").suppressed) == (1, 2)
    names = [row["identity_id"] for row in read_file(warehouse, "ometria.profile_identities")]
    assert sorted(names) == ["ann", "ann@example.com", "cat", "cat@example.com"]


def test_hashed_ids_are_the_same_in_both(tagged: Account, server: Server, warehouse: Path) -> None:
    """So rows are found by them, and nobody's address stands in the identities."""
    hashed = ("*.profile_id", "*.email", "profile_identities.identity_id")
    on = settings(server, hash=hashed, hash_key=Secret("k" * 40, "the test"), deletes="remove",
                  max_deleted_share=1.0)  # fmt: skip
    replicate(warehouse, on, at=tagged.now)
    with opened_file(warehouse) as connection:
        ((joined,),) = connection.execute(
            "SELECT count(*) FROM ometria.profiles p JOIN ometria.profile_identities i"
            " USING (profile_id, __source_id) WHERE i.identity_id = p.email"
        ).fetchall()
    assert joined == 3

    tagged.delete_profile("bob")
    tagged.set_time(tagged.now + DAY)
    replicate(warehouse, on, at=tagged.now, full=True)
    assert len(tags(warehouse)) == 4
    assert not any("ann" in tag.split()[0] for tag in tags(warehouse))


@pytest.mark.slow
def test_ids_are_rewritten_in_both_alike(
    tagged: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """By `rehash`: the rows are those of a first load with the same settings."""
    hashed = ("*.profile_id", "*.email", "profile_identities.identity_id")
    on = settings(server, hash=hashed, hash_key=Secret("k" * 40, "the test"))
    replicate(warehouse, settings(server), at=tagged.now)
    rehash(config(warehouse, on), clock=lambda: tagged.now)
    replicate(tmp_path / "anew.duckdb", on, at=tagged.now)

    for name in ("profile_tags", "profile_identities"):
        assert _rows(warehouse, name) == _rows(tmp_path / "anew.duckdb", name)
    report = replicate(warehouse, on, at=tagged.now, full=True)
    assert of(report, "profile_tags").unchanged == 6


def test_a_reject_that_names_an_erased_person_is_dropped(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """Also where it stands in the record of another person."""
    on = settings(server)
    tagged.update_profile("ann", tags=["all", {"friend": "bob@example.com"}])
    replicate(warehouse, on, at=tagged.now)
    assert [row["table_name"] for row in state(warehouse, "rejects")] == ["profile_tags"]
    ids = ids_of(emails=["bob@example.com"])
    erase(config(warehouse, on), ids, clock=lambda: tagged.now)
    assert state(warehouse, "rejects") == []

    replicate(warehouse, on, at=tagged.now + HOUR, full=True)
    assert state(warehouse, "rejects") == []
    assert "ann all" in tags(warehouse)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (("profiles.profile_id",), "name profile_tags.profile_id too"),
        (("profile_tags.profile_id",), "name profiles.profile_id too"),
        (("profiles.email",), "name profile_identities.identity_id too"),
    ],
)
def test_a_table_is_treated_as_the_one_that_it_is_inside(
    named: tuple[str, ...], message: str, server: Server, warehouse: Path
) -> None:
    """Of tables that are off nothing is asked."""
    hashed: dict[str, Any] = {"hash": named, "hash_key": Secret("k" * 40, "the test")}
    with pytest.raises(ConfigError, match=message):
        replicate(warehouse, settings(server, **hashed), at=NOON)
    replicate(warehouse, account(server, **hashed), at=NOON)


def test_rows_inside_what_has_grown_too_old_go_with_it(tmp_path: Path) -> None:
    """In the same transaction, with their rejected values, and others stay."""
    visits = Table(
        "visits",
        Pages("visits"),
        md5("source_id", "id", "at"),
        (Column("id", "visit_id"), Column("at", "visited_at", "timestamptz")),
        (("id",),),
        record_id="visit_id",
        events=True,
        time="visited_at",
    )
    views = Table(
        "views",
        Inside("visits", "pages", position="number"),
        md5("source_id", "visits::id", "'|'", "number"),
        (
            Column("visits::id", "visit_id"),
            Column("number", "number", "integer"),
            Column("seconds", "seconds", "integer"),
        ),
        (("number",),),
    )
    records = [
        f'{{"id": "{day}", "at": "2026-03-{day:02}", "pages": [{{"seconds": "?"}}, {{}}]}}'
        for day in (1, 2, 10)
    ]
    place = DuckDBPlace(tmp_path / "w.duckdb")
    with opened_place(place, catalog=Catalog((visits, views))) as warehouse:
        warehouse.leases.acquire(a_lease(until=NOON + YEAR), NOON)
        Load(visits, records, inside=(views,)).into(warehouse)
        kept = replace(visits, oldest=datetime(2026, 3, 9, tzinfo=UTC))

        def lease() -> Lease:
            return a_lease(until=NOON + YEAR)

        removed = list(warehouse.expiry.remove([kept, views], lease, NOON))

        assert [(table.name, rows) for table, rows in removed] == [("visits", 2), ("views", 4)]
        assert warehouse.count(views, ALL) == 2
        assert [each.raw for each in warehouse.rejects.newest(9)] == ["?"]


# --- the lines of orders -----------------------------------------------------------------------


def lines(warehouse: Path, *names: str) -> list[tuple[object, ...]]:
    rows = read_file(warehouse, "ometria.order_lines", order="order_id, line_number")
    return [tuple(row[name] for name in names) for row in rows]


def test_the_lines_of_orders_are_rows_in_their_order(warehouse: Path) -> None:
    """Money is decimal, a value that is none is rejected, and a line that is gone is gone."""
    shop = Endpoints({"orders": orders(1, 1) + orders(11, 12)})
    first, eleventh, last = shop.records["orders"]
    first["lineitems"] = [{"sku": f"s{n}", "total": f"{n}.10"} for n in range(1, 13)]
    eleventh["lineitems"] = [{"sku": "t", "total": "1e400", "variant_options": []}]
    last["line_items"] = [{"sku": "u", "quantity": 2, "total": 0.1}, "no object"]
    with shop.served() as server:
        on = reading(server, "orders", "order_lines")
        report = replicate(warehouse, on, at=NOON)
        assert (of(report, "order_lines").inserted, of(report, "order_lines").rejected) == (14, 2)
        assert lines(warehouse, "order_id", "line_number", "sku", "total")[9:] == [
            ("000001", 10, "s10", Decimal("10.1")),
            ("000001", 11, "s11", Decimal("11.1")),
            ("000001", 12, "s12", Decimal("12.1")),
            ("000011", 1, "t", None),
            ("000012", 1, "u", Decimal("0.1")),
        ]
        first["lineitems"] = first["lineitems"][1:]
        report = replicate(warehouse, on, at=NOON + HOUR, full=True)

    counts = of(report, "order_lines")
    assert (counts.updated, counts.removed, counts.unchanged) == (11, 1, 2)
    assert lines(warehouse, "sku")[:2] == [("s2",), ("s3",)]
    assert replay(config(warehouse, on)) == 0


def test_the_lines_of_an_erased_customers_orders_go(warehouse: Path) -> None:
    """Though no line names the customer."""
    shop = Endpoints({"orders": orders(1, 2, customer_id="c1") + orders(3, 3, customer_id="c2")})
    for order in shop.records["orders"]:
        order["lineitems"] = [{"sku": "s"}, {"sku": "t"}]
    with shop.served() as server:
        on = reading(server, "orders", "order_lines")
        replicate(warehouse, on, at=NOON)
        held = read_held(config(warehouse, on), ids_of(customer_ids=["c1"]))["uk"]
        assert (len(held["orders"]), len(held["order_lines"])) == (2, 4)
        (receipt,) = erase(config(warehouse, on), ids_of(customer_ids=["c1"]), clock=lambda: NOON)
        assert receipt.rows["order_lines"] == 4
        replicate(warehouse, on, at=NOON + HOUR, full=True)

    assert lines(warehouse, "order_id") == [("000003",), ("000003",)]


def test_lines_are_read_whole_when_they_are_behind_their_orders(warehouse: Path) -> None:
    """Orders are read from the end of the last read on, which tells nothing of their lines."""
    shop = Endpoints({"orders": orders(1, 300)})
    with shop.served() as server:
        on, off = (reading(server, *names) for names in (("orders", "order_lines"), ("orders",)))
        replicate(warehouse, on, at=NOON)
        shop.records["orders"] += [{**order, "lineitems": [{}]} for order in orders(301, 305)]
        replicate(warehouse, off, at=NOON + DAY)
        replicate(warehouse, on, at=NOON + DAY + HOUR)

    assert len(lines(warehouse, "order_id")) == 5


def test_orders_that_the_key_may_not_read_are_a_warning_for_both(warehouse: Path) -> None:
    """Unless the lines are required."""
    with Endpoints({}, {"orders": 403}).served() as server:
        on = reading(server, "orders", "order_lines", "lists")
        report = replicate(warehouse, on, at=NOON)
        assert any(warning.startswith("orders: it could not be") for warning in report.warnings)
        with pytest.raises(Exception, match="403"):
            replicate(warehouse, replace(on, require=("order_lines",)), at=NOON)


# --- the rest ----------------------------------------------------------------------------------


def test_a_table_that_cannot_be_inside_another_is_refused() -> None:
    """With the reason, when it is declared."""
    for wrong, reason in (
        (replace(PROFILE_TAGS, sync_key=md5("source_id", "tag")), "the key need profiles::id"),
        (replace(PROFILE_TAGS, read=Inside("profiles", "tags", parent_id="x")), "is not x"),
        (replace(PROFILE_TAGS, read=Inside("email_events", "tags")), "not read from the API"),
    ):
        with pytest.raises(ConfigError, match=reason):
            Catalog((PROFILES, EMAIL_EVENTS, wrong))
    assert isinstance(EMAIL_EVENTS.read, Feed)


def test_they_are_shown_checked_and_counted_as_tables(
    tagged: Account, server: Server, warehouse: Path
) -> None:
    """With the array as their source, and no endpoint of their own."""
    on = settings(server)
    replicate(warehouse, on, at=tagged.now)
    (status,) = [
        each for each in read_state(config(warehouse, on)).tables if each.table == "profile_tags"
    ]
    assert (status.rows, status.read_until) == (6, watermark_of(warehouse, "profiles"))
    assert not [finding for finding in check(config(warehouse, on)) if finding.error]
    text = describe(["order_lines"], "text", catalog=CATALOG.every)
    assert "from the array lineitems inside each record of orders" in text
    assert f"key: {ORDER_LINES.sync_key}" in text
    diagram = describe((), "mermaid", catalog=CATALOG.every)
    assert 'orders ||--o{ order_lines : "order_id"' in diagram


def test_a_dry_run_counts_them(tagged: Account, server: Server, warehouse: Path) -> None:
    """And writes nothing."""
    report: RunReport = replicate(warehouse, settings(server), at=tagged.now, dry_run=True)
    assert of(report, "profile_tags").inserted == 6
    with open_warehouse(f"duckdb:///{warehouse}", dry_run=True) as opened:
        assert opened.count(PROFILE_TAGS, ALL) == 0


# --- a whole account ---------------------------------------------------------------------------


def test_they_hold_what_a_whole_account_has(warehouse: Path) -> None:
    """As plain Python reads the records of the simulator; and so they do after two months."""
    shop = Account.create(profiles=150, lists=2, email_events=0, now=NOON, history_days=60)
    names = (*FIVE, "orders", *(table.name for table in NESTED_TABLES))
    expected = {
        "profile_tags": Expected(TAGS), "profile_identities": Expected(IDENTITIES),
        "profile_lists": Expected(LISTS), "order_lines": Expected(LINES),
    }  # fmt: skip
    with serve(shop, requests_per_second=None) as server:
        on = account(server, tables=names, deletes="remove", max_deleted_share=1.0)
        for full in (False, True):
            report = replicate(warehouse, on, at=shop.now, full=full)
            assert not report.rejected
            records = [profile.record() for profile in shop.profiles]
            lines = [shop.shop.order_record(order) for order in shop.shop.orders]
            for name, each in expected.items():
                each.rows.clear()
                each.read(_as_sent(lines if name == "order_lines" else records))
                assert _rows(warehouse, name) == each.all(), name
            shop.advance(60 * DAY)
    assert len(_rows(warehouse, "order_lines")) > len(shop.shop.orders)


def _as_sent(records: list[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(json.dumps(records), parse_float=str)
    return found


def _rows(warehouse: Path, name: str) -> list[tuple[object, ...]]:
    rows = read_file(warehouse, f"ometria.{name}")
    lineage = {"_account_id", "__source_id", "__synced_at"}
    found = (tuple(row[column] for column in row if column not in lineage) for row in rows)
    return sorted(found, key=repr)
