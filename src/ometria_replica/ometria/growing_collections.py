"""
Collections to whose end records are added, read from where the last read ended.

Ometria's default order is its internal id, ascending, so that a new record is at the end. The last
read has noted its end by hashes of the last records. The page there must hold them again, as
pages must overlap; if it does not, or if they have moved towards the end, then records were
added elsewhere, and the collection is read whole.

A record that changes stays where it is. Whether the endpoint selects changed records by a date is
not documented. So each run tries it: a date in the future selects nothing, unless the parameter
is ignored. If it is honoured, the records that changed are read too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from ometria_replica.errors import AccessDenied, NotFound
from ometria_replica.ometria.collection import Collection
from ometria_replica.ometria.offset_pages import OffsetReader, PositionLostError
from ometria_replica.ometria.page_overlap import by_id
from ometria_replica.ometria.prefetch import Prefetch
from ometria_replica.ometria.record_counts import count_records
from ometria_replica.ometria.response import BadRequest
from ometria_replica.records import Page, field_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    from ometria_replica.errors import OmetriaError
    from ometria_replica.ometria.client import Client
    from ometria_replica.ometria.read_strategies import Unit
    from ometria_replica.ometria.record_counts import Counted
    from ometria_replica.read_position import InterruptedRead, ReadPosition
    from ometria_replica.records import Record
    from ometria_replica.ways_to_read import Growing

AHEAD = timedelta(days=3)
"""How far a date is in the future in every time zone, also if a clock is a day wrong."""


@dataclass(frozen=True)
class Branch:
    """
    One collection, at *path*; the fields *joined* are set in each of its records.

    *told* is how many records it has, as its parent tells; None if it does not.
    """

    path: str
    joined: Mapping[str, str] = field(default_factory=dict)
    told: int | None = None


def branches_of(
    growing: Growing, parents: Iterable[Record], warn: Callable[[str], object]
) -> list[Branch]:
    """List the collections of a table that has one for each of *parents*."""
    name, parent = growing.parent_field or "", growing.parent.endpoint if growing.parent else ""
    values = {field_text(record, name) or "": _told(record, growing.count) for record in parents}
    if unusable := {"", ".", ".."} & values.keys():  # These would address another path.
        warn(f"a record of {parent} has no usable {name}")
    return [
        Branch(growing.endpoint.format(**{name: quote(value, safe="")}), {name: value}, told)
        for value, told in values.items()
        if value not in unusable
    ]


def _told(record: Record, name: str | None) -> int | None:
    """Read how many records a collection has; None if its parent does not tell."""
    told = field_text(record, name) if name else None
    return int(told) if told and told.isdecimal() and told.isascii() else None


@dataclass(frozen=True)
class Due:
    """
    What is due of growing collections at *now*, our time or Ometria's, whichever is later.

    *since* is the day from which on changed records are due, None where all are. If only the
    records since then are *asked for*, nothing else is read. *known* are the ends of earlier
    reads, and *resumed* a whole read that did not end.
    """

    now: datetime
    since: date | None = None
    asked_for: bool = False
    known: tuple[ReadPosition, ...] = ()
    resumed: InterruptedRead | None = None


class GrowingReading:
    """Reads what is *due* of the collections *branches*, each whole where its end is not known."""

    total: int | None = None
    unit: Unit = "records"
    retry: Mapping[str, datetime] = MappingProxyType({})
    refreshed: Mapping[str, datetime] = MappingProxyType({})
    failure: OmetriaError | None = None

    def __init__(
        self, client: Client, growing: Growing, branches: Sequence[Branch], due: Due
    ) -> None:
        self.is_full = due.since is None and due.resumed is None
        self.done = 0
        self.resumed = due.resumed
        self._client = client
        self._growing = growing
        self._branches = branches
        self._due = due
        self._known = {position.collection: position for position in due.known}
        self._ends: list[ReadPosition] = []
        self._honours: bool | None = None  # Whether Ometria selects records by a date.
        self._left_out = False

    @property
    def branches(self) -> Sequence[Branch]:
        """The collections."""
        return self._branches

    def is_known(self, branch: Branch) -> bool:
        """Whether the end of the last read of a collection is known."""
        return (self._collection(branch).id or "") in self._known

    def count(self, branch: Branch, guess: int = 0) -> Counted | None:
        """Count the records of a collection, by few requests; None if that is not possible."""
        return count_records(self._client, branch.path, {}, guess)

    @property
    def ends(self) -> tuple[ReadPosition, ...]:
        """Where the collections end. Complete after the last page."""
        return tuple(self._ends)

    @property
    def is_doubtful(self) -> bool:
        """Whether an answer may be cut, or a collection was not read."""
        return self._left_out or self._client.behaviour(self._growing.endpoint).is_doubtful

    def pages(self) -> Iterator[Page]:
        """
        Read each collection.

        One of several that is gone or refused is left out with a warning; its end stays known.
        """
        with Prefetch(self._client) as prefetch:
            for branch in self._branches:
                yield Page([], self._client.now(), branch.path)
                try:
                    for page in self._read(prefetch, branch):
                        self.done += len(page.records)
                        yield _joined(page, branch)
                except (AccessDenied, NotFound) as error:
                    if not branch.joined:
                        raise
                    self._leave_out(branch, error)

    def _leave_out(self, branch: Branch, error: OmetriaError) -> None:
        self._left_out = True
        if known := self._known.get(self._collection(branch).id or ""):
            self._ends.append(known)
        self._client.warn(f"nothing was read from {branch.path}: {error}")

    def _read(self, prefetch: Prefetch, branch: Branch) -> Iterator[Page]:
        collection = self._collection(branch)
        if self._due.asked_for and self._honours_dates(branch):
            yield from self._changed(prefetch, branch)
            return
        interrupted = self.resumed.position if self.resumed else None
        end = interrupted or self._known.get(collection.id or "")
        if end is not None and not self.is_full and not self._due.asked_for:
            try:
                yield from self._all(prefetch, collection, end, continues=bool(interrupted))
            except PositionLostError:
                self.resumed = None
            else:
                if not interrupted and self._honours_dates(branch):
                    yield from self._changed(prefetch, branch)
                return
        self.is_full = self.is_full or (len(self._branches) == 1 and not self._due.asked_for)
        yield from self._all(prefetch, collection, continues=True)

    def _all(
        self,
        prefetch: Prefetch,
        collection: Collection,
        position: ReadPosition | None = None,
        *,
        continues: bool,
    ) -> Iterator[Page]:
        """
        Read from *position* to the end, which is noted.

        Only where it *continues* the only collection's whole read can another run continue.
        """
        if position is not None and not continues:  # The end is near: no page is read ahead.
            collection = replace(collection, one_at_a_time=True)
        reader = OffsetReader(prefetch, collection, position)
        keeps = continues and len(self._branches) == 1
        for page in reader.pages():
            yield page if keeps else replace(page, position=None)
        reader.warn_of_doubts(self._client)
        if reached := reader.reached() or position:
            self._ends.append(reached)

    def _changed(self, prefetch: Prefetch, branch: Branch) -> Iterator[Page]:
        if self._due.since is None:
            return
        query = {self._growing.since: self._due.since.isoformat()}
        yield from OffsetReader(prefetch, self._collection(branch, query)).pages()

    def _honours_dates(self, branch: Branch) -> bool:
        """Try, once for the table, whether a date in the future selects nothing."""
        if self._honours is None:
            day = (self._due.now + AHEAD).date()
            query = {"limit": "1", "offset": "0", self._growing.since: day.isoformat()}
            try:
                self._honours = not self._client.get(branch.path, query).records
            except BadRequest:
                self._honours = False
        return self._honours

    def _collection(self, branch: Branch, query: Mapping[str, str] | None = None) -> Collection:
        return Collection(
            branch.path,
            query or {},
            by_id,
            self._client.behaviour(self._growing.endpoint),
            must_page=self._growing.pages,
            one_at_a_time=self._client.has_own_limit(branch.path),
            address=self._client.address if query is None else None,
            grows=True,
        )


def _joined(page: Page, branch: Branch) -> Page:
    if not branch.joined:
        return page
    return replace(page, records=[{**record, **branch.joined} for record in page.records])
