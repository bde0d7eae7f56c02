"""
The real program in a process of its own, which a test can interrupt at a named step.

The program announces each step that reads or writes (see ``ometria_replica.failpoints``). The
child listens, and at the step of its plan it kills itself, stops, or moves its clock. Before
the command line starts, the child also changes settings that users cannot change, and no
others: :func:`change_settings` lists them. A plan may switch on one seeded defect.
"""

from __future__ import annotations

import faulthandler
import functools
import logging
import os
import resource
import signal
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from tests.forked import forkserver, run_command_line, stand_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.process import BaseProcess
    from pathlib import Path

Action = Literal["kill", "abort", "raise", "stall", "jump"]


@dataclass(frozen=True)
class Plan:
    """
    How a child runs.

    When it reaches *step* for the *nth* time, during the sync of *table* if one is named, it
    does *do*. *at* is the time of its clock at the start, None the real time. *defect* names
    a seeded defect. *file_bytes* limits the size of each file that it writes. *settle_seconds*
    is the age that a file in a folder needs. *debug* turns on all logging.
    """

    step: str = ""
    table: str = ""
    nth: int = 1
    do: Action = "kill"
    jump: timedelta = timedelta()
    defect: str = ""
    at: datetime | None = None
    timezone: str = "UTC"
    batch_records: int = 100
    batch_files: int = 2
    lock_wait_seconds: float = 0.5
    timeout_seconds: float = 5.0
    give_up_seconds: float = 1.0
    file_bytes: int | None = None
    settle_seconds: float = 0
    debug: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


