"""
What a verification has read and found of one table, in temporary tables of the mapping DuckDB.

Python keeps no list of keys, since a table may have millions of rows: DuckDB can move what it
holds to the disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.mapping import STAGED, literal
from ometria_replica.verification.columns import RowExpressions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.verification import Difference

_READ, _BEFORE, _SHOWN, _FOUND, _ROWS = (
    "verify_read", "verify_before", "verify_shown", "verify_found", "verify_rows",
)  # fmt: skip
_SENT = "verify_sent"
_COLUMNS = {
    _READ: "key VARCHAR, contents UBIGINT, kept BOOLEAN",
    _SHOWN: "parent VARCHAR, since TIMESTAMPTZ",
    _ROWS: (
        "key VARCHAR, id VARCHAR, moment TIMESTAMPTZ, loaded_at TIMESTAMPTZ, person VARCHAR,"
        " is_blank BOOLEAN, outer_id VARCHAR"
    ),
    _FOUND: (
        "key VARCHAR, kind VARCHAR, columns VARCHAR, id VARCHAR, moment TIMESTAMPTZ,"
        " loaded_at TIMESTAMPTZ, logged BOOLEAN, person VARCHAR, why VARCHAR, outer_id VARCHAR"
    ),
}
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
    """What was read of *table*, and which of its rows differ. *row* writes what is kept of one."""

    connection: DuckDBPyConnection
    table: Table
    row: RowExpressions = field(init=False)

    def __post_init__(self) -> None:
        self.row = RowExpressions(self.table)
        for name, columns in _COLUMNS.items():
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")

    # --- what was read ---

    def note_staged(self) -> None:
        """
        Note what is staged, before the staging is finished: all copies, and who is left out.

        Two events may have one key, and the row is right if it is either of them.
        """
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_BEFORE} AS"
            f" SELECT __sync_key AS key, {self.row.contents} AS contents FROM {STAGED}"
        )

    def note_finished(self) -> None:
        """Note which of the noted records have a row, after the staging is finished."""
        self.connection.execute(
            f"INSERT INTO {_READ} SELECT key, contents,"
            f" key IN (SELECT __sync_key FROM {STAGED}) FROM {_BEFORE}"
        )
        if self.table.events:
            self.connection.execute(
                f"INSERT INTO {_SHOWN} SELECT {self.row.parent_of('s')},"
                f" min({self.row.time_of('s')}) FROM {STAGED} s GROUP BY ALL"
            )

    def checked(self) -> int:
        """Count the rows that were compared."""
        return self._count(f"SELECT count(DISTINCT key) FROM {_READ} WHERE kept")

    def parents(self) -> list[str]:
        """List the parents of which something was read, as their column holds them."""
        found = self._rows(f"SELECT DISTINCT parent FROM {_SHOWN} WHERE parent IS NOT NULL")
        return [parent for (parent,) in found]

    def forget_parents(self, ids: Iterable[str]) -> None:
        """Forget what is shown of these parents, of which not everything was read."""
        ids = list(ids)
        if not ids:
            return
        column = self.row.record_id
        if column is None or column.treatment is not None:  # Which they are is not known here.
            self.connection.execute(f"DELETE FROM {_SHOWN}")
            return
        self.connection.execute(f"DELETE FROM {_SHOWN} WHERE list_contains(?, parent)", [ids])

    # --- what differs ---

    def add(self, differences: Iterable[Sequence[Difference]]) -> None:
        """Take what a comparison of the staged rows has found, in place of what was known."""
        self.connection.execute(
            f"DELETE FROM {_FOUND} WHERE key IN (SELECT __sync_key FROM {STAGED})"
        )
        for some in differences:
            with self._sent(
                {
                    "key": [each.key for each in some],
                    "kind": [each.kind for each in some],
                    "columns": [each.columns for each in some],
                    "loaded_at": [each.loaded_at for each in some],
                    "logged": [each.is_logged for each in some],
                }
            ):
                self.connection.execute(
                    f"INSERT INTO {_FOUND} SELECT d.key, d.kind, d.columns, {self.row.id_of('s')},"
                    f" {self.row.time_of('s')}, d.loaded_at, d.logged, {self.row.person_of('s')},"
                    f" NULL, {self.row.outer_of('s')} FROM {_SENT} d"
                    f" JOIN {STAGED} s ON s.__sync_key = d.key"
                )

    def add_missing(self, keys: Sequence[str]) -> None:
        """Add rows that are missing, although Ometria no longer has their records."""
        with self._sent({"key": list(keys)}):
            self.connection.execute(
                f"INSERT INTO {_FOUND} (key, kind, logged) SELECT key, 'missing', true FROM {_SENT}"
            )

    def keep_differing(self) -> int:
        """Leave in the staging only the rows that differ; return how many."""
        self.connection.execute(
            f"DELETE FROM {STAGED} WHERE __sync_key NOT IN (SELECT key FROM {_FOUND}"
            " WHERE why IS NULL)"
        )
        return self._count(f"SELECT count(*) FROM {STAGED}")

    def forget_staged(self, why: str) -> None:
        """Explain the differences of the staged rows by *why*."""
        self.explain(why, f"key IN (SELECT __sync_key FROM {STAGED})", "true")

    def suspects(self, kind: str, most: int, column: str = "key") -> list[str]:
        """List keys of unexplained differences of a *kind*, or another *column* of them."""
        found = self._rows(
            f"SELECT DISTINCT {column} FROM {_FOUND} WHERE kind = {literal(kind)}"
            f" AND why IS NULL AND {column} IS NOT NULL ORDER BY ALL LIMIT {most}"
        )
        return [key for (key,) in found]

    def people(self, kind: str, most: int) -> dict[str, str]:
        """Map keys of unexplained differences of a *kind* to the ids of their profiles."""
        found = self._rows(
            f"SELECT key, person FROM {_FOUND} WHERE kind = {literal(kind)} AND why IS NULL"
            f" AND person IS NOT NULL ORDER BY ALL LIMIT {most}"
        )
        return {key: person for key, person, *_ in found}

    def forget_merged(self, rows: Iterable[pa.RecordBatch]) -> None:
        """Forget stale events whose row, one of *rows*, is another event of the same key."""
        for some in rows:
            with self._registered(some):
                self.connection.execute(
                    f"DELETE FROM {_FOUND} WHERE kind = 'stale' AND key IN"
                    f" (SELECT r.key FROM (SELECT __sync_key AS key, {self.row.contents}"
                    f" AS contents FROM {_SENT}) r JOIN {_READ} USING (key, contents))"
                )

    def explain(self, why: str, condition: str, kinds: str = "kind <> 'extra'") -> None:
        """Explain by *why* the differences for which a condition of SQL holds."""
        self.connection.execute(
            f"UPDATE {_FOUND} SET why = {literal(why)} WHERE why IS NULL AND {kinds}"
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
        with self._sent({"id": list(due), "moment": list(due.values())}):
            self.explain(
                why,
                f"moment IS NULL OR EXISTS (SELECT 1 FROM {_SENT} d WHERE d.id = {_FOUND}.id"
                f" AND {_FOUND}.moment >= d.moment)",
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
            for key, columns in self._rows(
                f"SELECT key, columns FROM {_FOUND} WHERE why IS NULL AND kind <> 'extra'"
            )
        }
        moved = [key for key in asked if key in first and not first[key] & again.get(key, set())]
        self._explain_keys("newer", moved, "kind <> 'extra'")

    def _explain_keys(self, why: str, keys: Sequence[str], kinds: str) -> None:
        if keys:
            with self._sent({"key": list(keys)}):
                self.explain(why, f"key IN (SELECT key FROM {_SENT})", kinds)

    # --- rows that were not read ---

    def add_rows(self, rows: Iterable[pa.RecordBatch], inside: str | None = None) -> None:
        """
        Take rows of the warehouse, among which are those whose records were not read.

        *inside* is a temporary table with the ids of records: only rows inside these are taken.
        """
        among = f" WHERE {self.row.outer_of('r')} IN (SELECT parent FROM {inside})"
        for some in rows:
            with self._registered(some):
                self.connection.execute(
                    f"INSERT INTO {_ROWS} SELECT __sync_key, {self.row.id_of('r')},"
                    f" {self.row.time_of('r')}, __synced_at, {self.row.person_of('r')},"
                    f" {self.row.is_blank('r')}, {self.row.outer_of('r')} FROM {_SENT} r"
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
        self.connection.execute(
            f"INSERT INTO {_FOUND} SELECT key, 'extra', NULL, id, moment, loaded_at, true, person,"
            f" NULL, outer_id FROM {_ROWS} r"
            f" WHERE NOT EXISTS (SELECT 1 FROM {_READ} WHERE key = r.key){left}",
            parameters,
        )

    def has_extra(self) -> bool:
        """Whether a row was found whose record was not read, explained or not."""
        return (
            self._count(f"SELECT count(*) FROM {_FOUND} WHERE kind = 'extra' AND {_IS_UNREAD}") > 0
        )

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
            with self._sent({"person": list(asked)}):
                self.explain_extra(
                    NEWER,
                    f"person IN (SELECT person FROM {_SENT}) AND"
                    f" (outer_id NOT IN (SELECT parent FROM {whole})"
                    f" OR key IN (SELECT __sync_key FROM {STAGED}))",
                )

    def explain_people(self, why: str, people: Sequence[str]) -> None:
        """Explain by *why* the extra rows of the profiles with these ids."""
        if people:
            with self._sent({"person": list(people)}):
                self.explain_extra(why, f"person IN (SELECT person FROM {_SENT})")

    def explain_unshown(self, why: str) -> None:
        """
        Explain by *why* the extra events before the first that Ometria shows, or without one.

        Ometria may keep no older ones, and shows none of a list that it has emptied.
        """
        self.explain_extra(
            why,
            f"moment IS NULL OR NOT EXISTS (SELECT 1 FROM {_SHOWN} s WHERE s.since <= moment"
            " AND s.parent IS NOT DISTINCT FROM " + ("id" if self.row.parent else "NULL") + ")",
        )

    def note_times(self, name: str, times: Sequence[datetime]) -> None:
        """Keep *times* in the temporary table *name*, for conditions."""
        with self._sent({"moment": times}):
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM {_SENT}")

    def seen_keys(self, name: str) -> None:
        """Keep the keys of all records that were read in the temporary table *name*."""
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT DISTINCT key AS __sync_key FROM {_READ}"
        )

    # --- results ---

    def count(self, kind: str, why: str | None = None) -> int:
        """Count the differences of a *kind* that are explained by *why*; None: by nothing."""
        return self._count(
            f"SELECT count(*) FROM {_FOUND} WHERE {_of(kind)} AND why"
            f" IS NOT DISTINCT FROM {'NULL' if why is None else literal(why)}"
        )

    def named(self, kind: str, why: str | None = None) -> tuple[Named, ...]:
        """Name the first differences, by their keys."""
        return tuple(
            Named(key, tuple(columns.split(",")) if columns else (), record_id)
            for key, columns, record_id in self._rows(
                f"SELECT key, columns, id FROM {_FOUND} WHERE {_of(kind)} AND why"
                f" IS NOT DISTINCT FROM {'NULL' if why is None else literal(why)}"
                f" ORDER BY key LIMIT {MOST_KEYS}"
            )
        )

    def columns(self, kind: str = "stale") -> tuple[str, ...]:
        """Name the columns that differ in any row, in the order of the table."""
        found = {
            name
            for (columns,) in self._rows(
                f"SELECT DISTINCT columns FROM {_FOUND} WHERE {_of(kind)} AND why IS NULL"
            )
            for name in (columns or "").split(",")
        }
        return tuple(each.name for each in self.table.all_columns if each.name in found)

    # --- helpers ---

    def _sent(self, columns: Mapping[str, Sequence[object]]) -> AbstractContextManager[None]:
        """Let the statements of a block read *columns*."""
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only to verify.

        texts, times = pa.string(), pa.timestamp("us", "UTC")
        types = {"loaded_at": times, "moment": times, "logged": pa.bool_()}
        return self._registered(
            pa.table(
                {name: pa.array(column, types.get(name, texts)) for name, column in columns.items()}
            )
        )

    @contextmanager
    def _registered(self, rows: pa.RecordBatch | pa.Table) -> Iterator[None]:
        """Let the statements of a block read *rows*."""
        self.connection.register(_SENT, rows)
        try:
            yield
        finally:
            self.connection.unregister(_SENT)

    def _rows(self, query: str) -> list[tuple[str, ...]]:
        return self.connection.execute(query).fetchall()

    def _count(self, query: str) -> int:
        ((number,),) = self.connection.execute(query).fetchall()
        return int(number)


_IS_UNREAD = f"key NOT IN (SELECT key FROM {_READ})"
"""Not a repeated row, whose record was read."""


def _of(kind: str) -> str:
    return f"kind = {literal(kind)}" if kind else "true"
