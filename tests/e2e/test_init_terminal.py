"""`init` at a terminal: a person types the answers."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ometria_replica.init.environment_text import variables_in
from ometria_simulator import Account, Feed, S3Server, Server, serve
from tests.duck import read_file
from tests.e2e.program import SOURCES, invoke
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROGRAM = """\
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Else /dev/tty, from which a secret is read, is none.
from ometria_replica.cli import main
main()
"""
_CURSOR = r"\n(?:\x1b\[\?2004h)?> "  # readline asks the terminal to mark what is pasted.
SECONDS = 30


class Terminal:
    """The other side of a terminal at which the program runs."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.shown = ""

    def answer(self, question: str, text: str) -> None:
        """Wait until *question* and the cursor are shown after all before, then type *text*."""
        self._wait_for(re.escape(question))
        self._wait_for(_CURSOR)
        os.write(self._handle, f"{text}\n".encode())

    def end(self, text: str) -> None:
        """Wait for *text*."""
        self._wait_for(re.escape(text))

    @property
    def everything(self) -> str:
        """All that was shown, without colours and line breaks of the terminal."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", self._seen + self.shown)

    _seen = ""

    def _wait_for(self, pattern: str) -> None:
        until = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self._handle], [], [], max(0, until - time.monotonic()))
            assert ready, f"{pattern!r} was not shown: {self.everything}"
            try:
                self.shown += os.read(self._handle, 4096).decode(errors="replace")
            except OSError:  # The program has ended.
                pytest.fail(f"{pattern!r} was not shown: {self.everything}")
        self._seen += self.shown[: found.end()]
        self.shown = self.shown[found.end() :]


@contextmanager
def terminal(
    folder: Path, *options: str, env: dict[str, str] | None = None
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """Run the command at a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "init", *options],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "HOME": str(folder),
            "TERM": "xterm",
            "COLUMNS": "100",
            "AWS_EC2_METADATA_DISABLED": "true",
            "OMETRIA_REQUESTS_PER_SECOND": "1000",
            **(env or {}),
        },
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(ours), process
        finally:
            process.kill()
            os.close(ours)


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve a small shop, without a rate limit."""
    with serve(Account.create(profiles=9, lists=2, email_events=5), requests_per_second=None) as it:
        it.no_rights = frozenset({"data-deletion-requests"})  # It may be asked 6 times a minute.
        yield it


def test_answers_that_fail_are_asked_for_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written at the end is the last answer to each, and a sync can use it."""
    write_feed_file(
        tmp_path / "feed", "events.json", datetime(2026, 1, 1, tzinfo=UTC),
        [{"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "2026-01-01"}],
    )  # fmt: skip
    work = tmp_path / "work"
    work.mkdir()
    with terminal(work, "--api-url", server.url) as (person, program):
        person.answer("Name of the account", "uk")
        person.answer("API key (not shown)", "with a space")
        person.answer("must be printable ASCII", "wrong-key")
        person.answer("How to go on?", "again")
        person.answer("API key (not shown)", server.key)
        person.answer("Bucket or folder", "../nowhere")
        person.answer("How to go on?", "1")
        person.answer("Bucket or folder", "../feed")
        person.answer("Tables to replicate", "profiles, evnts")
        person.answer("There is no table 'evnts'", "profiles,email_events")
        person.answer("Warehouse", "nonsense://x")
        person.answer("How to go on?", "")
        person.answer("Warehouse", "")
        person.answer("Name of the connection", "")
        person.answer("Keep apart events", "3")
        person.answer("Answer with a number from 1 to 2", "yes")
        person.answer("What to keep of people", "2")
        person.end("ometria-replica sync")
        assert program.wait(SECONDS) == 0

    assert "ann@example.com" not in person.everything
    assert server.key not in person.everything
    assert "wrong-key" not in person.everything
    settings = tomllib.loads((work / "ometria.toml").read_text())
    (account,) = settings["accounts"]
    assert settings["warehouse"] == {"url": "duckdb:///warehouse.duckdb"}
    assert account["source_id"] == "uk"
    assert account["feed"] == {"url": "../feed"}
    assert account["tables"] == ["profiles", "email_events"]
    assert account["wide_keys"] is True
    assert account["hash"] == ["*.email"]
    assert "profiles.last_name" in account["exclude"]
    variables = variables_in((work / "ometria.env").read_text(), work)
    assert variables["OMETRIA_API_KEY"] == server.key
    monkeypatch.chdir(work)
    ran = invoke("sync", env={**variables, "OMETRIA_REQUESTS_PER_SECOND": "1000"})
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize(
    "typed",
    [pytest.param("\x03", id="Ctrl-C"), pytest.param("\x04", id="Ctrl-D", marks=pytest.mark.slow)],
)
def test_a_set_up_that_is_stopped_leaves_no_file(tmp_path: Path, typed: str) -> None:
    """Also in the middle of a secret; the exit code is that of the signal, or of settings."""
    with terminal(tmp_path, env={"XDG_CACHE_HOME": "/nonexistent"}) as (person, program):
        person.answer("Name of the account", "uk")
        person.answer("API key", typed)
        person.end("Nothing was written.")
        assert program.wait(SECONDS) == (128 + signal.SIGINT if typed == "\x03" else 2)

    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_bucket_can_have_an_access_key_of_its_own(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for without being shown, and the settings refer to it."""
    shop = Account.create(profiles=3, lists=1, email_events=30)
    url = f"{s3.url}/uk"
    Feed(shop, url, s3=s3.access).export_history()
    with terminal(tmp_path) as (person, program):
        person.answer("Name of the account", "uk")
        person.answer("API key (not shown)", "")
        person.answer("Bucket or folder", url)
        person.answer("Region of the bucket", s3.region)
        person.answer("Address of the store", s3.endpoint_url)
        person.answer("How to sign in", "aws")
        person.answer("no AWS credentials were found", "again")
        person.answer("Bucket or folder", url)
        person.answer("Region of the bucket", s3.region)
        person.answer("Address of the store", s3.endpoint_url)
        person.answer("How to sign in", "key")
        person.answer("Access key ID", s3.access_key)
        person.answer("Its secret", s3.secret_key)
        person.answer("Tables to replicate", "")
        for _ in range(4):
            person.answer("", "")
        person.end("ometria-replica sync")
        assert program.wait(SECONDS) == 0

    assert s3.secret_key not in person.everything + (tmp_path / "ometria.toml").read_text()
    variables = variables_in((tmp_path / "ometria.env").read_text(), tmp_path)
    assert variables == {
        "OMETRIA_FEED_KEY_ID": s3.access_key,
        "OMETRIA_FEED_SECRET": s3.secret_key,
    }
    monkeypatch.chdir(tmp_path)
    assert invoke("sync", env=variables).exit_code == 0
    assert read_file(tmp_path / "warehouse.duckdb", "ometria.email_events")
