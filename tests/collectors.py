"""A small real HTTP server that takes spans by OTLP, and the events of OpenLineage."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SpanSeen:
    """A span as the collector received it; times in seconds, ids in hex, *parent* "" for none."""

    name: str
    id: str
    parent: str
    trace: str
    kind: int
    began: float
    ended: float
    failed: bool
    reason: str
    attributes: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


@dataclass
class Collector:
    """The running server: its address, and what it has received, in that order."""

    url: str
    status: int = 200
    spans: list[SpanSeen] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hanging: threading.Event | None = None

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that switch both observers on, and name this server."""
        return {
            "OMETRIA_TRACES": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OMETRIA_LINEAGE": "true",
            "OPENLINEAGE_URL": self.url,
        }

    def named(self, name: str) -> list[SpanSeen]:
        """Return the spans of a name, in the order in which they began."""
        return sorted((each for each in self.spans if each.name == name), key=lambda s: s.began)

    def span(self, name: str) -> SpanSeen:
        """Return the only span of a name."""
        (found,) = self.named(name)
        return found

    def of_job(self, name: str) -> list[dict[str, Any]]:
        """Return the lineage events of a job."""
        return [each for each in self.events if each["job"]["name"] == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.hanging is not None:
                collector.hanging.wait(30)
            collector.bodies.append(body)
            collector.headers.append(dict(self.headers))
            if collector.status == 200:
                if self.path == "/v1/traces":
                    _take_spans(collector, body)
                elif self.path == "/api/v1/lineage":
                    collector.events.append(json.loads(body))
            self.send_response_only(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Clients may disconnect."""

    server = Server(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield collector
    finally:
        if collector.hanging is not None:
            collector.hanging.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _take_spans(collector: Collector, body: bytes) -> None:
    request = ExportTraceServiceRequest.FromString(body)
    for of_resource in request.resource_spans:
        collector.resource = _attributes(of_resource.resource.attributes)
        collector.spans += [
            SpanSeen(
                name=span.name,
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                trace=span.trace_id.hex(),
                kind=span.kind,
                began=span.start_time_unix_nano / 1e9,
                ended=span.end_time_unix_nano / 1e9,
                failed=span.status.code == Status.STATUS_CODE_ERROR,
                reason=span.status.message,
                attributes=_attributes(span.attributes),
            )
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]


def _attributes(found: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in found}
