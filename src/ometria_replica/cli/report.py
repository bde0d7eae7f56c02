"""The command ``report``: what is in the warehouse, and how its runs went, as a page."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 -- Typer reads the annotation.
from typing import Annotated

import typer

from ometria_replica.cli.logs import say_report
from ometria_replica.cli.options import (
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    settings_of_accounts,
)
from ometria_replica.cli.output import say
from ometria_replica.cli.pages import DAYS, page, refuse_without_extra, write_report
from ometria_replica.errors import Busy

_MOST_DAYS = 36_500  # A century: the SQL of every warehouse knows its first day.


def report(
    html: Annotated[
        Path,
        typer.Option(
            "--html",
            metavar="FILE",
            show_default=False,
            help="Write this file, in place of an earlier report only; - prints it.",
        ),
    ],
    days: Annotated[
        int,
        typer.Option(
            "--days", min=1, max=_MOST_DAYS, metavar="N", help="Days that the charts cover."
        ),
    ] = DAYS,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Write a report as one HTML file: freshness, runs, email, lists and consent, in charts."""
    if as_json and str(html) == "-":
        raise typer.BadParameter("--json names the file that was written. Give --html FILE.")
    refuse_without_extra()
    settings = settings_of_accounts(config, warehouse, account)
    try:
        if str(html) == "-":
            typer.echo(page(settings, days))
            return
        written = write_report(settings, html, days)
    except Busy as error:
        raise Busy(f"Not written, because the warehouse is in use: {error}") from error
    if as_json:
        from ometria_replica.html_report.writing import written_as_json

        say(written_as_json(written))
    else:
        say_report(f"Wrote {html}. Open it in a browser.")
