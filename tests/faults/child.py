"""
The real program in a process of its own, that can be hurt at a named step.

Nothing of this is in the product: before it calls the real command line, the child wraps
the methods that read and write, so that reaching a step can kill it, stop it, or make its
clock jump; and it may switch on one of the seeded defects. Children are forked from a
server that has imported everything, so that each takes tenths of a second.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.process import BaseProcess

ROOT = Path(__file__).parents[2]
PRELOADED = (
    "tests.faults.child",
    "tests.faults.defects",
    "duckdb",
    "pyarrow",
    "obstore",
    "httpx2",
    "filelock",
    "ometria_replica.cli",
    "ometria_replica.config",
    "ometria_replica.maintenance",
    "ometria_replica.progress",
    "ometria_replica.ometria.bucket",
    "ometria_replica.warehouse.engines.postgres",
    "ometria_replica.warehouse.remotes.dlt_destinations.duckdb",
)

Action = Literal["kill", "abort", "raise", "stall", "jump"]


@dataclass(frozen=True)
class Plan:
    """
    What happens to a child.

    When *step* is reached for the *nth* time, while it is about *table* where one is
    named, it does *do*. *at* is what its clock says when it starts, None the real time.
    *defect* names a defect to switch on. *file_bytes* is the most that a file may grow to.
    With *debug* everything is logged that can be.
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
    give_up_seconds: float = 2.0
    file_bytes: int | None = None
    debug: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


