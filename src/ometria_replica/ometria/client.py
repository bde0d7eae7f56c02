"""One request to Ometria: its header, its pace, its retries, and what its answer means."""

from __future__ import annotations

import logging
import math
import random
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx2

from ometria_replica import records
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    NotFound,
    Unavailable,
    UnexpectedResponse,
)
from ometria_replica.ometria.endpoint_behaviour import EndpointBehaviour
from ometria_replica.ometria.rate_limit import LONGEST_HOLD_SECONDS, RateLimiter, rest
from ometria_replica.steps import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

USER_AGENT = "ometria-replica"
KEY_HEADER = "X-Ometria-Auth"

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0

# How long a server that is not busy but ill (503) may ask us to stay away at once: the
# attempts after that are what tells an outage.
LONGEST_PAUSE_SECONDS = 120.0
WORTH_A_WARNING_SECONDS = 60.0

# A name that is not found or a port that is closed is more often a wrong api_url than an
# outage, unless Ometria has already answered in this run.
UNREACHABLE_SECONDS = 30.0

# A body that ends where JSON can't may have been cut on its way by something that set its
# length right; three in a row were not.
MOST_LOGGED = 10  # Warnings of a run that are logged as such: one may come for each list.
DAMAGED_ANSWERS = 3

# What a request may say of itself in logs and errors: times and places, but neither an
# address nor a profile's id, which opens that person's preference centre.
SHOWN_PARAMETERS = ("mode", "updateSince", "since", "before", "offset")

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_LIMITS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Answer:
    """
    What one request brought.

    *records* are the elements of an array, or the one object where *single*. An element
    that is no object stands there as ``{"_": element}``, which no table can identify,
    so that the mapping sets it aside whole. *requested_at* is our own time (UTC) just
    before sending; *served_at* is Ometria's, None where the answer does not tell.
    """

    records: list[records.Record]
    requested_at: datetime
    served_at: datetime | None
    origin: str
    single: bool = False


class BadRequest(UnexpectedResponse):
    """The server does not understand the request (400, 422), perhaps a parameter of it."""


