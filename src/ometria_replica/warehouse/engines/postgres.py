"""PostgreSQL: rows are copied into a temporary table and merged by key, in one transaction."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import adbc_driver_manager as adbc
from adbc_driver_postgresql import dbapi

from ometria_replica.config import masked
from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.local_duckdb import open_staging
from ometria_replica.mapping import REJECTED, STAGED
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.steps import step
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.engines.base import Engine
from ometria_replica.warehouse.state_tables import STATE_SCHEMA
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.state_tables import StateTable

IDLE_SECONDS = 30.0  # After that a connection is made anew: who knows what stands in between.
LOCK_SECONDS = 30  # For somebody else's statement on our tables to end.
DEFAULTS = {"application_name": "ometria-replica", "connect_timeout": "15"}
"""Parameters of the connection, where the URL has none of its own."""
ENCODING = {"client_encoding": "UTF8"}
"""What the driver sends, whatever the URL, the role or the environment say."""


def open_url(url: str, *, dry_run: bool = False) -> PostgresWarehouse:
    """Open ``postgresql://user:password@host:port/database?parameters``, as libpq reads it."""
    return PostgresWarehouse(url, dry_run=dry_run)


class PostgresWarehouse(Warehouse):
    """
    The database at *url*, which libpq understands: ``postgresql://user@host/name``.

    What the URL leaves out is found as ``psql`` finds it: ``PGPASSWORD``, ``~/.pgpass``,
    ``PGSSLROOTCERT``. With *dry_run* nothing is left behind.
    """

    def __init__(self, url: str, *, dry_run: bool = False) -> None:
        closing = ExitStack()
        staging = open_staging(closing)
        super().__init__(staging, PostgresEngine(staging, url), closing, dry_run=dry_run)


