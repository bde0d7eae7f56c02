from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica.batch import Batch, BatchSize, Lease, Owner
from ometria_replica.clock import utc_now
from ometria_replica.errors import AccessDenied, Busy, ConfigError
from ometria_replica.mapping import Staging
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.engines.duckdb_file import FileAttachment
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Server, serve
from tests.duck import read_file
from tests.e2e.program import Ended, api_env, run
from tests.incremental.shops import DAY, HOUR, MINUTE, NOON, account, replicate, state
from tests.replicas import everything
from tests.unit.staged import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_simulator.server import LoggedRequest

HERE = os.uname().nodename
OWNER = Owner("1042", "uk", wide_keys=False)


def lease(run_id: str, *, host: str = HERE, pid: int | None = None, minutes: int = 15) -> Lease:
    return Lease("uk", run_id, host, os.getpid() if pid is None else pid, NOON + minutes * MINUTE)


def dead_process() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def hold(warehouse: Path, holder: Lease) -> None:
    """Write a lease into the file, like that of a running or a crashed process."""
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(OWNER, NOON)
        opened.leases.acquire(holder, NOON)


# --- One run at a time -------------------------------------------------------------------------


def test_a_second_run_names_the_running_one(server: Server, warehouse: Path) -> None:
    """The message names the run, the process and the host; nothing changes, and it exits 75."""
    hold(warehouse, lease("first"))

    with pytest.raises(Busy) as refused:
        replicate(warehouse, account(server), at=NOON + MINUTE)

    assert str(refused.value) == (
        f"run first (process {os.getpid()} on {HERE}) is loading 'uk' into {warehouse}, until"
        " 12:15:00 UTC at the latest. Run again when it is done."
    )
    assert refused.value.exit_code == 75
    assert server.requests == []
    assert [row["run_id"] for row in state(warehouse, "leases")] == ["first"]
    assert state(warehouse, "watermarks") == []


def test_a_second_process_exits_75(shop: Account, server: Server, warehouse: Path) -> None:
    """A program that starts between two pages of a sync exits 75, and the sync continues."""
    ended: list[Ended] = []

    def start_another(request: object) -> None:
        if not ended:
            ended.append(run("sync", env=environment, cwd=warehouse.parent))

    environment = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk"}
    server.after_request = start_another

    report = replicate(warehouse, account(server), at=utc_now)

    assert ended[0].code == 75
    holder = f"run {report.run_id} (process {os.getpid()} on {HERE}) is loading 'uk' into "
    assert ended[0].err.splitlines()[-1].startswith(holder)
    assert report.outcome == "succeeded"
    assert len(everything(warehouse)["profiles"]) == 3


def test_the_lease_of_an_ended_process_is_taken_over_at_once(
    server: Server, warehouse: Path
) -> None:
    """On the same machine, the run sees that the process has ended, at any age of the lease."""
    hold(warehouse, lease("crashed", pid=dead_process()))

    assert replicate(warehouse, account(server), at=NOON).outcome == "succeeded"
    assert state(warehouse, "leases") == []


def test_the_lease_of_another_machine_is_taken_over_after_it_expired(
    server: Server, warehouse: Path
) -> None:
    """The processes of another machine are unknown, so its lease must expire first."""
    hold(warehouse, lease("far away", host="elsewhere", pid=dead_process()))

    with pytest.raises(Busy, match=r"^run far away \(process \d+ on elsewhere\) is loading"):
        replicate(warehouse, account(server), at=NOON + 14 * MINUTE)

    assert replicate(warehouse, account(server), at=NOON + 15 * MINUTE).outcome == "succeeded"


def test_an_expired_lease_is_taken_over_from_a_running_process(
    server: Server, warehouse: Path
) -> None:
    """A run that did not renew its lease has lost it, even if its process lives."""
    hold(warehouse, lease("asleep"))

    assert replicate(warehouse, account(server), at=NOON + HOUR).outcome == "succeeded"


def batch(opened: Warehouse, holder: Lease, profile_id: str) -> Batch:
    staging = Staging(opened.connection, PROFILES, "1042", "uk")
    staging.add_pages([page(f'{{"id": "{profile_id}"}}')], NOON)
    staging.finish()
    return Batch(PROFILES, "uk", holder.run_id, NOON, watermark=NOON, lease=holder)


def test_a_run_that_lost_its_lease_writes_nothing(warehouse: Path) -> None:
    """After another run took over, a batch of the first is refused with its state."""
    first, second = lease("first"), lease("second", minutes=60)
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(OWNER, NOON)
        opened.leases.acquire(first, NOON)
        opened.load(batch(opened, first, "ann"))
        opened.leases.acquire(second, NOON + 20 * MINUTE)

        with pytest.raises(Busy) as refused:
            opened.load(batch(opened, first, "late"))
        opened.load(batch(opened, second, "bob"))
        opened.leases.release(first)

    assert str(refused.value) == (
        "Another run took over 'uk' in the warehouse, because this run was silent for too long."
        " Nothing of this batch was written. Run again."
    )
    rows = read_file(warehouse, "ometria.profiles")
    assert {row["profile_id"] for row in rows} == {"ann", "bob"}
    assert [row["run_id"] for row in state(warehouse, "leases")] == ["second"]
    assert [row["run_id"] for row in state(warehouse, "watermarks")] == ["second"]


