"""
Processes that are forked from a server which has imported everything.

Each starts within a tenth of a second, in place of half a second for a new interpreter.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "tests.faults.child",
    "tests.faults.table_defects",
    "tests.faults.warm",
    "duckdb",
    "pyarrow",
    "obstore",
    "httpx2",
    "httpcore2",
    "typer._adapters",
    "encodings.idna",
    "truststore",
    "filelock",
    "ometria_replica.cli",
    "ometria_replica.config",
    "ometria_replica.rendering",
    "ometria_replica.state_commands",
    "ometria_replica.progress",
    "ometria_replica.ometria.bucket",
    "ometria_replica.warehouse.engines.postgres",
    "ometria_replica.warehouse.remotes.dlt_destinations.duckdb",
)


@functools.cache
def forkserver() -> Any:
    """Start the server from which children are forked: a process has one."""
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


def stand_alone(folder: Path, name: str, env: Mapping[str, str]) -> None:
    """Give this process *folder* as its place, files for its output, and its own environment."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, suffix in ((1, "out"), (2, "err")):
        target = os.open(folder / f"{name}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, stream)
        os.close(target)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    kept = {"PATH": os.environ.get("PATH", "")}
    home = {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ.clear()
    os.environ.update({**kept, **home, **env})


def run_command_line(arguments: Sequence[str]) -> NoReturn:
    """Run the command line, and end this process with its exit code."""
    from ometria_replica.cli import main  # noqa: PLC0415 -- only in the child.

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
