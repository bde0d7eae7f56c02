"""The ways to read a table of the API: one class for each, all used as a :class:`Reading`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from ometria_replica.errors import AccessDenied, NotFound
from ometria_replica.ometria.offset_pages import PositionLostError, query_of, read_pages
from ometria_replica.ometria.per_parent import read_per_parent
from ometria_replica.ometria.record_counts import count_records
from ometria_replica.ometria.response import BadRequest
from ometria_replica.ometria.time_windows import least_windows, read_windows
from ometria_replica.records import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date, datetime

    from ometria_replica.errors import OmetriaError
    from ometria_replica.ometria.client import Client
    from ometria_replica.ometria.per_parent import Parent
    from ometria_replica.ometria.record_counts import Counted
    from ometria_replica.read_position import InterruptedRead, ReadPosition
    from ometria_replica.ways_to_read import Newest, Pages, PerParent, Windows

Unit = Literal["records", "lists"]


class Reading(Protocol):
    """A table that is being read."""

    @property
    def total(self) -> int | None:
        """How many units there are; None if that is not known in advance."""

    @property
    def unit(self) -> Unit:
        """The unit in which progress is counted."""

    @property
    def done(self) -> int:
        """How many units have been read so far."""

    @property
    def is_full(self) -> bool:
        """
        Whether this is a full read.

        A table that is read per parent is full when the changes of every parent are requested.
        Known for certain after the first record.
        """

    @property
    def resumed(self) -> InterruptedRead | None:
        """
        The full read of an earlier run that this read continues; None if it begins anew.

        Known for certain after the first record.
        """

    @property
    def retry(self) -> Mapping[str, datetime]:
        """
        Parents that Ometria refused, failed to read or does not list, each with the time from
        which it is due.

        Complete after the last page.
        """

    @property
    def refreshed(self) -> Mapping[str, datetime]:
        """
        Parents that were read, each with its last refresh as it was seen, if it has one.

        Complete after the last page.
        """

    @property
    def ends(self) -> tuple[ReadPosition, ...] | None:
        """
        Where the collections end that grow; None for a table of another kind.

        Complete after the last page.
        """

    @property
    def failure(self) -> OmetriaError | None:
        """
        Why a parent was not read although Ometria does not refuse it; None if none failed.

        Known after the last page. The others were read, so what was read is to be committed.
        """

    @property
    def is_doubtful(self) -> bool:
        """
        Whether Ometria may have cut an answer, so that a missing record proves nothing.

        Known after the last page.
        """

    def pages(self) -> Iterator[Page]:
        """Read the pages lazily, each on demand."""


class _RecordReading(ABC):
    """Counts records, and doubts what the endpoint's answers give reason to doubt."""

    total: int | None = None
    unit: Unit = "records"
    retry: Mapping[str, datetime] = MappingProxyType({})
    refreshed: Mapping[str, datetime] = MappingProxyType({})
    failure: OmetriaError | None = None
    resumed: InterruptedRead | None = None
    ends: tuple[ReadPosition, ...] | None = None

    def __init__(self, client: Client, endpoint: str, *, is_full: bool) -> None:
        self.is_full = is_full
        self.done = 0
        self._client = client
        self._endpoint = endpoint

    @property
    def is_doubtful(self) -> bool:
        """Whether an answer may be cut."""
        return self._client.behaviour(self._endpoint).is_doubtful

    def pages(self) -> Iterator[Page]:
        """Read the pages and count their records."""
        for page in self._read():
            self.done += len(page.records)
            yield page

    @abstractmethod
    def _read(self) -> Iterator[Page]: ...


