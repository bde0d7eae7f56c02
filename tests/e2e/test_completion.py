"""Shells complete commands, options, tables and accounts."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ometria_replica.cli.completing import PROGRAM, VARIABLE, answer_shells, script_for
from ometria_replica.tables import TABLES
from tests.e2e.program import SOURCES, invoke

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = """\
[[accounts]]
source_id = "uk"
account_id = "1042"
api_key = "file:there-is-no-such-file"
[[accounts]]
source_id = "us"
account_id = "env:NOT_SET"
[[accounts]]
source_id = "$(touch pwned)"
[[accounts]]
source_id = "two words"
nonsense = 1
"""


def completed(*words: str, folder: Path, **env: str) -> list[str]:
    """Ask as Bash does, with the last of *words* under the cursor; in this process."""
    line = {"COMP_WORDS": " ".join([PROGRAM, *words]), "COMP_CWORD": str(len(words))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {VARIABLE: "complete_bash", **line}.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        answer_shells()
        asked = {name: os.environ[name] for name in (VARIABLE, *line)}
        result = invoke(env={**asked, **env})
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with settings, of which some are wrong."""
    (tmp_path / "ometria.toml").write_text(SETTINGS)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("st",), ["status", "state"]),
        (("state", ""), ["show", "rewind"]),
        (("sync", "--de"), ["--detect-deletes"]),
        (("sync", "unsub"), ["unsubscribes"]),
        (("sync", "profiles", "prof"), ["profile_identities", "profile_tags", "profile_lists"]),
        (("state", "rewind", "email"), ["email_events"]),
        (("sync", "--account", ""), ["uk", "1042", "us"]),
        (("sync", "--account", "=", "u"), ["uk", "us"]),
        (("sync", "--account", "uk", "--account", ""), ["1042", "us"]),
        (("sync", "--since", ""), ["today", "yesterday", "7d", "30d"]),
        (("sync", "--to", "2026-01-01", "list"), ["lists"]),
        (("tables", "--format", "m"), ["markdown", "mermaid"]),
        (("query", "--format", "js"), ["json", "jsonl"]),
        (("tables", "--for", "snow"), ["snowflake"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("plan", "ba"), ["backfill"]),
        (("plan", "backfill", "uns"), ["unsubscribes"]),
        (("plan", "--since", "y"), ["yesterday"]),
        (("sync", "--config", "ome"), []),
        (("nonsense", "x"), []),
    ],
)
def test_words_are_completed(words: tuple[str, ...], answer: list[str], folder: Path) -> None:
    """Each word that fits and is not there yet; where a file is meant, the shell knows better."""
    assert completed(*words, folder=folder) == answer


def test_accounts_are_those_of_the_settings_that_are_chosen(tmp_path: Path) -> None:
    """By --config, by OMETRIA_CONFIG, or in the environment; none in settings that are broken."""
    (tmp_path / "other.toml").write_text('[[accounts]]\nsource_id = "fr"\n')
    (tmp_path / "broken.toml").write_text("accounts = [1, {source_id = 7}]\n")

    def accounts(*options: str, **env: str) -> list[str]:
        return completed("sync", *options, "--account", "", folder=tmp_path, **env)

    assert accounts() == []
    assert accounts("--config", "other.toml") == ["fr"]
    assert accounts(OMETRIA_CONFIG="other.toml") == ["fr"]
    assert accounts(OMETRIA_SOURCE_ID="uk", OMETRIA_ACCOUNT_ID="1042") == ["uk", "1042"]
    assert accounts("--config", "broken.toml") == []
    assert accounts("--config", str(tmp_path)) == []


def test_a_question_without_words_is_answered_with_all_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As somebody may ask by hand."""
    monkeypatch.setenv(VARIABLE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "")  # So that what is set below is unset after the test.
    monkeypatch.setenv("COMP_CWORD", "")
    del os.environ["COMP_WORDS"], os.environ["COMP_CWORD"]
    answer_shells()

    assert {"init", "sync", "rejects"} < set(invoke(env={}).stdout.split())


def test_each_table_can_be_completed(folder: Path) -> None:
    """Also those that are off by default."""
    assert {table.name for table in TABLES} < set(completed("tables", "", folder=folder))


def test_a_shell_that_has_no_script_is_refused() -> None:
    """Exit 2, with those that have one."""
    assert "there are bash, zsh, fish." in invoke("completion", "tcsh", env={}).stderr
    assert invoke("completion", "fsh", env={}).exit_code == 2
    assert invoke("completion", "zsh", env={}).stdout == script_for("zsh") + "\n"


START = {
    "bash": (["--norc", "--noprofile", "-i"], "source ./script"),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -u; source ./script"),
    "fish": (["--no-config", "-i"], "source ./script"),
}
"""How a shell is started without settings of its own, and how it reads the script."""


class Terminal:
    """A shell at a terminal, in *folder*."""

    def __init__(self, shell: str, folder: Path) -> None:
        options, source = START[shell]
        (folder / "script").write_text(script_for(shell))
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            path = f"{folder}/bin:{os.environ['PATH']}"
            env = {"PATH": path, "HOME": str(folder), "TERM": "xterm", "LANG": "C.UTF-8"}
            os.execve(str(shutil.which(shell)), [shell, *options], env)
        self.type(f"{source}; echo re'ad'y\n")
        self.wait_for("ready")

    def type(self, text: str) -> None:
        """Press the keys of *text*."""
        os.write(self.file, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until the shell has written *text*, or fail with what it has."""
        written, end = "", time.monotonic() + seconds
        while text not in written:
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            assert ready, written
            written += os.read(self.file, 65536).decode(errors="replace")

    def close(self) -> None:
        """End the shell."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.file)


@pytest.fixture(params=list(START))
def terminal(request: pytest.FixtureRequest, folder: Path) -> Iterator[Terminal]:
    """Open each shell that is installed, with the program on its path."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    (folder / "bin").mkdir()
    program = folder / "bin" / PROGRAM
    start = f"import sys; sys.path.insert(0, '{SOURCES}'); sys.argv[0] = '{PROGRAM}'"
    code = f"{start}; from ometria_replica.cli import main; main()"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    opened = Terminal(request.param, folder)
    yield opened
    opened.close()


def test_a_shell_completes_a_command_a_table_and_an_account(
    terminal: Terminal, folder: Path
) -> None:
    """What Tab adds is in the command line that runs; no name of an account is run by the shell."""
    terminal.type(f"{PROGRAM} tab\tunsub\t > said; echo do'n'e\n")
    terminal.wait_for("done")
    assert (folder / "said").read_text().startswith("ometria.unsubscribes, from ")

    terminal.type(f"{PROGRAM} sync --account 10\t")
    terminal.wait_for("1042")
    assert not (folder / "pwned").exists()
