"""
The temporary tables of a verification, in the DuckDB in which records are mapped.

Python keeps no list of keys, since a table may have millions of rows: DuckDB can move what it
holds to the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ometria_replica.local_duckdb import registered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

READ: Final = "verify_read"
"""The records that were read: their keys, their contents, and whether a row is kept of them."""

BEFORE: Final = "verify_before"
"""Those of the batch that is staged, before the staging is finished."""

SHOWN: Final = "verify_shown"
"""The earliest event that Ometria shows, of each parent."""

FOUND: Final = "verify_found"
"""The rows that differ, and why that is no fault, if it is none."""

ROWS: Final = "verify_rows"
"""Rows of the warehouse, among which are those whose records were not read."""

SENT: Final = "verify_sent"
"""What :meth:`VerificationTables.sent` lets a statement read."""

_COLUMNS = {
    READ: "key VARCHAR, contents UBIGINT, kept BOOLEAN",
    SHOWN: "parent VARCHAR, since TIMESTAMPTZ",
    ROWS: (
        "key VARCHAR, id VARCHAR, moment TIMESTAMPTZ, loaded_at TIMESTAMPTZ, person VARCHAR,"
        " is_blank BOOLEAN, outer_id VARCHAR"
    ),
    FOUND: (
        "key VARCHAR, kind VARCHAR, columns VARCHAR, id VARCHAR, moment TIMESTAMPTZ,"
        " loaded_at TIMESTAMPTZ, logged BOOLEAN, person VARCHAR, why VARCHAR, outer_id VARCHAR"
    ),
}


@dataclass(frozen=True)
class VerificationTables:
    """The temporary tables in *connection*; they are made anew, and empty."""

    connection: DuckDBPyConnection

    def __post_init__(self) -> None:
        for name, columns in _COLUMNS.items():
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")

    def sent(self, columns: Mapping[str, Sequence[object]]) -> AbstractContextManager[None]:
        """Let the statements of a block read *columns*."""
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only to verify.

        texts, times = pa.string(), pa.timestamp("us", "UTC")
        types = {"loaded_at": times, "moment": times, "logged": pa.bool_()}
        return self.registered(
            pa.table(
                {name: pa.array(column, types.get(name, texts)) for name, column in columns.items()}
            )
        )

    def registered(self, rows: pa.RecordBatch | pa.Table) -> AbstractContextManager[None]:
        """Let the statements of a block read *rows*."""
        return registered(self.connection, SENT, rows)

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Run a query."""
        return self.connection.execute(query).fetchall()

    def count(self, query: str) -> int:
        """Run a query for one number."""
        ((number,),) = self.connection.execute(query).fetchall()
        return int(number)
