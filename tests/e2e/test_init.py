"""`init` by options: what it shows, what it writes, and that `check` and `sync` work with that."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from ometria_replica.cli import app
from ometria_replica.errors import AccessDenied, ConfigError, Unavailable, WarehouseError
from ometria_replica.init.environment_text import variables_in
from ometria_simulator import Account, Server, serve
from tests.duck import read_file
from tests.e2e.program import invoke
from tests.replicas import account, replicate, write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from typer.testing import Result

EVENTS = [
    {
        "to_address": f"{name}@example.com",
        "event_type": kind,
        "dt_occurred": f"2026-02-0{day} 10:00:00",
        "campaign_title": title,
        "uuid": f"send-{name}",
    }
    for day, (name, kind, title) in enumerate(
        [("ann", "open", "Spring"), ("bob", "click", "For zoe@example.com"), ("cat", "send", "x")],
        1,
    )
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve a small shop, without a rate limit."""
    with serve(Account.create(profiles=9, lists=2, email_events=5), requests_per_second=None) as it:
        yield it


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, beside one with an export file."""
    write_feed_file(
        tmp_path / "feed", "email_events_1.json", datetime.now(UTC) - timedelta(days=1), EVENTS
    )
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # The rate limit of a key.
    return work


def init(*options: str, key: str | None = None, env: Mapping[str, str] | None = None) -> Result:
    """Run the command; *key* is its standard input."""
    if key is None:
        return invoke("init", *options, env=_env(env))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("OMETRIA_", "AWS_"))]:
            patch.delenv(name)
        arguments = ["init", "--key-file", "-", *options]
        return CliRunner().invoke(app, arguments, env=_env(env), input=key)


def _env(env: Mapping[str, str] | None) -> dict[str, str]:
    return {"OMETRIA_REQUESTS_PER_SECOND": "1000"} if env is None else dict(env)


def run(*arguments: str, folder: Path) -> Result:
    """Run a command with the variables of the environment file."""
    file = folder / "ometria.env"
    return invoke(*arguments, env={**_env(None), **variables_in(file.read_text(), file)})


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "ometria.toml").read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_options_set_up_an_account_that_check_and_sync_can_use(
    server: Server, folder: Path
) -> None:
    """Without a terminal. The key is only in the environment file, for its owner alone."""
    done = init("--api-url", server.url, "--feed", "../feed", "--account-id", "uk", key=server.key)

    assert done.exit_code == 0, (done.output, done.exception)
    assert re.search(r"^  may read +profiles +profiles", done.stdout, re.MULTILINE)
    assert re.search(r"^  may read +lists/{id}/changes +member_lists$", done.stdout, re.MULTILINE)
    assert re.search(r"^  pass  The warehouse\s+\S+/warehouse.duckdb", done.stdout, re.MULTILINE)
    assert server.key not in done.output + (folder / "ometria.toml").read_text()
    assert (folder / "ometria.env").read_text().endswith(f"\nOMETRIA_API_KEY={server.key}\n")
    assert stat.S_IMODE((folder / "ometria.env").stat().st_mode) == 0o600
    assert settings(folder) == {
        "warehouse": {"url": "duckdb:///warehouse.duckdb"},
        "accounts": [
            {
                "account_id": "uk",
                "source_id": "uk",
                "api_key": "env:OMETRIA_API_KEY",
                "api_url": server.url,
                "wide_keys": False,
                "feed": {"url": "../feed"},
            }
        ],
    }
    load, *commands = done.stdout.partition("Next:\n")[2].split("\n    ")[1:]
    assert load == "set -a; . ./ometria.env; set +a"
    for command in commands:
        ran = run(*command.split()[1:], folder=folder)
        assert ran.exit_code == 0, ran.output
    assert len(read_file(folder / "warehouse.duckdb", "ometria.profiles")) == 9
    assert len(read_file(folder / "warehouse.duckdb", "ometria.email_events")) == 3


def test_the_rows_of_a_file_are_shown_without_people(server: Server) -> None:
    """The columns of people are masked, and so is a text of another column that has an address."""
    done = init("--untested", "--feed", "../feed")
    assert "example.com" not in done.output
    done = init("--feed", "../feed", "--config", "tried.toml")

    rows = [line.split() for line in done.stdout.splitlines() if "***" in line]
    assert "  pass  The newest file, email_events_1.json, is JSON" in done.stdout
    assert "\n        3 records. The first rows, with people's data masked:\n" in done.stdout
    assert [row[:2] + row[4:] for row in rows] == [
        ["***", "open", "Spring"],
        ["***", "click", "***"],
        ["***", "send", "x"],
    ]
    assert not re.search("example|bob|zoe", done.stdout)


def test_an_answer_that_is_missing_is_named_by_its_option(folder: Path) -> None:
    """Nothing is asked where there is no terminal."""
    done = init()

    assert isinstance(done.exception, ConfigError)
    assert "--key-file FILE" in str(done.exception)
    assert "OMETRIA_API_KEY" in str(done.exception)
    assert "--feed URL" in str(done.exception)
    assert files(folder) == {}


def test_all_wrong_answers_are_named_at_once(folder: Path) -> None:
    """Each by the option or the variable that gave it, and without the value."""
    done = init(
        "--feed", "s3://", "--hash", "email", "--tables", "",
        env={"OMETRIA_ACCOUNT_ID": " ", "OMETRIA_API_KEY": "a b"},
    )  # fmt: skip

    assert isinstance(done.exception, ConfigError)
    origins = [problem.partition(":")[0] for problem in done.exception.problems]
    assert origins == ["OMETRIA_ACCOUNT_ID", "OMETRIA_API_KEY", "--feed", "--tables", "--hash"]
    assert files(folder) == {}


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--hash", "*.e_mail", "did you mean *.email?"),
        ("--exclude", "profiles.profile_id", "rows cannot be told apart"),
        ("--tables", "profiles,lits", "There is no table 'lits'"),
        ("--tables", "order_lines", "Replicate orders too"),
    ],
)
def test_names_that_cannot_be_used_are_refused_first(option: str, name: str, said: str) -> None:
    """Nothing is contacted: the port of the API is closed."""
    uk = ("--account-id", "uk", "--api-url", "http://127.0.0.1:9/v2")
    done = init(*uk, option, name, key="a-key")

    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert "default" not in str(done.exception)
    assert done.stdout == ""


def test_a_key_that_may_read_nothing_leaves_no_file(server: Server, folder: Path) -> None:
    """The error is that of Ometria, with its exit code."""
    done = init("--api-url", server.url, key="wrong-key")

    assert isinstance(done.exception, AccessDenied)
    assert "wrong-key" not in done.output
    assert files(folder) == {}


def test_a_server_that_does_not_answer_is_asked_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each other endpoint would take as long to fail."""
    monkeypatch.setattr("ometria_replica.ometria.retries.UNREACHABLE_SECONDS", 0.05)
    done = init("--api-url", "http://127.0.0.1:9/v2", key="a-key")

    assert isinstance(done.exception, Unavailable)
    assert done.stdout.count("failed") == 1
    assert files(folder) == {}


