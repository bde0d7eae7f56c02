"""Rows that the state says were loaded, and that are gone: their table was dropped or emptied."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import FILES, FULL_READ, POSITION, RUNS, WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Table

_MOST_RUNS = 1000  # To look for rows of an account's empty table: three megabytes of reports.


@dataclass(frozen=True)
class Lost:
    """A table without the rows of *sources* that were loaded; *is_missing* if it is not there."""

    table: Table
    sources: tuple[str, ...]
    is_missing: bool

    def warning(self, *, dry_run: bool) -> str:
        """Say what was found, and what reads the rows again."""
        whose = ", ".join(self.sources)
        verb = "is" if dry_run else "was"
        found = f"{verb} missing" if self.is_missing else f"{verb} without rows of {whose}"
        again = f"the next sync reads {whose} again" if dry_run else f"{whose} is read again"
        return (
            f"{self.table.full_name} {found}, although the state says that rows of {whose} were"
            f" loaded: {again}, as far as Ometria and the export still have the data."
        )


@dataclass(frozen=True)
class LostRows(Part):
    """Finds lost rows. Within a session of the caller."""

    def of(self, tables: Catalog, source_id: str) -> Iterator[Lost]:
        """Find tables that are missing, for all sources, and those without rows of *source_id*."""
        sources = {table.name: self._sources(table) for table in tables}
        there = [table for table in tables if self._engine.exists(table)]
        read = [table for table in there if source_id in sources[table.name]]
        holding = self._engine.holding(read, source_id) if read else set()
        for table in tables:
            if table not in there and sources[table.name]:
                yield Lost(table, sources[table.name], is_missing=True)
            elif (
                table in read and table.name not in holding and self._were_loaded(table, source_id)
            ):
                yield Lost(table, (source_id,), is_missing=False)

    def _sources(self, table: Table) -> tuple[str, ...]:
        """List the sources of which a table was read, and is not about to be read again."""
        found = self._engine.rows(
            f"SELECT source_id FROM {self._readable(WATERMARKS)} WHERE table_name = ?"
            f" UNION SELECT source_id FROM {self._readable(FILES)}"
            " WHERE table_name = ? AND NOT read_again ORDER BY source_id",
            [table.name, table.name],
        )
        return tuple(source_id for (source_id,) in found)

    def _were_loaded(self, table: Table, source_id: str) -> bool:
        """
        Return whether a run loaded a row that should still be there.

        That is any row of events, which are never removed, and of other tables one that the last
        full read found, or a later run, or an interrupted read. Ids of runs sort by time.
        """
        run_ids = dict(
            self._engine.rows(
                f"SELECT kind, run_id FROM {self._readable(WATERMARKS)}"
                " WHERE source_id = ? AND table_name = ?",
                [source_id, table.name],
            )
        )
        if any(kind.startswith(POSITION) for kind in run_ids):
            return True
        first = run_ids.get(FULL_READ, "")
        runs = self._engine.rows(
            f"SELECT run_id, report FROM {self._readable(RUNS)}"
            f" ORDER BY started_at DESC LIMIT {_MOST_RUNS}"
        )
        return any(
            counts.get("source_id") == source_id
            and counts.get("table") == table.name
            and any(counts.get(name) for name in ("inserted", "updated", "unchanged", "merged"))
            for run_id, report in runs
            if run_id >= first
            for counts in json.loads(report).get("tables", ())
        )
