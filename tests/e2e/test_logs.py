"""Lines on standard error: their format, their context, and how few of them --quiet leaves."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.cli import app
from ometria_replica.errors import AccessDenied, RejectedRecords
from ometria_replica.log_context import logging_for
from ometria_replica.log_lines import JsonLines, TextLines
from ometria_replica.text import without_addresses
from ometria_simulator import Account, Server, serve
from tests.e2e.program import SOURCES, api_env, invoke, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from typer.testing import Result

FIELDS = ["time", "level", "logger", "message", "run", "account", "table"]
PERSON = "ann.canary@example.com"
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve a small shop."""
    with serve(Account.create(profiles=3, lists=1), requests_per_second=None) as running:
        yield running


@pytest.fixture
def env(server: Server, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return an environment in which a sync succeeds."""
    yield api_env(server, tmp_path / "w.duckdb")
    server.no_rights = frozenset()


def parsed(text: str) -> list[dict[str, Any]]:
    """Read standard error as strictly as a collector of logs: ASCII, a JSON object a line."""
    assert text.isascii()
    assert not text or text.endswith("\n")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    for line in lines:
        assert list(line)[: len(FIELDS)] == FIELDS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}
        json.dumps(line, ensure_ascii=False).encode()  # No lone surrogate.
    return lines


# --- one record, one line -----------------------------------------------------------------------

ANY = st.text(st.characters())  # Lone surrogates, controls and line ends of all kinds, too.


@contextmanager
def written_as(lines: logging.Formatter) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Give a logger, and what it has written."""
    written, logger = io.StringIO(), logging.Logger("a.library")  # noqa: LOG001 -- Its own.
    handler = logging.StreamHandler(written)
    handler.setFormatter(lines)
    logger.addHandler(handler)
    yield logger, written


@given(ANY, ANY, ANY)
def test_any_text_is_one_line_of_json(message: str, account: str, table: str) -> None:
    """And comes out of it as it went in, except for what UTF-8 cannot hold."""
    with (
        written_as(JsonLines()) as (logger, written),
        logging_for(run="r", account=account, table=table),
    ):
        logger.warning("%s", message, extra={"fields": {"place": account}})

    (line,) = parsed(written.getvalue())
    told = [line[name] for name in ("message", "run", "account", "table", "place")]
    given_ = [message, "r", account or None, table or None, account]
    assert told == [
        text and text.encode("utf-8", "backslashreplace").decode("utf-8") for text in given_
    ]


@given(ANY, ANY)
def test_no_text_steers_a_terminal_or_forges_a_line(message: str, account: str) -> None:
    """A message and a name stay in their one line, and the last brackets are the program's own."""
    with written_as(TextLines()) as (logger, written), logging_for(run="r", account=account):
        logger.warning("%s", message)

    text = written.getvalue()
    assert text.endswith(")\n")
    assert not CONTROLS.search(text[:-1])
    assert text.startswith("WARNING a.library: ")
    assert " (run=r" in text


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        (
            "postgresql://loader@db.acme.example:5432/shop",
            "postgresql://***@db.acme.example:5432/shop",
        ),
        ("postgresql://loader:***@db/shop", "postgresql://loader:***@db/shop"),
        ("snowflake://ann%40acme.example@acme/shop", "snowflake://***@acme/shop"),
        ("https://acme/ann@acme.example", "https://acme/[address]"),
        ("https://ann%40acme.example/x", "https://[address]/x"),
        ("exports/ann@acme.example.csv", "exports/[address]"),
    ],
)
def test_a_host_stays_and_an_address_does_not(text: str, logged: str) -> None:
    """An operator has to know which warehouse cannot be reached; its user may be an address."""
    assert without_addresses(f"{text} cannot be read.") == f"{logged} cannot be read."


