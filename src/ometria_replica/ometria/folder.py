"""
The files of a feed that is a folder: lists them, and reads the version that was listed.

The driver of buckets can list a folder too, but its listing ends at the first name, link or
folder that it cannot read.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.errors import OmetriaError
from ometria_replica.ometria.file_names import from_text, to_text
from ometria_replica.ometria.refusals import CHANGED, GONE, MovedOn, NotGiven
from ometria_replica.records import FeedObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    _Folders = deque[tuple[Path, str]]

PIECE = 1 << 20
LAST = datetime(9999, 12, 31, tzinfo=UTC)
LINK = "it is a link out of the feed's folder; `follow_symlinks` allows such links"

# Names of files that another program is still writing, and of hidden ones.
_UNFINISHED = re.compile(
    r"(^|/)\.|(\.(part|partial|tmp|temp|filepart|crdownload)|~)$", re.IGNORECASE
)


@dataclass
class FolderFiles:
    """
    The files below *folder*.

    *troubles* says why the last listing could not look at a name, which it yields even so. The
    name of a folder ends with a slash.
    """

    folder: Path
    follow_symlinks: bool = False
    troubles: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Find the folder's own path, with no link in it."""
        self._root = os.path.realpath(self.folder)

    @property
    def place(self) -> str:
        """Name the folder in messages."""
        return str(self.folder)

    @property
    def warning(self) -> None:
        """What is unsafe about the way to the files: nothing."""

    def list(self, start_after: str | None = None) -> Iterator[FeedObject]:
        """
        Yield the files whose names sort after *start_after*, except hidden and unfinished ones.

        A folder that several links lead to is listed once, under its own name if it has one.
        Raises OmetriaError if the folder itself cannot be read.
        """
        self.troubles.clear()
        first = os.fsencode(start_after or "")
        seen: set[tuple[int, int]] = set()
        folders = deque([(Path(self._root), "")])
        while folders:
            for found in self._listed(*folders.popleft(), folders, seen):
                if os.fsencode(found.name) > first:
                    yield found

    def pieces(self, origin: FeedObject) -> Iterator[bytes]:
        """Yield the file in pieces; raises MovedOn unless it is the listed version to the end."""
        if origin.name in self.troubles:
            raise NotGiven(self.troubles[origin.name])
        path = Path(self._root, os.fsdecode(from_text(origin.name)))
        try:
            if not self._may_read(path):
                raise NotGiven(LINK)
            with open(path, "rb", buffering=0, opener=_opened) as file:
                self._compare(origin, os.fstat(file.fileno()))
                while piece := file.read(PIECE):
                    yield piece
                self._compare(origin, os.fstat(file.fileno()))
            self._compare(origin, path.stat())  # Another file may have its name by now.
        except FileNotFoundError:
            raise MovedOn(GONE) from None
        except OSError as error:
            raise NotGiven(f"it cannot be opened ({_reason(error)})") from None

    def _compare(self, origin: FeedObject, found: os.stat_result) -> None:
        if (_etag(found), found.st_size) != (origin.etag, origin.size):
            raise MovedOn(CHANGED)

    def _listed(
        self, folder: Path, prefix: str, folders: _Folders, seen: set[tuple[int, int]]
    ) -> Iterator[FeedObject]:
        """Yield the files in *folder*, and add its folders to *folders*, links at the end."""
        try:
            there = folder.stat()
            if (there.st_dev, there.st_ino) in seen:
                return
            seen.add((there.st_dev, there.st_ino))
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            if not prefix:
                raise OmetriaError(
                    f"{self.place}: listing its files failed ({_reason(error)})."
                    " Check that the folder can be read."
                ) from None
            yield self._trouble(prefix, folder, f"the folder cannot be read ({_reason(error)})")
            return
        for entry in found:
            name = prefix + to_text(os.fsencode(entry.name))
            if not _UNFINISHED.search(name):
                yield from self._look_at(entry, name, folders)

    def _look_at(
        self, entry: os.DirEntry[str], name: str, folders: _Folders
    ) -> Iterator[FeedObject]:
        path = Path(entry.path)
        try:
            if entry.is_symlink() and not self._may_read(path):
                yield self._trouble(name, path, LINK)
                return
            found = entry.stat()
        except OSError as error:
            if entry.is_symlink() or not isinstance(error, FileNotFoundError):
                yield self._trouble(name, path, f"it cannot be opened ({_reason(error)})")
            return
        if stat.S_ISREG(found.st_mode):
            yield _object(name, found)
        elif stat.S_ISDIR(found.st_mode):
            add = folders.append if entry.is_symlink() else folders.appendleft
            add((path, f"{name}/"))

    def _may_read(self, path: Path) -> bool:
        """Whether it is in the folder when all links are followed, or may be elsewhere."""
        target = os.path.realpath(path, strict=True)
        return self.follow_symlinks or os.path.commonpath([self._root, target]) == self._root

    def _trouble(self, name: str, path: Path, reason: str) -> FeedObject:
        self.troubles[name] = reason
        try:
            found = _object(name, path.lstat())
        except OSError:
            return FeedObject(name, "", 1, LAST)
        return replace(found, size=max(1, found.size))  # An empty file would not be reported.


def _object(name: str, found: os.stat_result) -> FeedObject:
    return FeedObject(name, _etag(found), found.st_size, _time(found))


def _etag(found: os.stat_result) -> str:
    """Write the version as the driver does, with which older file logs were written."""
    return f'"{found.st_ino:x}-{found.st_mtime_ns // 1000:x}-{found.st_size:x}"'


def _time(found: os.stat_result) -> datetime:
    seconds, rest = divmod(found.st_mtime_ns, 10**9)
    try:
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=rest // 1000)
    except (OverflowError, ValueError, OSError):  # Some file systems hold years beyond 9999.
        return LAST


def _opened(path: str, flags: int) -> int:
    """Open a file; a pipe that took its name would block without O_NONBLOCK, except on Windows."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
