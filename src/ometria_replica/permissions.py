"""Whether a file or a folder can be written, and who may read new files."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ometria_replica.errors import WarehouseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def private(path: str, flags: int) -> int:
    """Open a file, as the opener of :func:`open`; a new one is for its owner alone."""
    return os.open(path, flags, PRIVATE_FILE)


def ensure_writable(place: Path, *, folder: bool = False) -> None:
    """Raise WarehouseError unless *place* is there, a *folder* if it must be, and writable."""
    if not os.access(place, os.W_OK) or (folder and not place.is_dir()):
        raise WarehouseError(
            f"{place} does not exist, or cannot be written."
            " Create the folder, or change warehouse.url."
        )


class Holder:
    """Holds a file during a block."""


class ClosedUmask:
    """
    Makes new files of this process as closed to others as other files or folders, while those
    are in use.

    The umask is that of the whole process, so that threads share it: it is restored when the
    last file is released, or its holder is no more.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A holder may end while another is noted.
        self._kept: dict[int, int] = {}
        self._before = 0

    def hold(self, holder: object, file: Path) -> None:
        """Close new files as *file* is; to all but the owner if it does not exist."""
        allowed = file.stat().st_mode if file.exists() else 0
        with self._lock:
            if not self._kept:
                self._before = os.umask(0o077)
            if id(holder) not in self._kept:
                weakref.finalize(holder, self._release, id(holder))
            self._kept[id(holder)] = 0o077 & ~allowed
            self._set()

    @contextmanager
    def held(self, place: Path) -> Iterator[None]:
        """Close new files as *place* is, during the block."""
        holder = Holder()
        self.hold(holder, place)
        try:
            yield
        finally:
            self.release(holder)

    def release(self, holder: object) -> None:
        """Release the file of *holder*; without effect if it holds none."""
        self._release(id(holder))

    def _release(self, holder_id: int) -> None:
        with self._lock:
            if self._kept.pop(holder_id, None) is not None:
                self._set()

    def _set(self) -> None:
        umask = self._before
        for kept in self._kept.values():
            umask |= kept
        os.umask(umask)


CLOSED_UMASK = ClosedUmask()
