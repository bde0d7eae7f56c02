"""One request to Ometria: its header, its rate limit, its retries, and its answer."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import MappingProxyType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import httpx2

from ometria_replica.config.addresses import is_loopback
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    NotFound,
    UnexpectedResponse,
)
from ometria_replica.failpoints import step
from ometria_replica.observer import ignore
from ometria_replica.ometria.answer_body import (
    ACCEPTED_ENCODINGS,
    UnreadableBody,
    counted_size,
    read_body,
)
from ometria_replica.ometria.certificates import trusted
from ometria_replica.ometria.deadlines import DeadlineBackend
from ometria_replica.ometria.endpoint_behaviour import EndpointBehaviour
from ometria_replica.ometria.http_loggers import silence_http_loggers
from ometria_replica.ometria.observed_requests import told
from ometria_replica.ometria.rate_limit import RateLimiter, rest
from ometria_replica.ometria.response import (
    BadRequest,
    Setback,
    certificate_problem,
    described,
    origin_of,
    read_answer,
    read_date,
    retry_after,
)
from ometria_replica.ometria.retries import Effort, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ometria_replica.observer import Observe
    from ometria_replica.ometria.observed_requests import Exchange
    from ometria_replica.ometria.response import Answer

logger = logging.getLogger(__name__)

USER_AGENT = "ometria-replica"
KEY_HEADER = "X-Ometria-Auth"

ERROR_BYTES = 64 * 1024  # Read of an answer that is no success, to tell its kind.

WORTH_A_WARNING_SECONDS = 60.0

MOST_LOGGED = 10  # Warnings of a run that are logged as such: each list may cause one.

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_LIMITS: Mapping[str, int] = MappingProxyType({})


class Client:
    """
    Ometria's API for one account. Thread-safe; a context manager.

    *give_up_after_seconds* is how long one request is retried; a 429 is retried without limit,
    and its ``Retry-After`` is honoured up to 15 minutes: a longer one ends the read.
    A single attempt may wait *timeout_seconds* for the next byte and take *deadline_seconds* in
    all, and its decompressed body may hold *max_answer_bytes*, as :func:`counted_size` counts them.
    *requests_per_minute* are limits of single endpoints, which apply besides the account's.
    With *keeps_texts*, each record has its text as it came.
    *warnings* collects messages for the report, without personal data. *observe* is told of each
    request. *clock*
    (monotonic seconds), *sleep*, *now* and *seed* are for tests; *rate_limit_folder* is the
    folder of :class:`RateLimiter`.

    Retries are a loop of our own, not stamina's: a refusal must slow down all threads and
    processes, a cancelled read must wake its waiting requests, and no part of a request may
    reach a log, where stamina's instrumentation would write it.
    """

    def __init__(
        self,
        *,
        api_url: str,
        api_key: str,
        requests_per_second: float = 4.0,
        requests_per_minute: Mapping[str, int] = _NO_LIMITS,
        max_answer_bytes: int = 64_000_000,
        timeout_seconds: float = 60,
        deadline_seconds: float = 300,
        give_up_after_seconds: float = 300,
        keeps_texts: bool = False,
        observe: Observe = ignore,
        rate_limit_folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int | None = None,
    ) -> None:
        _check_settings(api_url, api_key)
        silence_http_loggers()
        self.requests = 0
        self.rate_limited = 0  # Requests that were answered with 429.
        self.warnings: list[str] = []
        self._api_url = api_url.rstrip("/")
        self._max_answer_bytes = max_answer_bytes
        self._keeps_texts = keeps_texts
        self._observe = observe
        self._timeout_seconds = timeout_seconds
        self._deadline_seconds = deadline_seconds
        self._give_up_after_seconds = give_up_after_seconds
        self._clock, self._sleep, self._now = clock, sleep, now
        self._rate_limit = RateLimiter(
            api_url, api_key, requests_per_second, rate_limit_folder, clock=clock, sleep=sleep
        )
        self._retries = RetryPolicy(
            self._host, give_up_after_seconds, self._rate_limit.interval_seconds, now=now, seed=seed
        )
        self._endpoint_limits = {
            endpoint: RateLimiter(
                f"{self._api_url}/{endpoint}", api_key, limit / 60, rate_limit_folder,
                clock=clock, sleep=sleep,
            )
            for endpoint, limit in requests_per_minute.items()
        }  # fmt: skip
        self._http = httpx2.Client(
            headers={
                KEY_HEADER: api_key,
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED_ENCODINGS,
                "User-Agent": USER_AGENT,
            },
            timeout=timeout_seconds,
            verify=trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            follow_redirects=False,  # The key must not travel to another host.
            # No proxy between this machine and itself: it would receive the key in the clear.
            trust_env=urlsplit(api_url).scheme == "https" or not is_loopback(self._host),
            # No cookies: a server's text must not return in a later request's header.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self._deadlines = DeadlineBackend()
        self._deadlines.apply_to(self._http)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.cancelled: Future[None] = Future()  # Done once no answer is waited for any longer.
        self._behaviour: dict[str, EndpointBehaviour] = {}
        self._took = 0.0  # Latency of the last good answer, in seconds.
        self._server_time: datetime | None = None
        self._heard = False  # Whether any server has answered at that address.
        self._warned_until = -math.inf
        self._refused_until = -math.inf  # The end of the longest wait for a 429.

    def __repr__(self) -> str:
        return f"<Client of {self._host}, {self.requests} requests sent>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """Let no reader wait any longer for an answer, from another thread."""
        with suppress(InvalidStateError):
            self.cancelled.set_result(None)

    def close(self) -> None:
        """Wake all waiting requests, and close the connections."""
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
        Send a GET request for *path*, below the API's address and already quoted, with retries.

        Raises AccessDenied, NotFound and UnexpectedResponse at once, Unavailable after the
        retries, and Stopped if *stop* is set while the request waits.
        """
        stop = stop or self._closed
        origin = origin_of(path, query)
        asked = self._clock()
        self._wait_for_turn(path, stop)
        effort = Effort(origin)
        while True:
            effort.attempts += 1
            began = self._clock()
            waited = began - asked
            try:
                with told(self._observe, path, self._api_url, effort.attempts, waited) as exchange:
                    return self._attempt(path, query, origin, exchange)
            except Setback as setback:
                effort.seconds += 0 if setback.busy else self._clock() - began
                seconds = self._retries.wait_seconds(setback, effort, heard=self._heard)
                if setback.busy:
                    self._warn_of_a_long_wait(effort, seconds)
                logger.info("%s: %s; again in %.1f s", origin, setback.reason, seconds)
                failed_at = self._clock()
                self._hold(setback, seconds, path, stop)
                asked = self._clock()
                self._wait_for_turn(path, stop)
                effort.seconds += 0 if setback.busy else self._seconds_since(failed_at)

    def behaviour(self, endpoint: str) -> EndpointBehaviour:
        """Give this run's observations about *endpoint*, for readers to use and update."""
        with self._lock:
            return self._behaviour.setdefault(endpoint, EndpointBehaviour())

    def now(self) -> datetime:
        """Give our own time, in UTC."""
        return self._now()

    @property
    def address(self) -> str:
        """The API's address."""
        return self._api_url

    def has_own_limit(self, path: str) -> bool:
        """Whether *path* has a rate limit of its own, below the account's."""
        return path in self._endpoint_limits

    def worth_in_flight(self) -> int:
        """Return the number of concurrent requests that use up the rate limit, from the latency."""
        return max(1, math.ceil(self._took / self._rate_limit.interval_seconds))

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
        Give a time on Ometria's clock that is not after the first request was sent.

        It is the Date header of the first answer minus the answer's latency. Records that the
        next run must read again changed after it. None before the first answer, or if no
        answer had a date.
        """
        return self._server_time

    @property
    def _host(self) -> str:
        return urlsplit(self._api_url).hostname or "the host"

    def _wait_for_turn(self, path: str, stop: threading.Event) -> None:
        """Wait for the account's rate limit, and for the endpoint's own if it has one."""
        # The endpoint's turn first: a turn of the account would expire while waiting for it.
        for limiter in reversed(self._limiters(path)):
            limiter.wait(stop)

    def _limiters(self, path: str) -> list[RateLimiter]:
        own = self._endpoint_limits.get(path)
        return [self._rate_limit] if own is None else [self._rate_limit, own]

    def _attempt(
        self, path: str, query: Mapping[str, str], origin: str, exchange: Exchange
    ) -> Answer:
        with self._lock:
            self.requests += 1
        requested_at, sent = self._now(), self._clock()
        with step("request"):
            response, body = self._exchange(path, query)
        exchange.status = response.status_code
        self._heard = True
        took = self._clock() - sent
        logger.debug("%s: %d in %.2f s", origin, response.status_code, took)
        served_at = read_date(response.headers.get("date"))
        if response.status_code == 429:
            with self._lock:
                self.rate_limited += 1
        self._check_status(response, body, origin, served_at or self._now())
        if counted_size(body) > self._max_answer_bytes:
            raise UnexpectedResponse(
                f"Ometria's answer to {origin} is longer than {self._max_answer_bytes:,} bytes"
                " (max_answer_bytes). If the account is that large, raise the setting; else check"
                " api_url, then run `ometria-replica check`."
            )
        answer = read_answer(
            response, body, origin, requested_at, served_at, keeps_texts=self._keeps_texts
        )
        for remark in answer.remarks:  # Once for each endpoint, however many answers have it.
            self.warn(f"{origin_of(path, {})}: {remark}")
        self._took = took
        self._retries.note_good_answer()
        self._note_server_time(served_at, took)
        return answer

    def _exchange(self, path: str, query: Mapping[str, str]) -> tuple[httpx2.Response, bytes]:
        """Send the request and read the body, within its limits; a longer one is returned cut."""
        url = f"{self._api_url}/{path.lstrip('/')}"
        began = time.monotonic()  # The network's time, also where a test has a clock of its own.
        try:
            with (
                self._deadlines.within(self._deadline_seconds),
                self._http.stream("GET", url, params=dict(query)) as response,
            ):
                return response, self._body(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            if (problem := certificate_problem(error)) is not None:
                raise UnexpectedResponse(
                    f"The certificate of {self._host} is not trusted: {problem}. If a proxy of your"
                    " network issues certificates, set SSL_CERT_FILE to the file with its"
                    " authority; else check api_url. Nothing was sent."
                ) from error
            raise Setback("it could not be reached", unreachable=True) from error
        except httpx2.TimeoutException as error:
            if time.monotonic() - began >= self._deadline_seconds:
                reason = f"the answer did not end within {self._deadline_seconds:g} seconds"
                raise Setback(reason) from error
            raise Setback(f"no answer within {self._timeout_seconds:g} seconds") from error
        except UnreadableBody as error:
            raise Setback(f"the answer cannot be read: {error}") from error
        except httpx2.TransportError as error:  # Resets, and bodies shorter than announced.
            raise Setback("the connection broke") from error

    def _body(self, response: httpx2.Response) -> bytes:
        if response.status_code == 200:
            return read_body(response, self._max_answer_bytes)
        # The status says enough: a body that does not end, or is damaged, does not change it.
        with suppress(httpx2.TransportError, UnreadableBody):
            return read_body(response, ERROR_BYTES)
        return b""

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
            again_in = retry_after(response.headers.get("retry-after"), now)
            raise Setback(f"answered {status}", again_in=again_in, busy=status == 429)
        if 300 <= status < 400:
            raise UnexpectedResponse(
                f"Ometria's answer to {origin} is a redirect ({status}). It is not followed,"
                " because the API key would travel with it. Check api_url."
            )
        error = BadRequest if status in {400, 422} else UnexpectedResponse
        raise error(
            f"Ometria's answer to {origin} has the status {status}, which is not documented"
            f" ({described(response, body)}). Run `ometria-replica check`."
        )

    def _warn_of_a_long_wait(self, effort: Effort, seconds: float) -> None:
        """Log a long wait once, and warn once if there are only refusals."""
        with self._lock:
            until = self._clock() + seconds
            news = until > self._warned_until + WORTH_A_WARNING_SECONDS
            long = seconds > WORTH_A_WARNING_SECONDS and news
            self._warned_until = max(self._warned_until, until) if long else self._warned_until
        if long:
            logger.warning(
                "Rate limited by Ometria (429, Retry-After): waiting %.0f seconds",
                seconds,
            )
        elif effort.busy_seconds > self._give_up_after_seconds:
            self.warn(
                f"Ometria has answered 429 for more than {self._give_up_after_seconds:.0f} seconds;"
                " does another integration use up the account's rate limit?"
            )

    def _hold(self, setback: Setback, seconds: float, path: str, stop: threading.Event) -> None:
        """
        Wait: all requests of the account after a 429, else this request alone.

        A 429 does not say which limit was exceeded, so both are held. After a failure, requests
        that held each other in turn would each be tried far longer than their time.
        """
        if not setback.busy:
            rest(seconds, stop, self._sleep)
            return
        with self._lock:
            self._refused_until = max(self._refused_until, self._clock() + seconds)
        for limiter in self._limiters(path):
            limiter.widen()
            limiter.hold_off(seconds)

    def _seconds_since(self, failed_at: float) -> float:
        """Return how long a request has waited since it failed, without the waits for a 429."""
        return max(0.0, self._clock() - max(failed_at, self._refused_until))

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
        problems.append(
            "api_url is not a web address. Use an address like https://api.ometria.com/v2."
        )
    # HTTP libraries quote a header that they cannot send in their error, so it is checked before.
    if not api_key or not re.fullmatch(r"[!-~]+", api_key):
        problems.append(
            "api_key is empty or holds a character that no HTTP header can carry."
            " Check that it was pasted without a line break."
        )
    if problems:
        raise ConfigError(problems)
