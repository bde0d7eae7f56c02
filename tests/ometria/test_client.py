"""What one request does, for each thing that can come back."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    NotFound,
    OmetriaError,
    Unavailable,
    UnexpectedResponse,
)
from ometria_replica.ometria.client import Client
from ometria_replica.records import Number, json_text
from ometria_simulator import Account, Fault, serve
from tests.ometria.listener import KEY, Asked, Clock, Reply, client_of, json_reply, listening

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROFILE = {"id": "19e53-b37265-160", "email": "ann@example.com"}
GOOD = json_reply([PROFILE])


def in_turn(*replies: Reply) -> Callable[[Asked], Reply]:
    """Answer with each reply once, then always with the last."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def busy(status: int = 429, **headers: str) -> Reply:
    return Reply(b"Too many requests", status, headers, "text/plain")


def test_an_array_is_its_records_with_numbers_as_written(tmp_path: Path) -> None:
    """Records come as Ometria wrote them, digits included, with their origin."""
    body = b'[{"id":"1","aov":1.10},{"id":"2","aov":12345678901234567890}]'
    with listening(lambda _: Reply(body)) as server, client_of(server.url, tmp_path) as client:
        answer = client.get("profiles", {"limit": "250", "offset": "250"})

    assert answer.records == [
        {"id": "1", "aov": Number("1.10")},
        {"id": "2", "aov": Number("12345678901234567890")},
    ]
    assert answer.origin == "GET /profiles offset=250"
    assert not answer.single


def test_the_key_and_a_name_travel_in_headers(tmp_path: Path) -> None:
    """Each request carries the documented header, and a user agent."""
    with listening(lambda _: GOOD) as server, client_of(server.url, tmp_path) as client:
        client.get("profiles")

    assert server.asked[0].headers["X-Ometria-Auth"] == KEY
    assert server.asked[0].headers["User-Agent"] == "ometria-replica"


def test_one_object_is_a_single_record(tmp_path: Path) -> None:
    """A profile requested by its id is an object, which differs from an array of one."""
    reply = json_reply(PROFILE)
    with listening(lambda _: reply) as server, client_of(server.url, tmp_path) as client:
        answer = client.get("profiles/19e53-b37265-160")

    assert answer.records == [PROFILE]
    assert answer.single


def test_an_element_that_is_not_an_object_is_kept_for_the_rejects(tmp_path: Path) -> None:
    """Null and numbers among the records raise no error: they become records without an id."""
    reply = json_reply([None, 7, PROFILE, "x", [1]])
    with listening(lambda _: reply) as server, client_of(server.url, tmp_path) as client:
        answer = client.get("profiles")

    assert answer.records == [{"_": None}, {"_": "7"}, PROFILE, {"_": "x"}, {"_": ["1"]}]


def test_a_record_that_is_nested_without_end_leaves_the_others(tmp_path: Path) -> None:
    """It is kept as its text for the rejects, and the report says so once for each endpoint."""
    deep = '{"id":"2","x":' + "[" * 90_000 + "]" * 90_000 + "}"
    body = f'[{{"id":"1","aov":1.10}},{deep},{{"id":"3"}}]'.encode()
    with listening(lambda _: Reply(body)) as server, client_of(server.url, tmp_path) as client:
        answers = [client.get("profiles", {"offset": offset}) for offset in ("0", "3")]
        first, set_aside, last = answers[0].records

    assert (first, last) == ({"id": "1", "aov": Number("1.10")}, {"id": "3"})
    assert json_text(set_aside) == f'{{"_":{deep}}}'
    assert client.warnings == [
        "GET /profiles: a record is nested too deeply to be parsed, and was set aside"
    ]


@pytest.mark.parametrize(
    "body",
    ['[{"x":' + "[" * 90_000 + "]" * 90_000 + '},{"id":', '{"x":' + "[" * 90_000, "[" * 90_000],
)
def test_a_nested_answer_that_is_cut_is_incomplete(body: str, tmp_path: Path) -> None:
    """It is requested again, as any other answer that is cut."""
    reply = Reply(body.encode())
    with (
        listening(in_turn(reply, GOOD)) as server,
        client_of(server.url, tmp_path) as client,
    ):
        assert client.get("profiles").records == [PROFILE]


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: Path) -> None:
    """The records of the answer are read, and the report says so without their contents."""
    body = b'[{"id":"1","name":"Zo\xeb"},{"id":"2","name":"Zo\xc3\xab"}]'
    with listening(lambda _: Reply(body)) as server, client_of(server.url, tmp_path) as client:
        answer = client.get("lists/17/subscribers", {"offset": "0"})

    assert [record["name"] for record in answer.records] == ["Zo\ufffd", "Zoë"]
    assert client.warnings == [
        "GET /lists/17/subscribers: bytes that are not UTF-8 were replaced by U+FFFD"
    ]


