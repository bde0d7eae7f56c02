"""
Whole collections, read in pages that overlap: by offset, by window of time, by parent.

The readers are lazy and hold a handful of pages. Up to :data:`IN_FLIGHT` requests are under
way at once, so that slow answers do not waste the account's budget, but fewer where answers
are large; what a reader has asked for and does not need any more is called off before it leaves.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from ometria_replica.errors import AccessDenied, NotFound, UnexpectedResponse
from ometria_replica.ometria.client import BadRequest
from ometria_replica.ometria.page_overlap import OverlapCheck, by_all, by_id, overlap_of
from ometria_replica.ometria.times import time_of
from ometria_replica.records import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import date

    from ometria_replica.ometria.client import Answer, Client, Habits
    from ometria_replica.ometria.page_overlap import Identity
    from ometria_replica.records import Record
    from ometria_replica.schema import Pages, PerParent, Windows

PAGE_SIZE = 250  # Ometria's documented maximum: support.ometria.com, "Profiles API".
GIVE_BACK_SECONDS = 0.05  # For threads to wake. Those on the wire are not waited for.
IN_FLIGHT = (
    16  # At 800 ms, 4 a second need 4. The rest rides out a refused page or a busy consumer.
)

# Records held in answers that were asked for in advance, judged by the longest answer so far.
# Whoever does not page may send hundreds of thousands at once, at 1 kB each.
MOST_RECORDS_AHEAD = 20_000

# A first read asks for the last year, then for longer before that, but only while it finds
# few events: an answer never holds the decade of a large account.
YEAR = timedelta(days=366)
MOST_YEARS = 4
FEW_EVENTS = 5_000

# How often a reader that waits for an answer gives an empty page: a sign of life, by which
# a run keeps its lease. Ometria may ask to be left alone for hours.
SIGN_OF_LIFE_SECONDS = 60.0

# How far to go back for the seam, in pages, try by try. Half a page closes what ordinary
# deletions open; 32 pages are 8,000 profiles deleted between two requests.
STEPS_BACK = (0.5, 1, 2, 4, 8, 16, 32)

# Answers in a row without a new record, and those of them that did not join. The way back
# from the furthest step takes 32, and records that come in at the front push known ones into
# the next pages; beyond this the server is going in circles.
MOST_IDLE_ANSWERS = 64
MOST_MISSED_JOINS = 20

SMALLEST_PAGE = 2  # No server pages by one: a collection that begins with one record is that one.

# Sizes at which servers are fond of cutting.
SMALLEST_CUT = 3  # Two events in an answer are all there are; no server cuts at two.
USUAL_CAPS = frozenset({10, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000})


@dataclass(frozen=True)
class Parent:
    """A record whose collection is read: its *id*, and since when; None asks for everything."""

    id: str
    since: datetime | None = None


def read_pages(client: Client, pages: Pages, *, since: date | None = None) -> Iterator[Page]:
    """
    Read a collection, in the order of pages; of a record read twice, the newer copy is later.

    With *since* only what was updated on that day or later, and each record is stamped
    with it. Raises UnexpectedResponse where records would be lost.

    The default order, by id, is kept. By time of update a record that changes while we read
    moves to the end, and all that follow shift left: every update would open a gap, where
    now only deletions do.
    """
    query = dict(pages.query)
    if since is not None and pages.since is not None:
        query[pages.since] = since.isoformat()
    with _Ahead(client) as ahead:
        collection = _Collection(
            pages.endpoint,
            query,
            by_id,
            client.habits(pages.endpoint),
            must_page=pages.pages,
            one_at_a_time=client.has_own_limit(pages.endpoint),
        )
        reader = _Reader(ahead, collection)
        for page in reader.pages():
            yield _stamped(page, pages.stamp, since)
        _warn_if_cut(client, pages.endpoint, reader)


def read_per_parent(
    client: Client,
    per_parent: PerParent,
    parents: Iterable[Parent],
    *,
    since_parameter: str = "since",
    passed_over: Callable[[Parent], object] = lambda _: None,
) -> Iterator[Page]:
    """
    Read one collection for each parent, whose id becomes each record's ``id``.

    A parent that is gone (404) or refused is warned of, and *passed_over* is told; only
    when all are refused is AccessDenied raised. Each parent gives one page at least,
    though it be empty, so that the caller hears of a long round over quiet ones.
    """
    refused, heard = [], False
    with _Ahead(client) as ahead:
        for parent, reader in _readers(ahead, client, per_parent, parents, since_parameter):
            yield Page([], client.now(), reader.collection.path)
            try:
                for page in reader.pages():
                    yield _owned(page, parent)
                heard = True
                _warn_if_cut(client, reader.collection.path, reader)
            except NotFound:
                heard = True
                passed_over(parent)
                client.warn(f"{reader.collection.path} is gone (404); nothing was read from it")
            except AccessDenied as error:
                passed_over(parent)
                refused.append((reader.collection.path, error))
    if refused and not heard:
        raise refused[0][1]
    for path, _ in refused:
        client.warn(f"{path} is refused to this API key; nothing was read from it")


def read_windows(
    client: Client, windows: Windows, *, since: datetime, until: datetime
) -> Iterator[Page]:
    """
    Read the events between *since* and *until* (aware times), both included, in no set order.

    It asks for the last year first, and then for the time before, in one piece or a few.
    Such an answer may be cut without a word, at a size nobody documents, so it is believed
    only when it is shorter than another of this run: a server that cuts at c never sends
    more than c, and what is shorter than something it sent is shorter than c. So whatever
    is not proven is asked again in two halves, parted at the middle event: each then holds
    about half, which proves it whole, or as much as before, which proves the cut, and is
    parted further, down to one second. Should the endpoint page after all, pages are read
    instead.

    An hour without events costs one request, most others three; a quiet decade four.
    """
    first, last = math.floor(_seconds(since)), math.ceil(_seconds(until))
    year = reach = int(YEAR.total_seconds())
    with _Ahead(client) as ahead:
        while first <= last:
            window, found = _Window(max(first, last - reach), last), 0
            for page in _read_window(ahead, client, windows, window):
                found += len(page.records)
                yield page
            last = window.first - 1
            reach = min(reach * 2, MOST_YEARS * year) if found < FEW_EVENTS else year


def _read_window(ahead: _Ahead, client: Client, windows: Windows, whole: _Window) -> Iterator[Page]:
    """Read a window, and in parts what of it isn't proven to be all."""
    waiting = [whole]
    habits = client.habits(windows.endpoint)
    while waiting:
        for window in waiting[-ahead.depth(habits) :]:
            window.ask(ahead, client, windows)
        window = waiting.pop()
        yield from window.pages()
        waiting += window.parts(client, windows)


