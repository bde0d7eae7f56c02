"""
Temporary folders of a run, removed at its end.

They hold personal data in plain files. The folders of a killed run are removed by the next
run of the same user on the same machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.processes import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ometria-replica-"


@contextmanager
def temp_folder() -> Iterator[Path]:
    """Create a folder, and remove it with its contents at the end."""
    remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def remove_leftovers() -> None:
    """Remove the folders of processes that have ended, if this user has the permission."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and folder.is_dir() and not is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
