"""Compares staged records with the rows of the warehouse, and says which rows differ, in what."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from ometria_replica import sql
from ometria_replica.mapping import STAGED
from ometria_replica.raw_records import records_of
from ometria_replica.selection import Selection, Span, Times, Values
from ometria_replica.warehouse.comparison import match
from ometria_replica.warehouse.sessions import Part, reads
from ometria_replica.warehouse.state_tables import DELETED_UPSTREAM, FILES, RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from ometria_replica.batch import Batch, Lease
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.state.leases import Leases

Kind = Literal["missing", "stale", "extra"]

_PAIRS, _UNPAIRED, _JUDGED, _DIFFERING = "pairs", "unpaired", "judged", "differing"
_ROWS_AT_ONCE = 50_000
_MOST_UNPAIRED = 20_000  # Of one batch. If more are missing, not their times were changed.
_MOST_RUNS = 1000  # Of which the reports are read, as for lost rows.
_ROWS_COPIED = 1_000_000  # At once of a remote: some 300 MB.
_TICK, _SHORTEST = timedelta(microseconds=1), timedelta(seconds=1)
_ALL_TIME = Span(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Difference:
    """
    A row that differs from the staged record with its *key*.

    *columns* are the names of the columns that differ, with commas; None unless it is stale.
    *loaded_at* is the ``__synced_at`` of the row; None if it is missing. *is_logged* says that
    this names a file of the file log.
    """

    key: str
    kind: Kind
    columns: str | None
    loaded_at: datetime | None
    is_logged: bool


@dataclass(frozen=True)
class LoadedFile:
    """A version of an export file as the file log has it."""

    loaded_at: datetime
    unreadable: bool
    records: int


@dataclass(frozen=True)
class TooManyRemoved:
    """A run that removed the rows with these *keys*, although it might remove *most* at most."""

    run_id: str
    most: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Verification(Part):
    """Reads and compares rows. It writes temporary tables only, except to remove rows."""

    leases: Leases

    @property
    def restamps(self) -> bool:
        """Whether a full read gives each row that it finds a new ``__synced_at``."""
        return self._engine.rewrites_unchanged

    def compare(self, batch: Batch, *, from_files: bool) -> Iterator[list[Difference]]:
        """
        Compare the staged rows of *batch* with the table's; yield what differs, some at once.

        A row *from_files* may also be of a newer file: then it may hold anything. Staged rows
        have the ``__synced_at`` of their file in the file log.
        """
        with self.sessions.open(f"comparing {batch.table.name}"):
            if from_files:
                self._engine.refresh(FILES)
            self._engine.stage(batch)
            self._find_pairs(batch)
            yield from self._differences(batch, from_files=from_files)

    def rows(self, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Read rows; those of a remote, which are copied first, in parts."""
        with self.sessions.open(f"reading {table.name}"):
            if not self._engine.exists(table):
                return
            for part in self._parts(table, selection):
                yield from self._engine.read(table, part)

    @reads("reading the file log")
    def files(self, source_id: str, table_name: str) -> dict[tuple[str, str, int], LoadedFile]:
        """Map each version of a file in the file log, by name, ETag and size, to what is known."""
        self._engine.refresh(FILES)
        return {
            (name, etag, size): LoadedFile(loaded_at, unreadable is not None, records)
            for name, etag, size, loaded_at, unreadable, records in self._engine.rows(
                "SELECT name, etag, size, loaded_at, unreadable_because, records"
                f" FROM {self._readable(FILES)} WHERE source_id = ? AND table_name = ?",
                [source_id, table_name],
            )
        }

    @reads("reading what was deleted")
    def noted(self, source_id: str, table_name: str) -> list[str]:
        """List the keys of rows that are noted as deleted in Ometria, and still here."""
        found = self._engine.rows(
            f"SELECT sync_key FROM {self._readable(DELETED_UPSTREAM)}"
            " WHERE source_id = ? AND table_name = ? AND removed_at IS NULL",
            [source_id, table_name],
        )
        return [key for (key,) in found]

    @reads("reading what was removed")
    def removed_too_many(self, source_id: str, table_name: str) -> list[TooManyRemoved]:
        """List the runs that removed more rows of deleted records than their settings let them."""
        removed = self._engine.rows(
            f"SELECT sync_key, removed_at FROM {self._readable(DELETED_UPSTREAM)}"
            " WHERE source_id = ? AND table_name = ? AND removed_at IS NOT NULL",
            [source_id, table_name],
        )
        if not removed:
            return []
        runs = self._engine.rows(
            f"SELECT run_id, started_at, finished_at, report FROM {self._readable(RUNS)}"
            f" WHERE finished_at >= ? ORDER BY started_at DESC LIMIT {_MOST_RUNS}",
            [min(at for _, at in removed)],
        )
        found, own = [], (source_id, table_name)
        for run_id, started_at, finished_at, report in runs:
            for counts in json.loads(report).get("tables", ()):
                is_theirs = (counts.get("source_id"), counts.get("table")) == own
                most = counts.get("removable")  # None before this was noted.
                if is_theirs and most is not None and counts.get("removed", 0) > most:
                    keys = [key for key, at in removed if started_at <= at <= finished_at]
                    found.append(TooManyRemoved(run_id, most, tuple(keys)))
        return found

    def remove(self, table: Table, keys: Sequence[str], lease: Lease) -> int:
        """Remove rows by their keys, with their records. Raises Busy without the lease."""
        with self.sessions.writing(f"removing rows of {table.name}"):
            self.leases.renew(lease)
            selection = Selection(lease.source_id, Values("__sync_key", tuple(keys)))
            for raw in records_of(table):
                if self._engine.exists(raw):
                    self._engine.delete(raw, selection)
            return self._engine.delete(table, selection)

    # --- helpers ---

    def _find_pairs(self, batch: Batch) -> None:
        """
        Pair each staged row with the rows of its key; then look again for those without one.

        Equal keys have equal times, unless the time of a row was changed. And a sync may have
        written a row between the statements.
        """
        engine, table = self._engine, batch.table
        if not engine.exists(table):
            engine.temporary(_PAIRS, f"{_pair(table, STAGED)} WHERE 1 = 0")
            return
        row_id, replaced = engine.row_id, match(engine, batch)
        pair = _pair(table, engine.name(table))
        engine.temporary(
            _PAIRS,
            f"{pair} JOIN {replaced} r ON r.staged_row = s.{row_id} AND r.target_row = t.{row_id}",
            by_index=True,
        )
        engine.temporary(_UNPAIRED, f"SELECT __sync_key {self._unpaired}")
        keys = tuple(key for (key,) in engine.rows(f"SELECT __sync_key FROM {_UNPAIRED}"))
        if 0 < len(keys) <= _MOST_UNPAIRED:
            engine.prefetch(table, Selection(batch.source_id, Values("__sync_key", keys)))
            among = f"s.__sync_key IN (SELECT __sync_key FROM {_UNPAIRED})"
            engine.execute(f"INSERT INTO {_PAIRS} {pair} WHERE {among}")

    @property
    def _unpaired(self) -> str:
        return (
            f"FROM {STAGED} s WHERE NOT EXISTS"
            f" (SELECT 1 FROM {_PAIRS} p WHERE p.sync_key = s.__sync_key)"
        )

    def _judged(self, batch: Batch, *, from_files: bool) -> str:
        """Write the SELECT of the pairs: a row of a newer file is right, whatever it holds."""
        if not from_files:
            return f"SELECT *, true AS logged FROM {_PAIRS}"
        of_table = " AND ".join(
            f"{{0}}.{name} = {sql.literal(value)}"
            for name, value in (("source_id", batch.source_id), ("table_name", batch.table.name))
        )
        files, bytewise = self._readable(FILES), self._engine.bytewise
        joins = "".join(
            f" LEFT JOIN {files} {file} ON {file}.loaded_at = p.{at} AND {of_table.format(file)}"
            for file, at in (("mine", "staged_at"), ("theirs", "loaded_at"))
        )
        return (
            "SELECT p.sync_key, p.columns, p.loaded_at, p.same OR coalesce("
            f"(theirs.modified_at, theirs.name{bytewise}) > (mine.modified_at, mine.name{bytewise})"
            f", false) AS same, theirs.name IS NOT NULL AS logged FROM {_PAIRS} p{joins}"
        )

    def _differences(self, batch: Batch, *, from_files: bool) -> Iterator[list[Difference]]:
        engine = self._engine
        engine.temporary(_JUDGED, self._judged(batch, from_files=from_files))
        engine.temporary(
            _DIFFERING,
            "SELECT sync_key, 'stale' AS kind, min(columns) AS columns,"
            f" max(loaded_at) AS loaded_at, bool_and(logged) AS logged FROM {_JUDGED}"
            " GROUP BY sync_key HAVING NOT bool_or(same)"
            " UNION ALL SELECT sync_key, 'extra', NULL, max(loaded_at), bool_and(logged)"
            f" FROM {_JUDGED} GROUP BY sync_key HAVING count(*) > 1"
            f" UNION ALL SELECT s.__sync_key, 'missing', NULL, NULL, true {self._unpaired}",
        )
        for start in range(0, engine.count_of(_DIFFERING), _ROWS_AT_ONCE):
            yield [
                Difference(*row)
                for row in engine.rows(
                    f"SELECT sync_key, kind, columns, loaded_at, logged FROM {_DIFFERING}"
                    f" ORDER BY sync_key, kind LIMIT {_ROWS_AT_ONCE} OFFSET {start}"
                )
            ]

    def _parts(self, table: Table, selection: Selection) -> Iterator[Selection]:
        """Part a whole table of events of a remote, so that each copy has a bounded size."""
        is_whole = selection.times is None and selection.values is None
        rows = 0
        if not self._engine.commits_rows_with_state and table.time is not None and is_whole:
            rows = self._engine.count(table, selection)
        if rows <= _ROWS_COPIED or table.time is None:
            yield selection
            return
        yield replace(selection, times=Times(table.time, untimed=True))
        yield from self._halves(table.time, table, selection, _ALL_TIME)

    def _halves(
        self, time: str, table: Table, selection: Selection, span: Span
    ) -> Iterator[Selection]:
        part = replace(selection, times=Times(time, (span,)))
        rows = self._engine.count(table, part)
        if rows <= _ROWS_COPIED or span.last - span.first < _SHORTEST:
            if rows:
                yield part
            return
        middle = span.first + (span.last - span.first) / 2
        yield from self._halves(time, table, selection, Span(span.first, middle))
        yield from self._halves(time, table, selection, Span(middle + _TICK, span.last))


def _pair(table: Table, target: str) -> str:
    """Write the SELECT of pairs of staged rows *s* and rows *t* of *target* with equal keys."""
    same = _same(table)
    columns = ", ".join(_differs(name, condition) for name, condition in same.items())
    return (
        "SELECT s.__sync_key AS sync_key, s.__synced_at AS staged_at, t.__synced_at AS loaded_at,"
        f" ({' AND '.join(same.values())}) AS same, concat_ws(',', {columns}) AS columns"
        f" FROM {STAGED} s"
        f" JOIN {target} t ON s.__sync_key = t.__sync_key AND s.__source_id = t.__source_id"
    )


def _same(table: Table) -> Mapping[str, str]:
    """
    Write the condition that a staged row *s* and a row *t* agree, for each column by its name.

    A stamp is what a sync has asked for, and not what Ometria sent. Of the lineage only the
    account is compared: equal keys have one source, and the load time is ours.
    """
    compared = {column.name: f"({sql.same_column(column, 's', 't')})" for column in table.contents}
    return {**compared, "_account_id": "(s._account_id IS NOT DISTINCT FROM t._account_id)"}


def _differs(name: str, condition: str) -> str:
    return f"CASE WHEN NOT {condition} THEN {sql.literal(name)} END"
