"""A minimal HTTP client: one request, one response."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from ometria_simulator import Server


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def data(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def ask(
    server: Server,
    path: str,
    *,
    key: str | None = "simulated-key",
    timeout: float = 10,
    **query: object,
) -> Answer:
    """GET a path below ``/v2`` on a connection of its own."""
    parts = urlsplit(server.url)
    target = parts.path + path + (f"?{urlencode(query)}" if query else "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", target, headers={"X-Ometria-Auth": key} if key else {})
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)
    finally:
        connection.close()


def command(server: Server, path: str, body: object = None, *, method: str = "POST") -> Answer:
    """Send JSON to the control plane."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, f"/_simulator/{path}", json.dumps(body or {}))
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)
    finally:
        connection.close()


def ids(answer: Answer) -> list[str]:
    return [record["id"] for record in answer.data]
