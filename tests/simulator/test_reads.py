"""The reads of ``/v2``: pages, order, dates, modes, windows, errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ometria_simulator import Account, Quirks, Server, serve
from tests.simulator.client import ask, ids

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = timedelta(days=1)


@pytest.fixture
def many(account: Account) -> list[str]:
    """Add 260 profiles and return their ids in order."""
    return [account.add_profile(email=f"p{n}@example.com").id for n in range(260)]


def test_a_page_has_ten_records_by_default_and_250_at_most(server: Server, many: list[str]) -> None:
    """Without a limit a page has 10 profiles; a limit above 250 counts as 250."""
    assert ids(ask(server, "/profiles")) == many[:10]
    assert ids(ask(server, "/profiles", limit=250)) == many[:250]
    assert ids(ask(server, "/profiles", limit=251)) == many[:250]


def test_a_limit_above_the_maximum_can_be_an_error(server: Server, many: list[str]) -> None:
    """A limit above 250 is undocumented; a quirk returns 400."""
    server.quirks = Quirks(above_max_limit="reject")

    assert ask(server, "/profiles", limit=251).status == 400
    assert ask(server, "/profiles", limit=250).status == 200


def test_the_path_of_profiles_may_end_with_a_slash(server: Server, many: list[str]) -> None:
    """Both forms of the path return the same page."""
    assert ask(server, "/profiles/").body == ask(server, "/profiles").body


@pytest.fixture(scope="module")
def paged() -> Iterator[tuple[Server, list[str]]]:
    """Serve forty profiles for many requests."""
    account = Account()
    expected = [account.add_profile().id for _ in range(40)]
    with serve(account, requests_per_second=None) as server:
        yield server, expected


@given(limit=st.integers(1, 300), offset=st.integers(0, 60))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_page_is_a_slice_of_the_internal_order(
    paged: tuple[Server, list[str]], limit: int, offset: int
) -> None:
    """For any limit and offset, a page is that slice of all profiles in internal order."""
    server, expected = paged

    found = ids(ask(server, "/profiles", limit=limit, offset=offset))

    assert found == expected[offset : offset + min(limit, 250)]


@pytest.mark.parametrize("query", [{"limit": "ten"}, {"limit": 0}, {"offset": -1}])
def test_a_wrong_limit_or_offset_is_refused(server: Server, query: dict[str, Any]) -> None:
    """A limit or offset that is not a valid number returns 400, with a text that names it."""
    answer = ask(server, "/profiles", **query)

    assert answer.status == 400
    assert next(iter(query)) in answer.text


def test_update_since_is_a_day_and_includes_it(account: Account, server: Server) -> None:
    """``updateSince`` returns whole days, including updates before the time in it."""
    account.set_time(datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC))
    account.add_profile(id="day-before")
    account.set_time(datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC))
    account.add_profile(id="midnight")
    account.set_time(datetime(2026, 3, 2, 18, 0, 0, tzinfo=UTC))
    account.add_profile(id="evening")

    assert ids(ask(server, "/profiles", updateSince="2026-03-02")) == ["midnight", "evening"]
    at_noon = ask(server, "/profiles", updateSince="2026-03-02T12:00:00")
    assert ids(at_noon) == ["midnight", "evening"]
    assert ids(ask(server, "/profiles", updateSince="2026-03-03")) == []
    assert ask(server, "/profiles", updateSince="yesterday").status == 400


@pytest.mark.parametrize(
    ("quirks", "expected"),
    [
        (Quirks(update_since_inclusive=False), ["c"]),
        (Quirks(update_since_utc_offset_hours=2), ["a", "b", "c"]),
        (Quirks(update_since_utc_offset_hours=-2), ["c"]),
        (Quirks(ignore_update_since=True), ["long-ago", "a", "b", "c"]),
    ],
)
def test_the_day_of_update_since_is_configurable(
    account: Account, server: Server, quirks: Quirks, expected: list[str]
) -> None:
    """The time zone and the inclusion of the day are undocumented, so quirks set both."""
    midnight = datetime(2026, 3, 3, tzinfo=UTC)
    hours = {"long-ago": -40, "a": -1, "b": 1, "c": 25}
    for profile_id, hour in hours.items():
        account.set_time(midnight + timedelta(hours=hour))
        account.add_profile(id=profile_id)
    server.quirks = quirks

    assert ids(ask(server, "/profiles", updateSince="2026-03-03")) == expected


def test_orderby_moves_updated_profiles_to_the_end(account: Account, server: Server) -> None:
    """The default order is stable; with ``orderby=timestamp_update`` an update moves to the end."""
    for profile_id in ("a", "b", "c"):
        account.add_profile(id=profile_id)
    account.update_profile("a", firstname="Ann")

    assert ids(ask(server, "/profiles")) == ["a", "b", "c"]
    assert ids(ask(server, "/profiles", orderby="timestamp_update")) == ["b", "c", "a"]


def test_no_response_shows_the_update_time_of_a_profile(shop: Account) -> None:
    """The update time and the internal id determine orders, and the API never shows them."""
    with serve(shop, requests_per_second=None) as server:
        fields = {name for record in ask(server, "/profiles", limit=250).data for name in record}

    assert not {"update_since", "updated_at", "internal_id", "created_at"} & fields
    assert "lifecycle_status" in fields


def test_entering_a_list_is_not_an_update(account: Account, server: Server) -> None:
    """A refresh records the entry, and ``updateSince`` does not return the profile."""
    account.add_profile(id="a", email="a@example.com")
    account.add_list(id="1")
    account.set_time(account.now + 2 * DAY)
    today = f"{account.now:%Y-%m-%d}"

    account.refresh_list("1", enter=["a"])

    assert ids(ask(server, "/profiles", updateSince=today)) == []
    assert [change["event"] for change in ask(server, "/lists/1/changes").data] == ["list_enter"]
    assert ask(server, "/lists/1").data["size"] == 1


def test_a_profile_can_leave_and_enter_at_one_refresh(account: Account, server: Server) -> None:
    """The exit and the entry have the same timestamp."""
    account.add_profile(id="a", email="a@example.com")
    account.add_list(id="1")
    account.refresh_list("1", enter=["a"])
    account.set_time(account.now + DAY)

    account.refresh_list("1", leave=["a"], enter=["a"])

    changes = ask(server, "/lists/1/changes").data[1:]
    assert [change["event"] for change in changes] == ["list_exit", "list_enter"]
    assert len({change["timestamp"] for change in changes}) == 1


def test_a_single_profile_shows_its_lists(account: Account, server: Server) -> None:
    """The single profile contains its lists, and a page of profiles does not by default."""
    account.add_profile(id="a", email="a@example.com")
    account.add_list(id="1", title="VIP")
    account.refresh_list("1", enter=["a"])
    expected = [{"id": "1", "title": "VIP", "type": "STATIC"}]

    assert ask(server, "/profiles/a").data["lists"] == expected
    assert "lists" not in ask(server, "/profiles").data[0]


def test_one_address_can_return_several_profiles(account: Account, server: Server) -> None:
    """``?email=`` returns an array, as an address is not unique; it ignores case."""
    account.add_profile(id="a", email="Ann+x@example.com")
    account.add_profile(id="b", email="ann+x@example.com")
    account.add_profile(id="c")

    assert ids(ask(server, "/profiles", email="ann+x@EXAMPLE.com")) == ["a", "b"]
    assert ask(server, "/profiles", email="nobody@example.com").status == 404
    server.quirks = Quirks(email_lookup="object")
    assert ask(server, "/profiles", email="ann+x@example.com").data["id"] == "a"


def test_merged_and_deleted_profiles_leave_no_tombstone(account: Account, server: Server) -> None:
    """Merged and deleted profiles disappear; the survivor stays and is updated."""
    for profile_id in ("a", "b", "c", "d"):
        account.add_profile(id=profile_id, stats={"orders": 2, "revenue": 10.5})
    account.set_time(account.now + DAY)

    account.merge_profiles("b", ["a", "c"])
    account.delete_profile("d")

    [survivor] = ask(server, "/profiles").data
    assert survivor["id"] == "b"
    assert survivor["stats"]["orders"] == 6
    assert survivor["stats"]["revenue"] == 31.5
    assert ids(ask(server, "/profiles", updateSince=f"{account.now:%Y-%m-%d}")) == ["b"]
    missing = ask(server, "/profiles/a")
    assert (missing.status, missing.text) == (404, "List with specified ID was not found")


def test_a_delete_between_pages_hides_a_profile(server: Server, many: list[str]) -> None:
    """After a delete on page one, page two starts one profile too late."""
    first = ids(ask(server, "/profiles", limit=10))
    server.account.delete_profile(first[0])
    second = ids(ask(server, "/profiles", limit=10, offset=10))

    assert many[10] not in first + second


def test_mode_selects_active_or_archived_lists(account: Account, server: Server) -> None:
    """The default is active lists; ``mode`` selects the archived ones or all."""
    for list_id in ("1", "2", "3"):
        account.add_list(id=list_id)
    account.archive_list("2")

    assert ids(ask(server, "/lists")) == ["1", "3"]
    assert ids(ask(server, "/lists", mode="active")) == ["1", "3"]
    assert ids(ask(server, "/lists", mode="archived")) == ["2"]
    assert ids(ask(server, "/lists", mode="all")) == ["1", "2", "3"]
    assert ask(server, "/lists", mode="none").status == 400


def test_a_deleted_list_has_no_changes(account: Account, server: Server) -> None:
    """A list deleted between ``/lists`` and ``/changes`` returns 404 on both paths."""
    account.add_list(id="1")
    account.delete_list("1")

    assert ask(server, "/lists/1").status == 404
    assert ask(server, "/lists/1/changes").status == 404


def test_changes_since_includes_its_time(account: Account, server: Server) -> None:
    """``since`` returns changes at that second or later; without it, all changes."""
    account.add_list(id="1")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for days in range(3):
        account.add_change("1", f"p{days}", "list_enter", at=start + days * DAY)

    def people(**query: Any) -> list[str]:
        return [change["profile_id"] for change in ask(server, "/lists/1/changes", **query).data]

    assert people() == ["p0", "p1", "p2"]
    assert people(since="2026-01-02") == ["p1", "p2"]
    assert people(since="2026-01-02T00:00:01") == ["p2"]
    server.quirks = Quirks(changes_since_param="from")
    assert people(since="2026-01-02") == ["p0", "p1", "p2"]
    assert people(**{"from": "2026-01-02"}) == ["p1", "p2"]


@pytest.mark.parametrize(
    ("quirks", "expected"),
    [
        (Quirks(), ["p1", "p2"]),
        (Quirks(before_inclusive=True), ["p1", "p2", "p3"]),
        (Quirks(since_inclusive=False), ["p2"]),
        (Quirks(since_inclusive=False, before_inclusive=True), ["p2", "p3"]),
    ],
)
def test_the_bounds_of_unsubscribes_are_configurable(
    account: Account, server: Server, quirks: Quirks, expected: list[str]
) -> None:
    """The inclusion of ``since`` and ``before`` is undocumented, so quirks set both."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for days in range(5):
        account.add_unsubscribe(f"p{days}", at=start + days * DAY)
    server.quirks = quirks

    window: dict[str, Any] = {"since": "2026-01-02T00:00:00", "before": "2026-01-04T00:00:00"}
    found = ask(server, "/unsubscribes", **window).data

    assert [record["profile_id"] for record in found] == expected


