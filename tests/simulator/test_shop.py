"""The reads of what the shop pushed: orders, products, contacts, custom events, push errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from ometria_simulator import ABSENT, Account, Quirks, Server, Shape, serve
from tests.simulator.client import ask, command, ids

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = timedelta(days=1)

# Fivetran's schema of Ometria, with the names before its renaming.
ORDER = [
    "id",
    "customer_id",
    "channel",
    "coupon_code",
    "currency",
    "discount",
    "grand_total",
    "ip_address",
    "is_valid",
    "payment_method",
    "shipping",
    "shipping_method",
    "status",
    "store",
    "subtotal",
    "tax",
    "timestamp",
    "total_refunded",
    "total_unit_quantity",
    "total_unit_quantity_refunded",
    "web_id",
]
LINE = [
    *["product_id", "quantity", "quantity_refunded", "sku", "variant_id", "variant_options"],
    *(
        prefix + name
        for prefix in ("", "base_", "local_")
        for name in ["currency", "discount", "refunded", "subtotal", "tax", "total", "unit_price"]
    ),
]
PRODUCT = [
    "id",
    "currency",
    "image_url",
    "is_active",
    "is_in_stock",
    "is_variant",
    "price",
    "properties",
    "sku",
    "special_price",
    "special_price_dt_from",
    "special_price_dt_to",
    "title",
    "url",
    "stores",
    "attributes",
    "listings",
]
CONTACT = [
    "id",
    "collection",
    "customer_id",
    "profile_id",
    "dt_object_created",
    "dt_object_observed",
    "dt_object_updated",
    "dt_observed",
    "email",
    "marketing_optin",
    "object_version",
    "phone_number",
    "source",
    "store_ids",
]
CUSTOM_EVENT = [
    "id",
    "profile_id",
    "dt_observed",
    "event_type",
    "identity_account_id",
    "identity_email",
    "timestamp",
]
PUSH_ERROR = [
    "request_id",
    "record_type",
    "record_id",
    "record",
    "customer_id",
    "account",
    "source",
    "timestamp",
    "timestamp_acquired",
    "message",
]


@pytest.fixture(scope="module")
def open_shop() -> Iterator[Server]:
    """Serve a shop with a history, which no test changes."""
    account = Account.create(profiles=200, lists=2, email_events=50)
    with serve(account, requests_per_second=None) as server:
        yield server


def everything(server: Server, path: str) -> list[Any]:
    """Read all pages of a path."""
    found: list[Any] = []
    while page := ask(server, path, limit=250, offset=len(found)).data:
        found += page
    return found


def names(records: list[Any]) -> set[str]:
    return {name for record in records for name in record} - {"@type"}


def test_an_order_has_the_fields_of_fivetran(open_shop: Server) -> None:
    """Orders and their lines have all fields of Fivetran's tables, before its renaming."""
    orders = everything(open_shop, "/orders")
    lines = [line for order in orders for line in order.get("lineitems") or []]

    assert names(orders) - {"gift_message"} == {*ORDER, "lineitems"}
    assert names(lines) == set(LINE)
    options = [option for line in lines for option in line["variant_options"]]
    assert names(options) == {"id", "type", "label"}
    assert ask(open_shop, f"/orders/{orders[7]['id']}").data == orders[7]
    assert len({order["id"] for order in orders}) == len(orders)
    assert [order["timestamp"] for order in orders] == sorted(o["timestamp"] for o in orders)


def test_some_orders_lack_lines_or_a_customer() -> None:
    """The array is empty, null or absent in a few orders, and guests have no customer id."""
    account = Account.create(profiles=1_000, lists=0, email_events=0)
    records = [account.shop.order_record(order) for order in account.shop.orders]

    assert any("lineitems" not in record for record in records)
    assert any(record.get("lineitems", 0) is None for record in records)
    assert any(record.get("lineitems") == [] for record in records)
    assert any(record["customer_id"] is None for record in records)
    assert {type(record["grand_total"]) for record in records} == {int, float}
    customers = {profile.fields.get("customer_id") for profile in account.profiles}
    assert {record["customer_id"] for record in records} <= customers


