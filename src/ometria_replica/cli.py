"""
The command line: each command parses its arguments, calls one function and prints the result.

Results go to standard output, everything else to standard error. Commands import what they
need when they run, so that ``--help`` answers in less than 150 ms.
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
from typer.core import TyperArgument, TyperCommand
from typing_extensions import override

from ometria_replica.errors import RejectedRecords, ReplicaError
from ometria_replica.text import counted, printable
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from ometria_replica.config import Config
    from ometria_replica.report import RunReport

DAY = "%Y-%m-%d"
DATE = "YYYY-MM-DD"  # As the help shows it.

app = typer.Typer(
    help="Replicate an Ometria account into your own warehouse.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # Rich help costs 100 ms.
    pretty_exceptions_enable=False,  # They print local variables, which hold personal data.
    context_settings={"help_option_names": ["-h", "--help"]},
)


state_app = typer.Typer(help="Show how far each table has been read, or rewind it.")
rejects_app = typer.Typer(help="Show rejected values and records, or retry them.")
app.add_typer(state_app, name="state")
app.add_typer(rejects_app, name="rejects")


RENAMED = {"--sweep": "--detect-deletes", "--from": "--since", "--to": "--until"}
"""Options of ``sync`` and ``backfill`` by the name that they had before."""


class _Command(TyperCommand):
    """A command whose help shows an argument by its name, without a Python type."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005 -- Typer passes it.


class _WithRenamedOptions(_Command):
    """A command that refuses the old name of an option and names the new one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {option for parameter in self.params for option in parameter.opts}
        for name in (argument.partition("=")[0] for argument in args):
            if RENAMED.get(name) in options:
                ctx.fail(f"{name} is now {RENAMED[name]}.")
            if name == "--table":
                ctx.fail(f"--table is now an argument: ometria-replica {ctx.info_name} TABLE.")
        return super().parse_args(ctx, args)


class Format(StrEnum):
    """The formats of ``tables``."""

    TEXT = "text"
    MARKDOWN = "markdown"
    SQL = "sql"
    MERMAID = "mermaid"
    JSON = "json"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; default ometria.toml, if it exists."),
]
WarehouseOption = Annotated[
    str | None, typer.Option("--warehouse", help="Warehouse URL; overrides the settings.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log each step to standard error.")
    ] = False,
) -> None:
    """Replicate an Ometria account into your own warehouse."""
    if version:
        _say(f"ometria-replica {__version__}")
        raise typer.Exit
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[lines])


@app.command(cls=_WithRenamedOptions)
def sync(  # noqa: PLR0917 -- Typer passes options by name.
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", show_default=False, help="Only these tables."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read each table from the beginning.")
    ] = False,
    detect_deletes: Annotated[
        bool,
        typer.Option(
            "--detect-deletes", help="Read profiles and lists in full, to find deleted ones."
        ),
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=[DAY], metavar=DATE, help="Read again from this day on."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change, without writing anything."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 4 if anything was rejected.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Read new and changed records and merge them into the warehouse."""
    report = _sync(
        _settings(config, warehouse),
        tables,
        as_json=as_json,
        full=full,
        detect_deletes=detect_deletes,
        since=since.date() if since else None,
        dry_run=dry_run,
    )
    if strict and report.rejected:
        raise RejectedRecords(
            f"{counted(report.rejected, 'value, record or file', 'values, records or files')}"
            " rejected, and --strict is set. Everything else is loaded."
            " See `ometria-replica rejects list`."
        )


