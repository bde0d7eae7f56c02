"""
The bridge to the warehouses that dlt loads: rows are merged there by dlt, and state is ours.

What a warehouse must be asked is plain: SELECT, INSERT and DELETE with parameters, and
tables made of types that dlt translates. All else happens in the memory of a
LocalMergeEngine, so that each warehouse behind the bridge counts and decides as DuckDB does.
"""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.local_duckdb import open_staging
from ometria_replica.mapping import STAGED
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.local_merge import LocalMergeEngine
from ometria_replica.warehouse.remotes.dlt_destinations import Address
from ometria_replica.warehouse.remotes.dlt_loader import (
    TYPES,
    DltLoader,
    Failed,
    Trouble,
    arrow_schema,
    described,
)
from ometria_replica.warehouse.state_tables import STATE_SCHEMA, STATE_TABLES
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.local_merge import Wanted
    from ometria_replica.warehouse.remotes.dlt_destinations import Destination
    from ometria_replica.warehouse.state_tables import StateTable

logger = logging.getLogger(__name__)

STAGING_PREFIX = "ometria_staging_"

KEYS_AT_ONCE = 5_000  # 180 KB of SQL: ClickHouse takes no longer statement than 256 KiB.
PARAMETERS_AT_ONCE = 200  # Databricks takes 255.
ROWS_BY_STATEMENT = 100  # More state than this goes as rows do: a package costs seconds.
MOST_SPANS = 100  # Stretches of days in one query.


def opening(destination: Destination) -> Callable[..., BridgedWarehouse]:
    """Make the function that opens a URL of *destination*."""

    def open_url(url: str, *, dry_run: bool = False) -> BridgedWarehouse:
        return BridgedWarehouse(destination, Address.read(url), dry_run=dry_run)

    return open_url


class BridgedWarehouse(Warehouse):
    """The warehouse at *address*, which is one of *destination*'s."""

    def __init__(self, destination: Destination, address: Address, *, dry_run: bool) -> None:
        options = destination.options(address)  # First: what is wrong there is said at once.
        closing = ExitStack()
        staging = open_staging(closing)
        folder = closing.enter_context(temp_folder())
        courier = DltLoader(destination, options, folder)
        engine = BridgeEngine(staging, destination, courier, destination.place(address))
        engine.is_empty = dry_run and not destination.is_there(address)
        super().__init__(staging, engine, closing, dry_run=dry_run)
        self.batch_size = destination.batch_size


@dataclass(frozen=True)
class Sending:
    """What is known of the rows that are sent: whose, and the span of their time."""

    source_id: str
    first: datetime | None = None
    last: datetime | None = None


