"""
Temporary folders of a run, removed at its end.

They hold personal data in plain files. The folders of a killed run are removed by the next
run of the same user on the same machine.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.processes import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ometria-replica-"


@contextmanager
def temp_folder(directory: str | None = None) -> Iterator[Path]:
    """
    Create a folder in *directory*, and remove it with its contents at the end.

    None means the folder for temporary files of this machine, which ``TMPDIR`` names.
    A *directory* that does not exist is created. Raises ConfigError if that is not possible.
    """
    parent = Path(directory or tempfile.gettempdir())
    if directory:
        _create(parent)
    remove_leftovers(parent)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent) as folder:
        yield Path(folder)


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise ConfigError(
            f"warehouse.temp_directory: {folder} cannot be used: {reason}."
            " Name a folder that can be written."
        )


def is_full(error: Exception) -> bool:
    """Return whether an error of the system or of DuckDB means a full disk, or a file too large."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return "No space left" in str(error) or "File too large" in str(error)


def temp_files_full() -> WarehouseError:
    """Return the error for a folder of temporary files without room."""
    return WarehouseError(
        "The disk for temporary files is full. Nothing of this batch was written."
        " Free some space, or set warehouse.temp_directory (OMETRIA_TEMP_DIRECTORY) to a folder"
        " with free space, then run again."
    )


def remove_leftovers(parent: Path) -> None:
    """Remove the folders of processes that have ended, if this user has the permission."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and folder.is_dir() and not is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