def test_every_batch_renews_the_lease(warehouse: Path) -> None:
    """A run can last all night, as long as it writes batches."""
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(OWNER, NOON)
        opened.leases.acquire(lease("long"), NOON)
        later = lease("long", minutes=600)
        opened.load(batch(opened, later, "ann"))
        with pytest.raises(Busy):
            opened.leases.acquire(lease("other"), NOON + HOUR)
        opened.leases.release(lease("other"))
        held = opened.leases.holder("uk")
        opened.leases.release(later)
        after = opened.leases.holder("uk")

    assert held == later
    assert after is None


def test_a_failed_run_releases_its_lease(shop: Account, server: Server, warehouse: Path) -> None:
    """After an error the lease is free at once."""
    server.no_rights = frozenset({"profiles", "lists", "unsubscribes"})

    with pytest.raises(AccessDenied):
        replicate(warehouse, account(server), at=NOON)

    assert state(warehouse, "leases") == []


# --- Several sources in one file ---------------------------------------------------------------


def test_two_sources_load_side_by_side(
    shop: Account, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One source loads completely between two batches of another; their rows stay separate."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=1))
    uk, us = account(server), account(server, account_id="1043", source_id="us")
    alone = warehouse.with_name("alone.duckdb")
    replicate(alone, uk, at=NOON)
    replicate(alone, us, at=NOON)
    inner: list[Ended] = []

    def load_the_other(request: object) -> None:
        server.after_request = None
        inner.append(run("sync", env=environment, cwd=warehouse.parent, check=True))

    environment = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "us"}
    environment["OMETRIA_ACCOUNT_ID"] = "1043"
    server.after_request = load_the_other

    replicate(warehouse, uk, at=NOON)

    assert len(inner) == 1
    assert everything(warehouse) == everything(alone)
    assert state(warehouse, "leases") == []
    assert {row["source_id"] for row in state(warehouse, "watermarks")} == {"uk", "us"}


# --- The file's own lock -----------------------------------------------------------------------

HOLD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def held_open(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has the file open until its input closes."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield holder
        holder.communicate("")


def test_a_run_waits_for_a_file_lock(warehouse: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file opens as soon as the other process closes it; the log names that process."""
    with held_open(warehouse) as holder, duckdb.connect() as connection:
        slept = []

        def let_go(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                holder.communicate("")

        file = FileAttachment(str(warehouse), wait_seconds=10, sleep=let_go)
        with DuckDBEngine(connection, file).session("testing"):
            connection.execute("CREATE TABLE warehouse.there (x INTEGER)")

    assert len(slept) == 3
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"waiting for {warehouse} (")
    assert warning.endswith(f"(PID {holder.pid}))")


def test_a_persistent_lock_is_reported_with_its_process(warehouse: Path) -> None:
    """After the wait the error names the file and the process that has it open."""
    slept: list[float] = []
    with held_open(warehouse) as holder, duckdb.connect() as connection:
        file = FileAttachment(str(warehouse), wait_seconds=3, sleep=slept.append)
        with pytest.raises(Busy) as refused, DuckDBEngine(connection, file).session("testing"):
            pass

    assert sum(slept) == 3
    assert str(refused.value).startswith(f"{warehouse} is open in another program (")
    assert str(refused.value).endswith(
        f"(PID {holder.pid})), and DuckDB allows one writer at a time. Waited 3 s."
        " Close it there, then run again."
    )
    assert refused.value.exit_code == 75


COUNT = """
import duckdb, sys, time
for attempt in range(200):
    try:
        with duckdb.connect(sys.argv[1], read_only=True) as connection:
            (found,) = connection.execute("SELECT count(*) FROM ometria.profiles").fetchone()
    except duckdb.IOException:  # A batch is being written.
        found = 0
    if found:
        print(found)
        break
    time.sleep(0.05)
"""


def test_readers_can_open_the_file_between_two_batches(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During the request for the last page, another process can read the loaded rows."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=250))
    shop = Account(now=NOON - 90 * DAY)
    for number in range(3_000):  # More pages than concurrent requests.
        shop.add_profile(f"p{number:04}")
    shop.set_time(NOON)
    counts: list[str] = []

    def look(request: LoggedRequest) -> None:
        if request.query["offset"] == "2940":
            command = [sys.executable, "-c", COUNT, str(warehouse)]
            counts.append(subprocess.check_output(command, text=True))

    with serve(shop, requests_per_second=None) as server:
        server.after_request = look
        replicate(warehouse, account(server), at=NOON, tables=["profiles"])

    assert 250 <= int(counts[0]) < 3_000
    assert len(everything(warehouse)["profiles"]) == 3_000


def test_a_busy_account_does_not_block_the_others(server: Server, warehouse: Path) -> None:
    """If another run has the lease of one account, the other is synced and the run reports both."""
    first, second = account(server), account(server, account_id="2", source_id="fr")
    replicate(warehouse, first, second, at=NOON)
    open_warehouse(f"duckdb:///{warehouse}").leases.acquire(
        Lease("uk", "a-run", "elsewhere", 1, NOON + HOUR), NOON
    )

    with pytest.raises(Busy) as busy:
        replicate(warehouse, first, second, at=NOON + MINUTE)

    assert busy.value.report is not None
    assert {table.source_id for table in busy.value.report.tables} == {"fr"}
    assert len(state(warehouse, "runs")) == 2


def test_wrong_settings_are_refused_before_any_request(server: Server, warehouse: Path) -> None:
    """A changed source id is an error of the settings, even if another account is correct."""
    first, second = account(server), account(server, account_id="2", source_id="fr")
    replicate(warehouse, first, second, at=NOON)
    asked = len(server.requests)

    with pytest.raises(ConfigError, match="source_id"):
        replicate(warehouse, first, account(server, account_id="2", source_id="de"), at=NOON)

    assert len(server.requests) == asked
