"""
Run a sync as the settings say: observed, its metrics written, and its end told.

The command line and the Python API both do; what a run is shown to be is left to them.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.clock import utc_now
from ometria_replica.errors import RejectedRecords, ReplicaError
from ometria_replica.log_context import logging_for
from ometria_replica.metrics import EndedRun, write_metrics
from ometria_replica.notify import notify
from ometria_replica.observing import observing
from ometria_replica.replication import sync
from ometria_replica.state_commands import count_rejects
from ometria_replica.stopping import Stopped, is_of_a_library
from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ometria_replica.config import Config
    from ometria_replica.report import RunReport


def observed_sync(
    config: Config,
    tables: Sequence[str] = (),
    *,
    show: Callable[[RunReport], object] = lambda _: None,
    **options: Any,
) -> RunReport:
    """
    Sync, observed by what the settings switch on; *options* are those of the sync.

    *show* gets the report, of a failed run too, before the observers are waited for.
    """
    with observing(config) as observe:
        try:
            report = sync(config, tables, observe=observe, **options)
        except ReplicaError as error:
            if error.report:
                show(error.report)
            raise
        show(report)
    return report


@dataclass
class Measured:
    """What is known of a run that is measured: its *report*, once it has one."""

    report: RunReport | None = None


@contextmanager
def measured(
    settings: Config, file: Path | None, *, tells: Config | None = None
) -> Iterator[Measured]:
    """
    Write the metrics of the run in the block into *file*, however it ends; None writes none.

    *tells* are the settings with the accounts of the run, if its end is also told to the address
    in `notify`.
    """
    run = Measured()
    if file is None and (tells is None or tells.notify is None):
        yield run
        return
    started_at = utc_now()
    error: BaseException | None = None
    try:
        yield run
    except BaseException as caught:
        error = caught
        if isinstance(caught, ReplicaError):
            run.report = caught.report or run.report
        raise
    finally:
        exit_code, reason = _how_it_ended(error)
        ended = EndedRun(started_at, utc_now(), exit_code, run.report, error, reason)
        if file is not None:
            # After a signal, the warehouse may not answer soon.
            reads_state = error is None or is_of_a_library(error)
            write_metrics(file, settings, ended, reads_state=reads_state)
        if tells is not None:
            notify(tells, ended)


def refuse_rejects(config: Config, report: RunReport) -> None:
    """Raise RejectedRecords if the run rejected anything, or if rejects of earlier runs remain."""
    rejected, when = report.rejected, ""
    with logging_for(run=report.run_id):
        if not rejected:
            rejected = count_rejects(config, {table.table for table in report.tables})
            remain = "remains" if rejected == 1 else "remain"
            when = f" in earlier runs and {remain}"
        if rejected:
            error = RejectedRecords(
                f"{counted(rejected, 'value, record or file', 'values, records or files')}"
                f" {'was' if rejected == 1 else 'were'} rejected{when}, and --strict is set."
                " Everything else is loaded. See `ometria-replica rejects list`."
            )
            error.report = report
            raise error


def _how_it_ended(error: BaseException | None) -> tuple[int, str | None]:
    """Return the exit code of the program, and the sentence of the error."""
    match error:
        case None:
            return 0, None
        case ReplicaError():
            return error.exit_code, error.sentence
        case Stopped():
            return error.exit_code, f"It was stopped by {signal.Signals(error.number).name}."
        case KeyboardInterrupt():
            return 128 + signal.SIGINT, "It was stopped by SIGINT."
    code = getattr(error, "exit_code", None)  # Of standard output that was closed.
    if isinstance(code, int):
        return code, None
    return 1, f"Bug in ometria-replica: {type(error).__name__}."
