"""Collections that change while they are read, and servers that differ from the documentation."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ometria_replica.errors import AccessDenied, NotFound, UnexpectedResponse
from ometria_replica.ometria.client import Client
from ometria_replica.ometria.offset_pages import read_pages
from ometria_replica.ometria.page_overlap import overlap_of
from ometria_replica.ometria.per_parent import Parent, read_per_parent
from ometria_replica.ometria.prefetch import IN_FLIGHT
from ometria_replica.ometria.time_windows import read_windows
from ometria_replica.tables import LISTS, MEMBER_LISTS, PROFILES, UNSUBSCRIBES
from ometria_simulator import Account, Fault, Quirks, serve
from tests.ometria.listener import (
    KEY,
    Asked,
    Clock,
    Reply,
    client_of,
    json_reply,
    listening,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ometria_replica.records import Page
    from tests.ometria.listener import Listener

Change = tuple[str, float, int]


@dataclass
class Shop:
    """
    A collection in a fixed order that changes after each request, as *changes* say.

    *page* is the most records that it gives at once, whatever was asked for.
    """

    order: list[str]
    page: int = 250
    changes: list[Change] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    gone: set[str] = field(default_factory=set)
    born: int = 0

    def answer(self, asked: Asked) -> Reply:
        """Give a page, then let the next change happen."""
        size = min(asked.limit, self.page)
        names = self.order[asked.offset : asked.offset + size]
        reply = json_reply([{"id": name, "version": self.versions[name]} for name in names])
        if self.changes:
            self.change(*self.changes.pop(0))
        return reply

    def change(self, kind: str, where: float, count: int) -> None:
        """Change *count* records, from so far along the collection."""
        at = int(where * len(self.order))
        if kind == "insert":
            new = [f"new{self.born + index}" for index in range(count)]
            self.born += count
            self.order[at:at] = new
        elif kind == "delete":
            self.gone |= set(self.order[at : at + count])
            del self.order[at : at + count]
        else:
            self.versions.update(self.order[at : at + count])


def shop_of(size: int, **given: Any) -> Shop:
    return Shop([f"p{index}" for index in range(size)], **given)


@contextmanager
def reading(answer: Callable[[Asked], Reply], folder: Path) -> Iterator[tuple[Listener, Client]]:
    with listening(answer) as server, client_of(server.url, folder) as client:
        yield server, client


def ids(pages: Iterable[Page]) -> list[str]:
    return [record["id"] for page in pages for record in page.records]


def offsets(server: Listener) -> list[int]:
    return [asked.offset for asked in server.asked]


def profiles(client: Client, since: date | None = None) -> Iterator[Page]:
    return read_pages(client, PROFILES.read, since=since)  # type: ignore[arg-type]


def lists(client: Client) -> Iterator[Page]:
    return read_pages(client, LISTS.read)  # type: ignore[arg-type]


# ---------------------------------------------------------------- a collection at rest


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 6, 100, 249, 250, 251, 495, 496, 1300])
@pytest.mark.parametrize("page", [250, 100, 10])
def test_every_record_comes_once(size: int, page: int, tmp_path: Path) -> None:
    """Whether the server obeys, clamps or ignores ``limit``: all records, none twice."""
    shop = shop_of(size, page=page)
    with reading(shop.answer, tmp_path) as (_, client):
        found = ids(profiles(client))

    assert sorted(set(found)) == sorted(shop.order)


def test_the_largest_page_is_always_requested(tmp_path: Path) -> None:
    """Ometria's default of ten would cost 25 times the requests."""
    with reading(shop_of(600).answer, tmp_path) as (server, client):
        list(profiles(client))

    assert {asked.query["limit"] for asked in server.asked} == {"250"}


@pytest.mark.parametrize(
    ("size", "requests"), [(0, 1), (1, 2), (2, 2), (30, 2), (250, 2), (400, 3)]
)
def test_a_small_collection_costs_few_requests(size: int, requests: int, tmp_path: Path) -> None:
    """A page is not requested ahead before it is likely to exist."""
    with reading(shop_of(size).answer, tmp_path) as (server, client):
        list(profiles(client))

    assert len(server.asked) == requests


