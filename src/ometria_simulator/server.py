"""The HTTP server: threads, keep-alive, rate limits, faults and the control plane."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ometria_simulator import control
from ometria_simulator.faults import Fault, Faults
from ometria_simulator.limiter import Limiter
from ometria_simulator.paging import HttpError, Query
from ometria_simulator.quirks import Endpoint, Quirks
from ometria_simulator.routes import NO_RIGHTS, Api, Route, find_route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_simulator.account import Account
    from ometria_simulator.feed import Feed

KEY_HEADER = "X-Ometria-Auth"
SIMULATED_KEY = "simulated-key"
"""The default key of a server, which is valid for simulators only."""

REQUESTS_PER_SECOND = 4.0  # Documented: for all keys of the account together.
DELETION_REQUESTS_PER_MINUTE = 6.0  # Documented for the GDPR endpoints.

_HTML = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request with its status, without its key. ``at`` is ``time.monotonic()``."""

    at: float
    simulated_at: datetime
    method: str
    path: str
    query: Query
    status: int


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class Server:
    """
    A running simulator.

    ``url`` is the base of the API and ends in ``/v2``; ``requests`` is the log, in the order
    of the responses. ``quirks`` and ``faults`` can change while the server runs.
    ``after_request`` runs after a response is computed and before it is sent, so that its
    changes to the account fall exactly between two requests.
    """

    def __init__(
        self,
        account: Account,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = SIMULATED_KEY,
        requests_per_second: float | None = REQUESTS_PER_SECOND,
        deletion_requests_per_minute: float | None = DELETION_REQUESTS_PER_MINUTE,
        quirks: Quirks | None = None,
        faults: Faults | None = None,
        no_rights: frozenset[Endpoint] = frozenset(),
        feed: Feed | None = None,
    ) -> None:
        """Start listening; a rate of None means no limit."""
        self.account = account
        self.key = key
        self.faults = faults or Faults()
        self.no_rights = no_rights
        self.feed = feed
        self.requests: list[LoggedRequest] = []
        self.after_request: Callable[[LoggedRequest], object] | None = None
        self.stopping = threading.Event()
        self.quirks = quirks or Quirks()
        self.limiter = self._new_limiter(requests_per_second, 1.0)
        self.deletion_limiter = self._new_limiter(deletion_requests_per_minute, 60.0)
        try:
            self._listener = _Listener((host, port), self)
        except OSError as error:
            message = (
                f"Port {port} on {host} is not available ({error.strerror}). Choose another port."
            )
            raise OSError(message) from error
        self.port: int = self._listener.server_address[1]
        self.root_url = f"http://{host}:{self.port}"
        self.url = f"{self.root_url}/v2"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def quirks(self) -> Quirks:
        """The behaviour; a new value applies from the next request on."""
        return self._quirks

    @quirks.setter
    def quirks(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._api = Api(self.account, quirks)

    def stop(self) -> None:
        """Close the port and all connections; a second call has no effect."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._listener.shutdown()
            self._thread.join()
            self._listener.server_close()

    def answer(self, path: str, query: Query, key: str | None) -> _Answer:
        """Return the response to ``GET`` of *path*, which starts with ``/v2``."""
        try:
            self._check_key(key)
            self._check_quota(self.limiter)
            route = find_route(path.removeprefix("/v2"))
            self._check_rights(route)
            return _Answer(HTTPStatus.OK, self._api.answer(route, query))
        except _TooManyError as refusal:
            return self.error(refusal.status, refusal.message, self._hint(refusal.seconds))
        except HttpError as error:
            return self.error(error.status, error.message)

    def _new_limiter(self, requests: float | None, seconds: float) -> Limiter | None:
        if not requests:
            return None
        return Limiter(requests, seconds, count_refused=self.quirks.refused_requests_count)

    def error(
        self,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
    ) -> _Answer:
        """Return an error response in the form that the quirks set."""
        match self.quirks.error_body:
            case "html":
                body, content_type = _HTML.format(message), "text/html; charset=utf-8"
            case "json":
                body, content_type = json.dumps({"error": message}), "application/json"
            case _:
                body, content_type = message, "text/plain; charset=utf-8"
        return _Answer(status, body.encode(), content_type, headers or {})

    def _check_key(self, key: str | None) -> None:
        if key is None or not compare_digest(key.encode(), self.key.encode()):
            raise HttpError(self.quirks.wrong_key_status, NO_RIGHTS)

    def _check_rights(self, route: Route) -> None:
        if route.endpoint in self.quirks.absent_endpoints:
            raise HttpError(HTTPStatus.NOT_FOUND, "Not Found")
        if route.endpoint in self.no_rights | self.quirks.no_rights:
            raise HttpError(HTTPStatus.FORBIDDEN, NO_RIGHTS)
        if route.endpoint == "data-deletion-requests":
            self._check_quota(self.deletion_limiter)

    def _check_quota(self, limiter: Limiter | None) -> None:
        seconds = limiter.seconds_to_wait() if limiter else 0.0
        if seconds:
            raise _TooManyError(seconds)

    def _hint(self, seconds: float) -> dict[str, str]:
        whole = int(seconds) + 1
        match self.quirks.retry_after:
            case "seconds":
                return {"Retry-After": str(whole)}
            case "date":
                # Relative to the Date header, which has the simulated time.
                moment = self.account.now.replace(microsecond=0) + timedelta(seconds=whole)
                return {"Retry-After": format_datetime(moment, usegmt=True)}
            case _:
                return {}


class _TooManyError(HttpError):
    def __init__(self, seconds: float) -> None:
        super().__init__(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests")
        self.seconds = seconds


@contextlib.contextmanager
def serve(
    account: Account,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    key: str = SIMULATED_KEY,
    requests_per_second: float | None = REQUESTS_PER_SECOND,
    deletion_requests_per_minute: float | None = DELETION_REQUESTS_PER_MINUTE,
    quirks: Quirks | None = None,
    faults: Faults | None = None,
    no_rights: frozenset[Endpoint] = frozenset(),
    feed: Feed | None = None,
) -> Iterator[Server]:
    """Serve *account* during the block; port 0 means any free port."""
    server = Server(
        account,
        host=host,
        port=port,
        key=key,
        requests_per_second=requests_per_second,
        deletion_requests_per_minute=deletion_requests_per_minute,
        quirks=quirks,
        faults=faults,
        no_rights=no_rights,
        feed=feed,
    )
    try:
        yield server
    finally:
        server.stop()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], simulator: Server) -> None:
        self.simulator = simulator
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._open):  # Close keep-alive connections too.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120  # Idle connections end even if the server does not stop.
    server: _Listener

    def do_GET(self) -> None:
        simulator, at = self.server.simulator, time.monotonic()
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        if not (path == "/v2" or path.startswith("/v2/")):
            self._control(path, {})
            return
        simulator.stopping.wait(simulator.quirks.latency_seconds)
        fault = simulator.faults.take(path)
        if fault and fault.kind == "reset":
            self._log(at, path, query, 0)
            self._reset()
            return
        if fault and fault.kind == "hang":
            simulator.stopping.wait(fault.seconds)
        answer = _faulty_response(fault) or simulator.answer(
            path, query, self.headers.get(KEY_HEADER)
        )
        self._log(at, path, query, answer.status)
        if fault and fault.kind == "bad_json":
            answer = _Answer(answer.status, answer.body[: len(answer.body) // 2])
        self._send(answer, truncate=bool(fault and fault.kind == "truncate"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path.startswith("/v2"):
            self._refuse_method()
            return
        try:
            arguments = json.loads(body or b"{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            self._send(self.server.simulator.error(400, "The body is not a JSON object"))
            return
        self._control(path, arguments)

    def _refuse_method(self) -> None:
        """Refuse writes: the API is read-only, and the control plane is the only way to write."""
        self.close_connection = True
        self._send(self.server.simulator.error(405, "Method Not Allowed"))

    do_PUT = do_PATCH = do_DELETE = do_HEAD = _refuse_method  # noqa: N815 -- names that the base class requires

    def _control(self, path: str, arguments: dict[str, Any]) -> None:
        simulator = self.server.simulator
        try:
            body = json.dumps(control.command(simulator, self.command, path, arguments)).encode()
            self._send(_Answer(HTTPStatus.OK, body))
        except HttpError as error:
            self._send(simulator.error(error.status, error.message))
        except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            self._send(simulator.error(400, f"{type(error).__name__}: {error}"))

    def _log(self, at: float, path: str, query: Query, status: int) -> None:
        simulator = self.server.simulator
        request = LoggedRequest(at, simulator.account.now, self.command, path, query, status)
        simulator.requests.append(request)
        if simulator.after_request:
            simulator.after_request(request)

    def _send(self, answer: _Answer, *, truncate: bool = False) -> None:
        """Send headers and body in one write, so that no response waits for a second packet."""
        reason = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else "Error"
        now = self.server.simulator.account.now.replace(microsecond=0)
        headers = {
            "Date": format_datetime(now, usegmt=True),
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            **answer.headers,
        }
        if self.close_connection or truncate:
            headers["Connection"] = "close"
            self.close_connection = True
        lines = [f"{self.protocol_version} {answer.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        body = answer.body[: len(answer.body) // 2] if truncate else answer.body
        if self.command == "HEAD":
            body = b""
        with contextlib.suppress(OSError):  # The client may have disconnected.
            self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name in the base class
        """Print nothing; the log is ``Server.requests``."""


def _faulty_response(fault: Fault | None) -> _Answer | None:
    """Return the response that a fault sends instead of the correct one; None if there is none."""
    if fault and fault.kind == "status":
        hint = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        return _Answer(fault.status, fault.body.encode(), "text/plain; charset=utf-8", hint)
    if fault and fault.kind == "html_200":
        page = _HTML.format("We will be back soon").encode()
        return _Answer(HTTPStatus.OK, page, "text/html; charset=utf-8")
    return None
