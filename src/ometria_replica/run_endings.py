"""How a run ends: its lease is released, its history recorded, and its worst error raised."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica.errors import TRY_AGAIN_LATER, Busy, ReplicaError, WarehouseError
from ometria_replica.run_context import history_of, unended
from ometria_replica.run_results import joined_results
from ometria_replica.stopping import Cancelled, Stopped, is_of_a_library

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ometria_replica.batch import Lease
    from ometria_replica.config import AccountSettings
    from ometria_replica.report import Outcome, RunReport
    from ometria_replica.run_context import RunContext
    from ometria_replica.run_results import Results
    from ometria_replica.warehouse.warehouse import Warehouse


@contextmanager
def recorded_if_stopped(
    run: RunContext, results: Sequence[Results], warehouse: Warehouse, place: str
) -> Iterator[None]:
    """Release leases, and record in the history that a signal, or a bug, ends the run."""
    try:
        yield
    except BaseException as error:
        with suppress(WarehouseError):  # The first failure is the one to report.
            for lease in tuple(run.leases.values()):
                _release(run, warehouse, lease)
        if isinstance(error, ReplicaError):
            raise  # The warehouse refuses: it can hold no history.
        outcome: Outcome = "failed" if is_of_a_library(error) else "stopped"
        report = run.report(joined_results(results), place, outcome, _why_stopped(error))
        with suppress(WarehouseError):
            warehouse.runs.record(history_of(report), may_be_known=True)
        raise


@contextmanager
def leased(
    run: RunContext,
    results: Results,
    warehouse: Warehouse,
    account: AccountSettings,
    place: str,
) -> Iterator[bool]:
    """Hold the account's lease; yield False if another run has it, and note that."""
    lease = run.lease(account.source_id)
    try:
        run.threads.call(partial(_acquire, run, warehouse, lease, place))
    except Busy as error:
        results.errors.append(error)  # The other accounts may well be free.
        yield False
        return
    release = partial(_release, run, warehouse, lease)
    try:
        yield True
    except BaseException:
        with suppress(WarehouseError, Cancelled):  # The first failure is the one to report.
            run.threads.call(release)
        raise
    with results.after_failure():
        run.threads.call(release)


def _acquire(run: RunContext, warehouse: Warehouse, lease: Lease, place: str) -> None:
    """Acquire a lease. The run holds it from then on, also if it is stopped at that moment."""
    run.leases[lease.source_id] = lease
    try:
        ended = warehouse.leases.acquire(lease, run.clock())
    except ReplicaError:
        del run.leases[lease.source_id]
        raise
    for each in ended:
        if (history := unended(each, place)) is not None:
            warehouse.runs.record_unended(history)


def _release(run: RunContext, warehouse: Warehouse, lease: Lease) -> None:
    run.leases.pop(lease.source_id, None)
    warehouse.leases.release(lease)


def finish(
    run: RunContext, results: Results, warehouse: Warehouse, place: str, *, dry_run: bool
) -> RunReport:
    """Record the run in the history, and raise its worst error."""
    failed = results.errors or results.bugs
    outcome: Outcome = "failed" if failed else "dry run" if dry_run else "succeeded"
    # The first that another run would not mend, if there is one.
    worst = min(results.errors, key=lambda error: error.exit_code == TRY_AGAIN_LATER, default=None)
    worst = run.refusals[0] if worst in run.refusals else worst
    reason = _why_stopped(results.bugs[0]) if results.bugs else str(worst) if worst else None
    report = run.report(results, place, outcome, reason)
    lost = any(isinstance(error, Busy) for error in results.errors)  # Its lease, perhaps.
    with results.after_failure():
        warehouse.runs.record(history_of(report), may_be_known=lost)
    for bug in results.bugs:
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
