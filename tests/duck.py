"""Read rows out of DuckDB as plain Python, times in UTC."""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = itertools.count(1)


@cache
def _instance() -> duckdb.DuckDBPyConnection:
    """Open the DuckDB of this test process. To open and close another takes 15 ms of CPU."""
    return duckdb.connect()


def connected() -> duckdb.DuckDBPyConnection:
    """Connect to a DuckDB in memory; temporary tables and settings are the connection's own."""
    return _instance().cursor()


@contextmanager
def opened(path: Path, *, read_only: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB file that no program writes, as the database that names without one mean."""
    quoted = str(path).replace("'", "''")
    name, options = f"file_{next(_NUMBERS)}", " (READ_ONLY)" if read_only else ""
    with connected() as connection:
        connection.execute(f"ATTACH '{quoted}' AS {name}{options}")
        try:
            connection.execute(f"USE {name}")
            yield connection
        finally:
            connection.execute("USE memory")
            connection.execute(f"DETACH {name}")


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Let another process have a DuckDB file open for writing, as long as the block lasts."""
    holding = (
        "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True);"
        " sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.stdin.close()


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
    with opened(path) as connection:
        return read(connection, table, order)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
