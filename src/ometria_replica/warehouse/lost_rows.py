"""
Rows that the state says were loaded, and that are gone.

Their table was dropped, emptied, or replaced by an older copy. Of an older copy there is one sign
that no deletion leaves: a row that was replaced has the load time that it had before. So the
state notes the load time of a few rows that the last batch has replaced.

A table that this program has emptied itself, because its rows were too old or of people who were
erased, has lost none: the state notes when that was, and only later runs count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import (
    EMPTIED,
    EXPIRED,
    FILES,
    FULL_READ,
    POSITION,
    RUNS,
    WATERMARKS,
    WRITTEN,
)
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Table

_MOST_RUNS = 1000  # To look for rows of an account's empty table: three megabytes of reports.


@dataclass(frozen=True)
class Lost:
    """
    A table without the rows of *sources* that were loaded.

    *is_missing* if it is not there, *older_than* if it is as it was before that time.
    """

    table: Table
    sources: tuple[str, ...]
    is_missing: bool
    older_than: datetime | None = None

    def warning(self, *, dry_run: bool) -> str:
        """Say what was found, and what reads the rows again."""
        whose = ", ".join(self.sources)
        verb = "is" if dry_run else "was"
        found = f"{verb} missing" if self.is_missing else f"{verb} without rows of {whose}"
        since = " since" if self.older_than else ""
        if self.older_than:
            found = f"{verb} an older copy, from before {self.older_than:%Y-%m-%d %H:%M:%S} UTC"
        again = f"the next sync reads {whose} again" if dry_run else f"{whose} is read again"
        return (
            f"{self.table.full_name} {found}, although the state says that rows of {whose} were"
            f" loaded{since}: {again}, as far as Ometria and the export still have the data."
        )


@dataclass(frozen=True)
class LostRows(Part):
    """Finds lost rows. Within a session of the caller."""

    def of(self, tables: Catalog, source_id: str) -> Iterator[Lost]:
        """Find tables that are missing, for all sources, and those without rows of *source_id*."""
        sources = self._sources()
        there = [table for table in tables if self._engine.exists(table)]
        read = [table for table in there if source_id in sources.get(table.name, ())]
        holding = self._engine.holding(read, source_id) if read else set()
        older = self._older([table for table in read if table.name in holding], source_id)
        for table in tables:
            if table not in there and table.name in sources:
                yield Lost(table, sources[table.name], is_missing=True)
            elif (
                table in read and table.name not in holding and self._were_loaded(table, source_id)
            ):
                yield Lost(table, (source_id,), is_missing=False)
            elif table.name in older:
                yield Lost(table, (source_id,), is_missing=False, older_than=older[table.name])

    def _older(self, tables: Sequence[Table], source_id: str) -> dict[str, datetime]:
        """
        Find tables that are older copies, and since when they lack rows.

        Schemas are backed up as a whole, and of some tables no row is ever replaced. So where one
        table is an older copy, those of its schema without a row since then are too.
        """
        noted: dict[str, list[tuple[str, datetime]]] = {}
        for name, kind, at in self._engine.rows(
            f"SELECT table_name, kind, reached_at FROM {self._readable(WATERMARKS)}"
            " WHERE source_id = ? AND starts_with(kind, ?)",
            [source_id, WRITTEN],
        ):
            noted.setdefault(name, []).append((kind.removeprefix(WRITTEN), at))
        since: dict[str, datetime] = {}
        for table in tables:
            if table.name in noted and self._is_older(table, source_id, noted[table.name]):
                newest = max(at for _, at in noted[table.name])
                since[table.schema] = max(newest, since.get(table.schema, newest))
        return {
            table.name: since[table.schema]
            for table in tables
            if table.schema in since
            and not self._has_rows_since(table, source_id, since[table.schema])
        }

    def _is_older(
        self, table: Table, source_id: str, noted: Sequence[tuple[str, datetime]]
    ) -> bool:
        """Return whether a noted row has an earlier load time than the noted one."""
        if self._engine.prunes_by_time and self._has_rows_since(
            table, source_id, min(at for _, at in noted)
        ):
            return False  # Without an index, to look for keys would read them all.
        found = self._engine.rows(
            f"SELECT __sync_key, __synced_at FROM {self._engine.name(table)}"
            f" WHERE __source_id = ? AND {sql.among('__sync_key', noted)}",
            [source_id, *(key for key, _ in noted)],
        )
        return any(loaded_at < dict(noted)[key] for key, loaded_at in found)

    def _has_rows_since(self, table: Table, source_id: str, since: datetime) -> bool:
        return bool(
            self._engine.rows(
                f"SELECT 1 FROM {self._engine.name(table)}"
                " WHERE __source_id = ? AND __synced_at >= ? LIMIT 1",
                [source_id, since],
            )
        )

    def _sources(self) -> dict[str, tuple[str, ...]]:
        """List, by table, the sources of which it was read, and is not about to be read again."""
        found: dict[str, tuple[str, ...]] = {}
        for name, source_id in self._engine.rows(
            f"SELECT table_name, source_id FROM {self._readable(WATERMARKS)}"
            " WHERE kind NOT IN (?, ?)"
            f" UNION SELECT table_name, source_id FROM {self._readable(FILES)}"
            " WHERE NOT read_again ORDER BY table_name, source_id",
            [EXPIRED, EMPTIED],
        ):
            found[name] = (*found.get(name, ()), source_id)
        return found

    def _were_loaded(self, table: Table, source_id: str) -> bool:
        """
        Return whether a run loaded a row that should still be there.

        Of events that is any row since a removal left none, and of other tables one that the last
        full read found, or a later run, or an interrupted read. Ids of runs sort by time.
        """
        marks = {
            kind: (at, run_id)
            for kind, at, run_id in self._engine.rows(
                f"SELECT kind, reached_at, run_id FROM {self._readable(WATERMARKS)}"
                " WHERE source_id = ? AND table_name = ?",
                [source_id, table.name],
            )
        }
        if any(kind.startswith(POSITION) for kind in marks) and not isinstance(table.read, Inside):
            return True  # It has read records, which need not have anything inside.
        emptied_at, _ = marks.get(EMPTIED, (None, ""))
        _, first = marks.get(FULL_READ, (None, ""))
        since, parameters = (
            ("", []) if emptied_at is None else ("WHERE started_at > ?", [emptied_at])
        )
        runs = self._engine.rows(
            f"SELECT run_id, report FROM {self._readable(RUNS)} {since}"
            f" ORDER BY started_at DESC LIMIT {_MOST_RUNS}",
            parameters,
        )
        return any(
            counts.get("source_id") == source_id
            and counts.get("table") == table.name
            and any(counts.get(name) for name in ("inserted", "updated", "unchanged", "merged"))
            for run_id, report in runs
            if run_id >= first
            for counts in json.loads(report).get("tables", ())
        )