def test_products_are_active_or_not(open_shop: Server) -> None:
    """``active`` selects; without it both are returned, with the fields of Fivetran."""
    products = everything(open_shop, "/products")

    active = ids(ask(open_shop, "/products", limit=250, active="true"))
    inactive = ids(ask(open_shop, "/products", limit=250, active="false"))
    assert active == [product["id"] for product in products if product["is_active"]]
    assert set(inactive) == {product["id"] for product in products} - set(active)
    assert active
    assert inactive
    assert len(ids(ask(open_shop, "/products"))) == 10
    assert names(products) == set(PRODUCT)
    assert ask(open_shop, f"/products/{active[0]}").data in products
    assert ask(open_shop, "/products", active="maybe").status == 400


def test_contacts_are_in_collections(open_shop: Server) -> None:
    """Each collection has as many contacts as it says; ids are unique within it only."""
    collections = ask(open_shop, "/contacts").data
    found = {
        each["collection"]: everything(open_shop, f"/contacts/{quote(each['collection'])}")
        for each in collections
    }

    assert {c["collection"]: c["count"] for c in collections} == {
        name: len(contacts) for name, contacts in found.items()
    }
    assert [set(each) for each in collections] == [{"collection", "count"}] * 3
    numbers = [contact["id"] for contacts in found.values() for contact in contacts]
    assert len(set(numbers)) < len(numbers)
    for name, contacts in found.items():
        assert names(contacts) == set(CONTACT)
        assert len({contact["id"] for contact in contacts}) == len(contacts)
        assert {contact["collection"] for contact in contacts} == {name}
    last = found["checkout"][-1]
    assert ask(open_shop, f"/contacts/checkout/{last['id']}").data == last
    people = {profile.id for profile in open_shop.account.profiles}
    assert {contact["profile_id"] for c in found.values() for contact in c} == people


def test_custom_events_have_custom_keys(open_shop: Server) -> None:
    """They have the fields of Fivetran, in the order of time, and some have keys of their own."""
    events = everything(open_shop, "/custom-events")

    assert names(events) == {*CUSTOM_EVENT, "points", "basket"}
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    assert len({event["id"] for event in events}) == len(events)
    assert times[-1] <= open_shop.account.now.isoformat()


def test_only_the_newest_hundred_push_errors_are_shown(open_shop: Server) -> None:
    """They are newest first and have no pages; the account knows all that there were."""
    errors = ask(open_shop, "/push/_errors", limit=5, offset=5).data

    assert names(errors) == set(PUSH_ERROR)
    assert len(errors) == 100
    assert set(errors[0]["message"]) == {"error_message", "error_path"}
    times = [error["timestamp"] for error in errors]
    assert times == sorted(times, reverse=True)
    every = open_shop.account.shop.push_errors
    assert len(every) > 800
    assert [error.record() for error in every[:100]] == errors


def test_push_errors_come_as_time_passes(shop: Account) -> None:
    """Errors that were shown once are pushed out by new ones, and none changes."""
    before = [error.record() for error in shop.shop.push_errors]

    shop.advance(10 * DAY)

    after = [error.record() for error in shop.shop.push_errors]
    assert after[-len(before) :] == before
    assert 40 < len(after) - len(before) < 60


@pytest.mark.parametrize(
    "path",
    ["/orders/0", "/products/0", "/contacts/none", "/contacts/customers/0", "/contacts/none/1"],
)
def test_what_does_not_exist_is_a_404(open_shop: Server, path: str) -> None:
    """Orders, products, collections and contacts that do not exist return 404."""
    assert ask(open_shop, path).status == 404


def test_an_account_without_a_history_has_an_empty_shop(account: Account, server: Server) -> None:
    """All lists are empty, also when there are profiles."""
    account.add_profile(id="a", email="a@example.com", stats={"orders": 2})

    for path in ("/orders", "/products", "/contacts", "/custom-events", "/push/_errors"):
        assert ask(server, path).data == []


