"""
Warehouses that dlt loads: dlt merges the rows there, and the state is ours.

A warehouse has to answer SELECT, INSERT and DELETE with parameters, and hold tables of types
that dlt translates. Everything else happens in the local merge, so each of these warehouses
counts and decides as DuckDB does.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from hashlib import md5
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import arrow_schema
from ometria_replica.comments import comments
from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.schema import DATA_SCHEMA, ROW_KEY, STATE_SCHEMA, StateTable
from ometria_replica.selection import Dialect, Selection, Values, chunks, joined, to_sql
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse.remotes.base import Remote, StateChange
from ometria_replica.warehouse.remotes.dlt_destinations import Address
from ometria_replica.warehouse.remotes.dlt_loader import DltLoader, Failed, Trouble
from ometria_replica.warehouse.remotes.dlt_patches import STAGING_PREFIX
from ometria_replica.warehouse.remotes.dlt_tables import TYPES, described
from ometria_replica.warehouse.remotes.state_union import StateUnion
from ometria_replica.warehouse.state_tables import ACCOUNTS, FILES, STATE_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.config import Limits
    from ometria_replica.schema import Table
    from ometria_replica.selection import Condition
    from ometria_replica.warehouse.remotes.base import Relation
    from ometria_replica.warehouse.remotes.dlt_destinations import Destination
    from ometria_replica.warehouse.upkeep import Maintained, Upkeep

logger = logging.getLogger(__name__)


TEXTS_AT_ONCE = 5_000  # 180 KB of keys: ClickHouse takes no longer statement than 256 KiB.
PARAMETERS_AT_ONCE = 200  # Databricks takes 255.
ROWS_BY_STATEMENT = 100  # More state than this is loaded as rows are: a package costs seconds.
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
        self._known: dict[tuple[str, str], list[tuple[str, str]]] = {}

    @override
    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Failed as failed:
            raise _explained(failed, doing, self.place) from failed

    # --- tables ---

    @override
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """List the columns. Columns of an existing table are read once and kept."""
        if not self._is_there:
            return []
        schema = sql.schema_of(table)
        if not self._known.get((schema, table.name)):
            self._look_up(schema, [table.name])
        return self._known[schema, table.name]

    @override
    def look_up(self, tables: Sequence[Table | StateTable]) -> None:
        if not self._is_there:
            return
        for schema in dict.fromkeys(sql.schema_of(table) for table in tables):
            names = [table.name for table in tables if sql.schema_of(table) == schema]
            unknown = [name for name in names if not self._known.get((schema, name))]
            if unknown:
                self._look_up(schema, unknown)

    def _look_up(self, schema: str, names: Sequence[str]) -> None:
        ours = {theirs: name for name, theirs in TYPES.items() if name != "json"}
        for name, columns in self._loader.columns(schema, names).items():
            self._known[schema, name] = [(c, ours.get(kind, kind)) for c, kind in columns]

    @override
    def create(self, tables: Sequence[Table | StateTable]) -> None:
        self.look_up(tables)
        missing = [table for table in tables if not self._known[sql.schema_of(table), table.name]]
        old = [t for t in tables if t not in missing and not isinstance(t, StateTable)]
        if old:
            self._destination.upgrade(self._loader, old)
        for schema in dict.fromkeys(sql.schema_of(table) for table in missing):
            of_schema = [table for table in missing if sql.schema_of(table) == schema]
            self._loader.create(schema, [self._described(table) for table in of_schema])
            for table in of_schema:
                self._create_index(table)

    def create_statements(self, tables: Sequence[Table]) -> list[str]:
        """Write the statements of :meth:`create`, without a connection."""
        found: list[str] = []
        for schema in dict.fromkeys(table.schema for table in tables):
            of_schema = [self._described(table) for table in tables if table.schema == schema]
            found += self._loader.create_statements(schema, of_schema)
        return found

    def _create_index(self, table: Table | StateTable) -> None:
        if isinstance(table, StateTable):
            return
        if unique := self._quoted(self._destination.layout(table).unique):
            self._loader.execute(
                f"CREATE UNIQUE INDEX ON {self._name(table)} ({', '.join(unique)})"
            )

    def _described(
        self, table: Table | StateTable, hints: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        strategy, columns = self._destination.strategy, sql.columns_of(table)
        if isinstance(table, StateTable):
            return described(table.name, columns, table.key, strategy)
        layout = self._destination.layout(table)
        return described(
            table.name,
            columns,
            table.key,
            strategy,
            table_hints={**layout.table, **(hints or {})},
            column_hints=layout.columns,
            comments=comments(table),
        )

    # --- rows ---

    @override
    def read(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        schema = arrow_schema(sql.columns_of(table))
        select = f"SELECT {self._names(schema.names)} FROM {self._name(table)}"
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
            f"SELECT DISTINCT {self._names(columns)} FROM {self._name(table)}"
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
                f"SELECT count(*) FROM {self._name(table)} WHERE {condition.text}",
                condition.parameters,
            )[0][0])
            for condition in self._conditions(selection)
        )  # fmt: skip

    @override
    def newest(self, table: Table, column: str, selection: Selection) -> datetime | None:
        (condition,) = self._conditions(selection)
        found = self._loader.fetch(
            f"SELECT max({self._names([column])}) AS newest FROM {self._name(table)}"
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
            f"SELECT {place}, count(*) FROM {self._name(table)} WHERE {condition.text}"
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
            self._described(table, self._merge_scope(table, touched)),
            (batch.cast(schema) for batch in rows.reader()),
        )
        if gone:
            old = Values("__sync_key", tuple(gone))
            self.delete(table, Selection(touched.source_id, old))

    @override
    def delete(self, table: Table, selection: Selection) -> None:
        for condition in self._conditions(selection):
            self._loader.execute(
                f"DELETE FROM {self._name(table)} WHERE {condition.text}", condition.parameters
            )

    def _contains(self, columns: Sequence[str], parts: Sequence[str]) -> str:
        """
        Write the condition that a column contains one of *parts*; empty if there are none.

        By ``replace``, which each of these databases has, and without a %, which drivers read as
        a placeholder: what is sought is then more than asked for.
        """
        tests = [
            f"replace({name}, '{part.lstrip('%')}', '') <> {name}"
            for name in self._quoted(columns)
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
            f"{name} IN (SELECT {name} FROM {{staging_table}})" for name in self._quoted(ROW_KEY)
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
        """Read state tables by one query: each costs the way there and back, however small."""
        self.look_up(STATE_TABLES)  # All: more of them are asked for later.
        there = [table for table in tables if self.columns(table)]
        found = self._read_union(there) or [self._read_whole(table) for table in there]
        by_name = dict(zip((table.name for table in there), found, strict=True))
        return [by_name.get(table.name) for table in tables]

    def _read_union(self, tables: Sequence[StateTable]) -> list[pa.Table]:
        """Read tables by one query; none of them where the warehouse does not take it."""
        if len(tables) < 2 or not self.columns(FILES):
            return []
        union = StateUnion(tables)
        try:
            return union.apart(
                self._fetched(union.query(self._name, self._loader.quoted), union.schema)
            )
        except Failed as failed:
            if failed.trouble is not Trouble.REFUSED:
                raise
            logger.info("the tables of the state are read one by one: %s", failed)
            return []

    def _read_whole(self, table: StateTable) -> pa.Table:
        schema = arrow_schema(table.columns)
        return self._fetched(f"SELECT {self._names(schema.names)} FROM {self._name(table)}", schema)

    def _fetched(self, query: str, schema: pa.Schema) -> pa.Table:
        return pa.concat_tables([schema.empty_table(), *self._loader.fetch(query, schema)])

    @override
    def write_state(self, changes: Sequence[StateChange]) -> None:
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

    def _load_state(self, table: StateTable, rows: pa.Table) -> None:
        for source_id, of_source in _by_source(rows):
            self._loader.load(
                sql.schema_of(table),
                staging_schema(source_id),
                self._described(table),
                of_source.to_batches(),
            )

    def _statements(
        self, table: StateTable, gone: pa.Table, new: pa.Table
    ) -> list[tuple[str, list[object]]]:
        there, key = self._name(table), self._quoted(table.key)
        names = self._names(table.column_names)
        return [
            *(_delete(there, key, keys) for keys in _in_chunks(gone.to_pylist(), len(key))),
            *(
                _insert(there, names, rows)
                for rows in _in_chunks(new.to_pylist(), len(table.columns))
            ),
        ]

    def _storable(self, rows: pa.Table) -> pa.Table:
        """
        Shorten rejected texts to the longest text that the warehouse holds.

        A NUL, which some warehouses hold in no text, becomes ``\N{SYMBOL FOR NULL}``.
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

    # --- the connection ---

    @override
    def check_access(self) -> None:
        """Do nothing: connecting and reading the state is all that can be tried."""

    @override
    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        """Empty the staging tables too: a load that was interrupted may have left rows there."""
        if not self._is_there:
            return ""
        for source_id in self._sources():
            for schema in dict.fromkeys(sql.schema_of(table) for table in tables):
                names = [table.name for table in tables if sql.schema_of(table) == schema]
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

    def _sources(self) -> set[str]:
        """Name the sources that have loaded rows; state of no source is the empty one's."""
        (accounts,) = self.read_state([ACCOUNTS])
        return {"", *(accounts.column("source_id").to_pylist() if accounts else ())}

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

    def _name(self, table: Table | StateTable) -> str:
        return self._loader.qualified(sql.schema_of(table), table.name)

    def _quoted(self, names: Iterable[str]) -> list[str]:
        return [self._loader.quoted(name) for name in names]

    def _names(self, names: Iterable[str]) -> str:
        return ", ".join(self._quoted(names))