def test_opt_outs_by_api_are_never_shown(account: Account, server: Server) -> None:
    """``/unsubscribes`` omits opt-outs through the API, and can return one type only."""
    account.add_unsubscribe("a", "api", email_address="a@example.com")
    account.add_unsubscribe("b", "app", email_address="b@example.com")
    account.add_unsubscribe("c", "stopword_unsubscribe_TF", email_address="")

    assert [r["profile_id"] for r in ask(server, "/unsubscribes").data] == ["b", "c"]
    assert [r["profile_id"] for r in ask(server, "/unsubscribes", type="app").data] == ["b"]
    assert ask(server, "/unsubscribes", type="api").data == []
    assert len(account.unsubscribes) == 3
    assert len(account.unsubscribes_visible()) == 2


def requests_of(server: Server, **query: Any) -> list[str]:
    """Return the comments of the deletion requests in the order of the response."""
    return [record["comment"] for record in ask(server, "/data-deletion-requests", **query).data]


def test_a_deletion_request_anonymises_when_it_is_completed(
    account: Account, server: Server
) -> None:
    """Until then it has no completion time; then it anonymises all profiles with the address."""
    personal: dict[str, Any] = {
        "firstname": "Ann",
        "lastname": "Lee",
        "phone_number": "+44",
        "customer_id": "7",
    }
    for profile_id, email in (("a", "Ann@example.com"), ("b", "ann@EXAMPLE.com")):
        account.add_profile(
            id=profile_id, email=email, stats={"orders": 2}, properties={"zip": "1"}, **personal
        )
    account.add_profile(id="c", email="other@example.com", firstname="Ann")
    account.set_time(account.now + DAY)

    account.request_deletion("ann@example.com", completed_after=3 * DAY)

    [request] = ask(server, "/data-deletion-requests").data
    assert (request["timestamp_completed"], request["summary"]) == (None, None)
    assert ask(server, "/profiles/a").data["firstname"] == "Ann"
    account.advance(4 * DAY)
    [request] = ask(server, "/data-deletion-requests").data
    hashed = request["identities"][0]["hashed_email"]
    assert request["timestamp_completed"] == "2026-03-06 09:00:00.000000+00"
    assert request["summary"] == "2 contact records anonymised"
    for profile_id in ("a", "b"):
        record = ask(server, f"/profiles/{profile_id}").data
        assert {name: record[name] for name in personal} == dict.fromkeys(personal)
        assert record["email"] == hashed
        assert record["identities"] == [{"id": hashed, "type": "email"}]
        assert record["stats"] == {"orders": 2}
        assert record["properties"] == {"zip": None}
    updated = ids(ask(server, "/profiles", updateSince="2026-03-06", limit=2))
    assert updated[:2] == ["a", "b"]
    assert account.profile("c").email == "other@example.com"


