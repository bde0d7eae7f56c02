"""The server: keys, rate limits, clock, faults, threads, the control plane."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from ometria_simulator import ABSENT, Account, Dialect, Fault, Feed, Quirks, Server, serve
from ometria_simulator.limiter import Limiter
from tests.simulator.client import ask, command, ids

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("key", [None, "", "wrong", "schlüssel"])
def test_a_wrong_key_is_forbidden(server: Server, key: str | None) -> None:
    """A wrong or missing key returns 403 in plain text, as documented."""
    answer = ask(server, "/profiles", key=key and key.encode().decode("latin-1"))

    assert answer.status == 403
    assert answer.text == "API key is not authorised to access this resource"
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_key_can_lack_one_right(account: Account) -> None:
    """One endpoint refuses the key, and the others accept it."""
    with serve(account, no_rights=frozenset({"unsubscribes"})) as server:
        assert ask(server, "/unsubscribes").status == 403
        assert ask(server, "/lists").status == 200


def test_the_fifth_request_in_a_second_is_too_many(account: Account) -> None:
    """The default is four per second; the next returns 429 in text without ``Retry-After``."""
    with serve(account) as server:
        statuses = [ask(server, "/lists").status for _ in range(5)]
        refused = ask(server, "/lists")
        time.sleep(1.05)
        recovered = ask(server, "/lists")

    assert statuses == [200, 200, 200, 200, 429]
    assert (refused.status, refused.text) == (429, "Too many requests")
    assert refused.headers["Retry-After"] is None
    assert recovered.status == 200


@pytest.mark.parametrize("retry_after", ["seconds", "date"])
def test_a_429_can_have_retry_after(account: Account, retry_after: str) -> None:
    """A quirk adds it, in seconds or as a date relative to the Date header."""
    quirks = Quirks(retry_after=retry_after)  # type: ignore[arg-type]
    with serve(account, requests_per_second=1, quirks=quirks) as server:
        ask(server, "/lists")
        refused = ask(server, "/lists")

    hint = refused.headers["Retry-After"]
    if retry_after == "date":
        waited = parsedate_to_datetime(hint) - parsedate_to_datetime(refused.headers["Date"])
        assert waited == timedelta(seconds=1)
    else:
        assert hint == "1"


def test_no_second_has_more_requests_than_the_limit() -> None:
    """No window of one second has more than four accepted requests, at any distribution."""
    now = 0.0
    limiter = Limiter(4, clock=lambda: now)
    accepted = []
    for step in range(400):
        now = step * 0.0613
        if limiter.seconds_to_wait() == 0:
            accepted.append(now)

    crowds = [sum(start <= at < start + 1 for at in accepted) for start in accepted]
    assert max(crowds) == 4
    assert len(accepted) > 80


def test_the_returned_wait_is_exact() -> None:
    """The limiter accepts a request after the wait that it returned, and not earlier."""
    now = 10.0
    limiter = Limiter(0.5, clock=lambda: now)
    assert limiter.seconds_to_wait() == 0
    wait = limiter.seconds_to_wait()
    assert wait == pytest.approx(2)
    now += wait - 0.01
    assert limiter.seconds_to_wait() > 0
    now += 0.01
    assert limiter.seconds_to_wait() == 0


def test_refused_requests_can_count() -> None:
    """If refused requests count, a client that does not wait is refused continuously."""
    now = 0.0
    patient = Limiter(1, clock=lambda: now)
    strict = Limiter(1, count_refused=True, clock=lambda: now)
    for step in range(3):
        now = step * 0.6
        waits = patient.seconds_to_wait(), strict.seconds_to_wait()

    assert waits[0] == 0
    assert waits[1] > 0


def test_deletion_requests_have_a_rate_limit_of_their_own(server: Server) -> None:
    """Six requests per minute are accepted; the seventh returns 429, by either path."""
    statuses = [ask(server, "/data-deletion-requests").status for _ in range(7)]

    assert statuses == [200] * 6 + [429]
    assert ask(server, "/lists").status == 200
    assert ask(server, "/data-deletion-requests/1").status == 429


def test_the_rate_limit_of_deletion_requests_is_configurable(account: Account) -> None:
    """The argument replaces six per minute; None means no limit."""
    with serve(account, requests_per_second=None, deletion_requests_per_minute=None) as server:
        assert {ask(server, "/data-deletion-requests").status for _ in range(9)} == {200}
    with serve(
        account, deletion_requests_per_minute=1, quirks=Quirks(retry_after="seconds")
    ) as server:
        assert ask(server, "/data-deletion-requests").status == 200
        refused = ask(server, "/data-deletion-requests")
    assert (refused.status, refused.text) == (429, "Too many requests")
    assert 55 < int(refused.headers["Retry-After"]) <= 60


def test_a_key_can_lack_the_right_to_deletion_requests(account: Account) -> None:
    """The response is 403 with the documented text, and does not count against the limit."""
    refused = frozenset({"data-deletion-requests"})
    with serve(account, requests_per_second=None, no_rights=refused) as server:  # type: ignore[arg-type]
        answers = [ask(server, "/data-deletion-requests") for _ in range(7)]

    assert {answer.status for answer in answers} == {403}
    assert answers[0].text == "API key is not authorised to access this resource"


def test_the_date_header_is_simulated_time(account: Account, server: Server) -> None:
    """Every response has the time of the account, which changes on request only."""
    account.set_time(datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC))
    assert ask(server, "/lists").headers["Date"] == "Sun, 04 May 2031 03:02:01 GMT"

    account.advance(timedelta(hours=1))
    assert ask(server, "/nothing").headers["Date"] == "Sun, 04 May 2031 04:02:01 GMT"


def test_responses_overlap(account: Account) -> None:
    """Four concurrent requests take as long as one, as their latencies overlap."""
    quirks = Quirks(latency_seconds=0.4)
    with serve(account, quirks=quirks) as server, ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        statuses = list(pool.map(lambda _: ask(server, "/lists").status, range(4)))
        seconds = time.monotonic() - started

    assert statuses == [200] * 4
    assert 0.4 <= seconds < 1.2


def test_a_connection_serves_many_requests(server: Server) -> None:
    """HTTP/1.1 keeps the connection open, even after an error."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    headers = {"X-Ometria-Auth": server.key}
    connection.connect()
    socket = connection.sock
    for path in ("/v2/lists", "/v2/lists/none", "/v2/profiles"):
        connection.request("GET", path, headers=headers)
        connection.getresponse().read()
        assert connection.sock is socket
    connection.close()


