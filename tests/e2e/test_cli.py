from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica import __version__
from ometria_replica.errors import DifferencesFound
from ometria_simulator import Account, Server, serve
from tests.duck import read_file
from tests.e2e.program import api_env, invoke, run
from tests.spec.page import page_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS = ("init", "sync", "check", "verify", "tables", "config", "runs", "demo")
HEAVY = (
    "duckdb",
    "pyarrow",
    "httpx2",
    "obstore",
    "boto3",
    "moto",
    "rich.progress",
    "rich.prompt",
    "numpy",
    "ometria_replica.init",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve a small shop."""
    account = Account.create(profiles=20, lists=2, email_events=10)
    with serve(account, requests_per_second=None) as running:
        yield running


def test_help_is_there_for_every_command(tmp_path: Path) -> None:
    """``--help`` prints to standard output and exits with 0; one process asks all commands."""
    code = """
import sys
from ometria_replica.cli import app
for name in sys.argv[1:]:
    try:
        app([*name.split(), "--help"], prog_name="ometria-replica")
    except SystemExit as ended:
        print("ended with", ended.code)
"""
    ended = run("", *COMMANDS, code=code, cwd=tmp_path, check=True)

    assert ended.err == ""
    assert ended.out.count("ended with 0") == len(COMMANDS) + 1
    for command in COMMANDS:
        assert f"Usage: ometria-replica {command} " in ended.out


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """A command imports its slow dependencies when it runs."""
    code = f"""
import sys
from ometria_replica.cli import app
try:
    app(["--help"])
except SystemExit:
    print([name for name in {HEAVY!r} if name in sys.modules])
"""
    ended = run(code=code, cwd=tmp_path, check=True)

    assert ended.out.splitlines()[-1] == "[]"


def test_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    """``import ometria_replica`` and its table definitions import nothing slow."""
    code = f"""
import sys, ometria_replica
assert len(ometria_replica.TABLES) >= 5 and ometria_replica.ConfigError and ometria_replica.Config
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run(code=code, cwd=tmp_path, check=True).out.strip() == "[]"


def test_records_are_mapped_without_pandas(tmp_path: Path) -> None:
    """Pandas is not imported where it is installed: it takes a quarter of a small sync's CPU."""
    (tmp_path / "pandas.py").write_text("print('imported')")
    code = """
from ometria_replica.mapping.readers import to_arrow
from ometria_replica.tables import LISTS
print(to_arrow(LISTS, [{"id": "1"}, {}])["id"].to_pylist())
"""
    assert run(code=code, cwd=tmp_path, check=True).out == "['1', None]\n"


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    """``--version`` prints the version and nothing else."""
    assert run("--version", cwd=tmp_path, check=True).out == f"ometria-replica {__version__}\n"


def test_standard_output_carries_only_the_answer(server: Server, tmp_path: Path) -> None:
    """With ``--json`` and ``-v``, standard output is JSON, and logs go to standard error."""
    env = api_env(server, tmp_path / "w.duckdb")

    ended = run("-v", "sync", "--json", env=env, cwd=tmp_path, check=True)

    assert ended.json["outcome"] == "succeeded"
    assert "INFO ometria_replica.run_context: loaded profiles:" in ended.err
    assert "ometria-uk profiles: read" in ended.err
    quiet = run("sync", env=env, cwd=tmp_path, check=True)
    assert "INFO" not in quiet.err
    assert quiet.out.startswith("Synced to duckdb:///")


def test_some_tables_only(server: Server, tmp_path: Path) -> None:
    """``sync TABLE`` reads these tables only, a parent before its children."""
    env = api_env(server, tmp_path / "w.duckdb")

    report = run("sync", "member_lists", "lists", "--json", env=env, cwd=tmp_path, check=True).json

    assert [table["table"] for table in report["tables"]] == ["lists", "member_lists"]
    assert read_file(tmp_path / "w.duckdb", "ometria.profiles") == []


def test_tables_as_sql_make_the_tables(tmp_path: Path) -> None:
    """The statements run in a fresh DuckDB and give the page's columns."""
    statements = run("tables", "--format", "sql", cwd=tmp_path, check=True).out
    kinds = {"text": "VARCHAR", "timestamp with time zone": "TIMESTAMP WITH TIME ZONE"}

    with duckdb.connect() as connection:
        for statement in statements.split(";"):
            connection.execute(statement) if statement.strip() else None
        for table in page_tables():
            described = connection.execute(f"DESCRIBE ometria.{table.name}").fetchall()
            assert [(column[0], column[1]) for column in described] == [
                (name, kinds.get(kind, kind.upper())) for name, kind in table.columns
            ]


def test_tables_in_other_forms_name_every_column(tmp_path: Path) -> None:
    """Text, markdown and the diagram show all columns of all tables."""
    markdown = run("tables", "--format", "markdown", cwd=tmp_path, check=True).out
    mermaid = run("tables", "--format", "mermaid", cwd=tmp_path, check=True).out
    as_json = run("tables", "--json", cwd=tmp_path, check=True).json["tables"]
    one = run("tables", "ometria.lists", cwd=tmp_path, check=True).out

    assert mermaid.startswith("erDiagram\n")
    assert [(each["schema"], each["name"]) for each in as_json] == [
        ("ometria", table.name) for table in page_tables()
    ]
    for table, described in zip(page_tables(), as_json, strict=True):
        assert [each["name"] for each in described["columns"]] == [
            name for name, _ in table.columns
        ]
        for name, _ in table.columns:
            assert f"| `{name}` |" in markdown
            assert f" {name}" in mermaid
    lists = next(table for table in page_tables() if table.name == "lists")
    columns = one.partition("\ncolumn ")[2].splitlines()[1:]
    assert [line.split()[0] for line in columns if not line.startswith(" ")] == [
        name for name, _ in lists.columns
    ]


def test_a_table_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    """Exit 2, in the same words as for a sync."""
    ended = run("tables", "sales", cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "There is no table 'sales'. The tables are profiles, member_lists, lists, email_events,"
        " unsubscribes, collections, contacts, orders, products, custom_events, push_errors,"
        " data_deletion_requests, profile_identities, profile_tags, profile_lists, order_lines.\n"
    )


def test_runs_are_shown_newest_first(server: Server, tmp_path: Path) -> None:
    """The history begins with the last run, failed ones too, and ``--limit`` cuts it."""
    env = api_env(server, tmp_path / "w.duckdb")
    assert run("runs", env=env, cwd=tmp_path, check=True).out == "No run has been recorded yet.\n"
    assert not (tmp_path / "w.duckdb").exists()
    ids = [run("sync", "--json", env=env, cwd=tmp_path).json["run_id"] for _ in range(2)]
    refused = run("sync", "--json", env=env | {"OMETRIA_API_KEY": "x"}, cwd=tmp_path)
    ids.append(refused.json["run_id"])

    history = run("runs", "--json", env=env, cwd=tmp_path, check=True).json["runs"]
    text = run("runs", "--limit", "1", env=env, cwd=tmp_path, check=True).out

    assert [each["run_id"] for each in history] == ids[::-1]
    assert [each["outcome"] for each in history] == ["failed", "succeeded", "succeeded"]
    _, last, reason = text.splitlines()
    assert "failed" in last
    assert reason.startswith("    profiles, ")  # One reason for all tables.
    assert ": Ometria refused the API key for GET" in reason


def test_config_tells_where_values_came_from_and_no_secret(tmp_path: Path) -> None:
    """Every setting has its value and its origin; a secret is shown as set."""
    (tmp_path / "ometria.toml").write_text(
        '[warehouse]\nurl = "env:WAREHOUSE"\n[[accounts]]\nsource_id = "uk"\n'
        'api_key = "file:key.txt"\n[accounts.feed]\nurl = "s3://b/p"\n'
        'access_key_id = "env:THEIR_ID"\nsecret_access_key = "env:THEIR_SECRET"\n'
    )
    (tmp_path / "key.txt").write_text("canary-key\n")
    (tmp_path / "key.txt").chmod(0o600)
    env = {
        "WAREHOUSE": "duckdb:///w.duckdb?password=canary-word",
        "THEIR_ID": "canary-id",
        "THEIR_SECRET": "canary-secret",
        "OMETRIA_ACCOUNT_ID": "1042",
    }

    ended = run("config", env=env, cwd=tmp_path, check=True)
    as_json = run("config", "--json", env=env, cwd=tmp_path, check=True)

    assert "canary" not in as_json.everything
    assert {
        "key": "accounts[0].api_key",
        "value": "set",
        "origin": "file:key.txt",
    } in as_json.json["settings"]
    lines = {line.split()[0]: line.split(None, 1)[1] for line in ended.out.splitlines()}
    assert "canary" not in ended.everything
    assert lines["accounts[0].api_key"].split() == ["set", "file:key.txt"]
    assert lines["accounts[0].feed.secret_access_key"].split() == ["set", "env:THEIR_SECRET"]
    assert lines["accounts[0].account_id"].split() == ["1042", "env:OMETRIA_ACCOUNT_ID"]
    assert lines["accounts[0].source_id"].split() == ["uk", "ometria.toml"]
    assert lines["warehouse.url"].endswith("env:WAREHOUSE")


def test_a_dry_run_says_what_would_be_done(server: Server, tmp_path: Path) -> None:
    """It counts, exits with 0 and creates no file."""
    ended = run("sync", "--dry-run", env=api_env(server, tmp_path / "w.duckdb"), cwd=tmp_path)

    assert ended.code == 0
    assert ended.out.startswith("Would sync to duckdb:///")
    assert list(tmp_path.glob("*.duckdb*")) == []


def test_the_default_file_can_be_queried(server: Server, tmp_path: Path) -> None:
    """The default file is ``warehouse.duckdb``, in which ``ometria`` is not ambiguous."""
    env = api_env(server, tmp_path / "unused.duckdb")
    del env["OMETRIA_WAREHOUSE_URL"]

    report = run("sync", "--json", env=env, cwd=tmp_path, check=True).json

    assert report["warnings"] == []
    with duckdb.connect(tmp_path / "warehouse.duckdb", read_only=True) as connection:
        assert len(connection.execute("FROM ometria.profiles").fetchall()) == 20
        assert len(connection.execute("FROM ometria_replica.runs").fetchall()) == 1


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("ometria.duckdb", "ometria.profiles"),
        pytest.param("Ometria.prod.db", "ometria.profiles", marks=pytest.mark.slow),
        ("ometria_replica.duckdb", "ometria_replica.runs"),
    ],
)
def test_a_file_with_the_name_of_a_schema_brings_a_warning(
    name: str, table: str, server: Server, tmp_path: Path
) -> None:
    """DuckDB refuses the table's name in it; a renamed file keeps its rows and its state."""
    env = api_env(server, tmp_path / name)
    schema = table.partition(".")[0]
    warning = (
        f"{tmp_path / name}: DuckDB names the catalog after the file, so {schema}.TABLE fails in it"
        ' with "Ambiguous reference to catalog or schema". Rename the file, for example to'
        " warehouse.duckdb, and change warehouse.url. The state is in the file, so nothing is lost."
    )

    report = run("sync", "--json", env=env, cwd=tmp_path, check=True).json
    checked = run("check", env=env, cwd=tmp_path, check=True)

    assert report["warnings"] == [warning]
    assert warning in " ".join(checked.out.replace("        > ", "").split())
    with (
        duckdb.connect(tmp_path / name, read_only=True) as connection,
        pytest.raises(duckdb.BinderException, match="Ambiguous reference to catalog or schema"),
    ):
        connection.execute(f"FROM {table}")
    (tmp_path / name).rename(tmp_path / "warehouse.duckdb")
    again = run("sync", "--json", "--warehouse", "warehouse.duckdb", env=env, cwd=tmp_path).json
    assert again["warnings"] == []
    assert sum(table["inserted"] for table in again["tables"]) == 0
    with duckdb.connect(tmp_path / "warehouse.duckdb", read_only=True) as connection:
        assert connection.execute(f"FROM {table}").fetchall() != []


