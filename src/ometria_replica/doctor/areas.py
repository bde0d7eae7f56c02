"""Runs tests of several areas at once, and gives each area's results in order, within a time."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Result = TypeVar("Result")

_TICK = 0.2  # Seconds after which a signal is noticed.


class Area(Generic[Result]):
    """
    The results of *test*, which another thread runs as soon as it is one of *most* at once.

    A thread that still waits for a network when the time is over ends with the program.
    """

    def __init__(self, test: Callable[[], Iterable[Result]], at_once: threading.Semaphore) -> None:
        self._test, self._at_once = test, at_once
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="doctor", daemon=True).start()

    def _run(self) -> None:
        try:
            with self._at_once:
                for result in self._test():
                    self._results.put(result)
        finally:
            self._results.put(None)

    def results(self, ends_at: float, unfinished: Result) -> Iterator[Result]:
        """Yield the results as they come; last *unfinished*, if there may be more at *ends_at*."""
        while True:
            try:
                left = max(0.0, ends_at - time.monotonic())
                result = self._results.get(timeout=min(_TICK, left))
            except queue.Empty:
                if time.monotonic() >= ends_at:
                    yield unfinished
                    return
                continue
            if result is None:
                return
            yield result


def started(tests: Sequence[Callable[[], Iterable[Result]]], most: int) -> list[Area[Result]]:
    """Start *tests*, at *most* so many at once. A test must not raise."""
    at_once = threading.Semaphore(most)
    return [Area(test, at_once) for test in tests]