class PostgresEngine(Engine):
    """
    A connection to *url*, made when it is first used; the rows come from *staging*.

    Nothing is asked outside a transaction, since a pooler may hand each another connection:
    there the driver's statement, prepared on the one, would be missing on the other.
    """

    types: ClassVar[Mapping[str, str]] = {
        "text": "text",
        "boolean": "boolean",
        "date": "date",
        "timestamptz": "timestamp with time zone",
        "integer": "bigint",
    }
    row_id = "ctid"
    bytewise = ' COLLATE "C"'
    prunes_by_time = False  # The index of __sync_key finds each row by itself.

    def __init__(self, staging: DuckDBPyConnection, url: str) -> None:
        self.place = masked(url)
        self._url = _with_defaults(url)
        self._staging = staging
        self._connection: dbapi.Connection | None = None
        self._used_at = 0.0
        self._in_transaction = False
        self._committing = ""

    # --- the connection ---

    @contextmanager
    def using(self, doing: str) -> Iterator[None]:
        """See the base."""
        try:
            if self._connection and time.monotonic() - self._used_at > IDLE_SECONDS:
                self.close()
            if self._connection is None:
                self._connect()
            with self.transaction():
                yield
        except adbc.Error as error:
            if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
                self.close()
            raise _explained(error, doing, self.place) from error
        finally:
            self._used_at = time.monotonic()

    def _connect(self) -> None:
        try:
            self._connection = dbapi.connect(self._url, autocommit=True)
        except adbc.Error as error:
            raise _not_connected(error, self.place) from error
        with self.transaction():
            ((encoding,),) = self.rows("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise WarehouseError(
                f"The database at {self.place} is encoded as {encoding}, which cannot hold every"
                " text. Nothing was changed. Use a database that is encoded as UTF8."
            )

    def close(self) -> None:
        """See the base."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(adbc.Error):
                connection.close()

    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """See the base. Within another one it is part of that."""
        if self._in_transaction:
            self._committing = name
            yield
            return
        self._committing = name
        self._begin()
        self._in_transaction = True
        try:
            self.execute(_OUR_SETTINGS.format(lock_seconds=LOCK_SECONDS))
            yield
            with step(f"commit of {self._committing}"):
                self._commit()
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False

    # By the driver, and not as statements of ours: where it believes that each statement
    # commits by itself, it commits after any with a time among its parameters (1.13).

    def _begin(self) -> None:
        self._connected().adbc_connection.set_autocommit(False)

    def _commit(self) -> None:
        self._connected().adbc_connection.set_autocommit(True)

    def _roll_back(self) -> None:
        with suppress(adbc.Error):
            connection = self._connected().adbc_connection
            connection.rollback()
            connection.set_autocommit(True)

    # --- statements ---

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """See the base."""
        with self._cursor() as cursor:
            cursor.execute(numbered(statement), list(parameters) or None)

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """See the base."""
        with self._cursor() as cursor:
            cursor.execute(numbered(statement), list(parameters) or None)
            found: list[Any] = cursor.fetchall()
            return found

    def _cursor(self) -> dbapi.Cursor:
        return self._connected().cursor()

    def _connected(self) -> dbapi.Connection:
        if self._connection is None:
            raise adbc.OperationalError("not connected", status_code=adbc.AdbcStatusCode.IO)
        return self._connection

    def temporary(self, name: str, query: str, parameters: Sequence[object] = ()) -> None:
        """See the base. It lasts as long as the transaction."""
        self.execute(f"CREATE TEMP TABLE {name} ON COMMIT DROP AS {query}", parameters)

    @contextmanager
    def looking_up(self) -> Iterator[None]:
        """See the base. Left alone, PostgreSQL reads all of the table: thrice the time here."""
        ways = ("enable_hashjoin", "enable_mergejoin")
        for way in ways:
            self.execute(f"SET LOCAL {way} = off")
        yield
        for way in ways:
            self.execute(f"SET LOCAL {way} TO DEFAULT")

    def columns(self, schema: str, name: str) -> list[tuple[str, str]]:
        """See the base."""
        return self.rows(
            "SELECT column_name::text, data_type::text FROM information_schema.columns"
            " WHERE table_catalog = current_database() AND table_schema = ? AND table_name = ?"
            " ORDER BY ordinal_position",
            [schema, name],
        )

    def make_schema(self, name: str) -> None:
        """
        See the base. Looked for first: who may not make schemas may not ask IF NOT EXISTS.

        By one run at a time, to the end of the transaction: of two that make the same, one fails.
        """
        self.execute(f"SELECT pg_advisory_xact_lock({_MAKING})")
        if not self.scalar("SELECT count(*) FROM pg_namespace WHERE nspname = ?", [name]):
            self.execute(f"CREATE SCHEMA {sql.quoted(name)}")

    def make_table(self, table: Table) -> None:
        """See the base. The index keeps keys unique, and finds the rows that a batch replaces."""
        super().make_table(table)
        index = f"{table.name}_sync_key"
        there = self.scalar(
            "SELECT count(*) FROM pg_indexes WHERE schemaname = ? AND indexname = ?",
            [DATA_SCHEMA, index],
        )
        if not there:
            self.execute(
                f"CREATE UNIQUE INDEX {sql.quoted(index)} ON {self.data(table.name)} (__sync_key)"
            )

    def try_access(self) -> None:
        """See the base."""
        if self.rows("SELECT current_setting('transaction_read_only')") == [("on",)]:
            raise WarehouseError(_read_only(self.place))
        lacking = [
            what
            for what, query in (
                ("to make temporary tables", "has_database_privilege(current_database(), 'TEMP')"),
                *((f"to make tables in the schema {name}", _MAY_CREATE.format(name=name))
                  for name in (DATA_SCHEMA, STATE_SCHEMA)),
            )
            if not self.rows(f"SELECT {query}")[0][0]
        ]  # fmt: skip
        if lacking:
            raise WarehouseError(
                f"The user of {self.place} lacks the privilege {', and '.join(lacking)}."
                ' Nothing was changed. See "The least privileges" in docs/reference/warehouses.md.'
            )

    def lock(self, table: StateTable) -> None:
        """See the base."""
        self.execute(f"LOCK TABLE {self.state(table)} IN SHARE ROW EXCLUSIVE MODE")

    # --- rows ---

    def bring(self, name: str) -> None:
        """See the base: copy the temporary table *name* of the staging into one of our own."""
        described = self._staging.execute(f"DESCRIBE {name}").fetchall()
        kinds = {kind: ours for ours, kind in sql.DUCKDB_TYPES.items()}
        columns = [
            (column, self.types[kinds[kind]])
            for column, kind, *_ in described
            if name != STAGED or not column.startswith(("_raw:", "_whole", "_nuls"))
        ]
        ddl = ", ".join(f"{sql.quoted(column)} {kind}" for column, kind in columns)
        self.execute(f"CREATE TEMP TABLE {name} ({ddl}) ON COMMIT DROP")
        texts = ", ".join(_storable(column, of=name) for column, _ in columns)
        rows = self._staging.sql(f"SELECT {texts} FROM {name}").to_arrow_reader()
        with self._cursor() as cursor:
            cursor.adbc_ingest(name, rows, mode="append", temporary=True)

    def replace_rows(self, table: Table) -> None:
        """See the base."""
        names = sql.names(table)
        insert = f"INSERT INTO {self.data(table.name)} ({names}) SELECT {names} FROM {STAGED}"
        if not self.scalar("SELECT count(*) FROM found"):
            with step("insert"):
                self.execute(insert)  # Faster than to prepare for what will not happen.
            return
        moved = ", ".join(
            f"{sql.quoted(column.name)} = EXCLUDED.{sql.quoted(column.name)}"
            for column in table.all_columns
            if column.name != "__sync_key"
        )
        with step("insert"):
            self.execute(f"{insert} ON CONFLICT (__sync_key) DO UPDATE SET {moved}")


def numbered(statement: str) -> str:
    """Write the places of parameters as PostgreSQL does: ``$1`` for the first ``?``."""
    parts, count = [], 0
    for part in re.split(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|\?)""", statement):
        count += part == "?"
        parts.append(f"${count}" if part == "?" else part)
    return "".join(parts)


