"""The embedded DuckDB in which records are staged, for every warehouse."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import duckdb

from ometria_replica.available_memory import available_memory
from ometria_replica.config.limits import NO_LIMITS, Limits
from ometria_replica.errors import NotEnoughMemory, WarehouseError
from ometria_replica.stopping import interruptible
from ometria_replica.temp_files import is_full, is_out_of_memory, temp_files_full, temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path


PROCESS_MEMORY = 1_000_000_000
"""Bytes that a process may take by default: less in a container that allows less."""

_OWN_SHARE = 0.55  # Of it; the rest is for Python, Arrow and files that are being decompressed.
_LOWEST = 100_000_000
_THREADS = 4  # By default: each reads, maps and sorts in memory of its own.

# Temporary files hold personal data, and a kill leaves them on the disk: so they are encrypted,
# with a key that is only in memory. DuckDB calls its built-in cryptography unsafe, since a
# generator that can be predicted in principle makes its keys; the alternative is an extension.
_ENCRYPTED = {"temp_file_encryption": "true", "force_mbedtls_unsafe": "true"}


def open_duckdb(
    folder: Path, limits: Limits = NO_LIMITS, *, path: str = ":memory:", read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """
    Open a DuckDB, by default in memory, that spills into *folder* and installs no extension.

    Limits that are not set are those of :func:`default_limits`.
    """
    connection = duckdb.connect(path, read_only=read_only, config=config_of(limits, folder))
    connection.execute("SET TimeZone = 'UTC'")  # A time without a zone is UTC.
    return connection


def config_of(limits: Limits, folder: Path) -> dict[str, Any]:
    """Return the configuration of a DuckDB that spills into *folder*."""
    return {
        "memory_limit": limits.memory_limit or f"{_default_memory() // 1_000_000}MB",
        "threads": str(limits.threads or min(_THREADS, _cores())),
        "temp_directory": str(folder),
        "autoinstall_known_extensions": "false",
        **_ENCRYPTED,
    }


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, name: str, rows: Any) -> Iterator[None]:
    """Let the statements of a block read *rows*, Arrow data, as the relation *name*."""
    connection.register(name, rows)
    try:
        yield
    finally:
        connection.unregister(name)


def open_staging(closing: ExitStack, limits: Limits = NO_LIMITS) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB in memory whose spill folder is deleted when *closing* ends."""
    folder = closing.enter_context(temp_folder(limits.temp_directory))
    staging = open_duckdb(folder, limits)
    closing.callback(staging.close)
    return staging


def _default_memory() -> int:
    available = available_memory() or PROCESS_MEMORY
    return max(_LOWEST, int(min(available, PROCESS_MEMORY) * _OWN_SHARE))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    except OSError as error:
        if not is_full(error):
            raise
        raise temp_files_full() from error
    except duckdb.Error as error:
        if explained := lack(error, doing):
            raise explained from error
        raise WarehouseError(
            f"DuckDB failed while {doing} ({type(error).__name__})."
            " Nothing of this batch was written. Run again; if it happens again, report it."
        ) from error


def lack(error: duckdb.Error, doing: str) -> WarehouseError | None:
    """Explain a lack of memory, or of room for temporary files; None for another error."""
    text = str(error)
    if "max_temp_directory_size" in text or is_full(error):
        return temp_files_full()
    if is_out_of_memory(error):
        return NotEnoughMemory(
            f"DuckDB has not enough memory while {doing}. Nothing of this batch was written."
            " Raise warehouse.memory_limit (OMETRIA_MEMORY_LIMIT), or lower warehouse.threads,"
            " then run again."
        )
    return None
