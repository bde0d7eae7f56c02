"""Ctrl-C in a notebook stops a sync, and leaves nothing behind that the next one waits for."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ometria_replica import load_config, sync
from ometria_replica.stopping import interruptible, interrupts_raised
from tests.duck import read_file
from tests.forked import forkserver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = "SELECT count(*) FROM range(30_000_000_000) r WHERE hash(r.range) % 7 = 3"


def in_a_child(target: Callable[..., None], *arguments: object) -> int:
    """Run *target* in the main thread of a process of its own, and give its exit code."""
    process = forkserver().Process(target=target, args=arguments)
    process.start()
    process.join(120)
    return int(process.exitcode if process.exitcode is not None else -1)


def interrupt_after(seconds: float) -> None:
    def fire() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=fire, daemon=True).start()


def a_statement(wrap: Callable[..., Any]) -> None:
    """Exit with 10 if Ctrl-C during a long statement is KeyboardInterrupt."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    interrupt_after(0.2)
    try:
        with wrap():
            connection.execute(LONG)
    except KeyboardInterrupt:
        os._exit(10)
    os._exit(11)


def interruptible_statement() -> None:
    a_statement(lambda: interruptible(lambda: None))


def statement_of_anything() -> None:
    a_statement(interrupts_raised)


def a_sync(environ: dict[str, str], seconds: float) -> None:
    """Exit with 10 if the sync is interrupted, and with 0 if it was done before."""
    os.environ["XDG_CACHE_HOME"] = environ["OMETRIA_TEMP_DIRECTORY"]
    config = load_config(None, environ)
    interrupt_after(seconds)
    try:
        sync(config)
    except KeyboardInterrupt:
        os._exit(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("target", [interruptible_statement, statement_of_anything])
def test_what_duckdb_makes_of_an_interrupt_is_an_interrupt_again(
    target: Callable[[], None],
) -> None:
    """It raises a RuntimeError with another text, of which no handler knows."""
    assert in_a_child(target) == 10


@pytest.mark.slow
def test_an_interrupted_sync_holds_no_lease(environ: dict[str, str], tmp_path: Path) -> None:
    """At any moment: the run is recorded as stopped, and the next one begins at once."""
    outcomes: list[int] = []
    for place, seconds in enumerate(0.05 + 0.07 * step for step in range(12)):
        folder = tmp_path / str(place)
        folder.mkdir()
        mine = {
            **environ,
            "OMETRIA_WAREHOUSE_URL": f"duckdb:///{folder}/w.duckdb",
            "OMETRIA_TEMP_DIRECTORY": str(folder),
        }
        code = in_a_child(a_sync, mine, seconds)

        outcomes.append(code)
        assert code in {0, 10}, seconds
        if (folder / "w.duckdb").exists():
            with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as connection:
                there = connection.execute(
                    "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'leases'"
                ).fetchone()
            if there == (1,):
                assert read_file(folder / "w.duckdb", "ometria_replica.leases", order="ALL") == []
        began = time.monotonic()
        assert sync(load_config(None, mine)).outcome == "succeeded"
        assert time.monotonic() - began < 25  # A lease, or a file that is open, would take 30.

    assert 10 in outcomes
