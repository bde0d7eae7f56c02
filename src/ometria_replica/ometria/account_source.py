"""What an account can be read from, and from when on each table is read."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Self

from ometria_replica.ometria.client import Client
from ometria_replica.ometria.export import ExportFiles
from ometria_replica.ometria.pages import Parent, read_pages, read_per_parent, read_windows
from ometria_replica.ometria.times import time_of
from ometria_replica.records import field_text
from ometria_replica.schema import Feed, Pages, PerParent, Windows
from ometria_replica.tables import EMAIL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from ometria_replica.batch import TableState
    from ometria_replica.config import AccountSettings
    from ometria_replica.records import Page, Record
    from ometria_replica.schema import Table

OVERLAP = timedelta(days=1)
"""`updateSince` is a date of unknown zone and bounds, so one whole day is read again."""

LOOK_BACK = timedelta(days=8)
"""Lists are refreshed as rarely as weekly: support.ometria.com, "Refresh your dynamic segments"."""

REFRESH_GRACE = timedelta(hours=3)
"""How long a refresh may take to show in the changes: a list is asked again for so long."""

FULL_ROUND = timedelta(days=7)
"""How often every list is asked for its changes, refreshed or not."""

BEGINNING = datetime(2010, 1, 1, tzinfo=UTC)
"""Before Ometria was. What is asked for when everything is."""

AHEAD = timedelta(days=1)
"""How far past now a window reaches, in case a clock is wrong."""


@dataclass
class Reading:
    """
    A table being read. *total* counts its *unit*, None where nobody knows it before.

    *whole* says that nothing is left out; *done* counts units so far. *unread* fills
    with the lists whose changes Ometria would not give, and from when they are due.
    Once it is read, *is_doubtful* says that Ometria may have cut the answer, so that what
    is not in it may be there all the same.
    """

    pages: Iterator[Page]
    whole: bool
    unit: str = "records"
    total: int | None = None
    done: int = 0
    unread: dict[str, datetime] = field(default_factory=dict)
    is_doubtful: Callable[[], bool] = lambda: False


class AccountSource:
    """
    The API and the feed of one account: opened when first asked for, closed together.

    *started_at* is our own time at the start of the run.
    """

    def __init__(self, account: AccountSettings, started_at: datetime) -> None:
        self._account = account
        self._started_at = started_at
        self._open = ExitStack()
        self._client: Client | None = None
        self._feed: ExportFiles | None = None
        self._whole: dict[Pages, list[Page]] = {}

    @property
    def client(self) -> Client:
        """The API. Its first use opens it."""
        if self._client is None:
            key = self._account.api_key
            self._client = self._open.enter_context(
                Client(
                    api_url=self._account.api_url,
                    api_key=key.reveal() if key else "",
                    requests_per_second=self._account.requests_per_second,
                )
            )
        return self._client

    @property
    def feed(self) -> ExportFiles:
        """The bucket. Its first use opens it."""
        if self._feed is None:
            if self._account.feed is None:
                raise LookupError("the account has no feed")
            keyed = tuple(part for part in EMAIL_EVENTS.sync_key.parts if part != "source_id")
            feed = ExportFiles(self._account.feed, EMAIL_EVENTS.fields, required=keyed)
            self._feed = self._open.enter_context(feed)
        return self._feed

    @property
    def requests(self) -> int:
        """Requests sent to the API so far, repeats included."""
        return self._client.requests if self._client else 0

    @property
    def warnings(self) -> list[str]:
        """What the API did that a person should know."""
        return list(self._client.warnings) if self._client else []

    @property
    def read_until(self) -> datetime:
        """
        Tell up to when a table read now is complete, in Ometria's own time.

        The earlier of the two clocks, so that one that is fast never skips anything.
        """
        server = self._client.server_time() if self._client else None
        return min(self._started_at, server or self._started_at)

    def can_read(self, table: Table) -> bool:
        """Tell whether the account's settings hold what the table is read from."""
        if isinstance(table.read, Feed):
            return self._account.feed is not None
        return self._account.api_key is not None

    def read(
        self, table: Table, memory: TableState, since: date | None = None, until: date | None = None
    ) -> Reading:
        """
        Start reading a table of the API.

        From *since* on if it is given, else from the watermark in *memory* less a
        look-back, else everything. *until* ends what can be asked for by windows.
        Nothing is sent before the first page is asked for, except lists where their
        changes are read.
        """
        from_day = datetime.combine(since, time(), UTC) if since else None
        watermark = memory.watermark
        if watermark:  # A clock that was fast once may have left it ahead of now.
            watermark = min(watermark, self._started_at)
        match table.read:
            case Pages() as pages if pages.since is None:
                return Reading(
                    iter(self._read_whole(pages)),
                    whole=True,
                    is_doubtful=lambda: self.client.habits(pages.endpoint).doubtful,
                )
            case Pages() as pages:
                start = from_day or (watermark - OVERLAP if watermark else None)
                return Reading(
                    read_pages(self.client, pages, since=start.date() if start else None),
                    whole=start is None,
                    is_doubtful=lambda: self.client.habits(pages.endpoint).doubtful,
                )
            case Windows() as windows:
                start = from_day or (watermark - LOOK_BACK if watermark else BEGINNING)
                end = max(self._started_at, self.client.server_time() or start)
                if until:
                    end = datetime.combine(until, time(), UTC)
                return Reading(
                    read_windows(self.client, windows, since=start, until=end + AHEAD),
                    whole=start == BEGINNING and until is None,
                )
            case PerParent() as per_parent if from_day:
                return self._read_per_parent(per_parent, lambda _: from_day, whole=False)
            case PerParent() as per_parent:
                refreshed = Refreshed(memory, self.read_until)
                return self._read_per_parent(
                    per_parent, refreshed.since, whole=refreshed.is_full_round
                )
            case Feed():
                raise LookupError(f"{table.name} is not read from the API")

    def close(self) -> None:
        """Let go of connections."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read_whole(self, pages: Pages) -> list[Page]:
        """Read a small collection once a run, however many tables want it."""
        if pages not in self._whole:
            self._whole[pages] = list(read_pages(self.client, pages))
        return self._whole[pages]

    def _read_per_parent(
        self, per_parent: PerParent, since: Callable[[Record], datetime | None], *, whole: bool
    ) -> Reading:
        """Read the lists that *since* gives a time for; BEGINNING asks for everything."""
        starts = {}
        for page in self._read_whole(per_parent.parent):
            for record in page.records:
                found, start = field_text(record, "id"), since(record)
                if found and start:
                    starts[found] = start
        parents = [
            Parent(found, None if start == BEGINNING else start) for found, start in starts.items()
        ]
        reading = Reading(iter(()), whole=whole, unit="lists", total=len(parents))

        def counted() -> Iterator[Parent]:
            for parent in parents:
                yield parent
                reading.done += 1

        reading.pages = read_per_parent(
            self.client,
            per_parent,
            counted(),
            since_parameter=self._account.changes_parameter,
            passed_over=lambda parent: reading.unread.update({parent.id: starts[parent.id]}),
        )
        return reading


@dataclass(frozen=True)
class Refreshed:
    """
    Since when to ask a list for its changes: never, if nothing refreshed it.

    A dynamic list changes only when it is refreshed, so one that was not has no news.
    Every week all are asked all the same, in case that is not the whole truth. A list
    that Ometria would not answer for is asked each time, for all that is due of it.
    """

    memory: TableState
    now: datetime

    @property
    def is_full_round(self) -> bool:
        """Whether every list is asked, so that the next round is a week away."""
        watermark, whole_at = self.memory.watermark, self.memory.whole_at
        return watermark is None or whole_at is None or self.now - whole_at >= FULL_ROUND

    def since(self, record: Record) -> datetime | None:
        """Tell the time from which to ask for a list's changes; None to leave it out."""
        watermark, whole_at = self.memory.watermark, self.memory.whole_at
        due = self.memory.unread.get(field_text(record, "id") or "")
        if due is not None:
            return due
        if watermark is None or whole_at is None:
            return BEGINNING
        if self.is_full_round:
            return min(watermark, whole_at) - LOOK_BACK
        refreshed_at = time_of(record, "timestamp_last_refreshed")
        is_dynamic = field_text(record, "type") == "DYNAMIC"
        if is_dynamic and refreshed_at is not None and refreshed_at < watermark - REFRESH_GRACE:
            return None
        return watermark - LOOK_BACK