def test_a_record_that_does_not_fit_its_arguments_is_a_line_without_them() -> None:
    """A library's mistake neither stops a run nor writes its values."""
    for lines in (TextLines(), JsonLines()):
        with written_as(lines) as (logger, written):
            logger.warning("%d rows", PERSON)

        assert "cannot be written (TypeError in " in written.getvalue()
        assert "canary" not in written.getvalue()


def test_the_message_of_an_exception_is_not_logged() -> None:
    """It may quote a person; its class and where it was raised are."""
    for lines in (TextLines(), JsonLines()):
        with written_as(lines) as (logger, written):
            try:
                int(PERSON)
            except ValueError:
                logger.exception("failed")

        assert written.getvalue().count("\n") == 1
        assert "ValueError" in written.getvalue()
        assert "test_the_message_of_an_exception" in written.getvalue()
        assert "canary" not in written.getvalue()


# --- the lines of a run -------------------------------------------------------------------------


def test_each_line_of_a_run_has_its_run_account_and_table(
    server: Server, env: dict[str, str], tmp_path: Path
) -> None:
    """Two accounts that threads read at the same time; the last line tells how the run ended."""
    toml = tmp_path / "ometria.toml"
    toml.write_text(
        'log_format = "json"\n'
        + "".join(
            f'[[accounts]]\naccount_id = "{name}"\napi_url = "{server.url}"\n'
            'api_key = "env:KEY_OF_TEST"\nrequests_per_second = 1000\n'
            for name in ("uk", "us")
        )
    )
    of_both = {"KEY_OF_TEST": server.key, "OMETRIA_WAREHOUSE_URL": env["OMETRIA_WAREHOUSE_URL"]}

    ended = invoke("-v", "sync", "--json", "--config", str(toml), env=of_both)

    report = json.loads(ended.stdout)
    *lines, last = parsed(ended.stderr)
    assert {line["run"] for line in (*lines, last)} == {report["run_id"]}
    of_tables = {(each["source_id"], each["table"]): each for each in report["tables"]}
    loaded = [line for line in lines if line["message"].startswith("loaded ")]
    read = [line for line in lines if line["logger"] == "ometria_replica.progress"]
    assert {(line["account"], line["table"]) for line in loaded} == set(of_tables)
    assert all(line["message"].startswith(f"loaded {line['table']}: ") for line in loaded)
    assert {(line["account"], line["table"]): line["records"] for line in read} == {
        place: table["records"] for place, table in of_tables.items()
    }
    assert (last["outcome"], last["exit_code"], last["account"]) == ("succeeded", 0, None)
    assert last["requests"] == sum(table["requests"] for table in report["tables"])


def test_lines_for_people_name_them_too(env: dict[str, str]) -> None:
    """Behind the message, so that a search finds each line of a run, or of a table."""
    ended = invoke("sync", "-v", "lists", env=env)

    lines = [line for line in ended.stderr.splitlines() if line.startswith("INFO ")]
    assert any(" loaded lists: " in line for line in lines)
    for line in lines:
        assert re.search(
            r" \(run=\d{8}T\d{6}-[0-9a-f]{6}, account=ometria-uk, table=lists\)$", line
        )


def test_the_error_that_ends_a_run_is_the_last_line(
    server: Server, env: dict[str, str], tmp_path: Path
) -> None:
    """With its kind, its exit code, and where it was raised; no other line is anything else."""
    server.no_rights = frozenset({"lists"})

    ended = run("sync", "--log-format", "json", "--json", env=env, cwd=tmp_path)

    last = parsed(ended.err)[-1]
    assert ended.code == last["exit_code"] == AccessDenied.exit_code
    assert (last["error"], last["account"], last["table"]) == (
        "AccessDenied",
        "ometria-uk",
        "lists",
    )
    assert last["run"] == ended.json["run_id"]
    assert last["message"].startswith("Ometria refused the API key for GET /lists")
    (of_table,) = [line for line in parsed(ended.err) if line.get("outcome") == "failed"][:1]
    assert (of_table["level"], of_table["table"]) == ("error", "lists")