class _Ahead:
    """Requests under way, for one read. Leaving the block calls off whatever has not left."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stops: dict[Future[Answer], threading.Event] = {}
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="ometria")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for stop in tuple(self._stops.values()):
            stop.set()
        # Who presses Ctrl-C does not wait for answers on the wire that nobody will read.
        waits = kind is None or issubclass(kind, (Exception, GeneratorExit))
        self._pool.shutdown(wait=waits, cancel_futures=True)

    def worth_in_flight(self) -> int:
        return self._client.worth_in_flight()

    def depth(self, habits: Habits) -> int:
        """Tell how many whole answers to ask for at once: for the budget, within memory."""
        worth = 2 * self.worth_in_flight()  # To ride out a refusal or a busy consumer.
        fit = MOST_RECORDS_AHEAD // max(1, habits.longest)
        return max(1, min(IN_FLIGHT, worth, fit))

    def ask(self, path: str, query: Mapping[str, str]) -> Future[Answer]:
        stop = threading.Event()
        future = self._pool.submit(self._client.get, path, query, stop=stop)
        self._stops[future] = stop
        return future

    def now(self) -> datetime:
        return self._client.now()

    @staticmethod
    def has_come(future: Future[Answer], seconds: float) -> bool:
        """Wait so long at most, and tell whether the answer is there, or an error for it."""
        return bool(wait([future], seconds).done)

    def answer(self, future: Future[Answer]) -> Answer:
        """Wait for what was asked for."""
        try:
            return future.result()
        finally:
            self._stops.pop(future, None)

    def call_off(self, future: Future[Answer]) -> None:
        """Don't send what has not left yet."""
        future.cancel()
        if (stop := self._stops.pop(future, None)) is not None:
            stop.set()


