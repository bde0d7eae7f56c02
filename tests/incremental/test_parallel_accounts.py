"""Accounts that are read at the same time load what they would load one after the other."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.batch import BatchSize, Lease, Owner
from ometria_replica.config import Config, Secret, WarehouseSettings
from ometria_replica.errors import ReplicaError
from ometria_replica.replication import sync
from ometria_replica.run_context import NoProgress
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Fault, serve
from tests.duck import read_file
from tests.incremental.shops import DAY, HOUR, MINUTE, NOON, account, small_shop, state
from tests.replicas import everything, write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.records import FetchedFile
    from ometria_replica.report import RunReport
    from ometria_simulator import Server

NAMES = ("uk", "us", "fr", "de")
BOUND = 20.0  # Seconds after which something that should happen has not.


def run(
    warehouse: Path, *accounts: AccountSettings, at_once: int = 8, **options: Any
) -> RunReport | ReplicaError:
    """Sync at noon; return the report, or the error."""
    chosen = Config(
        accounts=accounts,
        warehouse=WarehouseSettings(url=f"duckdb:///{warehouse}"),
        parallel_accounts=at_once,
    )
    try:
        return sync(chosen, **{"clock": lambda: NOON, **options})
    except ReplicaError as error:
        return error


@contextmanager
def shops(*names: str, profiles: int = 3) -> Iterator[dict[str, Server]]:
    """Serve a shop for each name; the profiles of each have ids of their own."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serve(shop_of(name, profiles), requests_per_second=None))
            for name in names
        }


def shop_of(name: str, profiles: int = 3) -> Account:
    shop = small_shop()
    for number in range(profiles - 3):
        shop.add_profile(f"{name}{number:04}", email=f"{name}{number}@example.com")
    return shop


def settings_of(name: str, server: Server | None, folder: Path | None = None) -> AccountSettings:
    return account(server, folder, account_id=f"account {name}", source_id=name)


def outcomes(done: RunReport | ReplicaError) -> list[tuple[object, ...]]:
    """Give what a run did to each table; how often pages overlap depends on latencies."""
    report = done.report if isinstance(done, ReplicaError) else done
    assert report is not None
    return [
        (table.source_id, table.table, table.inserted, table.updated, table.rejected, table.files)
        for table in report.tables
        if table.error is None
    ]


# --- at the same time ---------------------------------------------------------------------------


def test_accounts_are_read_at_the_same_time(warehouse: Path) -> None:
    """Each answers its first request only once the other has been asked too."""
    meeting = threading.Barrier(2)
    with shops("uk", "us") as servers:
        for server in servers.values():
            server.after_request = once(lambda: meeting.wait(BOUND))

        done = run(warehouse, *(settings_of(name, each) for name, each in servers.items()))

    assert not isinstance(done, ReplicaError)
    assert not meeting.broken
    assert [table.source_id for table in done.tables] == ["uk"] * 4 + ["us"] * 4


def test_the_feed_of_an_account_is_read_while_its_api_is(server: Server, warehouse: Path) -> None:
    """The API answers once a file was asked for."""
    asked = threading.Event()
    server.after_request = once(lambda: asked.wait(BOUND))
    folder = feed_of(warehouse.parent / "feed", "uk")

    def fetch(*_: object) -> Iterator[FetchedFile]:
        asked.set()
        return iter(())

    done = run(warehouse, account(server, folder), fetch=fetch)

    assert not isinstance(done, ReplicaError)
    assert asked.is_set()
    assert [table.table for table in done.tables][-1] == "email_events"
    assert done.tables[-1].requests == 0
    assert done.requests == len(server.requests)


def test_with_one_at_a_time_nothing_is_read_beside(warehouse: Path) -> None:
    """The second account, and the feed of each, wait until the tables before are loaded."""
    order: list[tuple[str, str]] = []

    class Watch(NoProgress):
        def start(self, source_id: str, table: str, *_: object) -> None:
            order.append((source_id, table))

    with shops("uk", "us") as servers:
        folder = warehouse.parent
        run(
            warehouse,
            *(settings_of(n, s, feed_of(folder / n, n)) for n, s in servers.items()),
            at_once=1,
            progress=Watch(),
        )

    tables = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")
    assert order == [(name, table) for name in ("uk", "us") for table in tables]