def test_a_page_shorter_than_one_before_is_the_last(tmp_path: Path) -> None:
    """Without documented paging, an answer of 20 records after one of 30 is the last."""
    shop = shop_of(30)
    with reading(shop.answer, tmp_path) as (server, client):
        list(lists(client))
        asked_before = len(server.asked)
        del shop.order[20:]
        list(lists(client))

    assert len(server.asked) == asked_before + 1


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 900),
    page=st.sampled_from([25, 100, 250]),
    hidden=st.sets(st.integers(0, 899), max_size=40),
)
def test_a_short_page_in_the_middle_is_not_the_end(
    size: int, page: int, hidden: set[int], tmp_path: Path
) -> None:
    """Records that a server removes from a page after cutting it to size cost no others."""
    shop = shop_of(size, page=page)
    gone = {f"p{number}" for number in hidden}
    gaps = [run for run in runs(sorted(hidden)) if run >= page // 5]

    def answer(asked: Asked) -> Reply:
        found = json.loads(shop.answer(asked).body)
        return json_reply([record for record in found if record["id"] not in gone])

    assume(not gaps)
    with reading(answer, tmp_path) as (_, client):
        found = ids(profiles(client))

    assert set(found) == set(shop.order) - gone


def runs(numbers: list[int]) -> list[int]:
    """Give the length of each run without a gap."""
    return [
        len(list(run)) for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]


def test_the_proof_that_a_long_collection_has_ended_costs_one_request(tmp_path: Path) -> None:
    """Requests beyond the end that were planned ahead are cancelled before they are sent."""
    shop = shop_of(20 * 245)
    with listening(shop.answer) as server:
        slow = Client(
            api_url=server.url, api_key=KEY, requests_per_second=15, rate_limit_folder=tmp_path
        )
        with slow as client:
            found = ids(profiles(client))

    assert set(found) == set(shop.order)
    assert len(server.asked) <= 20 + 1 + 2


def test_a_long_collection_is_read_ahead_but_not_far(tmp_path: Path) -> None:
    """A consumer that stops early costs no more than the requests in flight."""
    with reading(shop_of(20_000).answer, tmp_path) as (server, client):
        pages = profiles(client)
        for _ in range(10):
            next(pages)
        pages.close()  # type: ignore[attr-defined]

        assert len(server.asked) <= 10 + IN_FLIGHT


def test_no_request_is_sent_before_the_first_page_is_read(tmp_path: Path) -> None:
    """Readers are lazy: creating one costs no request."""
    with reading(shop_of(3).answer, tmp_path) as (server, client):
        profiles(client)

    assert server.asked == []


def test_the_since_date_is_sent_and_stamped(tmp_path: Path) -> None:
    """``updateSince`` is sent as a date, and added to the records."""
    records = [{"id": "1"}, {"id": "2", "update_since": "2026-04-30"}]
    with reading(lambda asked: json_reply(records[asked.offset :]), tmp_path) as (server, client):
        found = [record for page in profiles(client, date(2026, 5, 1)) for record in page.records]

    assert server.asked[0].query["updateSince"] == "2026-05-01"
    assert "orderby" not in server.asked[0].query
    assert found[:2] == [record | {"requested_since": "2026-05-01"} for record in records]


def test_odd_records_pass_through(tmp_path: Path) -> None:
    """Records without an id, with an empty id, or that are not objects are yielded too."""
    records = [{"id": ""}, {"name": "no id"}, None, 5, {"id": None}, {"id": "1"}]
    with reading(lambda asked: json_reply(records[asked.offset :]), tmp_path) as (_, client):
        found = [record for page in profiles(client) for record in page.records]

    for expected in ({"id": ""}, {"name": "no id"}, {"_": None}, {"_": "5"}, {"id": None}):
        assert expected in found


def test_an_object_instead_of_an_array_is_an_error(tmp_path: Path) -> None:
    """An error with the status 200 never becomes a profile."""
    with (
        reading(lambda _: json_reply({"error": "ann@example.com"}), tmp_path) as (_, client),
        pytest.raises(UnexpectedResponse, match="one object") as caught,
    ):
        list(profiles(client))

    assert "ann@example.com" not in str(caught.value)


# ---------------------------------------------------------------- a collection that moves


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["delete", "insert", "update"]),
        st.floats(0, 0.999),
        st.integers(1, 40),
    ),
    max_size=25,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 300), page=st.sampled_from([6, 10, 25, 100, 250]), changes=CHANGES)
def test_a_record_that_exists_throughout_the_read_is_read(
    size: int, page: int, changes: list[Change], tmp_path: Path
) -> None:
    """Deletions, merges, insertions and updates between any two requests lose no survivor."""
    shop = shop_of(size, page=page, changes=list(changes))
    before = set(shop.order)
    with reading(shop.answer, tmp_path) as (_, client):
        pages = list(profiles(client))
        assert not any("changed their order" in warning for warning in client.warnings)

    assert before - shop.gone <= set(ids(pages))
    newest: dict[str, datetime] = {}
    for seen in pages:
        for record in seen.records:
            assert newest.get(record["id"], seen.requested_at) <= seen.requested_at
            newest[record["id"]] = seen.requested_at


