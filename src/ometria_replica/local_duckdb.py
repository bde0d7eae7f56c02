"""The embedded DuckDB in which records are staged, for every warehouse."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import duckdb

from ometria_replica.errors import WarehouseError
from ometria_replica.stopping import interruptible
from ometria_replica.temp_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path


def open_duckdb(
    temp_folder: Path, memory_limit: str | None = None, *, threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """
    Open a DuckDB in memory that spills into *temp_folder* and installs no extension.

    A *memory_limit* or *threads* of None is DuckDB's own: 80 % of the memory, all cores.
    """
    limits = {"memory_limit": memory_limit, "threads": threads}
    connection = duckdb.connect(
        config={
            "temp_directory": str(temp_folder),
            "autoinstall_known_extensions": "false",
            **{name: limit for name, limit in limits.items() if limit is not None},
        }
    )
    connection.execute("SET TimeZone = 'UTC'")  # A time without a zone is UTC.
    return connection


def open_staging(closing: ExitStack) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB in memory whose spill folder is deleted when *closing* ends."""
    staging = open_duckdb(closing.enter_context(temp_folder()))
    closing.callback(staging.close)
    return staging


@contextmanager
def translating(doing: str, connection: duckdb.DuckDBPyConnection | None = None) -> Iterator[None]:
    """
    Convert errors of a staging DuckDB that is not the warehouse into WarehouseError.

    The text of the driver may quote customer data, so the message leaves it out. A signal
    interrupts the statement of *connection*.
    """
    try:
        with interruptible(connection.interrupt) if connection else nullcontext():
            yield
    except duckdb.Error as error:
        if is_full(error):
            raise WarehouseError(
                "The disk for temporary files is full. Nothing of this batch was written."
                " Free some space, or set TMPDIR to a folder with free space, then run again."
            ) from error
        raise WarehouseError(
            f"DuckDB failed while {doing} ({type(error).__name__})."
            " Nothing of this batch was written. Run again; if it happens again, report it."
        ) from error


def is_full(error: duckdb.Error) -> bool:
    """Return whether the error means a full disk, or a file at its size limit."""
    return "No space left" in str(error) or "File too large" in str(error)