def test_an_account_that_hangs_keeps_no_other_waiting(warehouse: Path) -> None:
    """The answer of the first comes once the second is loaded to its end."""
    loaded = threading.Event()

    class Watch(NoProgress):
        def finish(self, report: Any) -> None:
            if (report.source_id, report.table) == ("us", "unsubscribes"):
                loaded.set()

    with shops("uk", "us") as servers:
        servers["uk"].after_request = once(lambda: loaded.wait(BOUND))
        accounts = [settings_of(name, each) for name, each in servers.items()]

        done = run(warehouse, *accounts, progress=Watch())

    assert loaded.is_set()
    assert not isinstance(done, ReplicaError)
    assert [table.source_id for table in done.tables] == ["uk"] * 4 + ["us"] * 4


def test_no_more_are_read_at_once_than_the_setting_allows(warehouse: Path) -> None:
    """Of four accounts, two hold a lease at any time."""
    most = 0
    with shops(*NAMES) as servers:

        class Watch(NoProgress):
            def start(self, *_: object) -> None:
                nonlocal most
                most = max(most, len(state(warehouse, "leases")))

        accounts = [settings_of(name, each) for name, each in servers.items()]
        done = run(warehouse, *accounts, at_once=2, progress=Watch())

    assert not isinstance(done, ReplicaError)
    assert most == 2


def test_progress_is_reported_by_the_thread_that_runs_it(warehouse: Path) -> None:
    """However many read: so a program's own progress needs no locks."""
    threads = set()
    seen = set()

    class Watch(NoProgress):
        def start(self, *_: object) -> None:
            threads.add(threading.get_ident())

        def advance(self, source_id: str, table: str, *_: object) -> None:
            threads.add(threading.get_ident())
            seen.add((source_id, table))

        def finish(self, *_: object) -> None:
            threads.add(threading.get_ident())

    with shops("uk", "us") as servers:
        run(warehouse, *(settings_of(n, each) for n, each in servers.items()), progress=Watch())

    assert threads == {threading.get_ident()}
    assert {("uk", "profiles"), ("us", "profiles")} <= seen


def test_the_feed_waits_where_erasures_are_followed(server: Server, warehouse: Path) -> None:
    """What the API tells of erased people is known before a file is read."""
    order = []

    class Watch(NoProgress):
        def start(self, _source_id: str, table: str, *_: object) -> None:
            order.append(table)

    follows = account(server, feed_of(warehouse.parent / "feed", "uk"), follow_erasures=True)
    run(warehouse, follows, progress=Watch())

    assert order[-1] == "email_events"
    assert len(order) == 5


# --- the same result ----------------------------------------------------------------------------


FATES = ("well", "large", "wrong key", "odd data", "no answer", "no lists", "leased", "bad file")


@pytest.mark.parametrize(
    "fates",
    [
        ("large", "wrong key", "leased", "odd data"),
        pytest.param(("no answer", "no lists", "bad file"), marks=pytest.mark.slow),
    ],
)
def test_what_happens_in_one_account_is_no_matter_of_the_others(
    fates: Sequence[str], tmp_path: Path
) -> None:
    """Rows, state, rejects, reports and errors are those of a run that reads one at a time."""
    compare(fates, 4, tmp_path)


@pytest.mark.slow
@given(st.lists(st.sampled_from(FATES), min_size=2, max_size=4), st.integers(2, 4))
@settings(max_examples=8, deadline=None)
def test_whatever_happens_all_load_what_they_would_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, fates: Sequence[str], at_once: int
) -> None:
    """As above, for any accounts."""
    compare(fates, at_once, tmp_path_factory.mktemp("fates"))