def test_an_order_that_changes_during_the_read_is_told(tmp_path: Path) -> None:
    """Then a page that joins proves nothing: a warning says so, and no deletes are detected."""
    shop = shop_of(700, page=250)

    def flipping(asked: Asked) -> Reply:
        if asked.offset > 400:
            shop.order.sort()
        return shop.answer(asked)

    with reading(flipping, tmp_path) as (_, client):
        found = set(ids(profiles(client)))
        (warning,) = client.warnings
        is_doubtful = client.behaviour("profiles").is_doubtful

    assert found < set(shop.order)
    assert warning.startswith("profiles: records changed their order while they were read")
    assert is_doubtful


@pytest.mark.parametrize("times", [2, 3, 10])
@pytest.mark.parametrize("page", [6, 10, 100])
def test_a_page_that_insertions_shift_along_is_not_taken_for_an_ignored_offset(
    page: int, times: int, tmp_path: Path
) -> None:
    """As many profiles are inserted at the front as the read goes on by, several times in a row."""
    shop = shop_of(3 * page, page=page, changes=[("insert", 0.0, page - overlap_of(page))] * times)
    before = set(shop.order)
    with reading(shop.answer, tmp_path) as (_, client):
        found = ids(profiles(client))

    assert before <= set(found)


@pytest.mark.parametrize("size", [0, 2, 30, 250, 900])
@pytest.mark.parametrize(("page", "added"), [(250, 1), (100, 3), (10, 1)])
def test_a_collection_that_grows_as_fast_as_it_is_read_ends(
    size: int, page: int, added: int, tmp_path: Path
) -> None:
    """With new profiles between any two requests, a read ends, with all that were there before."""
    shop = shop_of(size, page=page, changes=[("insert", 1.0, added)] * 1000)
    before = set(shop.order)
    with reading(shop.answer, tmp_path) as (server, client):
        assert before <= set(ids(profiles(client)))

    assert len(server.asked) < 100 + 3 * size / page


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 300), page=st.sampled_from([10, 25, 250]), changes=CHANGES)
def test_nothing_is_lost_while_a_collection_grows(
    size: int, page: int, changes: list[Change], tmp_path: Path
) -> None:
    """Deletions and insertions anywhere, with a new record at the end after each request."""
    grown = [each for change in changes for each in (change, ("insert", 1.0, 1))]
    shop = shop_of(size, page=page, changes=[*grown, *[("insert", 1.0, 1)] * 1000])
    before = set(shop.order)
    with reading(shop.answer, tmp_path) as (_, client):
        found = ids(profiles(client))

    assert before - shop.gone <= set(found)


@pytest.mark.parametrize("read", [profiles, lists], ids=["profiles", "lists"])
@pytest.mark.parametrize(
    ("size", "cut", "warns"),
    [(10_400, 10_000, True), (1300, 1000, True), (1000, 10_000, True), (1300, 10_000, False)],
)
def test_a_collection_that_ends_at_a_round_number_causes_a_warning(
    read: Callable[[Client], Iterator[Page]], size: int, cut: int, warns: bool, tmp_path: Path
) -> None:
    """A server that shows the first 10,000 records only is not taken for a whole collection."""
    shop = shop_of(size)
    del shop.order[cut:]
    with reading(shop.answer, tmp_path) as (_, client):
        endpoint = "profiles" if read is profiles else "lists"
        assert set(ids(read(client))) == set(shop.order)

        assert bool(client.warnings) == warns
        assert client.behaviour(endpoint).is_doubtful == warns
        assert not warns or f"ended after exactly {len(shop.order):,} records" in client.warnings[0]


@pytest.mark.parametrize("read", [profiles, lists], ids=["profiles", "lists"])
def test_pages_of_one_record_are_an_error(
    read: Callable[[Client], Iterator[Page]], tmp_path: Path
) -> None:
    """A server that caps ``limit`` at 1 is not taken for a collection of one record."""
    with (
        reading(shop_of(30, page=1).answer, tmp_path) as (_, client),
        pytest.raises(UnexpectedResponse, match="each page holds one record"),
    ):
        list(read(client))


def test_a_second_profile_that_appears_after_the_first_page_is_no_error(tmp_path: Path) -> None:
    """The first page is requested again, and holds both."""
    shop = shop_of(1, changes=[("insert", 1.0, 1)])
    with reading(shop.answer, tmp_path) as (_, client):
        assert set(ids(profiles(client))) == set(shop.order)


@pytest.mark.parametrize("empty", [1, 2, 3])
def test_an_empty_page_that_records_follow_is_an_error(empty: int, tmp_path: Path) -> None:
    """A server that sends empty pages in the middle is not taken for the end of a collection."""
    shop = shop_of(1200)

    def answer(asked: Asked) -> Reply:
        reply = shop.answer(asked)
        return json_reply([]) if asked.offset // 245 == empty else reply

    with (
        reading(answer, tmp_path) as (_, client),
        pytest.raises(UnexpectedResponse, match="is empty, and records follow"),
    ):
        list(profiles(client))


