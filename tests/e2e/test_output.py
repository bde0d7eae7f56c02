"""Options that each command has, and streams that cannot be written."""

from __future__ import annotations

import os
import pty
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ometria_replica.cli.output import has_colours
from ometria_replica.errors import ConfigError, RejectedRecords
from ometria_simulator import Account, Server, serve
from tests.duck import read_file
from tests.e2e.program import api_env, invoke, run

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = Path("/dev/full")
NO_SPACE = (
    "Standard output cannot be written: No space left on device. Committed data is safe."
    " Free some space, or write the output elsewhere.\n"
)
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")


@pytest.fixture
def shop() -> Account:
    """Make a shop with a value that does not convert."""
    account = Account.create(profiles=3, lists=1, email_events=0)
    account.update_profile(account.profiles[0].id, date_of_birth="soon")
    return account


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve the shop."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def env(server: Server, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which a sync succeeds."""
    return {**api_env(server, tmp_path / "w.duckdb"), "XDG_CACHE_HOME": str(tmp_path)}


# --- colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "terminal", "has"),
    [
        ({}, True, True),
        ({"NO_COLOR": ""}, True, True),  # As no-color.org says: set, and not empty.
        ({"NO_COLOR": "0"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({}, False, False),
    ],
)
def test_colours_are_for_terminals_and_for_those_who_want_them(
    more: dict[str, str], terminal: bool, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each command alike."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | more).items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with open(theirs, "w") as stream, monkeypatch.context() as patched:  # noqa: PTH123 -- A number.
        patched.setattr(sys, "stdout", stream)
        found = has_colours()
    os.close(ours)

    assert found == has


# --- streams ------------------------------------------------------------------------------------


@needs_full
@pytest.mark.parametrize("command", [("tables",), ("sync", "--help"), ("--version",)])
def test_a_result_that_cannot_be_written_is_a_sentence(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """Exit 1, with no traceback: for a command, for its help, and before any command."""
    with FULL.open("wb") as full:
        ended = run(*command, cwd=tmp_path, out=full)

    assert (ended.code, ended.err) == (1, NO_SPACE)


@needs_full
def test_a_sync_is_committed_although_nothing_can_be_written(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Neither progress nor log lines that cannot be written stop it; only its report is lost."""
    with FULL.open("wb") as full:
        ended = run("sync", "-v", env=env, cwd=tmp_path, err=full, check=True)
        lost = run("sync", env=env, cwd=tmp_path, out=full, err=full)

    assert ended.out.startswith("Synced to duckdb:///")
    assert lost.code == 1
    runs = read_file(tmp_path / "w.duckdb", "ometria_replica.runs")
    assert [row["outcome"] for row in runs] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("command", [("tables", "--json"), ("--help",)])
def test_a_closed_pipe_ends_the_program_quietly(command: tuple[str, ...], tmp_path: Path) -> None:
    """Exit 141, as shells have it for programs that a closed pipe ends."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = run(*command, cwd=tmp_path, out=writer)
    finally:
        os.close(writer)

    assert (ended.code, ended.err) == (141, "")


CLOSED = """\
import os, sys
for number in range(3):
    os.close(number)
sys.stdin = sys.stdout = sys.stderr = None  # As Python itself sets them if they are closed.
from ometria_replica.cli.output import guard_streams, say
guard_streams()
say("nowhere")
say("nowhere", err=True)
sys.stderr.isatty()
with open("opened", "w") as file:
    file.write(str(file.fileno()))
"""


def test_streams_that_the_shell_closed_go_nowhere(tmp_path: Path) -> None:
    """No file that is opened later, such as the warehouse, becomes one of them."""
    ended = run(cwd=tmp_path, code=CLOSED)

    assert (ended.code, ended.everything) == (0, "")
    assert int((tmp_path / "opened").read_text(encoding="utf-8")) > 2


IGNORED = """\
import os, signal
from ometria_replica import stopping
signal.signal(signal.SIGINT, signal.SIG_IGN)  # As it is in a job that a shell starts with &.
stopping.listen()
os.kill(os.getpid(), signal.SIGINT)
print("goes on")
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """Ctrl-C does not reach a job in the background; SIGTERM does."""
    ended = run(cwd=tmp_path, code=IGNORED)

    assert ended.out == "goes on\n"
    assert ended.err.endswith("Stopped: 15\n")


# --- options ------------------------------------------------------------------------------------


def test_steps_are_logged_wherever_the_option_stands(env: dict[str, str], tmp_path: Path) -> None:
    """``sync -v`` logs as ``-v sync`` does."""
    after = run("sync", "-v", "--json", env=env, cwd=tmp_path, check=True)

    assert "INFO ometria_replica.run_context: loaded profiles:" in after.err
    assert after.json["outcome"] == "succeeded"


@pytest.mark.parametrize(
    "command",
    [("sync", "--since"), ("backfill", "--since"), ("state", "rewind", "profiles", "--since")],
)
def test_a_day_in_the_future_is_refused(
    command: tuple[str, ...], env: dict[str, str], tmp_path: Path
) -> None:
    """The message says what day it is; nothing is read or written."""
    today = datetime.now(UTC).date()
    ahead = today + timedelta(days=2)

    result = invoke(*command, f"{ahead}", env=env)

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"{ahead} is in the future: today is {today}")
    assert not (tmp_path / "w.duckdb").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-v",), "Missing command."),
        (("runs", "--limit", "9" * 20), "Invalid value for '--limit'"),
        (("rejects", "list", "--limit", "0"), "Invalid value for '--limit'"),
        (("demo", "--lists", "-1"), "Invalid value for '--lists'"),
    ],
)
def test_arguments_out_of_range_are_refused(
    arguments: tuple[str, ...], message: str, env: dict[str, str]
) -> None:
    """Exit 2, and the message names the option."""
    result = invoke(*arguments, env=env)

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.slow
def test_the_first_and_the_last_day_of_all_can_be_named(env: dict[str, str]) -> None:
    """A look-back before the first year does not overflow, nor does a day after the last."""
    invoke("sync", env=env)
    for arguments in (
        ("backfill", "--since", "0001-01-01", "--until", "9999-12-31"),
        ("state", "rewind", "profiles", "--since", "0001-01-01"),
        ("sync",),
    ):
        result = invoke(*arguments, env=env)

        assert result.exit_code == 0, result.exception


def test_today_is_not_in_the_future(env: dict[str, str]) -> None:
    """The day of the run can be read again."""
    result = invoke("sync", "--since", f"{datetime.now(UTC).date()}", env=env)

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("day", ["2026-W05-1", "20260131", "2026-1-31", "2026-01-3\u0661"])
def test_a_day_has_one_form(day: str, env: dict[str, str]) -> None:
    """Weeks, days without dashes and digits of other scripts are refused."""
    result = invoke("sync", "--since", day, env=env)

    assert result.exit_code == 2
    assert f"{day!r} is not a day, such as 2026-01-31, yesterday or 7d." in result.stderr


def test_a_strict_run_fails_as_long_as_there_are_rejects(
    shop: Account, env: dict[str, str]
) -> None:
    """A run that reads no such record again is no success either, until the value converts."""

    def strict(*options: str) -> BaseException | None:
        return invoke("sync", "--strict", *options, env=env).exception

    first, of_lists = strict(), strict("lists")
    shop.advance(timedelta(days=10))
    strict()  # Reads the profile for the last time.
    later = strict()
    shop.update_profile(shop.profiles[0].id, date_of_birth="1984-04-22")
    healed = strict()

    assert isinstance(first, RejectedRecords)
    assert isinstance(later, RejectedRecords)
    said = "1 value, record or file was rejected{}, and --strict is set."
    assert str(first).startswith(said.format(""))
    assert str(later).startswith(said.format(" in earlier runs and remains"))
    assert (of_lists, healed) == (None, None), "lists have no rejects, and in the end nothing has"
