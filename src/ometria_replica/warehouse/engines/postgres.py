"""PostgreSQL: rows are copied into temporary tables and merged by key, in one transaction."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import adbc_driver_manager as adbc
from adbc_driver_postgresql import dbapi
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import ARROW_TYPES
from ometria_replica.config import masked
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.mapping import REJECTED, SEEN_KEYS, STAGED
from ometria_replica.schema import StateTable
from ometria_replica.selection import Selection
from ometria_replica.warehouse.engines import postgres_errors, postgres_keys
from ometria_replica.warehouse.engines.base import Engine
from ometria_replica.warehouse.engines.postgres_dialect import numbered, with_defaults
from ometria_replica.warehouse.engines.postgres_json import as_jsonb
from ometria_replica.warehouse.engines.postgres_worker import Worker
from ometria_replica.warehouse.postgres_vacuum import Vacuum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

IDLE_SECONDS = 30.0  # After that the engine connects anew: a proxy may have cut the connection.
LOCK_SECONDS = 30  # For another session's statement on our tables to end.


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
    """
    A connection to *url*, made when it is first used; rows come from *mapping*, a DuckDB.

    No statement runs outside a transaction, since a pooler may give each another connection:
    there the driver's statement, prepared on the first, would be missing.
    """

    types: ClassVar[Mapping[str, str]] = sql.POSTGRES_TYPES
    row_id = "ctid"
    bytewise = ' COLLATE "C"'
    keeps_own_columns = True
    prunes_by_time = False  # The primary key finds each row.

    def __init__(self, mapping: DuckDBPyConnection, url: str) -> None:
        self.place = masked(url)
        self._url = with_defaults(url)
        self._mapping = mapping
        self._worker = Worker()
        self._connection: dbapi.Connection | None = None
        self._used_at = 0.0
        self._in_transaction = False
        self._committing = ""
        self._is_kept = True
        self._is_new = True
        self._sees_commits = True

    # --- the connection ---

    @override
    @contextmanager
    def session(self, doing: str) -> Iterator[None]:
        try:
            if not self._in_transaction:
                if self._connection and time.monotonic() - self._used_at > IDLE_SECONDS:
                    self.close()
                if self._connection is None:
                    self._connect()
            with self.transaction():
                yield
        except adbc.Error as error:
            if postgres_errors.is_lost(error):
                self.close()
            raise postgres_errors.refused(error, doing, self.place, LOCK_SECONDS) from error
        finally:
            self._used_at = time.monotonic()

    def _connect(self) -> None:
        self._is_new = True
        try:
            self._connection = self._run(partial(dbapi.connect, self._url, autocommit=True))
        except adbc.Error as error:
            raise postgres_errors.not_connected(error, self.place) from error
        with self.transaction():
            ((encoding, isolation),) = self.rows(
                "SELECT current_setting('server_encoding'),"
                " current_setting('default_transaction_isolation')"
            )
        self._is_new = False
        self._sees_commits = isolation == "read committed"
        if encoding != "UTF8":
            raise WarehouseError(
                f"The database at {self.place} is encoded as {encoding}, which cannot hold every"
                " text. Nothing was changed. Use a database that is encoded as UTF8."
            )

    @override
    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(adbc.Error):
                self._worker.free(connection, partial(self._run, connection.close))

    @override
    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """Commit everything in the block, or nothing. An inner transaction is part of the outer."""
        self._committing = name
        if self._in_transaction:
            yield
            return
        self._begin()
        self._in_transaction = self._is_kept = True
        try:
            yield
            if self._is_kept:
                with step(f"commit of {self._committing}"):
                    self._autocommit(on=True)
            else:
                self._roll_back()
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False

    @override
    def rolls_back(self) -> bool:
        self._is_kept = False
        return True

    def _begin(self) -> None:
        """
        Begin a transaction, in a new connection if the server has ended this one meanwhile.

        An idle timeout, a restart or a proxy may have cut it. Nothing was under way.
        """
        try:
            self._autocommit(on=False)
            if not self._sees_commits:  # A lock is worth nothing if the view is older than it.
                self.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            self.rows(_OUR_SETTINGS.format(lock_seconds=LOCK_SECONDS))
        except adbc.Error as error:
            if self._is_new or not postgres_errors.is_lost(error):
                self._roll_back()
                raise
            logger.info("the connection to %s was cut; connecting again", self.place)
            self.close()
            self._connect()
            self._begin()
        except BaseException:
            self._roll_back()
            raise

    # By the driver, and not as statements of ours: where it believes that each statement
    # commits by itself, it commits after any with a time among its parameters (1.13).

    def _autocommit(self, *, on: bool) -> None:
        self._run(partial(self._connected().adbc_connection.set_autocommit, on))

    def _roll_back(self) -> None:
        with suppress(adbc.Error):
            connection = self._connected().adbc_connection
            self._run(connection.rollback)
            self._run(partial(connection.set_autocommit, True))

    # --- statements ---

    def _run(self, call: Callable[[], _Result]) -> _Result:
        """Run a call of the driver. A signal, or another exception, cancels the statement."""
        connection = self._connection
        return self._worker.run(call, connection.adbc_cancel if connection else None)

    @override
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement without a result: one that is not read makes the driver BEGIN again."""
        self._executed(statement, parameters)

    def _executed(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """
        Run a statement, and return how many rows the server says it wrote.

        -1 of a statement that writes none, or has parameters: then the driver does not say.
        """
        with self._cursor() as cursor:
            self._run(partial(cursor.execute, numbered(statement), list(parameters) or None))
            return int(cursor.rowcount)

    @override
    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._cursor() as cursor:
            self._run(partial(cursor.execute, numbered(query), list(parameters) or None))
            found: list[Any] = self._run(cursor.fetchall)
            return found

    @contextmanager
    def _cursor(self) -> Iterator[dbapi.Cursor]:
        cursor = self._connected().cursor()
        try:
            yield cursor
        finally:
            self._worker.free(cursor, cursor.close)

    def _connected(self) -> dbapi.Connection:
        if self._connection is None:
            raise adbc.OperationalError("not connected", status_code=adbc.AdbcStatusCode.IO)
        return self._connection

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
        if not is_new and not self._is_kept:
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
        self._autocommit(on=True)
        try:
            return vacuum.run(statements)
        finally:
            self._begin()

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
        if not self._is_kept:
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
        rows = self._mapping.sql(query).to_arrow_reader()
        with self._cursor() as cursor:
            self._run(partial(cursor.adbc_ingest, name, rows, mode="append", temporary=True))
        # The driver (1.13) leaves the end of a COPY unread, and so begins another transaction
        # before the next statement, of which the server warns in its log. This reads the end.
        self._run(lambda: self._connected().adbc_current_db_schema)

    @override
    def apply(self, changes: Changes) -> None:
        """Upsert by the primary key, or replace by row id in a table that has another key."""
        table, names = changes.table, sql.names(changes.table)
        if changes.removes:
            of_source = sql.condition(Selection(changes.source_id))
            removed = self._executed(
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
                removed = self._executed(
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
            written = self._executed(insert)
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
        with self._cursor() as cursor:
            self._run(partial(cursor.execute, query))
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

# Until the transaction ends. Our temporary tables come before all tables of their names. libpq
# writes notices to standard error, and those of a trigger may quote personal data.
_OUR_SETTINGS = """
SELECT set_config('lock_timeout', '{lock_seconds}s', true),
  set_config('TimeZone', 'UTC', true),
  set_config('client_min_messages', 'error', true),
  set_config('search_path',
    concat_ws(', ', 'pg_temp', nullif(current_setting('search_path'), '')), true)
"""
