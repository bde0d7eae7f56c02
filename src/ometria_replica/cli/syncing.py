"""Run a sync for a command: its progress, its report as the result, and its metrics."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.cli.logs import is_quiet, log_outcome, say_report, shown_progress, writes_json
from ometria_replica.cli.output import OutputClosed, say
from ometria_replica.errors import ReplicaError
from ometria_replica.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ometria_replica.config import Config
    from ometria_replica.report import RunReport


def sync_and_print(
    settings: Config,
    tables: list[str] | None,
    *,
    as_json: bool,
    show: Callable[..., None] | None = None,
    **options: Any,
) -> RunReport:
    """Sync, and print the report, of a failed run too. *show* prints it in place of its text."""
    from ometria_replica.observing import observing
    from ometria_replica.progress import watching
    from ometria_replica.replication import sync

    show = show or print_report
    with observing(settings) as observe:  # It waits at its end: the report is printed before.
        try:
            with watching(shown_progress()) as progress:
                report = sync(settings, tables or (), progress=progress, observe=observe, **options)
        except ReplicaError as error:
            if error.report:
                show(error.report, as_json=as_json)
            raise
        log_outcome(report)
        show(report, as_json=as_json)
    return report


def print_report(report: RunReport, *, as_json: bool) -> None:
    """Print the report as text or JSON, each error once; if quiet, the errors alone."""
    text = report.with_errors_once().to_json() if as_json else report.to_text()
    say_report(text, as_json=as_json)
    failures = list(report.failures())
    if len(failures) > 1 and is_quiet() and not writes_json():  # Of one, the last line tells.
        for failure in failures:
            say(failure, err=True)


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
    from ometria_replica.metrics import EndedRun, write_metrics
    from ometria_replica.notify import notify
    from ometria_replica.replication import utc_now

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
            write_metrics(file, settings, ended, reads_state=not isinstance(error, Stopped))
        if tells is not None:
            notify(tells, ended)


def _how_it_ended(error: BaseException | None) -> tuple[int, str | None]:
    """Return the exit code of the program, and the sentence of the error."""
    match error:
        case None:
            return 0, None
        case ReplicaError():
            return error.exit_code, error.sentence
        case Stopped():
            return error.exit_code, f"It was stopped by {signal.Signals(error.number).name}."
        case OutputClosed():
            return error.exit_code, None
    return 1, f"Bug in ometria-replica: {type(error).__name__}."
