"""How a run ends: its lease is released, its history recorded, and its worst error raised."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ometria_replica.errors import TRY_AGAIN_LATER, Busy, ReplicaError, WarehouseError
from ometria_replica.run_context import history_of, unended
from ometria_replica.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import AccountSettings
    from ometria_replica.report import Outcome, RunReport
    from ometria_replica.run_context import RunContext
    from ometria_replica.warehouse.warehouse import Warehouse


@contextmanager
def recorded_if_stopped(run: RunContext, warehouse: Warehouse, place: str) -> Iterator[None]:
    """Record in the history that a signal, or a bug of the program, ends the run."""
    try:
        yield
    except ReplicaError:
        raise  # The warehouse refuses: it can hold no history.
    except BaseException as error:
        outcome: Outcome = "failed" if is_of_a_library(error) else "stopped"
        report = run.report(place, outcome, _why_stopped(error))
        with suppress(WarehouseError):  # The first failure is the one to report.
            warehouse.state.record(history_of(report), may_be_known=True)
        raise


@contextmanager
def leased(
    run: RunContext, warehouse: Warehouse, account: AccountSettings, place: str
) -> Iterator[bool]:
    """Hold the account's lease; yield False if another run has it, and note that."""
    lease = run.lease(account.source_id)
    try:
        for ended in warehouse.leases.acquire(lease, run.clock()):
            if (history := unended(ended, place)) is not None:
                warehouse.state.record_unended(history)
    except Busy as error:
        run.errors.append(error)  # The other accounts may well be free.
        yield False
        return
    try:
        yield True
    except BaseException:
        with suppress(WarehouseError):  # The first failure is the one to report.
            warehouse.leases.release(lease)
        raise
    with run.after_failure():
        warehouse.leases.release(lease)


def finish(run: RunContext, warehouse: Warehouse, place: str, *, dry_run: bool) -> RunReport:
    """Record the run in the history, and raise its worst error."""
    outcome: Outcome = "failed" if run.errors or run.bugs else "dry run" if dry_run else "succeeded"
    # The first that another run would not mend, if there is one.
    worst = min(run.errors, key=lambda error: error.exit_code == TRY_AGAIN_LATER, default=None)
    reason = _why_stopped(run.bugs[0]) if run.bugs else str(worst) if worst else None
    report = run.report(place, outcome, reason)
    lost = any(isinstance(error, Busy) for error in run.errors)  # Its lease, perhaps.
    with run.after_failure():
        warehouse.state.record(history_of(report), may_be_known=lost)
    for bug in run.bugs:
        if isinstance(bug, Exception):
            raise bug
        failure = ReplicaError(
            f"A library failed with {type(bug).__name__}; what it says is above. Committed data is"
            " safe, and the other accounts were read. Please report this as a bug."
        )
        failure.report = report
        raise failure from bug
    if worst is not None:
        worst.report = report
        raise worst
    return report


def _why_stopped(error: BaseException) -> str:
    match error:
        case Stopped(number=number):
            return f"stopped by {signal.Signals(number).name}"
        case _ if is_of_a_library(error):  # Its message may quote personal data.
            return f"bug in ometria-replica: {type(error).__name__}"
    return f"stopped by {type(error).__name__}"


def is_of_a_library(error: BaseException) -> bool:
    """Whether it is an error, or a panic of Rust, and not a signal that ends the program."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
