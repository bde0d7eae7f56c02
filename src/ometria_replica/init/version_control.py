"""Whether git would take a file with secrets into its next commit."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 5.0
_NOT_IGNORED = 1  # Of `git check-ignore`; 0 is ignored, and 128 is no work tree.


def not_ignored(path: Path) -> bool:
    """Whether *path* is in a work tree of git that does not ignore it."""
    git = shutil.which("git")
    if git is None:
        return False
    place = path.absolute()
    try:
        asked = subprocess.run(  # noqa: S603 -- Our own arguments.
            [git, "-C", str(place.parent), "check-ignore", "--quiet", "--", place.name],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == _NOT_IGNORED
