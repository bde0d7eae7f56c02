"""What a warehouse holds of one account: rows, histories, records as they came, and state."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from tests.duck import read
from tests.e2e.oracle import told
from tests.faults.checks import check_unique, plain
from tests.spec import oracle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.duck import Row
    from tests.faults.checks import Rows
    from tests.places import Place


class Contents:
    """
    What the warehouse at *place* holds of the account *source_id*, by looking.

    *tables* are those that are read from records of their own, and so not inside others.
    """

    def __init__(self, place: Place, source_id: str, tables: Sequence[str]) -> None:
        self.place, self.source_id, self.tables = place, source_id, tables
        self._looking: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def looking(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Look at the warehouse; whoever looks meanwhile sees the same copy."""
        if self._looking is not None:
            yield self._looking
            return
        with self.place.looking() as connection:
            self._looking = connection
            try:
                yield connection
            finally:
                self._looking = None

    def found(self) -> Rows:
        """Read the tables of this source, but the nested ones, without the load time."""
        with self.looking():
            return {name: self.rows(name) for name in self.tables}

    def rows(self, name: str, schema: str = "ometria", *, load_time: bool = False) -> list[Row]:
        """Read a table of this source; *load_time* tells whether with the time of the load."""
        with self.looking() as connection:
            try:
                rows = read(connection, f"{schema}.{name}", "__sync_key")
            except duckdb.CatalogException:
                return []
        return [
            {column: row[column] for column in row if load_time or column != "__synced_at"}
            for row in map(plain, rows)
            if row["__source_id"] == self.source_id
        ]

    def state(self, name: str) -> list[Row]:
        """Read a table of the state."""
        with self.looking() as connection:
            try:
                return read(connection, f"ometria_replica.{name}")
            except duckdb.CatalogException:
                return []

    def history(self, name: str) -> list[Row]:
        """Read the versions of a table of this source."""
        return self.rows(name, "ometria_history", load_time=True)

    def records(self, name: str) -> dict[str, Any]:
        """Read the records of a table of this source, as they came, by key."""
        rows = self.rows(name, "ometria_raw")
        check_unique(f"records of {name}", rows)
        found = {row["__sync_key"]: oracle.read_json(row["record"]) for row in rows}
        if name == "email_events":  # A CSV file may write nothing and an empty text alike.
            return {key: told(record) for key, record in found.items()}
        return found

    def deleted(self, name: str) -> list[str]:
        """Read the keys of the rows of a table of this source that were deleted in Ometria."""
        return [
            row["sync_key"]
            for row in self.state("deleted_upstream")
            if (row["source_id"], row["table_name"]) == (self.source_id, name)
        ]
