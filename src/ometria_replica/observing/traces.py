"""
Spans of a run for OpenTelemetry: the run, its tables, and their requests, files and batches.

Names and attributes are those of OpenTelemetry's semantic conventions, where there are any; others
begin with ``ometria_replica.``. Left out is ``url.full``: a query may hold an email address.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from ometria_replica.errors import ConfigError
from ometria_replica.observer import (
    BatchLoaded,
    Ending,
    FeedListed,
    FileFetched,
    RequestSent,
    RunEnded,
    RunStarted,
    TableEnded,
    TableStarted,
)
from ometria_replica.observing.datasets import system_of
from ometria_replica.observing.texts import shown
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span, Tracer

    from ometria_replica.observer import Event, Place

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"

_COUNTS = (
    "requests",
    "rate_limited",
    "files",
    "files_unreadable",
    "records",
    "inserted",
    "updated",
    "unchanged",
    "removed",
    "records_rejected",
    "values_rejected",
)
"""Of a table's report, as attributes of its span; those of a run are their sums."""


def opened() -> Traces | None:
    """
    Make the observer that the environment describes; None if ``OTEL_*`` variables switch it off.

    Where an agent has set up OpenTelemetry in this process, its provider is used.

    Raises ConfigError without an address, or for a protocol other than HTTP.
    """
    exporters = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporters == "none":
        return None
    parent = TraceContextTextMapPropagator().extract(
        {name: os.environ.get(name.upper(), "") for name in ("traceparent", "tracestate")}
    )
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider):
        flush: Callable[[], object] = getattr(provider, "force_flush", lambda: None)
        return Traces(provider.get_tracer("ometria_replica", __version__), parent, flush)
    _check_environment()
    exporter = _Exporter(OTLPSpanExporter())
    ours = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    ours.add_span_processor(BatchSpanProcessor(exporter))
    tracer = ours.get_tracer("ometria_replica", __version__)
    return Traces(tracer, parent, ours.shutdown, exporter)


class Traces:
    """
    Makes spans of events with *tracer*; the run's is a child of *parent*.

    *finish* sends what is left, and *exporter* knows what failed; None where it is not ours.
    """

    what = "Spans"
    place = "OTEL_EXPORTER_OTLP_ENDPOINT"

    def __init__(
        self,
        tracer: Tracer,
        parent: Context,
        finish: Callable[[], object],
        exporter: _Exporter | None = None,
    ) -> None:
        self._tracer = tracer
        self._parent = parent
        self._finish = finish
        self._exporter = exporter
        self._system = ""
        self._run: Span | None = None
        self._tables: dict[Place, Span] = {}
        self._contexts: dict[Place | None, Context] = {}

    def __call__(self, event: Event) -> None:
        """Start a span, end one, or add one that has ended."""
        match event:
            case RunStarted():
                self._start_run(event)
            case RunEnded():
                self._end_run(event)
            case TableStarted():
                self._start_table(event)
            case TableEnded():
                self._end_table(event)
            case RequestSent():
                self._add(event, f"{event.method} {event.template}", _of_request(event))
            case FeedListed():
                self._add(event, "list files", {"ometria_replica.files": event.files})
            case FileFetched():
                self._add(event, "fetch file", {"ometria_replica.file.size": event.size})
            case BatchLoaded():
                name = f"load {event.place.table}"
                self._add(event, name, _of_batch(event) | {"db.system.name": self._system})

    def close(self) -> None:
        """Send what is left."""
        self._finish()

    @property
    def failed(self) -> bool:
        """Whether spans could not be sent."""
        return self._exporter is not None and self._exporter.failed

    # --- helpers ---

    def _start_run(self, event: RunStarted) -> None:
        self._system = system_of(event.config.warehouse.url)
        self._run = self._tracer.start_span(
            "sync",
            self._parent,
            start_time=_nanoseconds(event.began_at),
            attributes={
                "ometria_replica.run_id": event.run_id,
                "ometria_replica.dry_run": event.dry_run,
                "ometria_replica.accounts": len(event.config.accounts),
                "db.system.name": self._system,
            },
        )
        self._contexts[None] = trace.set_span_in_context(self._run, self._parent)

    def _end_run(self, event: RunEnded) -> None:
        for place in list(self._tables):  # Of threads that did not end in time after a signal.
            _end(self._tables.pop(place), event.began_at + event.seconds, Ending("stopped"))
        if self._run is None:
            return
        tables = event.report.tables if event.report else ()
        counts = {name: sum(getattr(table, name) for table in tables) for name in _COUNTS}
        self._run.set_attributes(_prefixed(counts))
        _end(self._run, event.began_at + event.seconds, event.ending)

    def _start_table(self, event: TableStarted) -> None:
        span = self._tracer.start_span(
            f"read {event.place.table}",
            self._contexts.get(None, self._parent),
            start_time=_nanoseconds(event.began_at),
            attributes=_of_place(event.place),
        )
        self._tables[event.place] = span
        self._contexts[event.place] = trace.set_span_in_context(span, self._parent)

    def _end_table(self, event: TableEnded) -> None:
        span = self._tables.pop(event.place, None)
        if span is None:
            return
        span.set_attributes(_prefixed({name: getattr(event.report, name) for name in _COUNTS}))
        _end(span, event.began_at + event.seconds, event.ending)

    def _add(
        self,
        event: RequestSent | FeedListed | FileFetched | BatchLoaded,
        name: str,
        attributes: Mapping[str, Any],
    ) -> None:
        """Add a span for what has happened, below that of its table."""
        run = self._contexts.get(None, self._parent)
        span = self._tracer.start_span(
            name,
            self._contexts.get(event.place, run),
            SpanKind.CLIENT if isinstance(event, RequestSent) else SpanKind.INTERNAL,
            {**attributes, **(_of_place(event.place) if event.place else {})},
            start_time=_nanoseconds(event.began_at),
        )
        error = None if isinstance(event, FeedListed) else event.error
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(event.began_at + event.seconds))