class Clock:
    """The child's clock. It starts at the time of the plan, runs like real time, and can jump."""

    def __init__(self, at: datetime | None) -> None:
        self._began = time.monotonic()
        self._at = at or datetime.now(UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self._at + timedelta(seconds=time.monotonic() - self._began)

    def jump(self, span: timedelta) -> None:
        """Move by *span*."""
        self._at += span


class Process:
    """A running child."""

    def __init__(self, plan: Plan, arguments: tuple[str, ...], folder: Path, name: str) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self._process: BaseProcess = forkserver().Process(
            target=run, args=(plan, arguments, folder, name), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.exitcode is not None

    def wait(self, seconds: float = 50) -> tuple[int, str, str]:
        """Wait for its end: exit code (negative for a signal), standard output and error."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(
                f"the program hangs: {self._out.read_text()} {self._err.read_text()}"
            )
        return self._process.exitcode, self._out.read_text(), self._err.read_text()


# --- In the child ------------------------------------------------------------------------------


def run(plan: Plan, arguments: tuple[str, ...], folder: Path, name: str) -> None:
    """Run the command line: output to files, its own environment, and the plan applied."""
    stand_alone(folder, name, {"TZ": plan.timezone, **plan.env})
    if plan.do == "stall":  # All of it: another of its threads would hold the file, or read on.
        os.environ["OMETRIA_PARALLEL_ACCOUNTS"] = "1"
    time.tzset()
    faulthandler.enable(file=2)
    if plan.file_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.file_bytes, plan.file_bytes))
    apply(plan, folder)
    run_command_line(arguments)


def apply(plan: Plan, folder: Path) -> None:
    """Change settings, listen to steps, and switch on the defect, for the life of the process."""
    from ometria_replica import failpoints  # noqa: PLC0415 -- only in the child.

    if plan.debug:  # The command line leaves it so, and writes each line in its own format too.
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    clock = Clock(plan.at)
    change_settings(plan, clock)
    listener = Listener(plan, clock, folder)
    failpoints.listen(listener.reached)
    if plan.defect:
        from tests.faults.table_defects import DEFECTS  # noqa: PLC0415

        DEFECTS[plan.defect].install()


def change_settings(plan: Plan, clock: Clock) -> None:
    """
    Change what users cannot set, so that a run of a small account is like one of a large one.

    - The clock: of a sync, of ``state``, of the age of answers, and of the feed.
    - The batch size: few records and files, so that a table has several batches.
    - Timeout, retries, and the seed of their jitter: failures take seconds, and repeat exactly.
    - The six requests a minute for deletion requests: a run of a small account takes no seconds.
    - The first wait before a retry, and the wait for an unreachable host: below a second.
    - The wait for the lock of a DuckDB file: half a second in place of thirty.
    - The threads of DuckDB: one, since several children run at once.
    - The age that a file needs: none unless the plan says so, since most files are whole.
    """
    from ometria_replica import local_duckdb, replication, state_commands  # noqa: PLC0415 -- only in the child.
    from ometria_replica.batch import BatchSize  # noqa: PLC0415
    from ometria_replica.ometria import client, export, retries  # noqa: PLC0415
    from ometria_replica.warehouse.engines import duckdb_file  # noqa: PLC0415
    from ometria_replica.warehouse.warehouse import Warehouse  # noqa: PLC0415

    size = BatchSize(records=plan.batch_records, files=plan.batch_files)
    values: tuple[tuple[Any, str, object], ...] = (
        (replication, "sync", functools.partial(replication.sync, clock=clock)),
        (state_commands, "utc_now", clock),
        (Warehouse, "batch_size", size),
        (retries, "FIRST_WAIT_SECONDS", 0.02),
        (retries, "UNREACHABLE_SECONDS", 0.5),
        (duckdb_file, "WAIT_SECONDS", plan.lock_wait_seconds),
        (local_duckdb, "_cores", lambda: 1),
    )
    for owner, name, value in values:
        patch(owner, name, value)
    arguments: tuple[tuple[Any, Mapping[str, object]], ...] = (
        (client.Client, {"now": clock, "timeout_seconds": plan.timeout_seconds,
                         "give_up_after_seconds": plan.give_up_seconds, "seed": 7,
                         "requests_per_minute": {}}),
        (export.ExportFiles, {"clock": clock, "settle_seconds": plan.settle_seconds}),
    )  # fmt: skip
    for owner, given in arguments:
        patch(owner, "__init__", _with(owner.__init__, given))


def patch(owner: Any, name: str, value: object) -> None:
    """Replace an attribute of the product, which must have it."""
    getattr(owner, name)
    setattr(owner, name, value)


def _with(original: Callable[..., Any], settings: Mapping[str, object]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        return original(*args, **{**options, **settings})

    return wrapped


class Listener:
    """
    Counts the steps that the program announces, and interrupts it at the step of the plan.

    A table is current from its "before table" to the next one's, or to its "after table", in what
    is done for it by any thread: others may read another table at the same time. The threads of
    libraries, which are told nothing, work for the thread that loads.
    """

    def __init__(self, plan: Plan, clock: Clock, folder: Path) -> None:
        self._plan, self._clock, self._folder = plan, clock, folder
        self._table: ContextVar[str] = ContextVar("table")
        self._loaded = ""
        self._count = 0
        self._lock = threading.Lock()  # Several threads read.

    def reached(self, step: str) -> None:
        """Take note of *step*, and act if it is the one of the plan."""
        when, _, name = step.partition(" ")
        if name.startswith("table "):
            self._table.set(name.removeprefix("table ") if when == "before" else "")
        if threading.current_thread() is threading.main_thread():
            self._loaded = self._table.get("")
        if step != self._plan.step or self._plan.table not in {"", self._table.get(self._loaded)}:
            return
        with self._lock:
            self._count += 1
            if self._count != self._plan.nth:
                return
        self._act()

    def _act(self) -> None:
        match self._plan.do:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "abort":
                os.abort()
            case "raise":
                raise MemoryError
            case "stall":
                (self._folder / "stalled").touch()
                while not (self._folder / "go on").exists():
                    time.sleep(0.01)
            case "jump":
                self._clock.jump(self._plan.jump)
