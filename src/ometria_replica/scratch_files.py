"""
Files of a run without a name on the disk, so that the system removes them however the run ends.

Each is a link to a handle of this process, below ``/proc``. The file itself has lost its name
before anything is written to it. After a kill only the link is left, which leads nowhere. Where
the system has no ``/proc``, as on macOS, or a process may have too few open files, they are
ordinary files.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ometria_replica.permissions import PRIVATE_FILE

if TYPE_CHECKING:
    from pathlib import Path

_HANDLES: dict[Path, int] = {}
_LOCK = threading.Lock()
_SHARE = 3  # Of the files that a process may have open, one in so many is for these.


def create(path: Path) -> Path:
    """Create an empty file for its owner alone, in place of any at *path*; return *path*."""
    discard(path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    link = f"/proc/self/fd/{handle}"
    try:
        if not _is_same(link, handle) or not _has_room():
            os.close(handle)
            return path
        path.unlink()
        path.symlink_to(link)
    except BaseException:
        with suppress(OSError):
            os.close(handle)
        path.unlink(missing_ok=True)
        raise
    with _LOCK:
        _HANDLES[path] = handle
    return path


def create_in(folder: Path, prefix: str) -> Path:
    """Create an empty file with a name of its own that begins with *prefix*."""
    return create(folder / f"{prefix}{secrets.token_hex(8)}")


def replace(path: Path, fresh: Path) -> None:
    """Let *fresh* take the place of *path*, whose contents are removed; both were created here."""
    fresh.replace(path)
    with _LOCK:
        before, handle = _HANDLES.pop(path, None), _HANDLES.pop(fresh, None)
        if handle is not None:
            _HANDLES[path] = handle
    _close(before)


def discard(path: Path) -> None:
    """Remove a file; without effect if it is gone."""
    with _LOCK:
        handle = _HANDLES.pop(path, None)
    path.unlink(missing_ok=True)
    _close(handle)


def discard_all(folder: Path) -> None:
    """Let go of the files in *folder*, which is about to be removed."""
    with _LOCK:
        left = [path for path in _HANDLES if path.is_relative_to(folder)]
    for path in left:
        discard(path)


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _is_same(link: str, handle: int) -> bool:
    """Whether another handle of the file can be opened by *link*."""
    try:
        return os.path.samestat(os.stat(link), os.fstat(handle))  # noqa: PTH116 -- no path of ours.
    except OSError:
        return False


def _has_room() -> bool:
    """Whether the process may hold one more file; the limit is raised if it can be."""
    if sys.platform == "win32":
        return False
    import resource  # noqa: PLC0415 -- Windows has no such module.

    wanted = _SHARE * (len(_HANDLES) + 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return True
    more = 2 * wanted if hard == resource.RLIM_INFINITY else min(2 * wanted, hard)
    if wanted > more:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
    except (OSError, ValueError):
        return False
    return True
