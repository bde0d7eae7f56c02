"""A collection of the API that is read in pages, and whether its end may be a cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.read_position import collection_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ometria_replica.ometria.client import Client
    from ometria_replica.ometria.endpoint_behaviour import EndpointBehaviour
    from ometria_replica.ometria.page_overlap import Identity
    from ometria_replica.records import Record

PAGE_SIZE = 250  # Ometria's documented maximum: support.ometria.com, "Profiles API".

# Servers that end a collection early do so at a round number of records. By chance, one of a
# thousand collections has such a size.
ROUND_TOTAL = 1000

# Sizes at which servers usually cut an answer.
USUAL_CAPS = frozenset({10, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000})


@dataclass(frozen=True)
class Collection:
    """
    A collection to read, by requests for *path* with *query*.

    *behaviour* is shared by all collections of one endpoint. *must_page* says that paging is
    documented, so that ignoring ``offset`` is an error. *parted_first* says that a first page
    smaller than requested stays unproven, because the caller splits it by time.
    *one_at_a_time* requests at most one page ahead: an endpoint with a rate limit of its own
    is slower than any caller. *address* is that of the API, for positions at which another run
    can continue; None makes none. One that *grows* only gets new records at its end.
    """

    path: str
    query: Mapping[str, str]
    identity: Callable[[Record], Identity]
    behaviour: EndpointBehaviour
    must_page: bool = False
    parted_first: bool = False
    one_at_a_time: bool = False
    address: str | None = None
    grows: bool = False

    @property
    def id(self) -> str | None:
        """Identify the collection in positions; None if it has none."""
        if self.address is None:
            return None
        query = [f"{name}={value}" for name, value in sorted(self.query.items())]
        return collection_id(self.address, self.path, str(PAGE_SIZE), *query)


def warn_if_cut(
    client: Client, collection: Collection, total: int, unproven: Sequence[Record] | None
) -> None:
    """
    Warn if a collection of *total* records, or an answer that is *unproven*, looks cut.

    An answer does if its size is a usual cap, or if another collection of the endpoint had
    exactly as many records and no page was longer. A collection that ends after a round number
    of records may be cut there.
    """
    path, behaviour = collection.path, collection.behaviour
    if total >= ROUND_TOTAL and total % ROUND_TOTAL == 0 and not unproven:
        behaviour.is_doubtful = True
        client.warn(
            f"{path} ended after exactly {total:,} records; Ometria may have cut the collection"
            " there"
        )
    if unproven is None:
        return
    size = len(unproven)
    same_as = behaviour.unproven.setdefault(size, path)
    if size in USUAL_CAPS or (size > min(USUAL_CAPS) and same_as != path):
        behaviour.is_doubtful = True
        client.warn(
            f"{path} does not page and sent exactly {size} records; Ometria may have cut the answer"
        )


def warn_of_disorder(client: Client, collection: Collection) -> None:
    """Warn that records changed places during the read: then overlapping pages prove nothing."""
    collection.behaviour.is_doubtful = True
    client.warn(
        f"{collection.path}: records changed their order while they were read, so some may be"
        " missing, and no deletes are detected; run again with --full, and tell Ometria if it"
        " happens each time"
    )