@dataclass(frozen=True)
class _Collection:
    """
    The collection that a reader reads.

    *must_page* says that paging is documented, so that ignoring ``offset`` is an error.
    *habits* are shared by all collections of one endpoint. *parted_first* says that a
    first page smaller than asked for is left unproven, since its reader parts it in time.
    *one_at_a_time* asks for one page ahead at most: an endpoint with a rate limit of its own
    is slower than any caller.
    """

    path: str
    query: Mapping[str, str]
    identity: Callable[[Record], Identity]
    habits: Habits
    must_page: bool = False
    parted_first: bool = False
    one_at_a_time: bool = False


class _Reader:
    """
    Reads one collection by offset.

    How it ends: a page shorter than one that the endpoint has sent in this run is the last,
    but where paging is documented that has to be proven: the page after it, asked for with
    the overlap, brings nothing new and ends with the same record.
    A first page that is the longest so far is asked after, so a server that clamps ``limit``
    or ignores it loses nothing. An endpoint that is not documented to page and sends the
    same page for another offset has sent all it has; then *unproven* is that answer,
    which may be cut.
    """

    def __init__(self, ahead: _Ahead, collection: _Collection) -> None:
        self.collection = collection
        self.unproven: Sequence[Record] | None = None
        self._ahead = ahead
        self._seam = OverlapCheck(collection.identity)
        self._planned: deque[tuple[int, Future[Answer]]] = deque()
        self._depth = 1
        self._idle = self._missed = 0
        self._planned.append((0, self._ask(0)))  # Under way from now on.

    def pages(self) -> Iterator[Page]:
        """Read to the end. Raises UnexpectedResponse rather than lose a record or run for ever."""
        try:
            yield from self._pages()
        finally:
            self._call_off_planned()

    def _pages(self) -> Iterator[Page]:
        offset, opened_at, tries = 0, 0, 0
        while True:
            at, future = self._take(offset)
            while not self._ahead.has_come(future, SIGN_OF_LIFE_SECONDS):
                yield Page([], self._ahead.now(), self.collection.path)
            answer = self._checked(self._answer(at, future))
            short = self.collection.habits.is_last(len(answer.records))
            news = self._seam.join(at, answer.records, answer.requested_at)
            self._check_progress(at, joined=news is not None)
            if news is None:
                opened_at = opened_at if tries else at
                offset = self._step_back(opened_at, tries)
                tries += 1
                continue
            tries = 0
            if news and not self._is_repeated():
                yield Page(news, answer.requested_at, answer.origin)
            if self._is_end(at, answer, short=short) or self._is_whole(at, answer):
                return
            offset = self._seam.next_offset
            if short:
                self._call_off_planned()  # Most likely there is no more.
            else:
                self._look_ahead(offset)

    def _ask(self, offset: int) -> Future[Answer]:
        page = {"limit": str(PAGE_SIZE), "offset": str(offset)}
        if self.collection.habits.bare:
            page = {}
        return self._ahead.ask(self.collection.path, {**self.collection.query, **page})

    def _take(self, offset: int) -> tuple[int, Future[Answer]]:
        """Ask for the page at *offset*, or take a planned one that begins not far before it."""
        while self._planned and self._planned[0][0] + self._stride <= offset:
            self._ahead.call_off(self._planned.popleft()[1])
        if self._planned and self._planned[0][0] <= offset:
            return self._planned.popleft()
        return offset, self._ask(offset)

    @staticmethod
    def _checked(answer: Answer) -> Answer:
        if answer.single:
            raise UnexpectedResponse(
                f"Ometria's answer to {answer.origin} is one object, where an array is"
                " documented. Run `ometria-replica check`."
            )
        return answer

    def _answer(self, offset: int, future: Future[Answer]) -> Answer:
        """Wait. Where paging is not documented and refused, ask once more without."""
        try:
            return self._ahead.answer(future)
        except BadRequest:
            if offset > 0 or self.collection.must_page:
                raise
        self.collection.habits.bare, self.collection.habits.pages = True, False
        return self._ahead.answer(self._ask(0))

    @property
    def _stride(self) -> int:
        size = self.collection.habits.longest
        return max(1, size - overlap_of(size))

    def _look_ahead(self, offset: int) -> None:
        """
        Plan the pages from *offset* on, as many as slow answers make worthwhile.

        Then twice as many after each page that brought news, to ride out a consumer that
        is busy. A short collection costs hardly a request too many: what was planned and
        has not had its turn when the last page arrives is never sent. Until it is seen to
        page, an endpoint that is not documented to is asked for one page at a time: each
        may be the whole collection.
        """
        pages_for_sure = self.collection.must_page or self.collection.habits.pages
        if self.collection.one_at_a_time or not pages_for_sure:
            self._planned.append((offset, self._ask(offset)))
            return
        self._depth = max(self._depth, min(IN_FLIGHT, self._ahead.worth_in_flight()))
        while len(self._planned) < self._depth:
            following = self._planned[-1][0] + self._stride if self._planned else offset
            self._planned.append((following, self._ask(following)))
        if self._seam.brought:
            self._depth = min(IN_FLIGHT, self._depth * 2)

    def _step_back(self, opened_at: int, tries: int) -> int:
        if tries == len(STEPS_BACK):
            raise self._no_end("records vanish faster than pages can be read")
        size = self.collection.habits.longest
        return max(0, opened_at - max(1, int(STEPS_BACK[tries] * size)))

    def _check_progress(self, offset: int, *, joined: bool) -> None:
        if joined and self._seam.brought:
            self._idle = self._missed = 0
        self._idle += 1
        self._missed += not joined
        if self._idle > MOST_IDLE_ANSWERS or self._missed > MOST_MISSED_JOINS:
            raise self._no_end(
                f"after offset {offset} the pages bring nothing new and do not end;"
                " perhaps there is a highest offset"
            )

    def _call_off_planned(self) -> None:
        planned = [future for _, future in self._planned]
        self._planned.clear()
        for future in planned:
            self._ahead.call_off(future)
        # Who waits for its turn gives it back at once, and the next request takes it.
        wait(planned, timeout=GIVE_BACK_SECONDS)

    def _is_end(self, offset: int, answer: Answer, *, short: bool) -> bool:
        """Whether nothing comes after a page: proven where it can be, else by its size."""
        if not self.collection.must_page or (offset == 0 and len(answer.records) < SMALLEST_PAGE):
            return short
        return short and self._seam.at_end

    def _is_repeated(self) -> bool:
        """Whether the endpoint sent what it had sent, for want of paging."""
        return self._seam.repeats > 0 and not self.collection.must_page

    def _is_whole(self, offset: int, answer: Answer) -> bool:
        """Whether the endpoint turns out not to page, or is known not to."""
        habits = self.collection.habits
        if offset > 0 and not self._seam.repeats:
            habits.pages = True
        if self.collection.must_page:
            # Two repeats, since records that come in at the front can cause one.
            if self._seam.repeats > 1:
                raise self._no_end("the same page comes for every offset, so offset is ignored")
            return False
        if self._seam.repeats:
            habits.pages = False
        small = self.collection.parted_first and len(answer.records) < PAGE_SIZE
        if habits.pages is False or (habits.pages is None and small):
            self.unproven = answer.records
            return True
        return False

    def _no_end(self, reason: str) -> UnexpectedResponse:
        return UnexpectedResponse(
            f"GET /{self.collection.path} can't be read whole: {reason}."
            " Nothing of it counts as read; try again, then run `ometria-replica check`."
        )


