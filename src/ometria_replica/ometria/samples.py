"""Parts of a table of the API, to be read for themselves: a page, a window of time, a parent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ometria_replica.ometria.collection import PAGE_SIZE
from ometria_replica.ometria.per_parent import Parent, read_per_parent
from ometria_replica.ometria.time_windows import read_windows
from ometria_replica.records import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ometria_replica.errors import OmetriaError
    from ometria_replica.ometria.client import Client
    from ometria_replica.ways_to_read import Pages, PerParent, Windows

WINDOW = timedelta(days=7)
"""The span of a window that is read for itself."""


@dataclass(frozen=True)
class Stretch:
    """A span of time that was read whole, both ends included."""

    first: datetime
    last: datetime


def read_offsets(client: Client, collection: Pages, offsets: Iterable[int]) -> Iterator[Page]:
    """Read single pages; one beyond the end of the collection is empty."""
    for offset in offsets:
        query = {**dict(collection.query), "limit": str(PAGE_SIZE), "offset": str(offset)}
        answer = client.get(collection.endpoint, query)
        yield Page(answer.records, answer.requested_at, answer.origin)


def read_stretches(
    client: Client, windows: Windows, stretches: Iterable[Stretch]
) -> Iterator[tuple[Stretch, list[Page]]]:
    """Read windows of time, each whole."""
    for each in stretches:
        yield each, list(read_windows(client, windows, since=each.first, until=each.last))


def read_parents(
    client: Client,
    per_parent: PerParent,
    ids: Sequence[str],
    *,
    since_parameter: str,
    passed_over: Callable[[Parent, OmetriaError], object],
) -> Iterator[Page]:
    """Read all that belongs to each of some parents, as :func:`read_per_parent` does."""
    parents = [Parent(each) for each in ids]
    yield from read_per_parent(
        client, per_parent, parents, since_parameter=since_parameter, passed_over=passed_over
    )


def stretches_of(first: datetime, last: datetime) -> list[Stretch]:
    """Part the time from *first* to *last* into windows."""
    found, tick = [], timedelta(microseconds=1)
    while first <= last:
        found.append(Stretch(first, first + WINDOW - tick))
        first += WINDOW
    return found
