"""The records of one table that a verification has read: keys, contents, and parents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.mapping import STAGED
from ometria_replica.verification.temporary_tables import BEFORE, READ, SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ometria_replica.schema import Table
    from ometria_replica.verification.columns import RowExpressions
    from ometria_replica.verification.temporary_tables import VerificationTables


@dataclass(frozen=True)
class ReadRecords:
    """The records of *table* that were read, in *tables*. *row* writes what is kept of one."""

    tables: VerificationTables
    table: Table
    row: RowExpressions

    def note_staged(self) -> None:
        """
        Note what is staged, before the staging is finished: all copies, and who is left out.

        Two events may have one key, and the row is right if it is either of them.
        """
        self.tables.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {BEFORE} AS"
            f" SELECT __sync_key AS key, {self.row.contents} AS contents FROM {STAGED}"
        )

    def note_finished(self) -> None:
        """Note which of the noted records have a row, after the staging is finished."""
        self.tables.connection.execute(
            f"INSERT INTO {READ} SELECT key, contents,"
            f" key IN (SELECT __sync_key FROM {STAGED}) FROM {BEFORE}"
        )
        if self.table.events:
            self.tables.connection.execute(
                f"INSERT INTO {SHOWN} SELECT {self.row.parent_of('s')},"
                f" min({self.row.time_of('s')}) FROM {STAGED} s GROUP BY ALL"
            )

    def checked(self) -> int:
        """Count the rows that were compared."""
        return self.tables.count(f"SELECT count(DISTINCT key) FROM {READ} WHERE kept")

    def parents(self) -> list[str]:
        """List the parents of which something was read, as their column holds them."""
        found = self.tables.rows(f"SELECT DISTINCT parent FROM {SHOWN} WHERE parent IS NOT NULL")
        return [parent for (parent,) in found]

    def forget_parents(self, ids: Iterable[str]) -> None:
        """Forget what is shown of these parents, of which not everything was read."""
        ids = list(ids)
        if not ids:
            return
        column = self.row.record_id
        if column is None or column.treatment is not None:  # Which they are is not known here.
            self.tables.connection.execute(f"DELETE FROM {SHOWN}")
            return
        self.tables.connection.execute(f"DELETE FROM {SHOWN} WHERE list_contains(?, parent)", [ids])

    def seen_keys(self, name: str) -> None:
        """Keep the keys of all records that were read in the temporary table *name*."""
        self.tables.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT DISTINCT key AS __sync_key FROM {READ}"
        )