def _stamped(page: Page, stamp: str | None, since: date | None) -> Page:
    if stamp is None or since is None:
        return page
    day = since.isoformat()
    return replace(page, records=[{**record, stamp: day} for record in page.records])


def _owned(page: Page, parent: Parent) -> Page:
    """Give the records their parent's id. An id of their own would be the change's, not it."""
    return replace(page, records=[{**record, "id": parent.id} for record in page.records])


def _readers(
    ahead: _Ahead,
    client: Client,
    per_parent: PerParent,
    parents: Iterable[Parent],
    since_parameter: str,
) -> Iterator[tuple[Parent, _Reader]]:
    """Start the readers of some parents ahead, so that their first pages are under way."""
    started: deque[tuple[Parent, _Reader]] = deque()
    for parent in parents:
        if parent.id in {"", ".", ".."}:  # These would name another path.
            client.warn(f"a record of {per_parent.parent.endpoint} has no usable id")
            continue
        path = per_parent.endpoint.format(id=quote(parent.id, safe=""))
        query = {since_parameter: _text(parent.since)} if parent.since else {}
        collection = _Collection(path, query, by_all, client.habits(per_parent.endpoint))
        started.append((parent, _Reader(ahead, collection)))
        while len(started) >= ahead.depth(collection.habits):
            yield started.popleft()
    yield from started


