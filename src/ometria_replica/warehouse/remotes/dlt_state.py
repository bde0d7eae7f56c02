"""
The state in a warehouse that dlt loads: read by one query, written by statements.

A package of dlt's costs seconds, so that only many rows are loaded by one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ometria_replica import sql
from ometria_replica.arrow_types import arrow_schema
from ometria_replica.failpoints import step
from ometria_replica.selection import in_parts
from ometria_replica.warehouse.remotes.dlt_loader import PARAMETERS_AT_ONCE, Failed, Trouble
from ometria_replica.warehouse.remotes.dlt_schemas import staging_schema
from ometria_replica.warehouse.remotes.dlt_state_union import StateUnion
from ometria_replica.warehouse.state_tables import ACCOUNTS, FILES, STATE_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.remotes.base import StateChange
    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader
    from ometria_replica.warehouse.remotes.dlt_tables import DltTables

logger = logging.getLogger(__name__)

ROWS_BY_STATEMENT = 100  # More state than this is loaded as rows are: a package costs seconds.


class DltState:
    """
    The state tables among *tables*, behind *loader*.

    No text is longer than *longest_text* bytes; None for any length.
    """

    def __init__(self, loader: DltLoader, tables: DltTables, longest_text: int | None) -> None:
        self._loader = loader
        self._tables = tables
        self._longest_text = longest_text

    def read(self, tables: Sequence[StateTable]) -> list[pa.Table | None]:
        """Read state tables by one query: each costs the way there and back, however small."""
        self._tables.look_up(STATE_TABLES)  # All at once: later calls read the others.
        there = [table for table in tables if self._tables.columns(table)]
        found = self._read_union(there) or [self._read_whole(table) for table in there]
        by_name = dict(zip((table.name for table in there), found, strict=True))
        return [by_name.get(table.name) for table in tables]

    def write(self, changes: Sequence[StateChange]) -> None:
        """Write few rows by statements, in one transaction, and many as rows are written."""
        statements: list[tuple[str, Sequence[object]]] = []
        with step("remote state"):
            for change in changes:
                table, gone, new = change.table, change.gone, self._storable(change.new)
                if new.num_rows > ROWS_BY_STATEMENT:
                    self._loader.execute_all(statements)  # In the order of the changes.
                    statements = []
                    gone = gone.join(new.select(table.key), list(table.key), join_type="left anti")
                    self._load_state(table, new)
                    new = new.slice(0, 0)
                statements += self._statements(table, gone, new)
            self._loader.execute_all(statements)

    def sources(self) -> set[str]:
        """Name the sources that have loaded rows; state of no source is the empty one's."""
        (accounts,) = self.read([ACCOUNTS])
        return {"", *(accounts.column("source_id").to_pylist() if accounts else ())}

    def _read_union(self, tables: Sequence[StateTable]) -> list[pa.Table]:
        """Read tables by one query; none of them where the warehouse does not take it."""
        if len(tables) < 2 or not self._tables.columns(FILES):
            return []
        union = StateUnion(tables)
        try:
            return union.apart(
                self._fetched(union.query(self._tables.name, self._loader.quoted), union.schema)
            )
        except Failed as failed:
            if failed.trouble is not Trouble.REFUSED:
                raise
            logger.info("the tables of the state are read one by one: %s", failed)
            return []

    def _read_whole(self, table: StateTable) -> pa.Table:
        schema = arrow_schema(table.columns)
        names, there = self._tables.names(schema.names), self._tables.name(table)
        return self._fetched(f"SELECT {names} FROM {there}", schema)

    def _fetched(self, query: str, schema: pa.Schema) -> pa.Table:
        return pa.concat_tables([schema.empty_table(), *self._loader.fetch(query, schema)])

    def _load_state(self, table: StateTable, rows: pa.Table) -> None:
        for source_id, of_source in _by_source(rows):
            self._loader.load(
                sql.schema_of(table),
                staging_schema(source_id),
                self._tables.described(table),
                of_source.to_batches(),
            )

    def _statements(
        self, table: StateTable, gone: pa.Table, new: pa.Table
    ) -> list[tuple[str, list[object]]]:
        there, key = self._tables.name(table), self._tables.quoted(table.key)
        names = self._tables.names(table.column_names)
        return [
            *(_delete(there, key, keys) for keys in _in_parts(gone, len(key))),
            *(_insert(there, names, rows) for rows in _in_parts(new, len(table.columns))),
        ]

    def _storable(self, rows: pa.Table) -> pa.Table:
        """
        Shorten rejected texts to the longest text that the warehouse holds.

        A NUL, which some warehouses hold in no text, becomes ``\N{SYMBOL FOR NULL}``.
        """
        if "raw" not in rows.column_names:
            return rows
        longest = self._longest_text
        cut = [
            raw if raw is None else _shortened(raw.replace("\0", "\N{SYMBOL FOR NULL}"), longest)
            for raw in rows.column("raw").to_pylist()
        ]
        place = rows.column_names.index("raw")
        return rows.set_column(place, "raw", pa.array(cut, pa.string()))


def _by_source(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Part rows of the state by their source; those of no source belong to the empty one."""
    if "source_id" not in rows.column_names:
        yield "", rows
        return
    sources = rows.column("source_id")
    for source_id in sources.unique():
        yield str(source_id), rows.filter(pc.equal(sources, source_id))


def _shortened(text: str, longest: int | None) -> str:
    """Keep as much of *text* as fits into *longest* bytes."""
    return text.encode()[:longest].decode(errors="ignore")


def _in_parts(rows: pa.Table, width: int) -> Iterator[Sequence[dict[str, Any]]]:
    return in_parts(rows.to_pylist(), max(1, PARAMETERS_AT_ONCE // width))


def _delete(
    table: str, names: Sequence[str], keys: Sequence[dict[str, Any]]
) -> tuple[str, list[object]]:
    one = " AND ".join(f"{name} = %s" for name in names)
    where = " OR ".join(f"({one})" for _ in keys)
    return f"DELETE FROM {table} WHERE {where}", [part for key in keys for part in key.values()]


def _insert(table: str, names: str, rows: Sequence[dict[str, Any]]) -> tuple[str, list[object]]:
    """Write an INSERT. Null is written out: BigQuery cannot type a parameter that is null."""
    values = ", ".join(
        "(" + ", ".join("NULL" if value is None else "%s" for value in row.values()) + ")"
        for row in rows
    )
    parameters = [value for row in rows for value in row.values() if value is not None]
    return f"INSERT INTO {table} ({names}) VALUES {values}", parameters
