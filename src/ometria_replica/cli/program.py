"""
The command line: each command parses its arguments, calls one function and prints the result.

Each command is in the module of its name; those that read or change the state are in ``state.py``.
Commands import what they need when they run, so that ``--help`` answers in less than 150 ms.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Annotated

import typer

from ometria_replica import stopping
from ometria_replica.cli.check import check
from ometria_replica.cli.completing import answer_shells
from ometria_replica.cli.completion import completion
from ometria_replica.cli.demo import demo
from ometria_replica.cli.describe import config, tables
from ometria_replica.cli.erase import erase
from ometria_replica.cli.options import Command, VerboseOption, log_steps
from ometria_replica.cli.output import OutputClosed, guard_streams, log_to_stderr, say
from ometria_replica.cli.query import query
from ometria_replica.cli.state import fields, rehash, rejects_app, runs, state_app
from ometria_replica.cli.status import status
from ometria_replica.cli.sync import backfill, sync
from ometria_replica.cli.verify import verify
from ometria_replica.errors import ReplicaError
from ometria_replica.version import __version__

app = typer.Typer(
    help="Replicate an Ometria account into your own warehouse.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # Rich help costs 100 ms.
    pretty_exceptions_enable=False,  # They print local variables, which hold personal data.
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


COMMANDS = (
    sync,
    backfill,
    check,
    status,
    query,
    verify,
    runs,
    tables,
    fields,
    config,
    erase,
    rehash,
    demo,
    completion,
)
"""In the order of the help."""

for _command in COMMANDS:
    app.command(cls=Command)(_command)
app.add_typer(state_app, name="state")
app.add_typer(rejects_app, name="rejects")


def main() -> None:
    """Run the command line; print each ReplicaError as a message and exit with its code."""
    guard_streams()  # First: a stream that is closed would become the next file that is opened.
    stopping.listen()
    _write_no_core_dumps()
    try:
        answer_shells()
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
