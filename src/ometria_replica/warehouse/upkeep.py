"""What maintenance does to a table: the order, and the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")

MANY_FILES = 200
"""By which maintenance must reduce a table to be due: hourly runs of a week add 168."""

MANY_VERSIONS = 10
"""Overdue ones, from which on maintenance is due."""

OVERDUE = timedelta(weeks=3)
"""
How much longer than its retention no version stays in a table that is maintained each week.

In Delta a version can be read as long as the log has it, which is shortened to a checkpoint: one
of the second maintenance before, at the latest.
"""


@dataclass(frozen=True)
class Upkeep:
    """
    An order: versions that were replaced longer than *retention* ago are removed.

    *retention* None: a week, or what the properties of a table say if that is longer. With
    *optimize*, small files are written together first. With *dry_run* nothing is changed.
    """

    retention: timedelta | None = None
    optimize: bool = True
    dry_run: bool = False


@dataclass(frozen=True)
class Files:
    """A number of files, and their bytes."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Files) -> Files:
        """Add both numbers."""
        return Files(self.count + other.count, self.bytes + other.bytes)

    @classmethod
    def of(cls, sizes: Iterable[int]) -> Files:
        """Count files by their sizes in bytes."""
        known = tuple(sizes)
        return cls(len(known), sum(known))


@dataclass(frozen=True)
class Maintained:
    """
    What was done to *table*, or would be.

    *before* are the data files of its newest version. *joined* of them were written together into
    *written*, whose bytes a dry run does not know. *removed* are files that no version needs any
    more: data, and in Iceberg manifests. *stays* says what could not be done, as parts of a
    sentence.
    """

    table: str
    before: Files = Files()
    joined: Files = Files()
    written: Files = Files()
    removed: Files = Files()
    stays: tuple[str, ...] = field(default=())

    def adding(self, joined: Files, written: Files) -> Maintained:
        """Count files that were written together."""
        return replace(self, joined=self.joined + joined, written=self.written + written)


@dataclass(frozen=True)
class Due:
    """
    A *table* for which maintenance is due.

    *files* are the data files of its newest version, and *small_files* those of them by which
    maintenance makes them fewer, at least; *old_versions* were replaced more than OVERDUE longer
    ago than versions stay. Either is 0 if it is no reason.
    """

    table: str
    files: int
    small_files: int
    old_versions: int

    @classmethod
    def found(cls, table: str, files: int, small_files: int, old_versions: int) -> Due | None:
        """Compare the numbers of a table with the limits; None if maintenance is not due."""
        small = small_files if small_files >= MANY_FILES else 0
        old = old_versions if old_versions >= MANY_VERSIONS else 0
        return cls(table, files, small, old) if small or old else None


def joinable(files: Sequence[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """
    Group *files* that lie one after the other, of at most *most* bytes together.

    A larger file is left out. Only groups of several files are worth writing anew.
    """
    group: list[T] = []
    for file in files:
        if size(file) > most:
            continue
        if sum(map(size, group)) + size(file) > most:
            if len(group) > 1:
                yield group
            group = []
        group.append(file)
    if len(group) > 1:
        yield group


def surplus(files: Files, most: int) -> int:
    """
    Return by how many files :func:`joinable` makes *files* fewer, at least.

    Of two groups that lie one after the other, the files have more than *most* bytes together.
    """
    return max(files.count - 2 * files.bytes // most - 1, 0)
