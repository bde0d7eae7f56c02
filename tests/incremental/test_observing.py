"""What a run sends as traces and lineage, and that nothing of it can harm the run."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ometria_replica.catalog import CATALOG
from ometria_replica.config import Config, FeedSettings, WarehouseSettings
from ometria_replica.doctor.program import check_observers
from ometria_replica.errors import ConfigError, NotFound, ReplicaError
from ometria_replica.observing import observers, observing
from ometria_replica.observing.datasets import DatasetName, source_name, system_of, table_name
from ometria_replica.observing.texts import MOST_CHARACTERS, shown
from ometria_replica.ometria.observed_requests import template_of
from ometria_replica.replication import sync
from ometria_simulator import Fault, serve
from tests.collectors import Collector, collecting
from tests.duck import opened
from tests.e2e.program import api_env, run
from tests.incremental.shops import NOON, account, small_shop
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.report import RunReport
    from ometria_simulator import Server

CLIENT = 3  # The kind of a span, as OTLP numbers it.


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let nothing of this machine's own settings count, nor an openlineage.yml."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "OPENLINEAGE"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Run a collector that the variables name."""
    with collecting() as running:
        for name, value in running.env.items():
            if not name.startswith("OMETRIA_"):
                monkeypatch.setenv(name, value)
        yield running


def observed(
    warehouse: Path | str, *accounts: AccountSettings, traces: bool = True, lineage: bool = True,
    **options: Any,
) -> RunReport:  # fmt: skip
    """Sync as the command does, with its observers."""
    url = warehouse if isinstance(warehouse, str) else f"duckdb:///{warehouse}"
    config = Config(accounts, WarehouseSettings(url=url), traces=traces, lineage=lineage)
    with observing(config) as observe:
        return sync(config, clock=lambda: NOON, observe=observe, **options)


def feed_of(folder: Path, name: str = "events.jsonl") -> Path:
    """Write a file of one event; return its folder."""
    event = {"id": "e1", "profile_id": "ann", "event": "open", "timestamp": "2026-03-01T10:00:00Z"}
    folder.mkdir(exist_ok=True)
    write_feed_file(folder, name, NOON, [event])
    return folder


# --- traces ------------------------------------------------------------------------------------


def test_each_request_file_and_batch_is_a_span_below_its_table(
    collector: Collector, tmp_path: Path, warehouse: Path
) -> None:
    """Of two accounts that are read side by side, no span is below a table of the other."""
    feed = feed_of(tmp_path / "feed")
    with (
        serve(small_shop(), requests_per_second=None) as uk,
        serve(small_shop(), requests_per_second=None) as us,
    ):
        report = observed(
            warehouse,
            account(uk, feed, source_id="uk"),
            account(us, source_id="us", account_id="2"),
        )
        asked = len(uk.requests) + len(us.requests)

    spans = {span.id: span for span in collector.spans}
    root = collector.span("sync")
    assert {span.trace for span in spans.values()} == {root.trace}
    assert root.parent == ""
    assert root["ometria_replica.run_id"] == report.run_id
    assert root["db.system.name"] == "duckdb"
    tables = [span for span in spans.values() if span.name.startswith("read ")]
    assert {(span["ometria_replica.source_id"], span.name) for span in tables} == {
        (table.source_id, f"read {table.table}") for table in report.tables
    }
    for span in spans.values():
        parent = spans.get(span.parent)
        assert (parent is None) == (span is root)
        if parent is not None:
            assert parent.began - 0.01 <= span.began <= span.ended <= parent.ended + 0.01
        if span not in [root, *tables]:
            assert parent in tables
            for name in ("ometria_replica.source_id", "ometria_replica.table"):
                assert span[name] == parent[name]
    requests = [span for span in spans.values() if span.kind == CLIENT]
    assert len(requests) == asked == report.requests
    assert {span["http.response.status_code"] for span in requests} == {200}
    assert {span["server.port"] for span in requests} == {
        int(each.url.split(":")[2].removesuffix("/v2")) for each in (uk, us)
    }
    for table in report.tables:
        loads = [
            span
            for span in collector.named(f"load {table.table}")
            if span["ometria_replica.source_id"] == table.source_id
        ]
        for count in ("records", "inserted", "unchanged", "values_rejected"):
            of_spans = sum(span[f"ometria_replica.{count}"] for span in loads)
            assert of_spans == getattr(table, count)
    (file,) = feed.iterdir()
    assert collector.span("fetch file")["ometria_replica.file.size"] == file.stat().st_size
    assert collector.resource["service.name"] == "ometria-replica"


