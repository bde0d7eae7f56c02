"""The commands that read or change the state: ``runs``, ``fields``, ``state``, and so on."""

from __future__ import annotations

from contextlib import suppress
from datetime import date  # noqa: TC003 -- Typer reads the annotation.
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli import completing
from ometria_replica.cli.logs import say_report
from ometria_replica.cli.options import (
    DAYS,
    AccountOption,
    Command,
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
from ometria_replica.cli.output import say
from ometria_replica.cli.syncing import sync_and_print

if TYPE_CHECKING:
    from ometria_replica.report import RunReport

MOST = 1_000_000_000  # More than any table of the state holds.

state_app = typer.Typer(help="Show how far each table has been read, or rewind it.")
rejects_app = typer.Typer(help="Show rejected values and records, or retry them.")


def runs(
    limit: Annotated[
        int,
        typer.Option("--limit", min=1, max=MOST, metavar="N", help="Number of runs, newest first."),
    ] = 10,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show the last runs, and why a run failed."""
    from ometria_replica.report import history_as_json, history_as_text
    from ometria_replica.state_commands import read_runs

    history = read_runs(settings_of(config, warehouse), limit, account or ())
    say(history_as_json(history) if as_json else history_as_text(history))


def fields(
    tables: TablesArgument = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """List the fields of the records that `keep_records` keeps, without their values."""
    from ometria_replica.fields import read_fields
    from ometria_replica.rendering import fields_as_json, fields_as_text

    found = read_fields(settings_of(config, warehouse), tables or (), account or ())
    say(fields_as_json(found) if as_json else fields_as_text(found))


def rehash(
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="Remove rows that cannot be rewritten, so that the next sync reads them again.",
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
    """Rewrite the rows of columns that the settings now exclude or hash."""
    from ometria_replica.rehashing import rehash as rewrite
    from ometria_replica.rendering import rehashed_as_json, rehashed_as_text

    done = rewrite(settings_of_accounts(config, warehouse, account), reload=reload)
    text = rehashed_as_json(done) if as_json else rehashed_as_text(done)
    say_report(text, as_json=as_json)


@state_app.command("show", cls=Command)
def state_show(
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show how far each table has been read, and which run is active."""
    from ometria_replica.rendering import state_as_json, state_as_text
    from ometria_replica.state_commands import read_state

    state = read_state(settings_of(config, warehouse), account or ())
    say(state_as_json(state) if as_json else state_as_text(state))


@state_app.command("rewind", cls=Command)
def state_rewind(
    tables: Annotated[
        list[str],
        typer.Argument(metavar="TABLE", autocompletion=completing.tables, help="These tables."),
    ],
    since: Annotated[
        date | None,
        day_option("--since", f"Read again from this day on: {DAYS}; default: everything."),
    ] = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Make the next sync read tables again. Rows are not touched."""
    from ometria_replica.rendering import rewound_as_json, rewound_as_text
    from ometria_replica.state_commands import rewind

    settings = settings_of_accounts(config, warehouse, account)
    tables = list(dict.fromkeys(tables))
    rewind(settings, tables, since)
    sources = [account.source_id for account in settings.accounts]
    write = rewound_as_json if as_json else rewound_as_text
    say_report(write(tables, sources, since), as_json=as_json)


@rejects_app.command("list", cls=Command)
def rejects_list(
    limit: Annotated[
        int,
        typer.Option(
            "--limit", min=1, max=MOST, metavar="N", help="Number of rejects, newest first."
        ),
    ] = 50,
    raw: Annotated[
        bool, typer.Option("--raw", help="Show the values as received; may contain personal data.")
    ] = False,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Show rejected values and records, each with its reason."""
    from ometria_replica.rendering import rejects_as_json, rejects_as_text
    from ometria_replica.state_commands import read_rejects

    rejects = read_rejects(settings_of(config, warehouse), limit, account or ())
    say(rejects_as_json(rejects, raw=raw) if as_json else rejects_as_text(rejects, raw=raw))


@rejects_app.command("replay", cls=Command)
def rejects_replay(
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Convert rejected values again, and read unreadable files again."""
    from ometria_replica.catalog import CATALOG
    from ometria_replica.errors import WarehouseError
    from ometria_replica.rendering import replay_as_json, replay_as_text
    from ometria_replica.running import measured
    from ometria_replica.state_commands import count_rejects, replay
    from ometria_replica.ways_to_read import Feed

    settings = settings_of_accounts(config, warehouse, account)
    converted = replay(settings)

    def show(report: RunReport | None, *, as_json: bool) -> None:
        remaining = None
        with suppress(WarehouseError):  # Then the run failed too, and its error is the result.
            remaining = count_rejects(settings)
        write = replay_as_json if as_json else replay_as_text
        say_report(write(converted, remaining, report), as_json=as_json)

    on = CATALOG.of(settings.accounts)
    feed_tables = [table.name for table in on if isinstance(table.read, Feed)]
    if feed_tables and any(each.feed for each in settings.accounts):
        with measured(settings, None, tells=settings) as run:
            run.report = sync_and_print(settings, feed_tables, as_json=as_json, show=show)
    else:
        show(None, as_json=as_json)