def _warn_if_cut(client: Client, path: str, reader: _Reader) -> None:
    """
    Say when an answer that can't be proven whole looks cut.

    It does at a round size, or when another collection's was exactly as long, the longest.
    """
    if reader.unproven is None:
        return
    size, sizes = len(reader.unproven), reader.collection.habits.unproven
    same_as = sizes.setdefault(size, path)
    if size in USUAL_CAPS or (size > min(USUAL_CAPS) and same_as != path):
        reader.collection.habits.doubtful = True
        client.warn(
            f"{path} does not page and sent exactly {size} records; Ometria may have cut the answer"
        )


@dataclass
class _Window:
    """
    Some whole seconds, from *first* to *last*, as Unix time.

    *known* are the records of the answer that this window is a part of.
    """

    first: int
    last: int
    known: frozenset[Identity] = frozenset()
    _reader: _Reader | None = field(default=None, repr=False)

    def ask(self, ahead: _Ahead, client: Client, windows: Windows) -> None:
        """
        Send the first request, unless that is done.

        Whether the bounds belong to the window is not documented, so it is asked for with
        one second more on either side.
        """
        if self._reader is None:
            query = {
                windows.since: _text(datetime.fromtimestamp(self.first - 1, UTC)),
                windows.before: _text(datetime.fromtimestamp(self.last + 1, UTC)),
            }
            # The whole span is parted before paging is tried: three requests prove it, not four.
            collection = _Collection(
                windows.endpoint,
                query,
                by_all,
                client.habits(windows.endpoint),
                parted_first=not self.known,
            )
            self._reader = _Reader(ahead, collection)

    def pages(self) -> Iterator[Page]:
        """Give what the answer to the bigger window did not hold."""
        for page in self._reader.pages() if self._reader else ():
            news = [record for record in page.records if by_all(record) not in self.known]
            if news or not page.records:
                yield replace(page, records=news)

    def parts(self, client: Client, windows: Windows) -> list[_Window]:
        """Part the window in two if its answer may have been cut, and can be told apart."""
        records = self._reader.unproven if self._reader else None
        if self._reader is None or records is None or len(records) < SMALLEST_CUT:
            return []
        names, times = frozenset(map(by_all, records)), _times(records, windows.time)
        if (reason := self._not_to_be_parted(names, times)) is not None:
            self._reader.collection.habits.doubtful = True
            client.warn(
                f"{windows.endpoint}: an answer of {len(records)} records may be cut: {reason}"
            )
            return []
        middle = min(max(times[len(times) // 2], self.first + 1), self.last)
        return [_Window(self.first, middle - 1, names), _Window(middle, self.last, names)]

    def _not_to_be_parted(self, names: frozenset[Identity], times: list[int]) -> str | None:
        if not times:
            return "their times can't be read, so the window can't be parted"
        if self.first >= self.last:
            return "they fall into one second, so the window can't be parted"
        outside = times[0] < self.first - 1 or times[-1] > self.last + 1
        if names == self.known and outside:
            return "the bounds of the window are ignored"
        return None


def _times(records: Iterable[Record], source: str) -> list[int]:
    """Read the events' times from the field *source*, as whole seconds of Unix time, in order."""
    times = (time_of(record, source) for record in records)
    return sorted(math.floor(time.timestamp()) for time in times if time is not None)


def _seconds(time: datetime) -> float:
    if time.tzinfo is None:
        raise ValueError("a time without a zone would mean another moment on each machine")
    return time.timestamp()


def _text(time: datetime) -> str:
    """Write a time as Ometria documents it for ``since`` and ``before``: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
