"""Targets that cannot run the merge statements: the protocol of lakes and of dlt."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from ometria_replica.errors import CommitConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import BatchSize
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.selection import Selection
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

ROWS_AT_ONCE = 16_384
WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # Seconds. Commits of other accounts take less than one.

_T = TypeVar("_T")


@dataclass(frozen=True)
class Relation:
    """A query of a DuckDB *connection*, which can be read more than once."""

    connection: DuckDBPyConnection
    query: str

    def reader(self, rows_at_once: int = ROWS_AT_ONCE) -> pa.RecordBatchReader:
        """Run the query and read its rows as a stream."""
        rows: pa.RecordBatchReader = self.connection.sql(self.query).to_arrow_reader(rows_at_once)
        return rows


@dataclass(frozen=True)
class StateChange:
    """A change of a state *table*: the rows with the keys *gone* are deleted, then *new* added."""

    table: StateTable
    gone: pa.Table
    new: pa.Table


class Remote(Protocol):
    """
    Tables elsewhere that can be read and written, and not merged.

    *place* names it in messages, without a password. *batch_size* is how much it takes at once.
    """

    place: str
    batch_size: BatchSize

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours, without their text: it may quote personal data."""

    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """List a table's columns with our types, in order; empty if there is no such table."""

    def look_up(self, tables: Sequence[Table]) -> None:
        """Learn the columns of *tables* in one request, where that is cheaper."""

    def create(self, tables: Sequence[Table | StateTable]) -> None:
        """Create tables and their schemas, unless they exist."""

    def read_state(self, tables: Sequence[StateTable]) -> list[pa.Table | None]:
        """Read state tables, all of them; None for one that does not exist."""

    def write_state(self, changes: Sequence[StateChange]) -> None:
        """Write changes of the state in their order; all or none where there are transactions."""

    def read(self, table: Table, selection: Selection) -> Iterator[pa.Table | pa.RecordBatch]:
        """Read rows with all their columns, by name. More rows than selected do no harm."""

    def distinct(
        self,
        table: Table,
        source_id: str,
        columns: Sequence[str],
        *,
        containing: Sequence[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """
        Read the values of text *columns* in the rows of a source; repeats do no harm.

        With *containing*, rows without one of these texts in a column may be left out.
        """

    def count(self, table: Table, selection: Selection) -> int:
        """Count rows; 0 if there is no such table."""

    def newest(self, table: Table, column: str, selection: Selection) -> datetime | None:
        """Find the newest time in *column* of a table that exists; None if there is none."""

    def holding(self, tables: Sequence[Table], source_id: str) -> set[str]:
        """Name those of *tables*, which exist, that hold a row of a source."""

    def replace(
        self,
        table: Table,
        touched: Selection,
        rows: Relation,
        *,
        adds: bool,
        gone: Sequence[str] = (),
    ) -> None:
        """
        Write *rows*, one for each key, in place of those with their keys, and of the keys *gone*.

        The rows and those that they replace lie within *touched*. *adds* says that none is
        replaced. After an interruption some of the keys *gone* may be there beside the new rows,
        where both cannot be one commit.
        """

    def delete(self, table: Table, selection: Selection) -> None:
        """Delete rows."""

    def check_access(self) -> None:
        """Raise WarehouseError if a look shows that this user cannot write; by default no look."""

    def forget_deleted(self, tables: Sequence[Table | StateTable]) -> str:
        """Do as Engine.forget_deleted()."""

    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:
        """Do as Engine.maintain()."""

    def maintenance_due(self, table: Table) -> Due | None:  # noqa: ARG002 -- For lakes.
        """Do as Engine.maintenance_due(); by default nothing is ever due."""
        return None

    @property
    def maintains_itself(self) -> str:
        """See Engine.maintains_itself; by default a table is maintained by this program."""
        return ""

    def detach(self) -> None:
        """Let other programs in, where one at a time may connect; by default any number may."""

    def close(self) -> None:
        """Close connections, if there are any. Safe to call twice."""


def retried(attempt: Callable[[], _T]) -> _T:
    """Retry after a commit conflict, with a random delay so that two writers part."""
    for seconds in WAITS:
        try:
            return attempt()
        except CommitConflict:
            time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 -- no secret.
    return attempt()