def compare(fates: Sequence[str], at_once: int, folder: Path) -> None:
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(Warehouse, "batch_size", BatchSize(records=100, files=1))
        accounts = [
            stack.enter_context(meeting_fate(name, fate, folder))
            for name, fate in zip(NAMES, fates, strict=False)
        ]
        serial, parallel = folder / "serial.duckdb", folder / "parallel.duckdb"
        leased = [name for name, fate in zip(NAMES, fates, strict=False) if fate == "leased"]
        for warehouse in (serial, parallel):
            lease(warehouse, leased)

        one = run(serial, *accounts, at_once=1)
        other = run(parallel, *accounts, at_once=at_once)

    assert outcomes(one) == outcomes(other)
    assert (type(one), source_of(one)) == (type(other), source_of(other))
    assert everything(parallel, load_time=False) == everything(serial, load_time=False)
    for name in ("watermarks", "files", "deleted_upstream"):
        assert timeless(parallel, name) == timeless(serial, name)
    assert len(state(parallel, "rejects")) == len(state(serial, "rejects"))
    assert [row["source_id"] for row in state(parallel, "leases")] == sorted(leased)


@contextmanager
def meeting_fate(name: str, fate: str, folder: Path) -> Iterator[AccountSettings]:
    shop = shop_of(name, profiles=600 if fate == "large" else 3)
    if fate == "odd data":
        shop.update_profile("ann", date_of_birth="soon")
    files = feed_of(folder / name, name)
    if fate == "bad file":
        (files / "2.jsonl").write_bytes(b"\x1f\x8b\x08\x00 no gzip" * 9)
        os.utime(files / "2.jsonl", (NOON.timestamp(), NOON.timestamp()))
    with serve(shop, requests_per_second=None) as server:
        if fate == "no lists":
            server.no_rights = frozenset({"lists"})
        if fate == "no answer":
            server.faults.sometimes("/v2/unsubscribes", Fault(status=404), 1.0)
        settings = settings_of(name, server, files)
        if fate == "wrong key":
            settings = dataclasses.replace(settings, api_key=Secret("another", "the test"))
        yield settings


def lease(warehouse: Path, names: Sequence[str]) -> None:
    """Let another run, on another machine, hold the leases of sources."""
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        for name in names:
            opened.prepare(Owner(f"account {name}", name), NOON)
            opened.leases.acquire(Lease(name, "another", "elsewhere", 1, NOON + HOUR), NOON)


def source_of(done: RunReport | ReplicaError) -> str | None:
    return done.source_id if isinstance(done, ReplicaError) else None


def timeless(warehouse: Path, name: str) -> list[tuple[object, ...]]:
    """Give the rows without the run, and times, which depend on latencies, by the minute."""
    return sorted(
        tuple(
            f"{value + MINUTE / 2:%F %R}" if isinstance(value, datetime) else f"{value}"
            for name, value in row.items()
            if name not in {"run_id", "loaded_at"}
        )
        for row in state(warehouse, name)
    )


