"""A small real HTTP server whose answers a test writes as a function."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from ometria_replica.ometria.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "canary-0123456789abcdef"


@dataclass(frozen=True)
class Asked:
    """A request as received; one that posts something has a *body*."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def offset(self) -> int:
        """The first record requested."""
        return int(self.query.get("offset", "0"))

    @property
    def limit(self) -> int:
        """The most records requested; ten by default, as Ometria documents."""
        return int(self.query.get("limit", "10"))


@dataclass(frozen=True)
class Reply:
    """An answer; *harm* damages it in transit."""

    body: bytes = b"[]"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    harm: Literal["reset", "truncate", "hang"] | None = None


def json_reply(value: Any, **headers: str) -> Reply:
    return Reply(json.dumps(value).encode(), headers=headers)


@dataclass
class Listener:
    """The running server: its address, and the requests in order of arrival."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)


@contextmanager
def listening(answer: Callable[[Asked], Reply]) -> Iterator[Listener]:
    """Serve *answer*, one request at a time, so that a test's state needs no lock."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = Asked(parts.path, dict(parse_qsl(parts.query)), dict(self.headers), body)
            with lock:
                listener.asked.append(asked)
                reply = answer(asked)
            self._send(reply)

        do_POST = do_GET  # noqa: N815 -- The name is of the standard library.

        def _send(self, reply: Reply) -> None:
            if reply.harm == "hang":
                listener.hanging.wait(20)
            if reply.harm in {"reset", "hang"}:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
                return
            self.send_response_only(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            cut = reply.harm == "truncate"
            self.wfile.write(reply.body[: len(reply.body) // 2] if cut else reply.body)
            self.close_connection = self.close_connection or cut

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Clients may disconnect."""

    server = Server(("127.0.0.1", 0), Handler)
    listener = Listener(f"http://127.0.0.1:{server.server_port}/v2")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listener
    finally:
        listener.hanging.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Clock:
    """Time that passes only in sleep()."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Give the time."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, and record how much."""
        with self._lock:
            self.slept.append(seconds)
            self.seconds += seconds
        time.sleep(0)  # Let other threads run.


def client_of(url: str, folder: Path, clock: Clock | None = None, **settings: Any) -> Client:
    """Make a client that never really sleeps; its rate limit file is in *folder*."""
    clock = clock or Clock()
    defaults: dict[str, Any] = {"api_key": KEY, "requests_per_second": 1000.0, "seed": 1}
    return Client(
        api_url=url,
        rate_limit_folder=folder,
        clock=clock,
        sleep=clock.sleep,
        **(defaults | settings),
    )
