"""
The front door: parse, call one function, print, exit code.

Standard output carries the answer, standard error everything else. Whatever is heavy
is imported by the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from datetime import datetime  # noqa: TC003 -- Typer reads the annotation.
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ometria_replica import __version__
from ometria_replica.errors import RejectedRecords, ReplicaError

if TYPE_CHECKING:
    from ometria_replica.config import Config
    from ometria_replica.report import RunReport

DAY = "%Y-%m-%d"

app = typer.Typer(
    help="Replicate an Ometria account into your own warehouse.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # Rich help costs 100 ms.
    pretty_exceptions_enable=False,  # They print local variables, and those hold people's data.
    context_settings={"help_option_names": ["-h", "--help"]},
)


state_app = typer.Typer(help="Show what the replica remembers, or make it forget.")
rejects_app = typer.Typer(help="Show what was set aside, or try it again.")
app.add_typer(state_app, name="state")
app.add_typer(rejects_app, name="rejects")


class Format(StrEnum):
    """The forms in which ``tables`` answers."""

    TEXT = "text"
    MARKDOWN = "markdown"
    SQL = "sql"
    MERMAID = "mermaid"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; default ometria.toml, if it is there."),
]
WarehouseOption = Annotated[
    str | None, typer.Option("--warehouse", help="Warehouse URL; wins over the settings.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    """Replicate an Ometria account into your own warehouse."""
    if version:
        typer.echo(f"ometria-replica {__version__}")
        raise typer.Exit
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


@app.command()
def sync(  # noqa: PLR0917 -- Typer passes options by name.
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE...", help="Only these tables.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything again.")] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Read profiles whole, to notice which are gone.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=[DAY], help="Read again from this day on."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what would.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 4 when anything was set aside.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Read what is new, and merge it into the warehouse."""
    report = _sync(
        _settings(config, warehouse),
        tables,
        as_json=as_json,
        full=full,
        sweep=sweep,
        since=since.date() if since else None,
        dry_run=dry_run,
    )
    if strict and report.set_aside:
        from ometria_replica.report import counted

        raise RejectedRecords(
            f"{counted(report.set_aside, 'value, record or file', 'values, records or files')}"
            " set aside, and --strict was asked for. Everything else is loaded."
            " See `ometria-replica rejects list`."
        )


