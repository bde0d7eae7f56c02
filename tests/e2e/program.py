"""Run ``ometria-replica`` in its own process, with its own environment."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import ometria_replica
from ometria_replica.cli import app
from ometria_replica.ometria import retries
from tests.forked import forkserver, run_command_line, stand_alone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typer.testing import Result

    from ometria_simulator import S3Server, Server

SOURCES = Path(ometria_replica.__file__).parents[1]
IMPATIENT = """\
from ometria_replica.ometria import retries
retries.UNREACHABLE_SECONDS = 0.1
from ometria_replica.cli import main
main()
"""
"""The program, with a shorter timeout for a host that does not respond."""


@dataclass(frozen=True)
class Ended:
    """A process that ended: its exit code and its output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)

    @property
    def everything(self) -> str:
        """Both streams."""
        return self.out + self.err


def invoke(*arguments: str, env: Mapping[str, str]) -> Result:
    """
    Run the command line in this process, which takes a tenth of the time.

    The exit code of an error is one of `main`: here it is in ``exception``.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("OMETRIA_", "AWS_"))]:
            patch.delenv(name)
        try:
            return CliRunner().invoke(app, arguments, env=env, prog_name="ometria-replica")
        finally:
            root.setLevel(level)
            root.handlers[:] = handlers


def run(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path,
    code: str | None = None,
    check: bool = False,
    out: IO[bytes] | int = subprocess.PIPE,
    err: IO[bytes] | int = subprocess.PIPE,
) -> Ended:
    """
    Run the command line; with *code*, run that Python text in its place.

    The process gets only the path to Python and its packages from this environment.
    With *check*, any exit code but 0 fails the test. Streams that go elsewhere, to *out* or *err*,
    are given as empty.
    """
    if code in {None, IMPATIENT} and out == err == subprocess.PIPE:
        done = _fork(arguments, env or {}, cwd, impatient=code is not None)
        assert not check or done.code == 0, done
        return done
    start = ["-c", code] if code else ["-m", "ometria_replica"]
    ended = subprocess.run(
        [sys.executable, *start, *arguments],
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(SOURCES),
            "HOME": str(cwd),
            "AWS_EC2_METADATA_DISABLED": "true",
            **(env or {}),
        },
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        text=True,
        check=False,
        timeout=120,
    )
    done = Ended(ended.returncode, ended.stdout or "", ended.stderr or "")
    assert not check or done.code == 0, done
    return done


def _fork(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, *, impatient: bool) -> Ended:
    """Run the command line in a process that is forked, which saves most of its start."""
    with tempfile.TemporaryDirectory() as folder:
        process = forkserver().Process(
            target=_child, args=(arguments, dict(env), cwd, folder, impatient), daemon=True
        )
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"the program hangs: {arguments}")
        out, err = ((Path(folder) / f"child.{stream}").read_text() for stream in ("out", "err"))
    return Ended(process.exitcode, out, err)


def _child(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path, folder: str, impatient: bool
) -> None:
    stand_alone(Path(folder), "child", {"HOME": str(cwd), **env})
    os.chdir(cwd)
    if impatient:
        retries.UNREACHABLE_SECONDS = 0.1
    run_command_line(arguments)


def api_env(server: Server, warehouse: Path) -> dict[str, str]:
    """Give the variables that name the simulator's API and a warehouse."""
    return {
        "OMETRIA_API_KEY": server.key,
        "OMETRIA_API_URL": server.url,
        "OMETRIA_ACCOUNT_ID": "1042",
        "OMETRIA_SOURCE_ID": "ometria-uk",
        "OMETRIA_REQUESTS_PER_SECOND": "1000",
        "OMETRIA_WAREHOUSE_URL": f"duckdb:///{warehouse}",
    }


def s3_env(s3: S3Server, prefix: str) -> dict[str, str]:
    """Give the variables that name the feed in a bucket, by the ordinary AWS names."""
    return {
        "OMETRIA_FEED_URL": f"s3://{s3.bucket}/{prefix}",
        "AWS_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_REGION": s3.region,
    }
