"""The server around the reads: keys, quota, clock, faults, threads, the control plane."""

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
    """Without the right key every answer is a 403 in plain text, as documented."""
    answer = ask(server, "/profiles", key=key and key.encode().decode("latin-1"))

    assert answer.status == 403
    assert answer.text == "API key is not authorised to access this resource"
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_key_may_lack_one_right(account: Account) -> None:
    """A key can be refused on one endpoint and served on the others."""
    with serve(account, no_rights=frozenset({"unsubscribes"})) as server:
        assert ask(server, "/unsubscribes").status == 403
        assert ask(server, "/lists").status == 200


def test_the_fifth_request_in_a_second_is_too_many(account: Account) -> None:
    """Four requests a second is the default; the next is a 429 in text without any hint."""
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
def test_a_429_may_say_how_long_to_wait(account: Account, retry_after: str) -> None:
    """A quirk adds Retry-After, as seconds or as a date measured from the Date header."""
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


def test_no_second_ever_holds_more_than_the_quota() -> None:
    """However requests are spread, no window of one second has more than four accepted ones."""
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


def test_waiting_as_long_as_told_is_enough() -> None:
    """The limiter's own answer is the shortest wait after which it accepts."""
    now = 10.0
    limiter = Limiter(0.5, clock=lambda: now)
    assert limiter.seconds_to_wait() == 0
    wait = limiter.seconds_to_wait()
    assert wait == pytest.approx(2)
    now += wait - 0.01
    assert limiter.seconds_to_wait() > 0
    now += 0.01
    assert limiter.seconds_to_wait() == 0


def test_refused_requests_may_use_up_quota() -> None:
    """A client that keeps knocking stays locked out where refused requests count."""
    now = 0.0
    patient = Limiter(1, clock=lambda: now)
    strict = Limiter(1, count_refused=True, clock=lambda: now)
    for step in range(3):
        now = step * 0.6
        waits = patient.seconds_to_wait(), strict.seconds_to_wait()

    assert waits[0] == 0
    assert waits[1] > 0


def test_deletion_requests_have_a_quota_of_their_own(server: Server) -> None:
    """Six requests a minute may ask who was forgotten; the seventh is a 429."""
    statuses = [ask(server, "/data-deletion-requests").status for _ in range(7)]

    assert statuses == [200] * 6 + [429]
    assert ask(server, "/lists").status == 200
    assert ask(server, "/data-deletion-requests/1").status == 429


def test_the_quota_of_deletion_requests_can_be_set(account: Account) -> None:
    """Another limit applies instead of six a minute; None is no limit."""
    with serve(account, requests_per_second=None, deletion_requests_per_minute=None) as server:
        assert {ask(server, "/data-deletion-requests").status for _ in range(9)} == {200}
    with serve(
        account, deletion_requests_per_minute=1, quirks=Quirks(retry_after="seconds")
    ) as server:
        assert ask(server, "/data-deletion-requests").status == 200
        refused = ask(server, "/data-deletion-requests")
    assert (refused.status, refused.text) == (429, "Too many requests")
    assert 55 < int(refused.headers["Retry-After"]) <= 60


def test_a_key_may_lack_the_right_to_deletion_requests(account: Account) -> None:
    """The refusal is a 403 with the documented text, and uses up no quota of the endpoint."""
    refused = frozenset({"data-deletion-requests"})
    with serve(account, requests_per_second=None, no_rights=refused) as server:  # type: ignore[arg-type]
        answers = [ask(server, "/data-deletion-requests") for _ in range(7)]

    assert {answer.status for answer in answers} == {403}
    assert answers[0].text == "API key is not authorised to access this resource"


def test_the_date_header_is_simulated_time(account: Account, server: Server) -> None:
    """Every answer carries the account's own time, which moves only when told to."""
    account.set_time(datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC))
    assert ask(server, "/lists").headers["Date"] == "Sun, 04 May 2031 03:02:01 GMT"

    account.advance(timedelta(hours=1))
    assert ask(server, "/nothing").headers["Date"] == "Sun, 04 May 2031 04:02:01 GMT"


def test_answers_overlap(account: Account) -> None:
    """Four requests at once take as long as one: latency is waited for side by side."""
    quirks = Quirks(latency_seconds=0.4)
    with serve(account, quirks=quirks) as server, ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        statuses = list(pool.map(lambda _: ask(server, "/lists").status, range(4)))
        seconds = time.monotonic() - started

    assert statuses == [200] * 4
    assert 0.4 <= seconds < 1.2


def test_a_connection_serves_many_requests(server: Server) -> None:
    """HTTP/1.1 keeps the connection open, also after an error."""
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


def test_the_log_counts_requests_and_keeps_no_key(server: Server) -> None:
    """The log has time, path, parameters and status of each request, and no key anywhere."""
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


