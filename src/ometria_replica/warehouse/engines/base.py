"""
Where rows live, as statements reach it: the base of every engine that we merge in.

An engine knows the words of SQL that are its own, and no table of ours. The statements
themselves stand in ``books`` and ``merge``, once for all engines: ``?`` for a parameter,
and nothing that only one of them understands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.state_tables import STATE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Column, Table
    from ometria_replica.warehouse.state_tables import StateTable


_ROWS_AT_ONCE = 2_000  # A statement in PostgreSQL has no more than 65,535 parameters.


class Engine(ABC):
    """
    A connection that runs statements, one at a time.

    *place* names it in messages, without a password. Times come back as datetimes
    with a zone.
    """

    place: str
    types: ClassVar[Mapping[str, str]]
    """Its names of our column types, as its ``information_schema`` gives them."""
    row_id: ClassVar[str]
    """What tells one row of a temporary table from the others."""
    prunes_by_time: ClassVar[bool]
    """Whether it skips what lies outside a span of time, without an index."""
    bytewise: ClassVar[str] = ""
    """What to add to a text to have it compared by its bytes, and not as in a dictionary."""
    flags_leases: ClassVar[bool] = False
    """Whether a lease is but a flag: to be raised, and then looked at whether it stands alone."""
    catalog: str | None = None
    """The catalog to name tables in; None for the connection's own."""

    @abstractmethod
    def using(self, doing: str) -> AbstractContextManager[None]:
        """Be connected within; errors of the driver leave as WarehouseError, rolled back."""

    @abstractmethod
    def transaction(self, name: str = "state") -> AbstractContextManager[None]:
        """Commit all that is done within, or none of it. *name* names the commit's step."""

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement whose answer nobody needs."""

    @abstractmethod
    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Run a query; rows are tuples."""

    @abstractmethod
    def columns(self, schema: str, name: str) -> list[tuple[str, str]]:
        """Name the columns of a table and their types, in order; none if it is not there."""

    @abstractmethod
    def make_schema(self, name: str) -> None:
        """Make a schema, if it is not there."""

    @abstractmethod
    def replace_rows(self, table: Table) -> None:
        """Put all rows of ``staged`` into *table*, each in the place of the one with its key."""

    def bring(self, name: str) -> None:  # noqa: B027 -- not every engine needs it.
        """Make sure that the temporary table *name* of the staging is here too."""

    def look_up(self, batch: Batch) -> None:  # noqa: B027 -- not every engine needs it.
        """Make the rows that *batch* may touch readable, if they are not."""

    def looking_up(self) -> AbstractContextManager[None]:
        """Within, rows are joined with a few others: each is looked up, if that is possible."""
        return nullcontext()

    def refresh(self, table: StateTable) -> None:  # noqa: B027 -- not every engine needs it.
        """Read a state table as others may have written it, if it is not read as it stands."""

    def lock(self, table: StateTable) -> None:  # noqa: B027 -- not every engine needs it.
        """Keep others from writing a state table, to the end of the transaction."""

    def make_table(self, table: Table) -> None:
        """Make one of the five, if it is not there."""
        if not self.exists(DATA_SCHEMA, table.name):
            self.execute(sql.create_table(table, self.catalog, self.types))

    def count_rows(self, table_name: str, source_id: str) -> int:
        """Count a source's rows of one of the five."""
        if not self.exists(DATA_SCHEMA, table_name):
            return 0
        return self.scalar(
            f"SELECT count(*) FROM {self.data(table_name)} WHERE __source_id = ?", [source_id]
        )

    def remove_rows(self, table: Table) -> None:
        """Take out the rows whose keys are in the temporary table ``gone``."""
        self.execute(
            f"DELETE FROM {self.data(table.name)} WHERE __sync_key IN (SELECT __sync_key FROM gone)"
        )

    def fill_in(self, table: Table, column: Column, found: Sequence[tuple[str, object]]) -> None:
        """Put values, each beside the ``__sync_key`` of its row, where the column is null."""
        name, kind = sql.quoted(column.name), self.types[column.type]
        places = ", ".join(f"(?::VARCHAR, ?::{kind})" for _ in found)
        self.execute(
            f"UPDATE {self.data(table.name)} SET {name} = now_known.converted"
            f" FROM (VALUES {places}) AS now_known (key, converted)"
            f" WHERE __sync_key = now_known.key AND {name} IS NULL",
            [part for pair in found for part in pair],
        )

    def try_access(self) -> None:  # noqa: B027 -- not every engine can tell.
        """Raise WarehouseError if nothing could be written here."""

    def release(self) -> None:  # noqa: B027 -- not every engine needs it.
        """Let other programs in, where one at a time may write."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it. Safe to call twice."""

    # --- what the statements are made of ---

    def scalar(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run a query for one number."""
        return int(self.rows(statement, parameters)[0][0])

    def temporary(self, name: str, query: str, parameters: Sequence[object] = ()) -> None:
        """Keep the answer of *query* as the temporary table *name*."""
        self.execute(f"DROP TABLE IF EXISTS {name}")
        self.execute(f"CREATE TEMP TABLE {name} AS {query}", parameters)

    def replace(self, table: StateTable, *rows: Sequence[object]) -> None:
        """Put *rows* in the place of those with their keys."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self._replace(table, rows[start : start + _ROWS_AT_ONCE])

    def _replace(self, table: StateTable, rows: Sequence[Sequence[object]]) -> None:
        places = [table.column_names.index(name) for name in table.key]
        key = ", ".join(sql.quoted(name) for name in table.key)
        keys = ", ".join(f"({', '.join('?' for _ in table.key)})" for _ in rows)
        self.execute(
            f"DELETE FROM {self.state(table)} WHERE ({key}) IN ({keys})",
            [row[place] for row in rows for place in places],
        )
        self.insert(table, *rows)

    def insert(self, table: StateTable, *rows: Sequence[object]) -> None:
        """Add *rows*, their values in the order of the table's columns."""
        one = f"({', '.join('?' for _ in table.columns)})"
        self.execute(
            f"INSERT INTO {self.state(table)} VALUES {', '.join(one for _ in rows)}",
            [value for row in rows for value in row],
        )

    def delete(self, table: StateTable, **key: object) -> None:
        """Delete the rows where each column of *key* has its value."""
        where = " AND ".join(f"{sql.quoted(name)} = ?" for name in key)
        self.execute(f"DELETE FROM {self.state(table)} WHERE {where}", list(key.values()))

    def has(self, table: StateTable) -> bool:
        """Tell whether a state table is there."""
        return self.exists(STATE_SCHEMA, table.name)

    def exists(self, schema: str, name: str) -> bool:
        """Tell whether a table is there."""
        return bool(self.columns(schema, name))

    def data(self, table_name: str) -> str:
        """Name one of the five in full."""
        return sql.qualified(table_name, self.catalog)

    def state(self, table: StateTable) -> str:
        """Name a state table in full."""
        return sql.state(table, self.catalog)
