"""Tests the machine: the memory that DuckDB may use, and the disks against what is to be loaded."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ometria_replica.available_memory import available_memory
from ometria_replica.doctor.findings import Finding, failed, passed, warned
from ometria_replica.errors import WarehouseError
from ometria_replica.local_duckdb import config_of
from ometria_replica.ometria.export import DISK_IS_FULL, FILES_AHEAD
from ometria_replica.text import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ometria_replica.config import Limits
    from ometria_replica.records import FeedObject

MEMORY: Final = "machine.memory"
DISK: Final = "machine.disk"

ENOUGH = 1_000_000_000
"""Bytes of memory in which a sync runs by default."""


def check_memory(limits: Limits, available: int | None = None) -> Iterator[Finding]:
    """Tell the limits of DuckDB; *available* is the memory for this process, None to find out."""
    available = available or available_memory()
    config = config_of(limits, Path())
    limit, threads = config["memory_limit"], config["threads"]
    of = f"of {size(available)} that this process may use" if available else ""
    text = f"DuckDB may use {_spaced(limit)} of memory {of}".rstrip() + f", and {threads} threads"
    text = text.removesuffix("s") if threads == "1" else text
    if available and _bytes_of(limit) > available * 0.9:
        yield warned(
            MEMORY,
            f"{text}: beyond what is there, the system ends the program.",
            "Lower warehouse.memory_limit (OMETRIA_MEMORY_LIMIT): half of the memory leaves room"
            " for Python and the files.",
        )
    elif available and available < ENOUGH:
        yield passed(MEMORY, f"{text}; large files load more slowly than with {size(ENOUGH)}.")
    else:
        yield passed(MEMORY, f"{text}.")


@dataclass(frozen=True)
class Load:
    """
    What the next sync is to load of the feeds: *files* that are new, and how these *expand*.

    *expansion* is the size of a plain file by its size in the feed; 1 if it is not known.
    """

    files: tuple[FeedObject, ...] = ()
    expansion: float = 1.0

    @property
    def temporary(self) -> int:
        """Bytes of the largest files that are on the disk at once, as they came and as text."""
        largest = sorted((file.size for file in self.files), reverse=True)[: FILES_AHEAD + 1]
        return int(sum(largest) * (1 + self.expansion))

    @property
    def stored(self) -> int:
        """Bytes of all files as text: more than their rows take in DuckDB, which compresses."""
        return int(sum(file.size for file in self.files) * self.expansion)


@dataclass(frozen=True)
class Place:
    """
    A folder that a sync writes to: *name* it so; it *needs* so many bytes for the next load.

    *mend* says how another one is chosen.
    """

    name: str
    folder: Path
    needs: int
    mend: str


def places(stored_in: Path | None, limits: Limits, loads: Sequence[Load]) -> list[Place]:
    """List the folders; *stored_in* is that of a warehouse on this machine, None without one."""
    temporary = Path(limits.temp_directory or tempfile.gettempdir())
    spill = _bytes_of(config_of(limits, Path())["memory_limit"])
    needs = max((load.temporary for load in loads), default=0) + spill
    found = [
        Place("temporary files", temporary, needs,
              "set warehouse.temp_directory (OMETRIA_TEMP_DIRECTORY) to a folder on a larger disk"),
    ]  # fmt: skip
    if stored_in is not None:
        stored = sum(load.stored for load in loads)
        found.append(Place("the warehouse", stored_in, stored, "move it to a larger disk"))
    return found


def check_disks(
    found: Sequence[Place], free_in: Callable[[Path], int] | None = None
) -> Iterator[Finding]:
    """Compare what is free in each place with what the next load needs; places may share a disk."""
    disks: dict[object, list[Place]] = {}
    for place in found:
        disks.setdefault(_disk_of(place.folder), []).append(place)
    for on_disk in disks.values():
        names = " and ".join(f"{each.name} ({each.folder})" for each in on_disk)
        needs = sum(each.needs for each in on_disk)
        free = (free_in or _free_in)(_existing(on_disk[0].folder))
        load = f"; the next load needs up to {size(needs)}" if needs else ""
        text = f"{size(free)} are free for {names}{load}"
        mend = f"Free some space, or {' or '.join(each.mend for each in on_disk)}."
        if free < DISK_IS_FULL:
            yield failed(DISK, f"{text}.", WarehouseError(f"The disk is full: {names}."), mend)
        elif free < needs:
            yield warned(DISK, f"{text}.", mend)
        else:
            yield passed(DISK, f"{text}.")


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _disk_of(folder: Path) -> object:
    return _existing(folder).stat().st_dev


def _free_in(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _bytes_of(limit: str) -> int:
    """Read a limit as DuckDB and the settings write it: ``550MB``, ``1.5GiB``."""
    number = limit.rstrip("KMGTiB")
    unit = limit[len(number) :]
    return int(float(number) * (1024 if "i" in unit else 1000) ** " KMGT".index(unit[:1] or " "))


def _spaced(limit: str) -> str:
    """Write ``550MB`` as ``550 MB``."""
    number = limit.rstrip("KMGTiB")
    return f"{number} {limit[len(number) :]}"
