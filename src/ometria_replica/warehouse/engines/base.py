"""
A database that runs the merge statements: the base of DuckDB, PostgreSQL and the local merge.

The statements themselves are in ``merge``, ``state_store``, ``rejects`` and ``leases``, once
for all engines: ``?`` for a parameter, and no syntax that only one engine understands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ometria_replica import sql
from ometria_replica.batch import BatchSize
from ometria_replica.comments import missing_comments
from ometria_replica.failpoints import step
from ometria_replica.schema import StateTable
from ometria_replica.selection import Selection, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    import pyarrow as pa

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

_TEXTS_AT_ONCE = 5_000  # In a condition.
_ROWS_AT_ONCE = 2_000  # A statement in PostgreSQL has no more than 65,535 parameters.


class Engine(ABC):
    """
    A connection that runs statements, one at a time.

    *place* names the database in messages, without a password. Times come back as datetimes
    with a zone.
    """

    place: str
    types: ClassVar[Mapping[str, str]]
    """The database's names of our column types."""
    row_id: ClassVar[str]
    """The pseudo-column that identifies a row."""
    prunes_by_time: ClassVar[bool]
    """Whether a scan skips rows outside a span of time, without an index."""
    bytewise: ClassVar[str] = ""
    """The suffix that compares a text by its bytes, and not by the rules of a language."""
    locks: ClassVar[bool] = True
    """Whether two runs cannot write a state table at once. If not, leases are read again."""
    keeps_own_columns: ClassVar[bool] = False
    """Whether columns that a user has added after ours keep their values."""
    rewrites_unchanged: ClassVar[bool] = True
    """Whether a row that comes again unchanged is written with its new load time."""
    commits_rows_with_state: ClassVar[bool] = True
    """Whether one transaction commits rows and state. If not, rows are there at once."""
    notes_replaced: ClassVar[bool] = True
    """Whether the state notes some rows that were replaced, to tell an older copy of a table."""
    reads_json: ClassVar[bool] = False
    """Whether it has DuckDB's functions for JSON."""
    batch_size: BatchSize = BatchSize()
    """How much it takes at once: what suits it, within bounds of memory."""
    catalog: str | None = None
    """The catalog to name tables in; None for the connection's own."""

    @abstractmethod
    def session(self, doing: str) -> AbstractContextManager[None]:
        """Connect, if needed. Driver errors become WarehouseError, rolled back."""

    @abstractmethod
    def transaction(self, name: str = "state") -> AbstractContextManager[None]:
        """Commit everything in the block, or nothing. *name* names the commit's step."""

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement."""

    @abstractmethod
    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Run a query; rows are tuples."""

    @abstractmethod
    def temporary(
        self, name: str, query: str, parameters: Sequence[object] = (), *, by_index: bool = False
    ) -> None:
        """
        Keep the result of *query* as the temporary table *name*, in place of an earlier one.

        *by_index* says that the query needs few rows of a large table.
        """

    @abstractmethod
    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """
        List a table's columns with our types, in order; empty if there is no such table.

        A column of another type has the database's name of it.
        """

    def needed(self, table: Table) -> list[str]:  # noqa: ARG002 -- of engines that keep columns.
        """List the columns that an INSERT has to name: not null, and without a default."""
        return []

    def own_columns(self, table: Table) -> list[str]:
        """Name, quoted, the columns that a user has added and that keep their values."""
        ours = {column.name for column in table.all_columns}
        there = self.columns(table) if self.keeps_own_columns else []
        return [sql.quoted(name) for name, _ in there if name not in ours]

    @abstractmethod
    def create_schema(self, name: str) -> None:
        """Create a schema, unless it exists."""

    @abstractmethod
    def create_table(self, table: Table | StateTable) -> None:
        """Create a table and its index, unless they exist."""

    def drop_table(self, table: StateTable) -> None:
        """Drop a table, which exists."""
        self.execute(f"DROP TABLE {self.name(table)}")

    @abstractmethod
    def apply(self, changes: Changes) -> None:
        """Write the rows of *changes*, in place of those that they replace; remove the gone."""

    @abstractmethod
    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Run a query for any number of rows; times are in UTC."""

    @abstractmethod
    def check_access(self) -> None:
        """Raise WarehouseError if this user cannot write here, as far as a look can tell."""

    # --- optional: each does nothing by default ---

    def remark(self) -> str:
        """Say what a user may want to know about the database."""
        return ""

    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:  # noqa: ARG002 -- For others.
        """
        Remove from the storage what rows that were deleted from *tables* have left there.

        Tables may be missing.

        Outside of a transaction, after the deletion was committed. Returns what may still hold
        their values, as a sentence for the user; empty if nothing does.
        """
        return (
            f"{self.place} may keep what deleted rows held, in old versions or unused space, as"
            " long as it keeps these."
        )

    def tables_in(self, schema: str) -> list[tuple[StateTable, bool]]:  # noqa: ARG002 -- For others.
        """
        List the tables that others have made in *schema*, with their columns of text.

        With each, whether this role may delete from it. None where the engine sees no others.
        """
        return []

    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:  # noqa: ARG002 -- For others.
        """Maintain a table; None if there is no such table. Where maintains_itself is empty."""
        return None

    def maintenance_due(self, table: Table) -> Due | None:  # noqa: ARG002 -- For others.
        """Return whether this program should maintain a table; None if not, or without one."""
        return None

    @property
    def maintains_itself(self) -> str:
        """Say why the tables here need no maintenance by this program; empty if they need it."""
        return f"{self.place} maintains its tables itself."

    def comments(self, table: Table) -> dict[str, str | None] | None:  # noqa: ARG002 -- For others.
        """
        Read the comments of a table's columns, and of the table, under ``""``.

        None if comments are not to be written: this role may not, or the database has none.
        """
        return None

    def stage(self, batch: Batch) -> None:
        """Make the staged tables, and the rows that *batch* may replace, readable here."""

    def stage_more(self, table: Table, selection: Selection) -> None:
        """Make more rows of a table readable here, beside those of :meth:`stage`."""

    def share(self, name: str) -> None:
        """Make a temporary table of the DuckDB in which records are mapped readable here."""

    def rolls_back(self) -> bool:
        """
        Undo all of the current transaction at its end, whatever it has made, if it can.

        Return whether it will.
        """
        return False

    def prefetch(self, table: Table, selection: Selection) -> None:
        """Make rows of a table readable here, until the next call."""

    def look_up(self, tables: Sequence[Table]) -> None:
        """Learn the columns of *tables* in one request, where that is cheaper."""

    def lock(self, table: StateTable) -> None:
        """Keep other runs from writing a state table until the transaction ends, if it can."""

    def refresh(self, table: StateTable) -> None:
        """Read a state table anew, if the engine works on a copy of it."""

    def detach(self) -> None:
        """Let other programs in, until the next session."""

    def close(self) -> None:
        """Close the connection. Safe to call twice."""

    # --- rows of a table ---

    def count(self, table: Table, selection: Selection) -> int:
        """Count rows of a table; 0 if there is no such table."""
        if not self.exists(table):
            return 0
        return self.scalar(
            f"SELECT count(*) FROM {self.name(table)} WHERE {sql.condition(selection)}"
        )

    def newest(self, table: Table, column: str, selection: Selection) -> datetime | None:
        """Find the newest time in *column* of a table that exists; None if there is none."""
        ((found,),) = self.rows(
            f"SELECT max({sql.quoted(column)}) FROM {self.name(table)}"
            f" WHERE {sql.condition(selection)}"
        )
        return cast("datetime | None", found)

    def read(self, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Read rows of a table, with all its columns in order."""
        condition = sql.condition(selection)
        yield from self.batches(
            f"SELECT {sql.names(table)} FROM {self.name(table)} WHERE {condition}"
        )

    def scan(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        """Read any number of rows of a table, which are nowhere kept meanwhile."""
        yield from self.read(table, selection)

    def distinct(
        self, table: Table, source_id: str, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """Read the values of text *columns* in the rows of a source; repeats do no harm."""
        yield from self.batches(
            f"SELECT DISTINCT {', '.join(map(sql.quoted, columns))} FROM {self.name(table)}"
            f" WHERE {sql.condition(Selection(source_id))}"
        )

    def containing(
        self, table: Table, source_id: str, columns: Sequence[str], parts: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """
        Read the keys and the text *columns* of rows of a source with one of *parts* in a column.

        Other rows, and repeats, do no harm.
        """
        contains = (
            f"strpos({sql.quoted(name)}, {sql.literal(part)}) > 0"
            for name in columns
            for part in parts
        )
        yield from self.batches(
            f"SELECT __sync_key, {', '.join(map(sql.quoted, columns))} FROM {self.name(table)}"
            f" WHERE {sql.condition(Selection(source_id))} AND ({' OR '.join(contains)})"
        )

    def holding(self, tables: Sequence[Table], source_id: str) -> set[str]:
        """Name those of *tables*, which exist, that hold a row of a source."""
        condition = sql.condition(Selection(source_id))
        return {
            table.name
            for table in tables
            if self.rows(f"SELECT 1 FROM {self.name(table)} WHERE {condition} LIMIT 1")
        }

    def delete(self, table: Table, selection: Selection) -> int:
        """Delete rows of a table, and return how many there were."""
        deleted = 0
        for part in chunks(selection, _TEXTS_AT_ONCE, _TEXTS_AT_ONCE):
            found = self.count(table, part)
            if found:
                self.execute(f"DELETE FROM {self.name(table)} WHERE {sql.condition(part)}")
            deleted += found
        return deleted

    def delete_records(self, table: Table, of: Table, selection: Selection) -> None:
        """Delete the rows of *table*, if it exists, that belong to selected rows of *of*."""
        if self.exists(table):
            source = sql.condition(Selection(selection.source_id))
            self.execute(
                f"DELETE FROM {self.name(table)} WHERE {source} AND __sync_key IN"
                f" (SELECT __sync_key FROM {self.name(of)} WHERE {sql.condition(selection)})"
            )

    def update(
        self,
        table: Table,
        selection: Selection,
        values: Mapping[str, str],
        parameters: Sequence[object] = (),
    ) -> None:
        """Set columns of rows to *values*, expressions of SQL with *parameters*."""
        moved = ", ".join(f"{sql.quoted(name)} = {value}" for name, value in values.items())
        for part in chunks(selection, _TEXTS_AT_ONCE, _TEXTS_AT_ONCE):
            self.execute(
                f"UPDATE {self.name(table)} SET {moved} WHERE {sql.condition(part)}", parameters
            )

    # --- rows of the state ---

    def replace(self, table: StateTable, *rows: Sequence[object]) -> None:
        """Write *rows* in place of those with their keys."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            places = [table.column_names.index(name) for name in table.key]
            key = ", ".join(sql.quoted(name) for name in table.key)
            keys = ", ".join(f"({', '.join('?' for _ in table.key)})" for _ in some)
            self.execute(
                f"DELETE FROM {self.name(table)} WHERE ({key}) IN ({keys})",
                [row[place] for row in some for place in places],
            )
            self.insert(table, *some)

    def insert(self, table: StateTable, *rows: Sequence[object]) -> None:
        """Add *rows*, their values in the order of the table's columns."""
        one = f"({', '.join('?' for _ in table.columns)})"
        self.execute(
            f"INSERT INTO {self.name(table)} ({', '.join(map(sql.quoted, table.column_names))})"
            f" VALUES {', '.join(one for _ in rows)}",
            [value for row in rows for value in row],
        )

    # --- parts of statements ---

    def scalar(self, query: str, parameters: Sequence[object] = ()) -> int:
        """Run a query for one number."""
        return int(self.rows(query, parameters)[0][0])

    def count_of(self, relation: str) -> int:
        """Count the rows of a temporary table."""
        return self.scalar(f"SELECT count(*) FROM {relation}")

    def exists(self, table: Table | StateTable) -> bool:
        """Return whether a table exists."""
        return bool(self.columns(table))

    def missing(self, tables: Sequence[StateTable]) -> list[StateTable]:
        """List those of *tables* that do not exist."""
        return [table for table in tables if not self.exists(table)]

    def name(self, table: Table | StateTable) -> str:
        """Name a table in full."""
        return sql.qualified(table, self.catalog)

    def create_missing(self, tables: Sequence[Table | StateTable]) -> None:
        """Create those of *tables* that do not exist, and their schemas."""
        for schema in dict.fromkeys(sql.schema_of(table) for table in tables):
            with step("schema"):
                self.create_schema(schema)
        for table in tables:
            with step("schema"):
                self.create_table(table)
                if not isinstance(table, StateTable):
                    self._write_comments(table)

    def _write_comments(self, table: Table) -> None:
        """Write the comments that are missing or of another release; those of a user stay."""
        there = self.comments(table)
        if there is None:
            return
        for name, text in missing_comments(table, there).items():
            self.execute(sql.comment(table, name, text, self.catalog))

    def our_type(self, kind: str) -> str:
        """Give our name of the database's type, or its own where it is none of ours."""
        return next((ours for ours, theirs in self.types.items() if theirs == kind), kind)
