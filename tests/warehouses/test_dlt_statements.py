"""How much a run says to a warehouse behind dlt: each statement costs the way there and back."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import Loaded
from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.replication import sync
from ometria_replica.tables import PROFILES
from ometria_simulator import serve
from tests.incremental.shops import HOUR, NOON, account, small_shop
from tests.places import BridgedDuckDBPlace, BridgedPostgresPlace
from tests.postgres import postgres
from tests.replicas import write_feed_file
from tests.warehouses.loads import Load, a_lease, opened, rows, state, table_state_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ometria_simulator import Account, Server
    from tests.places import Place

MOST = 20
"""Statements of a run in which nothing is new, those of dlt's connection among them."""


class Spoken:
    """The statements that a DuckDB file gets from dlt."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient  # noqa: PLC0415 -- dlt: 0.8 s.

        self.place: Place = BridgedDuckDBPlace(folder / "replica.duckdb")
        self._said: list[str] = []
        for name in ("begin_transaction", "commit_transaction"):
            self._note(monkeypatch, DuckDbSqlClient, name)
        ask = DuckDbSqlClient.execute_query

        def asked(client: Any, query: Any, *arguments: Any, **options: Any) -> Any:
            self._said.append(str(query))
            return ask(client, query, *arguments, **options)

        monkeypatch.setattr(DuckDbSqlClient, "execute_query", asked)

    def _note(self, monkeypatch: pytest.MonkeyPatch, client_class: Any, name: str) -> None:
        method = getattr(client_class, name)

        def noted(client: Any, *arguments: Any) -> Any:
            self._said.append(name)
            return method(client, *arguments)

        monkeypatch.setattr(client_class, name, noted)

    def since_last(self) -> list[str]:
        """Return what was said since the last call."""
        said, self._said = self._said, []
        return said


class Logged:
    """The statements in the log of a PostgreSQL server that a database of it gets."""

    def __init__(self) -> None:
        self.place = BridgedPostgresPlace.new()
        postgres().run(f"ALTER DATABASE {self.place.database} SET log_statement = 'all'")
        self._log = postgres().folder / "log"
        self._read = 0

    def since_last(self) -> list[str]:
        """Return what the log holds since the last call."""
        text = self._log.read_text(errors="replace")
        found = re.findall(r"LOG:  statement: ((?:.|\n\t)*)", text[self._read :])
        self._read = len(text)
        return found


@pytest.fixture(params=["duckdb", "postgres"])
def said(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Give a place behind dlt, and what is said to it."""
    listener = Spoken(tmp_path, monkeypatch) if request.param == "duckdb" else Logged()
    yield listener
    listener.place.remove()


@pytest.fixture
def shop() -> Account:
    """Return a small shop whose records are all old."""
    return small_shop()


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve the shop over HTTP, without a rate limit."""
    with serve(shop, requests_per_second=None) as running:
        yield running


def test_a_batch_without_news_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that comes again keeps its row, and the watermark is written with the lease."""
    heard = Spoken(tmp_path, monkeypatch)
    lease, profile = a_lease(), '{"id": "ann"}'
    with opened(heard.place) as warehouse:
        Load(PROFILES, [profile]).into(warehouse)
    heard.since_last()

    with opened(heard.place) as warehouse:
        warehouse.leases.acquire(lease, NOON)
        again = Load(PROFILES, [profile], at=NOON + HOUR, watermark=NOON, lease=lease)
        assert again.into(warehouse) == Loaded(unchanged=1)
        assert state(heard.place, "watermarks") == []
        warehouse.leases.release(lease)
        assert table_state_of(heard.place, "profiles").watermark == NOON

    statements = heard.since_last()
    assert (packages(statements), len(statements) <= MOST) == (0, True), statements
    assert [row["__synced_at"] for row in rows(heard.place, "profiles")] == [NOON]


@pytest.mark.slow
def test_a_run_says_little_and_loads_a_table_with_new_rows_once(
    said: Any, shop: Account, server: Server, tmp_path: Path
) -> None:
    """Without news, no row is loaded; of all that is read again, only what differs is."""
    feed = tmp_path / "feed"
    add_events(feed, "a.jsonl", NOON - 2 * HOUR)
    run(said.place, server, feed, NOON)
    before = rows(said.place, "lists")
    said.since_last()

    shop.set_time(NOON + HOUR)
    run(said.place, server, feed, NOON + HOUR)
    statements = said.since_last()
    assert (packages(statements), len(statements) <= MOST) == (0, True), statements
    assert rows(said.place, "lists") == before

    shop.set_time(NOON + 2 * HOUR)
    shop.update_profile("ann", firstname="Annabel")
    add_events(feed, "b.jsonl", NOON + HOUR)
    said.since_last()
    run(said.place, server, feed, NOON + 2 * HOUR)
    assert packages(said.since_last()) == 2

    shop.set_time(NOON + 3 * HOUR)
    run(said.place, server, feed, NOON + 3 * HOUR)
    assert packages(said.since_last()) == 0
    assert len(rows(said.place, "email_events")) == 2
    assert [row["outcome"] for row in state(said.place, "runs")] == ["succeeded"] * 4
    assert state(said.place, "leases") == []
    assert {
        row["table_name"]: row["reached_at"] - NOON > 2 * HOUR
        for row in state(said.place, "watermarks")
        if row["kind"] == "watermark"
    } == dict.fromkeys(["profiles", "lists", "member_lists", "unsubscribes"], True)


def run(place: Place, server: Server, feed: Path, at: datetime) -> None:
    """Sync, by a clock that goes a second further each time it is read."""
    seconds = count()
    config = Config(accounts=(account(server, feed),), warehouse=WarehouseSettings(url=place.url))
    sync(config, clock=lambda: at + timedelta(seconds=next(seconds)))


def add_events(feed: Path, name: str, at: datetime) -> None:
    """Export an event."""
    event = {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": str(at)}
    write_feed_file(feed, name, at, [event])


def packages(statements: list[str]) -> int:
    """Count the load packages of dlt, which notes each when it is loaded."""
    return sum(bool(re.match(r"INSERT INTO [^(]*_dlt_loads", each)) for each in statements)