@pytest.mark.parametrize("tables", [None, "profiles,orders,unsubscribes"])
def test_endpoints_that_the_key_may_not_read(
    server: Server, folder: Path, tables: str | None
) -> None:
    """Their tables, and those read below them, are left out with a warning, unless named."""
    server.no_rights = frozenset({"lists", "unsubscribes"})
    try:
        options = ["--tables", tables] if tables else []
        done = init("--api-url", server.url, "--json", *options, key=server.key)
    finally:
        server.no_rights = frozenset()

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["endpoints"]["profiles"] == "may read"
    assert told["endpoints"]["unsubscribes"] == "may not read"
    assert told["endpoints"]["lists/{id}/changes"] == "not tried"
    if tables:
        assert settings(folder)["accounts"][0]["tables"] == tables.split(",")
        assert told["warnings"] == []
        return
    assert settings(folder)["accounts"][0]["tables"] == ["profiles", "email_events"]
    assert "may not read member_lists, lists, unsubscribes" in told["warnings"][0]
    ran = run("sync", folder=folder)
    assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize("name", ["ometria.toml", "ometria.env"])
def test_a_file_that_is_there_is_not_touched(server: Server, folder: Path, name: str) -> None:
    """Before anything is contacted, the error says what to do."""
    (folder / name).write_text("# mine\n")
    done = init("--api-url", "http://127.0.0.1:9/v2", key=server.key)

    assert isinstance(done.exception, ConfigError)
    assert f"{name} exists, and is not overwritten" in str(done.exception)
    assert files(folder) == {name: b"# mine\n"}


def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    """Before anything is contacted."""
    done = init("--config", "none/ometria.toml", "--api-url", "http://127.0.0.1:9/v2", key="a-key")

    assert isinstance(done.exception, ConfigError)
    assert "none/ometria.toml: the folder does not exist" in str(done.exception)


