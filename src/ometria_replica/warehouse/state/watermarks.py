"""Watermarks: how far each table of a source has been read, by kind, in Ometria's own time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.failpoints import step
from ometria_replica.read_position import InterruptedRead, ReadPosition
from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import (
    EMPTIED,
    END,
    FULL_READ,
    POSITION,
    REFRESHED,
    RETRY,
    WATERMARK,
    WATERMARKS,
    WRITTEN,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes

_NOTED = 5  # Rows: a few, because a user may delete some of them.
_NUL = r"\u0000"


@dataclass(frozen=True)
class Marks:
    """The watermarks of one table of a source: the moments *reached*, by kind."""

    reached: Mapping[str, datetime]

    def named(self, prefix: str) -> dict[str, datetime]:
        """Return the moments of the kinds that begin with *prefix*, by the rest of the kind."""
        return {
            kind.removeprefix(prefix).replace(_NUL, "\0"): at
            for kind, at in self.reached.items()
            if kind.startswith(prefix)
        }

    @property
    def interrupted(self) -> InterruptedRead | None:
        """The full read that has not ended; None if there is none that can be continued."""
        for text, began_at in self.named(POSITION).items():
            if (position := ReadPosition.parse(text)) is not None:
                return InterruptedRead(position, began_at)
        return None

    @property
    def ends(self) -> tuple[ReadPosition, ...]:
        """Where the last reads of collections have ended, of those that can be continued."""
        return tuple(self._ends())

    def _ends(self) -> Iterator[ReadPosition]:
        for text in self.named(END):
            if (position := ReadPosition.parse(text)) is not None:
                yield position


@dataclass(frozen=True)
class Watermarks(Part):
    """The watermarks of one warehouse. In a session, or a transaction, of the caller."""

    def of(self, source_id: str, table_name: str) -> Marks:
        """Read those of one table of a source."""
        return Marks(
            dict(
                self._engine.rows(
                    f"SELECT kind, reached_at FROM {self._readable(WATERMARKS)}"
                    " WHERE source_id = ? AND table_name = ?",
                    [source_id, table_name],
                )
            )
        )

    def put(
        self, source_id: str, table_name: str, marks: Mapping[str, datetime], run_id: str
    ) -> None:
        """Write *marks*, moments by kind, in place of those of their kinds."""
        rows = [[source_id, table_name, kind, at, run_id] for kind, at in marks.items()]
        self._engine.replace(WATERMARKS, *rows)

    def forget(self, source_id: str, table_name: str, *kinds: str) -> None:
        """Delete the watermarks of *kinds*."""
        self._engine.execute(
            f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ? AND table_name = ?"
            f" AND {sql.among('kind', kinds)}",
            [source_id, table_name, *kinds],
        )

    def forget_starting(self, source_id: str, table_name: str, *prefixes: str) -> None:
        """Delete the watermarks of all kinds that begin with one of *prefixes*."""
        self._engine.execute(
            f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ? AND table_name = ?"
            f" AND ({' OR '.join('starts_with(kind, ?)' for _ in prefixes)})",
            [source_id, table_name, *prefixes],
        )

    def note_emptied(
        self, source_id: str, tables: Sequence[Table], at: datetime, run_id: str
    ) -> tuple[str, ...]:
        """Name those of *tables*, which exist, that have no row of a source left, and note it."""
        left = self._engine.holding(tables, source_id) if tables else set()
        emptied = tuple(table.name for table in tables if table.name not in left)
        rows = [[source_id, name, EMPTIED, at, run_id] for name in emptied]
        self._engine.replace(WATERMARKS, *rows)
        return emptied

    def write(self, batch: Batch) -> None:
        """Write those that a batch moves."""
        key = (batch.source_id, batch.table.name)
        moved = {WATERMARK: batch.watermark, FULL_READ: batch.full_read_at}
        with step("watermarks"):
            if batch.retry is not None:
                self.forget_starting(*key, POSITION, RETRY)
                moved |= {f"{RETRY}{_storable(name)}": due for name, due in batch.retry.items()}
            elif batch.interrupted is not None:
                self.forget_starting(*key, POSITION)
            if batch.ends is not None:
                self.forget_starting(*key, END)
                moved |= {f"{END}{position}": batch.watermark for position in batch.ends}
            moved |= {
                f"{REFRESHED}{_storable(name)}": seen for name, seen in batch.refreshed.items()
            }
            if batch.interrupted is not None:
                moved[f"{POSITION}{batch.interrupted.position}"] = batch.interrupted.began_at
            marks = {kind: at for kind, at in moved.items() if at is not None}
            self.put(*key, marks, batch.run_id)

    def note_replaced(self, changes: Changes, batch: Batch) -> None:
        """Note the load time of a few rows that are replaced, to tell an older copy of a table."""
        key = (batch.source_id, batch.table.name)
        self.forget_starting(*key, WRITTEN)
        rows = self._engine.rows(
            f"SELECT __sync_key, __synced_at FROM {changes.rows} WHERE __sync_key IN"
            f" (SELECT __sync_key FROM {changes.replaced} LIMIT {_NOTED})"
        )
        self.put(*key, {f"{WRITTEN}{name}": at for name, at in rows}, batch.run_id)

    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """Move those of a table back to *to*, never on; None forgets all but a removal of rows."""
        marks, key = self._engine.name(WATERMARKS), [source_id, table_name]
        of_table = "WHERE source_id = ? AND table_name = ?"
        if to is None:
            self._engine.execute(f"DELETE FROM {marks} {of_table} AND kind <> ?", [*key, EMPTIED])
            return
        self.forget_starting(source_id, table_name, POSITION, END)
        self._engine.execute(
            f"UPDATE {marks} SET reached_at = ? {of_table} AND reached_at > ? AND kind <> ?",
            [to, *key, to, EMPTIED],
        )


def _storable(name: str) -> str:
    """Escape a NUL, which PostgreSQL does not store; :meth:`Marks.named` reads it back."""
    return name.replace("\0", _NUL)
