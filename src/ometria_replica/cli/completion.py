"""The command ``completion``: print the script with which a shell completes commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ometria_replica.cli.completing import script_for, words
from ometria_replica.cli.options import LogFormatOption, QuietOption, VerboseOption, one_of


class Shell(StrEnum):
    """The shells that have a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[
        Shell,
        typer.Argument(
            parser=one_of(Shell),
            metavar="SHELL",
            autocompletion=words(Shell),
            help=f"{', '.join(Shell)}.",
        ),
    ],
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Print a script that completes commands, tables and accounts in a shell."""
    typer.echo(script_for(shell.value))