def test_an_order_counts_in_the_stats_of_its_profile(account: Account, server: Server) -> None:
    """An added order counts; refunds leave the stats; cancellation and deletion take it away."""
    account.add_profile(id="a", customer_id="7")
    shop = account.shop

    def stats() -> Any:
        return ask(server, "/profiles/a").data["stats"]

    shop.add_order("1", profile_id="a", grand_total="12.50", quantity=3, lineitems=[{"sku": "x"}])
    shop.add_order("2", profile_id="a", grand_total=100, gift=ABSENT, channel=ABSENT)
    both = {"orders_attempted": 2, "orders": 2, "revenue": 112.5, "aov": 56.25, "total_items": 4}
    assert stats() == both
    shop.refund_order("2")
    [first, second] = ask(server, "/orders").data
    assert (first["lineitems"], first["customer_id"]) == ([{"sku": "x"}], "7")
    assert (second["status"], second["total_refunded"]) == ("refunded", 100)
    assert "channel" not in second
    assert stats() == both
    shop.cancel_order("2")
    assert stats() == {**both, "orders": 1, "revenue": 12.5, "aov": 12.5, "total_items": 3}
    shop.delete_order("2")
    assert stats()["orders_attempted"] == 1
    assert ids(ask(server, "/orders")) == ["1"]
    shop.update_order("1", status="lost", coupon_code="X")
    assert ask(server, "/orders/1").data["status"] == "lost"
    assert ask(server, "/orders/1").data["coupon_code"] == "X"
    shop.update_order("1", grand_total=20)
    assert stats()["revenue"] == 20
    shop.update_order("1", is_valid=False, ip_address=ABSENT)
    assert (stats()["orders"], stats()["orders_attempted"]) == (0, 1)
    assert ask(server, "/orders/1").data["is_valid"] is False


def test_orders_and_contacts_are_filtered_and_sorted_by_update(
    account: Account, server: Server
) -> None:
    """``updateSince`` and ``orderby`` work by default, and quirks ignore them."""
    for number in ("1", "2", "3"):
        account.shop.add_order(number)
        account.shop.add_contact("c", number, email=f"{number}@example.com")
    account.set_time(account.now + 2 * DAY)
    today = f"{account.now:%Y-%m-%d}"
    account.shop.update_order("1", store="new")
    account.shop.update_contact("c", "1", email="new@example.com")

    for path, endpoint in (("/orders", "orders"), ("/contacts/c", "contacts")):
        server.quirks = Quirks()
        assert ids(ask(server, path, updateSince=today)) == ["1"]
        assert ids(ask(server, path, orderby="timestamp_update")) == ["2", "3", "1"]
        ignored: frozenset[Any] = frozenset({endpoint})
        server.quirks = Quirks(update_since_on=frozenset({"profiles"}), ignore_orderby=ignored)
        everything = ids(ask(server, path, updateSince=today, orderby="timestamp_update"))
        assert everything == ["1", "2", "3"]
        server.quirks = Quirks(reversed_order=ignored, silent_caps={endpoint: 2})  # type: ignore[dict-item]
        assert ids(ask(server, path)) == ["3", "2"]
    [first, *_] = ask(server, "/contacts/c", limit=1, offset=2).data
    assert first["dt_object_updated"] == "2026-03-04T09:00:00+00:00"
    assert first["dt_object_created"] == "2026-03-02T09:00:00+00:00"


def test_a_contact_changes_with_its_profile(shop: Account) -> None:
    """The contact of a profile has its address; it goes with it, merged, deleted or anonymised."""
    contacts = [c for c in shop.shop.contacts("customers") if c.fields["email"]]
    first, second, third = (contact.profile_id or "" for contact in contacts[:3])

    def addresses() -> dict[str | None, object]:
        return {c.profile_id: c.fields["email"] for c in shop.shop.contacts("customers")}

    shop.update_profile(first, email="new@example.com")
    shop.merge_profiles(first, [second])
    shop.anonymise_profile(third)

    assert addresses()[first] == "new@example.com"
    assert second not in addresses()
    assert str(addresses()[third]).endswith("@anonymous.ometria")


def test_a_collection_can_vanish_and_come_back(account: Account, server: Server) -> None:
    """Its paths return 404, its contacts are gone, and a new one is empty."""
    account.shop.add_contact("till", "1")
    account.shop.add_contact("web", "1", store_ids=["1"])

    account.shop.delete_collection("till")
    assert ask(server, "/contacts").data == [{"collection": "web", "count": 1}]
    assert ask(server, "/contacts/till").status == 404
    account.shop.add_collection("till")
    assert ask(server, "/contacts").data[1] == {"collection": "till", "count": 0}
    assert ask(server, "/contacts/till").data == []
    account.shop.delete_contact("web", "1")
    assert ask(server, "/contacts/web/1").status == 404
    with pytest.raises(KeyError):
        account.shop.update_contact("web", "1", email="a@example.com")


