"""The command, run in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from ometria_simulator import S3Access
from ometria_simulator.cli import main
from ometria_simulator.storage import S3Server

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL = ("--profiles", "50", "--lists", "2", "--events", "100", "--now", "2026-03-02T09:00:00")


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    source = Path(__file__).parents[2] / "src"
    return subprocess.Popen(
        [sys.executable, "-m", "ometria_simulator", "serve", *SMALL, *arguments],
        env={**os.environ, "PYTHONPATH": str(source), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    facts: dict[str, Any] = json.loads(process.stdout.readline())
    return facts


def get(url: str, key: str) -> Any:
    with urlopen(Request(url, headers={"X-Ometria-Auth": key}), timeout=10) as answer:
        return json.load(answer)


def test_serve_prints_one_line_and_stops_on_a_signal(tmp_path: Path) -> None:
    """The line has all addresses; SIGTERM ends the command with 0 and no other output."""
    folder = tmp_path / "feed"
    with start("--feed", str(folder), "--key-env", "SIM_KEY", SIM_KEY="given") as process:
        facts = ready(process)
        profiles = get(f"{facts['api_url']}/profiles?limit=250", "given")
        process.send_signal(signal.SIGTERM)
        rest, messages = process.communicate(timeout=20)

    assert len(profiles) == facts["profiles"] == 50
    assert facts["api_key"] == "given"
    assert facts["now"] == "2026-03-02T09:00:00+00:00"
    assert facts["feed_url"] == folder.as_uri()
    assert list(folder.iterdir())
    assert (process.returncode, rest) == (0, "")
    assert messages.startswith("Serving http://127.0.0.1:")


def test_serve_starts_an_s3_server_and_ends_with_its_parent() -> None:
    """With ``--feed s3`` the line has the keys of the bucket; the end of stdin stops it."""
    with start("--feed", "s3", "--until-stdin-closes") as process:
        facts = ready(process)
        s3 = S3Server(
            facts["s3_endpoint_url"],
            "ometria-exports",
            facts["aws_access_key_id"],
            facts["aws_secret_access_key"],
            facts["aws_region"],
        )
        found = s3.client().list_objects_v2(Bucket="ometria-exports", Prefix="simulated/")
        _, messages = process.communicate(timeout=20)

    assert facts["feed_url"] == "s3://ometria-exports/simulated/"
    assert found["KeyCount"] > 1
    assert facts["records"] >= facts["email_events"] == 100
    assert process.returncode == 0
    assert not messages  # The parent process prints its own.


def test_feed_writes_files_and_prints_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``feed`` writes the history in the given format and prints the names of the files."""
    code = main(["feed", str(tmp_path), *SMALL, "--format", "jsonl", "--compression", "none"])

    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert sorted(printed["files"]) == sorted(path.name for path in tmp_path.iterdir())
    assert all(name.endswith(".jsonl") for name in printed["files"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--profiles", "-1"],
        ["serve", "--now", "yesterday"],
        ["serve", "--requests-per-second", "fast"],
        ["serve", "--requests-per-second", "nan"],
        ["serve", "--deletion-requests-per-minute", "inf"],
        ["serve", "--port", "99999"],
        ["serve", "--port", "-1"],
        ["serve", "--latency", "-1"],
        ["serve", "--now", "9999-12-31"],
        ["serve", "--now", "0001-01-01"],
        ["serve", "--history-days", "99999999"],
        ["serve", "--profiles", "1" + "0" * 30],
        ["serve", "--seed", "x"],
        ["feed", "exports", "--files-per-day", "0"],
        ["feed", "exports", "--files-per-day", "-1"],
        ["feed", "exports", "--files-per-day", "1e9"],
        ["feed"],
        [],
    ],
)
def test_wrong_arguments_are_explained(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong argument exits with 2 and usage on standard error, without standard output."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert err.startswith("usage: ometria-simulator")
    if len(arguments) > 1:
        assert f"argument {arguments[-2]}: {arguments[-1]!r} is not a" in err


@pytest.mark.parametrize("command", ["serve", "feed"])
def test_the_help_shows_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option has a meaning, and its default if it has one."""
    with pytest.raises(SystemExit):
        main([command, "--help"])

    words = " ".join(capsys.readouterr().out.split())
    assert "--profiles N profiles of the account (default: 20000)" in words
    assert "compression of the files (default: gzip)" in words
    assert "None" not in words


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    """``feed … | head`` has written its files, prints no error, and exits as shells expect."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "ometria_simulator", "feed", str(tmp_path / "exports"), *SMALL],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert ended.returncode == 141
    assert re.fullmatch(r"Wrote \d+ files with \d+ records to \S+\.\n", ended.stderr)
    assert list((tmp_path / "exports").iterdir())


def test_a_wrong_target_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong target exits with 1 and one line that names the remedy."""
    code = main(["feed", "ftp://there/x", *SMALL])

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err == (
        "ometria-simulator: Cannot export to 'ftp://there/x'."
        " Use a folder, file:// or s3://bucket/prefix.\n"
    )


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the port, with exit code 1; signal handlers are restored."""
    before = signal.getsignal(signal.SIGINT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["serve", *SMALL, "--port", str(port)])

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert signal.getsignal(signal.SIGINT) is before
    assert err.startswith(f"ometria-simulator: Port {port} on 127.0.0.1 is not available (")


def test_an_empty_key_variable_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable that is not set, with exit code 2."""
    monkeypatch.delenv("SIM_KEY", raising=False)

    code = main(["serve", *SMALL, "--key-env", "SIM_KEY"])

    assert code == 2
    assert capsys.readouterr().err == (
        "ometria-simulator: the variable SIM_KEY is not set. Set it to the API key.\n"
    )


def test_a_server_describes_its_access() -> None:
    """Its url and access are the arguments that a feed needs."""
    server = S3Server("http://127.0.0.1:1", "b", "k", "s", "r")

    assert server.url == "s3://b"
    assert server.access == S3Access("http://127.0.0.1:1", "k", "s", "r")
