"""Run a sync for a command: with progress on standard error, and its report as the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ometria_replica.cli_output import say
from ometria_replica.errors import ReplicaError

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
    from ometria_replica.replication import sync

    show = show or print_report
    try:
        with watching() as progress:
            report = sync(settings, tables or (), progress=progress, **options)
    except ReplicaError as error:
        if error.report:
            show(error.report, as_json=as_json)
        raise
    show(report, as_json=as_json)
    return report


def print_report(report: RunReport, *, as_json: bool) -> None:
    """Print the report as text or JSON, each error once."""
    say(report.with_errors_once().to_json() if as_json else report.to_text())
