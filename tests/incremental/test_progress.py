from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ometria_replica.progress import watching
from tests.e2e.program import SOURCES, api_env, run
from tests.incremental.shops import NOON, account, replicate
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ometria_simulator import Account, Server

SECONDS = re.compile(r"\d+\.\d s")


def environment(server: Server, warehouse: Path, tmp_path: Path) -> dict[str, str]:
    write_feed_file(tmp_path / "feed", "f.jsonl", NOON, [{"to_address": "ann@example.com"}])
    return {
        **api_env(server, warehouse),
        "OMETRIA_SOURCE_ID": "uk",
        "OMETRIA_FEED_URL": str(tmp_path / "feed"),
    }


def plainly(text: str) -> list[str]:
    """Mask what differs from run to run: seconds, and prefetched requests."""
    return [
        re.sub(r"\d+ requests?", "N requests", SECONDS.sub("T s", x)) for x in text.splitlines()
    ]


def test_a_log_file_gets_a_line_a_table(server: Server, warehouse: Path, tmp_path: Path) -> None:
    """Without a terminal, standard error has a plain line at the end of each table, and no bar."""
    ended = run("sync", "--json", env=environment(server, warehouse, tmp_path), cwd=tmp_path)

    assert ended.code == 0
    lines = plainly(ended.err)
    assert [line for line in lines if "profiles" not in line and "email_events" not in line] == [
        "uk lists: read 2 records, N requests, T s",
        "uk member_lists: read 2 records, N requests, T s",
        "uk unsubscribes: read 1 record, N requests, T s",
    ]
    assert "uk email_events: read 1 record, 1 file, T s" in lines  # It is read meanwhile.
    assert "\x1b" not in ended.everything
    assert ended.json["outcome"] == "succeeded"  # Standard output is the report only.


def test_a_table_that_fails_has_its_line_too(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """The line has the records read so far; the report on standard output has the error."""
    server.no_rights = frozenset({"profiles"})

    ended = run("sync", env=environment(server, warehouse, tmp_path), cwd=tmp_path)

    assert ended.code == 3
    assert "uk profiles: failed after 0 records, N requests, T s" in plainly(ended.err)
    assert ended.out.startswith("Failed syncing to duckdb:///")
    assert "\nFailed: profiles: Ometria refused the API key" in ended.out
    assert ended.err.splitlines()[-1].startswith("Ometria refused the API key")


def on_a_terminal(*arguments: str, env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
    """Run the program with a terminal as standard error; give code, output and the terminal's."""
    ours, theirs = os.openpty()
    seen: list[bytes] = []

    def look() -> None:
        try:
            while found := os.read(ours, 65_536):
                seen.append(found)
        except OSError:  # On Linux, the other side was closed.
            return

    with subprocess.Popen(
        [sys.executable, "-m", "ometria_replica", *arguments],
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(SOURCES),
            "HOME": str(cwd),
            "TERM": "xterm-256color",
            "COLUMNS": "120",
            **env,
        },
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        watcher = threading.Thread(target=look)
        watcher.start()
        out, _ = process.communicate(timeout=60)
        watcher.join(timeout=10)
    os.close(ours)
    return process.returncode, out, b"".join(seen).decode()


def test_a_terminal_gets_a_bar_a_table(server: Server, warehouse: Path, tmp_path: Path) -> None:
    """Each table has a bar with its records and requests; standard output has no escape code."""
    env = environment(server, warehouse, tmp_path)

    code, out, terminal = on_a_terminal("sync", env=env, cwd=tmp_path)

    assert code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal)
    last = text.rsplit("uk profiles", 1)[-1]
    assert re.match(r" +\S*━+\S* +\d+ records +\d+ requests?", last), last
    assert re.search(r"uk lists +━+ +\d+ records +\d+ requests?", last)
    assert re.search(r"uk member_lists +━+ +2 records +2 requests", last)
    assert re.search(r"uk unsubscribes +━+ +1 records +\d+ requests?", last)
    assert re.search(r"uk email_events +━+ +1 records", text)  # It is read meanwhile.
    assert "\x1b[" in terminal
    assert "\x1b" not in out
    assert out.startswith("Synced to duckdb:///")


@pytest.mark.slow
def test_a_terminal_shows_the_tables_after_one_that_failed(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """A table without permission keeps its bar, the others are read, and the error comes last."""
    server.no_rights = frozenset({"profiles"})

    env = environment(server, warehouse, tmp_path)
    code, out, terminal = on_a_terminal("sync", env=env, cwd=tmp_path)

    assert code == 3
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal).rsplit("uk profiles", 1)[-1]
    assert re.search(r"uk unsubscribes +━+ +1 records", last)
    assert "Ometria refused the API key" in last
    assert "\x1b" not in out


def test_watching_changes_nothing(
    shop: Account,
    server: Server,
    warehouse: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a Python program too, lines go to standard error and nothing to standard output."""
    with watching() as progress:
        watched = replicate(warehouse, account(server), at=NOON, progress=progress)
    told = capsys.readouterr()
    unwatched = replicate(warehouse.with_name("other.duckdb"), account(server), at=NOON)

    assert told.out == ""
    assert len(told.err.splitlines()) == 4
    assert [each.inserted for each in watched.tables] == [
        each.inserted for each in unwatched.tables
    ]


def test_lines_of_json_have_no_bars_among_them(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """On a terminal, too; and lines of the log for people stand above the bars."""
    env = environment(server, warehouse, tmp_path)

    _, _, as_json = on_a_terminal("sync", "lists", "--log-format=json", env=env, cwd=tmp_path)
    _, _, as_text = on_a_terminal("sync", "lists", "-v", env=env, cwd=tmp_path)

    assert [json.loads(line)["run"] is None for line in as_json.splitlines()] == [False, False]
    assert "\x1b" not in as_json
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", as_text)
    before, _, after = text.partition("INFO ometria_replica.run_context: loaded lists: ")
    assert before.endswith("\r")  # The bar is erased before the line.
    assert "uk lists ━" in after
