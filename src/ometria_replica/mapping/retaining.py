"""Records that are older than what their table keeps: they do not get past the staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import quoted
from ometria_replica.mapping.select import REJECTED, STAGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table


def drop_too_old(connection: DuckDBPyConnection, table: Table, old_files: Sequence[str]) -> int:
    """
    Drop the staged records from before *oldest* of the table; return how many.

    Lines of *old_files* that could not be parsed are dropped too: the files were written before.
    Records whose time is not known stay.
    """
    if table.oldest is None or table.time is None:
        return 0
    records = _deleted(connection, f"{STAGED} WHERE {quoted(table.time)} < $1", table.oldest)
    if not old_files:
        return records
    names = list(old_files)
    return records + _deleted(connection, f"{REJECTED} WHERE list_contains($1, origin)", names)


def _deleted(connection: DuckDBPyConnection, rows: str, parameter: object) -> int:
    ((number,),) = connection.execute(f"DELETE FROM {rows}", [parameter]).fetchall()
    return int(number)