@pytest.mark.slow
def test_full_reads_of_two_accounts_that_interleave_find_their_own_deleted_profiles(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that one read has seen are not those of the other, batch by batch."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=100))
    with shops("uk", "us", profiles=700) as servers:
        accounts = [
            dataclasses.replace(settings_of(name, each), deletes="remove", max_deleted_share=0.9)
            for name, each in servers.items()
        ]
        run(warehouse, *accounts, tables=["profiles"])
        page_by_page = threading.Barrier(2)
        for name, each in servers.items():
            each.account.delete_profile(f"{name}0005")
        for each in servers.values():
            each.after_request = lambda _: wait_a_while(page_by_page)

        done = run(warehouse, *accounts, tables=["profiles"], detect_deletes=True)

    assert not isinstance(done, ReplicaError)
    assert [(table.source_id, table.removed) for table in done.tables] == [("uk", 1), ("us", 1)]
    gone = state(warehouse, "deleted_upstream")
    assert [(row["source_id"], row["record_id"]) for row in gone] == [
        ("uk", "uk0005"),
        ("us", "us0005"),
    ]
    assert len(read_file(warehouse, "ometria.profiles")) == 2 * 699


def test_two_accounts_with_one_key_share_its_rate(warehouse: Path) -> None:
    """None of their requests is refused, although both are read at the same time."""
    with serve(small_shop(), requests_per_second=20) as server:
        slow = [
            dataclasses.replace(settings_of(name, server), requests_per_second=20)
            for name in ("uk", "us")
        ]
        done = run(warehouse, *slow)

    assert not isinstance(done, ReplicaError)
    assert {request.status for request in server.requests} == {200}


# --- the end of a run ---------------------------------------------------------------------------


TWO = """\
[warehouse]
url = "{warehouse}"
[[accounts]]
account_id = "1"
source_id = "uk"
api_key = "env:KEY"
api_url = "{uk}"
requests_per_second = 1000
[[accounts]]
account_id = "2"
source_id = "us"
api_key = "env:KEY"
api_url = "{us}"
requests_per_second = 1000
[accounts.feed]
url = "{feed}"
"""


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_a_run_of_several_accounts_that_is_ended_leaves_what_it_has_loaded(
    number: int, tmp_path: Path, warehouse: Path
) -> None:
    """
    A signal ends all accounts within seconds, although one hangs, and releases their leases.

    After a kill, the next run takes over both leases, and notes once that the run did not end.
    """
    (tmp_path / "tmp").mkdir()
    with shops("uk", "us") as servers:
        servers["uk"].faults.next("/v2/lists", Fault.hang(60))
        servers["us"].faults.next("/v2/unsubscribes", Fault.hang(60))
        feed = feed_of(tmp_path / "feed", "us")
        urls = {name: each.url for name, each in servers.items()}
        (tmp_path / "two.toml").write_text(TWO.format(warehouse=warehouse, feed=feed, **urls))
        environ = os.environ | {
            "OMETRIA_CONFIG": str(tmp_path / "two.toml"),
            "KEY": servers["uk"].key,
            "XDG_CACHE_HOME": str(tmp_path),
            "TMPDIR": str(tmp_path / "tmp"),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "ometria_replica", "sync"],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_for(lambda: asked(servers["uk"], "lists") and asked(servers["us"], "unsubscribes"))
            began = time.monotonic()
            process.send_signal(number)
            process.communicate(timeout=BOUND)
            took = time.monotonic() - began
        rows = everything(warehouse)
        assert {row["__source_id"] for row in rows["profiles"]} == {"uk", "us"}
        if number == signal.SIGTERM:
            assert process.returncode == 143
            assert took < 8
            assert list((tmp_path / "tmp").iterdir()) == []
            assert [each["outcome"] for each in state(warehouse, "runs")] == ["stopped"]
        left = [row["source_id"] for row in state(warehouse, "leases")]
        assert left == ([] if number == signal.SIGTERM else ["uk", "us"])

        accounts = (settings_of("uk", servers["uk"]), settings_of("us", servers["us"], feed))
        named = [
            dataclasses.replace(each, account_id=f"{number}", feed=each.feed)
            for number, each in enumerate(accounts, 1)
        ]
        done = run(warehouse, *named, clock=lambda: NOON + 365 * 5 * DAY)
        run(warehouse.with_name("whole.duckdb"), *named)

    assert not isinstance(done, ReplicaError)
    assert everything(warehouse) == everything(warehouse.with_name("whole.duckdb"))
    assert state(warehouse, "leases") == []
    outcome = "stopped" if number == signal.SIGTERM else "did not end"
    assert sorted(each["outcome"] for each in state(warehouse, "runs")) == sorted(
        [outcome, "succeeded"]
    )


# --- helpers ------------------------------------------------------------------------------------


def feed_of(folder: Path, name: str) -> Path:
    for number in range(3):
        event = {"to_address": f"{name}{number}@example.com", "event_type": "open"}
        at = NOON - (3 - number) * HOUR
        events = [{**event, "dt_occurred": "2026-01-01"}]
        write_feed_file(folder, f"{number}.jsonl", at, events)
    return folder


def once(wait: Any) -> Any:
    """Call *wait* after the first request, and not again."""
    first = threading.Lock()

    def after(_request: object) -> None:
        if first.acquire(blocking=False):
            wait()

    return after


def wait_a_while(barrier: threading.Barrier) -> None:
    """Let both go on at the same time, as long as both have something to answer."""
    try:
        barrier.wait(0.3)
    except threading.BrokenBarrierError:
        barrier.reset()


def asked(server: Server, path: str) -> bool:
    """Whether a request that hangs has arrived: its fault is taken."""
    return not any(rule.prefix == f"/v2/{path}" for rule in server.faults._rules)


def wait_for(is_so: Any) -> None:
    until = time.monotonic() + BOUND
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)
