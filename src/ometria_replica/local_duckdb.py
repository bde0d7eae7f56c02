"""The DuckDB in which records are mapped, whatever the warehouse."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from ometria_replica.errors import WarehouseError
from ometria_replica.temp_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack


def open_staging(closing: ExitStack) -> duckdb.DuckDBPyConnection:
    """Open one in memory, which spills into a folder that is gone when *closing* ends."""
    spill = closing.enter_context(temp_folder())
    staging = duckdb.connect(
        config={"temp_directory": str(spill), "autoinstall_known_extensions": "false"}
    )
    closing.callback(staging.close)
    staging.execute("SET TimeZone = 'UTC'")  # A time without a zone is UTC.
    return staging


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """
    Turn errors of a staging that is no warehouse itself into ours.

    The driver's texts may quote a customer's data, so they stay out of the message.
    """
    try:
        yield
    except duckdb.Error as error:
        if is_full(error):
            raise WarehouseError(
                "There is no room for temporary files. Nothing of this batch was written."
                " Make room, or set TMPDIR to a folder that has some, then run again."
            ) from error
        raise WarehouseError(
            f"DuckDB failed while {doing} ({type(error).__name__})."
            " Nothing of this batch was written. Run again; if it happens again, report it."
        ) from error


def is_full(error: duckdb.Error) -> bool:
    """Tell whether an error is that of a full disk, or of a file that may not grow."""
    return "No space left" in str(error) or "File too large" in str(error)
