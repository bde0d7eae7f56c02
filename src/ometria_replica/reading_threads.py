"""
Threads that read, beside the one thread that uses the warehouse.

A warehouse has one connection, the tables in which batches are staged have fixed names, and Python
gives signals to the main thread: so the thread that starts a run does all that needs the
warehouse, one call after the other, and the threads that read wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ometria_replica.stopping import Cancelled, is_of_a_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Job = Callable[[], object]

_Result = TypeVar("_Result")

STOP_SECONDS = 2.0
"""For threads to remove their temporary files after a signal. Docker kills ten after its SIGTERM.

A thread may wait for an answer that does not come; it can no longer write anything.
"""


class Threads(Protocol):
    """Where the work of a run is done."""

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call *function* in the thread that uses the warehouse, and wait for its result."""

    def tell(self, function: Callable[[], object]) -> None:
        """Call *function* there in its turn, without waiting for it."""

    def work(self, jobs: Iterable[Job]) -> None:
        """Do the jobs of a run, and raise what ends it."""

    def beside(self, job: Job, other: Job) -> None:
        """Do two jobs, at the same time if possible."""

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call *stop* if the run ends during the block, in which a thread reads."""


class OneThread:
    """All work in the thread that starts the run, one job after the other."""

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call *function*."""
        return function()

    def tell(self, function: Callable[[], object]) -> None:
        """Call *function*."""
        function()

    def work(self, jobs: Iterable[Job]) -> None:
        """Do the jobs in their order."""
        for job in jobs:
            job()

    def beside(self, job: Job, other: Job) -> None:
        """Do one job after the other."""
        job()
        other()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:  # noqa: ARG002 -- The protocol's.
        """Leave it to the block to stop: what ends the run is raised in it."""
        yield


class ReadingThreads:
    """
    Threads that do the jobs of a run, at most *most* jobs at a time.

    It is created, and does all calls, in the thread that uses the warehouse. A call has the
    context of the thread that asked for it, so that its log lines have the same name.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._owner = threading.get_ident()
        self._inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_stopped = False
        self._awaited: set[Future[Any]] = set()
        self._stops: set[Callable[[], object]] = set()
        self._threads: list[threading.Thread] = []

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call *function* after the calls before it. Raises Cancelled after a stop."""
        if threading.get_ident() == self._owner:
            return function()
        result: Future[_Result] = Future()
        with self._lock:
            if self._is_stopped:
                raise Cancelled
            self._awaited.add(result)
        self._inbox.put(partial(_answer, result, partial(copy_context().run, function)))
        try:
            return result.result()
        finally:
            with self._lock:
                self._awaited.discard(result)

    def tell(self, function: Callable[[], object]) -> None:
        """Call *function* in its turn; what it raises ends the run."""
        if threading.get_ident() == self._owner:
            function()
        else:
            self._inbox.put(partial(copy_context().run, function))

    def work(self, jobs: Iterable[Job]) -> None:
        """Do each job in a thread of its own, and its calls here; what it raises ends the run."""
        waiting, under_way = deque(jobs), 0

        def end(error: BaseException | None) -> None:
            nonlocal under_way
            under_way -= 1
            self._raise(error)

        try:
            while waiting or under_way:
                while waiting and under_way < self._most:
                    under_way += 1
                    self._start(waiting.popleft(), end)
                self._inbox.get()()
        except BaseException:
            self._stop()
            raise

    def beside(self, job: Job, other: Job) -> None:
        """Do *other* in a thread of its own meanwhile; what it raises ends the run."""
        thread = self._start(other, self._raise)
        job()
        thread.join()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call *stop*, from the thread that uses the warehouse, if the run ends in the block."""
        with self._lock:
            if self._is_stopped:
                raise Cancelled
            self._stops.add(stop)
        try:
            yield
        finally:
            with self._lock:
                self._stops.discard(stop)

    # --- helpers ---

    def _start(self, job: Job, end: Callable[[BaseException | None], object]) -> threading.Thread:
        """Start a thread that does *job*, after which the warehouse's thread calls *end*."""

        def do() -> None:
            error: BaseException | None = None
            try:
                job()
            except Cancelled:
                pass
            except BaseException as raised:  # noqa: BLE001 -- It is raised where the run is.
                error = raised
            self._inbox.put(partial(end, error))

        # A daemon, so that no program waits at its end for an answer that does not come.
        thread = threading.Thread(target=copy_context().run, args=(do,), name="reads", daemon=True)
        with self._lock:
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            thread.start()
        return thread

    def _raise(self, error: BaseException | None) -> None:
        if error is not None and not self._is_stopped:
            raise error

    def _stop(self) -> None:
        """Let no thread wait any longer, and give each a moment to clean up."""
        with self._lock:
            self._is_stopped = True
            awaited, stops = list(self._awaited), list(self._stops)
        for result in awaited:
            with suppress(InvalidStateError):
                result.set_exception(Cancelled())
        for stop in stops:
            with suppress(Exception):
                stop()
        until = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with suppress(Empty):
            while True:
                told = self._inbox.get_nowait()
                with suppress(Exception, Cancelled):
                    told()


def _answer(result: Future[Any], function: Callable[[], Any]) -> None:
    """Give a thread the result of its call, unless it waits no longer. Raises what ends the run."""
    if result.done():
        return
    try:
        found = function()
    except BaseException as error:
        if not is_of_a_library(error):
            raise
        result.set_exception(error)
    else:
        result.set_result(found)
