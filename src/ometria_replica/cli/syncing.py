"""Run a sync for a command: its progress, and its report as the result."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ometria_replica.cli.logs import is_quiet, log_outcome, say_report, shown_progress, writes_json
from ometria_replica.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Callable

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
    from ometria_replica.progress import watching
    from ometria_replica.running import observed_sync

    print_it = show or print_report

    def ended(report: RunReport) -> None:
        watched.close()
        if report.outcome != "failed":
            log_outcome(report)
        print_it(report, as_json=as_json)

    with ExitStack() as watched:
        progress = watched.enter_context(watching(shown_progress()))
        return observed_sync(settings, tables or (), show=ended, progress=progress, **options)


def print_report(report: RunReport, *, as_json: bool) -> None:
    """
    Print the report as text or JSON, each error once; if quiet, the errors alone.

    The last line of the program tells the one for which the run failed.
    """
    text = report.with_errors_once().to_json() if as_json else report.to_text()
    say_report(text, as_json=as_json)
    if is_quiet() and not writes_json():
        for failure in report.other_failures():
            say(failure, err=True)
