"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli.logs import say_report, shown_progress
from ometria_replica.cli.options import (  # noqa: TC001 -- Typer reads the annotations.
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
)
from ometria_replica.cli.pages import has_extra, write_report
from ometria_replica.cli.syncing import print_report
from ometria_replica.errors import ReplicaError

if TYPE_CHECKING:
    from ometria_replica.config import Config

REPORT = "ometria-report.html"
"""The page that the demo writes beside its warehouse."""


def demo(
    warehouse: Annotated[
        str, typer.Option("--warehouse", metavar="URL", help="DuckDB file to write.")
    ] = "duckdb:///warehouse.duckdb",
    profiles: Annotated[int, typer.Option(min=0, metavar="N", help="Simulated profiles.")] = 20_000,
    lists: Annotated[int, typer.Option(min=0, metavar="N", help="Simulated lists.")] = 30,
    events: Annotated[
        int, typer.Option(min=0, metavar="N", help="Simulated email events.")
    ] = 100_000,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Sync a simulated account, without a key or a bucket."""
    from ometria_replica.config import load_warehouse
    from ometria_replica.demo import demo as run_demo
    from ometria_replica.progress import watching

    with watching(shown_progress()) as progress:
        report, samples = run_demo(
            load_warehouse(warehouse),
            profiles=profiles,
            lists=lists,
            events=events,
            progress=progress,
            finish=_write_page,
        )
    print_report(report, as_json=as_json)
    if not as_json:
        say_report(samples)


def _write_page(settings: Config) -> str:
    """Write the page beside the warehouse, if it can be drawn, and say where it is."""
    from ometria_replica.duckdb_files import duckdb_path

    if not has_extra():
        return "For a report with charts: pip install 'ometria-replica[report]'."
    file = Path(duckdb_path(settings.warehouse.url) or ".").with_name(REPORT)
    try:
        write_report(settings, file)
    except ReplicaError as error:  # The sync is done, and a page is not worth its exit code.
        return f"No report was written: {error}"
    return f"A report with charts is in {file}: open it in a browser."
