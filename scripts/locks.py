"""The lock files as data: which packages each of them pins, and which package asks for which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "requirements" / "runtime.txt"
EXTRAS = ROOT / "requirements" / "extras"

_ENTRY = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\\n]+?))?\s*\\?$")
_VIA = re.compile(r"^    #(?: via| {2}) +([A-Za-z0-9][\w.-]*)")


@dataclass(frozen=True)
class Pin:
    """
    A package that a lock file names.

    *marker* says where it is installed, "" everywhere; *wanted_by* are the names of the packages
    that ask for it, and *hashes* those of its files, by SHA-256.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    wanted_by: tuple[str, ...]


def pins(path: Path) -> list[Pin]:
    """Read a lock file that `make lock` wrote, in its order."""
    found = []
    for block in re.split(
        r"^(?=[\w.-]+(?:\[[^\]]*\])?==)", path.read_text("utf-8"), flags=re.MULTILINE
    ):
        first, *rest = block.splitlines() or [""]
        if entry := _ENTRY.match(first):
            name, version, marker = entry.groups()
            hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
            wanted_by = (via.group(1) for line in rest if (via := _VIA.match(line)))
            found.append(Pin(name, version, marker or "", hashes, tuple(sorted(set(wanted_by)))))
    return found


def extras() -> dict[str, Path]:
    """Map the name of each extra to its lock file, which also pins the runtime's packages."""
    return {path.stem: path for path in sorted(EXTRAS.glob("*.txt"))}
