"""
Collections that are read in pages by ``limit`` and ``offset``; the pages overlap.

The reader is lazy and keeps a handful of pages in memory. It requests pages ahead, and cancels
the requests that turn out to be unnecessary before they are sent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.errors import OmetriaError, UnexpectedResponse
from ometria_replica.ometria.collection import (
    PAGE_SIZE,
    USUAL_CAPS,
    Collection,
    warn_if_cut,
    warn_of_disorder,
)
from ometria_replica.ometria.page_overlap import OverlapCheck, by_id
from ometria_replica.ometria.planned_pages import PlannedPages
from ometria_replica.ometria.prefetch import Prefetch
from ometria_replica.read_position import ReadPosition
from ometria_replica.records import Page, extended

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Future
    from datetime import date

    from ometria_replica.ometria.client import Client
    from ometria_replica.ometria.page_overlap import Joined
    from ometria_replica.ometria.response import Answer
    from ometria_replica.records import Record
    from ometria_replica.ways_to_read import Pages

# How often the reader yields an empty page while it waits for an answer, so that a run can
# renew its lease. Ometria may refuse requests for hours (429, Retry-After).
SIGN_OF_LIFE_SECONDS = 60.0

# How far to step back to find the overlap again, in pages, for each attempt. Half a page closes
# the gap of ordinary deletions; 32 pages are 8,000 profiles deleted between two requests.
STEPS_BACK = (0.5, 1, 2, 4, 8, 16, 32)

# How far to step back to find the tail of an interrupted read, in pages: hours have passed. The
# pages lie side by side, since only the tail is remembered; it reaches 4,000 deletions.
STEPS_BACK_TO_TAIL = tuple(range(1, 17))

# Consecutive answers without a new record, and those of them that did not join. The way back
# from the furthest step takes 32, and records that are inserted at the front push known ones
# into the next pages; beyond these limits the server repeats itself.
MOST_IDLE_ANSWERS = 64
MOST_MISSED_JOINS = 20

# Short pages that each hold something new, after which it is asked whether the collection grows
# as fast as it is read.
GROWING_PAGES = 3

SMALLEST_PAGE = 2  # Pages of one record cannot overlap, so such a page is proven to be the whole.

# How far beyond the end of a page to look whether the server ignores ``offset``, in pages: no
# account grows by so many between two requests.
FAR = 100
REPEATS = 2  # The same page in a row, after which to look.


class PositionLostError(Exception):  # Not an error of the run: the read starts over.
    """The position of an interrupted read cannot be found again."""


def read_pages(
    client: Client,
    pages: Pages,
    *,
    since: date | None = None,
    position: ReadPosition | None = None,
) -> Iterator[Page]:
    """
    Read a collection in the order of its pages. If a record is read twice, the later copy is newer.

    With *since*, read only the records that were updated on that day or later, and add the day
    to each of them. With *position*, read what follows it; raises PositionLostError, before any
    record, if it cannot be found. Raises UnexpectedResponse if records would be lost.

    The default order, by id, is kept. In the order of update, a record that changes during the
    read moves to the end, and all records after it shift left: every update would open a gap.
    By id, only deletions do.
    """
    query = query_of(pages, since)
    with Prefetch(client) as prefetch:
        collection = Collection(
            pages.endpoint,
            query,
            by_id,
            client.behaviour(pages.endpoint),
            must_page=pages.pages,
            one_at_a_time=client.has_own_limit(pages.endpoint),
            address=client.address if pages.pages and since is None else None,
        )
        if position is not None and position.collection != collection.id:
            raise PositionLostError
        reader = OffsetReader(prefetch, collection, position)
        for page in reader.pages():
            yield _stamped(page, pages.stamp, since)
        reader.warn_of_doubts(client)


def query_of(pages: Pages, since: date | None) -> dict[str, str]:
    """Return the parameters of a collection: its own, and the day *since*."""
    query = dict(pages.query)
    if since is not None and pages.since is not None:
        query[pages.since] = since.isoformat()
    return query


class OffsetReader:
    """
    Reads one collection by offset. The first request is under way at once.

    How it ends: a page that is shorter than another that the endpoint has sent in this run is
    the last. Where paging is documented, this has to be proven: the page after it, requested
    with the overlap, holds nothing new and ends with the same record.
    After a first page that is the longest so far, the next page is requested too, so a server
    that clamps or ignores ``limit`` loses nothing. An endpoint without documented paging that
    sends the same page for another offset has sent everything; *unproven* is then that answer,
    which may be cut.
    While records are added at the end, no page proves the end. Then a page beyond it is
    requested: if it is empty, the collection ends before that offset now, and the read ends
    with the next short page that reaches it. Records that are added later belong to the next run.

    From *position* on, the first page must hold the tail of the records before it.
    """

    def __init__(
        self, prefetch: Prefetch, collection: Collection, position: ReadPosition | None = None
    ) -> None:
        self.collection = collection
        self.unproven: Sequence[Record] | None = None
        self._prefetch = prefetch
        self._position = position
        self._overlap = OverlapCheck(collection.identity, position)
        self._planned = PlannedPages(prefetch, collection, position.start if position else 0)
        self._idle = self._missed = 0
        self._gap_at = self._steps_back = 0
        self.total = 0  # The position of the end, once everything was read.
        self._singles = False
        self._answers = self._growing = 0
        self._most_growing = GROWING_PAGES
        self._ends_before: int | None = None  # An offset that was beyond the end.

    def pages(self) -> Iterator[Page]:
        """
        Read to the end.

        Raises UnexpectedResponse rather than lose a record or run without end, and
        PositionLostError in its place until the position was found.
        """
        try:
            yield from self._pages()
        except UnexpectedResponse as error:
            if self._is_searching:
                raise PositionLostError from error
            raise
        finally:
            self._planned.cancel()

    def warn_of_doubts(self, client: Client) -> None:
        """Warn, after the read, if it may not have found every record."""
        warn_if_cut(client, self.collection, self.total, self.unproven)
        if self._overlap.is_disordered:
            warn_of_disorder(client, self.collection)

    @property
    def _is_searching(self) -> bool:
        """Whether the position of an interrupted read was not found yet."""
        return self._position is not None and not self._overlap.has_begun

    def _pages(self) -> Iterator[Page]:
        offset = self._position.start if self._position else 0
        while True:
            at, answer = yield from self._next_answer(offset)
            short = self.collection.behaviour.is_last(len(answer.records))
            self._refuse_insertions(at, answer)
            joined = self._overlap.join(at, answer.records, answer.requested_at)
            self._check_progress(at, joined)
            if joined is None:
                self._planned.cancel()  # They were requested for a collection that was shorter.
                yield from self._refuse_empty_pages(at, answer)
                offset = self._step_back(at)
                continue
            self._steps_back = 0
            if joined.news and not self._is_repeated(joined):
                yield Page(joined.news, answer.requested_at, answer.origin, self.reached())
            if at == 0 and len(answer.records) == 1 and self._must_prove_one:
                if (yield from self._is_alone(answer.records)):
                    return
                self._refuse_single_records()
                continue
            self.total = at + len(answer.records)
            if self._is_end(at, answer, joined, short=short) or self._is_whole(at, answer, joined):
                return
            yield from self._refuse_ignored_offset(at, answer, joined)
            may_grow = self._may_grow(answer, short=short)
            reached = self._ends_before is not None and at + self._page_size >= self._ends_before
            if may_grow and reached:
                return
            offset = joined.next_offset
            if may_grow and joined.unread:
                yield from self._bound_growth(offset)
            if short:
                self._planned.cancel()  # There is probably no further page.
            else:
                grows = self._growing > 0 or self._most_growing > GROWING_PAGES
                self._planned.look_ahead(offset, has_news=joined.unread > 0, may_grow=grows)

    def _refuse_insertions(self, at: int, answer: Answer) -> None:
        """Raise PositionLostError if a collection that only grows has grown before its end."""
        if not self.collection.grows or not self._is_searching or self._position is None:
            return
        names = [self.collection.identity(record) for record in answer.records]
        if at + self._position.end_in(names) > self._position.offset:
            raise PositionLostError

    def reached(self) -> ReadPosition | None:
        """Give the position at which another read can continue."""
        if self.collection.id is None or not self._overlap.tail:
            return None
        tail, page_size = self._overlap.tail, self.collection.behaviour.longest
        return ReadPosition.of(self.collection.id, self._overlap.end, page_size, tail)

    def _bound_growth(self, offset: int) -> Iterator[Page]:
        """
        Find an offset beyond the end, once each of some short pages held something new.

        It is a page beyond *offset*, so that the page there just reaches it, and the collection
        may grow by nearly a page until the answer. A server that
        removes records from its pages makes them short too, and answers with records there; so
        it is asked ever less often.
        """
        self._growing += 1
        if self._ends_before is not None or self._growing < self._most_growing:
            return
        self._growing, self._most_growing = 0, 2 * self._most_growing
        self._planned.cancel()  # Only a page requested after this one may be the last.
        beyond = offset + self._page_size
        future = self._planned.request(beyond)
        yield from self._signs_of_life(future)
        with suppress(OmetriaError):  # It proves nothing; the next page shows whether it matters.
            if not self._prefetch.answer(future).records:
                self._ends_before = beyond

    def _may_grow(self, answer: Answer, *, short: bool) -> bool:
        """Whether a page looks like the end of a collection that grows: short, or very small."""
        self._answers += 1
        small = len(answer.records) < min(USUAL_CAPS) and self._answers > MOST_IDLE_ANSWERS
        return self.collection.must_page and (short or small)

    def _signs_of_life(self, future: Future[Answer]) -> Iterator[Page]:
        """Yield empty pages until the answer is there."""
        while not self._prefetch.is_done(future, SIGN_OF_LIFE_SECONDS):
            yield Page([], self._prefetch.now(), self.collection.path)

    def _is_alone(self, first: Sequence[Record]) -> Generator[Page, None, bool]:
        """Whether no other record follows a first page of one."""
        found = yield from self._records_at(1)
        if found and not self.collection.must_page:
            self.collection.behaviour.pages = by_id(found[0]) != by_id(first[0])
        return all(by_id(record) == by_id(first[0]) for record in found)

    def _records_at(self, offset: int) -> Generator[Page, None, list[Record]]:
        """Request a page only to see what it holds."""
        future = self._planned.request(offset)
        yield from self._signs_of_life(future)
        return self._planned.answer(offset, future).records

    def _refuse_empty_pages(self, at: int, answer: Answer) -> Iterator[Page]:
        """
        Raise if records follow an empty page: then no empty page proves an end.

        It is requested again first: records may have been added since its answer.
        """
        if answer.records or self._is_searching:
            return
        if not (yield from self._records_at(at + self._page_size)):
            return
        if not (yield from self._records_at(at)):
            raise self._endless(f"the page at offset {at} is empty, and records follow it")

    def _refuse_single_records(self) -> None:
        """Raise if the first page holds one record again, although others follow it."""
        if self._singles:
            raise self._endless("each page holds one record, so that pages cannot overlap")
        self._singles = True

    def _next_answer(self, offset: int) -> Generator[Page, None, tuple[int, Answer]]:
        """Wait for the page at *offset*, or a planned one just before it, with signs of life."""
        at, future = self._planned.take(offset)
        yield from self._signs_of_life(future)
        answer = self._planned.answer(at, future)
        if answer.single:
            raise UnexpectedResponse(
                f"Ometria's answer to {answer.origin} is one object, where an array is"
                " documented. Run `ometria-replica check`."
            )
        return at, answer

    @property
    def _must_prove_one(self) -> bool:
        """Whether a first page of one record is unproven; of events, it would cost too much."""
        return self.collection.identity is by_id and self.collection.behaviour.pages is not False

    @property
    def _page_size(self) -> int:
        """The server's page size, as far as it is known."""
        known = self._position.page_size if self._position and self._is_searching else 0
        return max(known, self.collection.behaviour.longest)

    def _step_back(self, at: int) -> int:
        """Choose an earlier offset after the page *at* did not join."""
        if self._steps_back == 0:
            self._gap_at = at
        steps = STEPS_BACK_TO_TAIL if self._is_searching else STEPS_BACK
        if self._steps_back == len(steps) or at == 0:  # The start joins, except to a tail.
            raise self._endless("records vanish faster than pages can be read")
        step = max(1, int(steps[self._steps_back] * self._page_size))
        self._steps_back += 1
        return max(0, self._gap_at - step)

    def _check_progress(self, offset: int, joined: Joined | None) -> None:
        if joined is not None and joined.unread:
            self._idle = self._missed = 0
        self._idle += 1
        self._missed += joined is None
        if self._idle > MOST_IDLE_ANSWERS or self._missed > MOST_MISSED_JOINS:
            raise self._endless(
                f"the pages after offset {offset} hold nothing new and do not end;"
                " perhaps there is a highest offset"
            )

    def _is_end(self, offset: int, answer: Answer, joined: Joined, *, short: bool) -> bool:
        """Whether no page follows: proven where it can be, else judged by the size."""
        if not self.collection.must_page or (offset == 0 and len(answer.records) < SMALLEST_PAGE):
            return short
        return short and joined.ends

    def _is_repeated(self, joined: Joined) -> bool:
        """Whether the endpoint sent the same answer again because it does not page."""
        return joined.repeats > 0 and not self.collection.must_page

    def _is_whole(self, offset: int, answer: Answer, joined: Joined) -> bool:
        """Whether the endpoint does not page, so that the answer is the whole collection."""
        behaviour = self.collection.behaviour
        if offset > 0 and not joined.repeats:
            behaviour.pages = True
        if self.collection.must_page:
            return False
        if joined.repeats:
            behaviour.pages = False
        small = self.collection.parted_first and len(answer.records) < PAGE_SIZE
        if behaviour.pages is False or (behaviour.pages is None and small):
            self.unproven = answer.records
            return True
        return False

    def _refuse_ignored_offset(
        self, at: int, answer: Answer, joined: Joined
    ) -> Generator[Page, None, None]:
        """
        Raise if the server sends the same page for every offset.

        Records that are inserted at the front shift a page by as much as the read goes on, but
        not by so much as to a page far beyond it.
        """
        if not self.collection.must_page or joined.repeats < REPEATS:
            return
        identity = self.collection.identity
        try:
            far = yield from self._records_at(at + FAR * self._page_size)
        except UnexpectedResponse:  # Refused there: so the server reads the offset.
            return
        if sorted(map(identity, far)) == sorted(map(identity, answer.records)):
            raise self._endless("every offset returns the same page, so offset is ignored")

    def _endless(self, reason: str) -> UnexpectedResponse:
        return UnexpectedResponse(
            f"GET /{self.collection.path} cannot be read to its end: {reason}."
            " The watermark stays where it is. Run again; if it fails again,"
            " run `ometria-replica check`."
        )


def _stamped(page: Page, stamp: str | None, since: date | None) -> Page:
    if stamp is None or since is None:
        return page
    day = since.isoformat()
    return replace(page, records=[extended(record, stamp, day) for record in page.records])
