"""The pages of a collection that are requested ahead, and cancelled where they are not needed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import wait
from typing import TYPE_CHECKING

from ometria_replica.ometria.collection import PAGE_SIZE
from ometria_replica.ometria.page_overlap import overlap_of
from ometria_replica.ometria.prefetch import IN_FLIGHT
from ometria_replica.ometria.response import BadRequest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ometria_replica.ometria.collection import Collection
    from ometria_replica.ometria.prefetch import Prefetch
    from ometria_replica.ometria.response import Answer

RETURN_TURN_SECONDS = 0.05  # For threads to wake. Requests in flight are not waited for.


class PlannedPages:
    """The requests for the next pages of *collection*; the first, at offset *start*, is sent."""

    def __init__(self, prefetch: Prefetch, collection: Collection, start: int) -> None:
        self._prefetch = prefetch
        self._collection = collection
        self._planned: deque[tuple[int, Future[Answer]]] = deque()
        self._depth = 1
        self._planned.append((start, self.request(start)))

    def request(self, offset: int) -> Future[Answer]:
        """Request the page at *offset*, in no plan."""
        page = {"limit": str(PAGE_SIZE), "offset": str(offset)}
        if self._collection.behaviour.refuses_paging:
            page = {}
        return self._prefetch.request(self._collection.path, {**self._collection.query, **page})

    def take(self, offset: int) -> tuple[int, Future[Answer]]:
        """Take the page at *offset*, or a planned one just before it that reaches it."""
        while self._planned and self._planned[0][0] + self._stride <= offset:
            self._prefetch.cancel(self._planned.popleft()[1])
        if self._planned and self._planned[0][0] <= offset:
            return self._planned.popleft()
        return offset, self.request(offset)

    def answer(self, offset: int, future: Future[Answer]) -> Answer:
        """Wait. If paging is not documented and is refused, request once more without it."""
        try:
            return self._prefetch.answer(future)
        except BadRequest:
            if offset > 0 or self._collection.must_page:
                raise
        behaviour = self._collection.behaviour
        behaviour.refuses_paging, behaviour.pages = True, False
        return self._prefetch.answer(self.request(0))

    def look_ahead(self, offset: int, *, has_news: bool, may_grow: bool) -> None:
        """
        Plan the pages from *offset* on, as many as the latency of answers makes worthwhile.

        The number doubles after each page with news, to cover a busy consumer. A short
        collection costs hardly a request too many: planned requests that have not had their
        turn when the last page arrives are never sent. From an endpoint without documented
        paging, one page at a time is requested until it is known to page: each answer may
        be the whole collection. Where it *may_grow* as fast as it is read, each page may be the
        last.
        """
        does_page = self._collection.must_page or self._collection.behaviour.pages
        if self._collection.one_at_a_time or may_grow or not does_page:
            self._planned.append((offset, self.request(offset)))
            return
        self._depth = max(self._depth, min(IN_FLIGHT, self._prefetch.worth_in_flight()))
        while len(self._planned) < self._depth:
            following = self._planned[-1][0] + self._stride if self._planned else offset
            self._planned.append((following, self.request(following)))
        if has_news:
            self._depth = min(IN_FLIGHT, self._depth * 2)

    def cancel(self) -> None:
        """Cancel what was not sent, and begin again with few pages: the end may be near."""
        self._depth = 1
        planned = [future for _, future in self._planned]
        self._planned.clear()
        for future in planned:
            self._prefetch.cancel(future)
        # A request that waits for its turn returns it at once, and the next request takes it.
        wait(planned, timeout=RETURN_TURN_SECONDS)

    @property
    def _stride(self) -> int:
        page_size = self._collection.behaviour.longest
        return max(1, page_size - overlap_of(page_size))