@app.command(cls=_WithRenamedOptions)
def backfill(  # noqa: PLR0917 -- Typer passes options by name.
    since: Annotated[
        datetime,
        typer.Option("--since", formats=[DAY], metavar=DATE, help="First day to read again."),
    ],
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", show_default=False, help="Only these tables."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=[DAY], metavar=DATE, help="Last day to read again."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Read a period again, without moving the watermarks."""
    _sync(
        _settings(config, warehouse),
        tables,
        as_json=as_json,
        since=since.date(),
        until=until.date() if until else None,
    )


@app.command()
def check(
    as_json: JsonOption = False, config: ConfigOption = None, warehouse: WarehouseOption = None
) -> None:
    """Test the API key, the bucket and the warehouse. Nothing is written."""
    from ometria_replica.check import check as run_check
    from ometria_replica.rendering import finding_as_text, findings_as_json

    findings = []
    for finding in run_check(_settings(config, warehouse)):
        findings.append(finding)
        if not as_json:
            _say(finding_as_text(finding))
    if as_json:
        _say(findings_as_json(findings))
    failures = [finding.error for finding in findings if finding.error is not None]
    if failures:
        raise typer.Exit(failures[0].exit_code)


@app.command(cls=_Command)
def tables(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only this table.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Show the tables. Each has its columns, their types and sources, and its key."""
    from ometria_replica.describe import describe

    _say(describe(table, "json" if as_json else form.value))


@app.command()
def config(
    as_json: JsonOption = False, config: ConfigOption = None, warehouse: WarehouseOption = None
) -> None:
    """Show every setting, its value and its origin. Secrets are not shown."""
    from ometria_replica.config import explain
    from ometria_replica.rendering import settings_as_json, settings_as_text

    settings = explain(_settings(config, warehouse))
    _say(settings_as_json(settings) if as_json else settings_as_text(settings))


@app.command()
def runs(
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Number of runs, newest first.")
    ] = 10,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Show the last runs."""
    from ometria_replica.report import history_as_json, history_as_text
    from ometria_replica.warehouse import open_warehouse

    settings = _settings(config, warehouse).warehouse
    with open_warehouse(settings.url, dry_run=True, limits=settings.limits) as opened:
        history = [run.report for run in opened.state.runs(limit)]
    _say(history_as_json(history) if as_json else history_as_text(history))


@state_app.command("show")
def state_show(
    as_json: JsonOption = False, config: ConfigOption = None, warehouse: WarehouseOption = None
) -> None:
    """Show how far each table has been read, and which run is active."""
    from ometria_replica.rendering import state_as_json, state_as_text
    from ometria_replica.state_commands import read_state

    state = read_state(_settings(config, warehouse))
    _say(state_as_json(state) if as_json else state_as_text(state))


@state_app.command("rewind", cls=_Command)
def state_rewind(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table.")],
    to: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            formats=[DAY],
            metavar=DATE,
            help="Read again from this day on; default: everything.",
        ),
    ] = None,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Make the next sync read a table again. Rows are not touched."""
    from ometria_replica.rendering import rewound_as_text
    from ometria_replica.state_commands import rewind

    day = to.date() if to else None
    rewind(_settings(config, warehouse), table, day)
    _say(rewound_as_text(table, day))


@rejects_app.command("list")
def rejects_list(
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Number of rejects, newest first.")
    ] = 50,
    raw: Annotated[
        bool, typer.Option("--raw", help="Show the values as received; may contain personal data.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Show rejected values and records, each with its reason."""
    from ometria_replica.rendering import rejects_as_json, rejects_as_text
    from ometria_replica.state_commands import read_rejects

    rejects = read_rejects(_settings(config, warehouse), limit)
    _say(rejects_as_json(rejects, raw=raw) if as_json else rejects_as_text(rejects, raw=raw))


@rejects_app.command("replay")
def rejects_replay(
    as_json: JsonOption = False, config: ConfigOption = None, warehouse: WarehouseOption = None
) -> None:
    """Convert rejected values again, and read unreadable files again."""
    from ometria_replica.catalog import CATALOG
    from ometria_replica.schema import Feed
    from ometria_replica.state_commands import replay

    settings = _settings(config, warehouse)
    _say(f"{counted(replay(settings), 'value')} converted now.", err=True)
    feed_tables = [table.name for table in CATALOG if isinstance(table.read, Feed)]
    _sync(settings, feed_tables, as_json=as_json)


@app.command()
def demo(
    warehouse: Annotated[
        str, typer.Option("--warehouse", help="DuckDB file to write.")
    ] = "duckdb:///warehouse.duckdb",
    profiles: Annotated[int, typer.Option(help="Simulated profiles.")] = 20_000,
    lists: Annotated[int, typer.Option(help="Simulated lists.")] = 30,
    events: Annotated[int, typer.Option(help="Simulated email events.")] = 100_000,
) -> None:
    """Sync a simulated account, without a key or a bucket."""
    from ometria_replica.demo import demo as run_demo
    from ometria_replica.progress import watching

    with watching() as progress:
        report, samples = run_demo(
            warehouse, profiles=profiles, lists=lists, events=events, progress=progress
        )
    _print_report(report, as_json=False)
    _say(samples)


def main() -> None:
    """Run the command line; print each ReplicaError as a message and exit with its code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except ReplicaError as error:
        _say(f"{error}", err=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 -- Its message may quote personal data.
        traceback.print_tb(error.__traceback__)
        _say(
            f"Bug in ometria-replica: {type(error).__name__} (traceback above)."
            " Committed data is safe; the next run repeats the rest. Please report it.",
            err=True,
        )
        raise SystemExit(1) from None
    except _Stopped as stop:
        _say("Stopped. Committed data is safe; the next run continues from there.", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + stop.number)  # As shells do. Requests in flight are dropped.
    except BrokenPipeError:  # The reader of standard output closed it, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _say(text: str, *, err: bool = False) -> None:
    typer.echo(printable(text), err=err)


class _Formatter(logging.Formatter):
    """Formats log lines without characters that steer a terminal."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Stopped(BaseException):
    """Ctrl-C, or a scheduler's SIGTERM. Typer would turn KeyboardInterrupt into its own exit."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def _stop(number: int, _frame: object) -> NoReturn:
    """Unwind the stack, so that temporary files are removed and the lease is released."""
    raise _Stopped(number)


def _settings(path: Path | None, warehouse: str | None) -> Config:
    from ometria_replica.config import load_config

    return load_config(path, os.environ, warehouse)


def _sync(
    settings: Config, tables: list[str] | None, *, as_json: bool, **options: Any
) -> RunReport:
    """Sync with a progress bar, and print the report, of a failed run too."""
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
    _say(report.to_json() if as_json else report.to_text())
