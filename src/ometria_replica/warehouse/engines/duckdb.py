"""DuckDB as an engine: a database, attached to the connection in which records are mapped."""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import duckdb
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.duckdb_files import duckdb_path
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.schema import other_table
from ometria_replica.stopping import interruptible, is_of_a_library
from ometria_replica.warehouse.engines.base import Engine
from ometria_replica.warehouse.engines.duckdb_file import FileAttachment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.changes import Changes

logger = logging.getLogger(__name__)

_OWN = "own_columns"
ROW_GROUP = 122_880  # Rows: what DuckDB keeps, and rewrites, as one.


class Attachment(Protocol):
    """
    A database that a DuckDB connection can attach as *catalog*. *place* names it in messages.

    *locks* tells whether one process writes it at a time.
    """

    place: str
    catalog: str
    locks: bool

    def attach(self, connection: DuckDBPyConnection) -> None:
        """Attach it as *catalog*."""

    def detach(self, connection: DuckDBPyConnection) -> bool:
        """Detach it where other programs wait for it; False if it stays attached."""

    def merge_row_groups(self, connection: DuckDBPyConnection, *, now: bool) -> None:
        """Let the next checkpoints merge small row groups, or not, where *connection* does it."""

    def check_access(self) -> None:
        """Raise WarehouseError if this user cannot write here, as far as a look can tell."""

    def forget_deleted(self, connection: DuckDBPyConnection) -> str:
        """Do as Engine.forget_deleted(); the engine then detaches it and attaches it anew."""

    def explained(self, error: duckdb.Error, doing: str) -> WarehouseError:
        """Explain an error, without its text: that may quote personal data."""


def open_engine(
    url: str,
    connection: DuckDBPyConnection,
    *,
    dry_run: bool = False,
    storage_version: str | None = None,
) -> DuckDBEngine:
    """Open ``duckdb:///FILE``, or the path of a file; a new file gets *storage_version*."""
    file = FileAttachment(duckdb_path(url) or "", read_only=dry_run)
    if storage_version:
        file.storage_version = storage_version
    return DuckDBEngine(connection, file)


