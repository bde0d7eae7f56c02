"""Runs calls of PostgreSQL's driver in a thread, so that a signal can cancel the statement."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

import adbc_driver_manager as adbc

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

CANCEL_SECONDS = 5.0  # For the server to end a statement. Docker kills ten after its SIGTERM.

_ABANDONED: list[object] = []
"""Objects of the driver that a call still uses, which to free would end the process."""


class Worker:
    """
    One thread for one call at a time.

    It is not the main thread, where the driver takes Ctrl-C for itself: so the main thread, which
    waits, gets each signal at once. Once a call *is_stuck*, since the server answers nothing, not
    even to the request to cancel it, each other call fails.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "postgres")
        self.is_stuck = False

    def run(self, call: Callable[[], _Result], cancel: Callable[[], None] | None = None) -> _Result:
        """Run a call. A signal, or another exception, cancels it, and the call ends or is stuck."""
        if self.is_stuck:
            raise adbc.OperationalError("not connected", status_code=adbc.AdbcStatusCode.IO)
        running = self._thread.submit(call)
        try:
            return running.result()
        except BaseException:
            if not running.done():
                self._end(running, cancel)
            raise

    def _end(self, running: Future[_Result], cancel: Callable[[], None] | None) -> None:
        if cancel is not None:
            Thread(target=_quietly, args=(cancel,), daemon=True).start()
        try:
            wait([running], CANCEL_SECONDS)
        finally:
            if not running.done():
                self.is_stuck = True
                logger.warning("the PostgreSQL server does not answer; its connection is given up")

    def free(self, owned: object, close: Callable[[], None]) -> None:
        """Close an object of the driver, unless a call that is stuck may use it."""
        if self.is_stuck:
            _ABANDONED.append(owned)
        else:
            close()


def _quietly(cancel: Callable[[], None]) -> None:
    with suppress(adbc.Error):
        cancel()
