"""The rows of one table that differ from their records, and the reasons that are no fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.mapping import STAGED, literal
from ometria_replica.verification.columns import RowExpressions
from ometria_replica.verification.read_records import ReadRecords
from ometria_replica.verification.temporary_tables import (
    FOUND,
    READ,
    ROWS,
    SENT,
    SHOWN,
    VerificationTables,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.verification import Difference

NEWER, GONE, REPAIRED = "newer", "gone", "repaired"
"""Why a difference is no fault of the replica, or none any more."""

MOST_ASKED = 200  # Records that are asked for again, one by one: 50 seconds.
MOST_KEYS = 100
"""Keys of each kind of difference that a report names."""


@dataclass(frozen=True)
class Named:
    """A row that differs: its key, the columns that do, and an id that tells of nobody."""

    key: str
    columns: tuple[str, ...]
    id: str | None


@dataclass
class Findings:
    """
    Which rows of *table* differ, in temporary tables of *connection*.

    *records* are those that were read. *row* writes what is kept of a row.
    """

    connection: DuckDBPyConnection
    table: Table
    row: RowExpressions = field(init=False)
    records: ReadRecords = field(init=False)

    def __post_init__(self) -> None:
        self.row = RowExpressions(self.table)
        self._tables = VerificationTables(self.connection)
        self.records = ReadRecords(self._tables, self.table, self.row)

    # --- what differs ---

    def add(self, differences: Iterable[Sequence[Difference]]) -> None:
        """Take what a comparison of the staged rows has found, in place of what was known."""
        self._tables.connection.execute(
            f"DELETE FROM {FOUND} WHERE key IN (SELECT __sync_key FROM {STAGED})"
        )
        for some in differences:
            with self._tables.sent(
                {
                    "key": [each.key for each in some],
                    "kind": [each.kind for each in some],
                    "columns": [each.columns for each in some],
                    "loaded_at": [each.loaded_at for each in some],
                    "logged": [each.is_logged for each in some],
                }
            ):
                self._tables.connection.execute(
                    f"INSERT INTO {FOUND} SELECT d.key, d.kind, d.columns, {self.row.id_of('s')},"
                    f" {self.row.time_of('s')}, d.loaded_at, d.logged, {self.row.person_of('s')},"
                    f" NULL, {self.row.outer_of('s')} FROM {SENT} d"
                    f" JOIN {STAGED} s ON s.__sync_key = d.key"
                )

    def add_missing(self, keys: Sequence[str]) -> None:
        """Add rows that are missing, although Ometria no longer has their records."""
        with self._tables.sent({"key": list(keys)}):
            self._tables.connection.execute(
                f"INSERT INTO {FOUND} (key, kind, logged) SELECT key, 'missing', true FROM {SENT}"
            )

    def keep_differing(self) -> int:
        """Leave in the staging only the rows that differ; return how many."""
        self._tables.connection.execute(
            f"DELETE FROM {STAGED} WHERE __sync_key NOT IN (SELECT key FROM {FOUND}"
            " WHERE why IS NULL)"
        )
        return self._tables.count(f"SELECT count(*) FROM {STAGED}")

    def forget_staged(self, why: str) -> None:
        """Explain the differences of the staged rows by *why*."""
        self.explain(why, f"key IN (SELECT __sync_key FROM {STAGED})", "true")

    def suspects(self, kind: str, most: int, column: str = "key") -> list[str]:
        """List keys of unexplained differences of a *kind*, or another *column* of them."""
        found = self._tables.rows(
            f"SELECT DISTINCT {column} FROM {FOUND} WHERE kind = {literal(kind)}"
            f" AND why IS NULL AND {column} IS NOT NULL ORDER BY ALL LIMIT {most}"
        )
        return [key for (key,) in found]

    def people(self, kind: str, most: int) -> dict[str, str]:
        """Map keys of unexplained differences of a *kind* to the ids of their profiles."""
        found = self._tables.rows(
            f"SELECT key, person FROM {FOUND} WHERE kind = {literal(kind)} AND why IS NULL"
            f" AND person IS NOT NULL ORDER BY ALL LIMIT {most}"
        )
        return {key: person for key, person, *_ in found}

    def forget_merged(self, rows: Iterable[pa.RecordBatch]) -> None:
        """Forget stale events whose row, one of *rows*, is another event of the same key."""
        for some in rows:
            with self._tables.registered(some):
                self._tables.connection.execute(
                    f"DELETE FROM {FOUND} WHERE kind = 'stale' AND key IN"
                    f" (SELECT r.key FROM (SELECT __sync_key AS key, {self.row.contents}"
                    f" AS contents FROM {SENT}) r JOIN {READ} USING (key, contents))"
                )

    def explain(self, why: str, condition: str, kinds: str = "kind <> 'extra'") -> None:
        """Explain by *why* the differences for which a condition of SQL holds."""
        self._tables.connection.execute(
            f"UPDATE {FOUND} SET why = {literal(why)} WHERE why IS NULL AND {kinds}"
            f" AND ({condition})"
        )

    def explain_since(self, why: str, since: datetime) -> None:
        """Explain by *why* the differences of events from *since* on, and of those without time."""
        self.explain(why, f"moment IS NULL OR moment >= TIMESTAMPTZ '{since.isoformat()}'")

    def explain_due(self, why: str, due: Mapping[str, datetime]) -> None:
        """
        Explain by *why* the differences of events that are due to be read again.

        *due* maps each parent to the time from which it is.
        """
        column = self.row.record_id
        if not due:
            return
        if column is None or column.treatment is not None:
            self.explain_since(why, min(due.values()))
            return
        with self._tables.sent({"id": list(due), "moment": list(due.values())}):
            self.explain(
                why,
                f"moment IS NULL OR EXISTS (SELECT 1 FROM {SENT} d WHERE d.id = {FOUND}.id"
                f" AND {FOUND}.moment >= d.moment)",
            )

    def confirm(self, compared: Iterable[Sequence[Difference]], asked: Sequence[str]) -> None:
        """
        Keep the differences of the keys *asked* that are among those of a second comparison.

        The others have changed in between: a record that is gone, or that is as its row now.
        """
        again = {
            each.key: set((each.columns or "").split(",")) for some in compared for each in some
        }
        first = {
            key: set((columns or "").split(","))
            for key, columns in self._tables.rows(
                f"SELECT key, columns FROM {FOUND} WHERE why IS NULL AND kind <> 'extra'"
            )
        }
        moved = [key for key in asked if key in first and not first[key] & again.get(key, set())]
        self._explain_keys("newer", moved, "kind <> 'extra'")

    def _explain_keys(self, why: str, keys: Sequence[str], kinds: str) -> None:
        if keys:
            with self._tables.sent({"key": list(keys)}):
                self.explain(why, f"key IN (SELECT key FROM {SENT})", kinds)

    # --- rows that were not read ---

    def add_rows(self, rows: Iterable[pa.RecordBatch], inside: str | None = None) -> None:
        """
        Take rows of the warehouse, among which are those whose records were not read.

        *inside* is a temporary table with the ids of records: only rows inside these are taken.
        """
        among = f" WHERE {self.row.outer_of('r')} IN (SELECT parent FROM {inside})"
        for some in rows:
            with self._tables.registered(some):
                self._tables.connection.execute(
                    f"INSERT INTO {ROWS} SELECT __sync_key, {self.row.id_of('r')},"
                    f" {self.row.time_of('r')}, __synced_at, {self.row.person_of('r')},"
                    f" {self.row.is_blank('r')}, {self.row.outer_of('r')} FROM {SENT} r"
                    f"{among if inside else ''}"
                )

    def add_extra(self, *, may_be_blank: bool) -> None:
        """
        Add the rows whose records were not read to what differs; too old ones expire.

        A row that tells of nobody *may_be_blank* since an erasure, and then it has another key.
        """
        left = " AND NOT is_blank" if may_be_blank else ""
        parameters: list[object] = []
        if self.table.oldest is not None and self.table.time is not None:
            left += " AND (moment IS NULL OR moment >= ?)"
            parameters = [self.table.oldest]
        self._tables.connection.execute(
            f"INSERT INTO {FOUND} SELECT key, 'extra', NULL, id, moment, loaded_at, true, person,"
            f" NULL, outer_id FROM {ROWS} r"
            f" WHERE NOT EXISTS (SELECT 1 FROM {READ} WHERE key = r.key){left}",
            parameters,
        )

    def has_extra(self) -> bool:
        """Whether a row was found whose record was not read, explained or not."""
        unread = f"SELECT count(*) FROM {FOUND} WHERE kind = 'extra' AND {_IS_UNREAD}"
        return self._tables.count(unread) > 0

    def explain_extra(self, why: str, condition: str) -> None:
        """Explain by *why* the extra rows, other than repeated ones, for which it holds."""
        self.explain(why, condition, f"kind = 'extra' AND {_IS_UNREAD}")

    def explain_extra_keys(self, why: str, keys: Sequence[str]) -> None:
        """Explain by *why* the extra rows with these keys."""
        self._explain_keys(why, keys, f"kind = 'extra' AND {_IS_UNREAD}")

    def confirm_extra(self, whole: str, asked: Sequence[str]) -> None:
        """
        Keep the extra rows inside the profiles *asked* that are extra again; others have changed.

        What is inside the profiles is staged, and *whole* is the temporary table of their ids.
        """
        if asked:
            with self._tables.sent({"person": list(asked)}):
                self.explain_extra(
                    NEWER,
                    f"person IN (SELECT person FROM {SENT}) AND"
                    f" (outer_id NOT IN (SELECT parent FROM {whole})"
                    f" OR key IN (SELECT __sync_key FROM {STAGED}))",
                )

    def explain_people(self, why: str, people: Sequence[str]) -> None:
        """Explain by *why* the extra rows of the profiles with these ids."""
        if people:
            with self._tables.sent({"person": list(people)}):
                self.explain_extra(why, f"person IN (SELECT person FROM {SENT})")

    def explain_unshown(self, why: str) -> None:
        """
        Explain by *why* the extra events before the first that Ometria shows, or without one.

        Ometria may keep no older ones, and shows none of a list that it has emptied.
        """
        self.explain_extra(
            why,
            f"moment IS NULL OR NOT EXISTS (SELECT 1 FROM {SHOWN} s WHERE s.since <= moment"
            " AND s.parent IS NOT DISTINCT FROM " + ("id" if self.row.parent else "NULL") + ")",
        )

    def note_times(self, name: str, times: Sequence[datetime]) -> None:
        """Keep *times* in the temporary table *name*, for conditions."""
        with self._tables.sent({"moment": times}):
            self._tables.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM {SENT}")

    # --- results ---

    def count(self, kind: str, why: str | None = None) -> int:
        """Count the differences of a *kind* that are explained by *why*; None: by nothing."""
        return self._tables.count(
            f"SELECT count(*) FROM {FOUND} WHERE {_of(kind)} AND why"
            f" IS NOT DISTINCT FROM {'NULL' if why is None else literal(why)}"
        )

    def named(self, kind: str, why: str | None = None) -> tuple[Named, ...]:
        """Name the first differences, by their keys."""
        return tuple(
            Named(key, tuple(columns.split(",")) if columns else (), record_id)
            for key, columns, record_id in self._tables.rows(
                f"SELECT key, columns, id FROM {FOUND} WHERE {_of(kind)} AND why"
                f" IS NOT DISTINCT FROM {'NULL' if why is None else literal(why)}"
                f" ORDER BY key LIMIT {MOST_KEYS}"
            )
        )

    def columns(self, kind: str = "stale") -> tuple[str, ...]:
        """Name the columns that differ in any row, in the order of the table."""
        found = {
            name
            for (columns,) in self._tables.rows(
                f"SELECT DISTINCT columns FROM {FOUND} WHERE {_of(kind)} AND why IS NULL"
            )
            for name in (columns or "").split(",")
        }
        return tuple(each.name for each in self.table.all_columns if each.name in found)


_IS_UNREAD = f"key NOT IN (SELECT key FROM {READ})"
"""Not a repeated row, whose record was read."""


def _of(kind: str) -> str:
    return f"kind = {literal(kind)}" if kind else "true"
