"""
A request to stop: a signal, which also interrupts the DuckDB statement that runs.

DuckDB looks for signals itself, and turns the exception of a handler into an error of its own, or
goes on. So the request is noted, and an error of an interrupted statement becomes `Stopped`.
"""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN = 0.1  # Seconds.


class Stopped(BaseException):
    """Ctrl-C, or a scheduler's SIGTERM. Typer would turn KeyboardInterrupt into its own exit."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)

    @property
    def exit_code(self) -> int:
        """The exit code of a program that a signal ended, as shells have it."""
        return 128 + self.number


class Cancelled(BaseException):
    """The run ends, and this thread, which reads for it, is no longer needed."""


def is_of_a_library(error: BaseException) -> bool:
    """Whether it is an error, or a panic of Rust, and not a signal that ends the program."""
    if is_interrupt(error):
        return False
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


def is_interrupt(error: BaseException) -> bool:
    """Whether it is what DuckDB makes of the exception of a handler, such as KeyboardInterrupt."""
    return type(error) is RuntimeError and error.args == ("Query interrupted",)


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """
    Raise KeyboardInterrupt where DuckDB made an error of its own of it.

    Outside the command line, nothing notes which signal came: it is Ctrl-C in a notebook, or what
    the handler of an orchestrator raised.
    """
    try:
        yield
    except RuntimeError as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        raise


@dataclass
class _Request:
    """
    The *number* of the signal that came, 0 for none, and the statements that run.

    *received* signals came, and Python has *handled* so many of them. Each statement has the
    number handled before it began: a signal interrupts only statements that began before it was
    handled, and never those of the clean-up that it causes.
    """

    number: int = 0
    received: int = 0
    handled: int = 0
    running: list[tuple[Callable[[], None], int]] = field(default_factory=list)


_request = _Request()


def listen() -> None:
    """
    Raise `Stopped` in the main thread at each of SIGNALS from now on.

    Not at one that is ignored: a shell starts jobs in the background so, and then means them
    to go on when Ctrl-C stops another program of its terminal.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_interrupt, args=(reader, writer), daemon=True).start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> NoReturn:
    """Unwind the stack, so that temporary files are removed and the lease is released."""
    _request.number = number
    _request.handled += 1
    raise Stopped(number)


def _interrupt(reader: socket.socket, _writer: socket.socket) -> None:
    """
    Interrupt at each signal what runs: Python may reach its handler only afterwards.

    Again and again until it ends: DuckDB forgets an interrupt that comes just before it begins.
    """
    while True:
        reader.settimeout(_AGAIN if _to_interrupt() else None)
        with suppress(TimeoutError):
            received = reader.recv(1)
            if not received:
                return
            if received[0] in SIGNALS:
                _request.number = received[0]
                _request.received += 1
        for interrupt in _to_interrupt():
            with suppress(Exception):
                interrupt()


def _to_interrupt() -> list[Callable[[], None]]:
    return [
        interrupt
        for interrupt, handled_before in tuple(_request.running)
        if handled_before < _request.received
    ]


@contextmanager
def interruptible(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call *interrupt* if a signal comes during the block; its error then is `Stopped`."""
    statement = (interrupt, _request.handled)
    _request.running.append(statement)
    try:
        yield
    except Exception as error:
        if _request.number:
            raise Stopped(_request.number) from error
        if is_interrupt(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        _request.running.remove(statement)