PASSING = {
    "reset": Reply(harm="reset"),
    "truncated": Reply(GOOD.body, harm="truncate"),
    "no answer in time": Reply(harm="hang"),
    "incomplete JSON": Reply(GOOD.body[:-5]),
    "nothing at all": Reply(b""),
    "408": busy(408),
    "429": busy(),
    "500": Reply(b"<html>oops</html>", 500, content_type="text/html"),
    "502": busy(502),
    "503 and seconds": busy(503, Retry_After="7"),
    "504": busy(504),
    "garbage in Retry-After": busy(429, Retry_After="soon"),
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_a_failure_that_may_pass_is_retried(trouble: Reply, tmp_path: Path) -> None:
    """Resets, cut bodies, timeouts, 5xx and 429 cost an attempt; the next one succeeds."""
    clock = Clock()
    with (
        listening(in_turn(trouble, trouble, GOOD)) as server,
        client_of(server.url, tmp_path, clock, timeout_seconds=0.3) as client,
    ):
        assert client.get("profiles").records == [PROFILE]

    assert client.requests == 3
    assert clock.slept


FINAL = {
    "401": (busy(401), AccessDenied),
    "403": (busy(403), AccessDenied),
    "404": (busy(404), NotFound),
    "400": (busy(400), UnexpectedResponse),
    "418": (busy(418), UnexpectedResponse),
    "204": (Reply(b"", 204), UnexpectedResponse),
    "HTML": (Reply(b"<html>ann@example.com</html>", content_type="text/html"), UnexpectedResponse),
    "text": (Reply(b"ann@example.com"), UnexpectedResponse),
    "null": (Reply(b"null"), UnexpectedResponse),
    "a string": (Reply(b'"ann@example.com"'), UnexpectedResponse),
    "binary": (Reply(b"\x00\xffann@example.com"), UnexpectedResponse),
}


@pytest.mark.parametrize(("reply", "error"), FINAL.values(), ids=FINAL)
def test_a_permanent_failure_is_not_retried(
    reply: Reply, error: type[OmetriaError], tmp_path: Path
) -> None:
    """A refusal or an undocumented answer raises at once, without personal data."""
    with (
        listening(lambda _: reply) as server,
        client_of(server.url, tmp_path) as client,
        pytest.raises(error) as caught,
    ):
        client.get("profiles", {"email": PROFILE["email"]})

    assert client.requests == 1
    assert "GET /profiles" in str(caught.value)
    assert PROFILE["email"] not in "".join(traceback.format_exception(caught.value))


def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    """The message for a wrong key names the kind of path and the next step, not the person."""
    with (
        listening(lambda _: busy(403)) as server,
        client_of(server.url, tmp_path) as client,
        pytest.raises(AccessDenied) as caught,
    ):
        client.get("profiles/19e53-b37265-160")

    assert str(caught.value) == (
        "Ometria refused the API key for GET /profiles/{id} (403)."
        " Check the key's permissions, then run `ometria-replica check`."
    )


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """The target of a redirect receives no request, and so no key."""
    with listening(lambda _: GOOD) as elsewhere:
        moved = Reply(b"", 302, {"Location": elsewhere.url})
        with (
            listening(lambda _: moved) as server,
            client_of(server.url, tmp_path) as client,
            pytest.raises(UnexpectedResponse, match="redirect"),
        ):
            client.get("profiles")

    assert client.requests == 1
    assert elsewhere.asked == []


def test_incomplete_json_again_and_again_is_not_an_outage(tmp_path: Path) -> None:
    """Three incomplete bodies in a row come from the server, not from the network."""
    with (
        listening(lambda _: Reply(b'[{"email":"ann@example.com"')) as server,
        client_of(server.url, tmp_path) as client,
        pytest.raises(UnexpectedResponse, match="3 times in a row") as caught,
    ):
        client.get("profiles")

    assert client.requests == 3
    assert "ann@example.com" not in str(caught.value)


def test_retry_after_in_seconds_is_honoured(tmp_path: Path) -> None:
    """The wait is the server's number of seconds."""
    clock = Clock()
    with (
        listening(in_turn(busy(Retry_After="17"), GOOD)) as server,
        client_of(server.url, tmp_path, clock) as client,
    ):
        client.get("profiles")

    assert sum(clock.slept) == pytest.approx(17, abs=0.1)


def test_retry_after_as_a_date_counts_on_the_servers_clock(tmp_path: Path) -> None:
    """A date is compared to the answer's own Date, however wrong our clock is."""
    clock = Clock()
    refused = busy(
        503, Retry_After="Mon, 01 Jan 2001 00:00:21 GMT", Date="Mon, 01 Jan 2001 00:00:00 GMT"
    )
    with (
        listening(in_turn(refused, GOOD)) as server,
        client_of(server.url, tmp_path, clock) as client,
    ):
        client.get("profiles")

    assert sum(clock.slept) == pytest.approx(21, abs=0.1)


@pytest.mark.parametrize(("asked", "waited"), [("600", 600), ("900", 900)])
def test_a_long_retry_after_is_honoured_up_to_15_minutes(
    asked: str, waited: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A 429 may require longer than a failing server is retried; one warning is logged."""
    clock = Clock()
    with (
        listening(in_turn(busy(Retry_After=asked), GOOD)) as server,
        client_of(server.url, tmp_path, clock) as client,
    ):
        assert client.get("profiles").records == [PROFILE]

    assert sum(clock.slept) == pytest.approx(waited, abs=0.1)
    assert max(clock.slept) <= 60, "in slices, between which it can be cancelled"
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert f"waiting {waited} seconds" in warning.getMessage()


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "until"),
    [
        ("901", "2026-05-01 12:16 UTC"),
        ("86400", "2026-05-02 12:00 UTC"),
        ("Sat, 02 May 2026 12:00:00 GMT", "2026-05-02 12:00 UTC"),
        ("Tue, 31 Dec 2199 23:59:00 GMT", "2199-12-31 23:59 UTC"),
        ("9" * 40, "the year 9999"),
    ],
)
def test_a_longer_retry_after_ends_the_run_and_says_until_when(
    asked: str, until: str, tmp_path: Path
) -> None:
    """A run does not hold its lease for hours: it exits with 75, and names the time in UTC."""
    clock = Clock()
    with (
        listening(lambda _: busy(Retry_After=asked)) as server,
        client_of(server.url, tmp_path, clock, now=lambda: NOON) as client,
        pytest.raises(Unavailable, match=f"GET /profiles until {until}") as caught,
    ):
        client.get("profiles")

    assert caught.value.exit_code == 75
    assert client.requests == 1
    assert clock.slept == []


RETRY_AT_ONCE = ["0", "0.0", "-1", "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 0001 00:00:00 GMT"]


@pytest.mark.parametrize("asked", RETRY_AT_ONCE)
@pytest.mark.parametrize("status", [503, 500, 408])
def test_retry_after_does_not_shorten_the_backoff(status: int, asked: str, tmp_path: Path) -> None:
    """A server that fails and asks for a retry at once is asked a few times in five minutes."""
    clock = Clock()
    began = clock()
    with (
        listening(lambda _: busy(status, Retry_After=asked)) as server,
        client_of(server.url, tmp_path, clock) as client,
        pytest.raises(Unavailable),
    ):
        client.get("profiles")

    assert client.requests < 30
    assert 250 < clock() - began <= 300


@pytest.mark.parametrize("asked", RETRY_AT_ONCE)
def test_retry_after_does_not_shorten_the_backoff_of_a_429(asked: str, tmp_path: Path) -> None:
    """The waits between refusals grow, whatever the refusals ask for."""
    clock = Clock()
    with (
        listening(in_turn(*[busy(Retry_After=asked)] * 20, GOOD)) as server,
        client_of(server.url, tmp_path, clock) as client,
    ):
        client.get("profiles")

    assert sum(clock.slept) > 100


@pytest.mark.parametrize("asked", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_requests_that_fail_together_each_give_up_in_time(asked: str, tmp_path: Path) -> None:
    """The waits of the others do not prolong an outage: eight requests at once, on a real clock."""
    ended: list[float] = []

    def give_up(client: Client) -> None:
        with pytest.raises(Unavailable):
            client.get("profiles")
        ended.append(time.monotonic() - began)

    with (
        listening(lambda _: busy(503, Retry_After=asked)) as server,
        Client(
            api_url=server.url, api_key=KEY, requests_per_second=5, give_up_after_seconds=2,
            rate_limit_folder=tmp_path,
        ) as client,
    ):  # fmt: skip
        began = time.monotonic()
        threads = [threading.Thread(target=give_up, args=[client]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(ended) == 8
    assert max(ended) < 6


ODD_DATES = ["Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 9999 23:59:59 GMT",
             "Sat, 01 Jan 0101 00:00:00 +2359", "Sat, 01 Jan 99999 00:00:00 GMT",
             "9" * 5000, "", "é", "Mon, 32 Foo"]  # fmt: skip


@pytest.mark.parametrize("name", ["Date", "Retry-After", "Set-Cookie", "Location", "X-Other"])
@pytest.mark.parametrize("value", ODD_DATES)
@pytest.mark.parametrize("status", [200, 302, 429])
def test_no_header_of_an_answer_raises_an_error_of_its_own(
    name: str, value: str, status: int, tmp_path: Path
) -> None:
    """A date of the year 9999, or no date at all, is as good as none."""
    reply = Reply(GOOD.body, status, {name: value})
    expected = (
        pytest.raises(UnexpectedResponse, match="redirect") if status == 302 else nullcontext()
    )
    is_far = status == 429 and name == "Retry-After" and value == "9" * 5000
    with (
        listening(in_turn(reply, GOOD if status == 429 else reply)) as server,
        client_of(server.url, tmp_path) as client,
        pytest.raises(Unavailable) if is_far else expected,
    ):
        assert client.get("profiles").records == [PROFILE]
        assert client.server_time() is None


@pytest.mark.parametrize(
    "value",
    ["ann@example.com", "text/ann@example.com", "text/ann.example.com", "ann/5551234", "é/é"],
)
def test_an_error_names_only_a_known_content_type(value: str, tmp_path: Path) -> None:
    """The server's header could hold anything, so only types of the list are repeated."""
    with (
        listening(lambda _: Reply(b"hello", content_type=value)) as server,
        client_of(server.url, tmp_path) as client,
        pytest.raises(UnexpectedResponse, match="an unusual content type") as caught,
    ):
        client.get("profiles")

    assert not any(part in str(caught.value) for part in ("ann", "555", "é"))


def test_a_long_retry_after_of_a_503_is_capped(tmp_path: Path) -> None:
    """A 503 with an hour of Retry-After is retried sooner, and is an outage in the end."""
    clock = Clock()
    with (
        listening(lambda _: busy(503, Retry_After="3600")) as server,
        client_of(server.url, tmp_path, clock, now=lambda: NOON) as client,
        pytest.raises(Unavailable, match="Try again after 2026-05-01 13:00 UTC"),
    ):
        client.get("profiles")

    assert client.requests == 3
    assert sum(clock.slept) <= 300


def test_many_refusals_do_not_fail_a_run(tmp_path: Path) -> None:
    """Twelve 429 in a row are retried with growing waits."""
    clock = Clock()
    with serve(Account()) as server:
        server.faults.storm(12)
        with client_of(server.url, tmp_path, clock, api_key=server.key) as client:
            client.get("lists")

    assert client.requests == 13
    assert len(set(clock.slept)) > 5


def test_refusals_are_retried_beyond_the_time_limit(tmp_path: Path) -> None:
    """Twenty minutes of 429 are no failure, and do not shorten the retries of a later one."""
    clock = Clock()
    ill = [busy(503, Retry_After="100")] * 2
    with (
        listening(in_turn(*[busy()] * 50, *ill, *[busy()] * 5, GOOD)) as server,
        client_of(server.url, tmp_path, clock) as client,
    ):
        assert client.get("profiles").records == [PROFILE]

    assert sum(clock.slept) > 1000
    assert [each for each in client.warnings if "answered 429 for more than 300" in each]


def test_requests_after_one_that_was_given_up_are_tried_for_a_shorter_time(
    tmp_path: Path,
) -> None:
    """In an outage each further request takes half a minute, until an answer is good again."""
    clock = Clock()
    good = [False]

    def answer(asked: Asked) -> Reply:
        return GOOD if good[0] and asked.path == "/v2/lists" else busy(500)

    def seconds_until_given_up() -> float:
        began = clock()
        with pytest.raises(Unavailable):
            client.get("profiles")
        return clock() - began

    with listening(answer) as server, client_of(server.url, tmp_path, clock) as client:
        assert seconds_until_given_up() > 250
        assert seconds_until_given_up() <= 30
        good[0] = True
        client.get("lists")
        assert seconds_until_given_up() > 250


def test_a_single_attempt_is_reported_as_once(tmp_path: Path) -> None:
    """If the time limit allows no second attempt, the message says so."""
    with (
        listening(lambda _: busy(503, Retry_After="100")) as server,
        client_of(server.url, tmp_path, give_up_after_seconds=10) as client,
        pytest.raises(Unavailable, match="tried once in 0 seconds"),
    ):
        client.get("profiles")


def test_errors_that_outlast_the_retries_raise_unavailable(tmp_path: Path) -> None:
    """After five minutes the run ends with "try again later" and exit code 75."""
    clock = Clock()
    with (
        listening(lambda _: busy(500)) as server,
        client_of(server.url, tmp_path, clock) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.get("profiles")

    assert 250 < sum(clock.slept) <= 300
    assert caught.value.exit_code == 75
    assert "127.0.0.1" in str(caught.value)
    assert "answered 500" in str(caught.value)


def test_an_unreachable_address_fails_soon(tmp_path: Path) -> None:
    """A closed port is retried for half a minute; the message then asks about api_url."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v2"
    clock = Clock()
    with (
        client_of(url, tmp_path, clock) as client,
        pytest.raises(Unavailable, match=r"Is api_url right\?"),
    ):
        client.get("profiles")

    assert sum(clock.slept) <= 30


def test_servers_clock_is_read_from_the_first_answer(tmp_path: Path) -> None:
    """Ometria's clock decides which records the next run reads again."""
    with serve(Account()) as server, client_of(server.url, tmp_path, api_key=server.key) as client:
        assert client.server_time() is None
        first = client.get("lists").served_at
        client.get("lists")

    assert client.server_time() == first == server.account.now.replace(microsecond=0)


def test_our_own_time_comes_from_the_given_clock(tmp_path: Path) -> None:
    """A server that sends no date has no server time; our own time is independent of it."""
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    with (
        listening(lambda _: GOOD) as server,
        client_of(server.url, tmp_path, now=lambda: noon) as client,
    ):
        client.get("lists")

        assert client.server_time() is None
        assert client.now() == noon


def test_a_key_that_no_header_can_carry_is_a_config_error(tmp_path: Path) -> None:
    """A line break in the key is detected before any request, and the key is not quoted."""
    with pytest.raises(ConfigError) as caught:
        Client(api_url="http://127.0.0.1:9/v2", api_key="canary\n", rate_limit_folder=tmp_path)

    assert "canary" not in str(caught.value)


def test_the_key_and_people_stay_out_of_logs_and_errors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the level DEBUG, with retries and failures, no key, address or id appears."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "httpcore2.http11", "httpcore2.connection"):
        caplog.set_level(logging.DEBUG, logger=name)
    shown: list[Any] = []
    troubles = [*PASSING.values(), *(reply for reply, _ in FINAL.values()), busy()]
    for trouble in troubles:
        is_busy = trouble.status == 429  # For ever, this would be waited for as long.
        with (
            listening(in_turn(trouble, trouble, busy(500) if is_busy else trouble)) as server,
            client_of(server.url, tmp_path, timeout_seconds=0.1, give_up_after_seconds=2) as client,
            pytest.raises(OmetriaError) as caught,
        ):
            client.get(f"profiles/{PROFILE['id']}", {"email": PROFILE["email"]})
        shown += [client, *traceback.format_exception(caught.value)]
    shown += [caplog.text, *client.warnings, *(path.name for path in tmp_path.iterdir())]
    shown += [path.read_text() for path in tmp_path.iterdir()]

    everything = "\n".join(str(each) + repr(each) for each in shown)
    assert "again in" in everything
    for secret in (KEY, PROFILE["email"], "ann%40example.com", PROFILE["id"]):
        assert secret not in everything


def test_connections_are_reused(tmp_path: Path) -> None:
    """Consecutive requests share a connection, which saves handshakes."""
    ports: list[str] = []

    def answer(asked: Asked) -> Reply:
        ports.append(asked.headers["Connection"])
        return GOOD

    with listening(answer) as server, client_of(server.url, tmp_path) as client:
        client.get("profiles")
        client.get("profiles")

    assert ports == ["keep-alive", "keep-alive"]


def test_all_simulated_faults_together_lose_no_record(tmp_path: Path) -> None:
    """Each passing fault of the simulator in turn costs attempts, but no records."""
    with serve(Account()) as server:
        for fault in (Fault.reset(), Fault.truncate(), Fault.bad_json(), Fault(status=503)):
            server.faults.next("/v2/lists", fault)
        with client_of(server.url, tmp_path, api_key=server.key) as client:
            assert client.get("lists").records == []

    assert client.requests == 5
