"""The commands ``sync`` and ``backfill``."""

from __future__ import annotations

from datetime import date  # noqa: TC003 -- Typer reads the annotation.
from pathlib import Path
from typing import Annotated

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
from ometria_replica.cli.syncing import sync_and_print


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
    from ometria_replica.running import measured, refuse_rejects

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
            refuse_rejects(settings, run.report)


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
    from ometria_replica.running import measured

    settings = settings_of_accounts(config, warehouse, account)
    with measured(settings, None, tells=settings) as run:
        run.report = sync_and_print(settings, tables, as_json=as_json, since=since, until=until)