def test_the_log_has_requests_and_no_keys(server: Server) -> None:
    """The log has the time, path, parameters and status of each request, and no key."""
    ask(server, "/profiles", limit=3, updateSince="2026-01-01")
    ask(server, "/lists", key="a-secret")

    first, second = server.requests
    assert (first.path, first.query, first.status) == (
        "/v2/profiles",
        {"limit": "3", "updateSince": "2026-01-01"},
        200,
    )
    assert second.status == 403
    assert second.at >= first.at
    assert "a-secret" not in repr(server.requests)


def test_the_account_can_change_exactly_between_two_requests(server: Server) -> None:
    """The next request sees the change of ``after_request``; the current one does not."""
    server.account.add_profile(id="a")
    server.after_request = lambda request: server.account.add_profile(id=request.query["limit"])

    assert ids(ask(server, "/profiles", limit=5)) == ["a"]
    assert ids(ask(server, "/profiles", limit=6)) == ["a", "5"]


def test_a_status_fault_happens_as_often_as_asked(server: Server) -> None:
    """Two 503s apply to the next two requests of that path, and to no other path."""
    server.faults.next("/v2/lists", Fault(status=503, retry_after="7", body="down"), times=2)

    assert ask(server, "/profiles").status == 200
    first = ask(server, "/lists")
    assert (first.status, first.text, first.headers["Retry-After"]) == (503, "down", "7")
    assert [ask(server, "/lists").status for _ in range(2)] == [503, 200]


def test_a_connection_can_be_reset(server: Server) -> None:
    """A reset ends the request without a response, and the log has status 0."""
    server.faults.next("/v2/lists", Fault.reset())

    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(server, "/lists")
    assert server.requests[-1].status == 0
    assert ask(server, "/lists").status == 200


def test_a_response_can_be_truncated(account: Account, server: Server) -> None:
    """A truncated response announces more bytes than it sends."""
    account.add_list(id="1")
    server.faults.next("/v2/lists", Fault.truncate())

    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server, "/lists")
    assert caught.value.expected


def test_a_response_can_hang(server: Server) -> None:
    """A hanging response exceeds the client's timeout; the next one is immediate."""
    server.faults.next("/v2/lists", Fault.hang(1.5))

    with pytest.raises(TimeoutError):
        ask(server, "/lists", timeout=0.2)
    assert ask(server, "/lists", timeout=0.9).status == 200


def test_a_200_need_not_be_json(account: Account, server: Server) -> None:
    """An HTML page and incomplete JSON both have status 200."""
    account.add_list(id="1")
    server.faults.next("/v2/lists", Fault.html_200())
    server.faults.next("/v2/lists", Fault.bad_json())

    for _ in range(2):
        answer = ask(server, "/lists")
        assert answer.status == 200
        with pytest.raises(json.JSONDecodeError):
            _ = answer.data


def test_a_storm_of_429_ends(server: Server) -> None:
    """A storm refuses a given number of requests of any path, and then ends."""
    server.faults.storm(3, retry_after="0")

    statuses = [ask(server, path).status for path in ("/lists", "/profiles", "/lists", "/lists")]

    assert statuses == [429, 429, 429, 200]


def test_random_faults_follow_their_seed(account: Account) -> None:
    """Random faults affect the same requests in every run."""

    def statuses() -> list[int]:
        with serve(account, requests_per_second=None) as server:
            server.faults.sometimes("/v2", Fault(status=500), probability=0.5)
            return [ask(server, "/lists").status for _ in range(20)]

    assert statuses() == statuses()
    assert set(statuses()) == {200, 500}