def test_each_attempt_of_a_request_is_a_span(
    collector: Collector, server: Server, warehouse: Path
) -> None:
    """Failed attempts name their status, or what broke; the next one counts them."""
    server.faults.next("/v2/lists/10/changes", Fault(status=503, retry_after="0"))
    server.faults.next("/v2/unsubscribes", Fault.reset())

    observed(warehouse, account(server))

    first, second = [
        span
        for span in collector.named("GET /lists/{id}/changes")
        if span.failed or span["http.request.resend_count"]
    ]
    assert (first["http.response.status_code"], first["error.type"]) == (503, "503")
    assert (second["http.response.status_code"], second["http.request.resend_count"]) == (200, 1)
    (broken,) = [span for span in collector.named("GET /unsubscribes") if span.failed]
    assert broken["http.response.status_code"] is None
    assert broken["error.type"] in {"ReadError", "RemoteProtocolError"}
    assert not collector.span("sync").failed


def test_a_run_continues_the_trace_and_the_job_that_started_it(
    collector: Collector, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler names its own span and its own job in the environment, as the standards say."""
    trace_id, span, job = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", str(UUID(int=7))
    monkeypatch.setenv("TRACEPARENT", f"00-{trace_id}-{span}-01")
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/nightly/ometria/{job}")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "shops")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "crm")

    observed(warehouse, account(server), tables=["lists"])

    assert (collector.span("sync").trace, collector.span("sync").parent) == (trace_id, span)
    assert collector.resource["service.name"] == "crm"
    first = collector.of_job("sync")[0]
    assert first["job"]["namespace"] == "shops"
    parent = first["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == job
    assert (parent["job"]["namespace"], parent["job"]["name"]) == ("airflow", "nightly/ometria")


def test_an_agent_that_has_set_up_opentelemetry_is_used(
    collector: Collector, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``opentelemetry-instrument`` does, with an exporter of its own: no address is needed."""
    of_agent = OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(of_agent))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")

    observed(warehouse, account(server), lineage=False, tables=["lists"])

    assert {span.name for span in collector.spans} == {
        "sync", "read lists", "GET /lists", "load lists",
    }  # fmt: skip
    provider.shutdown()


# --- lineage -----------------------------------------------------------------------------------


def test_each_table_is_a_job_with_its_source_its_columns_and_its_rows(
    collector: Collector, server: Server, tmp_path: Path, warehouse: Path
) -> None:
    """The columns are those that the warehouse has, and the counts those of the report."""
    feed = feed_of(tmp_path / "feed")

    report = observed(warehouse, account(server, feed))

    run = collector.of_job("sync")
    assert [each["eventType"] for each in run] == ["START", "COMPLETE"]
    assert run[0] == collector.events[0]
    assert run[1] == collector.events[-1]
    for table in report.tables:
        start, end = collector.of_job(f"sync.uk.{table.table}")
        assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
        assert start["run"]["runId"] == end["run"]["runId"] != run[0]["run"]["runId"]
        assert end["run"]["facets"]["parent"]["run"]["runId"] == run[0]["run"]["runId"]
        (output,), (source,) = end["outputs"], end["inputs"]
        assert output["namespace"] == f"duckdb://{warehouse}"
        assert output["name"] == f"w.ometria.{table.table}"
        rows = output["outputFacets"]["outputStatistics"]["rowCount"]
        assert rows == table.inserted + table.updated
        assert source["inputFacets"]["inputStatistics"]["rowCount"] == table.records
        fields = output["facets"]["schema"]["fields"]
        assert all(field["description"] for field in fields)
        with opened(warehouse) as database:
            columns = database.execute(f"DESCRIBE ometria.{table.table}").fetchall()
        assert [field["name"] for field in fields] == [column[0] for column in columns]
    sources = {
        event["job"]["name"].rpartition(".")[2]: (each["namespace"], each["name"])
        for event in collector.events
        for each in event["inputs"]
    }
    api = server.url.removesuffix("/v2")
    assert sources["member_lists"] == (api, "1042/lists/{id}/changes")
    assert sources["email_events"] == ("file", str(feed))


