"""What maintenance does to a table: the order, and the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta

T = TypeVar("T")


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