class Clock:
    """The child's clock: it runs as real time does, from where the plan says, and can jump."""

    def __init__(self, at: datetime | None) -> None:
        self._began = time.monotonic()
        self._at = at or datetime.now(UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self._at + timedelta(seconds=time.monotonic() - self._began)

    def jump(self, span: timedelta) -> None:
        """Be somewhere else."""
        self._at += span


class Process:
    """A child under way."""

    def __init__(self, plan: Plan, arguments: tuple[str, ...], folder: Path, name: str) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self._process: BaseProcess = _context().Process(
            target=run, args=(plan, arguments, folder, name), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self._process.exitcode is not None

    def wait(self, seconds: float = 50) -> tuple[int, str, str]:
        """Wait for its end: exit code (negative for a signal), standard output and error."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise AssertionError(f"it hangs: {self._out.read_text()} {self._err.read_text()}")
        return self._process.exitcode, self._out.read_text(), self._err.read_text()


@functools.cache
def _context() -> Any:
    """Start the server that children are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    try:
        process = context.Process(target=int)
        process.start()
        process.join()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


# --- In the child ------------------------------------------------------------------------------


def run(plan: Plan, arguments: tuple[str, ...], folder: Path, name: str) -> None:
    """Be the command line: streams into files, an environment of its own, the plan in force."""
    for stream, suffix in ((1, "out"), (2, "err")):
        target = os.open(folder / f"{name}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    kept = {"PATH": os.environ.get("PATH", "")}
    home = {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", "TZ": plan.timezone}
    os.environ.clear()
    os.environ.update({**kept, **home, **plan.env})
    time.tzset()
    faulthandler.enable(file=2)
    if plan.file_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.file_bytes, plan.file_bytes))
    prepare(plan, folder)
    from ometria_replica.cli import main  # noqa: PLC0415 -- the plan comes first.

    sys.argv = ["ometria-replica", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 -- as the interpreter would.
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def prepare(plan: Plan, folder: Path) -> None:
    """Wrap what the plan speaks of, in this process, for good."""
    from ometria_replica import maintenance, replication  # noqa: PLC0415 -- only the child wraps.
    from ometria_replica.batch import BatchSize  # noqa: PLC0415
    from ometria_replica.ometria import client, export  # noqa: PLC0415
    from ometria_replica.warehouse.engines import duckdb  # noqa: PLC0415
    from ometria_replica.warehouse.remotes import table_format as lake  # noqa: PLC0415
    from ometria_replica.warehouse.warehouse import Warehouse  # noqa: PLC0415
    from tests.faults import defects  # noqa: PLC0415

    if plan.debug:  # The command line's own logging finds this one there, and leaves it.
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    clock = Clock(plan.at)
    patch(replication, "sync", functools.partial(replication.sync, clock=clock))
    patch(maintenance, "utc_now", clock)
    size = BatchSize(records=plan.batch_records, files=plan.batch_files)
    for warehouse in (Warehouse, lake.LakeWarehouse):
        patch(warehouse, "batch_size", size)
    patch(client, "FIRST_WAIT_SECONDS", 0.02)
    patch(client, "UNREACHABLE_SECONDS", 0.5)
    for owner, settings in (
        (client.Client, {"now": clock, "timeout_seconds": plan.timeout_seconds,
                         "give_up_after_seconds": plan.give_up_seconds, "seed": 7}),
        (export.ExportFiles, {"clock": clock}),
        (duckdb.DuckDBEngine, {"wait_seconds": plan.lock_wait_seconds}),
    ):  # fmt: skip
        patch(owner, "__init__", _with(owner.__init__, settings))
    _ = duckdb
    Steps(plan, clock, folder).install()
    if plan.defect:
        defects.DEFECTS[plan.defect].install()


def patch(owner: Any, name: str, value: object) -> None:
    """Put *value* where the product has its own."""
    setattr(owner, name, value)


def _with(original: Callable[..., Any], settings: Mapping[str, object]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        return original(*args, **{**options, **settings})

    return wrapped


_STATEMENTS = (
    ("schema", re.compile(r"CREATE (SCHEMA|TABLE) (IF|\"?(warehouse|ometria))")),
    ("account", re.compile(r'INSERT INTO \S+"accounts"')),
    ("lease", re.compile(r'INSERT INTO \S+"leases"')),
    ("renewal", re.compile(r'UPDATE \S+"leases"')),
    ("giving back", re.compile(r'DELETE FROM \S+"leases" WHERE "source_id" = \? AND "run_id"')),
    ("delete", re.compile(r'DELETE FROM ("warehouse"\.)?"ometria"\.')),
    ("insert", re.compile(r'INSERT INTO ("warehouse"\.)?"ometria"\.')),
    ("rejects", re.compile(r'INSERT INTO \S+"rejects"')),
    ("ledger", re.compile(r'INSERT INTO \S+"files"')),
    ("marks", re.compile(r'INSERT INTO \S+"marks"')),
    ("missing", re.compile(r'INSERT INTO \S+"missing"')),
    ("history", re.compile(r'INSERT INTO \S+"runs"')),
    ("detach", re.compile(r"DETACH")),
)
"""The statements that write, by the name of their step."""


class Steps:
    """Counts the steps as they are reached, and does what the plan says at one of them."""

    def __init__(self, plan: Plan, clock: Clock, folder: Path) -> None:
        self._plan, self._clock, self._folder = plan, clock, folder
        self._table = ""
        self._written: set[str] = set()
        self._count = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Wrap the methods that the steps are named after."""
        from duckdb import DuckDBPyConnection  # noqa: PLC0415 -- only the child wraps.

        from ometria_replica import mapping, replication  # noqa: PLC0415
        from ometria_replica.ometria import client, export  # noqa: PLC0415
        from ometria_replica.warehouse import local_merge, merge  # noqa: PLC0415
        from ometria_replica.warehouse.engines import postgres  # noqa: PLC0415

        self._follow_tables(replication._TableSync)
        self._around(client.Client, "_attempt", "request")
        self._around(export.ExportFiles, "_bring", "fetch")
        self._around(export.ExportFiles, "list", "listing")
        for method, name in (("add_pages", "page"), ("add_files", "file"), ("finish", "mapping")):
            self._around(mapping.Staging, method, name)
        self._around(merge.Merge, "compare", "comparison")
        self._around_far_writes(local_merge.LocalMergeEngine)
        self._around_statements(DuckDBPyConnection)
        self._around_statements(postgres.PostgresEngine)
        for method, statement in (("_begin", "BEGIN"), ("_commit", "COMMIT")):
            self._as_statement(postgres.PostgresEngine, method, statement)
        self._note(local_merge.LocalMergeEngine, "replace_rows", "insert")
        if self._plan.step.partition(" ")[2] in {"sending", "merging", "sending of state"}:
            self._follow_bridge()

    def _follow_bridge(self) -> None:
        """Name what dlt does, which takes a second to import and few tests need."""
        from ometria_replica.warehouse.remotes import dlt_loader, dlt_remote  # noqa: PLC0415

        self._around(dlt_loader.DltLoader, "carry", "sending")
        self._around(dlt_loader.AtOnce, "run", "merging")
        self._around(dlt_remote.BridgeEngine, "write_state", "sending of state")

    def _note(self, owner: Any, method: str, name: str) -> None:
        """Note that *method* writes as a statement called *name* does elsewhere."""
        original = getattr(owner, method)

        def noted(*args: Any, **options: Any) -> Any:
            self._written.add(name)
            return original(*args, **options)

        patch(owner, method, noted)

    def reached(self, step: str) -> None:
        """Do what the plan says, if this is its step."""
        plan = self._plan
        if step == "after rows":  # Sent afar: what is committed now is the batch.
            self._written.add("insert")
        if step != plan.step or (plan.table and plan.table != self._table):
            return
        with self._lock:
            self._count += 1
            if self._count != plan.nth:
                return
        match plan.do:
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
                self._clock.jump(plan.jump)

    def _follow_tables(self, owner: type) -> None:
        original = owner.go  # type: ignore[attr-defined]  # Of a table's sync.

        def go(sync: Any) -> None:
            self._table = sync.table.name
            try:
                original(sync)
            finally:
                self._table = ""

        patch(owner, "go", go)

    def _around(self, owner: type, method: str, name: str) -> None:
        patch(owner, method, self._wrapped(getattr(owner, method), name))

    def _wrapped(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(*args: Any, **options: Any) -> Any:
            self.reached(f"before {name}")
            result = original(*args, **options)
            self.reached(f"after {name}")
            return result

        return wrapped

    def _around_far_writes(self, base: type) -> None:
        """Wrap what engines with a far place write there, as each of them is made."""
        original = base.__init__  # type: ignore[misc]  # Of the base itself.

        @functools.wraps(original)
        def made(engine: Any, *args: Any, **options: Any) -> None:
            original(engine, *args, **options)
            for method, name in (("send", "rows"), ("write_state", "state"), ("remove", "removal")):
                setattr(engine, method, self._wrapped(getattr(engine, method), name))

        patch(base, "__init__", made)

    def _as_statement(self, owner: type, method: str, statement: str) -> None:
        original = getattr(owner, method)

        def wrapped(engine: Any) -> None:
            name = self._name(statement)
            if name:
                self.reached(f"before {name}")
            original(engine)
            if name:
                self.reached(f"after {name}")

        patch(owner, method, wrapped)

    def _around_statements(self, owner: type) -> None:
        original = owner.execute  # type: ignore[attr-defined]  # A connection, or an engine.

        def execute(connection: Any, statement: Any, *args: Any, **options: Any) -> Any:
            name = self._name(str(statement))
            if name:
                self.reached(f"before {name}")
            result = original(connection, statement, *args, **options)
            if name:
                self.reached(f"after {name}")
            return result

        patch(owner, "execute", execute)

    def _name(self, statement: str) -> str | None:
        """Name a statement; a commit by what was written since BEGIN."""
        if statement == "BEGIN":
            self._written.clear()
        if statement == "COMMIT":
            for written, name in (
                ("insert", "commit"), ("lease", "commit of the lease"),
                ("history", "commit of the history"),
            ):  # fmt: skip
                if written in self._written:
                    return name
            return None
        for name, pattern in _STATEMENTS:
            if pattern.match(statement):
                self._written.add(name)
                return name
        return None


@contextlib.contextmanager
def patched(owner: Any, name: str, value: object) -> Any:
    """Put *value* where the product has its own, for a while: for tests in this process."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
