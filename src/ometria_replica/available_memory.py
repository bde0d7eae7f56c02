"""
How much memory this process may use: the machine's, or less in a container.

DuckDB reads the limit of a container from one file; with nested groups, as in Kubernetes or
systemd, the limit of a group above may be the lower one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")


def available_memory(root: Path = _ROOT) -> int | None:
    """
    Return the bytes that this process may use; None if the system does not tell.

    The lowest of the machine's memory, the limits of the control groups (version 2 and 1) and
    the limits of ``ulimit``. *root* is the root of the files that tell of control groups.
    """
    limits = [*_machine(), *_control_groups(root), *_ulimits()]
    return min(limits, default=None)


def _machine() -> Iterator[int]:
    if sys.platform == "win32":  # It tells otherwise.
        return
    try:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return


def _ulimits() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 -- Windows has no such module.

    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield limit


def _control_groups(root: Path) -> Iterator[int]:
    """Yield the limits of the group of this process, and of each group above it."""
    own = _own_groups(root)
    for kind, mounted_root, mount_point, options in _mounts(root):
        if kind == "cgroup2":
            group, name = own.get(""), "memory.max"
        elif "memory" in options:
            group, name = own.get("memory"), "memory.limit_in_bytes"
        else:
            continue
        if group is not None:
            mounted = root / mount_point.lstrip("/")
            for part in _and_above(group, mounted_root):
                yield from _number(mounted / part / name)


def _own_groups(root: Path) -> dict[str, str]:
    """Map each controller to the group of this process; version 2 has the name ``""``."""
    groups: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        groups |= dict.fromkeys(controllers.split(","), path)
    return groups


def _mounts(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield the kind, root, place and options of each mounted tree of control groups."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 4 and len(kinds) > 2 and kinds[0].startswith("cgroup"):
            yield kinds[0], fields[3], fields[4], kinds[2].split(",")


def _and_above(group: str, mounted_root: str) -> Iterator[str]:
    """
    Yield *group* and the groups above it, as paths below the place of the mount.

    A container may see only its own group, mounted as the root of the tree, and yet read the
    group's full path: then the root is that group.
    """
    path, top = PurePosixPath(group), PurePosixPath(mounted_root)
    if path.is_relative_to(top):
        path = PurePosixPath("/") / path.relative_to(top)
    elif ".." in path.parts:
        path = PurePosixPath("/")
    for each in (path, *path.parents):
        yield str(each).lstrip("/")


def _number(path: Path) -> Iterator[int]:
    """Yield the number in a file; none for ``max``, or without the file."""
    for line in _lines(path)[:1]:
        if line.isascii() and line.isdigit():
            yield int(line)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
