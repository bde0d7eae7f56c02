"""PostgreSQL: rows are copied into temporary tables and merged by key, in one transaction."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import adbc_driver_manager as adbc
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import ARROW_TYPES
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.mapping import REJECTED, SEEN_KEYS, STAGED
from ometria_replica.schema import StateTable, other_table
from ometria_replica.selection import Selection
from ometria_replica.warehouse.engines import postgres_errors, postgres_keys
from ometria_replica.warehouse.engines.base import Engine
from ometria_replica.warehouse.engines.postgres_json import as_jsonb
from ometria_replica.warehouse.engines.postgres_session import PostgresSession
from ometria_replica.warehouse.postgres_vacuum import Vacuum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes

logger = logging.getLogger(__name__)


def open_engine(
    url: str,
    connection: DuckDBPyConnection,
    *,
    dry_run: bool = False,  # noqa: ARG001 -- A dry run leaves out the statements that write.
) -> PostgresEngine:
    """
    Open ``postgresql://user:password@host:port/database?parameters``, as libpq reads it.

    libpq finds what the URL leaves out as ``psql`` does: ``PGPASSWORD``, ``~/.pgpass``,
    ``PGSSLROOTCERT``.
    """
    return PostgresEngine(connection, url)


class PostgresEngine(Engine):
    """Loads rows from *mapping*, a DuckDB, into the database at *url*."""

    types: ClassVar[Mapping[str, str]] = sql.POSTGRES_TYPES
    row_id = "ctid"
    bytewise = ' COLLATE "C"'
    keeps_own_columns = True
    prunes_by_time = False  # The primary key finds each row.

    def __init__(self, mapping: DuckDBPyConnection, url: str) -> None:
        self._session = PostgresSession(url)
        self._mapping = mapping
        self.place = self._session.place

    @override
    def session(self, doing: str) -> AbstractContextManager[None]:
        return self._session.opened(doing)

    @override
    def close(self) -> None:
        self._session.close()

    @override
    def transaction(self, name: str = "state") -> AbstractContextManager[None]:
        return self._session.transaction(name)

    @override
    def rolls_back(self) -> bool:
        self._session.is_kept = False
        return True

    @override
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self._session.execute(statement, parameters)

    @override
    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self._session.rows(query, parameters)

    # --- tables ---

    @override
    def temporary(
        self, name: str, query: str, parameters: Sequence[object] = (), *, by_index: bool = False
    ) -> None:
        """
        Keep the result until the transaction ends.

        Without *by_index* PostgreSQL would read all of the table: three times the time here.
        """
        ways = ("enable_hashjoin", "enable_mergejoin") if by_index else ()
        for way in ways:
            self.execute(f"SET LOCAL {way} = off")
        self._drop_temporary(name)
        self.execute(f"CREATE TEMP TABLE {name} ON COMMIT DROP AS {query}", parameters)
        for way in ways:
            self.execute(f"SET LOCAL {way} TO DEFAULT")

    @override
    def needed(self, table: Table) -> list[str]:
        found = self.rows(
            "SELECT column_name::text FROM information_schema.columns"
            " WHERE table_catalog = current_database() AND table_schema = ? AND table_name = ?"
            " AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'"
            " AND is_generated = 'NEVER'",
            [table.schema, table.name],
        )
        return [name for (name,) in found]

    @override
    def own_columns(self, table: Table) -> list[str]:
        """Leave out those that the database computes: no statement may set them."""
        computed = self.rows(
            "SELECT column_name::text FROM information_schema.columns"
            " WHERE table_catalog = current_database() AND table_schema = ? AND table_name = ?"
            " AND (is_generated <> 'NEVER' OR identity_generation = 'ALWAYS')",
            [table.schema, table.name],
        )
        names = {sql.quoted(name) for (name,) in computed}
        return [name for name in super().own_columns(table) if name not in names]

    def _drop_temporary(self, name: str) -> None:
        self.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")

    @override
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        found = self.rows(
            "SELECT column_name::text, CASE WHEN data_type = 'numeric' THEN 'numeric('"
            " || numeric_precision || ',' || numeric_scale || ')' ELSE data_type::text END"
            " FROM information_schema.columns"
            " WHERE table_catalog = current_database() AND table_schema = ? AND table_name = ?"
            " ORDER BY ordinal_position",
            [sql.schema_of(table), table.name],
        )
        return [(name, self.our_type(kind)) for name, kind in found]

    @override
    def tables_in(self, schema: str) -> list[tuple[StateTable, bool]]:
        """Look into the catalog: the information schema leaves out what this role may not read."""
        found = self.rows(
            "SELECT c.relname::text, coalesce(string_agg(a.attname::text, chr(31)"
            " ORDER BY a.attnum) FILTER (WHERE a.atttypid::regtype::text"
            " IN ('text', 'character varying', 'character')), ''),"
            " c.relkind <> 'm' AND has_schema_privilege(n.oid, 'USAGE')"
            " AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE')"
            " AND has_table_privilege(c.oid, 'DELETE')"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " AND NOT a.attisdropped"
            " WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname = ?"
            " GROUP BY c.oid, c.relname, c.relkind, n.oid ORDER BY c.relname",
            [schema],
        )
        return [
            (other_table(schema, name, texts.split("\x1f") if texts else ()), bool(may))
            for name, texts, may in found
        ]

    @override
    def create_schema(self, name: str) -> None:
        """
        Create a schema, unless it exists: a role without that right may not ask IF NOT EXISTS.

        One run at a time, until the transaction ends: of two that create the same, one fails.
        """
        self.rows(f"SELECT pg_advisory_xact_lock({_CREATING})")
        if not self.scalar("SELECT count(*) FROM pg_namespace WHERE nspname = ?", [name]):
            self.execute(f"CREATE SCHEMA {sql.quoted(name)}")

    @override
    def create_table(self, table: Table | StateTable) -> None:
        """
        Create a table, unless it exists: a role without the right may not ask IF NOT EXISTS.

        A primary key keeps keys unique, finds the rows that a batch replaces, and identifies
        rows for publications.
        """
        is_new = not self.exists(table)
        if is_new:
            self.execute(sql.create_table(table, self.catalog, self.types, has_key=True))
        old_index = postgres_keys.old_index(self, table)
        key = ", ".join(sql.quoted(name) for name in sql.key_of(table))
        if not postgres_keys.may_alter(self, table):
            if old_index or isinstance(table, StateTable) or postgres_keys.primary_key(self, table):
                return  # Its owner adds the key.
            raise WarehouseError(
                f"The table {table.full_name} in {self.place} has no primary key, and this user may"
                f" not add one. Nothing was changed. Let its owner run: ALTER TABLE"
                f" {self.name(table)} ADD PRIMARY KEY ({key})."
            )
        if not is_new and not self._session.is_kept:
            return  # A trial keeps nobody from a table while an index is built.
        if not postgres_keys.primary_key(self, table):
            self.execute(f"ALTER TABLE {self.name(table)} ADD PRIMARY KEY ({key})")
        if old_index:
            if postgres_keys.is_identified_by_index(self, table):
                self.execute(f"ALTER TABLE {self.name(table)} REPLICA IDENTITY DEFAULT")
            self.execute(f"DROP INDEX {old_index}")

    @override
    def comments(self, table: Table) -> dict[str, str | None] | None:
        """Read the comments; None if this role does not own the table."""
        if not postgres_keys.may_alter(self, table):
            return None
        found = self.rows(
            "SELECT coalesce(a.attname::text, ''), d.description FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass"
            " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid"
            " AND a.attnum > 0 WHERE n.nspname = ? AND c.relname = ?",
            [table.schema, table.name],
        )
        return dict(found)

    @override
    def check_access(self) -> None:
        if self.rows("SELECT current_setting('transaction_read_only')") == [("on",)]:
            raise WarehouseError(postgres_errors.read_only(self.place))

    @override
    def lock(self, table: StateTable) -> None:
        self.execute(f"LOCK TABLE {self.name(table)} IN SHARE ROW EXCLUSIVE MODE")

    @property
    @override
    def maintains_itself(self) -> str:
        return (
            f"{self.place} maintains its tables itself: PostgreSQL's autovacuum frees the space of"
            " deleted rows and keeps the statistics of the planner. If it is switched off, run"
            " VACUUM (ANALYZE) on the schemas of this program."
        )

    @override
    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        """
        End the session's transaction, in which no VACUUM can run, and begin one for the rest.

        A pooler may refuse what follows: then the tables are named as not vacuumed.
        """
        vacuum = Vacuum(self.place, self.rows, self.execute, adbc.Error)
        statements = vacuum.statements(tables)
        with self._session.interrupted():
            return vacuum.run(statements)

    # --- rows ---

    @override
    def stage(self, batch: Batch) -> None:
        """Copy the staged tables from the DuckDB in which records are mapped."""
        for name in (STAGED, REJECTED, *([SEEN_KEYS] if batch.deletes else [])):
            self._copy(name)
        for part in batch.parts:
            json_columns = [c.name for c in part.table.all_columns if c.type == "json"]
            for name in part.relations:
                self._copy(name, json_columns if name == part.staged else ())

    @override
    def share(self, name: str) -> None:
        self._copy(name)

    def _copy(self, name: str, json_columns: Sequence[str] = ()) -> None:
        """Copy a staged table; its *json_columns* are texts there, and become ``jsonb`` here."""
        described = self._mapping.execute(f"DESCRIBE {name}").fetchall()
        kinds = {kind: ours for ours, kind in sql.DUCKDB_TYPES.items()}
        columns = [
            (column, self.types[kinds[kind]])
            for column, kind, *_ in described
            if not column.startswith(_NOT_COPIED)
            if column != "rowid"  # Of a view, which has none by itself.
        ]
        ddl = ", ".join(f"{sql.quoted(column)} {kind}" for column, kind in columns)
        if not self._session.is_kept:
            self._drop_temporary(name)  # A trial loads several batches in one transaction.
        self.execute(f"CREATE TEMP TABLE {name} ({ddl}) ON COMMIT DROP")
        texts = ", ".join(_storable(column, of=name) for column, _ in columns)
        with ExitStack() as rewritten:
            relation = name
            for column in json_columns:
                relation = rewritten.enter_context(as_jsonb(self._mapping, relation, column))
            self._ingest(name, f"SELECT {texts} FROM {relation}")
        for column in json_columns:
            quoted = sql.quoted(column)
            self.execute(
                f"ALTER TABLE pg_temp.{name} ALTER COLUMN {quoted} TYPE jsonb USING {quoted}::jsonb"
            )

    def _ingest(self, name: str, query: str) -> None:
        rows, session = self._mapping.sql(query).to_arrow_reader(), self._session
        with session.cursor() as cursor:
            session.run(partial(cursor.adbc_ingest, name, rows, mode="append", temporary=True))
        # The driver (1.13) leaves the end of a COPY unread, and so begins another transaction
        # before the next statement, of which the server warns in its log. This reads the end.
        session.run(lambda: session.driver().adbc_current_db_schema)

    @override
    def apply(self, changes: Changes) -> None:
        """Upsert by the primary key, or replace by row id in a table that has another key."""
        table, names = changes.table, sql.names(changes.table)
        if changes.removes:
            of_source = sql.condition(Selection(changes.source_id))
            removed = self._session.executed(
                f"DELETE FROM {self.name(table)} WHERE {of_source}"
                f" AND __sync_key IN (SELECT __sync_key FROM {changes.gone})"
            )
            self._refuse_fewer(table, "removed", removed, changes.counts.removed)
        insert = f"INSERT INTO {self.name(table)} ({names}) SELECT {names} FROM {changes.rows}"
        key = sql.key_of(table)
        if changes.replaces and set(postgres_keys.primary_key(self, table)) != set(key):
            if len(self.columns(table)) > len(table.all_columns):
                raise WarehouseError(
                    f"The table {table.full_name} in {self.place} has columns of another origin,"
                    " and no primary key by which their values could stay. The batch was rolled"
                    " back. Let the owner of the table run a sync, which adds the key."
                )
            with step("delete"):
                removed = self._session.executed(
                    f"DELETE FROM {self.name(table)} WHERE ctid IN"
                    f" (SELECT target_row FROM {changes.replaced})"
                )
            self._refuse_fewer(table, "replaced", removed, changes.rows_replaced)
        elif changes.replaces:  # Else faster than to prepare for what will not happen.
            moved = ", ".join(
                f"{sql.quoted(column.name)} = EXCLUDED.{sql.quoted(column.name)}"
                for column in table.all_columns
                if column.name not in key
            )
            insert += f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {moved}"
        with step("insert"):
            written = self._session.executed(insert)
        self._refuse_fewer(table, "written", written, changes.rows_written)

    def _refuse_fewer(self, table: Table, done: str, number: int, expected: int) -> None:
        """Raise WarehouseError if the server says that it left out rows: a trigger may do so."""
        if 0 <= number < expected:
            raise WarehouseError(
                f"{number:,} of {expected:,} rows of {table.full_name} in {self.place} were {done}:"
                " a trigger, a rule or a policy that is not ours keeps the others back. The batch"
                " was rolled back. Drop it, or let a trigger return the row."
            )

    @override
    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        with self._session.cursor() as cursor:
            self._session.run(partial(cursor.execute, query))
            yield from map(_with_decimals, cursor.fetch_record_batch())


def _with_decimals(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Make decimals of numbers that the driver gives as texts of a type of its own."""
    for place, column in enumerate(rows.schema):
        if getattr(column.type, "type_name", "") == "numeric":
            texts: Any = rows.column(place)
            numbers = texts.storage.cast(ARROW_TYPES["decimal"])
            rows = rows.set_column(place, column.name, numbers)
    return rows


def _storable(column: str, *, of: str) -> str:
    """Write a NUL in a rejected text as ``\N{SYMBOL FOR NULL}``: no text here may hold one."""
    name = sql.quoted(column)
    if of.startswith(REJECTED) and column != "position":
        return f"replace({name}, chr(0), '\N{SYMBOL FOR NULL}') AS {name}"
    return name


_NOT_COPIED = ("_raw:", "_person:", "_record", "_nuls", "_parent_row")
"""What the columns of staged tables begin with that only the mapping needs."""

_CREATING = 0x6F6D6574726961  # "ometria": the number of the advisory lock.
