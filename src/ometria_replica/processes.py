"""Whether a process still runs, and whether it is the same one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def is_running(pid: int) -> bool:
    """
    Return whether a process with this number runs on this machine, under any user.

    On Windows always true: there the signal 0 would end the process.
    """
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def process_start(pid: int) -> str:
    """
    Identify a process by its start time, so that a later one with the same number differs.

    Empty if the system has no ``/proc``, or no such process exists.
    """
    try:
        # Field 22, counted after the name in parentheses, which may hold anything.
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return ""
    return f"{boot}/{started}"
