"""The changes that a batch makes to its table, and the state that is committed with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ometria_replica.batch import Batch, Loaded
    from ometria_replica.schema import Table


@dataclass(frozen=True)
class Changes:
    """
    The result of comparing a batch with its table.

    Rows stay in the engine: *rows*, *replaced* and *gone* name temporary tables there.
    *rows* holds the rows to write, one for each key. *replaced* names, in its column
    ``target_row``, the rows of the table that they replace, and has their ``__sync_key``. *gone*
    holds ``__sync_key`` and ``record_id`` of the rows that a full read did not find; None without
    delete detection.
    *state* is the batch whose watermarks and files are committed; None writes no state.
    """

    table: Table
    source_id: str
    rows: str
    replaced: str
    gone: str | None
    counts: Loaded
    state: Batch | None

    @property
    def replaces(self) -> bool:
        """Whether a row of the table is replaced."""
        return self.rows_replaced > 0

    @property
    def rows_replaced(self) -> int:
        """How many rows of the table are replaced."""
        return self.counts.updated + self.counts.unchanged + self.counts.merged

    @property
    def rows_written(self) -> int:
        """How many rows *rows* holds."""
        return self.counts.inserted + self.rows_replaced

    @property
    def is_idle(self) -> bool:
        """
        Whether no row differs afterwards but for its load time, which nothing depends on.

        The load time of a row of the export tells which file it is from.
        """
        counts = self.counts
        written = counts.inserted + counts.updated + counts.merged
        return not written and not self.removes and not self.from_files

    @property
    def from_files(self) -> bool:
        """Whether the rows are from files of the export."""
        return bool(self.state and self.state.files)

    @property
    def removes(self) -> bool:
        """Whether the rows that are gone are removed."""
        return self.gone is not None and self.counts.removed > 0