def staging_schema(source_id: str, schema: str = DATA_SCHEMA) -> str:
    """
    Name dlt's staging schema: one for each source, since runs load sources side by side.

    Tables of other schemas than ours can have the names of ours.
    """
    name = source_id if schema in {DATA_SCHEMA, STATE_SCHEMA} else f"{schema} of {source_id}"
    return STAGING_PREFIX + md5(name.encode()).hexdigest()[:8]  # noqa: S324 -- no secret.


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
    """Write an INSERT. Null is written out: BigQuery cannot type a parameter that is null."""
    values = ", ".join(
        "(" + ", ".join("NULL" if value is None else "%s" for value in row.values()) + ")"
        for row in rows
    )
    parameters = [value for row in rows for value in row.values() if value is not None]
    return f"INSERT INTO {table} ({names}) VALUES {values}", parameters


_LOOK = "look into the query history there for the reason"
_PAGE = "docs/how-to/cloud-warehouses.md"
_MEANINGS: Mapping[Trouble, tuple[type[WarehouseError], str, str]] = {
    Trouble.SETTINGS: (WarehouseError, "dlt does not accept what warehouse.url says of {place}.",
     f"Nothing was changed. See {_PAGE} for its form."),
    Trouble.LOCKED: (Busy, "{place} is open in another program, and DuckDB allows one writer.",
     "Nothing of this batch was written. Close it there, then run again."),
    Trouble.CONNECTION: (Unreachable, "{place} cannot be reached ({failed}).",
     "Check the address in warehouse.url, then run again."),
    Trouble.DENIED: (WarehouseError, "{place} refuses the connection ({failed}).",
     "Nothing was changed. Check the user, the password and the database in warehouse.url."),
    Trouble.PASSING: (Unreachable, "{place} failed while {doing}{package}: {failed}.",
     f"State did not move, so nothing is lost. Run again; if it happens again, {_LOOK}."),
    Trouble.REFUSED: (WarehouseError, "{place} refused while {doing}{package}: {failed}.",
     f"State did not move, so nothing is lost. Check the privileges in {_PAGE}, and {_LOOK}."),
}  # fmt: skip


def _explained(failed: Failed, doing: str, place: str) -> WarehouseError:
    """Say what a failure of dlt means, without its text: that may quote personal data."""
    package = f" (load package {failed.package}, which was dropped)" if failed.package else ""
    kind, what, advice = _MEANINGS[failed.trouble]
    said = what.format(failed=failed, doing=doing, place=place, package=package)
    return kind(f"{said} {advice}")
