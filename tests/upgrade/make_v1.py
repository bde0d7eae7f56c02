"""
Make the warehouses of version 1 that the tests of the upgrade begin with.

The program of version 1 is that of commit 2f676c4. It needs a checkout of its own; the
account that it replicates is served by the simulator of the tree that this file is in::

    git worktree add ../v1 2f676c4
    .venv/bin/python -m tests.upgrade.make_v1 ../v1

It writes ``v1.duckdb.xz`` and ``v1.sql.gz`` beside this file. They differ each time: ids of
runs are random. They are to be made again when the simulator makes another account of the
same seed, which the tests then say. The clock of the program stands still at the account's
own time, and its machine is called ``shop-server``; nothing else of it is changed.
"""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from ometria_simulator import Fault
from tests.places import DuckDBPlace, PostgresPlace
from tests.postgres import postgres
from tests.upgrade.life import Shop, life
from tests.upgrade.v1 import DUCKDB_FILE, POSTGRES_DUMP, POSTGRES_PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.upgrade.life import Run

MACHINE = "shop-server"
PROGRAM = f"""\
import functools, os, sys
from datetime import datetime
from ometria_replica import cli, replication
from ometria_replica.ometria import client, feed
killed, at = sys.argv.pop(1) == "killed", datetime.fromisoformat(sys.argv.pop(1))
clock = lambda: at
replication.sync = functools.partial(replication.sync, clock=clock)
for owner, name in ((client.Client, "now"), (feed.Feed, "clock")):
    owner.__init__ = functools.partialmethod(owner.__init__, **{{name: clock}})
os.uname = lambda: os.uname_result(("Linux", "{MACHINE}", "", "", ""))
if killed:
    replication._sync_tables = lambda *_: os._exit(9)
cli.main()
"""
"""The command line of version 1: whether it is killed, its clock, and its arguments."""


def run(shop: Shop, checkout: Path, run: Run, url: str, env: Mapping[str, str]) -> None:
    """Run the program of version 1 once, with the warehouse at *url*."""
    shop._settings = run.settings
    settings = shop.settings().replace("env:OMETRIA_WAREHOUSE_URL", url)
    (shop.folder / "ometria.toml").write_text(settings)
    for path in run.refused:
        shop.server.faults.sometimes(path, Fault(status=403), 1.0)
    how, at = "killed" if run.killed else "whole", shop.account.now.isoformat()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, at, *run.arguments],
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(checkout / "src"),
            "HOME": str(shop.folder),
            "TZ": "UTC",
            "OMETRIA_API_KEY": shop.server.key,
            **env,
        },
        cwd=shop.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == run.code, ended
    shop.server.faults.clear()


def make_duckdb(checkout: Path) -> bytes:
    """Give the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = DuckDBPlace(folder / "replica.duckdb")
        with Shop(folder, place) as shop:
            for each in life(shop):
                run(shop, checkout, each, "duckdb:///replica.duckdb", {})
        with duckdb.connect(str(place.path)):
            pass  # What the killed run left in the log goes into the file.
        return place.path.read_bytes()


def make_postgres(checkout: Path) -> bytes:
    """Give the dump."""
    with tempfile.TemporaryDirectory() as name:
        place = PostgresPlace("replica")
        postgres().run(f"CREATE DATABASE {place.database}")
        env = {"PGHOST": str(postgres().folder), "PGUSER": "postgres"}
        with Shop(Path(name), place) as shop:
            for each in life(shop):
                run(shop, checkout, each, "postgresql:///replica", env)
        dump = subprocess.run(
            [POSTGRES_PROGRAMS / "pg_dump", "--no-owner", "--no-privileges", place.url],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        place.remove()
        # A server of another version may not know each setting, nor its psql each command.
        needless = (b"SET ", b"\\restrict ", b"\\unrestrict ")
        lines = dump.splitlines(keepends=True)
        return b"".join(line for line in lines if not line.startswith(needless))


def main() -> None:
    """Make both files."""
    checkout = Path(sys.argv[1]).absolute()
    DUCKDB_FILE.write_bytes(lzma.compress(make_duckdb(checkout), preset=9 | lzma.PRESET_EXTREME))
    POSTGRES_DUMP.write_bytes(gzip.compress(make_postgres(checkout), mtime=0))


if __name__ == "__main__":
    main()
