"""The source of one account: its API and its export files, and how each table is read."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from ometria_replica.catalog import CATALOG
from ometria_replica.more_tables import DELETION_REQUESTS_ENDPOINT
from ometria_replica.observer import ignore
from ometria_replica.ometria.client import Client
from ometria_replica.ometria.deletion_requests import deletion_request
from ometria_replica.ometria.export import FILES_AHEAD, ExportFiles
from ometria_replica.ometria.growing_collections import Branch, Due, GrowingReading, branches_of
from ometria_replica.ometria.offset_pages import read_pages
from ometria_replica.ometria.per_parent import Parent
from ometria_replica.ometria.read_strategies import (
    CollectionReading,
    NewestReading,
    OffsetReading,
    PerParentReading,
    WindowReading,
)
from ometria_replica.ometria.start_times import BEGINNING, REFRESHED_AT, Refreshed, read_from
from ometria_replica.ometria.times import time_of
from ometria_replica.records import field_text
from ometria_replica.ways_to_read import Feed, Growing, Inside, Newest, Pages, PerParent, Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from ometria_replica.batch import DeletionRequest, TableState
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings
    from ometria_replica.observer import Observe
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.records import Page, Record
    from ometria_replica.schema import Table

AHEAD = timedelta(days=1)
"""How far a window reaches past now, in case a clock is wrong."""


def setting_missing(account: AccountSettings, table: Table) -> str | None:
    """Name the setting without which *table* cannot be read; None if it is there."""
    if isinstance(table.read, Feed):
        return None if account.feed else "no feed is set (OMETRIA_FEED_URL, or feed.url)"
    return None if account.api_key else "no API key is set (OMETRIA_API_KEY, or api_key)"


class AccountSource:
    """
    The API and the export files of one account: opened at first use, closed together.

    *started_at* is our own time at the start of the run. *catalog* holds every table that is
    replicated: its feed tables divide the files among them. *files_ahead* of a feed are downloaded
    while the caller works on another. *observe* is told of requests and files. One thread may read
    the API, and another the files. *answer_within* is how many seconds a request may take with its
    retries; None means the patience of a sync.
    """

    def __init__(
        self,
        account: AccountSettings,
        started_at: datetime,
        catalog: Catalog = CATALOG,
        *,
        files_ahead: int = FILES_AHEAD,
        answer_within: float | None = None,
        observe: Observe = ignore,
    ) -> None:
        self._account = account
        self._patience: dict[str, Any] = {}
        if answer_within is not None:
            names = ("timeout_seconds", "deadline_seconds", "give_up_after_seconds")
            self._patience = dict.fromkeys(names, answer_within)
        self._started_at = started_at
        self._catalog = catalog
        self._files_ahead = files_ahead
        self._observe = observe
        self._open = ExitStack()
        self._client: Client | None = None
        self._exports: dict[Table, ExportFiles] = {}
        self._collections: dict[tuple[str, tuple[tuple[str, str], ...]], list[Page]] = {}

    @property
    def client(self) -> Client:
        """The API client. It is opened at first use."""
        if self._client is None:
            key = self._account.api_key
            self._client = self._open.enter_context(
                Client(
                    api_url=self._account.api_url,
                    api_key=key.reveal() if key else "",
                    requests_per_second=self._account.requests_per_second,
                    max_answer_bytes=self._account.max_answer_bytes,
                    requests_per_minute=_own_limits(self._catalog),
                    keeps_texts=bool(self._account.keep_records),
                    **self._patience,
                    observe=self._observe,
                )
            )
        return self._client

    def export(self, table: Table) -> ExportFiles:
        """Return the export files of *table*. They are opened at first use."""
        if table not in self._exports:
            if self._account.feed is None:
                raise LookupError("the account has no feed")
            files = ExportFiles(
                self._account.feed,
                table,
                self._catalog,
                ahead=self._files_ahead,
                observe=self._observe,
            )
            self._exports[table] = self._open.enter_context(files)
        return self._exports[table]

    def feed_name(self, table: Table) -> str:
        """Identify the listing of *table*'s files: another address or pattern is another one."""
        feed = self._account.feed
        if feed is None:
            return ""
        own = table.read.pattern if isinstance(table.read, Feed) else None
        return f"{feed.url} {own or feed.pattern or '*'}"

    @property
    def requests(self) -> int:
        """Requests sent to the API so far, retries included."""
        return self._client.requests if self._client else 0

    @property
    def rate_limited(self) -> int:
        """Those of the requests so far that Ometria answered with 429."""
        return self._client.rate_limited if self._client else 0

    @property
    def warnings(self) -> list[str]:
        """Warnings about the API, for the report."""
        return list(self._client.warnings) if self._client else []

    @property
    def read_until(self) -> datetime:
        """
        The time up to which a table that is read now is complete, on Ometria's clock.

        The earlier of the two clocks, so that a fast clock never skips a record.
        """
        server = self._client.server_time() if self._client else None
        return min(self._started_at, server or self._started_at)

    def read(
        self,
        table: Table,
        state: TableState,
        since: date | None = None,
        until: date | None = None,
    ) -> Reading:
        """
        Choose how to read a table of the API, and from when on.

        From *since* on if it is given, else from the watermark in *state* minus a look-back,
        else everything. Only tables that are read by windows of time honour *until*.
        No request is sent before the first page is read, except for parents, which are read
        at once.
        """
        first_day = datetime.combine(since, time(), UTC) if since else None
        watermark = state.watermark
        if watermark:  # A clock that was once fast may have left it in the future.
            watermark = min(watermark, self._started_at)
        match table.read:
            case Pages() as collection:
                return self._read_pages(collection, state, first_day or watermark)
            case Windows() as windows:
                start = first_day or (read_from(windows, watermark) if watermark else BEGINNING)
                end = max(self._started_at, self.client.server_time() or start)
                if until:
                    end = datetime.combine(until, time(), UTC)
                is_full = start == BEGINNING and until is None
                return WindowReading(self.client, windows, start, end + AHEAD, is_full=is_full)
            case PerParent() as per_parent:
                return self._read_changes(per_parent, state, first_day)
            case Growing() as growing:
                return self._read_growing(growing, state, first_day, watermark)
            case Newest() as newest:
                return NewestReading(self.client, newest)
            case Feed() | Inside():
                raise LookupError(f"{table.name} is not read from the API")

    def parents(self, table: Table) -> list[Record]:
        """Read the parents of a table that is read for each of them; none of another table."""
        parent = table.read.parent if isinstance(table.read, PerParent) else None
        pages = self._read_collection(parent) if parent else []
        return [record for page in pages for record in page.records]

    def deletion_requests(self) -> list[DeletionRequest]:
        """Read the requests to anonymise people that Ometria has received."""
        pages = self._read_collection(DELETION_REQUESTS_ENDPOINT)
        found = (deletion_request(record) for page in pages for record in page.records)
        return [request for request in found if request is not None]

    def cancel(self) -> None:
        """End, from another thread, each wait for an answer and each download."""
        if self._client is not None:
            self._client.cancel()
        for export in tuple(self._exports.values()):
            export.cancel()

    def close(self) -> None:
        """Close all connections."""
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

    def _read_collection(self, collection: Pages) -> list[Page]:
        """Read a small collection once a run, however many tables need it."""
        asked = collection.endpoint, collection.query
        if asked not in self._collections:
            self._collections[asked] = list(read_pages(self.client, collection))
        return self._collections[asked]

    def _read_pages(self, collection: Pages, state: TableState, start: datetime | None) -> Reading:
        if collection.since is None:
            return CollectionReading(self.client, collection, self._read_collection)
        overlapping = read_from(collection, start).date() if start else None
        resumed = None if overlapping else state.interrupted
        return OffsetReading(self.client, collection, overlapping, resumed)

    def _read_changes(
        self, per_parent: PerParent, state: TableState, first_day: datetime | None
    ) -> Reading:
        if first_day:
            return self._read_per_parent(per_parent, lambda _: first_day, is_full=False)
        refreshed = Refreshed(state, self.read_until)
        return self._read_per_parent(
            per_parent, refreshed.since, state.retry, is_full=refreshed.is_full_round
        )

    def _read_growing(
        self,
        growing: Growing,
        state: TableState,
        first_day: datetime | None,
        watermark: datetime | None,
    ) -> Reading:
        start = first_day or watermark
        due = Due(
            max(self._started_at, self.client.server_time() or self._started_at),
            read_from(growing, start).date() if start else None,
            first_day is not None,
            state.ends,
            None if start else state.interrupted,
        )
        return GrowingReading(self.client, growing, self._branches(growing), due)

    def _branches(self, growing: Growing) -> list[Branch]:
        """List the collections of a table: one for each record of the parent, if it has one."""
        if growing.parent is None:
            return [Branch(growing.endpoint)]
        records = (each for page in self._read_collection(growing.parent) for each in page.records)
        return branches_of(growing, records, self.client.warn)

    def _read_per_parent(
        self,
        per_parent: PerParent,
        since: Callable[[Record], datetime | None],
        retry: Mapping[str, datetime] = MappingProxyType({}),
        *,
        is_full: bool,
    ) -> Reading:
        """
        Read the parents for which *since* gives a time; BEGINNING asks for everything.

        Those to *retry* that Ometria does not list now stay due: they may come back.
        """
        starts, seen = {}, {}
        for page in self._read_collection(per_parent.parent):
            for record in page.records:
                parent_id, start = field_text(record, "id"), since(record)
                if parent_id and start:
                    starts[parent_id] = start
                    if (refreshed_at := time_of(record, REFRESHED_AT)) is not None:
                        seen[parent_id] = refreshed_at
        parents = [
            Parent(parent_id, None if start == BEGINNING else start)
            for parent_id, start in starts.items()
        ]
        return PerParentReading(
            self.client,
            per_parent,
            parents,
            {**retry, **starts},
            seen,
            since_parameter=self._account.changes_parameter,
            is_full=is_full,
        )


def _own_limits(catalog: Catalog) -> dict[str, int]:
    """Find the endpoints that have a rate limit of their own, in requests per minute."""
    reads = [DELETION_REQUESTS_ENDPOINT, *(table.read for table in catalog)]
    collections = [
        read.parent if isinstance(read, PerParent | Growing) and read.parent else read
        for read in reads
    ]
    return {
        read.endpoint: read.requests_per_minute
        for read in collections
        if isinstance(read, Pages) and read.requests_per_minute is not None
    }
