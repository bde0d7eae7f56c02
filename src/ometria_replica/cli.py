"""
The command line: each command parses its arguments, calls one function and prints the result.

The commands that read or change the state are in ``cli_state.py``, ``erase`` in ``cli_erase.py``,
``query`` in ``cli_query.py``, ``status`` in ``cli_status.py`` and ``verify`` in ``cli_verify.py``.
Commands import what they need when they run, so that ``--help`` answers in less than 150 ms.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from datetime import date  # noqa: TC003 -- Typer reads the annotation.
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica import stopping
from ometria_replica.cli_erase import erase
from ometria_replica.cli_options import (
    DATE,
    AccountOption,
    Command,
    ConfigOption,
    JsonOption,
    VerboseOption,
    WarehouseOption,
    day,
    log_steps,
    settings_of,
    settings_of_accounts,
)
from ometria_replica.cli_output import OutputClosed, guard_streams, log_to_stderr, say
from ometria_replica.cli_query import query
from ometria_replica.cli_state import fields, rehash, rejects_app, runs, state_app
from ometria_replica.cli_status import status
from ometria_replica.cli_sync import measured, print_report, sync_and_print
from ometria_replica.cli_verify import verify
from ometria_replica.errors import RejectedRecords, ReplicaError
from ometria_replica.text import counted
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from ometria_replica.config import Config
    from ometria_replica.report import RunReport

app = typer.Typer(
    help="Replicate an Ometria account into your own warehouse.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # Rich help costs 100 ms.
    pretty_exceptions_enable=False,  # They print local variables, which hold personal data.
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """The formats of ``tables``."""

    TEXT = "text"
    MARKDOWN = "markdown"
    SQL = "sql"
    MERMAID = "mermaid"
    JSON = "json"


@app.callback(invoke_without_command=True)
def main_options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Replicate an Ometria account into your own warehouse."""
    if version:
        say(f"ometria-replica {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")
    log_to_stderr()
    log_steps(verbose=verbose)


@app.command(cls=Command)
def sync(
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
        date | None,
        typer.Option("--since", parser=day, metavar=DATE, help="Read again from this day on."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change, without writing anything."),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with code 4 if anything is rejected, in this run or before."
        ),
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--metrics", metavar="FILE", help="Write metrics for Prometheus; overrides the setting."
        ),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Read new and changed records and merge them into the warehouse."""
    from ometria_replica.accounts import only_accounts

    every = settings_of(config, warehouse)
    settings = only_accounts(every, account or ())
    if metrics is None and settings.metrics:
        metrics = Path(settings.metrics)
    with measured(every, None if dry_run else metrics) as run:
        run.report = sync_and_print(
            settings,
            tables,
            as_json=as_json,
            full=full,
            detect_deletes=detect_deletes,
            since=since,
            dry_run=dry_run,
        )
        if strict:
            _refuse_rejects(settings, run.report)


@app.command(cls=Command)
def backfill(
    since: Annotated[
        date,
        typer.Option("--since", parser=day, metavar=DATE, help="First day to read again."),
    ],
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", show_default=False, help="Only these tables."),
    ] = None,
    until: Annotated[
        date | None,
        typer.Option("--until", parser=day, metavar=DATE, help="Last day to read again."),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Read a period again, without moving the watermarks."""
    settings = settings_of_accounts(config, warehouse, account)
    sync_and_print(settings, tables, as_json=as_json, since=since, until=until)


@app.command(cls=Command)
def check(
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Test the API key, the bucket and the warehouse. Nothing is written."""
    from ometria_replica.check import check as run_check
    from ometria_replica.rendering import finding_as_text, findings_as_json

    findings = []
    for finding in run_check(settings_of_accounts(config, warehouse, account)):
        findings.append(finding)
        if not as_json:
            say(finding_as_text(finding))
    if as_json:
        say(findings_as_json(findings))
    failures = [finding.error for finding in findings if finding.error is not None]
    if failures:
        raise typer.Exit(failures[0].exit_code)


@app.command(cls=Command)
def tables(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="Only this table.")] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", metavar="FORMAT", show_default="text", help=f"{', '.join(Format)}."
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
            metavar="WAREHOUSE",
            show_default="duckdb",
            help="SQL for this warehouse: duckdb, postgresql, snowflake, ...",
        ),
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Show the tables. Each has its columns, their types, sources and meanings, and its key."""
    from ometria_replica.describe import describe

    if as_json:
        form = Format.JSON
    elif form is None:
        form = Format.TEXT if warehouse is None else Format.SQL
    say(describe(table, form.value, warehouse=warehouse, every=every))


@app.command(cls=Command)
def config(
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Show every setting, its value and its origin. Secrets are not shown."""
    from ometria_replica.config import explain
    from ometria_replica.rendering import settings_as_json, settings_as_text

    settings = explain(settings_of(config, warehouse))
    say(settings_as_json(settings) if as_json else settings_as_text(settings))


app.command(cls=Command)(query)
app.command(cls=Command)(status)
app.command(cls=Command)(verify)
app.command(cls=Command)(runs)
app.command(cls=Command)(fields)
app.command(cls=Command)(rehash)


@app.command(cls=Command)
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
) -> None:
    """Sync a simulated account, without a key or a bucket."""
    from ometria_replica.config import load_warehouse
    from ometria_replica.demo import demo as run_demo
    from ometria_replica.progress import watching

    with watching() as progress:
        report, samples = run_demo(
            load_warehouse(warehouse),
            profiles=profiles,
            lists=lists,
            events=events,
            progress=progress,
        )
    print_report(report, as_json=as_json)
    if not as_json:
        say(samples)


app.command(cls=Command)(erase)
app.add_typer(state_app, name="state")
app.add_typer(rejects_app, name="rejects")


def main() -> None:
    """Run the command line; print each ReplicaError as a message and exit with its code."""
    guard_streams()  # First: a stream that is closed would become the next file that is opened.
    stopping.listen()
    _write_no_core_dumps()
    try:
        with stopping.interruptible(lambda: None):
            app()
    except ReplicaError as error:
        say(f"{error.source_id}: {error}" if error.source_id else f"{error}", err=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 -- Its message may quote personal data.
        traceback.print_tb(error.__traceback__)
        say(
            f"Bug in ometria-replica: {type(error).__name__} (traceback above)."
            " Committed data is safe; the next run repeats the rest. Please report it.",
            err=True,
        )
        raise SystemExit(1) from None
    except stopping.Stopped as stop:
        say("Stopped. Committed data is safe; the next run continues from there.", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + stop.number)  # As shells do. Requests in flight are dropped.
    except OutputClosed:
        raise SystemExit(128 + signal.SIGPIPE) from None  # As shells have it for other programs.


def _write_no_core_dumps() -> None:
    """Prevent that the memory of a process that crashes, with the key, reaches the disk."""
    try:
        import resource
    except ImportError:  # Windows has no core dumps.
        return
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def _refuse_rejects(settings: Config, report: RunReport) -> None:
    """Raise RejectedRecords if the run rejected anything, or if rejects of earlier runs remain."""
    from ometria_replica.state_commands import count_rejects

    rejected, when = report.rejected, ""
    if not rejected:
        rejected = count_rejects(settings, {table.table for table in report.tables})
        when = " in earlier runs and remains" if rejected == 1 else " in earlier runs and remain"
    if rejected:
        raise RejectedRecords(
            f"{counted(rejected, 'value, record or file', 'values, records or files')}"
            f" {'was' if rejected == 1 else 'were'} rejected{when}, and --strict is set."
            " Everything else is loaded. See `ometria-replica rejects list`."
        )
