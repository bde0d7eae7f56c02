"""Read-ahead: requests that are under way before their answers are needed, and a bounded queue."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ometria_replica.stopping import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from concurrent.futures import Future
    from datetime import datetime

    from ometria_replica.ometria.client import Client
    from ometria_replica.ometria.endpoint_behaviour import EndpointBehaviour
    from ometria_replica.ometria.response import Answer

Item = TypeVar("Item")
Done = TypeVar("Done")

# At 800 ms an answer, 4 requests a second keep 4 in flight. The rest covers a refused page or a
# busy consumer.
IN_FLIGHT = 16

# Records in prefetched answers, estimated by the longest answer so far. An endpoint that does
# not page may send hundreds of thousands at once, at 1 kB each.
MOST_RECORDS_AHEAD = 20_000


class Prefetch:
    """
    The requests of one read that are under way. Leaving the block cancels all that are unsent.

    Up to :data:`IN_FLIGHT` requests are under way at once, so that slow answers do not waste
    the account's rate limit; fewer where answers are large.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stops: dict[Future[Answer], threading.Event] = {}
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="ometria")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for stop in tuple(self._stops.values()):
            stop.set()
        # On Ctrl-C, do not wait for requests that are in flight.
        waits = kind is None or issubclass(kind, (Exception, GeneratorExit))
        self._pool.shutdown(wait=waits and not self._client.cancelled.done(), cancel_futures=True)

    def worth_in_flight(self) -> int:
        """Return the number of concurrent requests that use up the rate limit."""
        return self._client.worth_in_flight()

    def depth(self, behaviour: EndpointBehaviour) -> int:
        """Return the number of whole answers to request at once: for the rate limit, in memory."""
        worth = 2 * self.worth_in_flight()  # To cover a refusal or a busy consumer.
        fit = MOST_RECORDS_AHEAD // max(1, behaviour.longest)
        return max(1, min(IN_FLIGHT, worth, fit))

    def request(self, path: str, query: Mapping[str, str]) -> Future[Answer]:
        """Send a request when it is its turn."""
        stop, context = threading.Event(), copy_context()
        future = self._pool.submit(context.run, self._client.get, path, query, stop=stop)
        self._stops[future] = stop
        return future

    def now(self) -> datetime:
        """Give our own time, in UTC."""
        return self._client.now()

    def is_done(self, future: Future[Answer], seconds: float | None = None) -> bool:
        """
        Wait for an answer or an error, at most *seconds*. Whether one of them is there.

        Raises Cancelled if the client was cancelled.
        """
        either: list[Future[Any]] = [future, self._client.cancelled]
        done, _ = wait(either, seconds, FIRST_COMPLETED)
        if self._client.cancelled.done():
            raise Cancelled
        return bool(done)

    def answer(self, future: Future[Answer]) -> Answer:
        """Wait for the answer to a request. Raises Cancelled if the client was cancelled."""
        try:
            self.is_done(future)
            return future.result()
        finally:
            self._stops.pop(future, None)

    def cancel(self, future: Future[Answer]) -> None:
        """Cancel a request, unless it was sent."""
        future.cancel()
        if (stop := self._stops.pop(future, None)) is not None:
            stop.set()


def in_order(
    workers: ThreadPoolExecutor,
    do: Callable[[Item], Done],
    items: Iterable[Item],
    ahead: int,
    *,
    stop: Callable[[], object] = lambda: None,
    discard: Callable[[Done], object] | None = None,
) -> Generator[Done]:
    """
    Do *items* in order, with *ahead* of the next ones under way while the caller works.

    At the end, or when the iterator is closed, *stop* is called, what is not under way is
    cancelled, and each result that was not taken is awaited and passed to *discard*. Without
    *discard*, nothing is awaited.
    """
    under_way: deque[Future[Done]] = deque()
    try:
        for item in items:
            under_way.append(workers.submit(copy_context().run, do, item))
            if len(under_way) > ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        stop()
        for future in under_way:
            future.cancel()
        for future in under_way:
            if discard is not None and not future.cancelled():
                with suppress(Exception):
                    discard(future.result())
