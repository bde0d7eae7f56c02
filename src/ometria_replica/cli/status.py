"""The command ``status``."""

from __future__ import annotations

from datetime import timedelta  # noqa: TC003 -- Typer reads the annotation.
from typing import Annotated

import typer

from ometria_replica.cli.options import (
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    TablesArgument,
    VerboseOption,
    WarehouseOption,
    age,
    settings_of_accounts,
)
from ometria_replica.cli.output import has_colours, say
from ometria_replica.errors import Busy, NotUpToDate
from ometria_replica.text import printable


def status(
    tables: TablesArgument = None,
    max_age: Annotated[
        timedelta | None,
        typer.Option(
            "--max-age",
            parser=age,
            metavar="AGE",
            show_default=False,
            help="Exit with code 6 if the last run failed, or if the last success or a table is"
            " older, such as 90m, 26h or 2d.",
        ),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show whether all is right: how fresh each table is, and what needs attention."""
    from ometria_replica.replica_status import read_status
    from ometria_replica.status_report import TOO_OLD

    settings = settings_of_accounts(config, warehouse, account)
    try:
        found = read_status(settings, tables or (), max_age=max_age or TOO_OLD)
    except Busy as error:
        raise Busy(f"Not known, because the warehouse is in use: {error}") from error
    if as_json:
        say(found.to_json())
    else:
        typer.echo(_coloured(printable(found.to_text()), all_right=found.is_all_right))
    if max_age is not None and not found.is_all_right:
        raise NotUpToDate("--max-age is set, and not all is right: exit code 6.")


def _coloured(text: str, *, all_right: bool) -> str:
    """Colour the verdict, on a terminal that has colours."""
    if not has_colours():
        return text
    answer, colon, rest = text.partition(":")
    colour = typer.colors.GREEN if all_right else typer.colors.RED
    return typer.style(answer + colon, fg=colour, bold=True) + rest
