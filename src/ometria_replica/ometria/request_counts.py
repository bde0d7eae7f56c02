"""How many requests a read takes, by the number of records that it finds."""

from __future__ import annotations

from math import ceil

from ometria_replica.ometria.collection import PAGE_SIZE
from ometria_replica.ometria.page_overlap import overlap_of

OF_A_WINDOW = 3
"""Of most windows of time: an answer is proven whole by two more."""

EVENTS_OF_A_WINDOW = 1_000
"""An answer may be cut, at a size that is not documented; with so many, it is split again."""


def of_pages(records: int, page_size: int = PAGE_SIZE) -> int:
    """
    Count the requests of a collection of *records* by offset pages, which overlap.

    One of them proves the end. Where answers are slow, pages that turn out not to be needed are
    requested ahead; these are not counted.
    """
    if records == 0:
        return 1
    overlap = overlap_of(page_size)
    return max(1, ceil((records - overlap) / max(1, page_size - overlap))) + 1


def of_windows(events: int) -> int:
    """Estimate the requests of a read by windows of time that finds so many *events*."""
    return OF_A_WINDOW + events // EVENTS_OF_A_WINDOW