def test_a_deletion_request_may_remove_the_profile(account: Account, server: Server) -> None:
    """The documentation says removed or anonymised; a removed profile returns 404."""
    account.add_profile(id="a", email="ann@example.com")

    account.request_deletion("ann@example.com", completed_after=timedelta(), removes_profile=True)

    [request] = ask(server, "/data-deletion-requests").data
    assert request["summary"] == "1 contact record removed"
    assert request["timestamp_completed"] == "2026-03-02 09:00:00.000000+00"
    assert ask(server, "/profiles/a").status == 404


def test_a_deletion_request_may_name_several_addresses_or_none_that_exists(
    account: Account, server: Server
) -> None:
    """Each address has its hash, whether or not a profile has it; in the app there is no API id."""
    account.request_deletion(
        ["a@example.com", "b@example.com"], completed_after=timedelta(), origin="app"
    )

    [request] = ask(server, "/data-deletion-requests").data
    assert len({identity["hashed_email"] for identity in request["identities"]}) == 2
    assert request["summary"] == "0 contact records anonymised"
    assert request["source"] == {"api_request_id": None, "origin": "app", "user": None}


def test_deletion_requests_are_completed_within_14_days(account: Account) -> None:
    """By default, each request is completed at another time of the documented 14 days."""
    for number in range(20):
        account.request_deletion(f"{number}@example.com")
    assert [request.completed_at for request in account.deletion_requests] == [None] * 20

    account.set_time(account.now + 14 * DAY)

    waits = {
        request.completed_at - request.created_at
        for request in account.deletion_requests
        if request.completed_at
    }
    assert len(waits) == 20
    assert timedelta() <= min(waits) < max(waits) <= 14 * DAY


