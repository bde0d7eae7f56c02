"""Collections that belong to a parent record, one for each: ``lists/{id}/changes``."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from ometria_replica.errors import AccessDenied, NotFound, OmetriaError
from ometria_replica.ometria.collection import Collection
from ometria_replica.ometria.offset_pages import OffsetReader
from ometria_replica.ometria.page_overlap import by_all
from ometria_replica.ometria.prefetch import Prefetch
from ometria_replica.ometria.times import utc_text
from ometria_replica.records import Page, extended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from ometria_replica.ometria.client import Client
    from ometria_replica.ways_to_read import PerParent

MOST_FAILURES_IN_A_ROW = 3  # Without an answer in between: then it is no matter of single parents.


@dataclass(frozen=True)
class Parent:
    """
    A record whose collection is read.

    *since* is the time from which it is read; None reads everything.
    """

    id: str
    since: datetime | None = None


def read_per_parent(
    client: Client,
    per_parent: PerParent,
    parents: Iterable[Parent],
    *,
    since_parameter: str = "since",
    passed_over: Callable[[Parent, OmetriaError], object] = lambda *_: None,
) -> Iterator[Page]:
    """
    Read one collection for each parent, whose id becomes the ``id`` of each record.

    A parent that is gone (404), refused or failed causes a warning and a call of *passed_over*.
    An error is raised only if all parents are refused or fail, or several in a row fail. Each
    parent yields at least one page, which may be empty, so that the caller sees progress when
    many parents have no news.
    """
    refused: list[tuple[str, OmetriaError]] = []
    failed: list[OmetriaError] = []  # In a row.
    answered = False
    with Prefetch(client) as prefetch:
        for parent, reader in _readers(prefetch, client, per_parent, parents, since_parameter):
            path = reader.collection.path
            yield Page([], client.now(), path)
            try:
                for page in reader.pages():
                    yield _with_parent(page, parent)
                answered = True
                failed.clear()
                reader.warn_of_doubts(client)
            except NotFound as error:
                answered = True
                failed.clear()
                passed_over(parent, error)
                client.warn(f"{path} is gone (404); nothing was read from it")
            except AccessDenied as error:
                passed_over(parent, error)
                refused.append((path, error))
            except OmetriaError as error:
                passed_over(parent, error)
                failed.append(error)
                if len(failed) == MOST_FAILURES_IN_A_ROW:
                    raise failed[0] from None
                client.warn(f"{path} failed, and the next run reads it again: {error}")
    if failed and not answered:
        raise failed[0]
    if refused and not answered:
        raise refused[0][1]
    for path, _ in refused:
        client.warn(f"{path} is refused to this API key; nothing was read from it")


def _readers(
    prefetch: Prefetch,
    client: Client,
    per_parent: PerParent,
    parents: Iterable[Parent],
    since_parameter: str,
) -> Iterator[tuple[Parent, OffsetReader]]:
    """Start the readers of some parents ahead, so that their first pages are under way."""
    started: deque[tuple[Parent, OffsetReader]] = deque()
    for parent in parents:
        if parent.id in {"", ".", ".."}:  # These would address another path.
            client.warn(f"a record of {per_parent.parent.endpoint} has no usable id")
            continue
        path = per_parent.endpoint.format(id=quote(parent.id, safe=""))
        query = {since_parameter: utc_text(parent.since)} if parent.since else {}
        collection = Collection(path, query, by_all, client.behaviour(per_parent.endpoint))
        started.append((parent, OffsetReader(prefetch, collection)))
        while len(started) >= prefetch.depth(collection.behaviour):
            yield started.popleft()
    yield from started


def _with_parent(page: Page, parent: Parent) -> Page:
    """Set the records' ``id`` to their parent's. An id of their own would be the change's."""
    return replace(page, records=[extended(record, "id", parent.id) for record in page.records])