class _Exporter(SpanExporter):
    """Exports by another exporter, and notes whether that failed."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = False

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self.failed |= result is not SpanExportResult.SUCCESS
        return result

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()

    @override
    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _check_environment() -> None:
    """Raise ConfigError unless the environment names an address to which our exporter can send."""
    name, address = next(
        ((each, os.environ[each]) for each in ENDPOINTS if os.environ.get(each)), (ENDPOINTS[1], "")
    )
    protocol = next((os.environ[each] for each in PROTOCOLS if os.environ.get(each)), PROTOCOL)
    problems = []
    if urlsplit(address).scheme not in {"http", "https"}:
        said = "is not a web address" if address else "is not set"
        problems.append(
            f"traces: is set, and {name} {said}. Set it to the address of your collector, such as"
            " http://localhost:4318."
        )
    if protocol != PROTOCOL:
        problems.append(f"traces: spans are sent by {PROTOCOL} only. Set {PROTOCOLS[1]} to that.")
    if problems:
        raise ConfigError(problems)


def _resource() -> Resource:
    """Describe this program; what ``OTEL_SERVICE_NAME`` and the like say goes first."""
    ours = Resource({"service.name": "ometria-replica", "service.version": __version__})
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())


def _of_place(place: Place) -> dict[str, str]:
    return {"ometria_replica.source_id": place.source_id, "ometria_replica.table": place.table}


def _of_request(event: RequestSent) -> dict[str, Any]:
    address = urlsplit(event.address)
    port = address.port or (443 if address.scheme == "https" else 80)
    attributes: dict[str, Any] = {
        "http.request.method": event.method,
        "url.template": event.template,
        "url.scheme": address.scheme,
        "server.address": address.hostname or "",
        "server.port": port,
        "ometria_replica.waited_seconds": round(event.waited_seconds, 6),
    }
    if event.status is not None:
        attributes["http.response.status_code"] = event.status
    if event.attempt > 1:
        attributes["http.request.resend_count"] = event.attempt - 1
    return attributes


def _of_batch(event: BatchLoaded) -> dict[str, Any]:
    counts = {
        "files": event.files,
        "records": event.records,
        "inserted": event.inserted,
        "updated": event.updated,
        "unchanged": event.unchanged,
        "removed": event.removed,
        "records_rejected": event.records_rejected,
        "values_rejected": event.values_rejected,
        "mapping_seconds": round(event.mapping_seconds, 6),
    }
    return {"db.collection.name": event.place.table, **_prefixed(counts)}


def _prefixed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"ometria_replica.{name}": value for name, value in values.items()}


def _end(span: Span, at: float, ending: Ending) -> None:
    span.set_attribute("ometria_replica.outcome", ending.ended)
    if ending.ended != "succeeded":
        span.set_attribute("error.type", ending.kind or ending.ended)
        reason = shown(ending.reason) if ending.reason else None
        span.set_status(Status(StatusCode.ERROR, reason))
    span.end(_nanoseconds(at))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
