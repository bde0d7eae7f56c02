"""Whether a file or a folder can be written, and who may read new files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ometria_replica.errors import WarehouseError

if TYPE_CHECKING:
    from pathlib import Path


def ensure_writable(place: Path, *, folder: bool = False) -> None:
    """Raise WarehouseError unless *place* is there, a *folder* if it must be, and writable."""
    if not os.access(place, os.W_OK) or (folder and not place.is_dir()):
        raise WarehouseError(
            f"{place} does not exist, or cannot be written."
            " Create the folder, or change warehouse.url."
        )


def closed_umask(file: Path) -> int:
    """
    Make new files of this process as closed to others as *file*; return the umask of before.

    A *file* that does not exist is closed to all but its owner.
    """
    allowed = file.stat().st_mode if file.exists() else 0
    before = os.umask(0o077)
    os.umask(before | (0o077 & ~allowed))
    return before