class _Setback(Exception):  # Not yet an error: the next attempt may succeed.
    """An attempt failed in a way that may pass. *again_in* is what the server asked for."""

    def __init__(
        self, reason: str, *, again_in: float | None = None, busy: bool = False,
        unreachable: bool = False, damaged: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.reason = reason
        self.again_in = again_in
        self.busy = busy
        self.unreachable = unreachable
        self.damaged = damaged


@dataclass
class _Effort:
    """
    How long one request has been tried: its attempts and the waits between them, in seconds.

    Neither the time in the queue nor that of attempts and waits for 429 counts: to be
    refused for coming too soon says nothing against the request or the server.
    """

    seconds: float = 0.0
    busy_seconds: float = 0.0
    attempts: int = 0
    damaged: int = 0


class Client:
    """
    Ometria's API for one account. Safe to use from many threads; a context manager.

    *give_up_after_seconds* is how long one request is retried; a 429 is waited out however
    long it takes, and its ``Retry-After`` up to six hours. *requests_per_minute* are limits
    of single endpoints, which hold besides the account's. *warnings* collects what
    a reader should tell the user, without personal data. *clock* (monotonic seconds),
    *sleep*, *now* and *seed* are there for tests; *pace_folder* is as in :class:`RateLimiter`.

    Retries are a loop of our own, not stamina's: whoever is refused slows all threads
    and processes down, a read that is abandoned wakes those who wait, and nothing of a
    request may reach a log, which stamina's instrumentation would write there.
    """

    def __init__(
        self,
        *,
        api_url: str,
        api_key: str,
        requests_per_second: float = 4.0,
        requests_per_minute: Mapping[str, int] = _NO_LIMITS,
        timeout_seconds: float = 60,
        give_up_after_seconds: float = 300,
        user_agent: str = USER_AGENT,
        pace_folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int | None = None,
    ) -> None:
        _check_settings(api_url, api_key)
        _silence_http_loggers()
        self.requests = 0
        self.warnings: list[str] = []
        self._api_url = api_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._give_up_after_seconds = give_up_after_seconds
        self._clock, self._sleep, self._now = clock, sleep, now
        self._random = random.Random(seed)  # noqa: S311  # Jitter, no secret.
        self._pace = RateLimiter(
            api_url, api_key, requests_per_second, pace_folder, clock=clock, sleep=sleep
        )
        self._endpoint_limits = {
            endpoint: RateLimiter(
                f"{api_url.rstrip('/')}/{endpoint}", api_key, limit / 60, pace_folder,
                clock=clock, sleep=sleep,
            )
            for endpoint, limit in requests_per_minute.items()
        }  # fmt: skip
        self._http = httpx2.Client(
            headers={
                KEY_HEADER: api_key,
                "Accept": "application/json",
                "User-Agent": user_agent,
            },
            timeout=timeout_seconds,
            follow_redirects=False,  # The key must not travel to another host.
        )
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._behaviour: dict[str, EndpointBehaviour] = {}
        self._took = 0.0  # Seconds that the last good answer took.
        self._server_time: datetime | None = None
        self._heard = False  # Whether anything has answered at that address.
        self._warned_until = -math.inf

    def __repr__(self) -> str:
        return f"<Client of {self._host}, {self.requests} requests sent>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wake whoever waits, and close the connections."""
        self._closed.set()
        self._http.close()

    def get(
        self,
        path: str,
        query: Mapping[str, str] = _NOTHING,
        *,
        stop: threading.Event | None = None,
    ) -> Answer:
        """
        Ask for *path*, below the API's address and already quoted; retry what may pass.

        Raises AccessDenied, NotFound, UnexpectedResponse at once, Unavailable after the
        retries, and Stopped when *stop* is set while the request waits.
        """
        stop = stop or self._closed
        origin = _origin(path, query)
        self._wait_for_turn(path, stop)
        effort = _Effort()
        while True:
            effort.attempts += 1
            began = self._clock()
            try:
                return self._attempt(path, query, origin)
            except _Setback as setback:
                effort.seconds += 0 if setback.busy else self._clock() - began
                seconds = self._wait_or_give_up(setback, effort, origin)
                logger.info("%s: %s; again in %.1f s", origin, setback.reason, seconds)
                self._hold(setback, seconds, path, stop)
            self._wait_for_turn(path, stop)

    def behaviour(self, endpoint: str) -> EndpointBehaviour:
        """Give this run's observations about *endpoint*, for readers to use and update."""
        with self._lock:
            return self._behaviour.setdefault(endpoint, EndpointBehaviour())

    def now(self) -> datetime:
        """Tell our own time, in UTC."""
        return self._now()

    def has_own_limit(self, path: str) -> bool:
        """Whether *path* has a rate limit of its own, below the account's."""
        return path in self._endpoint_limits

    def worth_in_flight(self) -> int:
        """Tell how many requests at once use up the budget: the time one takes, in turns."""
        return max(1, math.ceil(self._took / self._pace.interval_seconds))

    def warn(self, message: str) -> None:
        """Log *message* and keep it for the run's report, once. It must hold no personal data."""
        with self._lock:
            if message in self.warnings:
                return
            self.warnings.append(message)
            level = logging.WARNING if len(self.warnings) <= MOST_LOGGED else logging.INFO
        logger.log(level, message)

    def server_time(self) -> datetime | None:
        """
        Tell a moment, on Ometria's clock, not after the first request left.

        It is the first answer's Date header less the time that the answer took. What a
        run must see again next time changed after it. None before the first answer, or
        if it carried no date.
        """
        return self._server_time

    @property
    def _host(self) -> str:
        return urlsplit(self._api_url).hostname or "the host"

    def _wait_for_turn(self, path: str, stop: threading.Event) -> None:
        # The endpoint's turn first: an account's turn that is taken too early would be lost.
        for limiter in reversed(self._limiters(path)):
            limiter.wait(stop)

    def _limiters(self, path: str) -> list[RateLimiter]:
        own = self._endpoint_limits.get(path)
        return [self._pace] if own is None else [self._pace, own]

    def _attempt(self, path: str, query: Mapping[str, str], origin: str) -> Answer:
        with self._lock:
            self.requests += 1
        requested_at, sent = self._now(), self._clock()
        with step("request"):
            response, body = self._exchange(path, query, sent)
        self._heard = True
        took = self._clock() - sent
        logger.debug("%s: %d in %.2f s", origin, response.status_code, took)
        served_at = _date(response.headers.get("date"))
        self._check_status(response, body, origin, served_at or self._now())
        answer = _answer(response, body, origin, requested_at, served_at)
        self._took = took
        self._note_server_time(served_at, took)
        return answer

    def _exchange(
        self, path: str, query: Mapping[str, str], sent: float
    ) -> tuple[httpx2.Response, bytes]:
        """Send, and read the whole body. A server that drips for ever is cut off."""
        url = f"{self._api_url}/{path.lstrip('/')}"
        try:
            with self._http.stream("GET", url, params=dict(query)) as response:
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    if self._clock() - sent > self._give_up_after_seconds:
                        raise _Setback("the answer did not end")
                return response, b"".join(chunks)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise _Setback("it could not be reached", unreachable=True) from error
        except httpx2.TimeoutException as error:
            raise _Setback(f"no answer within {self._timeout_seconds:g} seconds") from error
        except httpx2.DecodingError as error:
            raise _Setback("the answer arrived damaged") from error
        except httpx2.TransportError as error:  # Resets, and bodies shorter than announced.
            raise _Setback("the connection broke") from error

    def _check_status(
        self, response: httpx2.Response, body: bytes, origin: str, now: datetime
    ) -> None:
        status = response.status_code
        if status == 200:
            return
        if status in {401, 403}:
            raise AccessDenied(
                f"Ometria refused the API key for {origin} ({status})."
                " Check the key's permissions, then run `ometria-replica check`."
            )
        if status == 404:
            raise NotFound(
                f"Ometria has nothing at {origin} (404). If it should, check api_url,"
                " then run `ometria-replica check`."
            )
        if status in {408, 425, 429} or status >= 500:
            again_in = _retry_after(response.headers.get("retry-after"), now)
            raise _Setback(f"answered {status}", again_in=again_in, busy=status == 429)
        if 300 <= status < 400:
            raise UnexpectedResponse(
                f"Ometria's answer to {origin} is a redirect ({status}). It is not followed,"
                " because the API key would travel with it. Check api_url."
            )
        error = BadRequest if status in {400, 422} else UnexpectedResponse
        raise error(
            f"Ometria's answer to {origin} has the status {status}, which is not documented"
            f" ({_described(response, body)}). Run `ometria-replica check`."
        )

    def _wait_or_give_up(self, setback: _Setback, effort: _Effort, origin: str) -> float:
        """Say how long to wait before the next attempt; raise when there shall be none."""
        effort.damaged += setback.damaged
        if effort.damaged >= DAMAGED_ANSWERS:
            raise UnexpectedResponse(
                f"Ometria's answer to {origin} is no JSON, {effort.damaged} times in a row:"
                f" {setback.reason}. Run `ometria-replica check`."
            ) from setback
        seconds = self._back_off_seconds(setback, effort.attempts)
        if setback.busy:
            self._warn_of_a_long_wait(effort, seconds)
            effort.busy_seconds += seconds
            return seconds
        never_heard = setback.unreachable and not self._heard
        limit = self._give_up_after_seconds
        if never_heard:
            limit = min(limit, UNREACHABLE_SECONDS)
        if effort.seconds + seconds > limit:
            times = "once" if effort.attempts == 1 else f"{effort.attempts} times"
            raise Unavailable(
                f"{self._host} gave no good answer to {origin}: {setback.reason}; tried"
                f" {times} in {effort.seconds:.0f} seconds. "
                + ("Is api_url right?" if never_heard else "Try again later.")
            ) from setback
        effort.seconds += seconds
        return seconds

    def _warn_of_a_long_wait(self, effort: _Effort, seconds: float) -> None:
        """Say once how long everybody waits, and once that 429 is all that comes."""
        with self._lock:
            until = self._clock() + seconds
            news = until > self._warned_until + WORTH_A_WARNING_SECONDS
            long = seconds > WORTH_A_WARNING_SECONDS and news
            self._warned_until = max(self._warned_until, until) if long else self._warned_until
        if long:
            logger.warning(
                "Ometria asks to be left alone (429, Retry-After); waiting for %.0f seconds",
                seconds,
            )
        elif effort.busy_seconds > self._give_up_after_seconds:
            self.warn(
                f"Ometria has answered 429 for more than {self._give_up_after_seconds:.0f} seconds;"
                " does something else use up the account's requests?"
            )

    def _back_off_seconds(self, setback: _Setback, attempts: int) -> float:
        """Double the wait each time, and draw it between half and whole, to part the crowd."""
        if setback.again_in is not None:
            return min(
                setback.again_in, LONGEST_HOLD_SECONDS if setback.busy else LONGEST_PAUSE_SECONDS
            )
        # Over the limit by one, a turn's wait is enough; everybody waits, so no more than that.
        first = self._pace.interval_seconds if setback.busy else FIRST_WAIT_SECONDS
        longest = min(first * 2.0 ** min(attempts - 1, 24), LONGEST_WAIT_SECONDS)
        return longest * self._random.uniform(0.5, 1.0)

    def _hold(self, setback: _Setback, seconds: float, path: str, stop: threading.Event) -> None:
        """
        Wait: all requests of the account if the server is busy, else this request alone.

        A 429 does not say which limit was exceeded, so both are held.
        """
        if not setback.busy and setback.again_in is None:
            rest(seconds, stop, self._sleep)
            return
        for limiter in self._limiters(path):
            if setback.busy:
                limiter.widen()
            limiter.hold_off(seconds)

    def _note_server_time(self, served_at: datetime | None, took: float) -> None:
        if served_at is None:
            return
        with self._lock:
            if self._server_time is None:
                self._server_time = served_at - timedelta(seconds=max(0.0, took))


def _check_settings(api_url: str, api_key: str) -> None:
    problems = []
    address = urlsplit(api_url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        problems.append("api_url is no web address. It looks like https://api.ometria.com/v2.")
    # HTTP libraries repeat a header that they can't send in their error, so it never gets there.
    if not api_key or not re.fullmatch(r"[!-~]+", api_key):
        problems.append(
            "api_key is empty or holds a character that no HTTP header can carry."
            " Was it pasted with a line break?"
        )
    if problems:
        raise ConfigError(problems)


def _origin(path: str, query: Mapping[str, str]) -> str:
    """Say what is asked for without a person's id or address; a list's id may be seen."""
    first, *others = path.strip("/").split("/")
    shown = others if first == "lists" else ["{id}" for _ in others]
    parameters = [f"{name}={query[name]}" for name in SHOWN_PARAMETERS if name in query]
    return " ".join(["GET", "/" + "/".join([first, *shown]), *parameters])


def _answer(
    response: httpx2.Response,
    body: bytes,
    origin: str,
    requested_at: datetime,
    served_at: datetime | None,
) -> Answer:
    parsed = _parsed(response, body, origin)
    if isinstance(parsed, dict):
        return Answer([parsed], requested_at, served_at, origin, single=True)
    if isinstance(parsed, list):
        found = [_as_record(element) for element in parsed]
        return Answer(found, requested_at, served_at, origin)
    raise _not_documented(response, body, origin)


def _parsed(response: httpx2.Response, body: bytes, origin: str) -> Any:
    try:
        return records.parse(body)
    except RecursionError as error:  # As deep as no record is; it would come again as deep.
        raise _not_documented(response, body, origin) from error
    except ValueError as error:
        if not body.strip() or body.lstrip()[:1] in {b"[", b"{"}:
            reason = f"the answer breaks off ({_described(response, body)})"
            raise _Setback(reason, damaged=True) from error
        raise _not_documented(response, body, origin) from error


def _as_record(element: Any) -> records.Record:
    return element if isinstance(element, dict) else {"_": element}


def _not_documented(response: httpx2.Response, body: bytes, origin: str) -> UnexpectedResponse:
    return UnexpectedResponse(
        f"Ometria's answer to {origin} is not what it documents: {_described(response, body)},"
        " where JSON records are due. Check api_url, then run `ometria-replica check`."
    )


def _described(response: httpx2.Response, body: bytes) -> str:
    """Describe an answer by status, type, size and kind, never by what it says."""
    named = re.match(r"[\w.+-]{1,40}/[\w.+-]{1,40}", response.headers.get("content-type", ""))
    content_type = named.group() if named else "no content type"
    return f"{response.status_code}, {content_type}, {len(body)} bytes of {_kind(body)}"


def _kind(body: bytes) -> str:
    match body.lstrip()[:1]:
        case b"":
            return "nothing"
        case b"<":
            return "HTML or XML"
        case b"[" | b"{":
            return "JSON"
        case first if first.isascii() and first.decode().isprintable():
            return "text"
        case _:
            return "something binary"


def _retry_after(text: str | None, now: datetime) -> float | None:
    """Read ``Retry-After``: seconds, or a date, which is measured on the server's own clock."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    date = _date(text)
    return max(0.0, (date - now).total_seconds()) if date else None


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)


# Below a warning, the HTTP library logs whole addresses, with profile ids and e-mail
# addresses in them. Levels can be reset by whoever configures logging; a filter stays.
_HTTP_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in (
    "connection", "http11", "http2", "proxy", "socks",
)))  # fmt: skip


def _silence_http_loggers() -> None:
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_only_warnings)


def _only_warnings(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