def test_a_gap_opened_by_deletions_is_closed(tmp_path: Path) -> None:
    """A hundred profiles deleted behind the reader shift the rest left; none is skipped."""
    shop = shop_of(900, changes=[("delete", 0.0, 100)])
    survivors = set(shop.order[100:])
    with reading(shop.answer, tmp_path) as (server, client):
        found = ids(profiles(client))

    assert survivors <= set(found)
    assert sorted(offsets(server))[1] < 245, "it stepped back to find the overlap"


def test_a_reader_that_trusts_its_offsets_would_lose_records() -> None:
    """The test itself is checked: plain offset paging over the same changes skips survivors."""
    shop = shop_of(900, changes=[("delete", 0.0, 100)])
    survivors = set(shop.order[100:])
    found: set[str] = set()
    for offset in range(0, 1000, 250):
        query = {"limit": "250", "offset": str(offset)}
        body = shop.answer(Asked("/v2/profiles", query, {})).body
        found |= {name for name in survivors if f'"{name}"'.encode() in body}

    assert survivors - found


def test_a_collection_that_shrinks_to_nothing_ends_the_read(tmp_path: Path) -> None:
    """If all records are deleted between two pages, none is left to join or to lose."""
    shop = shop_of(500, changes=[("delete", 0.0, 500)])
    with reading(shop.answer, tmp_path) as (_, client):
        assert len(ids(profiles(client))) == 250


def test_of_a_record_read_twice_the_newer_copy_is_last(tmp_path: Path) -> None:
    """A profile that is updated while its page is read is yielded again, after the old copy."""
    shop = shop_of(400, changes=[("update", 0.6225, 1)])  # p249, in the overlap.
    with reading(shop.answer, tmp_path) as (_, client):
        copies = [
            record["version"]
            for page in profiles(client)
            for record in page.records
            if record["id"] == "p249"
        ]

    assert copies == ["0", "1"]


# ---------------------------------------------------------------- servers that will not page


def test_a_server_that_ignores_offset_is_an_error_for_profiles(tmp_path: Path) -> None:
    """The same page for every offset raises a clear error instead of a loop or a loss."""
    shop = shop_of(900)
    with (
        reading(lambda asked: shop.answer(first_page(asked)), tmp_path) as (server, client),
        pytest.raises(UnexpectedResponse, match="offset is ignored"),
    ):
        list(profiles(client))

    assert len(server.asked) < 10


def first_page(asked: Asked) -> Asked:
    return Asked(asked.path, {**asked.query, "offset": "0"}, asked.headers)


def test_a_highest_offset_is_an_error_not_a_loss(tmp_path: Path) -> None:
    """If pages beyond some offset are empty, the read raises an error instead of ending early."""
    shop = shop_of(2000)

    def answer(asked: Asked) -> Reply:
        return shop.answer(asked) if asked.offset <= 1000 else json_reply([])

    with (
        reading(answer, tmp_path) as (server, client),
        pytest.raises(UnexpectedResponse, match="cannot be read to its end"),
    ):
        list(profiles(client))

    assert len(server.asked) < 80


@pytest.mark.parametrize("answer_size", [1, 2, 3, 30, 250, 350])
def test_a_list_of_lists_that_does_not_page_is_read_as_one_answer(
    answer_size: int, tmp_path: Path
) -> None:
    """Paging of lists is undocumented: an identical answer means that there is no more."""
    shop = shop_of(answer_size, page=350)

    def answer(asked: Asked) -> Reply:
        return shop.answer(Asked(asked.path, {"limit": "350"}, asked.headers))

    with reading(answer, tmp_path) as (server, client):
        found = ids(lists(client))
        once = len(server.asked)
        list(lists(client))

    assert set(found) == set(shop.order)
    assert once <= 2
    assert len(server.asked) == once + 1, "the habit is remembered for the run"
    assert bool(client.warnings) == (answer_size == 250), "250 may be where it cuts"
    assert client.behaviour("lists").is_doubtful == (answer_size == 250)


def test_one_answer_at_a_time_until_an_endpoint_is_known_to_page(tmp_path: Path) -> None:
    """However slow, a server that ignores the offset sends its whole collection only twice."""
    shop = shop_of(3000, page=3000)
    clock = Clock()

    def answer(asked: Asked) -> Reply:
        clock.seconds += 5  # Worth 5000 turns, so that much would be asked for in advance.
        return shop.answer(Asked(asked.path, {"limit": "3000"}, asked.headers))

    with listening(answer) as server, client_of(server.url, tmp_path, clock) as client:
        found = ids(lists(client))

    assert len(server.asked) == 2
    assert found == shop.order, "and what came again is not handed on again"