def test_the_demo_shows_rows_and_commands_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It fills ``warehouse.duckdb`` and shows rows of each table; its last lines run as printed.

    A second demo would be of another account, and is refused.
    """
    small = ("--profiles", "40", "--lists", "2", "--events", "60")

    ended = run("demo", *small, cwd=tmp_path)

    assert ended.code == 0, ended.err
    for table in page_tables():
        assert f"\nometria.{table.name}\n" in ended.out
    assert list(tmp_path.glob("*.duckdb")) == [tmp_path / "warehouse.duckdb"]
    shown = subprocess.run(
        ended.out.strip().splitlines()[-1],
        shell=True,
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "profile_id" in shown.stdout
    monkeypatch.chdir(tmp_path)
    for line, said in zip(ended.out.strip().splitlines()[-3:-1], ("3 rows.", "40"), strict=True):
        words = shlex.split(line)
        start = words.index("ometria-replica")
        env = dict(word.split("=", 1) for word in words[:start])
        asked = invoke(*words[start + 1 :], env=env)
        assert (asked.exit_code, said in asked.stdout) == (0, True), line
    again = run("demo", *small, cwd=tmp_path)
    assert (again.code, again.out) == (2, "")
    assert again.err.startswith("warehouse.duckdb holds the account of an earlier demo.")


@pytest.mark.slow
def test_the_demo_writes_a_file_of_any_name(tmp_path: Path) -> None:
    """If the schema is ambiguous, the command that it prints names the catalog too."""
    small = ("--profiles", "40", "--lists", "2", "--events", "60")
    url = "duckdb:///it's ometria/ometria.duckdb"
    (tmp_path / "it's ometria").mkdir()

    ended = run("demo", *small, "--warehouse", url, cwd=tmp_path)

    assert ended.code == 0, ended.err
    command = ended.out.strip().splitlines()[-1]
    shown = subprocess.check_output(command, shell=True, cwd=tmp_path, env={}, text=True)
    assert "profile_id" in shown


def test_the_report_of_a_run_is_json_that_tells_all(server: Server, tmp_path: Path) -> None:
    """Times have a zone, and each table has its counts."""
    env = api_env(server, tmp_path / "w.duckdb")

    report = run("sync", "--json", env=env, cwd=tmp_path, check=True).json

    assert report["started_at"].endswith("+00:00")
    assert report["warehouse"] == env["OMETRIA_WAREHOUSE_URL"]
    for table in report["tables"]:
        assert table["source_id"] == "ometria-uk"
        assert table["inserted"] + table["updated"] + table["unchanged"] <= table["records"]
        assert table["error"] is None
    assert (
        json.loads(read_file(tmp_path / "w.duckdb", "ometria_replica.runs")[0]["report"]) == report
    )


def test_verify_tells_what_differs_by_its_exit_code(server: Server, tmp_path: Path) -> None:
    """It says before how much it reads, its report is JSON, and a repair leaves nothing to find."""
    env = api_env(server, tmp_path / "w.duckdb")
    invoke("sync", env=env)
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        connection.execute("DELETE FROM ometria.profiles")
        connection.execute("UPDATE ometria_replica.watermarks SET reached_at = '2100-01-01'")

    found = invoke("verify", "profiles", "--sample", "1", "--seed", "7", "--json", env=env)

    assert isinstance(found.exception, DifferencesFound)
    assert found.exception.exit_code == 4
    (table,) = json.loads(found.stdout)["tables"]
    assert (table["checked"], table["missing"] + table["newer"]) == (20, 20)
    assert "Verifying ometria-uk (seed 7): all of profiles. About 1 request" in found.stderr
    assert invoke("verify", "--all", "--repair", "profiles", env=env).exception is None
    assert invoke("verify", "--all", "--strict", "profiles", env=env).exit_code == 0
    for wrong in (["--all", "--sample", "0.1"], ["--sample", "2"], ["--requests", "0"]):
        refused = invoke("verify", *wrong, env=env)
        assert getattr(refused.exception, "exit_code", refused.exit_code) == 2
