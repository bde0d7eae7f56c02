"""
Folders for what a run needs only while it lasts, gone after it, however it ended.

They hold people's data in plain files. A run that was killed could not remove its own,
so the next run of this user on this machine does.
"""

from __future__ import annotations

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
def scratch_folder() -> Iterator[Path]:
    """Make a folder, and remove it with all that is in it at the end."""
    remove_what_dead_runs_left()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def remove_what_dead_runs_left() -> None:
    """Remove the folders of processes that are no more, as far as they are ours to remove."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and folder.is_dir() and not is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Tell whether a process with this number runs on this machine, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def process_mark(pid: int) -> str:
    """
    Tell one process from a later one with its number, by when it was started.

    Empty where the system does not say (no ``/proc``), or there is no such process.
    """
    try:
        # Field 22, counted after the name in parentheses, which may hold anything.
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return ""
    return f"{boot}/{started}"
