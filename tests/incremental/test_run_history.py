"""The history of runs: those that ended otherwise than they should, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ometria_replica import failpoints
from ometria_replica.batch import Lease, Owner
from ometria_replica.errors import OmetriaError
from ometria_replica.report import history_as_text
from ometria_replica.stopping import Stopped
from ometria_replica.warehouse import open_warehouse
from ometria_simulator import Fault
from tests.incremental.shops import HOUR, MINUTE, NOON, account, replicate, state

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Server


def history(warehouse: Path) -> str:
    """Return the history, newest run first."""
    with open_warehouse(f"duckdb:///{warehouse}", dry_run=True) as opened:
        return history_as_text(json.loads(run.report) for run in opened.runs.newest(10))


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (Stopped(15), "stopped", "stopped by SIGTERM"),
        (Stopped(2), "stopped", "stopped by SIGINT"),
        (KeyboardInterrupt(), "stopped", "stopped by KeyboardInterrupt"),
        (KeyError("ann@example.com"), "failed", "bug in ometria-replica: KeyError"),
    ],
    ids=str,
)
def test_a_run_that_is_stopped_is_in_the_history(
    error: BaseException, outcome: str, reason: str, server: Server, warehouse: Path
) -> None:
    """A signal or a bug of the program is its reason, and holds no data."""

    def end(step: str) -> None:
        if step == "before insert":
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_listeners", [end])
        with pytest.raises(type(error)):
            replicate(warehouse, account(server), at=NOON)

    (run,) = state(warehouse, "runs")
    assert run["outcome"] == outcome
    assert history(warehouse).endswith(f"  {reason}")
    assert "ann@example.com" not in run["report"]


def test_why_a_run_failed_is_in_the_history(server: Server, warehouse: Path) -> None:
    """It is the error with which the run ended."""
    server.faults.next("/v2/profiles", Fault(status=418))
    with pytest.raises(OmetriaError) as failed:
        replicate(warehouse, account(server), at=NOON)

    assert history(warehouse).endswith(f"\n    profiles: {failed.value}")


def _left(run_id: str) -> Lease:
    """Return the lease of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    host = Lease.of_this_process("uk", run_id, NOON).host
    return Lease("uk", run_id, host, process.pid, NOON + HOUR, "1")


def test_a_run_that_was_killed_is_found_by_the_next(server: Server, warehouse: Path) -> None:
    """It did not end, and was last heard of when it renewed its lease."""
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(Owner("1042", "uk"), NOON)
        opened.leases.acquire(_left("20260302T115500-abcdef"), NOON)

    for _ in range(2):
        replicate(warehouse, account(server), at=NOON + 2 * HOUR)

    killed, *_ = state(warehouse, "runs")
    assert (killed["run_id"], killed["outcome"]) == ("20260302T115500-abcdef", "did not end")
    assert (killed["started_at"], killed["finished_at"]) == (NOON - 5 * MINUTE, NOON + HOUR / 2)
    assert len(state(warehouse, "runs")) == 3
    said = "or was silent for too long; last heard of at 2026-03-02 12:30:00 UTC"
    assert any(line.endswith(said) for line in history(warehouse).splitlines())


@pytest.mark.parametrize("run_id", ["by hand 17", "20269999T115500-abcdef", ""])
def test_a_command_that_was_killed_is_no_run(run_id: str, server: Server, warehouse: Path) -> None:
    """A rewind holds a lease too, and is not in the history."""
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(Owner("1042", "uk"), NOON)
        opened.leases.acquire(_left(run_id), NOON)

    replicate(warehouse, account(server), at=NOON)

    assert [run["outcome"] for run in state(warehouse, "runs")] == ["succeeded"]


def test_a_recorded_run_that_left_its_lease_keeps_its_outcome(
    server: Server, warehouse: Path
) -> None:
    """A run that could not release its lease did end."""
    replicate(warehouse, account(server), at=NOON)
    (run,) = state(warehouse, "runs")
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.leases.acquire(_left(run["run_id"]), NOON)

    replicate(warehouse, account(server), at=NOON + HOUR)

    assert [run["outcome"] for run in state(warehouse, "runs")] == ["succeeded", "succeeded"]