def _storable(column: str, *, of: str) -> str:
    """Show a NUL in what was set aside as ``\N{SYMBOL FOR NULL}``: no text here may hold one."""
    name = sql.quoted(column)
    if of == REJECTED and column != "position":
        return f"replace({name}, chr(0), '\N{SYMBOL FOR NULL}') AS {name}"
    return name


def _with_defaults(url: str) -> str:
    """Add to the end of *url*, and touch nothing else of it: libpq reads it in its own way."""
    rest = url.partition("://")[2]
    place = re.sub(r"^[^@/]*@", "", rest)  # A password may hold a question mark.
    given = dict(parse_qsl(place.partition("?")[2], keep_blank_values=True))
    added = {name: value for name, value in DEFAULTS.items() if name not in given}
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in place else "?"
    return f"{url}{joint}{urlencode(added | ENCODING)}"


_MAKING = 0x6F6D6574726961  # "ometria". Who makes tables holds the lock of this number.

# To the end of the transaction. Our temporary tables come before all tables of their names.
_OUR_SETTINGS = """
SELECT set_config('lock_timeout', '{lock_seconds}s', true),
  set_config('TimeZone', 'UTC', true),
  set_config('client_min_messages', 'warning', true),
  set_config('search_path',
    concat_ws(', ', 'pg_temp', nullif(current_setting('search_path'), '')), true)
"""

_MAY_CREATE = (
    "CASE WHEN EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = '{name}')"
    " THEN has_schema_privilege('{name}', 'CREATE')"
    " ELSE has_database_privilege(current_database(), 'CREATE') END"
)

# What libpq says of a connection that it could not make may quote parts of the URL, and a
# password that is not encoded can pass for a host. So its text is only looked at.
_NO_CONNECTION = (
    (r"password authentication failed|no password supplied", "refused the password",
     "Check the user and the password in warehouse.url, or PGPASSWORD."),
    (r"FATAL: +role .* does not exist", "does not know the user",
     "Check the user in warehouse.url."),
    (r"FATAL: +database .* does not exist", "has no such database",
     "Make it, or change warehouse.url."),
    (r"no pg_hba.conf entry", "does not let this machine, user or kind of connection in",
     "Add it to pg_hba.conf, or set sslmode=require in warehouse.url."),
    (r"permission denied for database", "does not let the user connect",
     "GRANT CONNECT ON DATABASE to it."),
    (r"certificate|SSL|root\.crt", "does not agree on an encrypted connection",
     "Check sslmode, sslrootcert and sslcert in warehouse.url."),
    (r'invalid (sslmode|port|percent|URI|integer|connection|\w+ value)|missing "="',
     "was not asked: a part of warehouse.url is not understood",
     "Percent-encode what the password holds of / ? # @ : and check the parameters."),
)  # fmt: skip


def _not_connected(error: adbc.Error, place: str) -> WarehouseError:
    for sign, what, advice in _NO_CONNECTION:
        if re.search(sign, str(error)):
            return WarehouseError(f"The server of {place} {what}. Nothing was changed. {advice}")
    return Unreachable(
        f"{place} cannot be reached, or lets nobody in at the moment. Nothing was changed."
        " Check that the server runs and that this machine reaches it, then run again."
    )


def _explained(error: adbc.Error, doing: str, place: str) -> WarehouseError:
    """Say what a failed statement means. Its own text may quote a customer's data."""
    code = error.sqlstate
    if code is None or code.startswith(("08", "57P")):
        return Unreachable(
            f"The connection to {place} broke while {doing}. A batch that was under way is there"
            " whole or not at all, and nothing is lost. Run again."
        )
    if code in {"55P03", "40P01", "40001"}:
        return Busy(
            f"Somebody else's statement held tables in {place} for too long while {doing}."
            f" The batch was rolled back. It was waited for {LOCK_SECONDS} s. Run again later."
        )
    if code.startswith("53"):
        return Unreachable(
            f"The server of {place} has no room on its disk, in its memory or for another"
            f" connection ({code}), while {doing}. The batch was rolled back and nothing is lost."
            " Make room there, then run again."
        )
    return WarehouseError(_refused(code, doing, place))


def _refused(code: str, doing: str, place: str) -> str:
    if code == "42501":
        return (
            f"The user of {place} lacks a privilege for {doing}. The batch was rolled back."
            f" Let it own the schemas {DATA_SCHEMA} and {STATE_SCHEMA}, and make temporary tables."
        )
    if code == "25006":
        return _read_only(place)
    if code == "23505":
        return (
            f"There would be two rows of one __sync_key in {place}, while {doing}. The batch was"
            " rolled back. Look for rows that were not loaded by this program, and remove them."
        )
    return (
        f"PostgreSQL refused while {doing} in {place} ({code})."
        " The batch was rolled back. Run again; if it happens again, report it."
    )


def _read_only(place: str) -> str:
    return (
        f"{place} is there to be read only: it is a standby, or default_transaction_read_only is"
        " on for the database or the user. Nothing was changed. Name the primary server in"
        " warehouse.url, or let this user write."
    )
