"""The options that commands share, and how a command shows and checks them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand
from typing_extensions import override

from ometria_replica.cli import completing
from ometria_replica.cli.completing import PROGRAM
from ometria_replica.cli.examples import EXAMPLES
from ometria_replica.cli.logs import choose_format, log_errors_only, log_steps, settle_format
from ometria_replica.clock import utc_now
from ometria_replica.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from ometria_replica.config import Config

Choice = TypeVar("Choice", bound=StrEnum)

DAYS_COMPLETED = completing.words(("today", "yesterday", "7d", "30d"))
DAYS = "2026-01-31, yesterday or 7d"
"""What a day may be."""

RENAMED = {
    "--sweep": "--detect-deletes",
    "--from": "--since",
    "--to": "--until",
    "--from-file": "--file",
}
"""The present name of each option that was renamed."""

RENAMED_IN = {"state rewind": {"--to": "--since"}}
"""Options of a command that were renamed otherwise there."""

_DAYS_AGO = re.compile(r"([0-9]{1,6})d", re.ASCII)
_AGE = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class LogFormats(StrEnum):
    """The formats of ``--log-format``."""

    TEXT = "text"
    JSON = "json"


class Command(TyperCommand):
    """
    A command whose help shows an argument by its name, without a Python type, and examples.

    It refuses the old name of an option and names the new one.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument):
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005 -- Typer passes it.

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {option for parameter in self.params for option in parameter.opts}
        if ctx.resilient_parsing:  # A shell completes a command line that is not finished.
            return super().parse_args(ctx, args)
        for argument in takewhile(lambda argument: argument != "--", args):
            name = argument.partition("=")[0]
            now = {**RENAMED, **RENAMED_IN.get(name_of(ctx), {})}.get(name)
            if now in options and name not in options:
                ctx.fail(f"{name} is now {now}.")
            if name == "--table" and "tables" in options:
                ctx.fail(f"--table is now an argument: {PROGRAM} {name_of(ctx)} TABLE.")
        return super().parse_args(ctx, args)

    @override
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if lines := EXAMPLES.get(name_of(ctx)):
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"{'':{formatter.current_indent}}{PROGRAM} {line}\n")


def name_of(context: Any) -> str:
    """Return the name of a command with those of its groups, such as ``state show``."""
    if context.parent is None:
        return ""
    return f"{name_of(context.parent)} {context.info_name}".strip()


def day(text: str, *, clock: Callable[[], datetime] = utc_now) -> date:
    """
    Parse a day in UTC: ``2026-01-31``, ``today``, ``yesterday``, or ``7d`` for seven days ago.

    Other forms of ISO 8601, such as weeks, are refused.
    """
    words = {"today": 0, "yesterday": 1}
    ago = _DAYS_AGO.fullmatch(text)
    with suppress(ValueError, OverflowError):
        if text in words or ago:
            return clock().date() - timedelta(days=int(ago[1]) if ago else words[text])
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return date.fromisoformat(text)
    raise typer.BadParameter(f"{text!r} is not a day, such as 2026-01-31, yesterday or 7d.")


def age(text: str) -> timedelta:
    """Parse an age, such as ``90m``, ``26h`` or ``2d``."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not an age, such as 90m, 26h or 2d.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def one_of(kind: type[Choice]) -> Callable[[str], Choice]:
    """Parse a member of *kind*; another text is refused with the nearest one."""

    def parse(text: str) -> Choice:
        with suppress(ValueError):
            return kind(text)
        hint = did_you_mean(text, kind) or f"; there are {', '.join(kind)}."
        raise typer.BadParameter(f"There is no {text!r}{hint}")

    return parse


def repeated(
    flag: str, metavar: str, text: str, complete: Callable[..., list[str]] | None = None
) -> Any:
    """Describe an option that may be given several times; none by default."""
    return typer.Option(
        flag,
        metavar=metavar,
        show_default=False,
        autocompletion=complete,
        help=f"{text}; repeat for more.",
    )


def day_option(flag: str, text: str) -> Any:
    """Describe an option that takes a day."""
    return typer.Option(
        flag, parser=day, autocompletion=DAYS_COMPLETED, metavar="DATE", help=text
    )  # The metavar: as the help shows it, which also says what it may be.


TablesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TABLE",
        show_default=False,
        autocompletion=completing.tables,
        help="Only these tables.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings file; default ometria.toml, if it exists."
    ),
]
WarehouseOption = Annotated[
    str | None,
    typer.Option("--warehouse", metavar="URL", help="Warehouse URL; overrides the settings."),
]
AccountOption = Annotated[
    list[str] | None,
    repeated(
        "--account",
        "NAME",
        "Only this account, by its source_id or account_id",
        completing.accounts,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=lambda value: log_steps(verbose=value),
        help="Log each step to standard error.",
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=lambda value: log_errors_only(quiet=value),
        help="Print errors only: no progress, no warnings, and no report of what was done unless"
        " it is --json. The result of a command that only shows something is printed.",
    ),
]
LogFormatOption = Annotated[
    LogFormats | None,
    typer.Option(
        "--log-format",
        parser=one_of(LogFormats),
        autocompletion=completing.words(LogFormats),
        metavar="FORMAT",
        callback=choose_format,
        show_default=False,
        help="Write standard error as text, or as json; overrides the setting.",
    ),
]


def settings_of(path: Path | None, warehouse: str | None) -> Config:
    """Load the settings as a command does."""
    from ometria_replica.config import load_config

    config = load_config(path, os.environ, warehouse)
    settle_format(config.log_format)
    return config


def settings_of_accounts(
    path: Path | None, warehouse: str | None, accounts: list[str] | None
) -> Config:
    """Load the settings, and keep the named accounts."""
    from ometria_replica.accounts import only_accounts

    return only_accounts(settings_of(path, warehouse), accounts or ())
