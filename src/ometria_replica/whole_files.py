"""Write a file at once, so that no reader sees a part of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """
    Write *text* in place of what is at *path*, with *mode* whatever the umask is.

    Without a mode, the umask decides. Until it replaces the other, the new file is beside it, with
    a name that ends otherwise. Raises OSError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)  # Of a process with the same number that was killed.
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or 0o666)
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                beside.chmod(mode)
            file.write(text.encode())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