def test_the_line_of_rejects_names_the_run(tmp_path: Path) -> None:
    """With `--strict` they end a run that went through."""
    shop = Account.create(profiles=3, lists=1)
    shop.update_profile(shop.profiles[0].id, date_of_birth="soon")
    with serve(shop, requests_per_second=None) as server:
        env = api_env(server, tmp_path / "w.duckdb")
        options = ("--strict", "--log-format", "json", "--json")
        ended = run("sync", "profiles", *options, env=env, cwd=tmp_path)

    assert ended.code == RejectedRecords.exit_code
    last = parsed(ended.err)[-1]
    assert (last["error"], last["run"]) == ("RejectedRecords", ended.json["run_id"])


BROKEN = f"""\
import logging, os, signal, sys, threading, warnings
import ometria_replica.describe
from ometria_replica.cli import main
class Lost:
    def __del__(self):
        raise LookupError({PERSON!r})
def lose():
    raise LookupError({PERSON!r})
def broken(tables, *_, **__):
    Lost()
    thread = threading.Thread(target=lose)
    thread.start()
    thread.join()
    warnings.warn("odd \\x1b[2J")
    logging.getLogger("a.library").warning("%d", {PERSON!r})
    if "signal" in tables:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    raise LookupError({PERSON!r})
ometria_replica.describe.describe = broken
main()
"""


