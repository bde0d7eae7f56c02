"""The commands ``tables`` and ``config``, which show what there is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ometria_replica.cli import completing
from ometria_replica.cli.options import (
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    TablesArgument,
    VerboseOption,
    WarehouseOption,
    one_of,
    settings_of,
)
from ometria_replica.cli.output import say


class Format(StrEnum):
    """The formats of ``tables``."""

    TEXT = "text"
    MARKDOWN = "markdown"
    SQL = "sql"
    MERMAID = "mermaid"
    JSON = "json"


def tables(
    tables: TablesArgument = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            parser=one_of(Format),
            autocompletion=completing.words(Format),
            metavar="FORMAT",
            show_default="text",
            help=f"{', '.join(Format)}.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also the tables that are off by default.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    warehouse: Annotated[
        str | None,
        typer.Option(
            "--for",
            autocompletion=completing.warehouses,
            metavar="WAREHOUSE",
            show_default="duckdb",
            help="SQL for this warehouse: duckdb, postgresql, snowflake, ...",
        ),
    ] = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show the tables. Each has its columns, their types, sources and meanings, and its key."""
    from ometria_replica.describe import describe

    if as_json and form not in {None, Format.JSON}:
        raise typer.BadParameter("--format and --json exclude each other.")
    if as_json:
        form = Format.JSON
    elif form is None:
        form = Format.TEXT if warehouse is None else Format.SQL
    say(describe(tables or (), form.value, warehouse=warehouse, every=every))


def config(
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show every setting, its value and its origin. Secrets are not shown."""
    from ometria_replica.config import explain
    from ometria_replica.rendering import settings_as_json, settings_as_text

    settings = explain(settings_of(config, warehouse))
    say(settings_as_json(settings) if as_json else settings_as_text(settings))
