"""Read rows out of DuckDB as plain Python, times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(connection: duckdb.DuckDBPyConnection, table: str, order: str = "rowid") -> list[Row]:
    """Read a whole table; times as aware datetimes, without the package pytz."""
    columns = connection.execute(f"DESCRIBE {table}").fetchall()
    names = [str(column[0]) for column in columns]
    moments = {str(column[0]) for column in columns if "TIME ZONE" in str(column[1])}
    shown = ", ".join(f'epoch_us("{n}")' if n in moments else f'"{n}"' for n in names)
    found = connection.execute(f"SELECT {shown} FROM {table} ORDER BY {order}").fetchall()
    return [
        {
            name: _moment(value) if name in moments else value
            for name, value in zip(names, row, strict=True)
        }
        for row in found
    ]


def read_file(path: Path, table: str, order: str = "rowid") -> list[Row]:
    """Read a table of a DuckDB file that no program writes."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return read(connection, table, order)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
