"""Notes the deletion requests that Ometria has received."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from ometria_replica.failpoints import step
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import DELETION_REQUESTS, FOLLOWED, WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ometria_replica.batch import DeletionRequest


@dataclass(frozen=True)
class DeletionRequests(Part):
    """The deletion requests of the sources of one warehouse."""

    @reads("reading when deletion requests were read")
    def read_at(self, source_id: str) -> datetime | None:
        """Tell when a run last read those of a source; None if none did."""
        found: list[tuple[datetime]] = self._engine.rows(
            f"SELECT reached_at FROM {self._readable(WATERMARKS)}"
            " WHERE source_id = ? AND table_name = ? AND kind = ?",
            [source_id, DELETION_REQUESTS.name, FOLLOWED],
        )
        return found[0][0] if found else None

    @writes("noting the deletion requests")
    def note(
        self, source_id: str, requests: Sequence[DeletionRequest], now: datetime, run_id: str
    ) -> None:
        """Write *requests* in place of what is known of them, and that they were read *now*."""
        with step("deletion requests"):
            newest = {request.request_id: request for request in requests}
            rows = [[source_id, *astuple(each), now, run_id] for each in newest.values()]
            self._engine.replace(DELETION_REQUESTS, *rows)
            mark = [source_id, DELETION_REQUESTS.name, FOLLOWED, now, run_id]
            self._engine.replace(WATERMARKS, mark)