def test_derived_contacts_and_events_can_be_deleted(shop: Account) -> None:
    """A deleted contact or custom event of a profile stays away, and added ones are unique."""
    contact = shop.shop.contacts("customers")[0]
    event = shop.shop.custom_events[0]
    before = shop.shop.counts()

    shop.shop.delete_contact("customers", contact.id)
    shop.shop.delete_custom_event(event.id)

    after = shop.shop.counts()
    assert after["contacts"] == before["contacts"] - 1
    assert after["custom_events"] == before["custom_events"] - 1
    assert shop.shop.collections["customers"] == len(shop.shop.contacts("customers"))
    with pytest.raises(ValueError, match="exists already"):
        shop.shop.add_contact("customers", shop.shop.contacts("customers")[0].id)


def test_an_order_deleted_between_pages_hides_another(account: Account, server: Server) -> None:
    """After a delete on page one, page two starts one order too late, as with profiles."""
    numbers = [account.shop.add_order(f"{n}").id for n in range(20)]
    first = ids(ask(server, "/orders"))
    account.shop.delete_order(first[0])

    assert numbers[10] not in first + ids(ask(server, "/orders", offset=10))


def test_the_form_of_an_order_is_configurable(account: Account, server: Server) -> None:
    """Quirks set the form of amounts and times, the name of the array, the customer's id."""
    account.add_profile(id="a", customer_id="7")
    account.shop.add_order("1", profile_id="a", grand_total="12.50")

    def raw() -> str:
        return ask(server, "/orders").text

    assert '"grand_total":12.5,' in raw()
    server.quirks = Quirks(money_form="two_decimals", line_items_name="items")
    assert '"grand_total":12.50,' in raw()
    assert '"items":[{' in raw()
    server.quirks = Quirks(money_form="text", order_customer_id="profile_id")
    assert '"grand_total":"12.50",' in raw()
    assert '"customer_id":"a"' in raw()
    server.quirks = Quirks(numbers_as_strings=True, timestamp_forms={"orders": "postgres"})
    assert '"grand_total":"12.5"' in raw()
    assert '"timestamp":"2026-03-02 09:00:00+00"' in raw()
    order = account.shop.order("1")
    assert account.shop.order_record(order, Shape(money_form="text"))["grand_total"] == "12.50"


def test_fields_can_be_absent_or_null_on_any_endpoint(account: Account, server: Server) -> None:
    """Quirks remove fields or set them to null, in arrays and in single records."""
    account.shop.add_order("1")
    account.add_profile(id="a", tags=["x"], gender="f")
    account.add_list(id="1")
    server.quirks = Quirks(
        absent_fields={"orders": frozenset({"lineitems"}), "lists": frozenset({"size"})},
        null_fields={"orders": frozenset({"tax", "nothing"}), "profiles": frozenset({"tags"})},
    )

    for order in (ask(server, "/orders/1").data, *ask(server, "/orders").data):
        assert "lineitems" not in order
        assert order["tax"] is None
        assert "nothing" not in order
    assert ask(server, "/profiles").data[0]["tags"] is None
    assert "size" not in ask(server, "/lists/1").data


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/orders", "orders"),
        ("/products", "products"),
        ("/contacts", "collections"),
        ("/contacts/customers", "contacts"),
        ("/custom-events", "custom-events"),
    ],
)
def test_each_collection_has_pages_and_their_quirks(
    open_shop: Server, path: str, endpoint: Any
) -> None:
    """A page is a slice; quirks ignore the limit or offset, cut silently, reverse and freeze."""
    with serve(open_shop.account, requests_per_second=None) as server:

        def page(quirks: Quirks, **query: int) -> list[Any]:
            server.quirks = quirks
            found: list[Any] = ask(server, path, **query).data  # type: ignore[arg-type]
            return found

        whole = page(Quirks(), limit=250)
        one: frozenset[Any] = frozenset({endpoint})
        assert page(Quirks(), limit=2, offset=1) == whole[1:3]
        assert page(Quirks(ignore_limit=one), limit=2) == whole[:10]
        assert page(Quirks(ignore_offset=one), limit=2, offset=1) == whole[:2]
        assert page(Quirks(silent_caps={endpoint: 1}), limit=2, offset=1) == whole[1:2]
        assert page(Quirks(max_offset=0), limit=2, offset=1) == []
        assert page(Quirks(paged=frozenset({"profiles"})), limit=1)[: len(whole)] == whole
        assert page(Quirks(reversed_order=one), limit=2) != whole[:2]
        assert page(Quirks(frozen_first_page=one), limit=2) == whole[:2]
        assert ask(server, path, limit=3, offset=2).data == whole[:2]