class BridgeEngine(LocalMergeEngine):
    """
    The place that *courier* carries rows to.

    While it *is_empty*, nothing is there and nobody connects: to look would make it.
    """

    is_empty = False

    def __init__(
        self, staging: DuckDBPyConnection, destination: Destination, courier: DltLoader, place: str
    ) -> None:
        super().__init__(staging, place)
        self._destination = destination
        self._courier = courier
        self._known: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._sending = Sending("")

    # --- what the place must do ---

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """See the base."""
        try:
            yield
        except Failed as failed:
            raise _explained(failed, doing, self.place) from failed

    def far_columns(self, table: Table) -> list[tuple[str, str]]:
        """See the base."""
        there = self._columns(DATA_SCHEMA, [table.name])[table.name]
        kinds = {TYPES[column.type]: self.types[column.type] for column in table.all_columns}
        return [(name, kinds.get(kind, kind)) for name, kind in there]

    def make_far_table(self, table: Table) -> None:
        """See the base."""
        self._courier.make(DATA_SCHEMA, [self._described(table)])

    def make_far_state(self) -> None:
        """See the base."""
        there = self._columns(STATE_SCHEMA, [table.name for table in STATE_TABLES])
        missing = [table for table in STATE_TABLES if not there[table.name]]
        if missing:
            self._courier.make(STATE_SCHEMA, [self._described_state(table) for table in missing])

    def read_state(self, table: StateTable) -> pa.Table | None:
        """See the base."""
        names = [each.name for each in STATE_TABLES]
        if not self._columns(STATE_SCHEMA, names)[table.name]:
            return None
        schema = arrow_schema(table.columns)
        query = f"SELECT {self._names(schema.names)} FROM {self._far_state(table)}"
        return pa.concat_tables([schema.empty_table(), *self._courier.fetch(query, schema)])

    def write_state(self, table: StateTable, gone: pa.Table, new: pa.Table) -> None:
        """See the base. Much of it is merged as rows are; a little takes two statements."""
        new = self._storable(new)
        if new.num_rows > ROWS_BY_STATEMENT:
            gone = gone.join(new.select(table.key), list(table.key), join_type="left anti")
            self._courier.carry(
                STATE_SCHEMA, self._staging_name(), self._described_state(table), new.to_batches()
            )
            new = new.slice(0, 0)
        there, key = self._far_state(table), self._quoted_names(table.key)
        names = self._names(table.column_names)
        statements = [
            *(_delete(there, key, keys) for keys in _in_chunks(gone.to_pylist(), len(key))),
            *(
                _insert(there, names, rows)
                for rows in _in_chunks(new.to_pylist(), len(table.columns))
            ),
        ]
        if statements:
            self._courier.execute_all(statements)

    def fetch(self, table: Table, wanted: Wanted) -> Iterable[pa.Table]:
        """See the base."""
        schema = arrow_schema((column.name, column.type) for column in table.all_columns)
        select = f"SELECT {self._names(schema.names)} FROM {self._far(table)}"
        of_source = f" WHERE {self._courier.quoted('__source_id')} = %s"
        mine = [wanted.source_id] if wanted.source_id else []
        base = select + (of_source if mine else " WHERE 1 = 1")
        if wanted.days is not None:
            yield from self._courier.fetch(
                f"{base} AND {self._on(table, wanted.days)}", schema, mine
            )
            return
        if wanted.keys is None:
            yield from self._courier.fetch(base, schema, mine)
            return
        for start in range(0, len(wanted.keys), KEYS_AT_ONCE):
            keys = self._among(wanted.keys[start : start + KEYS_AT_ONCE])
            yield from self._courier.fetch(f"{base} AND {keys}", schema, mine)

    def send(self, table: Table, rows: pa.RecordBatchReader) -> None:
        """See the base."""
        schema = arrow_schema((column.name, column.type) for column in table.all_columns)
        batches = (batch.cast(schema) for batch in rows)
        self._courier.carry(DATA_SCHEMA, self._staging_name(), self._described(table), batches)

    def remove(self, table: Table, keys: Sequence[str]) -> None:
        """See the base."""
        for start in range(0, len(keys), KEYS_AT_ONCE):
            among = self._among(keys[start : start + KEYS_AT_ONCE])
            self._courier.execute(f"DELETE FROM {self._far(table)} WHERE {among}")

    def count_rows(self, table_name: str, source_id: str) -> int:
        """See the base."""
        if not self._columns(DATA_SCHEMA, [table_name])[table_name]:
            return 0
        ((count,),) = self._courier.rows(
            f"SELECT count(*) FROM {self._courier.qualified(DATA_SCHEMA, table_name)}"
            f" WHERE {self._courier.quoted('__source_id')} = %s",
            [source_id],
        )
        return int(count)

    # --- what every engine does ---

    def replace_rows(self, table: Table) -> None:
        """See the base. Without rows there is nothing to send, and a package costs seconds."""
        time_column = sql.quoted(table.time) if table.time else "NULL::TIMESTAMPTZ"
        (found,) = self.rows(
            f"SELECT min(__source_id), min({time_column}), max({time_column}),"
            f" count(*) > count({time_column}) FROM {STAGED}"
        )
        source_id, first, last, untimed = found
        if source_id is None:
            return
        self._sending = Sending(source_id, *((None, None) if untimed else (first, last)))
        super().replace_rows(table)

    def try_access(self) -> None:
        """See the base: that the place was reached and its state read is all that can be told."""

    def release(self) -> None:
        """See the base."""
        if self._destination.lets_go:
            self._courier.close()

    def close(self) -> None:
        """See the base. A failure here comes after all that was asked for."""
        try:
            self._courier.forget_loads()
        except Failed as failed:
            logger.info("dlt's notes of this run stay: %s", failed)
        self._courier.close()

    # --- helpers ---

    def _columns(self, dataset: str, names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """Ask for the columns of tables, but not again for those of a table that was there."""
        if self.is_empty:
            return {name: [] for name in names}
        unknown = [name for name in names if not self._known.get((dataset, name))]
        if unknown:
            for name, columns in self._courier.columns(dataset, unknown).items():
                self._known[dataset, name] = columns
        return {name: self._known[dataset, name] for name in names}

    def _described(self, table: Table) -> dict[str, Any]:
        layout = self._destination.layout(table)
        return described(
            table.name,
            [(column.name, column.type) for column in table.all_columns],
            ["__sync_key"],
            self._destination.strategy,
            table_hints={**layout.table, **self._scope(table)},
            column_hints=layout.columns,
        )

    def _described_state(self, table: StateTable) -> dict[str, Any]:
        return described(table.name, table.columns, table.key, self._destination.strategy)

    def _scope(self, table: Table) -> dict[str, str]:
        """
        Tell which rows a merge of events may delete: those with its keys, in its span of time.

        So that the warehouse looks at the days of the batch, and not at the whole history.
        Rows without a time are looked at besides, as the comparison does.
        """
        if table.time is None or self._destination.strategy != "delete-insert":
            return {}
        key, time_column = (self._courier.quoted(name) for name in ("__sync_key", table.time))
        scope = f"{key} IN (SELECT {key} FROM {{staging_table}})"
        if self._sending.first and self._sending.last:
            first, last = (
                self._courier.time_literal(moment)
                for moment in (self._sending.first, self._sending.last)
            )
            scope += (
                f" AND ({time_column} IS NULL OR ({time_column} >= {first}"
                f" AND {time_column} <= {last}))"
            )
        return {"x-merge-destination-scope": scope}

    def _staging_name(self) -> str:
        """Name the schema of dlt's staging: one a source, since sources are loaded side by side."""
        return STAGING_PREFIX + md5(self._sending.source_id.encode()).hexdigest()[:8]  # noqa: S324

    def _on(self, table: Table, days: Sequence[date]) -> str:
        """Write the condition that a row is of one of *days*, or has no time."""
        column = self._courier.quoted(str(table.time))
        spans = [
            f"({column} >= {self._courier.time_literal(_midnight(first))}"
            f" AND {column} < {self._courier.time_literal(_midnight(last) + timedelta(days=1))})"
            for first, last in _spans(days)
        ]
        return f"({' OR '.join([*spans, f'{column} IS NULL'])})"

    def _among(self, keys: Sequence[str]) -> str:
        """Write the condition that a row has one of *keys*, which are hashes and need no care."""
        if not all(_HASH.fullmatch(key) for key in keys):
            raise ValueError("A __sync_key is no MD5 hash.")
        texts = ", ".join(f"'{key}'" for key in keys)
        return f"{self._courier.quoted('__sync_key')} IN ({texts})"

    def _storable(self, rows: pa.Table) -> pa.Table:
        """
        Make what was set aside fit to be stored: shortened to what the warehouse holds.

        A NUL, which some hold in no text, is shown as ``\N{SYMBOL FOR NULL}``.
        """
        if "raw" not in rows.column_names:
            return rows
        longest = self._destination.longest_text
        cut = [
            raw if raw is None else _shortened(raw.replace("\0", "\N{SYMBOL FOR NULL}"), longest)
            for raw in rows.column("raw").to_pylist()
        ]
        place = rows.column_names.index("raw")
        return rows.set_column(place, "raw", pa.array(cut, pa.string()))

    def _far(self, table: Table) -> str:
        return self._courier.qualified(DATA_SCHEMA, table.name)

    def _far_state(self, table: StateTable) -> str:
        return self._courier.qualified(STATE_SCHEMA, table.name)

    def _quoted_names(self, names: Sequence[str]) -> list[str]:
        return [self._courier.quoted(name) for name in names]

    def _names(self, names: Sequence[str]) -> str:
        return ", ".join(self._quoted_names(names))


_HASH = re.compile(r"[0-9a-f]{32}")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _spans(days: Sequence[date]) -> list[tuple[date, date]]:
    """Join *days*, which are in order, to stretches; to one where they would be too many."""
    spans: list[tuple[date, date]] = []
    for day in days:
        if spans and day - spans[-1][1] <= timedelta(days=1):
            spans[-1] = (spans[-1][0], day)
        else:
            spans.append((day, day))
    return [(spans[0][0], spans[-1][1])] if len(spans) > MOST_SPANS else spans


def _shortened(text: str, longest: int | None) -> str:
    """Leave as much of *text* as fits into *longest* bytes."""
    return text.encode()[:longest].decode(errors="ignore")


def _in_chunks(rows: list[dict[str, Any]], width: int) -> Iterator[list[dict[str, Any]]]:
    size = max(1, PARAMETERS_AT_ONCE // width)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _delete(
    table: str, names: Sequence[str], keys: Sequence[dict[str, Any]]
) -> tuple[str, list[object]]:
    one = " AND ".join(f"{name} = %s" for name in names)
    where = " OR ".join(f"({one})" for _ in keys)
    return f"DELETE FROM {table} WHERE {where}", [part for key in keys for part in key.values()]


def _insert(table: str, names: str, rows: Sequence[dict[str, Any]]) -> tuple[str, list[object]]:
    """Write an INSERT. Null is written out: BigQuery knows no type of a parameter that is."""
    values = ", ".join(
        "(" + ", ".join("NULL" if value is None else "%s" for value in row.values()) + ")"
        for row in rows
    )
    parameters = [value for row in rows for value in row.values() if value is not None]
    return f"INSERT INTO {table} ({names}) VALUES {values}", parameters


def _explained(failed: Failed, doing: str, place: str) -> WarehouseError:
    """Say what a failure of dlt's means. Its own text may quote a customer's data."""
    package = f" (load package {failed.package}, which was dropped)" if failed.package else ""
    if failed.trouble is Trouble.SETTINGS:
        return WarehouseError(
            f"dlt does not accept what warehouse.url says of {place}. Nothing was changed."
            " See docs/how-to/cloud-warehouses.md for its form."
        )
    if failed.trouble is Trouble.LOCKED:
        return Busy(
            f"{place} is open in another program, and DuckDB lets one at a time write."
            " Nothing of this batch was written. Close it there, then run again."
        )
    if failed.trouble is Trouble.CONNECTION:
        return Unreachable(
            f"{place} cannot be reached, or does not let this user in ({failed}), while {doing}."
            " Check the address, the user and the password in warehouse.url, then run again."
        )
    if failed.trouble is Trouble.PASSING:
        return Unreachable(
            f"{place} did not do what it was asked while {doing}{package}: {failed}."
            " State did not move, so that nothing is lost. Run again; if it happens again,"
            " look into the query history there for the reason."
        )
    return WarehouseError(
        f"{place} refused while {doing}{package}: {failed}. State did not move, so that nothing"
        " is lost. Look into the query history there for the reason, check the privileges"
        " in docs/how-to/cloud-warehouses.md, then run again."
    )
