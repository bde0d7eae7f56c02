"""
Warehouses that dlt loads: dlt merges the rows there, and the state is ours.

A warehouse has to answer SELECT, INSERT and DELETE with parameters, and hold tables of types
that dlt translates. Everything else happens in the local merge, so each of these warehouses
counts and decides as DuckDB does.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import arrow_schema
from ometria_replica.schema import ROW_KEY
from ometria_replica.selection import Dialect, Selection, Values, chunks, joined, to_sql
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse.remotes.base import Remote, StateChange
from ometria_replica.warehouse.remotes.dlt_destinations import Address
from ometria_replica.warehouse.remotes.dlt_errors import explained
from ometria_replica.warehouse.remotes.dlt_loader import PARAMETERS_AT_ONCE, DltLoader, Failed
from ometria_replica.warehouse.remotes.dlt_schemas import staging_schema
from ometria_replica.warehouse.remotes.dlt_state import DltState
from ometria_replica.warehouse.remotes.dlt_tables import DltTables, by_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ometria_replica.config import Limits
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.selection import Condition
    from ometria_replica.warehouse.remotes.base import Relation
    from ometria_replica.warehouse.remotes.dlt_destinations import Destination
    from ometria_replica.warehouse.upkeep import Maintained, Upkeep

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE = 5_000  # 180 KB of keys: ClickHouse takes no longer statement than 256 KiB.
MOST_SPANS = 100  # Spans of time in one query.


def open_destination(
    destination: Destination, url: str, limits: Limits, *, dry_run: bool = False
) -> DltRemote:
    """Open a URL of *destination*. Raises ConfigError for one that it cannot read."""
    return open_at(destination, Address.read(url), limits, dry_run=dry_run)


def open_at(
    destination: Destination,
    address: Address,
    limits: Limits,
    *,
    dry_run: bool = False,
    connects: bool = True,
) -> DltRemote:
    """
    Open an address of *destination*. Raises ConfigError for one with other parts.

    Not if it *connects*, only statements can be written.
    """
    options = {**destination.options(address), **({} if connects else destination.unconnected)}
    with ExitStack() as opening:
        folder = opening.enter_context(temp_folder(limits.temp_directory))
        loader = DltLoader(destination, destination.limited(options, limits, folder), folder)
        is_there = destination.is_there(address)
        if not is_there and not dry_run:
            destination.create(address)
            is_there = True
        return DltRemote(
            destination,
            loader,
            destination.place(address),
            opening.pop_all(),
            address=address,
            is_there=is_there,
        )


class DltRemote(Remote):
    """
    The warehouse *place* behind *loader*, which is one of *destination*'s.

    *address* names it. Without *is_there* nothing exists and nothing connects: a connection would
    create it.
    """

    def __init__(
        self,
        destination: Destination,
        loader: DltLoader,
        place: str,
        closing: ExitStack,
        *,
        address: Address | None = None,
        is_there: bool = True,
    ) -> None:
        self._address = address
        self._destination = destination
        self._loader = loader
        self.place = place
        self.batch_size = destination.batch_size
        self._closing = closing
        self._is_there = is_there
        self._tables = DltTables(destination, loader, is_there=is_there)
        self._state = DltState(loader, self._tables, destination.longest_text)

    @override
    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Failed as failed:
            raise explained(failed, doing, self.place) from failed

    # --- tables ---

    @override
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        return self._tables.columns(table)

    @override
    def look_up(self, tables: Sequence[Table | StateTable]) -> None:
        self._tables.look_up(tables)

    @override
    def create(self, tables: Sequence[Table | StateTable]) -> None:
        self._tables.create(tables)

    def create_statements(self, tables: Sequence[Table]) -> list[str]:
        """Write the statements of :meth:`create`, without a connection."""
        return self._tables.create_statements(tables)

    # --- rows ---

    @override
    def read(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        schema = arrow_schema(sql.columns_of(table))
        select = f"SELECT {self._tables.names(schema.names)} FROM {self._tables.name(table)}"
        for condition in self._conditions(joined(selection, MOST_SPANS)):
            yield from self._loader.fetch(
                f"{select} WHERE {condition.text}", schema, condition.parameters
            )

    @override
    def distinct(
        self,
        table: Table,
        source_id: str,
        columns: Sequence[str],
        *,
        containing: Sequence[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        schema = arrow_schema([(name, "text") for name in columns])
        (condition,) = self._conditions(Selection(source_id))
        found = self._loader.fetch(
            f"SELECT DISTINCT {self._tables.names(columns)} FROM {self._tables.name(table)}"
            f" WHERE {condition.text}{self._contains(columns, containing)}",
            schema,
            condition.parameters,
        )
        for some in found:
            yield from some.to_batches()

    @override
    def count(self, table: Table, selection: Selection) -> int:
        if not self.columns(table):
            return 0
        return sum(
            int(self._loader.rows(
                f"SELECT count(*) FROM {self._tables.name(table)} WHERE {condition.text}",
                condition.parameters,
            )[0][0])
            for condition in self._conditions(selection)
        )  # fmt: skip

    @override
    def newest(self, table: Table, column: str, selection: Selection) -> datetime | None:
        (condition,) = self._conditions(selection)
        found = self._loader.fetch(
            f"SELECT max({self._tables.names([column])}) AS newest FROM {self._tables.name(table)}"
            f" WHERE {condition.text}",
            arrow_schema([("newest", "timestamptz")]),
            condition.parameters,
        )
        return cast("datetime | None", pa.concat_tables(found)["newest"][0].as_py())

    @override
    def holding(self, tables: Sequence[Table], source_id: str) -> set[str]:
        """Count by one query, which returns one row for each table."""
        (condition,) = self._conditions(Selection(source_id))
        counts = [
            f"SELECT {place}, count(*) FROM {self._tables.name(table)} WHERE {condition.text}"
            for place, table in enumerate(tables)
        ]
        found = self._loader.rows(" UNION ALL ".join(counts), condition.parameters * len(tables))
        return {tables[int(place)].name for place, rows in found if rows}

    @override
    def replace(
        self,
        table: Table,
        touched: Selection,
        rows: Relation,
        *,
        adds: bool,
        gone: Sequence[str] = (),
    ) -> None:
        """Have dlt merge the rows, through a staging schema of the source's own."""
        schema = arrow_schema(sql.columns_of(table))
        self._loader.load(
            table.schema,
            staging_schema(touched.source_id or "", table.schema),
            self._tables.described(table, self._merge_scope(table, touched)),
            (batch.cast(schema) for batch in rows.reader()),
        )
        if gone:
            old = Values("__sync_key", tuple(gone))
            self.delete(table, Selection(touched.source_id, old))

    @override
    def delete(self, table: Table, selection: Selection) -> None:
        for condition in self._conditions(selection):
            self._loader.execute(
                f"DELETE FROM {self._tables.name(table)} WHERE {condition.text}",
                condition.parameters,
            )

    def _contains(self, columns: Sequence[str], parts: Sequence[str]) -> str:
        """
        Write the condition that a column contains one of *parts*; empty if there are none.

        By ``replace``, which each of these databases has, and without a %, which drivers read as
        a placeholder: what is sought is then more than asked for.
        """
        tests = [
            f"replace({name}, '{part.lstrip('%')}', '') <> {name}"
            for name in self._tables.quoted(columns)
            for part in parts
        ]
        return f" AND ({' OR '.join(tests)})" if tests else ""

    def _merge_scope(self, table: Table, touched: Selection) -> dict[str, str]:
        """
        Limit the rows that a merge of events may delete: those with its keys, in its time.

        Then the warehouse reads the days of the batch, and not the whole history. Rows without a
        time are read too, as the comparison does. All rows of a batch are of one source.
        """
        is_keyed_apart = table.key != ROW_KEY  # One column at a time would find other rows too.
        if table.time is None or is_keyed_apart or self._destination.strategy != "delete-insert":
            return {}
        time = self._loader.quoted(table.time)
        scope = " AND ".join(
            f"{name} IN (SELECT {name} FROM {{staging_table}})"
            for name in self._tables.quoted(ROW_KEY)
        )
        times = touched.times
        if times and times.spans and not times.untimed:
            first = self._loader.time_literal(times.spans[0].first)
            last = self._loader.time_literal(times.spans[-1].last)
            scope += f" AND ({time} IS NULL OR ({time} >= {first} AND {time} <= {last}))"
        return {"x-merge-destination-scope": scope}

    # --- state ---

    @override
    def read_state(self, tables: Sequence[StateTable]) -> list[pa.Table | None]:
        return self._state.read(tables)

    @override
    def write_state(self, changes: Sequence[StateChange]) -> None:
        self._state.write(changes)

    # --- the connection ---

    @override
    def check_access(self) -> None:
        """Do nothing: connecting and reading the state is all that can be tried."""

    @override
    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        """Empty the staging tables too: a load that was interrupted may have left rows there."""
        if not self._is_there:
            return ""
        for source_id in self._state.sources():
            for schema, of_schema in by_schema(tables):
                names = [table.name for table in of_schema]
                self._loader.empty(staging_schema(source_id, schema), names)
        if self._destination.forget and self._address:
            return self._destination.forget(self._loader, self._address, tables)
        return f"{self.place} {self._destination.keeps}"

    @override
    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:
        return None

    @property
    @override
    def maintains_itself(self) -> str:
        return f"{self.place} {self._destination.upkeep}"

    @override
    def detach(self) -> None:
        if self._destination.lets_go:
            self._loader.close()

    @override
    def close(self) -> None:
        """Remove dlt's notes and disconnect. A failure here comes after the work is done."""
        try:
            self._loader.forget_loads()
        except Failed as failed:
            logger.info("dlt's notes of this run stay: %s", failed)
        self._loader.close()
        self._closing.close()

    # --- statement text ---

    def _conditions(self, selection: Selection) -> Iterator[Condition]:
        """Write the selection exactly; only a reader may join its spans, and read more rows."""
        dialect = Dialect(
            name=self._loader.quoted, moment=self._loader.time_literal, placeholder="%s"
        )
        for part in chunks(selection, TEXTS_AT_ONCE, PARAMETERS_AT_ONCE):
            yield to_sql(part, dialect)
