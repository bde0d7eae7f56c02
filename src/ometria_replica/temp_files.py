"""
Temporary folders of a run, removed at its end.

The folders of a killed run are removed by the next
run of the same user. A run locks its folders, which the system unlocks when it ends, however it
does: the number of a process says nothing in another container that shares the volume.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica import scratch_files
from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.permissions import PRIVATE_FOLDER

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
    while True:
        with (
            tempfile.TemporaryDirectory(
                prefix=f"{_PREFIX}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
            ) as folder,
            _locked(Path(folder)) as is_ours,
        ):
            if is_ours is not False:
                try:
                    yield Path(folder)
                finally:
                    scratch_files.discard_all(Path(folder))
                return


def _create(folder: Path) -> None:
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
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


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of DuckDB means that it may use too little memory."""
    match type(error).__name__:  # By name: importing DuckDB takes 130 ms.
        case "OutOfMemoryException":
            return True
        case "TransactionException":  # A COMMIT that failed; its cause is in the text.
            return any(sign in str(error) for sign in ("pin block", "allocate", "memory limit"))
    return False


def temp_files_full() -> WarehouseError:
    """Return the error for a folder of temporary files without room."""
    return WarehouseError(
        "The disk for temporary files is full. Nothing of this batch was written."
        " Free some space, or set warehouse.temp_directory (OMETRIA_TEMP_DIRECTORY) to a folder"
        " with free space, then run again."
    )


def remove_leftovers(parent: Path) -> None:
    """Remove the folders that no run has locked, if this user has the permission."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        with _locked(folder) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """
    Hold the lock of a folder; yield False if another run has it, or the folder is gone.

    Another run can find a new folder before it is locked, and remove it. None means that the
    file system has no locks, or Windows, where a folder cannot be opened.
    """
    if sys.platform == "win32":
        yield None
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield _lock(folder, handle)
    finally:
        os.close(handle)


def _lock(folder: Path, handle: int) -> bool | None:
    if sys.platform == "win32":
        return None
    import fcntl  # noqa: PLC0415 -- Windows has no such module.

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return None
