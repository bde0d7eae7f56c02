"""The state of each table of a source: read it, commit it with a batch, rewind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.batch import TableState
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import (
    DELETED_UPSTREAM,
    FULL_READ,
    LISTED,
    REFRESHED,
    REJECTS,
    RETRY,
    RETRY_FILE,
    WATERMARK,
)

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.batch import Batch
    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.state.deleted_upstream import DeletedUpstream
    from ometria_replica.warehouse.state.file_log import FileLog
    from ometria_replica.warehouse.state.watermarks import Watermarks


@dataclass(frozen=True)
class TableStates(Part):
    """The state of the tables of one warehouse, which these parts of it hold."""

    watermarks: Watermarks
    file_log: FileLog
    deleted_upstream: DeletedUpstream

    @reads("reading the state")
    def table_state(self, source_id: str, table_name: str) -> TableState:
        """Read the state of one table of one source."""
        marks = self.watermarks.of(source_id, table_name)
        loaded_at, files, unreadable = self.file_log.counts(source_id, table_name)
        return TableState(
            watermark=marks.reached.get(WATERMARK),
            full_read_at=marks.reached.get(FULL_READ),
            retry=marks.named(RETRY),
            listed=marks.named(LISTED),
            refreshed=marks.named(REFRESHED),
            retry_files=marks.named(RETRY_FILE),
            loaded_at=loaded_at,
            files=files,
            unreadable=unreadable,
            rejects=self._count(REJECTS, source_id, table_name),
            deleted_upstream=self._count(DELETED_UPSTREAM, source_id, table_name),
            interrupted=marks.interrupted,
            ends=marks.ends,
        )

    @writes("rewinding")
    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """
        Make the next run read again the records since *to*; None means all of them.

        The watermark moves back, never on. Files of the export since then are read again.
        """
        self._rewind(source_id, table_name, to)

    # --- within a transaction of the caller ---

    def forget_rows(self, source_id: str, table_name: str, now: datetime) -> None:
        """Rewind a table whose rows are gone."""
        self._rewind(source_id, table_name, None)
        self.deleted_upstream.note_removed(source_id, table_name, now)

    def write(self, changes: Changes, batch: Batch) -> None:
        """Write the state of a batch, within the transaction of its rows."""
        self.file_log.write(batch)
        self.deleted_upstream.write(changes, batch)
        self.watermarks.write(batch)
        if changes.replaces and self._engine.notes_replaced:
            self.watermarks.note_replaced(changes, batch)

    def write_inside(self, changes: Changes, batch: Batch) -> None:
        """
        Write the state of a table that is inside that of *batch*: it was read as far.

        That nothing is inside any record need not be a loss.
        """
        retry: dict[str, datetime] | None = None if batch.retry is None else {}
        self.watermarks.write(replace(batch, table=changes.table, retry=retry, refreshed={}))
        if changes.removes:
            self.watermarks.note_emptied(
                batch.source_id, [changes.table], batch.synced_at, batch.run_id
            )

    # --- helpers ---

    def _rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        self.watermarks.rewind(source_id, table_name, to)
        self.file_log.read_again(source_id, table_name, to)

    def _count(self, table: StateTable, source_id: str, table_name: str) -> int:
        return self._engine.scalar(
            f"SELECT count(*) FROM {self._readable(table)} WHERE source_id = ? AND table_name = ?",
            [source_id, table_name],
        )