@pytest.mark.parametrize("size", [30, 260, 600])
def test_a_list_of_lists_that_does_page_is_read_to_its_end(size: int, tmp_path: Path) -> None:
    """If lists page after all, all pages are read."""
    shop = shop_of(size)
    with reading(shop.answer, tmp_path) as (server, client):
        found = ids(lists(client))

    assert set(found) == set(shop.order)
    assert server.asked[0].query["mode"] == "all"


def test_a_collection_that_refuses_paging_is_requested_without_it(tmp_path: Path) -> None:
    """Lists may reject ``limit`` with 400; for profiles, where it is documented, it is an error."""

    def answer(asked: Asked) -> Reply:
        return Reply(b"", 400) if "limit" in asked.query else json_reply([{"id": "1"}, {"id": "2"}])

    with reading(answer, tmp_path) as (server, client):
        assert ids(lists(client)) == ["1", "2"]
        assert ids(lists(client)) == ["1", "2"]
        assert len(server.asked) == 3
        with pytest.raises(UnexpectedResponse, match="400"):
            list(profiles(client))


# ---------------------------------------------------------------- one collection per parent


def changes_of(client: Client, parents: list[Parent], **given: Any) -> list[Page]:
    return list(read_per_parent(client, MEMBER_LISTS.read, parents, **given))  # type: ignore[arg-type]


def test_the_records_of_each_parent_have_its_id(tmp_path: Path) -> None:
    """The list's id is added to its changes, and replaces an id of their own."""

    def answer(asked: Asked) -> Reply:
        return json_reply([{"id": "change 7", "profile_id": unquote(asked.path).split("/")[3]}])

    with reading(answer, tmp_path) as (server, client):
        since = datetime(2026, 5, 1, 2, 0, 0, tzinfo=UTC)
        pages = changes_of(client, [Parent("1", since), Parent("a/b ü")])

    records = [record for page in pages for record in page.records]
    assert records == [{"id": "1", "profile_id": "1"}, {"id": "a/b ü", "profile_id": "a"}]
    queries = {asked.path: asked.query.get("since") for asked in server.asked}
    assert queries["/v2/lists/1/changes"] == "2026-05-01T02:00:00"
    assert queries["/v2/lists/a%2Fb%20%C3%BC/changes"] is None


def test_the_since_parameter_of_changes_is_configurable(tmp_path: Path) -> None:
    """Its name is inferred, so it is a setting."""
    with reading(lambda _: json_reply([]), tmp_path) as (server, client):
        changes_of(client, [Parent("1", datetime(2026, 5, 1, tzinfo=UTC))], since_parameter="from")

    assert server.asked[0].query["from"] == "2026-05-01T00:00:00"


def test_a_list_that_vanished_is_skipped(tmp_path: Path) -> None:
    """A 404 for one list is a warning; the other lists are read."""

    def answer(asked: Asked) -> Reply:
        gone = "/2/" in asked.path
        return Reply(b"", 404) if gone else json_reply([{"profile_id": "p"}])

    with reading(answer, tmp_path) as (_, client):
        found = ids(changes_of(client, [Parent("1"), Parent("2"), Parent("3")]))

    assert found == ["1", "3"]
    assert client.warnings == ["lists/2/changes is gone (404); nothing was read from it"]


def test_refused_everywhere_is_an_error_refused_once_a_warning(tmp_path: Path) -> None:
    """A key without access to any list's changes fails; one refused list does not."""

    def answer(asked: Asked) -> Reply:
        return Reply(b"", 403) if "/2/" in asked.path else json_reply([{"profile_id": "p"}])

    with reading(answer, tmp_path) as (_, client):
        assert ids(changes_of(client, [Parent("1"), Parent("2")])) == ["1"]
        assert "lists/2/changes is refused" in client.warnings[0]
        with pytest.raises(AccessDenied):
            changes_of(client, [Parent("2")])


def test_a_parent_without_a_usable_id_is_not_requested(tmp_path: Path) -> None:
    """An id that would address another path is never sent."""
    with reading(lambda _: json_reply([]), tmp_path) as (server, client):
        changes_of(client, [Parent(""), Parent(".."), Parent("1")])

    assert [asked.path for asked in server.asked] == ["/v2/lists/1/changes"]


def test_one_request_for_each_quiet_list(tmp_path: Path) -> None:
    """Lists without changes cost one request each."""
    with reading(lambda _: json_reply([]), tmp_path) as (server, client):
        changes_of(client, [Parent(str(number)) for number in range(20)])

    assert len(server.asked) == 20


