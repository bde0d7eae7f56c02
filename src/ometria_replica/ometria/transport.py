"""One attempt of a request over HTTP: the connection, its limits, and what its failures mean."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from ometria_replica.config.urls import is_loopback
from ometria_replica.errors import UnexpectedResponse
from ometria_replica.ometria.answer_body import ACCEPTED_ENCODINGS, UnreadableBody, read_body
from ometria_replica.ometria.certificates import trusted
from ometria_replica.ometria.deadlines import DeadlineBackend
from ometria_replica.ometria.http_loggers import silence_http_loggers
from ometria_replica.ometria.response import Setback, certificate_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

USER_AGENT = "ometria-replica"
KEY_HEADER = "X-Ometria-Auth"

ERROR_BYTES = 64 * 1024  # Read of an answer that is no success, to tell its kind.


class Transport:
    """
    Connections to *api_url*, with the header that carries *api_key*. Thread-safe.

    A request may wait *timeout_seconds* for the next byte and take *deadline_seconds* in all. A
    body longer than *most_bytes* is cut.
    """

    def __init__(
        self,
        api_url: str,
        api_key: str,
        *,
        most_bytes: int,
        timeout_seconds: float,
        deadline_seconds: float,
    ) -> None:
        silence_http_loggers()
        self._api_url = api_url
        self._most_bytes = most_bytes
        self._timeout_seconds = timeout_seconds
        self._deadline_seconds = deadline_seconds
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
            trust_env=urlsplit(api_url).scheme == "https" or not is_loopback(self.host),
            # No cookies: a server's text must not return in a later request's header.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self._deadlines = DeadlineBackend()
        self._deadlines.apply_to(self._http)

    @property
    def host(self) -> str:
        """The host of the API, for messages."""
        return urlsplit(self._api_url).hostname or "the host"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, query: Mapping[str, str]) -> tuple[httpx2.Response, bytes]:
        """
        Send a GET request and read the body, within its limits; a longer one is returned cut.

        Raises Setback for a failure that may pass, and UnexpectedResponse for a certificate that
        is not trusted.
        """
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
                    f"The certificate of {self.host} is not trusted: {problem}. If a proxy of your"
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
            return read_body(response, self._most_bytes)
        # The status says enough: a body that does not end, or is damaged, does not change it.
        with suppress(httpx2.TransportError, UnreadableBody):
            return read_body(response, ERROR_BYTES)
        return b""