def test_each_event_has_what_the_specification_requires(
    collector: Collector, server: Server, warehouse: Path
) -> None:
    """One START and one end for each run; ids are UUIDs; a facet names its producer and schema."""
    server.faults.next("/v2/lists", Fault(status=404), times=9)
    with pytest.raises(NotFound):
        observed(warehouse, account(server))

    ended: dict[str, list[str]] = {}
    for event in collector.events:
        assert {"eventTime", "producer", "schemaURL", "run", "job"} <= event.keys()
        assert str(UUID(event["run"]["runId"])) == event["run"]["runId"]
        ended.setdefault(event["run"]["runId"], []).append(event["eventType"])
        datasets = [*event["inputs"], *event["outputs"]]
        assert all(each["namespace"] and each["name"] for each in datasets)
        for holder in [event["run"], event["job"], *datasets]:
            for kind in ("facets", "inputFacets", "outputFacets"):
                for facet in (holder.get(kind) or {}).values():
                    assert facet["_producer"].startswith(("pkg:", "https://"))
                    assert facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/")
    assert all(
        len(each) == 2 and each[0] == "START" and each[1] in {"COMPLETE", "FAIL"}
        for each in ended.values()
    )


def test_a_table_that_fails_is_told_of_and_the_others_complete(
    collector: Collector, server: Server, warehouse: Path
) -> None:
    """The reason is the message of the error; the run fails with it."""
    server.faults.next("/v2/unsubscribes", Fault(status=404), times=9)

    with pytest.raises(NotFound) as failure:
        observed(warehouse, account(server))

    for name, ends in {"profiles": "COMPLETE", "unsubscribes": "FAIL"}.items():
        assert collector.of_job(f"sync.uk.{name}")[-1]["eventType"] == ends
        span = collector.span(f"read {name}")
        assert span.failed == (ends == "FAIL")
        assert span["ometria_replica.outcome"] == ("failed" if span.failed else "succeeded")
    failed, run = collector.of_job("sync.uk.unsubscribes")[-1], collector.of_job("sync")[-1]
    assert run["eventType"] == "FAIL"
    for event in (failed, run):
        assert event["run"]["facets"]["errorMessage"]["message"] == str(failure.value)
    for span in (collector.span("read unsubscribes"), collector.span("sync")):
        assert (span.reason, span["error.type"]) == (str(failure.value), "NotFound")
    assert failed["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 0


def test_a_run_whose_warehouse_cannot_be_opened_fails_in_both(
    collector: Collector, server: Server, tmp_path: Path
) -> None:
    """Nothing was read, and the run is there even so, with the reason."""
    with pytest.raises(ReplicaError) as failure:
        observed(tmp_path / "nowhere" / "w.duckdb", account(server))

    assert [each["eventType"] for each in collector.events] == ["START", "FAIL"]
    (span,) = collector.spans
    assert (span.name, span.failed, span.reason) == ("sync", True, str(failure.value))


def test_a_dry_run_has_spans_and_no_lineage(
    collector: Collector, server: Server, warehouse: Path
) -> None:
    """It writes no table, so that no dataset has changed."""
    observed(warehouse, account(server), dry_run=True)

    assert collector.span("sync")["ometria_replica.dry_run"] is True
    assert collector.events == []


# --- what must not leave the machine -----------------------------------------------------------


def test_nothing_of_a_person_and_no_secret_is_sent(
    collector: Collector, server: Server, tmp_path: Path, warehouse: Path
) -> None:
    """Neither a key, nor an id or address of a person, nor the name of a file."""
    feed = feed_of(tmp_path / "feed", "jane.doe@example.com-events.jsonl")
    (feed / "of-jane@example.com.csv").write_bytes(b"\x00\xff no table\n\n")
    of_feed = dataclasses.replace(account(server, feed), source_id="uk")
    server.faults.next("/v2/unsubscribes", Fault(status=404, body="ann@example.com"), times=9)
    (tmp_path / ".git").mkdir()  # Of which OpenLineage's client reads the address.
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    remote = '[remote "origin"]\n\turl = https://git.example.com/shops.git\n'
    (tmp_path / ".git" / "config").write_text(remote)

    with pytest.raises(ReplicaError):
        observed(warehouse, of_feed)

    sent = b"\n".join(collector.bodies).decode(errors="replace")
    assert "sync.uk.email_events" in sent  # It was looked at.
    assert collector.named("fetch file")
    for canary in (server.key, "example.com", "jane", "ann", "bob", "Lovers", "VIP"):
        assert canary not in sent.replace("channel", "").replace("planned", "")
    headers = json.dumps(collector.headers)
    assert server.key not in headers


def test_names_in_the_settings_may_be_of_any_text(
    collector: Collector, server: Server, warehouse: Path
) -> None:
    """They arrive as they are, whatever they mean elsewhere."""
    odd = 'a"b\\c\n\x07<script>{{7*7}}\u202e é😀'

    observed(warehouse, account(server, source_id=odd), tables=["lists"])

    assert collector.span("read lists")["ometria_replica.source_id"] == odd
    assert collector.events[1]["job"]["name"] == f"sync.{odd}.lists"
    assert [each["eventType"] for each in collector.events] == [
        "START", "START", "COMPLETE", "COMPLETE",
    ]  # fmt: skip


@given(
    st.text(max_size=30),
    st.text("abz.+_-09", min_size=1, max_size=9),
    st.text("abz.-09", min_size=1, max_size=9),
)
def test_no_reason_holds_an_address(text: str, local: str, domain: str) -> None:
    """Masked is also an address that a URL quotes, and a long reason is cut."""
    address = f"{local}@{domain}"
    for written in (address, quote(address, safe="")):
        masked = shown(f"{text} {written} {text}")
        assert written not in masked
        assert written not in shown(f"{text} {written} " * 1_000)
        assert len(shown(f"{text} {written} " * 1_000)) <= MOST_CHARACTERS


def test_a_reason_is_else_shown_as_it_is() -> None:
    """What a URL has in place of its password is no address."""
    reason = "postgresql://me:***@db/shop: no connection (timeout); 'ometria.profiles' is safe."

    assert shown(reason) == reason


@given(st.text(min_size=1).map(lambda text: quote(text, safe="")))
def test_no_template_of_a_path_holds_an_id(identifier: str) -> None:
    """Whatever Ometria takes for an id."""
    assert template_of(f"profiles/{identifier}") == "/profiles/{id}"
    assert template_of(f"/lists/{identifier}/changes") == "/lists/{id}/changes"
    assert template_of(f"contacts/{identifier}") == "/contacts/{id}"
    assert template_of("push/_errors") == "/push/_errors"


@pytest.mark.parametrize(
    ("url", "namespace", "name"),
    [
        ("md:crm?motherduck_token=s3cret", "duckdb://md:crm", "crm"),
        ("postgresql://me:s3cret@db.example.com/shop", "postgres://db.example.com:5432", "shop"),
        ("postgres://me:s3c@ret/?x@h1:6000,h2/shop", "postgres://h1:6000", "shop"),
        ("dlt+postgresql://me:s3cret@[::1]:6000/shop", "postgres://[::1]:6000", "shop"),
        ("postgresql:///?host=db&dbname=shop", "postgres://db:5432", "shop"),
        ("redshift://me:s3cret@cluster:5439/shop", "redshift://cluster:5439", "shop"),
        ("snowflake://me:s3cret@org-acc/CRM?role=x", "snowflake://org-acc", "CRM"),
        ("bigquery://project?location=EU", "bigquery", "project"),
        ("databricks://token:s3cret@host?http_path=/x&catalog=crm", "databricks://host", "crm"),
        ("clickhouse://me:s3cret@host:9440/shop", "clickhouse://host:9440", "shop"),
    ],
)
def test_tables_are_named_as_openlineage_names_them(url: str, namespace: str, name: str) -> None:
    """By their server and database, and never with a user or a password."""
    found = table_name(url, CATALOG.table("lists"))

    assert found == DatasetName(namespace, f"{name}.ometria.lists")
    assert "+" not in system_of(url)
    assert system_of(url) not in {"md", "postgres"}


def test_tables_of_lakes_and_the_export_are_named_by_their_place(tmp_path: Path) -> None:
    """A bucket is a namespace, and so are all files of this machine."""
    lists, events = CATALOG.table("lists"), CATALOG.table("email_events")
    of_bucket = account(folder=tmp_path, feed=FeedSettings(url="s3://exports/acme/*.csv"))

    assert table_name("delta+s3://lake/crm", lists) == ("s3://lake", "crm/ometria/lists")
    assert table_name("delta:////data/crm", lists) == ("file", "/data/crm/ometria/lists")
    assert table_name("iceberg://prod", lists) == ("iceberg://prod", "ometria.lists")
    rest = table_name("iceberg+https://me:s3cret@host/api?token=s3cret", lists)
    assert rest == ("iceberg+https://host/api", "ometria.lists")
    assert source_name(of_bucket, events, CATALOG) == ("s3://exports", "acme")


# --- what must not harm the run ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "hangs", "refuses"])
def test_a_collector_that_cannot_take_anything_is_a_warning(
    how: str,
    collector: Collector,
    server: Server,
    warehouse: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run goes through, waits for a limited time at its end, and says what is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observers, "END_SECONDS", 0.4)
        if how == "closed":
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                address = f"http://127.0.0.1:{unused.getsockname()[1]}"
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
            patch.setenv("OPENLINEAGE_URL", address)
        elif how == "hangs":
            collector.hanging = threading.Event()
        else:
            collector.status = 403
        began = time.monotonic()
        report = observed(warehouse, account(server), tables=["lists"])

    assert report.outcome == "succeeded"
    assert time.monotonic() - began < 4
    assert [record.getMessage().partition(" of this run")[0] for record in caplog.records] == [
        "Spans",
        "OpenLineage events",
    ]
    assert "127.0.0.1" not in caplog.text


def test_an_observer_that_fails_is_a_warning(
    server: Server, warehouse: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One for the whole run, without what the error says."""

    def fails(event: object) -> None:
        raise LookupError("ann@example.com")

    config = Config((account(server),), WarehouseSettings(url=f"duckdb:///{warehouse}"))
    report = sync(config, ["lists"], clock=lambda: NOON, observe=fails)

    assert report.outcome == "succeeded"
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert warning.getMessage() == (
        "An observer of the run failed with LookupError. The run itself goes on."
    )


@pytest.mark.parametrize(
    ("environ", "problems"),
    [
        ({}, ["OTEL_EXPORTER_OTLP_ENDPOINT is not set", "OPENLINEAGE_URL is not"]),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318", "OPENLINEAGE_URL": "localhost"},
            ["OTEL_EXPORTER_OTLP_ENDPOINT is not a web address", "refuses its settings"],
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            ["by http/protobuf only", "OPENLINEAGE_URL is not"],
        ),
    ],
)
def test_all_that_is_missing_is_said_before_anything_is_contacted(
    environ: dict[str, str], problems: list[str], server: Server, warehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Neither library sends to an address of its own."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as error:
        observed(warehouse, account(server))

    config = Config((), WarehouseSettings(), traces=True, lineage=True)
    (finding,) = check_observers(config)
    assert (finding.level, str(finding.error)) == ("fail", str(error.value))
    assert len(error.value.problems) == len(problems)
    for found, expected in zip(error.value.problems, problems, strict=True):
        assert expected in found
    assert server.requests == []
    assert not warehouse.exists()


def test_a_check_opens_them_and_sends_nothing(collector: Collector) -> None:
    """One that is off is not opened."""
    for lineage in (True, False):
        config = Config((), WarehouseSettings(), traces=True, lineage=lineage)
        (finding,) = check_observers(config)
        names = "traces and lineage" if lineage else "traces"
        assert finding.text == f"The settings for {names} are complete."
    assert list(check_observers(Config((), WarehouseSettings()))) == []
    assert collector.bodies == []


def test_the_extra_that_is_missing_is_named(
    collector: Collector, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    for name in [name for name in sys.modules if name.startswith("ometria_replica.observing.")]:
        if name.rpartition(".")[2] in {"lineage", "traces"}:
            monkeypatch.delitem(sys.modules, name)
    for name in ("opentelemetry", "openlineage", "openlineage.client"):
        monkeypatch.setitem(sys.modules, name, None)  # Python then finds no such package.

    with pytest.raises(ConfigError) as error:
        observed(warehouse, account(server))

    assert error.value.problems == tuple(
        f"{name}: is set, and needs more packages: pip install 'ometria-replica[{name}]'."
        for name in ("traces", "lineage")
    )


@pytest.mark.parametrize(
    "setting", ["OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none", "OPENLINEAGE_DISABLED=true"]
)
def test_the_standard_variables_switch_off(
    setting: str,
    collector: Collector,
    server: Server,
    warehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they do for any other program."""
    monkeypatch.setenv(*setting.split("="))

    observed(warehouse, account(server), tables=["lists"])

    assert bool(collector.spans) == setting.startswith("OPENLINEAGE")
    assert bool(collector.events) == setting.startswith("OTEL")


def test_a_sync_without_them_imports_nothing_of_them(
    collector: Collector, server: Server, tmp_path: Path, warehouse: Path
) -> None:
    """An address alone switches nothing on, so that a run sends nothing and costs nothing more."""
    code = """\
import atexit, sys
from ometria_replica.cli import main
heavy = ("opentelemetry", "openlineage", "requests", "google.protobuf")
atexit.register(lambda: print([name for name in sys.modules if name.startswith(heavy)]))
main()
"""
    off = {name: value for name, value in collector.env.items() if not name.startswith("OMETRIA_")}

    ended = run("sync", env=api_env(server, warehouse) | off, cwd=tmp_path, code=code, check=True)

    assert ended.out.splitlines()[-1] == "[]"
    assert collector.bodies == []


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_a_run_that_is_ended_is_aborted_or_never_ends(
    number: int, collector: Collector, server: Server, tmp_path: Path, warehouse: Path
) -> None:
    """A signal aborts the run and its table; a kill loses the spans, and only these."""
    server.faults.next("/v2/lists", Fault.hang(25))
    environ = os.environ | api_env(server, warehouse) | collector.env
    with subprocess.Popen(
        [sys.executable, "-m", "ometria_replica", "sync"], env=environ, stderr=subprocess.DEVNULL
    ) as process:
        while server.faults._rules and process.poll() is None:
            time.sleep(0.02)  # Until the request that hangs is under way.
        process.send_signal(number)
        process.communicate(timeout=10)

    lists = [each["eventType"] for each in collector.of_job("sync.ometria-uk.lists")]
    if number == signal.SIGKILL:
        assert lists in ([], ["START"])
        assert collector.named("sync") == []
        return
    assert process.returncode == 143
    assert lists == ["START", "ABORT"]
    assert [each["eventType"] for each in collector.of_job("sync")] == ["START", "ABORT"]
    assert collector.span("read profiles")["ometria_replica.outcome"] == "succeeded"
    for name in ("read lists", "sync"):
        assert collector.span(name)["ometria_replica.outcome"] == "stopped"