def test_each_list_yields_a_page_even_without_changes(tmp_path: Path) -> None:
    """The caller sees each list: without changes, gone, and refused."""
    answers = {"2": Reply(b"", 404), "3": Reply(b"", 403)}

    def answer(asked: Asked) -> Reply:
        return answers.get(asked.path.split("/")[3], Reply(b"[]"))

    with reading(answer, tmp_path) as (_, client):
        pages = changes_of(client, [Parent(str(number)) for number in range(6)])

    assert len(pages) == 6
    assert not any(page.records for page in pages)
    assert pages[0].origin == "lists/0/changes"


def test_empty_pages_are_yielded_during_a_long_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They let a run renew its lease while it waits for Ometria."""
    monkeypatch.setattr("ometria_replica.ometria.offset_pages.SIGN_OF_LIFE_SECONDS", 0.01)
    heard = threading.Event()

    def answer(_: Asked) -> Reply:
        heard.wait(20)  # The answer comes only after a sign of life.
        return json_reply([{"id": "1"}])

    with reading(answer, tmp_path) as (_, client):
        pages = profiles(client)
        assert list(next(pages).records) == []
        heard.set()
        assert ids(pages) == ["1"]


def test_two_lists_with_equally_many_changes_look_cut(tmp_path: Path) -> None:
    """Without paging, the same longest size twice may be a cap, and causes a warning."""
    changes = [{"profile_id": f"p{index}"} for index in range(137)]
    with reading(lambda _: json_reply(changes), tmp_path) as (_, client):
        changes_of(client, [Parent("1")])
        assert client.warnings == []
        changes_of(client, [Parent("2")])

    assert "lists/2/changes does not page and sent exactly 137" in client.warnings[0]
    assert client.behaviour("lists/{id}/changes").is_doubtful
    assert not client.behaviour("lists").is_doubtful


def test_changes_longer_than_a_page_are_read_to_their_end(tmp_path: Path) -> None:
    """Each list's changes are paged separately, with equal records in different lists."""
    shops = {name: shop_of(size) for name, size in (("1", 700), ("2", 3), ("3", 251))}

    def answer(asked: Asked) -> Reply:
        return shops[asked.path.split("/")[3]].answer(asked)

    with reading(answer, tmp_path) as (_, client):
        pages = changes_of(client, [Parent(name) for name in shops])

    found = Counter((record["id"]) for page in pages for record in page.records)
    assert {name: found[name] >= len(shop.order) for name, shop in shops.items()} == {
        "1": True,
        "2": True,
        "3": True,
    }


# ---------------------------------------------------------------- windows of time


START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Leavers:
    """Unsubscribes at given seconds after START, silently cut at *cap*."""

    seconds: list[int]
    cap: int = 10**9
    pages: bool = False
    inclusive: bool = True
    bounded: bool = True
    newest_first: bool = False
    spans: list[timedelta] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        """Give what lies in the window, or the page of it."""
        since, before = (
            (datetime.fromisoformat(asked.query[name]).replace(tzinfo=UTC) - START).total_seconds()
            for name in ("since", "before")
        )
        self.spans.append(timedelta(seconds=before - since - 2))
        inside = [
            (index, second)
            for index, second in enumerate(self.seconds)
            if not self.bounded
            or since < second < before
            or (self.inclusive and second in {since, before})
        ]
        inside = inside[::-1] if self.newest_first else inside
        offset, size = (asked.offset, min(asked.limit, self.cap)) if self.pages else (0, self.cap)
        return json_reply([self.record(*each) for each in inside[offset : offset + size]])

    @staticmethod
    def record(index: int, second: int) -> dict[str, str]:
        """Write an event as Ometria documents it."""
        text = (START + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S+00")
        return {"profile_id": f"p{index}", "timestamp": text}


def leavers_read(leavers: Leavers, folder: Path, days: int = 30) -> tuple[list[str], Client, int]:
    with reading(leavers.answer, folder) as (server, client):
        pages = read_windows(
            client,
            UNSUBSCRIBES.read,  # type: ignore[arg-type]
            since=START,
            until=START + timedelta(days=days),
        )
        found = [record["profile_id"] for page in pages for record in page.records]
    return found, client, len(server.asked)


@pytest.mark.parametrize("pages", [True, False])
@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (2, 1), (3, 3), (40, 3), (200, 3)])
def test_a_quiet_account_costs_few_requests(
    count: int, requests: int, pages: bool, tmp_path: Path
) -> None:
    """No unsubscribes cost one request; those that fit into one answer at most three."""
    found, client, asked = leavers_read(
        Leavers([index * 3600 for index in range(count)], pages=pages), tmp_path
    )

    assert len(found) == len(set(found)) == count
    assert asked <= requests
    assert client.warnings == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(st.integers(0, 30 * 86_400), max_size=150, unique_by=lambda s: s // 3),
    cap=st.sampled_from([10, 50, 100, 250]),
    pages=st.booleans(),
    inclusive=st.booleans(),
    newest_first=st.booleans(),
)
def test_no_event_is_lost_to_a_silent_cap(  # noqa: PLR0917  # hypothesis names them.
    seconds: list[int], cap: int, pages: bool, inclusive: bool, newest_first: bool, tmp_path: Path
) -> None:
    """With any cap, order, bounds, and with or without paging: all events, none twice."""
    leavers = Leavers(
        sorted(seconds), cap=cap, pages=pages, inclusive=inclusive, newest_first=newest_first
    )
    found, client, _ = leavers_read(leavers, tmp_path)

    assert set(found) == {f"p{index}" for index in range(len(seconds))}
    assert client.warnings == []