@pytest.mark.parametrize(
    ("style", "content_type"),
    [("text", "text/plain"), ("html", "text/html"), ("json", "application/json")],
)
def test_an_error_has_the_body_the_quirk_says(
    server: Server, style: str, content_type: str
) -> None:
    """Error bodies are undocumented: a quirk selects text, HTML or JSON."""
    server.quirks = Quirks(error_body=style)  # type: ignore[arg-type]

    answer = ask(server, "/lists/none")

    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith(content_type)
    assert "List with specified ID was not found" in answer.text


def test_the_api_is_read_only(server: Server) -> None:
    """Every method except GET returns 405."""
    parts = urlsplit(server.url)
    for method in ("POST", "PUT", "DELETE"):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        connection.request(method, "/v2/profiles", headers={"X-Ometria-Auth": server.key})
        assert connection.getresponse().status == 405
        connection.close()


def test_pages_are_consistent_while_the_account_changes() -> None:
    """Pages read during a thousand changes are valid and have the full size."""
    account = Account.create(profiles=400, lists=1, email_events=0)
    with serve(account, requests_per_second=None) as server, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            lambda: [account.update_profile(p.id, seen=True) for p in account.profiles * 3]
        )
        pages = [ids(ask(server, "/profiles", limit=50, offset=n * 50)) for n in range(8)]
        writing.result()

    assert [profile.id for profile in account.profiles] == [i for page in pages for i in page]


def test_another_process_can_control_it(account: Account, tmp_path: Path) -> None:
    """The control plane changes time, profiles, faults and quirks, and exports the feed."""
    feed = Feed(account, tmp_path, Dialect())
    with serve(account, requests_per_second=None, feed=feed) as server:
        added = command(
            server,
            "mutate",
            {"method": "add_profile", "id": "a", "arguments": {"firstname": "Ann", "name": "A"}},
        )
        command(
            server,
            "mutate",
            {"method": "update_profile", "id": "a", "arguments": {"name": {"$absent": True}}},
        )
        event = {"to_address": "a@example.com", "event_type": "send"}
        command(server, "mutate", {"method": "add_event", "arguments": event})
        command(server, "faults", {"path_prefix": "/v2/lists", "status": 502})
        command(server, "quirks", {"missing_fields": ["firstname"], "error_body": "html"})
        state = command(server, "advance", {"hours": 2}).data
        files = command(server, "feed").data["files"]

        assert added.data == {"@type": "profile", "id": "a", "firstname": "Ann", "name": "A"}
        assert ask(server, "/profiles/a").data == {
            "@type": "profile",
            "id": "a",
            "lists": [],
        }
        assert ask(server, "/lists").status == 502
        assert state["now"] == "2026-03-02T11:00:00+00:00"
        assert command(server, "state", method="GET").data["profiles"] == 1
        assert [path.name for path in tmp_path.iterdir()] == files


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nothing", {}, 404),
        ("feed", {}, 409),
        ("mutate", {"method": "__init__"}, 400),
        ("mutate", {"method": "delete_profile", "id": "nobody"}, 400),
        ("advance", {"fortnights": 1}, 400),
        ("quirks", {"mood": "bad"}, 400),
        ("advance", {"days": 10**12}, 400),
        ("advance", [1], 400),
        ("faults", {"status": "bad"}, 400),
        ("quirks", {"error_body": "xml"}, 400),
        ("quirks", {"paged": ["people"]}, 400),
        ("quirks", {"latency_seconds": "long"}, 400),
    ],
)
def test_a_wrong_command_is_explained(server: Server, path: str, body: object, status: int) -> None:
    """A wrong command of the control plane returns an error with a text."""
    answer = command(server, path, body)

    assert answer.status == status
    assert answer.text


@pytest.mark.parametrize("more", [{}, {"probability": 1}, {"clear": True}])
def test_an_unknown_kind_of_fault_is_answered_with_those_there_are(
    server: Server, more: dict[str, object]
) -> None:
    """400, and no later request fails because of it."""
    answer = command(server, "faults", {"kind": "slow", **more})

    kinds = "status, reset, truncate, hang, html_200, bad_json"
    assert answer.status == 400
    assert answer.text == f"ValueError: kind: unknown 'slow'; known: {kinds}"
    assert ask(server, "/profiles").status == 200


def test_removing_a_field_differs_from_setting_it_to_null(account: Account) -> None:
    """``ABSENT`` removes a field, None sets it to null, and objects are merged by key."""
    account.add_profile(id="a", name="A", gender="f", properties={"zip": 1, "city": "X"})

    record = account.update_profile("a", name=ABSENT, gender=None, properties={"zip": 2}).record()

    assert record == {
        "@type": "profile",
        "id": "a",
        "gender": None,
        "properties": {"zip": 2, "city": "X"},
    }