class OffsetReading(_RecordReading):
    """
    Reads the records that were updated on the day *since* or later; None reads all.

    With *resumed*, it reads what follows its position; if that is not found again, it reads all.
    """

    def __init__(
        self,
        client: Client,
        collection: Pages,
        since: date | None,
        resumed: InterruptedRead | None = None,
    ) -> None:
        is_full = since is None and resumed is None
        super().__init__(client, collection.endpoint, is_full=is_full)
        self._collection = collection
        self._since = since
        self.resumed = resumed

    def count(self, guess: int = 0) -> Counted | None:
        """Count the records of the collection, by few requests; None if that is not possible."""
        query = query_of(self._collection, self._since)
        return count_records(self._client, self._collection.endpoint, query, guess)

    def _read(self) -> Iterator[Page]:
        if self.resumed is not None:
            position = self.resumed.position
            try:
                yield from read_pages(self._client, self._collection, position=position)
            except PositionLostError:
                self.resumed, self.is_full = None, True
            else:
                return
        yield from read_pages(self._client, self._collection, since=self._since)


class CollectionReading(_RecordReading):
    """Reads all of a small collection. *read* may remember it from another table."""

    def __init__(
        self, client: Client, collection: Pages, read: Callable[[Pages], list[Page]]
    ) -> None:
        super().__init__(client, collection.endpoint, is_full=True)
        self._collection = collection
        self._read_collection = read

    def _read(self) -> Iterator[Page]:
        return iter(self._read_collection(self._collection))


class NewestReading(_RecordReading):
    """Reads the newest records, by one request."""

    def __init__(self, client: Client, newest: Newest) -> None:
        super().__init__(client, newest.endpoint, is_full=False)
        self._most = newest.most

    def _read(self) -> Iterator[Page]:
        try:
            answer = self._client.get(self._endpoint, {"limit": str(self._most)})
        except BadRequest:  # No parameter is documented.
            answer = self._client.get(self._endpoint)
        yield Page(answer.records, answer.requested_at, answer.origin)


class WindowReading(_RecordReading):
    """Reads the events between *since* and *until*, by windows of time."""

    def __init__(
        self, client: Client, windows: Windows, since: datetime, until: datetime, *, is_full: bool
    ) -> None:
        super().__init__(client, windows.endpoint, is_full=is_full)
        self._windows = windows
        self._since = since
        self._until = until

    @property
    def windows(self) -> int:
        """The least number of windows, each of a request or more."""
        return least_windows(self._since, self._until)

    def _read(self) -> Iterator[Page]:
        return read_windows(self._client, self._windows, since=self._since, until=self._until)


class PerParentReading:
    """
    Reads a collection for each of *parents*.

    *due* is the time from which a parent is due if it cannot be read now, *seen* its last
    refresh, if it has one. A parent in *due* that is not one of *parents* stays due.
    """

    unit: Unit = "lists"
    resumed: InterruptedRead | None = None
    ends: tuple[ReadPosition, ...] | None = None

    def __init__(
        self,
        client: Client,
        per_parent: PerParent,
        parents: list[Parent],
        due: Mapping[str, datetime],
        seen: Mapping[str, datetime],
        *,
        since_parameter: str,
        is_full: bool,
    ) -> None:
        self.total: int | None = len(parents)
        self.done = 0
        self.is_full = is_full
        asked = {parent.id for parent in parents}
        self.retry = {name: at for name, at in due.items() if name not in asked}
        self.failure: OmetriaError | None = None
        self._client = client
        self._per_parent = per_parent
        self._parents = parents
        self._due = due
        self._seen = seen
        self._since_parameter = since_parameter

    @property
    def is_doubtful(self) -> bool:
        """Whether an answer may be cut, or a parent was not read."""
        cut = self._client.behaviour(self._per_parent.endpoint).is_doubtful
        return cut or bool(self.retry)

    @property
    def refreshed(self) -> Mapping[str, datetime]:
        """The refreshes of the parents that were read."""
        return {name: at for name, at in self._seen.items() if name not in self.retry}

    def pages(self) -> Iterator[Page]:
        """Read each parent's pages."""
        return read_per_parent(
            self._client,
            self._per_parent,
            self._counted_parents(),
            since_parameter=self._since_parameter,
            passed_over=self._retry_later,
        )

    def _counted_parents(self) -> Iterator[Parent]:
        for parent in self._parents:
            yield parent
            self.done += 1

    def _retry_later(self, parent: Parent, error: OmetriaError) -> None:
        self.retry[parent.id] = self._due[parent.id]
        if self.failure is None and not isinstance(error, AccessDenied | NotFound):
            self.failure = error