@pytest.mark.parametrize("adds", [False, True])
def test_what_no_answer_could_mend_is_refused_first(folder: Path, adds: bool) -> None:
    """A variable that is wrong, or the file to which an account would be added."""
    options: tuple[str, ...] = ("--api-url", "http://127.0.0.1:9/v2")
    env = {"OMETRIA_MEMORY_LIMIT": "much"}
    if adds:
        (folder / "ometria.toml").write_text('[[accounts]]\napi_key = "env:NOT_SET"\n')
        options, env = ("--add-account", *options), {}
    done = init(*options, key="a-key", env=env)

    assert isinstance(done.exception, ConfigError)
    assert ("NOT_SET is not set" if adds else "OMETRIA_MEMORY_LIMIT") in str(done.exception)
    assert done.stdout == ""


def test_accounts_are_added_to_a_file_that_keeps_its_comments(folder: Path) -> None:
    """The text that was there stays; the secrets of a new account have variables with its name."""
    init("--untested", "--account-id", "uk", "--hash", "*.email", key="a-key")
    (folder / "ometria.toml").chmod(0o640)
    before = {name: text.decode() for name, text in files(folder).items()}

    again = init("--add-account", "--feed", "../feed", "--account-id", "uk", env={})
    assert isinstance(again.exception, ConfigError)
    assert str(again.exception).startswith("--account-id: is the same as")
    for option, value, said in (
        ("--source-id", "uk1", "--source-id: begins with"),
        ("--warehouse", "another.duckdb", "--warehouse: all accounts of ometria.toml"),
    ):
        options = ("--add-account", "--untested", "--feed", "x", "--account-id", "fr")
        again = init(*options, option, value, env={})
        assert str(again.exception).startswith(said)
    assert files(folder) == {name: text.encode() for name, text in before.items()}
    done = [
        init("--add-account", "--account-id", *options, key=key, env={})
        for key, options in (
            (None, ('us "east"', "--feed", "../feed", "--hash", "*.email", "--wide-keys")),
            ("another-key", ("de", "--untested")),
        )
    ]

    assert [each.exit_code for each in done] == [0, 0], done
    after = {name: text.decode() for name, text in files(folder).items()}
    assert all(after[name].startswith(before[name]) for name in before)
    assert stat.S_IMODE((folder / "ometria.toml").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "ometria.env").stat().st_mode) == 0o600
    uk, us, de = settings(folder)["accounts"]
    assert uk["api_key"] == "env:OMETRIA_API_KEY"
    assert us == {
        "account_id": 'us "east"',
        "source_id": 'us "east"',
        "wide_keys": True,
        "hash": ["*.email"],
        "hash_key": "env:OMETRIA_HASH_KEY_US_EAST",
        "feed": {"url": "../feed"},
    }
    assert de["api_key"] == "env:OMETRIA_API_KEY_DE"
    variables = variables_in(after["ometria.env"], folder)
    assert variables["OMETRIA_API_KEY_DE"] == "another-key"
    assert variables["OMETRIA_HASH_KEY"] != variables["OMETRIA_HASH_KEY_US_EAST"]
    ran = invoke("sync", "--account", 'us "east"', env=variables)
    assert ran.exit_code == 0, ran.output
    assert len(read_file(folder / "warehouse.duckdb", "ometria.email_events")) == 3


def test_a_quiet_set_up_says_nothing_but_errors(folder: Path) -> None:
    """The files are written; with `--json`, the result was asked for."""
    refused = init("-q", "--feed", "gone")
    done = init("-q", "--feed", "../feed")
    asked = init("-q", "--json", "--feed", "../feed", "--config", "b.toml")

    assert (type(refused.exception), refused.stdout) == (ConfigError, "")
    assert (done.exit_code, done.output) == (0, "")
    assert json.loads(asked.stdout)["config"] == "b.toml"
    assert set(files(folder)) == {"ometria.toml", "b.toml"}


def test_a_password_of_the_warehouse_is_kept_with_the_secrets(folder: Path) -> None:
    """The settings file only refers to it; on the command line it is refused."""
    url = "postgresql://me:se%2Fcret@127.0.0.1:9/shop"
    refused = init("--feed", "../feed", "--untested", "--warehouse", url)
    assert isinstance(refused.exception, ConfigError)
    assert "%2F" not in str(refused.exception)
    assert files(folder) == {}

    tried = init("--feed", "../feed", env={"OMETRIA_WAREHOUSE_URL": url})
    assert isinstance(tried.exception, WarehouseError)
    assert files(folder) == {}
    done = init("--feed", "../feed", "--untested", env={"OMETRIA_WAREHOUSE_URL": url})

    assert done.exit_code == 0, done.output
    assert settings(folder)["warehouse"] == {"url": "env:OMETRIA_WAREHOUSE_URL"}
    assert f"\nOMETRIA_WAREHOUSE_URL={url}\n" in (folder / "ometria.env").read_text()
    assert "%2F" not in done.output + (folder / "ometria.toml").read_text()