def test_many_events_in_one_second_are_found(tmp_path: Path) -> None:
    """Forty events in one second among few others cost some more requests."""
    found, _, asked = leavers_read(Leavers([5000] * 40 + [9000, 20_000]), tmp_path)

    assert len(set(found)) == 42
    assert asked < 20


def test_more_events_in_one_second_than_an_answer_holds_cause_a_warning(tmp_path: Path) -> None:
    """A window of one second cannot be split, so events may be missing."""
    _, client, asked = leavers_read(Leavers([5000] * 80, cap=50), tmp_path)

    assert any("one second" in warning for warning in client.warnings)
    assert client.behaviour("unsubscribes").is_doubtful
    assert asked < 100


def test_a_server_that_ignores_the_bounds_causes_a_warning(tmp_path: Path) -> None:
    """If every window returns all events, the read ends soon."""
    leavers = Leavers([index * 3600 for index in range(40)], bounded=False)
    found, client, asked = leavers_read(leavers, tmp_path)

    assert len(set(found)) == 40
    assert asked < 10
    assert any("ignored" in warning for warning in client.warnings)


def test_a_busy_account_that_pages_is_read_in_pages(tmp_path: Path) -> None:
    """Two thousand events in pages of 250 cost little more than eight requests."""
    leavers = Leavers([index * 600 for index in range(2000)], pages=True)
    found, _, asked = leavers_read(leavers, tmp_path)

    assert len(set(found)) == 2000
    assert asked <= 8 + 1 + IN_FLIGHT


def test_a_quiet_decade_costs_few_requests(tmp_path: Path) -> None:
    """The last year is read first, then longer windows before it while they hold few events."""
    leavers = Leavers([86_400, 12 * 365 * 86_400])
    found, _, asked = leavers_read(leavers, tmp_path, days=12 * 366)

    assert set(found) == {"p0", "p1"}
    assert asked == 5
    assert [round(span / timedelta(days=366)) for span in leavers.spans] == [1, 2, 4, 4, 1]


def test_no_answer_holds_the_decade_of_a_large_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a window holds many events, the next is one year again; no event is missed."""
    monkeypatch.setattr("ometria_replica.ometria.time_windows.FEW_EVENTS", 100)
    leavers = Leavers([index * 86_400 for index in range(12 * 365)])
    found, client, asked = leavers_read(leavers, tmp_path, days=12 * 366)

    assert set(found) == {f"p{index}" for index in range(12 * 365)}
    assert len(found) <= 12 * 365 + 12, "one at a bound may come from both sides"
    assert max(leavers.spans) <= timedelta(days=366)
    assert asked <= 12 * 4
    assert client.warnings == []


def test_large_answers_are_not_requested_concurrently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of concurrent requests is bounded by the longest answer so far."""
    monkeypatch.setattr("ometria_replica.ometria.prefetch.MOST_RECORDS_AHEAD", 500)
    clock = Clock()

    def answer(asked: Asked) -> Reply:
        clock.seconds += 5
        return json_reply([{"profile_id": f"p{index}"} for index in range(1000)])

    with listening(answer) as server, client_of(server.url, tmp_path, clock) as client:
        client.get("lists")
        parents = (Parent(str(number)) for number in range(40))
        pages = read_per_parent(client, MEMBER_LISTS.read, parents)  # type: ignore[arg-type]
        changes = (page for page in pages if page.records)
        owners = [next(changes).records[0]["id"] for _ in range(30)]
        ahead = len({asked.path for asked in server.asked}) - 1 - 30
        pages.close()  # type: ignore[attr-defined]

    assert owners == [str(number) for number in range(30)]
    assert ahead <= 1


