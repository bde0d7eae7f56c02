"""
The command line: each command parses its arguments, calls one function and prints the result.

Each command is in the module of its name; those that read or change the state are in ``state.py``.
Commands import what they need when they run, so that ``--help`` answers in less than 150 ms.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from ometria_replica import stopping
from ometria_replica.cli.check import check
from ometria_replica.cli.completing import answer_shells
from ometria_replica.cli.completion import completion
from ometria_replica.cli.demo import demo
from ometria_replica.cli.describe import config, tables
from ometria_replica.cli.erase import erase
from ometria_replica.cli.init import init
from ometria_replica.cli.logs import (
    USAGE_ERROR,
    VARIABLE,
    asked_format,
    choose_format,
    log_errors_only,
    log_failure,
    log_lost_errors,
    log_steps,
    log_to_stderr,
    writes_json,
)
from ometria_replica.cli.maintain import maintain
from ometria_replica.cli.models import models_app
from ometria_replica.cli.options import Command, LogFormatOption, QuietOption, VerboseOption
from ometria_replica.cli.output import OutputClosed, guard_streams, say
from ometria_replica.cli.plan import plan
from ometria_replica.cli.query import query
from ometria_replica.cli.report import report
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
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Replicate an Ometria account into your own warehouse."""
    if version:
        say(f"ometria-replica {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")
    log_to_stderr(context.obj or os.environ.get(VARIABLE))
    choose_format(log_format)
    log_steps(verbose=verbose)
    log_errors_only(quiet=quiet)


COMMANDS = (
    init,
    sync,
    backfill,
    plan,
    check,
    status,
    query,
    report,
    verify,
    runs,
    tables,
    fields,
    config,
    erase,
    rehash,
    maintain,
    demo,
    completion,
)
"""In the order of the help."""

for _command in COMMANDS:
    app.command(cls=Command)(_command)
app.add_typer(state_app, name="state")
app.add_typer(rejects_app, name="rejects")
app.add_typer(models_app, name="models")


def main() -> None:
    """Run the command line; print each ReplicaError as a message and exit with its code."""
    guard_streams()  # First: a stream that is closed would become the next file that is opened.
    asked = asked_format(sys.argv[1:], os.environ)
    log_to_stderr(asked)
    log_lost_errors()
    stopping.listen()
    _write_no_core_dumps()
    try:
        answer_shells()
        with stopping.interruptible(lambda: None):
            ended = app(standalone_mode=False, obj=asked)
    except ReplicaError as error:
        log_failure(error.sentence, error, error.exit_code)
        raise SystemExit(error.exit_code) from None
    except typer.Abort as abort:
        log_failure("Aborted!", abort, 1)
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001 -- Its message may quote personal data.
        if isinstance(error, USAGE_ERROR):
            raise SystemExit(_refused(error)) from None
        if not writes_json():  # Else it is a field of the last line.
            traceback.print_tb(error.__traceback__)
        where = "traceback here" if writes_json() else "traceback above"
        log_failure(
            f"Bug in ometria-replica: {type(error).__name__} ({where})."
            " Committed data is safe; the next run repeats the rest. Please report it.",
            error,
            1,
        )
        raise SystemExit(1) from None
    except stopping.Stopped as stop:
        text = "Stopped. Committed data is safe; the next run continues from there."
        log_failure(text, stop, stop.exit_code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(stop.exit_code)  # Requests in flight are dropped.
    except OutputClosed as closed:
        raise SystemExit(closed.exit_code) from None
    raise SystemExit(ended or 0)  # A command returns nothing, and Typer the code of an Exit.


def _refused(error: Any) -> int:
    """Say which arguments are wrong, and return the exit code."""
    if writes_json():
        log_failure(error.format_message(), error, error.exit_code)
    else:
        error.show()
    return int(error.exit_code)


def _write_no_core_dumps() -> None:
    """Prevent that the memory of a process that crashes, with the key, reaches the disk."""
    if sys.platform == "win32":  # It has no core dumps.
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