def test_deletion_requests_have_the_quirks_of_pages(account: Account) -> None:
    """Paging and order are undocumented: by default all requests, oldest first; quirks apply."""
    with serve(account, requests_per_second=None, deletion_requests_per_minute=None) as server:
        for number in range(4):
            account.request_deletion(
                f"{number}@example.com", completed_after=(4 - number) * DAY, comment=f"{number}"
            )
        account.set_time(account.now + 5 * DAY)
        newest = {"orderby": "timestamp_update"}

        assert requests_of(server) == ["0", "1", "2", "3"]
        assert requests_of(server, limit=2, offset=1) == ["0", "1", "2", "3"]
        assert requests_of(server, **newest) == ["3", "2", "1", "0"]
        endpoint: frozenset[Any] = frozenset({"data-deletion-requests"})
        server.quirks = Quirks(paged=endpoint)
        assert requests_of(server, limit=2, offset=1) == ["1", "2"]
        server.quirks = Quirks(paged=endpoint, ignore_offset=endpoint)
        assert requests_of(server, limit=2, offset=1) == ["0", "1"]
        server.quirks = Quirks(reversed_order=endpoint, ignore_orderby=endpoint)
        assert requests_of(server, **newest) == ["3", "2", "1", "0"]
        server.quirks = Quirks(silent_caps={"data-deletion-requests": 3})
        assert requests_of(server) == ["0", "1", "2"]
        server.quirks = Quirks(frozen_first_page=endpoint)
        assert requests_of(server) == ["0", "1", "2", "3"]
        account.request_deletion("late@example.com")
        assert requests_of(server) == ["0", "1", "2", "3"]


