"""
Standard error: its format, how much is written to it, and the line of the error that ends a run.

What was chosen is kept where the standard library has it: the handler of the root logger, and
levels. `--quiet` is a root logger that takes errors only.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final, TextIO

import typer
from typing_extensions import override

from ometria_replica.cli.output import say
from ometria_replica.errors import QueryError
from ometria_replica.log_context import context_of, logging_for
from ometria_replica.log_lines import JsonLines, TextLines, frames_of
from ometria_replica.text import without_addresses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ometria_replica.progress import Shown
    from ometria_replica.report import RunReport

logger = logging.getLogger("ometria_replica")

OPTION: Final = "--log-format"
VARIABLE: Final = "OMETRIA_LOG_FORMAT"
FORMATS: Final[Mapping[str, type[logging.Formatter]]] = {"text": TextLines, "json": JsonLines}

USAGE_ERROR: Final = typer.BadParameter.__mro__[1]
"""Of wrong arguments: click's class, or that of the copy that Typer has of it."""

PROGRESS: Final = logging.getLogger("ometria_replica.progress")


class _Lines(logging.StreamHandler[TextIO]):
    """The handler of this program. *is_chosen*: an option says the format, so no setting does."""

    is_chosen = False

    @property
    @override
    def stream(self) -> TextIO:  # As in logging's own _StderrHandler.
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Keep to what standard error is."""


def log_to_stderr(asked: str | None = None) -> None:
    """Write the log lines of all modules to standard error; *asked* None or wrong means text."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Lines)]:
        root.removeHandler(handler)
    root.addHandler(_Lines())
    root.setLevel(min(root.level, logging.WARNING))  # An application may want to see more.
    _use(asked if asked and asked in FORMATS else "text")


def asked_format(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Find the format before the arguments are parsed, which may fail and then has to be told."""
    asked = environ.get(VARIABLE)
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{OPTION}="):
            asked = argument.partition("=")[2]
        elif argument == OPTION:
            asked = next(iter(arguments[place + 1 :]), None)
    return asked


def choose_format(log_format: str | None) -> str | None:
    """Log in the format of the option. It can stand before the command and after it."""
    if log_format:
        _use(log_format)
        for handler in _handlers():
            handler.is_chosen = True
    return log_format


def settle_format(log_format: str) -> None:
    """Log in the format of the settings, unless an option names one."""
    if not any(handler.is_chosen for handler in _handlers()):
        _use(log_format)


def log_steps(*, verbose: bool) -> bool:
    """Log each step if *verbose*. The option can stand before the command and after it."""
    if verbose:
        _refuse_both(already=is_quiet())
        root = logging.getLogger()
        root.setLevel(min(root.level, logging.INFO))
    return verbose


def log_errors_only(*, quiet: bool) -> bool:
    """Log errors only if *quiet*. The option can stand before the command and after it."""
    if quiet:
        _refuse_both(already=logging.getLogger().isEnabledFor(logging.INFO))
        logging.getLogger().setLevel(logging.ERROR)
        PROGRESS.setLevel(logging.NOTSET)
    return quiet


def is_quiet() -> bool:
    """Whether only errors are logged, and reports of work that is done are left out."""
    return not logging.getLogger().isEnabledFor(logging.WARNING)


def writes_json() -> bool:
    """Whether log lines are JSON."""
    return any(isinstance(handler.formatter, JsonLines) for handler in _handlers())


def shown_progress() -> Shown:
    """Say how the progress of a run is shown."""
    if writes_json():
        return "as log lines"
    return "not at all" if is_quiet() else "as text"


def announce(text: str) -> None:
    """Say something on the way to a result."""
    if writes_json():
        PROGRESS.info("%s", text)
    elif not is_quiet():
        say(text, err=True)


def say_report(text: str, *, as_json: bool = False) -> None:
    """Print the report of work that is done; if quiet, only JSON, which was asked for."""
    if as_json or not is_quiet():
        say(text)


def log_lost_errors() -> None:
    """Log the errors that nothing can catch, which Python would print with their messages."""
    threading.excepthook = lambda lost: _log_lost(lost, "a thread ended with")
    sys.unraisablehook = lambda lost: _log_lost(lost, "nothing could take")


def _log_lost(lost: threading.ExceptHookArgs | sys.UnraisableHookArgs, what: str) -> None:
    if lost.exc_value is not None:
        raised = (lost.exc_type, lost.exc_value, lost.exc_traceback)
        logger.error("%s %s", what, lost.exc_type.__name__, exc_info=raised)


def log_outcome(report: RunReport) -> None:
    """Write the last line of a run that went through. As text, its report says all this."""
    if writes_json():
        fields = {
            "outcome": report.outcome,
            "exit_code": 0,
            "seconds": report.seconds,
            "requests": report.requests,
            "changed": report.changed,
            "rejected": report.rejected,
            "warnings": len(report.warnings),
        }
        with logging_for(run=report.run_id):
            PROGRESS.info("%s", report.headline, extra={"fields": fields})


def log_failure(text: str, error: BaseException, exit_code: int) -> None:
    """Write the last line: why the program ends with *exit_code*, and where *error* was raised."""
    if not writes_json():
        say(text, err=True)
        return
    if isinstance(error, QueryError):  # It may quote rows.
        text = "The warehouse refused the SQL. --log-format text shows why."
    context = context_of(error)
    fields: dict[str, object] = {"error": type(error).__name__, "exit_code": exit_code}
    if exit_code == 1 and not hasattr(error, "exit_code"):
        fields["traceback"] = frames_of(error.__traceback__)
    with logging_for(run=context.run, account=context.account, table=context.table):
        logger.error("%s", without_addresses(text), extra={"fields": fields})


def _use(log_format: str) -> None:
    for handler in _handlers():
        handler.setFormatter(FORMATS[log_format]())
    is_json = log_format == "json"
    logging.captureWarnings(is_json)  # Else Python writes them to standard error itself.
    # The progress of a run is one line a table: it is logged also where other steps are not.
    PROGRESS.setLevel(logging.INFO if is_json and not is_quiet() else logging.NOTSET)


def _handlers() -> list[_Lines]:
    return [each for each in logging.getLogger().handlers if isinstance(each, _Lines)]


def _refuse_both(*, already: bool) -> None:
    if already:
        raise typer.BadParameter("--quiet and --verbose exclude each other.")
