"""The command ``maintain``: write small files together, and remove old versions."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated

import typer

from ometria_replica.cli.logs import say_report
from ometria_replica.cli.options import (
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    TablesArgument,
    VerboseOption,
    WarehouseOption,
    age,
)


def _retention(text: str) -> timedelta:
    """Parse an age of whole hours; 0 means none."""
    found = timedelta() if text in {"0", "0d", "0h"} else age(text)
    if found % timedelta(hours=1):
        raise typer.BadParameter(f"{text!r} is not a number of whole hours, such as 36h or 7d.")
    return found


def maintain(
    tables: TablesArgument = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, without changing anything.")
    ] = False,
    retention: Annotated[
        timedelta | None,
        typer.Option(
            "--retention",
            parser=_retention,
            metavar="AGE",
            show_default="7d",
            help="Remove versions replaced longer ago, such as 36h or 7d; 0: all old ones.",
        ),
    ] = None,
    optimize: Annotated[
        bool,
        typer.Option("--optimize/--no-optimize", help="Write small files together."),
    ] = True,
    force: Annotated[
        bool,
        typer.Option("--force", help="Allow a --retention below a day: readers at work may fail."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Write the small files of a lake together, and remove old versions. No sync can run."""
    from ometria_replica.config import load_warehouse
    from ometria_replica.maintaining import maintain as run

    done = run(
        load_warehouse(warehouse, os.environ, config),
        tables or (),
        retention=retention,
        optimize=optimize,
        dry_run=dry_run,
        force=force,
    )
    say_report(done.to_json() if as_json else done.to_text(), as_json=as_json)