def test_pseudonyms_get_a_secret(server: Server, folder: Path) -> None:
    """One that nobody can guess, which the sync then uses."""
    done = init("--api-url", server.url, "--hash", "*.email", key=server.key)

    secret = variables_in((folder / "ometria.env").read_text(), folder)["OMETRIA_HASH_KEY"]
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert secret not in done.output
    assert "Keep a copy of OMETRIA_HASH_KEY" in done.stdout
    assert run("sync", folder=folder).exit_code == 0
    rows = read_file(folder / "warehouse.duckdb", "ometria.profiles")
    assert all(re.fullmatch("[0-9a-f]{64}", row["email"]) for row in rows if row["email"])


def test_a_variable_that_would_override_the_file_is_named(server: Server) -> None:
    """Another name in the shell would win over the one that was just chosen."""
    done = init(
        "--feed", "../feed", "--untested", "--source-id", "uk", "--json",
        env={"OMETRIA_SOURCE_ID": "us"},
    )  # fmt: skip

    assert json.loads(done.stdout)["source_id"] == "uk"
    assert json.loads(done.stdout)["warnings"] == [
        "OMETRIA_SOURCE_ID is set in this shell, and overrides ometria.toml: unset it."
    ]


def test_a_feed_without_files_and_one_that_cannot_be_read_are_warned_of(tmp_path: Path) -> None:
    """They may get better: the settings are written."""
    (tmp_path / "empty").mkdir()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    write_feed_file(tmp_path / "odd", "odd.json", yesterday, [{"a": "b"}])
    for name, warning in (("empty", "wait for it"), ("odd", "odd.json, cannot be read")):
        done = init("--feed", f"../{name}", "--config", f"{name}.toml", "--json")

        assert done.exit_code == 0, (done.output, done.exception)
        assert warning in " ".join(json.loads(done.stdout)["warnings"])


def test_git_that_would_take_the_secrets_is_warned_of(server: Server, folder: Path) -> None:
    """Unless it ignores the environment file."""
    (folder / ".git").mkdir()
    for name in ("HEAD", "config"):
        (folder / ".git" / name).write_text({"HEAD": "ref: refs/heads/x\n"}.get(name, ""))
    for name in ("objects", "refs"):
        (folder / ".git" / name).mkdir()

    def warnings(config: str) -> list[str]:
        options = ("--untested", "--json", "--config", config, "--env-file", f"{config}.env")
        done: list[str] = json.loads(init(*options, key=server.key).stdout)["warnings"]
        return done

    assert "git does not ignore a.toml.env" in warnings("a.toml")[0]
    (folder / ".gitignore").write_text("*.env\n")
    assert warnings("b.toml") == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("uk", "It holds 1 account: uk."), ("demo", "holds the simulated people of a demo")],
)
def test_the_accounts_that_a_warehouse_holds_are_named(
    folder: Path, tmp_path: Path, name: str, said: str
) -> None:
    """That of a demo is refused, so that no simulated people are beside real ones by accident."""
    before = account(folder=tmp_path / "feed", account_id=name)
    replicate(folder / "warehouse.duckdb", before, at=datetime.now(UTC))
    done = init("--account-id", "us", "--feed", "../feed")

    assert isinstance(done.exception, ConfigError) == (name == "demo")
    assert said in f"{done.stdout} {done.exception}"
    assert (folder / "ometria.toml").exists() == (name != "demo")


def test_a_file_that_is_named_has_its_own_environment_file(folder: Path) -> None:
    """And the commands that come next name it, quoted for a shell."""
    done = init("--untested", "--config", "my shop.toml", key="a-key")

    assert {path.name for path in folder.iterdir()} == {"my shop.toml", "my shop.env"}
    assert "\n    set -a; . './my shop.env'; set +a\n" in done.stdout
    assert "\n    ometria-replica check --config 'my shop.toml'\n" in done.stdout


def test_text_of_a_file_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """Neither values nor names of files."""
    write_feed_file(
        tmp_path / "odd", "a\x1b[31m.json", datetime(2026, 1, 1, tzinfo=UTC),
        [{**EVENTS[0], "event_type": "op\x1b[31men", "campaign_title": "a\r\nb\x07"}],
    )  # fmt: skip
    done = init("--feed", "../odd")

    assert "a\\u001b[31m.json, is JSON" in done.stdout
    assert "op·[31men" in done.stdout
    assert not {"\x1b", "\r", "\x07"} & {*done.output}