@pytest.mark.parametrize(
    ("argument", "code", "kind"), [("bug", 1, "LookupError"), ("signal", 143, "Stopped")]
)
def test_bugs_and_signals_end_with_a_line_of_json(
    argument: str, code: int, kind: str, tmp_path: Path
) -> None:
    """So are warnings of Python, errors that are lost in threads, and lines of libraries."""
    start = [sys.executable, "-c", BROKEN, "tables", argument, "--log-format", "json"]
    ended = subprocess.run(
        start, env={"PYTHONPATH": str(SOURCES)}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    lost, of_thread, odd, library, last = parsed(ended.stderr)
    for line in (lost, of_thread):
        assert (line["level"], line["logger"]) == ("error", "ometria_replica")
        assert "LookupError" in line["traceback"]
    assert (odd["logger"], "odd \x1b[2J" in odd["message"]) == ("py.warnings", True)
    assert library["logger"] == "a.library"
    assert (ended.returncode, last["exit_code"], last["error"]) == (code, code, kind)
    assert ("in broken" in last.get("traceback", "")) == (kind == "LookupError")
    assert "canary" not in ended.stdout + ended.stderr


MISTAKES = [
    (["sync", "--nothing", "--log-format=json"], {}, "No such option: --nothing", 2),
    (["syn"], {"OMETRIA_LOG_FORMAT": "json"}, "No such command 'syn'. Did you mean 'sync'?", 2),
    (["erase", PERSON, "--log-format", "json"], {}, "Got unexpected extra argument", 2),
    (["--log-format", "json", "sync"], {}, "No account is set", 2),
    (["sync"], {"OMETRIA_LOG_FORMAT": "json", "OMETRIA_CONFIG": "gone.toml"}, "gone.toml", 2),
    (["query", f"SELECT '{PERSON}'::INT", "--log-format=json"], {}, "refused the SQL", 5),
]
ONE_BY_ONE = f"""\
import os, sys
from ometria_replica.cli import main
for arguments, variables in {[mistake[:2] for mistake in MISTAKES]!r}:
    for name in ("OMETRIA_LOG_FORMAT", "OMETRIA_CONFIG"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
"""


def test_what_is_wrong_before_a_run_is_a_line_of_json_too(tmp_path: Path) -> None:
    """
    A mistake in the arguments or the settings is found by the same search as any failure.

    No line holds an argument that is an address, nor the warehouse's own words on a query, which
    can quote rows: lines of JSON are collected elsewhere.
    """
    duckdb.connect(tmp_path / "warehouse.duckdb").close()

    ended = run(code=ONE_BY_ONE, cwd=tmp_path)

    codes = [code for *_, code in MISTAKES]
    lines = parsed(ended.err)
    assert [int(code) for code in ended.out.split()] == codes
    assert [line["exit_code"] for line in lines] == codes
    for line, (_, _, says, _) in zip(lines, MISTAKES, strict=True):
        assert says in line["message"]
    assert "canary" not in ended.err


@pytest.mark.parametrize(
    ("option", "variable", "setting", "is_json"),
    [
        (None, None, "json", True),
        (None, "text", "json", False),
        (None, "json", "text", True),
        ("text", "json", "json", False),
        ("json", "text", "text", True),
    ],
)
def test_the_option_goes_before_the_variable_and_that_before_the_setting(
    option: str | None, variable: str | None, setting: str | None, *, is_json: bool,
    env: dict[str, str], tmp_path: Path,
) -> None:  # fmt: skip
    """The option can stand before the command and after it."""
    file = tmp_path / "o.toml"
    file.write_text(f'log_format = "{setting}"\n' if setting else "")
    more = {"OMETRIA_LOG_FORMAT": variable} if variable else {}
    options = ("--log-format", option) if option else ()

    before, after = ((), options) if is_json else (options, ())

    ended = invoke(*before, "sync", "lists", "--config", str(file), *after, env=env | more)

    assert ended.exit_code == 0, ended.output
    assert ended.stderr.startswith("{") == is_json


# --- quiet --------------------------------------------------------------------------------------


def streams(ended: Result) -> tuple[str, str]:
    return ended.stdout, ended.stderr


def test_a_quiet_run_that_goes_through_says_nothing(env: dict[str, str]) -> None:
    """In either format, and wherever the option stands; a warning is no error."""
    odd = env | {"OMETRIA_NO_SUCH_THING_AT_ALL": "1"}
    for arguments in (
        ("sync", "-q"),
        ("--quiet", "sync", "lists", "--log-format", "json"),
        ("verify", "lists", "-q"),
        ("state", "rewind", "lists", "-q"),
        ("rejects", "replay", "-q"),
    ):
        ended = invoke(*arguments, env=odd)

        assert (ended.exit_code, *streams(ended)) == (0, "", ""), arguments


def test_quiet_leaves_what_was_asked_for(env: dict[str, str]) -> None:
    """The result of a command that shows something, and JSON."""
    assert json.loads(invoke("sync", "--json", "-q", env=env).stdout)["outcome"] == "succeeded"
    assert streams(invoke("status", "-q", env=env))[0].startswith("Not all right: ")
    assert streams(invoke("runs", "-q", env=env))[0].startswith("started (UTC)")


def test_a_quiet_run_that_fails_tells_each_failure_once(
    server: Server, env: dict[str, str], tmp_path: Path
) -> None:
    """The last line tells why the run failed, the others name their tables; no report."""
    server.no_rights = frozenset({"lists"})

    ended = run("sync", "-q", env=env | {"OMETRIA_FEED_URL": "gone"}, cwd=tmp_path)

    assert (ended.code, ended.out) == (3, "")
    other, last = ended.err.splitlines()
    assert other.startswith("email_events: ")
    assert last.startswith("Ometria refused the API key for GET /lists")


def test_quiet_and_verbose_exclude_each_other(env: dict[str, str]) -> None:
    """Wherever they stand."""
    for arguments in (("sync", "-q", "-v"), ("-v", "sync", "-q"), ("-q", "sync", "-v")):
        ended = invoke(*arguments, env=env)

        assert ended.exit_code == 2
        assert "--quiet and --verbose exclude each other." in ended.stderr


def test_every_command_has_the_options_of_logs() -> None:
    """A new command has them too."""
    found: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands = dict(found)
    for name in ("models", "rejects", "state"):
        commands |= commands.pop(name).commands

    for name, command in commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--verbose", "--quiet", "--log-format"} <= options, name