def test_something_can_happen_exactly_between_two_requests(server: Server) -> None:
    """What ``after_request`` does is seen by the next request, not by the one that caused it."""
    server.account.add_profile(id="a")
    server.after_request = lambda request: server.account.add_profile(id=request.query["limit"])

    assert ids(ask(server, "/profiles", limit=5)) == ["a"]
    assert ids(ask(server, "/profiles", limit=6)) == ["a", "5"]


def test_a_status_fault_happens_as_often_as_asked(server: Server) -> None:
    """Two queued 503s meet the next two requests of that path, and no other path."""
    server.faults.next("/v2/lists", Fault(status=503, retry_after="7", body="down"), times=2)

    assert ask(server, "/profiles").status == 200
    first = ask(server, "/lists")
    assert (first.status, first.text, first.headers["Retry-After"]) == (503, "down", "7")
    assert [ask(server, "/lists").status for _ in range(2)] == [503, 200]


def test_a_connection_may_be_reset(server: Server) -> None:
    """A reset ends the request without an answer, and the log says so with status 0."""
    server.faults.next("/v2/lists", Fault.reset())

    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(server, "/lists")
    assert server.requests[-1].status == 0
    assert ask(server, "/lists").status == 200


def test_an_answer_may_break_off(account: Account, server: Server) -> None:
    """A truncated answer promises more bytes than it sends."""
    account.add_list(id="1")
    server.faults.next("/v2/lists", Fault.truncate())

    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server, "/lists")
    assert caught.value.expected


def test_an_answer_may_hang(server: Server) -> None:
    """A hanging answer outlasts a client's patience; the next one comes at once."""
    server.faults.next("/v2/lists", Fault.hang(1.5))

    with pytest.raises(TimeoutError):
        ask(server, "/lists", timeout=0.2)
    assert ask(server, "/lists", timeout=0.9).status == 200


def test_a_200_may_be_no_json(account: Account, server: Server) -> None:
    """Both a page for people and JSON cut in the middle come with status 200."""
    account.add_list(id="1")
    server.faults.next("/v2/lists", Fault.html_200())
    server.faults.next("/v2/lists", Fault.bad_json())

    for _ in range(2):
        answer = ask(server, "/lists")
        assert answer.status == 200
        with pytest.raises(json.JSONDecodeError):
            _ = answer.data


def test_a_storm_of_429_passes(server: Server) -> None:
    """A storm refuses any path a given number of times, and then is over."""
    server.faults.storm(3, retry_after="0")

    statuses = [ask(server, path).status for path in ("/lists", "/profiles", "/lists", "/lists")]

    assert statuses == [429, 429, 429, 200]


def test_random_faults_follow_their_seed(account: Account) -> None:
    """Faults that happen sometimes happen at the same requests every time."""

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
    """Error bodies are not documented: they are text, a page or JSON by choice."""
    server.quirks = Quirks(error_body=style)  # type: ignore[arg-type]

    answer = ask(server, "/lists/none")

    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith(content_type)
    assert "List with specified ID was not found" in answer.text


def test_nothing_can_be_written_through_the_api(server: Server) -> None:
    """Every method but GET is a 405: the simulated account is read only."""
    parts = urlsplit(server.url)
    for method in ("POST", "PUT", "DELETE"):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
        connection.request(method, "/v2/profiles", headers={"X-Ometria-Auth": server.key})
        assert connection.getresponse().status == 405
        connection.close()


def test_pages_stay_whole_while_the_account_changes() -> None:
    """A page read during a thousand changes is always valid and of the full size."""
    account = Account.create(profiles=400, lists=1, email_events=0)
    with serve(account, requests_per_second=None) as server, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            lambda: [account.update_profile(p.id, seen=True) for p in account.profiles * 3]
        )
        pages = [ids(ask(server, "/profiles", limit=50, offset=n * 50)) for n in range(8)]
        writing.result()

    assert [profile.id for profile in account.profiles] == [i for page in pages for i in page]


def test_another_process_can_drive_it(account: Account, tmp_path: Path) -> None:
    """The control plane moves time, changes people, queues faults and exports the feed."""
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
    ],
)
def test_a_wrong_command_is_explained(
    server: Server, path: str, body: dict[str, object], status: int
) -> None:
    """What the control plane cannot do is an error with a text, not a broken connection."""
    answer = command(server, path, body)

    assert answer.status == status
    assert answer.text


def test_taking_a_field_away_is_not_setting_it_to_null(account: Account) -> None:
    """``ABSENT`` removes a field, None makes it null, and objects are changed key by key."""
    account.add_profile(id="a", name="A", gender="f", properties={"zip": 1, "city": "X"})

    record = account.update_profile("a", name=ABSENT, gender=None, properties={"zip": 2}).record()

    assert record == {
        "@type": "profile",
        "id": "a",
        "gender": None,
        "properties": {"zip": 2, "city": "X"},
    }
