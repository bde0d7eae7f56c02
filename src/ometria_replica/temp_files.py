"""
Temporary folders of a run, removed at its end.

They hold personal data in plain files. The folders of a killed run are removed by the next
run of the same user. A run locks its folders, which the system unlocks when it ends, however it
does: the number of a process says nothing in another container that shares the volume.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ometria-replica-"


@contextmanager
def temp_folder() -> Iterator[Path]:
    """Create a folder, and remove it with its contents at the end."""
    remove_leftovers()
    while True:
        with (
            tempfile.TemporaryDirectory(
                prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True
            ) as folder,
            _locked(Path(folder)) as is_ours,
        ):
            if is_ours is not False:
                yield Path(folder)
                return


def remove_leftovers() -> None:
    """Remove the folders that no run has locked, if this user has the permission."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        with _locked(folder) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """
    Hold the lock of a folder; yield False if another run has it, or the folder is gone.

    Another run can find a new folder before it is locked, and remove it. None means that the
    file system has no locks.
    """
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
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return None
