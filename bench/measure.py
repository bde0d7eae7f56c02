"""Measures the time of a process, and its memory including its descendants."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOOK_EVERY = 0.2  # Seconds. Reading /proc costs the other processes less than a millisecond.
QUIET = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "SLING_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}
"""Disables all telemetry."""


class FailedError(Exception):
    """The process failed. The message is the end of its output."""


@dataclass(frozen=True)
class Run:
    """
    The cost of a process: *peak_mb* is the largest sum over all its processes, in MB of 10^6.

    *cpu_seconds* is the time of all cores, which hardly depends on other load.
    """

    seconds: float
    peak_mb: float
    output: str
    cpu_seconds: float


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Run:
    """
    Run a command to its end.

    The parent must stay small: the peak of a child includes the parent's memory at its start.
    """
    words = [str(word) for word in command]
    began = time.perf_counter()
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**_plain_environment(), **QUIET, **(environment or {})},
        text=True,
    )
    watch = _Watch(process.pid)
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    if process.returncode:
        raise FailedError(output[-2000:])
    unit = 1 if sys.platform == "darwin" else 1024
    peak_mb = max(watch.peak, usage.ru_maxrss * unit) / 1e6
    return Run(seconds, peak_mb, output, usage.ru_utime + usage.ru_stime)


def _plain_environment() -> dict[str, str]:
    """Return the environment without the settings of an account."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMETRIA_", "AWS_"))
    }


class _Watch:
    """Samples the memory of a process and its descendants, and keeps the maximum."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_EVERY):
            self.peak = max(self.peak, _resident(self._pid))


def _resident(pid: int) -> int:
    """Return the resident bytes of a process and its descendants; 0 without /proc."""
    size = 0
    with suppress(OSError, ValueError):
        process = Path("/proc") / str(pid)
        size = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for thread in (process / "task").iterdir():
            children = (thread / "children").read_text().split()
            size += sum(_resident(int(child)) for child in children)
    return size
