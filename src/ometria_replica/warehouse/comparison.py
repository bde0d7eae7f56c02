"""
Compares a batch with its table: which rows it adds, which it replaces, which are gone.

The comparison writes temporary tables only, so it can be repeated. In DuckDB the changes are
then applied by DELETE and INSERT: 2.0 s for 500,000 events into 5 million, against 6.2 s for
MERGE and more than 8 s through the index of a primary key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.batch import Loaded
from ometria_replica.failpoints import step
from ometria_replica.mapping import SEEN_KEYS, STAGED
from ometria_replica.warehouse.changes import Changes
from ometria_replica.warehouse.state_tables import FILES

if TYPE_CHECKING:
    from ometria_replica.batch import Batch, DeleteDetection
    from ometria_replica.warehouse.engines.base import Engine

_MATCHED, _REPLACED, _OLDER, _VERSIONS, _KEPT, _GONE = (
    "matched", "replaced", "older", "versions", "kept", "gone",
)  # fmt: skip


def compare(engine: Engine, batch: Batch) -> Changes:
    """
    Compare the staged rows of *batch* with its table, where the engine has both.

    No other run writes the source's rows meanwhile: the batch holds its lease.
    """
    with step("comparison"):
        if engine.exists(batch.table):
            return _Comparison(engine, batch).changes()
        rows = engine.count_of(STAGED)
        engine.temporary(_REPLACED, "SELECT NULL AS staged_row, NULL AS target_row WHERE 1 = 0")
        return Changes(
            batch.table, batch.source_id, STAGED, _REPLACED, None, Loaded(inserted=rows), batch
        )


def match(engine: Engine, batch: Batch) -> str:
    """
    Find the rows whose keys the staged rows of *batch* have, where the engine has both.

    Returns the temporary table with their row ids, ``staged_row`` and ``target_row``. The rows of
    an event are searched only within the batch's span of time.
    """
    _Comparison(engine, batch).find_replaced()
    return _REPLACED


@dataclass(frozen=True)
class _Comparison:
    engine: Engine
    batch: Batch

    def changes(self) -> Changes:
        engine, table = self.engine, self.batch.table
        self.find_replaced()
        older = self._leave_out_older()
        self._settle_stamps()
        rows = self._rows_to_write() if older else STAGED
        unchanged = engine.scalar(f"SELECT count(*) FROM {_REPLACED} WHERE same")
        updated = engine.count_of(_REPLACED) - unchanged
        deletes = self.batch.deletes
        gone = self._find_gone() if deletes else 0
        removed = gone if deletes and self._may_remove(deletes, gone) else 0
        counts = Loaded(
            inserted=engine.count_of(rows) - updated - unchanged,
            updated=0 if table.events else updated,
            unchanged=unchanged,
            older=older,
            merged=updated if table.events else 0,
            deleted_upstream=gone,
            removed=removed,
            removal_refused=bool(deletes and deletes.remove and gone > removed),
        )
        return Changes(
            table=table,
            source_id=self.batch.source_id,
            rows=rows,
            replaced=_REPLACED,
            gone=_GONE if deletes else None,
            counts=counts,
            state=self.batch,
        )

    def find_replaced(self) -> None:
        """
        Match the keys first, then compare the few rows that match.

        In DuckDB a join that carries all columns may hold every row of the batch's span in
        memory: it took 300 MB more, and five times as long where few keys match.
        """
        engine, table = self.engine, self.batch.table
        row_id, target = engine.row_id, engine.name(table)
        stamps = "".join(
            f", t.{sql.quoted(column.name)} AS {sql.quoted(column.name)}"
            for column in sql.stamps(table)
        )
        matched = (
            f"SELECT s.{row_id} AS staged_row, t.{row_id} AS target_row"
            f" FROM {STAGED} s JOIN {target} t"
            " ON s.__sync_key = t.__sync_key AND s.__source_id = t.__source_id"
        )
        in_spans = [f"{matched} WHERE {span}" for span in self._spans()]
        engine.temporary(_MATCHED, " UNION ALL ".join(in_spans), by_index=True)
        engine.temporary(
            _REPLACED,
            f"SELECT {_MATCHED}.staged_row, {_MATCHED}.target_row,"
            " t.__sync_key, t.__synced_at AS loaded_at,"
            f" ({sql.same_contents(table, 's', 't')}) AS same{stamps}"
            f" FROM {_MATCHED} JOIN {STAGED} s ON s.{row_id} = {_MATCHED}.staged_row"
            f" JOIN {target} t ON t.{row_id} = {_MATCHED}.target_row",
            by_index=True,
        )

    def _spans(self) -> list[str]:
        """
        Limit the search for the batch's keys to its span of time, where equal keys are.

        A day's batch then costs the same however long the history is. Rows without a time are
        searched too: their text may not have converted then and may convert today. Separate
        conditions let DuckDB skip what it need not read; joined by OR they would not.
        """
        table = self.batch.table
        if table.time is None or self.batch.any_time or not self.engine.prunes_by_time:
            return ["true"]
        time = sql.quoted(table.time)
        first, last, untimed = self.engine.rows(
            f"SELECT min({time})::VARCHAR, max({time})::VARCHAR, count(*) > count({time})"
            f" FROM {STAGED}"
        )[0]
        if first is None or untimed:
            return ["true"]
        return [
            f"t.{time} BETWEEN TIMESTAMPTZ '{first}' AND TIMESTAMPTZ '{last}'",
            f"t.{time} IS NULL",
        ]

    def _leave_out_older(self) -> int:
        """
        Find staged rows whose row in the table is from a newer file, and leave them out.

        A row's file is known by its ``__synced_at``, which no two files share. Only a file that
        arrives late, or is read again, can be older than one in the file log. Of one time, the
        later name is newer, by its bytes, as files are read.
        """
        engine, batch = self.engine, self.batch
        if not batch.files or not engine.exists(FILES):
            return 0
        key = [batch.source_id, batch.table.name]
        oldest = min(entry.file.modified_at for entry in batch.files)
        newer = engine.scalar(
            f"SELECT count(*) FROM {engine.name(FILES)}"
            " WHERE source_id = ? AND table_name = ? AND modified_at >= ?",
            [*key, oldest],
        )
        if not newer:
            return 0
        self._stage_versions()
        engine.temporary(
            _OLDER,
            f"SELECT {_REPLACED}.staged_row FROM {_REPLACED}"
            f" JOIN {STAGED} ON {STAGED}.{engine.row_id} = {_REPLACED}.staged_row"
            f" JOIN {_VERSIONS} mine ON mine.loaded_at = {STAGED}.__synced_at"
            f" JOIN {engine.name(FILES)} theirs ON theirs.loaded_at = {_REPLACED}.loaded_at"
            " WHERE theirs.source_id = ? AND theirs.table_name = ?"
            f" AND (theirs.modified_at, theirs.name{engine.bytewise})"
            f" > (mine.modified_at, mine.name{engine.bytewise})",
            key,
        )
        engine.execute(
            f"DELETE FROM {_REPLACED} WHERE staged_row IN (SELECT staged_row FROM {_OLDER})"
        )
        return engine.count_of(_OLDER)

    def _stage_versions(self) -> None:
        one = "(?::TIMESTAMPTZ, ?::TIMESTAMPTZ, ?::VARCHAR)"
        versions = ", ".join(one for _ in self.batch.files)
        self.engine.temporary(
            _VERSIONS,
            f"SELECT * FROM (VALUES {versions}) AS files (loaded_at, modified_at, name)",
            [
                part
                for entry in self.batch.files
                for part in (entry.loaded_at, entry.file.modified_at, entry.file.name)
            ],
        )

    def _rows_to_write(self) -> str:
        # Not NOT IN: without room for its hash table, PostgreSQL compares each row with each.
        self.engine.temporary(
            _KEPT,
            f"SELECT * FROM {STAGED} WHERE NOT EXISTS (SELECT 1 FROM {_OLDER}"
            f" WHERE {_OLDER}.staged_row = {STAGED}.{self.engine.row_id})",
        )
        return _KEPT

    def _settle_stamps(self) -> None:
        """Keep a stamp if the rest of the row is the same, or if the new one is unknown."""
        for column in sql.stamps(self.batch.table):
            name = sql.quoted(column.name)
            self.engine.execute(
                f"UPDATE {STAGED} SET {name} = {_REPLACED}.{name} FROM {_REPLACED}"
                f" WHERE {STAGED}.{self.engine.row_id} = {_REPLACED}.staged_row"
                f" AND ({_REPLACED}.same OR {STAGED}.{name} IS NULL)"
            )

    def _find_gone(self) -> int:
        table = self.batch.table
        record_id = sql.quoted(table.record_id or "__sync_key")
        self.engine.temporary(
            _GONE,
            f"SELECT __sync_key, {record_id} AS record_id FROM {self.engine.name(table)} t"
            " WHERE __source_id = ? AND NOT EXISTS"
            f" (SELECT 1 FROM {SEEN_KEYS} seen WHERE seen.__sync_key = t.__sync_key)",
            [self.batch.source_id],
        )
        return self.engine.count_of(_GONE)

    def _may_remove(self, deletes: DeleteDetection, gone: int) -> bool:
        if not deletes.remove:
            return False
        rows = self.engine.scalar(
            f"SELECT count(*) FROM {self.engine.name(self.batch.table)} WHERE __source_id = ?",
            [self.batch.source_id],
        )
        return gone <= deletes.max_share * rows + 1e-6  # 0.29 * 100 is a little less.
