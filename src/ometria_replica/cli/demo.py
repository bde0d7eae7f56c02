"""The command ``demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from ometria_replica.cli.logs import say_report, shown_progress
from ometria_replica.cli.options import (  # noqa: TC001 -- Typer reads the annotations.
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
)
from ometria_replica.cli.syncing import print_report


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
        )
    print_report(report, as_json=as_json)
    if not as_json:
        say_report(samples)
