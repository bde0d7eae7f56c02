"""The command ``query``: run SQL that reads, and print the result."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path  # noqa: TC003 -- Typer reads the annotation.
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli import completing
from ometria_replica.cli.options import (
    ConfigOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    one_of,
)
from ometria_replica.cli.output import has_colours, say
from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ometria_replica.query_output import Grid

ROWS = 100
"""Rows of a table by default."""


class ResultFormat(StrEnum):
    """The formats of ``query``."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL", show_default=False, help="One statement; - reads standard input."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read the statement from this file."),
    ] = None,
    form: Annotated[
        ResultFormat | None,
        typer.Option(
            "--format",
            parser=one_of(ResultFormat),
            autocompletion=completing.words(ResultFormat),
            metavar="FORMAT",
            show_default="table",
            help=f"{', '.join(ResultFormat)}.",
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Short for --format csv.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            metavar="N",
            show_default=f"{ROWS} in a table, else all",
            help="Print at most this many rows.",
        ),
    ] = None,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Run SQL on the warehouse and print the rows. Reads only."""
    from ometria_replica import query_output
    from ometria_replica.config import load_warehouse
    from ometria_replica.warehouse.queries.run import ask

    form = _format(form, as_csv=as_csv, as_json=as_json)
    text = _statement(sql, file)
    settings = load_warehouse(warehouse, os.environ, config)
    with ask(settings.url, text, settings.limits) as answer:
        match form:
            case ResultFormat.TABLE:
                grid = query_output.grid_of(answer, limit or ROWS)
            case ResultFormat.CSV:
                _print(query_output.as_csv(answer, limit))
            case ResultFormat.JSON:
                _print(query_output.as_json_array(answer, limit))
            case ResultFormat.JSONL:
                _print(query_output.as_json_lines(answer, limit))
    if form is ResultFormat.TABLE:
        _print_table(grid)  # Now that nothing is locked: a reader may take its time.


def _format(form: ResultFormat | None, *, as_csv: bool, as_json: bool) -> ResultFormat:
    chosen = {
        *([form] if form else []),
        *([ResultFormat.CSV] if as_csv else []),
        *([ResultFormat.JSON] if as_json else []),
    }
    if len(chosen) > 1:
        raise typer.BadParameter("--format, --csv and --json exclude each other.")
    return chosen.pop() if chosen else ResultFormat.TABLE


def _statement(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise typer.BadParameter("Give one statement: as SQL, as --file FILE, or - to read it.")
    try:
        if "-" in {sql, str(file)}:
            return sys.stdin.read()
        return sql if file is None else file.read_text(encoding="utf-8-sig")  # type: ignore[return-value]  # One of both.
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The SQL cannot be read ({type(error).__name__}).") from None


def _print(parts: Iterable[str]) -> None:
    for part in parts:
        typer.echo(part, nl=False)


def _print_table(grid: Grid) -> None:
    from ometria_replica.query_output import as_table

    if not sys.stdout.isatty():
        say(as_table(grid))
        return
    width = shutil.get_terminal_size().columns
    typer.echo(as_table(grid, width=width, styled=has_colours()))
