"""Rejects: what could not be loaded, and the replay that tries it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.batch import Loaded, Reject
from ometria_replica.failpoints import step
from ometria_replica.history import stored
from ometria_replica.local_duckdb import registered
from ometria_replica.mapping import REJECT_COLUMNS, REJECTED, conversion, file_reject
from ometria_replica.schema import HISTORY_SCHEMA
from ometria_replica.selection import Selection, Times, Values, in_parts
from ometria_replica.warehouse.changes import Changes
from ometria_replica.warehouse.sessions import Part, reads
from ometria_replica.warehouse.state_tables import EXPIRED, FILES, REJECTS, RETRY_FILE, WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Column, Table

_AT_ONCE = 1_000  # Values in one statement.
_KNOWN, _FILLED, _UNFILLED = "now_known", "filled", "unfilled"


@dataclass(frozen=True)
class Rejects(Part):
    """The rejects of one warehouse, with *tables*. Texts are converted in *mapping*, a DuckDB."""

    tables: Catalog
    mapping: DuckDBPyConnection

    @reads("reading the rejects")
    def newest(self, limit: int, source_ids: Collection[str] | None = None) -> list[Reject]:
        """Read the rejects, newest first; of all sources if *source_ids* is None."""
        names = (*REJECT_COLUMNS[1:], "rejected_at")
        chosen = sorted(source_ids or ())
        where = f" WHERE {sql.among('source_id', chosen)}" if chosen else ""
        return [
            Reject(**dict(zip(names, row, strict=True)))
            for row in self._engine.rows(
                f"SELECT {', '.join(names)} FROM {self._readable(REJECTS)}{where}"
                " ORDER BY rejected_at DESC, source_id, table_name, origin, position"
                f" LIMIT {limit:d}",
                chosen,
            )
        ]

    def write(self, changes: Changes, batch: Batch) -> None:
        """
        Add the rejects of records that were not loaded and of values in rows that are written.

        Drop those that the batch's rows and files resolve.
        """
        with step("rejects"):
            self._write_rows(changes, batch, REJECTED)
            unreadable = [
                file_reject(batch.source_id, batch.table.name, entry.file, entry.unreadable_because)
                for entry in batch.files
                if entry.unreadable_because is not None
            ]
            stamp = (batch.synced_at, batch.run_id)
            self._engine.replace(REJECTS, *([*reject.values(), *stamp] for reject in unreadable))

    def write_part(self, changes: Changes, batch: Batch, rejected: str) -> None:
        """Do the same for a part of *batch*, whose rejects are in the table *rejected*."""
        with step("rejects"):
            self._write_rows(changes, batch, rejected)
            if changes.removes:
                self._engine.execute(
                    f"DELETE FROM {self._engine.name(REJECTS)} WHERE source_id = ?"
                    f" AND table_name = ? AND sync_key IN (SELECT __sync_key FROM {changes.gone})",
                    [changes.source_id, changes.table.name],
                )

    def _may_change(self, changes: Changes, rejected: str) -> bool:
        """Return whether the batch or the warehouse has rejects: mostly neither has."""
        found = self._engine.rows(
            f"SELECT 1 WHERE EXISTS (SELECT 1 FROM {rejected}) OR EXISTS (SELECT 1"
            f" FROM {self._engine.name(REJECTS)} WHERE source_id = ? AND table_name = ?)",
            [changes.source_id, changes.table.name],
        )
        return bool(found)

    def _write_rows(self, changes: Changes, batch: Batch, rejected: str) -> None:
        """Drop the rejects that the batch resolves, and add its own."""
        if not self._may_change(changes, rejected):
            return
        rejects, key = self._engine.name(REJECTS), [changes.source_id, changes.table.name]
        resolved: list[tuple[str, list[str]]] = [
            (f"sync_key IN (SELECT __sync_key FROM {changes.rows})", []),
            (f"reject_id IN (SELECT reject_id FROM {rejected})", []),
        ]
        if files := [entry.file.name for entry in batch.files]:
            resolved.append((sql.among("origin", files), files))
        # One by one: of conditions with OR, PostgreSQL compares each row with each.
        for condition, values in resolved:
            self._engine.execute(
                f"DELETE FROM {rejects} WHERE source_id = ? AND table_name = ? AND {condition}",
                [*key, *values],
            )
        self._engine.execute(
            f"INSERT INTO {rejects} ({', '.join(REJECTS.column_names)})"
            f" SELECT DISTINCT ON (reject_id) {', '.join(REJECT_COLUMNS)},"
            f" ?::TIMESTAMPTZ, ?::VARCHAR FROM {rejected}"
            f" WHERE sync_key IS NULL OR sync_key IN (SELECT __sync_key FROM {changes.rows})"
            " ORDER BY reject_id, origin, position",
            [batch.synced_at, batch.run_id],
        )

    def replay(self, source_id: str) -> int:
        """
        Convert rejected values again, and return how many convert now.

        The next run reads the files again that could not be read, in whole or in part.
        """
        with self.sessions.writing("replaying rejects"):
            return self._replay(source_id)

    def _replay(self, source_id: str) -> int:
        files, rejects = self._engine.name(FILES), self._engine.name(REJECTS)
        self._engine.execute(
            f"UPDATE {files} SET read_again = true WHERE source_id = ?"
            " AND (unreadable_because IS NOT NULL OR EXISTS (SELECT 1"
            f" FROM {rejects} r WHERE r.source_id = {files}.source_id"
            f" AND r.table_name = {files}.table_name AND r.origin = {files}.name"
            " AND r.sync_key IS NULL))",
            [source_id],
        )
        self._engine.execute(
            f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ?"
            " AND (starts_with(kind, ?) OR kind = ?)",
            [source_id, RETRY_FILE, EXPIRED],  # A time that converts now may be too old.
        )
        return sum(
            self._convert_again(source_id, table, column)
            for table in self.tables
            for column in table.columns
            if column.type != "text"
        )

    def _convert_again(self, source_id: str, table: Table, column: Column) -> int:
        rejected = self._engine.rows(
            f"SELECT reject_id, sync_key, raw FROM {self._engine.name(REJECTS)}"
            " WHERE source_id = ? AND table_name = ? AND column_name = ?"
            " ORDER BY rejected_at, reject_id",
            [source_id, table.name, column.name],
        )
        values = _converted(self.mapping, column, [raw for *_, raw in rejected])
        found = [
            (reject_id, key, value)
            for (reject_id, key, _), value in zip(rejected, values, strict=True)
            if value is not None
        ]
        for some in in_parts(found, _AT_ONCE):
            of_keys = {key: value for _, key, value in some}
            for each in stored(table):
                if each is table or self._engine.exists(each):
                    self._fill_in(source_id, each, column, of_keys)
            self._engine.execute(
                f"DELETE FROM {self._engine.name(REJECTS)} WHERE {sql.among('reject_id', some)}",
                [reject_id for reject_id, *_ in some],
            )
        return len(found)

    def _fill_in(
        self, source_id: str, table: Table, column: Column, values: Mapping[str, Any]
    ) -> None:
        """
        Put values, by the ``__sync_key`` of their rows, where the column is null.

        A value that came since then stays, and so do versions that have ended.
        """
        engine, name, kind = (
            self._engine,
            sql.quoted(column.name),
            self._engine.types[column.type],
        )
        is_history = table.schema == HISTORY_SCHEMA
        held = Times("valid_to", untimed=True) if is_history else None
        engine.prefetch(table, Selection(source_id, Values("__sync_key", tuple(values)), held))
        places = ", ".join(f"(?::VARCHAR, ?::{kind})" for _ in values)
        engine.temporary(
            _KNOWN,
            f"SELECT * FROM (VALUES {places}) AS found (key, converted)",
            [part for pair in values.items() for part in pair],
        )
        engine.temporary(
            _UNFILLED,
            f"SELECT t.{engine.row_id} AS target_row FROM {engine.name(table)} t"
            f" JOIN {_KNOWN} ON t.__sync_key = {_KNOWN}.key"
            f" WHERE t.__source_id = ? AND t.{name} IS NULL"
            f"{' AND t.valid_to IS NULL' if is_history else ''}",
            [source_id],
            by_index=True,
        )
        others = [f"t.{sql.quoted(c.name)}" for c in table.all_columns if c.name != column.name]
        engine.temporary(
            _FILLED,
            f"SELECT {', '.join(others)}, {_KNOWN}.converted AS {name} FROM {engine.name(table)} t"
            f" JOIN {_UNFILLED} ON t.{engine.row_id} = {_UNFILLED}.target_row"
            f" JOIN {_KNOWN} ON t.__sync_key = {_KNOWN}.key",
        )
        filled = engine.count_of(_FILLED)
        if filled:
            engine.apply(
                Changes(
                    table, source_id, _FILLED, _UNFILLED, None, Loaded(updated=filled), state=None
                )
            )


def _converted(
    mapping: DuckDBPyConnection, column: Column, texts: Sequence[str | None]
) -> list[Any]:
    """Convert *texts* as the mapping does: None for a text that does not convert."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a replay needs it.

    from ometria_replica.arrow_types import text_array  # noqa: PLC0415 -- It imports pyarrow.

    with registered(mapping, "rejected_texts", pa.table({"raw": text_array(texts)})):
        found = mapping.execute(f"SELECT {conversion('raw', column)} FROM rejected_texts")
        return [value for (value,) in found.fetchall()]
