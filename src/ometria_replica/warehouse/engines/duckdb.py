"""
DuckDB as an engine: a file, attached to the connection in which records are mapped.

DuckDB locks a file for the one process that writes it, and keeps readers out too. So the
engine waits for the lock, detaches the file when there is nothing to write, and names the
program that holds it.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import duckdb
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.config.schema import STORAGE_VERSION
from ometria_replica.duckdb_files import duckdb_path
from ometria_replica.errors import Busy, WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.local_duckdb import lack
from ometria_replica.permissions import CLOSED_UMASK, ensure_writable
from ometria_replica.schema import ROW_KEY
from ometria_replica.selection import Selection
from ometria_replica.stopping import interruptible
from ometria_replica.temp_files import is_full
from ometria_replica.warehouse.duckdb_rewrite import Rewriting, remove_unfinished
from ometria_replica.warehouse.engines.base import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.changes import Changes

logger = logging.getLogger(__name__)

CATALOG = "warehouse"
_OWN = "own_columns"
WAIT_SECONDS = 30.0  # For another program's query to end. A dashboard's takes less.
RETRY_SECONDS = 0.25
ROW_GROUP = 122_880  # Rows: what DuckDB keeps, and rewrites, as one.


_DAMAGE = ("Could not read enough bytes", "Corrupt database file")
"""In DuckDB's messages, of a file that was cut off, and of one with a wrong checksum."""


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
        own = self._own_columns(changes.table) if changes.replaces else []
        if own:
            self.temporary(
                _OWN,
                f"SELECT {', '.join([*ROW_KEY, *own])} FROM {target}"
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
            self.execute(
                f"UPDATE {target} t SET {', '.join(f'{name} = kept.{name}' for name in own)}"
                f" FROM {_OWN} kept WHERE {' AND '.join(f't.{k} = kept.{k}' for k in ROW_KEY)}"
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
        if is_due:
            self._unmerged = 0

    def _own_columns(self, table: Table) -> list[str]:
        """Name the columns that a user has added, quoted."""
        ours = {column.name for column in table.all_columns}
        return [sql.quoted(name) for name, _ in self.columns(table) if name not in ours]

    @override
    def read(self, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
        condition = sql.condition(selection)
        yield from self._fetched(
            f"SELECT {sql.names(table)} FROM {self.name(table)} WHERE {condition}"
        )

    @override
    def distinct(
        self, table: Table, source_id: str, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        yield from self._fetched(
            f"SELECT DISTINCT {', '.join(map(sql.quoted, columns))} FROM {self.name(table)}"
            f" WHERE {sql.condition(Selection(source_id))}"
        )

    def _fetched(self, query: str) -> Iterator[pa.RecordBatch]:
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
            with self.session("closing the file"):
                self._attached = not self._attachment.detach(self.connection)

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


@dataclass
class FileAttachment:
    """
    The file at the path *place*, created if it does not exist.

    With *read_only* it is neither created nor written: a file that does not exist is empty.
    With *in_memory* the database is in memory, and *place* only its name in messages.
    Wait *wait_seconds* for a lock of another program; None means WAIT_SECONDS.
    A new file has *storage_version*: DuckDB of that version, and newer, can open it.
    """

    place: str
    read_only: bool = False
    in_memory: bool = False
    wait_seconds: float | None = None
    sleep: Callable[[float], None] = time.sleep
    catalog: str = CATALOG
    locks: bool = True
    storage_version: str = STORAGE_VERSION

    def attach(self, connection: DuckDBPyConnection) -> None:
        """
        Attach the file, after waiting for another program's lock.

        A new file, and DuckDB's log beside it while it is attached, are for their owner alone.
        The log of a file that exists is for those who may read the file.
        """
        if not self.in_memory and not self.read_only and self.place != ":memory:":
            CLOSED_UMASK.hold(self, Path(self.place))
        try:
            self._attach(connection)
        except BaseException:
            CLOSED_UMASK.release(self)
            raise
        if self._exists and not self.read_only:
            remove_unfinished(self.place)  # Now that no other program can be writing it.

    def _attach(self, connection: DuckDBPyConnection) -> None:
        target, options = sql.literal(self.place), ""
        if self.in_memory or (self.read_only and not self._exists):
            target = "':memory:'"
        elif self.read_only:
            options = " (READ_ONLY)"
        elif not Path(self.place).absolute().parent.is_dir():
            raise WarehouseError(
                f"Cannot create {self.place}: its folder does not exist."
                " Create the folder, or change warehouse.url."
            )
        elif not self._exists:
            options = f" (STORAGE_VERSION {sql.literal(self.storage_version)})"
        waited = 0.0
        while True:
            try:
                connection.execute(f"ATTACH {target} AS {CATALOG}{options}")
            except duckdb.Error as error:
                if not _is_locked(error) or waited >= self._patience:
                    raise
                if not waited:
                    logger.warning("waiting for %s%s", self.place, _holder(str(error)))
                waited += RETRY_SECONDS
                self.sleep(RETRY_SECONDS)
            else:
                return

    def forget_deleted(self, connection: DuckDBPyConnection) -> str:
        """Rewrite the file; one that is only in memory holds no deleted rows for long."""
        if not self._exists or self.read_only:
            return ""
        return Rewriting(connection, self.place, self.catalog).run()

    def detach(self, connection: DuckDBPyConnection) -> bool:
        """Detach the file. A database that is only in memory stays."""
        try:
            if not self._exists:
                return False
            with step("detach"):
                connection.execute(f"DETACH {CATALOG}")
            return True
        finally:
            CLOSED_UMASK.release(self)

    def merge_row_groups(self, connection: DuckDBPyConnection, *, now: bool) -> None:
        """Set the number of merges, which holds for all that *connection* has attached."""
        if not self.in_memory:  # There they free memory.
            most = "RESET GLOBAL max_vacuum_tasks" if now else "SET GLOBAL max_vacuum_tasks = 0"
            connection.execute(most)

    def check_access(self) -> None:
        """Look at the permissions of the file and of its folder, which gets a log beside it."""
        file = Path(self.place)
        if file.exists():
            ensure_writable(file)
        ensure_writable(file.absolute().parent)

    def explained(self, error: duckdb.Error, doing: str) -> WarehouseError:
        """Explain an error of the file."""
        text, path = str(error), self.place
        if _is_locked(error):
            return self._locked(text)
        if unfit := _unfit(path, text):
            return WarehouseError(unfit)
        if is_full(error):  # Whose disk, DuckDB does not always say.
            return WarehouseError(
                f"The disk of {path} is full, or the disk of the folder for temporary files."
                " Uncommitted changes were rolled back, and nothing is lost."
                " Free some space, then run again."
            )
        if isinstance(error, duckdb.IOException):
            return WarehouseError(
                f"Cannot read or write {path} while {doing}. Uncommitted changes"
                " were rolled back. Check that the file and its folder can be written, then run"
                " again."
            )
        return lack(error, doing) or WarehouseError(
            f"DuckDB refused while {doing} in {path} ({type(error).__name__})."
            " Uncommitted changes were rolled back. Run again; if it happens again, report it."
        )

    def _locked(self, text: str) -> WarehouseError:
        if _is_open_here(text):
            return WarehouseError(
                f"{self.place} is open in this process: duckdb.connect() keeps a file until"
                f" .close(), in a notebook too. Waited {self._patience:.0f} s. Nothing was changed."
                " Close the connection, then run again."
            )
        return Busy(
            f"{self.place} is open in another program{_holder(text)}, and DuckDB allows one writer"
            f" at a time. Waited {self._patience:.0f} s. Close it there, then run again."
        )

    @property
    def _exists(self) -> bool:
        return not self.in_memory and Path(self.place).exists()

    @property
    def _patience(self) -> float:
        return WAIT_SECONDS if self.wait_seconds is None else self.wait_seconds


def _unfit(path: str, text: str) -> str | None:
    """Say why DuckDB cannot read what the file holds; None if it does not say that."""
    if "not a valid DuckDB database" in text:
        return (
            f"{path} is not a DuckDB file. Nothing was changed. Change warehouse.url, or move it."
        )
    if "newer version of DuckDB" in text or "but we can only read" in text:
        return (
            f"{path} was written by a newer DuckDB than {duckdb.__version__}, which is installed"
            " here. Nothing was changed. Run pip install --upgrade duckdb, or name another file in"
            " warehouse.url."
        )
    if "Failure while replaying WAL" in text:
        return (
            f"{path}.wal, DuckDB's log of what is not in {path} yet, is damaged. Nothing was"
            " changed. Restore both files from a backup, or move the log away and run again: the"
            " next sync repeats what the log held."
        )
    if any(sign in text for sign in _DAMAGE):
        return (
            f"{path} is damaged: a part of it is missing, or was changed by another program or the"
            " disk. Uncommitted changes were rolled back. Restore it from a backup, or move it"
            " away: the next sync then reads all that Ometria and the export still have."
        )
    return None


def _is_locked(error: duckdb.Error) -> bool:
    return "Could not set lock" in str(error) or _is_open_here(str(error))


def _is_open_here(text: str) -> bool:
    """Return whether another connection of this process has the file open, as in a notebook."""
    return "file handle conflict" in text


def _holder(text: str) -> str:
    """Read the program that holds the lock from DuckDB's message, if it names one."""
    if _is_open_here(text):
        return ", which another connection of this process has open"
    found = re.search(r"held in (.*?\(PID \d+\))", text)
    return f" ({found.group(1).strip()})" if found else ""