@pytest.mark.parametrize(
    "path",
    ["/orders", "/orders/1", "/products", "/contacts", "/custom-events", "/push/_errors"],
)
def test_an_endpoint_can_be_forbidden_or_absent(server: Server, path: str) -> None:
    """A quirk returns 403 or 404 for one endpoint, and the others answer."""
    endpoint: Any = {"/contacts": "collections", "/push/_errors": "push-errors"}.get(
        path, path.split("/")[1]
    )
    server.account.shop.add_order("1")

    server.quirks = Quirks(no_rights=frozenset({endpoint}))
    assert ask(server, path).status == 403
    server.quirks = Quirks(absent_endpoints=frozenset({endpoint}))
    assert ask(server, path).status == 404
    assert ask(server, "/profiles").status == 200
    server.quirks = Quirks()
    assert ask(server, path).status == 200


def test_a_page_of_profiles_can_show_lists(account: Account, server: Server) -> None:
    """With a quirk, pages show the ``lists`` that only the single profile shows by default."""
    account.add_profile(id="a")
    account.add_profile(id="b")
    account.add_list(id="1", title="VIP")
    account.refresh_list("1", enter=["a"])
    server.quirks = Quirks(only_on_single_profile=frozenset())

    first, second = ask(server, "/profiles").data

    assert (
        first["lists"] == [{"id": "1", "title": "VIP", "type": "STATIC"}] == account.lists_of("a")
    )
    assert second["lists"] == []


def test_another_process_can_change_the_shop(account: Account, server: Server) -> None:
    """The control plane adds, changes and deletes what the shop pushed, and counts it."""

    def mutate(method: str, **rest: object) -> Any:
        answer = command(server, "mutate", {"method": method, **rest})
        assert answer.status == 200, answer.text
        return answer.data

    at = {"at": "2026-01-02T03:04:05Z", "grand_total": "9.99"}
    assert mutate("add_order", id="1", arguments=at)["timestamp"] == "2026-01-02T03:04:05+00:00"
    mutate("update_order", id="1", arguments={"lineitems": {"$absent": True}})
    mutate("add_product", id="p", arguments={"title": "Mug", "is_active": True})
    mutate("add_contact", collection="c", id="9", arguments={"email": "a@example.com"})
    mutate("update_contact", collection="c", id="9", arguments={"email": "b@example.com"})
    mutate("add_custom_event", id="e", arguments={"event_type": "x", "points": 2})
    mutate("add_push_error", id="1")
    quirks = {"no_rights": ["products"], "absent_fields": {"orders": ["tax"]}}
    assert command(server, "quirks", quirks).status == 200

    [order] = ask(server, "/orders").data
    assert "lineitems" not in order
    assert "tax" not in order
    assert ask(server, "/products").status == 403
    assert ask(server, "/contacts/c/9").data["email"] == "b@example.com"
    state = command(server, "state", method="GET").data
    kinds = ("orders", "products", "collections", "contacts", "custom_events", "push_errors")
    assert [state[kind] for kind in kinds] == [1] * 6
    mutate("delete_contact", collection="c", id="9")
    assert ask(server, "/contacts/c").data == []


def test_custom_events_appear_as_time_passes(shop: Account) -> None:
    """New events are at the end, and those of a deleted profile disappear."""
    before = [event.id for event in shop.shop.custom_events]
    shop.set_time(datetime(2026, 5, 1, tzinfo=UTC))

    after = shop.shop.custom_events
    assert [event.id for event in after][: len(before)] == before
    assert len(after) > len(before)
    shop.delete_profile(after[-1].profile_id or "")
    assert after[-1].id not in {event.id for event in shop.shop.custom_events}
