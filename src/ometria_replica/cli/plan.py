"""The command ``plan``."""

from __future__ import annotations

from datetime import date  # noqa: TC003 -- Typer reads the annotation.
from typing import Annotated

import typer

from ometria_replica.cli import completing
from ometria_replica.cli.options import (
    DAYS,
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    day_option,
    settings_of_accounts,
)
from ometria_replica.cli.output import say
from ometria_replica.errors import Busy

COMMANDS = ("sync", "backfill")


def plan(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="sync|backfill|TABLE",
            show_default=False,
            autocompletion=completing.planned,
            help="What to plan, by default sync; then only these tables.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Plan a sync from the beginning.")] = False,
    detect_deletes: Annotated[
        bool, typer.Option("--detect-deletes", help="Plan a sync that finds deleted records.")
    ] = False,
    since: Annotated[
        date | None,
        day_option("--since", f"First day to read again: {DAYS}."),
    ] = None,
    until: Annotated[
        date | None,
        day_option("--until", f"Last day of a backfill: {DAYS}."),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Send nothing: estimate by the state, the last runs and the tables."
        ),
    ] = False,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show what a sync or a backfill would take, without writing anything."""
    from ometria_replica.planning.run import plan_run
    from ometria_replica.run_context import Window

    tables = list(names or ())
    command = tables.pop(0) if tables[:1] and tables[0] in COMMANDS else "sync"
    _refuse_options_of_the_other(
        command, full=full, detect_deletes=detect_deletes, since=since, until=until
    )
    settings = settings_of_accounts(config, warehouse, account)
    try:
        found = plan_run(
            settings,
            tables,
            Window(full, detect_deletes, since, until),
            command=command,
            offline=offline,
        )
    except Busy as error:
        raise Busy(f"Not known, because the warehouse is in use: {error}") from error
    say(found.to_json() if as_json else found.to_text())
    if found.failures:
        raise found.failures[0]


def _refuse_options_of_the_other(
    command: str, *, full: bool, detect_deletes: bool, since: date | None, until: date | None
) -> None:
    if command == "backfill":
        if full or detect_deletes:
            raise typer.BadParameter("backfill has no --full and no --detect-deletes: sync has.")
        if since is None:
            raise typer.BadParameter("backfill needs --since, the first day to read again.")
    elif until is not None:
        raise typer.BadParameter("sync has no --until: backfill has.")