def test_a_deletion_request_that_does_not_exist_is_a_404(server: Server) -> None:
    """An empty id returns 404 too."""
    assert ask(server, "/data-deletion-requests/nothing").status == 404
    assert ask(server, "/data-deletion-requests/").status == 404


def test_lists_and_unsubscribes_have_no_pages(account: Account, server: Server) -> None:
    """``limit`` and ``offset`` have no effect where they are undocumented, except by a quirk."""
    for number in range(12):
        account.add_list(id=f"{number}")
        account.add_unsubscribe(f"p{number}")

    assert len(ask(server, "/lists", limit=5, offset=5).data) == 12
    assert len(ask(server, "/unsubscribes", limit=5, offset=5).data) == 12
    server.quirks = Quirks(paged=frozenset({"profiles", "lists"}))
    assert ids(ask(server, "/lists", limit=2, offset=5)) == ["5", "6"]


def test_a_response_can_be_cut_silently(account: Account, server: Server) -> None:
    """A silent cap returns the first records only, without a sign of the rest."""
    for number in range(12):
        account.add_unsubscribe(f"p{number}")
    server.quirks = Quirks(silent_caps={"unsubscribes": 5})

    answer = ask(server, "/unsubscribes")

    assert (answer.status, len(answer.data)) == (200, 5)


def test_a_page_can_repeat_for_ever(server: Server, many: list[str]) -> None:
    """An ignored offset or a frozen first response returns the same page for ever."""
    server.quirks = Quirks(ignore_offset=frozenset({"profiles"}))
    assert ids(ask(server, "/profiles", offset=50)) == many[:10]

    server.quirks = Quirks(frozen_first_page=frozenset({"profiles"}))
    before = ask(server, "/profiles", limit=20).body
    server.account.delete_profile(many[0])
    assert ask(server, "/profiles", limit=20, offset=20).body == before


def test_numbers_can_be_text_and_fields_absent(account: Account, server: Server) -> None:
    """Quirks return numbers as text, keep booleans, and remove fields."""
    account.add_profile(id="a", seen=True, stats={"orders": 2, "aov": 1.5}, gender="f")
    server.quirks = Quirks(numbers_as_strings=True, missing_fields=frozenset({"gender"}))

    [record] = ask(server, "/profiles").data

    assert record["stats"] == {"orders": "2", "aov": "1.5"}
    assert record["seen"] is True
    assert "gender" not in record


@pytest.mark.parametrize(
    "path", ["", "/", "/profile", "/lists/", "/lists/1/members", "/order", "/contacts/"]
)
def test_an_unknown_path_is_a_404(server: Server, path: str) -> None:
    """Undocumented paths do not exist, including the members of a list."""
    server.account.add_list(id="1")

    assert ask(server, path).status == 404