class DuckDBEngine(Engine):
    """The database *attachment*, attached to *connection* while a session needs it."""

    types: ClassVar[Mapping[str, str]] = sql.DUCKDB_TYPES
    row_id = "rowid"
    prunes_by_time = True
    keeps_own_columns = True
    reads_json = True

    def __init__(self, connection: DuckDBPyConnection, attachment: Attachment) -> None:
        self.place = attachment.place
        self.catalog: str = attachment.catalog
        self.locks = attachment.locks  # type: ignore[misc]  # MotherDuck has none, a file has.
        self.connection = connection
        self._attachment = attachment
        self._attached = False
        self._tables: dict[str, dict[str, list[tuple[str, str]]]] = {}
        self._comments: dict[str, dict[str, dict[str, str | None]]] = {}
        self._there: set[str] = set()
        self._unmerged = 0

    @override
    @contextmanager
    def session(self, doing: str) -> Iterator[None]:
        try:
            with interruptible(self.connection.interrupt):
                if not self._attached:
                    with self._noting_what_is_attached():
                        self._attachment.attach(self.connection)
                        self._attached = True
                    self._attachment.merge_row_groups(self.connection, now=True)
                yield
        except duckdb.Error as error:
            self._roll_back()
            raise self._attachment.explained(error, doing) from error

    @override
    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
            with step(f"commit of {name}"):
                self.connection.execute("COMMIT")
            if self._unmerged >= ROW_GROUP:
                self._unmerged = 0
        except BaseException:
            self._roll_back()
            raise

    @override
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self.connection.execute(statement, list(parameters))

    @override
    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self.connection.execute(query, list(parameters)).fetchall()

    @override
    def temporary(
        self, name: str, query: str, parameters: Sequence[object] = (), *, by_index: bool = False
    ) -> None:
        self.execute(f"DROP TABLE IF EXISTS {name}")
        self.execute(f"CREATE TEMP TABLE {name} AS {query}", parameters)

    @override
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """
        List a table's columns, as they were when the session first asked for one of its schema.

        A look at all tables costs as much as at one that may not exist, and a run asks often.
        """
        schema, name = sql.schema_of(table), self.name(table)
        if schema not in self._tables and name in self._there:
            found = self.rows(f"SELECT name, type FROM pragma_table_info({sql.literal(name)})")
            return [(column, self.our_type(kind)) for column, kind in found]
        if schema not in self._tables:
            tables: dict[str, list[tuple[str, str]]] = {}
            for there, column, kind in self.rows(
                "SELECT table_name, column_name, data_type FROM duckdb_columns()"
                " WHERE database_name = ? AND schema_name = ? ORDER BY table_name, column_index",
                [self.catalog, schema],
            ):
                tables.setdefault(there, []).append((column, self.our_type(kind)))
            self._tables[schema] = tables
        return self._tables[schema].get(table.name, [])

    @override
    def exists(self, table: Table | StateTable) -> bool:
        """Return whether a table exists, or did in an earlier session of this run."""
        name = self.name(table)
        if name not in self._there and self.columns(table):
            self._there.add(name)
        return name in self._there

    @override
    def look_up(self, tables: Sequence[Table]) -> None:
        self._there.clear()  # A run begins. It asks for the columns of all tables.

    @override
    def needed(self, table: Table) -> list[str]:
        found = self.rows(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND schema_name = ?"
            " AND table_name = ? AND NOT is_nullable AND column_default IS NULL",
            [self.catalog, sql.schema_of(table), table.name],
        )
        return [name for (name,) in found]

    @override
    def tables_in(self, schema: str) -> list[tuple[StateTable, bool]]:
        found = self.rows(
            "SELECT t.table_name, list(c.column_name ORDER BY c.column_index)"
            " FILTER (c.data_type = 'VARCHAR')"
            " FROM duckdb_tables() t JOIN duckdb_columns() c ON c.table_oid = t.table_oid"
            " AND c.database_name = t.database_name AND c.schema_name = t.schema_name"
            " WHERE t.database_name = ? AND t.schema_name = ? GROUP BY ALL ORDER BY ALL",
            [self.catalog, schema],
        )
        return [(other_table(schema, name, texts or ()), True) for name, texts in found]

    @override
    def create_schema(self, name: str) -> None:
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(self.catalog)}.{sql.quoted(name)}")

    @override
    def create_table(self, table: Table | StateTable) -> None:
        is_new = not self.exists(table)
        self.execute(sql.create_table(table, self.catalog, self.types))
        if is_new:
            self._tables[sql.schema_of(table)][table.name] = sql.columns_of(table)
            self._there.add(self.name(table))

    @override
    def drop_table(self, table: StateTable) -> None:
        super().drop_table(table)
        self._forget()

    @override
    def comments(self, table: Table) -> dict[str, str | None] | None:
        """Read the comments, as they were when the session first asked for those of a schema."""
        if table.schema not in self._comments:
            where = "WHERE database_name = $1 AND schema_name = $2"
            tables: dict[str, dict[str, str | None]] = {}
            for name, column, comment in self.rows(
                f"SELECT table_name, column_name, comment FROM duckdb_columns() {where}"
                f" UNION ALL SELECT table_name, '', comment FROM duckdb_tables() {where}",
                [self.catalog, table.schema],
            ):
                tables.setdefault(name, {})[column] = comment
            self._comments[table.schema] = tables
        return self._comments[table.schema].get(table.name, {})

    @override
    def apply(self, changes: Changes) -> None:
        """Delete and insert by row id, as the comparison found them."""
        self._merge_later(changes)
        target, names = self.name(changes.table), sql.names(changes.table)
        own = self.own_columns(changes.table) if changes.replaces else []
        if own:
            self.temporary(
                _OWN,
                f"SELECT {', '.join([*sql.key_of(changes.table), *own])} FROM {target}"
                f" WHERE rowid IN (SELECT target_row FROM {changes.replaced})",
            )
        with step("delete"):
            self.execute(
                f"DELETE FROM {target} WHERE rowid IN (SELECT target_row FROM {changes.replaced})"
            )
        if changes.removes:
            self.execute(
                f"DELETE FROM {target} WHERE __source_id = ?"
                f" AND __sync_key IN (SELECT __sync_key FROM {changes.gone})",
                [changes.source_id],
            )
        # In order the insert takes one core, and rows of a table have no order. Staging, where
        # order counts, sets it for each batch.
        self.execute("SET preserve_insertion_order = false")
        with step("insert"):
            self.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM {changes.rows}")
        if own:
            key = " AND ".join(f"t.{name} = kept.{name}" for name in sql.key_of(changes.table))
            self.execute(
                f"UPDATE {target} t SET {', '.join(f'{name} = kept.{name}' for name in own)}"
                f" FROM {_OWN} kept WHERE {key}"
            )

    def _merge_later(self, changes: Changes) -> None:
        """
        Merge row groups after as many rows as one holds, and not at each checkpoint.

        DuckDB rewrites up to four of them then: in a full read of 250,000 profiles that took six
        times the rest of a batch. What is left is merged in the next session that writes no
        rows, as one at the end of a run is.
        """
        counts = changes.counts
        self._unmerged += counts.inserted + counts.updated + counts.unchanged + counts.merged
        is_due = self._unmerged >= ROW_GROUP
        self._attachment.merge_row_groups(self.connection, now=is_due)

    @override
    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Read in a connection of its own, since a connection runs one query at a time."""
        with closing(self.connection.cursor()) as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            yield from cursor.sql(query).to_arrow_reader()

    @override
    def check_access(self) -> None:
        self._attachment.check_access()

    @override
    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        """Go on with the new file, where the old one was replaced."""
        remains = self._attachment.forget_deleted(self.connection)
        self._attached = not self._attachment.detach(self.connection)
        if not self._attached:
            self._attachment.attach(self.connection)
            self._attached = True
        return remains

    @property
    @override
    def maintains_itself(self) -> str:
        return (
            f"{self.place} needs no maintenance: DuckDB writes checkpoints itself, and uses the"
            " space of deleted rows again."
        )

    @override
    def remark(self) -> str:
        """Name the storage version of a file; empty for a database that is in none."""
        ((path, version),) = self.rows(
            "SELECT path, tags['storage_version'] FROM duckdb_databases() WHERE database_name = ?",
            [self.catalog],
        )
        return f"storage version {version.rstrip('+')}" if path and version else ""

    @override
    def detach(self) -> None:
        self._tables.clear()  # From now on other programs may change them.
        self._comments.clear()
        if self._attached:
            with self.session("closing the file"), self._noting_what_is_attached():
                self._attached = not self._attachment.detach(self.connection)

    @contextmanager
    def _noting_what_is_attached(self) -> Iterator[None]:
        """Look whether the database is attached, if Ctrl-C came before that could be noted."""
        try:
            yield
        except BaseException as error:
            if not is_of_a_library(error):
                named = "SELECT 1 FROM duckdb_databases() WHERE database_name = ?"
                self._attached = bool(self.rows(named, [self.catalog]))
            raise

    @override
    def close(self) -> None:
        """Detach the file, if a session left it attached."""
        with suppress(WarehouseError):
            self.detach()

    def _forget(self) -> None:
        self._tables.clear()
        self._comments.clear()
        self._there.clear()

    def _roll_back(self) -> None:
        self._forget()
        try:
            self.connection.execute("ROLLBACK")
        except duckdb.Error:
            logger.debug("the failure had ended the transaction")