@app.command()
def backfill(  # noqa: PLR0917 -- Typer passes options by name.
    since: Annotated[
        datetime, typer.Option("--from", formats=[DAY], help="First day to read again.")
    ],
    until: Annotated[
        datetime | None, typer.Option("--to", formats=[DAY], help="Last day to read again.")
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="TABLE", help="Only this table; can be repeated."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Read a stretch of time again, without moving the watermarks."""
    _sync(
        _settings(config, warehouse),
        tables,
        as_json=as_json,
        since=since.date(),
        until=until.date() if until else None,
    )


@app.command()
def check(config: ConfigOption = None, warehouse: WarehouseOption = None) -> None:
    """Try the key, the bucket and the warehouse, and change nothing."""
    from ometria_replica.check import check as run_check

    failures = []
    for finding in run_check(_settings(config, warehouse)):
        typer.echo(f"{'ok    ' if finding.error is None else 'FAILED'}  {finding.what}")
        if finding.error is not None:
            typer.echo(f"        {finding.error}")
            failures.append(finding.error)
    if failures:
        raise typer.Exit(failures[0].exit_code)


@app.command()
def tables(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only this one.")] = None,
    form: Annotated[Format, typer.Option("--format", help="How to show them.")] = Format.TEXT,
) -> None:
    """Show the tables: columns, types, sources, keys, or a diagram."""
    from ometria_replica.describe import describe

    try:
        typer.echo(describe(table, form.value))
    except KeyError:
        raise typer.BadParameter(
            f"there is no table '{table}'; see `ometria-replica tables`"
        ) from None


@app.command()
def config(config: ConfigOption = None, warehouse: WarehouseOption = None) -> None:
    """Show every setting, its value, and where it came from. Secrets stay secret."""
    from ometria_replica.config import explain

    lines = list(explain(_settings(config, warehouse)))
    widths = [max(len(line[place]) for line in lines) for place in (0, 1)]
    for key, value, origin in lines:
        typer.echo(f"{key.ljust(widths[0])}  {value.ljust(widths[1])}  {origin}")


@app.command()
def runs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 10,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Show the last runs."""
    from ometria_replica.report import history_as_json, history_as_text
    from ometria_replica.warehouse import open_warehouse

    with open_warehouse(_settings(config, warehouse).warehouse.url, dry_run=True) as opened:
        history = [run.report for run in opened.runs(limit)]
    typer.echo(history_as_json(history) if as_json else history_as_text(history))


@state_app.command("show")
def state_show(config: ConfigOption = None, warehouse: WarehouseOption = None) -> None:
    """Show how far each table has been read, and who is reading."""
    from ometria_replica.maintenance import show_state

    typer.echo(show_state(_settings(config, warehouse)))


@state_app.command("rewind")
def state_rewind(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Which table.")],
    to: Annotated[
        datetime | None,
        typer.Option("--to", formats=[DAY], help="Read again from this day on; default all."),
    ] = None,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Make the next sync read again what it has read. No row is touched."""
    from ometria_replica.maintenance import rewind

    typer.echo(rewind(_settings(config, warehouse), table, to.date() if to else None))


@rejects_app.command("list")
def rejects_list(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    raw: Annotated[
        bool, typer.Option("--raw", help="Show what Ometria sent; it may be a person's data.")
    ] = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Show values, records and lines that were set aside, and why."""
    from ometria_replica.maintenance import list_rejects

    typer.echo(list_rejects(_settings(config, warehouse), limit, raw=raw))


@rejects_app.command("replay")
def rejects_replay(
    as_json: JsonOption = False, config: ConfigOption = None, warehouse: WarehouseOption = None
) -> None:
    """Convert values again, and read again the files that could not be read."""
    from ometria_replica.maintenance import replay

    settings = _settings(config, warehouse)
    converted = replay(settings)
    typer.echo(f"{converted:,} value{'s' * (converted != 1)} converted now.", err=True)
    _sync(settings, ["email_events"], as_json=as_json)


@app.command()
def demo(
    warehouse: Annotated[
        str, typer.Option("--warehouse", help="Where the rows go.")
    ] = "duckdb:///ometria.duckdb",
    profiles: Annotated[int, typer.Option(help="Simulated profiles.")] = 20_000,
    lists: Annotated[int, typer.Option(help="Simulated lists.")] = 30,
    events: Annotated[int, typer.Option(help="Simulated email events, about.")] = 100_000,
) -> None:
    """Sync a simulated account, without a key or a bucket."""
    from ometria_replica.demo import demo as run_demo
    from ometria_replica.progress import watching

    with watching() as progress:
        report, samples = run_demo(
            warehouse, profiles=profiles, lists=lists, events=events, progress=progress
        )
    _print_report(report, as_json=False)
    typer.echo(samples)


def main() -> None:
    """Run the command line; errors of ours become a sentence and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except ReplicaError as error:
        typer.echo(f"{error}", err=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 -- Its message may quote personal data.
        traceback.print_tb(error.__traceback__)
        typer.echo(
            f"A fault of ometria-replica itself: {type(error).__name__}, at the place above."
            " What was loaded stays, and a run repeats what it lost. Please report it.",
            err=True,
        )
        raise SystemExit(1) from None
    except _Stopped as stop:
        typer.echo("Stopped. What was loaded stays; the next run goes on from there.", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + stop.number)  # As shells have it; requests on the wire are not waited for.
    except BrokenPipeError:  # The reader of our answer went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


class _Stopped(BaseException):
    """Ctrl-C, or a scheduler's SIGTERM. Typer would make its own exit of KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def _stop(number: int, _frame: object) -> NoReturn:
    """Unwind, so that temporary files are removed and the lease is given back."""
    raise _Stopped(number)


def _settings(path: Path | None, warehouse: str | None) -> Config:
    from ometria_replica.config import load_config

    return load_config(path, os.environ, warehouse)


def _sync(
    settings: Config, tables: list[str] | None, *, as_json: bool, **options: Any
) -> RunReport:
    """Sync with a progress bar, and print the report whether it failed or not."""
    from ometria_replica.progress import watching
    from ometria_replica.replication import sync as run_sync

    try:
        with watching() as progress:
            report = run_sync(settings, tables or (), progress=progress, **options)
    except ReplicaError as error:
        if error.report:
            _print_report(error.report, as_json=as_json)
        raise
    _print_report(report, as_json=as_json)
    return report


def _print_report(report: RunReport, *, as_json: bool) -> None:
    typer.echo(report.to_json() if as_json else report.to_text())
