"""Behaviour of an endpoint that Ometria does not document, as this run observes it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EndpointBehaviour:
    """
    Observations about one endpoint, shared by all collections that are read from it.

    *longest* is the size of the longest answer so far. No page is longer than the
    server's page size, so a shorter answer is not a full page.
    *pages* says whether the endpoint honours ``offset``; None means not known yet.
    *refuses_paging* says that it rejects requests with ``limit`` and ``offset``.
    *unproven* maps the sizes of answers that may have been cut to the path of the first one.
    *is_doubtful* says that an answer looks cut, so that a missing record proves nothing.
    """

    longest: int = 0
    pages: bool | None = None
    refuses_paging: bool = False
    unproven: dict[int, str] = field(default_factory=dict)
    is_doubtful: bool = False

    def is_last(self, size: int) -> bool:
        """
        Whether a page of *size* records is the last one. Remembers the size.

        A page of one record counts as the last: no server pages by one.
        """
        last = size < max(self.longest, 2)
        self.longest = max(self.longest, size)
        return last
