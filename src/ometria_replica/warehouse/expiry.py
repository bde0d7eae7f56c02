"""Removes rows that are older than what their table keeps, in steps of bounded size."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.failpoints import step
from ometria_replica.raw_records import records_of
from ometria_replica.selection import Selection, Span, Times, Values, chunks
from ometria_replica.warehouse.remotes.base import retried
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import EXPIRED, FILES, REJECTS, WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ometria_replica.batch import Lease
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.state.leases import Leases
    from ometria_replica.warehouse.state.watermarks import Watermarks

ROWS_AT_ONCE = 1_000_000  # In DuckDB a second's work; a database may log each of them.
_KEYS_AT_ONCE = 1_000
_TICK = timedelta(microseconds=1)
_FIRST = datetime.min.replace(tzinfo=UTC)
_BEGINNING = datetime(2010, 1, 1, tzinfo=UTC)  # Few rows, if any, have an earlier time.


@dataclass(frozen=True)
class Expiry(Part):
    """
    Removes what has grown too old in one warehouse; *leases* and *watermarks* are its.

    The state notes the time up to which that was done: until it moves on there is nothing to do,
    since no row is loaded that is older.
    """

    leases: Leases
    watermarks: Watermarks
    rows_at_once: int = ROWS_AT_ONCE

    def remove(
        self, tables: Iterable[Table], lease: Callable[[], Lease], now: datetime
    ) -> Iterator[tuple[Table, int]]:
        """
        Remove the rows of the lease's source that are older than what each of *tables* keeps.

        Yields the number of rows of each step, which is a transaction of its own: after any of
        them another run can go on. With the rows go their rejects, and those of lines and records
        that were never rows, and what is inside the records. A dry run only counts, and not what
        is inside. *lease* gives the lease, from now on; raises Busy if another run has it.
        """
        tables = tuple(tables)
        done = self.done(lease().source_id)
        for table in tables:
            if done.get(table.name) == table.oldest:
                continue
            with step(f"expiry of {table.name}"):
                if table.oldest is None:
                    self._forget(lease().source_id, table)
                if table.oldest:
                    inside = [each for each in tables if each.is_inside(table)]
                    yield from self._remove(table, inside, lease, now)

    @reads("reading how far rows were removed")
    def done(self, source_id: str) -> dict[str, datetime]:
        """Map each table to the oldest time that was kept when its last removal ended."""
        return dict(
            self._engine.rows(
                f"SELECT table_name, reached_at FROM {self._readable(WATERMARKS)}"
                " WHERE source_id = ? AND kind = ?",
                [source_id, EXPIRED],
            )
        )

    @writes("noting that all rows are kept")
    def _forget(self, source_id: str, table: Table) -> None:
        """Forget that rows of a table were removed: it keeps all now, and older ones may come."""
        self.watermarks.forget(source_id, table.name, EXPIRED)

    def _remove(
        self, table: Table, inside: Sequence[Table], lease: Callable[[], Lease], now: datetime
    ) -> Iterator[tuple[Table, int]]:
        source_id = lease().source_id
        with self.sessions.open(f"looking for rows of {table.name} that are too old"):
            spans = list(self._spans(table, source_id))
        if self.sessions.dry_run:
            yield table, sum(count for _, count in spans)
            return
        for span, _ in spans:
            yield from retried(lambda span=span: self._remove_span(table, inside, lease(), span))  # type: ignore[misc] # mypy cannot infer a lambda's default.
        retried(lambda: self._finish(table, inside, lease(), now, is_changed=bool(spans)))

    # --- which rows ---

    def _spans(self, table: Table, source_id: str) -> Iterator[tuple[Span, int]]:
        """Part the time before the oldest that is kept into spans with few rows, and count them."""
        if table.oldest is None or table.time is None or not self._engine.exists(table):
            return
        until = table.oldest - _TICK
        count = self._count(table, source_id, Span(_FIRST, until))
        if count > self.rows_at_once and _FIRST < _BEGINNING <= until:
            early = Span(_FIRST, _BEGINNING - _TICK)
            before = self._count(table, source_id, early)
            yield from self._parts(table, source_id, early, before)
            yield from self._parts(table, source_id, Span(_BEGINNING, until), count - before)
        else:
            yield from self._parts(table, source_id, Span(_FIRST, until), count)

    def _parts(
        self, table: Table, source_id: str, span: Span, count: int
    ) -> Iterator[tuple[Span, int]]:
        """Halve a span until a part has few rows, or is as short as a time can be told."""
        if not count:
            return
        if count <= self.rows_at_once or span.last - span.first < 2 * _TICK:
            yield span, count
            return
        middle = span.first + (span.last - span.first) / 2
        early = Span(span.first, middle)
        before = self._count(table, source_id, early)
        yield from self._parts(table, source_id, early, before)
        yield from self._parts(table, source_id, Span(middle + _TICK, span.last), count - before)

    def _count(self, table: Table, source_id: str, span: Span) -> int:
        return self._engine.count(table, _within(table, source_id, span))

    # --- transactions ---

    def _remove_span(
        self, table: Table, inside: Sequence[Table], lease: Lease, span: Span
    ) -> list[tuple[Table, int]]:
        source_id = lease.source_id
        with self.sessions.writing(f"removing rows of {table.name} that are too old"):
            self.leases.renew(lease)
            self._forget_values(table, source_id, span)
            ids = self._ids(table, _within(table, source_id, span)) if inside else ()
            removed = [(each, self._remove_inside(each, source_id, ids)) for each in inside]
            with step("expiry"):
                selection = _within(table, source_id, span)
                for raw in records_of(table):
                    self._engine.delete_records(raw, table, selection)
                rows = self._engine.delete(table, selection)
            return [(table, rows), *removed]

    def _ids(self, table: Table, selection: Selection) -> tuple[str, ...]:
        """Read the ids of the records that are about to go."""
        self._engine.prefetch(table, selection)
        found = self._engine.rows(
            f"SELECT DISTINCT {sql.quoted(table.record_id or '')} FROM {self._engine.name(table)}"
            f" WHERE {sql.condition(selection)}"
        )
        return tuple(record_id for (record_id,) in found)

    def _remove_inside(self, table: Table, source_id: str, ids: tuple[str, ...]) -> int:
        """Remove the rows inside the records with *ids*, and their rejected values."""
        engine, column = self._engine, table.parent_column
        if column is None or not engine.exists(table):
            return 0
        keys, gone = self._rejected_keys(table, source_id), set(ids)
        for selection in chunks(
            Selection(source_id, Values("__sync_key", keys)), _KEYS_AT_ONCE, _KEYS_AT_ONCE
        ):
            engine.prefetch(table, selection)
            found = engine.rows(
                f"SELECT __sync_key, {sql.quoted(column.name)} FROM {engine.name(table)}"
                f" WHERE {sql.condition(selection)}"
            )
            if theirs := [key for key, record_id in found if record_id in gone]:
                engine.execute(
                    f"DELETE FROM {engine.name(REJECTS)} WHERE source_id = ? AND table_name = ?"
                    f" AND {sql.among('sync_key', theirs)}",
                    [source_id, table.name, *theirs],
                )
        with step("expiry inside"):
            return engine.delete(table, Selection(source_id, Values(column.name, ids)))

    def _finish(
        self,
        table: Table,
        inside: Sequence[Table],
        lease: Lease,
        now: datetime,
        *,
        is_changed: bool,
    ) -> None:
        """Note that nothing is left that is too old, and whether anything is left at all."""
        engine, key = self._engine, (lease.source_id, table.name)
        with self.sessions.writing(f"noting that rows of {table.name} were removed"):
            self._forget_lines(table, key)
            there = [each for each in (table, *inside) if is_changed and engine.exists(each)]
            if table.oldest:
                self.watermarks.put(*key, {EXPIRED: table.oldest}, lease.run_id)
            self.watermarks.note_emptied(lease.source_id, there, now, lease.run_id)

    def _forget_values(self, table: Table, source_id: str, span: Span) -> None:
        """Drop the rejected values of the rows that are about to go."""
        engine, key = self._engine, [source_id, table.name]
        rejects, keys = engine.name(REJECTS), self._rejected_keys(table, source_id)
        sought = _within(table, source_id, span, Values("__sync_key", keys))
        for selection in chunks(sought, _KEYS_AT_ONCE, _KEYS_AT_ONCE):
            engine.prefetch(table, selection)
            engine.execute(
                f"DELETE FROM {rejects} WHERE source_id = ? AND table_name = ? AND sync_key IN"
                f" (SELECT __sync_key FROM {engine.name(table)} WHERE {sql.condition(selection)})",
                key,
            )

    def _rejected_keys(self, table: Table, source_id: str) -> tuple[str, ...]:
        """Read the keys of rows of which a value was rejected."""
        found = self._engine.rows(
            f"SELECT DISTINCT sync_key FROM {self._engine.name(REJECTS)}"
            " WHERE source_id = ? AND table_name = ? AND sync_key IS NOT NULL",
            [source_id, table.name],
        )
        return tuple(text for (text,) in found)

    def _forget_lines(self, table: Table, key: Sequence[str]) -> None:
        """
        Drop the lines and records that were never rows, and are as old.

        Their own time is not known: they are older than the time at which they were rejected, and
        than their file, where the log has it. That a file could not be read is no one's data.
        """
        self._engine.execute(
            f"DELETE FROM {self._engine.name(REJECTS)} WHERE source_id = ? AND table_name = ?"
            " AND sync_key IS NULL AND position IS NOT NULL AND (rejected_at < ? OR origin IN"
            f" (SELECT name FROM {self._engine.name(FILES)} WHERE source_id = ? AND table_name = ?"
            " GROUP BY name HAVING max(modified_at) < ?))",
            [*key, table.oldest, *key, table.oldest],
        )


def _within(table: Table, source_id: str, span: Span, values: Values | None = None) -> Selection:
    return Selection(source_id, values, Times(table.time or "", (span,)))
