"""
A batch is merged into a DuckDB warehouse here: delete and insert, in one transaction.

2.0 s for 500,000 events into 5 million, against 6.2 s for MERGE and more than 8 s
through the index of a primary key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import Busy
from ometria_replica.mapping import REJECT_COLUMNS, REJECTED, STAGED, SWEPT
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.state import (
    DATA_SCHEMA,
    FILES,
    LEASES,
    MARKS,
    MISSING,
    REJECTS,
    UNREAD,
    WATERMARK,
    WHOLE,
    Loaded,
)

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.state import Batch, Lease, LedgerEntry
    from ometria_replica.warehouse.statements import Statements


@dataclass(frozen=True)
class Merge:
    """Compares the staged rows with those that are there, then writes them and their state."""

    run: Statements

    def compare(self, batch: Batch) -> Loaded:
        """Count what :meth:`write` would do. In temporary tables: nobody else writes meanwhile."""
        older = updated = unchanged = missing = removed = 0
        if self.run.exists(batch.table.name, DATA_SCHEMA):
            self._find_rows_to_replace(batch)
            older = self._leave_out_older(batch)
            self._settle_stamps(batch.table)
            unchanged = self.run.scalar("SELECT count(*) FROM found WHERE same")
            updated = self.run.scalar("SELECT count(*) FROM found") - unchanged
            if batch.sweep:
                missing = self._find_missing(batch)
                removed = missing if self._may_remove(batch, missing) else 0
        rows = self.run.scalar(f"SELECT count(*) FROM {STAGED}")
        return Loaded(
            inserted=rows - updated - unchanged,
            updated=0 if batch.table.events else updated,
            unchanged=unchanged,
            older=older,
            merged=updated if batch.table.events else 0,
            missing=missing,
            removed=removed,
            sweep_refused=bool(batch.sweep and batch.sweep.remove and missing > removed),
        )

    def _find_rows_to_replace(self, batch: Batch) -> None:
        table = batch.table
        stamps = "".join(
            f", t.{sql.quoted(column.name)} AS {sql.quoted(column.name)}"
            for column in sql.stamps(table)
        )
        found = (
            "SELECT s.rowid AS staged_row, t.rowid AS target_row, t.__synced_at AS loaded_at,"
            f" ({sql.same_contents(table, 's', 't')}) AS same{stamps}"
            f" FROM {STAGED} s JOIN {self.run.data(table.name)} t ON s.__sync_key = t.__sync_key"
            " AND s.__source_id = t.__source_id"
        )
        spans = " UNION ALL ".join(f"{found} WHERE {span}" for span in self._spans(table))
        self.run.execute(f"CREATE OR REPLACE TEMP TABLE found AS {spans}")

    def _spans(self, table: Table) -> list[str]:
        """
        Tell where to look for the batch's keys: in its span of time, where equal keys are.

        So that a day's batch costs the same however long the history is. Rows without a
        time are looked at besides: what would not convert then may convert today. Each
        part alone lets DuckDB skip what it has no need to read; joined by OR it would not.
        """
        if table.time is None:
            return ["true"]
        time = sql.quoted(table.time)
        first, last, untimed = self.run.rows(
            f"SELECT min({time})::VARCHAR, max({time})::VARCHAR, count(*) > count({time})"
            f" FROM {STAGED}"
        )[0]
        if first is None or untimed:
            return ["true"]
        return [
            f"t.{time} BETWEEN TIMESTAMPTZ '{first}' AND TIMESTAMPTZ '{last}'",
            f"t.{time} IS NULL",
        ]

    def _leave_out_older(self, batch: Batch) -> int:
        """
        Leave out staged rows where the row that is there came from a newer file.

        A row's file is known by its ``__synced_at``, which no two files share. Only a
        file that arrives late, or is read again, can be older than one in the ledger.
        """
        if not batch.files or not self.run.has(FILES):
            return 0
        key = [batch.source_id, batch.table.name]
        oldest = min(entry.file.modified_at for entry in batch.files)
        newer = self.run.scalar(
            f"SELECT count(*) FROM {self.run.state(FILES)}"
            " WHERE source_id = ? AND table_name = ? AND modified_at >= ?",
            [*key, oldest],
        )
        if not newer:
            return 0
        self._stage_versions(batch)
        self.run.execute(
            "CREATE OR REPLACE TEMP TABLE older AS SELECT found.staged_row FROM found"
            f" JOIN {STAGED} ON {STAGED}.rowid = found.staged_row"
            f" JOIN versions mine ON mine.loaded_at = {STAGED}.__synced_at"
            f" JOIN {self.run.state(FILES)} theirs ON theirs.loaded_at = found.loaded_at"
            " WHERE theirs.source_id = ? AND theirs.table_name = ?"
            " AND (theirs.modified_at, theirs.name) > (mine.modified_at, mine.name)",
            key,
        )
        for table, row in ((STAGED, "rowid"), ("found", "staged_row")):
            self.run.execute(f"DELETE FROM {table} WHERE {row} IN (SELECT staged_row FROM older)")
        return self.run.scalar("SELECT count(*) FROM older")

    def _stage_versions(self, batch: Batch) -> None:
        self.run.execute(
            "CREATE OR REPLACE TEMP TABLE versions"
            " (loaded_at TIMESTAMPTZ, modified_at TIMESTAMPTZ, name VARCHAR)"
        )
        for entry in batch.files:
            version = [entry.loaded_at, entry.file.modified_at, entry.file.name]
            self.run.execute("INSERT INTO versions VALUES (?, ?, ?)", version)

    def _settle_stamps(self, table: Table) -> None:
        """Keep a stamp where the rest of the row is the same, or where nothing better is known."""
        for column in sql.stamps(table):
            name = sql.quoted(column.name)
            self.run.execute(
                f"UPDATE {STAGED} SET {name} = found.{name} FROM found"
                f" WHERE {STAGED}.rowid = found.staged_row"
                f" AND (found.same OR {STAGED}.{name} IS NULL)"
            )

    def _find_missing(self, batch: Batch) -> int:
        record_id = sql.quoted(batch.table.record_id or "__sync_key")
        self.run.execute(
            f"CREATE OR REPLACE TEMP TABLE gone AS SELECT __sync_key, {record_id} AS record_id"
            f" FROM {self.run.data(batch.table.name)} WHERE __source_id = ?"
            f" AND __sync_key NOT IN (SELECT __sync_key FROM {SWEPT})",
            [batch.source_id],
        )
        return self.run.scalar("SELECT count(*) FROM gone")

    def _may_remove(self, batch: Batch, missing: int) -> bool:
        if not batch.sweep or not batch.sweep.remove:
            return False
        rows = self.run.scalar(
            f"SELECT count(*) FROM {self.run.data(batch.table.name)} WHERE __source_id = ?",
            [batch.source_id],
        )
        return missing <= batch.sweep.max_share * rows + 1e-6  # 0.29 * 100 is a little less.

    def write(self, batch: Batch, loaded: Loaded) -> None:
        """Write what was compared. Belongs into one transaction."""
        if batch.lease:
            self._renew(batch.lease)
        target, names = self.run.data(batch.table.name), sql.names(batch.table)
        self.run.execute(f"DELETE FROM {target} WHERE rowid IN (SELECT target_row FROM found)")
        # In order the insert takes one core, and rows of a table have no order.
        self.run.execute("SET preserve_insertion_order = false")
        self.run.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM {STAGED}")
        self.run.execute("SET preserve_insertion_order = true")
        self._write_rejects(batch)
        for entry in batch.files:
            self._write_file(batch, entry)
        if batch.table.record_id is not None:
            self._forget_missing(batch, STAGED)
        if batch.sweep:
            self._forget_missing(batch, SWEPT)
            self._write_missing(batch, removed=loaded.removed > 0)
        self._write_marks(batch)

    def _write_marks(self, batch: Batch) -> None:
        key = [batch.source_id, batch.table.name]
        marks = {WATERMARK: batch.watermark, WHOLE: batch.whole_at}
        if batch.unread is not None:
            self.run.execute(
                f"DELETE FROM {self.run.state(MARKS)} WHERE source_id = ? AND table_name = ?"
                " AND starts_with(mark, ?)",
                [*key, UNREAD],
            )
            marks |= {f"{UNREAD}{name}": due for name, due in batch.unread.items()}
        for mark, at in marks.items():
            if at is not None:
                self.run.replace(MARKS, [*key, mark, at, batch.run_id])

    def _renew(self, lease: Lease) -> None:
        """Fence off a run that slept through its lease: what it would write may be old."""
        holders = self.run.rows(
            f"SELECT run_id FROM {self.run.state(LEASES)} WHERE source_id = ?", [lease.source_id]
        )
        if holders != [(lease.run_id,)]:
            raise Busy(
                f"Another run took over '{lease.source_id}' in the warehouse, because this one was"
                " silent for too long. Nothing of this batch was written. Run again."
            )
        self.run.execute(
            f"UPDATE {self.run.state(LEASES)} SET expires_at = ? WHERE source_id = ?",
            [lease.expires_at, lease.source_id],
        )

    def _write_rejects(self, batch: Batch) -> None:
        """Note what was set aside; forget what these rows and files now bring without fault."""
        rejects, key = self.run.state(REJECTS), [batch.source_id, batch.table.name]
        self.run.execute(
            f"DELETE FROM {rejects} WHERE source_id = ? AND table_name = ?"
            f" AND (sync_key IN (SELECT __sync_key FROM {STAGED})"
            f" OR reject_id IN (SELECT reject_id FROM {REJECTED})"
            " OR list_contains(?, origin))",
            [*key, [entry.file.name for entry in batch.files]],
        )
        self.run.execute(
            f"INSERT INTO {rejects} SELECT DISTINCT ON (reject_id) {', '.join(REJECT_COLUMNS)},"
            f" ?, ? FROM {REJECTED}",
            [batch.synced_at, batch.run_id],
        )

    def _write_file(self, batch: Batch, entry: LedgerEntry) -> None:
        file = entry.file
        row = [batch.source_id, batch.table.name, file.name, file.etag, file.size]
        row += [file.modified_at, entry.loaded_at, entry.records]
        row += [entry.unreadable_because, False, batch.run_id]
        self.run.replace(FILES, row)
        if entry.unreadable_because is not None:
            reject_id = f"{batch.source_id}|{batch.table.name}|{file.name}|{file.etag}"
            what = (batch.source_id, batch.table.name, None, None, None, entry.unreadable_because)
            where = (file.name, None, batch.synced_at, batch.run_id)
            self.run.replace(REJECTS, [reject_id, *what, *where])

    def _forget_missing(self, batch: Batch, found: str) -> None:
        """Forget that rows were missing whose keys are in the temporary table *found*."""
        self.run.execute(
            f"DELETE FROM {self.run.state(MISSING)} WHERE source_id = ? AND table_name = ?"
            f" AND sync_key IN (SELECT __sync_key FROM {found})",
            [batch.source_id, batch.table.name],
        )

    def _write_missing(self, batch: Batch, *, removed: bool) -> None:
        missing, key = self.run.state(MISSING), [batch.source_id, batch.table.name]
        self.run.execute(
            f"INSERT INTO {missing} SELECT ?, ?, __sync_key, record_id, ?, NULL, ? FROM gone"
            f" WHERE __sync_key NOT IN (SELECT sync_key FROM {missing}"
            " WHERE source_id = ? AND table_name = ?)",
            [*key, batch.synced_at, batch.run_id, *key],
        )
        if removed:
            self.run.execute(
                f"DELETE FROM {self.run.data(batch.table.name)}"
                " WHERE __sync_key IN (SELECT __sync_key FROM gone)"
            )
            self.run.execute(
                f"UPDATE {missing} SET removed_at = ? WHERE source_id = ? AND table_name = ?"
                " AND sync_key IN (SELECT __sync_key FROM gone)",
                [batch.synced_at, *key],
            )
