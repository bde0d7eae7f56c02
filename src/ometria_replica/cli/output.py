"""
Standard output and standard error of the program.

Results go to standard output, everything else to standard error. A result that cannot be written
ends the program with a sentence; a log line that cannot be written is no reason to stop a sync.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

import typer

from ometria_replica.errors import OutputError
from ometria_replica.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable


class OutputClosed(BaseException):
    """The reader of standard output closed it, as ``head`` does."""

    exit_code = 128 + 13
    """As shells have it for other programs: 13 is SIGPIPE, which Windows does not name."""


def say(text: str, *, err: bool = False) -> None:
    """Print a line without characters that steer a terminal."""
    typer.echo(printable(text), err=err)


def has_colours() -> bool:
    """
    Whether standard output is a terminal that shows colours, and the user wants them.

    ``NO_COLOR`` switches them off if it is set and not empty, as no-color.org says.
    """
    wants = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wants and sys.stdout.isatty()


def guard_streams() -> None:
    """
    Tell failures of the standard streams apart from faults of the program.

    A stream that the shell closed, as `2>&-` does, goes nowhere: else the next file that is
    opened, such as the warehouse, would be the standard error of a library.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # It becomes the lowest number that is free: this one.
    for name, failed in (("stdout", _refuse), ("stderr", _ignore)):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- as long as the program.
        setattr(sys, name, _Guarded(stream, failed))


class _Guarded:
    """A text stream that calls *failed* for each write once one has failed."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._failed = failed
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self._error is not None:  # Typer tries a stream first, and ignores that it fails.
            self._failed(self._error)
            return len(text)
        return self._tried(lambda: self._stream.write(text)) or len(text)

    def flush(self) -> None:
        if self._error is None:
            self._tried(self._stream.flush)

    def _tried(self, attempt: Callable[[], int | None]) -> int | None:
        try:
            return attempt()
        except OSError as error:
            self._error = error
            self._discard()
            self._failed(error)
            return None

    def _discard(self) -> None:
        """Write what is buffered to nowhere, or Python complains of it when the program ends."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream.flush()


def _refuse(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise OutputClosed from None
    raise OutputError(
        f"Standard output cannot be written: {error.strerror}. Committed data is safe."
        " Free some space, or write the output elsewhere."
    ) from error


def _ignore(_error: OSError) -> None:
    pass
