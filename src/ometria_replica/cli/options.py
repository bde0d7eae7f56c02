"""The options that commands share, and how a command shows and checks them."""

from __future__ import annotations

import os
import re
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand
from typing_extensions import override

from ometria_replica.cli.logs import choose_format, log_errors_only, log_steps, settle_format

if TYPE_CHECKING:
    from ometria_replica.config import Config

DATE = "YYYY-MM-DD"  # As the help shows it.

RENAMED = {"--sweep": "--detect-deletes", "--from": "--since", "--to": "--until"}
"""Options of ``sync`` and ``backfill`` by the name that they had before."""


class LogFormats(StrEnum):
    """The formats of ``--log-format``."""

    TEXT = "text"
    JSON = "json"


class Command(TyperCommand):
    """
    A command whose help shows an argument by its name, without a Python type.

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
        for name in (argument.partition("=")[0] for argument in args):
            if name not in options and RENAMED.get(name) in options:
                ctx.fail(f"{name} is now {RENAMED[name]}.")
            if name == "--table":
                ctx.fail(f"--table is now an argument: ometria-replica {ctx.info_name} TABLE.")
        return super().parse_args(ctx, args)


def day(text: str) -> date:
    """Parse a day; other forms of ISO 8601, such as weeks, are refused."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not a day, such as 2026-01-31.")


def repeated(flag: str, metavar: str, text: str) -> Any:
    """Describe an option that may be given several times; none by default."""
    return typer.Option(flag, metavar=metavar, show_default=False, help=f"{text}; repeat for more.")


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
    repeated("--account", "NAME", "Only this account, by its source_id or account_id"),
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
        " it is --json. What a command is there to show is printed.",
    ),
]
LogFormatOption = Annotated[
    LogFormats | None,
    typer.Option(
        "--log-format",
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