def test_an_event_may_be_deeply_nested(tmp_path: Path) -> None:
    """An event is identified by its whole content, however deep."""
    event = '{"profile_id": "p%d", "meta": ' + "[" * 400 + "]" * 400 + "}"
    body = "[" + ",".join(event % number for number in (1, 2, 1)) + "]"
    with reading(lambda _: Reply(body.encode()), tmp_path) as (_, client):
        pages = changes_of(client, [Parent("1")])

    found = [record["profile_id"] for page in pages for record in page.records]
    assert sorted(set(found)) == ["p1", "p2"]


def test_windows_are_utc_and_a_second_wider(tmp_path: Path) -> None:
    """Bounds are sent in UTC and whole seconds, one more on each side, from any time zone."""
    with reading(lambda _: json_reply([]), tmp_path) as (server, client):
        list(
            read_windows(
                client,
                UNSUBSCRIBES.read,  # type: ignore[arg-type]
                since=datetime.fromisoformat("2026-05-01T02:00:00+02:00"),
                until=datetime.fromisoformat("2026-05-02T00:00:00.5+00:00"),
            )
        )

    assert server.asked[0].query["since"] == "2026-04-30T23:59:59"
    assert server.asked[0].query["before"] == "2026-05-02T00:00:02"


# ---------------------------------------------------------------- failures, and the simulator


def test_an_error_in_a_prefetched_page_is_raised_in_its_place(tmp_path: Path) -> None:
    """The pages before a failing one are yielded; then the error is raised and threads end."""
    shop = shop_of(5000)

    def answer(asked: Asked) -> Reply:
        return Reply(b"", 400) if asked.offset >= 1225 else shop.answer(asked)

    seen: list[str] = []
    with reading(answer, tmp_path) as (_, client), pytest.raises(UnexpectedResponse):
        seen.extend(record["id"] for page in profiles(client) for record in page.records)

    assert set(seen) == set(shop.order[:1230])


def test_a_cancelled_read_wakes_its_waiting_requests(tmp_path: Path) -> None:
    """Requests with a Retry-After of 100 seconds do not delay their reader that long."""
    shop = shop_of(5000)

    def answer(asked: Asked) -> Reply:
        busy = Reply(b"", 429, {"Retry-After": "100"})
        return busy if asked.offset > 490 else shop.answer(asked)

    with (
        listening(answer) as server,
        Client(
            api_url=server.url, api_key=KEY, requests_per_second=1000, rate_limit_folder=tmp_path
        ) as client,
    ):
        pages = profiles(client)
        for _ in range(3):
            next(pages)
        pages.close()  # type: ignore[attr-defined]

    assert client.requests <= 3 + IN_FLIGHT


def test_a_missing_collection_is_not_an_empty_one(tmp_path: Path) -> None:
    """A 404 for the profiles endpoint is an error."""
    with reading(lambda _: Reply(b"", 404), tmp_path) as (_, client), pytest.raises(NotFound):
        list(profiles(client))


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(),
        Quirks(paged=frozenset({"profiles", "lists", "changes", "unsubscribes"})),
        Quirks(silent_caps={"profiles": 100}, ignore_limit=frozenset({"lists"})),
        Quirks(ignore_limit=frozenset({"profiles"}), reversed_order=frozenset({"unsubscribes"})),
        Quirks(silent_caps={"unsubscribes": 25}, before_inclusive=True, since_inclusive=False),
    ],
    ids=["documented", "all page", "clamped", "limit ignored", "unsubscribes cut"],
)
def test_a_simulated_account_is_read_whole(quirks: Quirks, tmp_path: Path) -> None:
    """With each variant of Ometria, the records are exactly those of the simulated account."""
    account = Account.create(profiles=700, lists=12, email_events=300)
    with serve(account, quirks=quirks, requests_per_second=None) as server:
        server.faults.sometimes("/v2/", Fault.reset(), 0.05)
        with client_of(server.url, tmp_path, api_key=server.key) as client:
            found = {
                "profiles": set(ids(profiles(client))),
                "lists": set(ids(lists(client))),
            }
            parents = [Parent(name) for name in sorted(found["lists"])]
            changes = sum(len(page.records) for page in changes_of(client, parents))
            leavers = {
                (record["profile_id"], record["timestamp"])
                for page in read_windows(
                    client,
                    UNSUBSCRIBES.read,  # type: ignore[arg-type]
                    since=account.now - timedelta(days=4000),
                    until=account.now,
                )
                for record in page.records
            }

    assert found["profiles"] == {profile.id for profile in account.profiles}
    assert len(found["lists"]) == 12
    assert changes >= len(account.changes)
    assert len(leavers) == len(
        {(each.profile_id, each.at) for each in account.unsubscribes_visible()}
    )
