"""The commands ``sync`` and ``backfill``."""

from __future__ import annotations

from datetime import date  # noqa: TC003 -- Typer reads the annotation.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli.options import (
    DAYS,
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    TablesArgument,
    VerboseOption,
    WarehouseOption,
    day_option,
    settings_of,
    settings_of_accounts,
)
from ometria_replica.cli.syncing import measured, sync_and_print
from ometria_replica.errors import RejectedRecords
from ometria_replica.log_context import logging_for
from ometria_replica.text import counted

if TYPE_CHECKING:
    from ometria_replica.config import Config
    from ometria_replica.report import RunReport


def sync(
    tables: TablesArgument = None,
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
        day_option("--since", f"Read again from this day on: {DAYS}."),
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
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Read new and changed records and merge them into the warehouse."""
    from ometria_replica.accounts import only_accounts

    every = settings_of(config, warehouse)
    settings = only_accounts(every, account or ())
    if metrics is None and settings.metrics:
        metrics = Path(settings.metrics)
    tells = None if dry_run else settings
    with measured(every, None if dry_run else metrics, tells=tells) as run:
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
            with logging_for(run=run.report.run_id):
                _refuse_rejects(settings, run.report)


def backfill(
    since: Annotated[
        date,
        day_option("--since", f"First day to read again: {DAYS}."),
    ],
    tables: TablesArgument = None,
    until: Annotated[
        date | None,
        day_option("--until", "Last day to read again."),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Read a period again, without moving the watermarks."""
    settings = settings_of_accounts(config, warehouse, account)
    with measured(settings, None, tells=settings) as run:
        run.report = sync_and_print(settings, tables, as_json=as_json, since=since, until=until)


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
