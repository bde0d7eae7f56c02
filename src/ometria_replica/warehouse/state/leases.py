"""Leases: which run may write the rows of a source."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_replica.batch import Lease
from ometria_replica.errors import Busy
from ometria_replica.failpoints import step
from ometria_replica.processes import is_running, process_start
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import LEASES

if TYPE_CHECKING:
    from datetime import datetime

_RENEWED_AFTER = timedelta(minutes=5)  # Of thirty, by batches that write no rows.


@dataclass(frozen=True)
class Leases(Part):
    """The leases in one warehouse."""

    def acquire(self, lease: Lease, now: datetime) -> list[Lease]:
        """
        Let one run write the rows of a source; take over the lease of a dead or silent run.

        Returns the leases that were taken over: their runs did not end as they should.
        Raises Busy, naming the holder, while another run that may be alive holds it. Where
        nothing can be locked, two runs that acquire it at the same moment both give it up.
        """
        ended: list[Lease] = []
        self._take(lease, now, ended)
        if not self._engine.locks and not self.sessions.dry_run:
            try:
                self._refuse_unless_alone(lease, now)
            except Busy:
                self.release(lease)
                raise
        return ended

    @writes("releasing the lease")
    def release(self, lease: Lease) -> None:
        """End a lease; without effect if another run has it."""
        with step("release of the lease"):
            self._delete(lease.source_id, lease.run_id)

    @reads("reading the lease")
    def holder(self, source_id: str) -> Lease | None:
        """Find the lease of a source; None if no run is at work."""
        return next(iter(self._of(source_id)), None)

    @staticmethod
    def is_active(lease: Lease, now: datetime) -> bool:
        """Return whether the run that holds a lease may be alive, as an acquisition sees it."""
        return lease.expires_at > now and _is_alive(lease)

    @writes("acquiring the lease", "the lease")
    def _take(self, lease: Lease, now: datetime, ended: list[Lease]) -> None:
        self._engine.lock(LEASES)
        ended += self._refuse_beside_others(lease, now)
        self._delete(lease.source_id)
        row = [lease.source_id, lease.run_id, lease.host, lease.pid, lease.process]
        with step("lease"):
            self._engine.insert(LEASES, [*row, now, lease.expires_at])

    def _refuse_beside_others(self, lease: Lease, now: datetime) -> list[Lease]:
        """
        Raise Busy while another run that may be alive holds a lease of the same source.

        Returns the leases of runs that are not alive.
        """
        found = [held for held in self._of(lease.source_id) if held.run_id != lease.run_id]
        for held in found:
            if self.is_active(held, now):
                raise Busy(
                    f"{held} is loading '{lease.source_id}' into {self._engine.place}, until"
                    f" {held.expires_at:%H:%M:%S} UTC at the latest. Run again when it is done."
                )
        return found

    @reads("reading the leases")
    def _refuse_unless_alone(self, lease: Lease, now: datetime) -> None:
        self._engine.refresh(LEASES)
        self._refuse_beside_others(lease, now)

    # --- within a session of the caller ---

    def refuse_any(self, now: datetime, because: str) -> None:
        """
        Raise Busy while any run that may be alive holds a lease, of whatever source.

        *because* says what it would disturb.
        """
        self._engine.lock(LEASES)
        for held in self._of(None):
            if self.is_active(held, now):
                raise Busy(
                    f"{held} is loading '{held.source_id}' into {self._engine.place}, and"
                    f" {because}. Run again when it is done."
                )

    def renew(self, lease: Lease) -> None:
        """
        Extend a lease. Raises Busy if another run took it over: the rows may be stale.

        The update comes first: until the transaction ends no other run can take the lease over.
        Where nothing can be locked it would not keep others off, and is left out until it is due.
        """
        self._engine.refresh(LEASES)
        if self._engine.locks or self.is_due(lease):
            self._engine.execute(
                f"UPDATE {self._engine.name(LEASES)} SET expires_at = ?"
                " WHERE source_id = ? AND run_id = ?",
                [lease.expires_at, lease.source_id, lease.run_id],
            )
        if [held.run_id for held in self._of(lease.source_id)] != [lease.run_id]:
            raise Busy(
                f"Another run took over '{lease.source_id}' in the warehouse, because this run was"
                " silent for too long. Nothing of this batch was written. Run again."
            )

    def is_due(self, lease: Lease) -> bool:
        """Return whether so much of the lease that is held is over that it needs to be renewed."""
        held = self._of(lease.source_id)
        return not held or lease.expires_at - held[0].expires_at >= _RENEWED_AFTER

    def _of(self, source_id: str | None) -> list[Lease]:
        of_source, source = (" WHERE source_id = ?", [source_id]) if source_id else ("", [])
        rows = self._engine.rows(
            "SELECT source_id, run_id, host, pid, expires_at, process"
            f" FROM {self._readable(LEASES)}{of_source}",
            source,
        )
        return [Lease(*row) for row in rows]

    def _delete(self, source_id: str, run_id: str | None = None) -> None:
        of_run, run = (" AND run_id = ?", [run_id]) if run_id else ("", [])
        self._engine.execute(
            f"DELETE FROM {self._engine.name(LEASES)} WHERE source_id = ?{of_run}",
            [source_id, *run],
        )


def _is_alive(lease: Lease) -> bool:
    """Return whether the process of a lease may still run; on another machine it may."""
    if lease.host != platform.node():
        return True
    return is_running(lease.pid) and lease.process in {"", process_start(lease.pid)}
