"""The command ``erase``: remove a person, list erasures, export what is held of a person."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 -- Typer reads the annotation.
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli.logs import announce, say_report
from ometria_replica.cli.options import (
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    repeated,
    settings_of,
    settings_of_accounts,
)
from ometria_replica.cli.output import say
from ometria_replica.errors import ConfigError
from ometria_replica.permissions import private

if TYPE_CHECKING:
    from ometria_replica.config import Config
    from ometria_replica.erasing import Ids


def erase(
    email: Annotated[
        list[str] | None,
        repeated("--email", "ADDRESS", "A person's email address, in any case"),
    ] = None,
    profile_id: Annotated[
        list[str] | None,
        repeated("--profile-id", "ID", "The id of a profile"),
    ] = None,
    customer_id: Annotated[
        list[str] | None,
        repeated("--customer-id", "ID", "The id of a customer"),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="A file of ids: email:ADDRESS, profile_id:ID or customer_id:ID in each line, or"
            " CSV with such columns.",
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Erase what has come of people who were erased before."),
    ] = False,
    blank: Annotated[
        bool, typer.Option("--blank", help="Keep events for counting, without personal data.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is held, without erasing anything.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help="Write all that is held of the person to a new JSON file, and erase nothing.",
        ),
    ] = None,
    allow: Annotated[
        bool, typer.Option("--allow", help="Let later syncs load an erased person again.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the erasures.")] = False,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Erase a person from all tables, and let no sync load the person again."""
    from ometria_replica.erasing import ids_in, ids_of

    ids = ids_of(email or (), profile_id or (), customer_id or ())
    if file is not None:
        ids |= ids_in(file)
    chosen = [
        name
        for name, is_chosen in (
            ("--list", show_list),
            ("--allow", allow),
            ("--export", export is not None),
            ("--dry-run", dry_run),
        )
        if is_chosen
    ]
    idle = {"--yes": yes, "--again": again and chosen != ["--dry-run"]}
    idle |= {"--blank": blank and chosen != ["--dry-run"]}
    _refuse_contradictions(chosen, ids, [name for name, is_set in idle.items() if is_set], again)
    if show_list:
        _list(settings_of(config, warehouse), account or (), as_json=as_json)
        return
    settings = settings_of_accounts(config, warehouse, account)
    if allow:
        _allow(settings, ids, as_json=as_json)
    elif export is not None:
        _export(settings, ids, export, as_json=as_json)
    else:
        if dry_run or not yes:
            _show(settings, ids, again=again, blank=blank, asks=not dry_run, as_json=as_json)
        if not dry_run:
            _erase(settings, ids, again=again, blank=blank, as_json=as_json)


def _refuse_contradictions(chosen: list[str], ids: Ids, idle: list[str], again: bool) -> None:
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} exclude each other. Choose one of them.")
    if idle and chosen:
        raise ConfigError(f"{idle[0]} has no effect with {chosen[0]}. Leave out one of them.")
    if chosen == ["--list"]:
        if ids:
            raise ConfigError("--list shows all erasures. Leave out the ids.")
    elif not ids and not again:
        raise ConfigError(
            "Say whom: --email, --profile-id, --customer-id or --file. Nothing was changed."
        )


def _show(
    settings: Config, ids: Ids, *, again: bool, blank: bool, asks: bool, as_json: bool
) -> None:
    """Show what is held, and ask whether to erase it if that *asks*."""
    from ometria_replica.erasing import find
    from ometria_replica.erasure_report import ErasePreview

    if asks and not sys.stdin.isatty():
        raise ConfigError(
            "To erase without a terminal, add --yes. --dry-run shows what would be erased."
            " Nothing was changed."
        )
    found = ErasePreview.of(find(settings, ids, again=again), blank=blank)
    if as_json and not asks:
        say(found.to_json())
        return
    say(found.to_text(), err=as_json)
    if asks and not typer.confirm("Erase this? It cannot be undone.", err=True):
        say("Nothing was changed.", err=True)
        raise typer.Exit(1)


def _erase(settings: Config, ids: Ids, *, again: bool, blank: bool, as_json: bool) -> None:
    from ometria_replica.erasing import erase
    from ometria_replica.erasure_report import Erasure
    from ometria_replica.warehouse import sees_marts

    done = Erasure(tuple(erase(settings, ids, blank=blank, again=again)))
    say_report(done.to_json() if as_json else done.to_text(), as_json=as_json)
    if not sees_marts(settings.warehouse.url):
        announce(
            "Models that were built of these tables keep the people until they are built again:"
            " run `ometria-replica models build`, if you have any."
        )


def _list(settings: Config, accounts: list[str] | tuple[str, ...], *, as_json: bool) -> None:
    from ometria_replica.erasing import read_erasures
    from ometria_replica.erasure_report import erasures_as_json, erasures_as_text

    erased = read_erasures(settings, accounts)
    say(erasures_as_json(erased) if as_json else erasures_as_text(erased))


def _allow(settings: Config, ids: Ids, *, as_json: bool) -> None:
    from ometria_replica.erasing import allow
    from ometria_replica.erasure_report import allowed_as_json, allowed_as_text

    allowed = allow(settings, ids)
    text = allowed_as_json(allowed) if as_json else allowed_as_text(allowed)
    say_report(text, as_json=as_json)


def _export(settings: Config, ids: Ids, file: Path, *, as_json: bool) -> None:
    from ometria_replica.erasing import read_held
    from ometria_replica.erasure_report import exported_as_json, exported_as_text, held_as_json

    held = read_held(settings, ids)
    try:
        with open(file, "x", encoding="utf-8", opener=private) as new:
            new.write(held_as_json(held))
    except FileExistsError:
        raise ConfigError(f"{file} exists already. Name another file.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({type(error).__name__}).") from None
    rows = {
        source_id: {name: len(rows) for name, rows in tables.items()}
        for source_id, tables in held.items()
    }
    write = exported_as_json if as_json else exported_as_text
    say_report(write(str(file), rows), as_json=as_json)
