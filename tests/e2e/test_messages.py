from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ometria_simulator import Account, Feed, S3Server, Server, serve
from tests.duck import read_file
from tests.e2e.program import IMPATIENT, api_env, invoke, run, s3_env
from tests.replicas import everything

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED = (
    "Ometria refused the API key for GET /{} (403)."
    " Check the key's permissions, then run `ometria-replica check`."
)


@pytest.fixture(scope="module")
def shop() -> Account:
    """Make a small shop."""
    return Account.create(profiles=30, lists=2, email_events=40)


@pytest.fixture(scope="module")
def server(shop: Account) -> Iterator[Server]:
    """Serve it."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def env(server: Server, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which a sync succeeds."""
    return api_env(server, tmp_path / "w.duckdb")


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def tables_of(report: dict[str, Any]) -> dict[str, Any]:
    return {each["table"]: each for each in report["tables"]}


def test_a_wrong_key_is_named_as_such(env: dict[str, str], tmp_path: Path) -> None:
    """Exit 3: the message names the request and what to do, once; each table was tried."""
    env["OMETRIA_API_KEY"] = "another-key"

    ended = run("sync", "--json", env=env, cwd=tmp_path)

    assert ended.code == 3
    assert last_line(ended.err) == REFUSED.format("profiles offset=0")
    tables = tables_of(ended.json)
    assert set(tables) == {"profiles", "lists", "member_lists", "unsubscribes"}
    assert tables["profiles"]["error"] == REFUSED.format("profiles offset=0")
    for name in ("lists", "member_lists", "unsubscribes"):
        assert tables[name]["error"] == "The same as for profiles."
    assert ended.json["outcome"] == "failed"
    assert "another-key" not in ended.everything


def test_an_endpoint_that_is_refused_does_not_hold_back_the_others(
    shop: Account, tmp_path: Path
) -> None:
    """With a key that lacks one endpoint, the other tables are synced, and the run fails."""
    with serve(shop, requests_per_second=None, no_rights=frozenset({"profiles"})) as server:
        ended = run("sync", "--json", env=api_env(server, tmp_path / "w.duckdb"), cwd=tmp_path)

    assert (ended.code, last_line(ended.err)) == (3, REFUSED.format("profiles offset=0"))
    tables = tables_of(ended.json)
    assert [name for name, table in tables.items() if table["error"]] == ["profiles"]
    assert len(read_file(tmp_path / "w.duckdb", "ometria.lists")) == len(shop.lists)


def test_a_host_that_cannot_be_reached_is_named(env: dict[str, str], tmp_path: Path) -> None:
    """Exit 75: try again later, and look at ``api_url``; other tables are tried more briefly."""
    env["OMETRIA_API_URL"] = "http://127.0.0.1:9/v2"

    ended = run("sync", "--json", env=env, cwd=tmp_path, code=IMPATIENT)

    assert ended.code == 75
    assert re.fullmatch(
        r"127\.0\.0\.1 gave no good answer to GET /profiles offset=0: it could not be reached;"
        r" tried (once|\d+ times) in \d+ seconds?\. Is api_url right\?",
        last_line(ended.err),
    )
    assert list(tables_of(ended.json)) == ["profiles", "lists", "member_lists", "unsubscribes"]


def test_a_bucket_that_is_not_there_is_named(s3: S3Server, tmp_path: Path) -> None:
    """Exit 3: the message names the bucket, its server and the setting."""
    env = s3_env(s3, "exports") | {"OMETRIA_FEED_URL": "s3://not-there/exports"}

    ended = run("sync", env=env, cwd=tmp_path)

    host = s3.endpoint_url.removeprefix("http://")
    message = (
        f"s3://not-there/exports at {host}: listing its files failed: there is no such bucket."
        " Check the feed's url."
    )
    assert (ended.code, last_line(ended.err)) == (3, message)
    assert f"Failed: email_events: {message}" in ended.out


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Exit 2: a folder is a setting, and the setting is wrong."""
    env = {"OMETRIA_FEED_URL": str(tmp_path / "typo")}

    ended = run("sync", env=env, cwd=tmp_path)

    message = f"{tmp_path / 'typo'}: there is no such folder. Check the feed's url."
    assert (ended.code, last_line(ended.err)) == (2, message)


def test_an_unreadable_file_is_named_and_the_rest_is_loaded(shop: Account, tmp_path: Path) -> None:
    """Exit 0 with a warning that names the file, 4 with ``--strict``; the others are loaded."""
    feed = Feed(shop, tmp_path / "feed", redelivered=0, duplicate_share=0)
    good = feed.export_history(files_per_day=1 / 90)
    shop.add_event("new@example.com", "open")
    bad = feed.export_truncated_gzip()
    env = {"OMETRIA_FEED_URL": str(tmp_path / "feed")}

    ended = run("sync", "--json", "--warehouse", "w.duckdb", env=env, cwd=tmp_path)
    strict = run("sync", "--strict", "--warehouse", "s.duckdb", env=env, cwd=tmp_path)

    assert ended.code == 0
    reason = "is truncated: its gzip data ends too early"
    assert ended.json["warnings"] == [f"email_events: {bad}: {reason}"]
    (table,) = ended.json["tables"]
    assert (table["files"], table["files_unreadable"]) == (len(good), 1)
    assert table["inserted"] == len(read_file(tmp_path / "w.duckdb", "ometria.email_events")) > 0
    ledger = read_file(tmp_path / "w.duckdb", "ometria_replica.files")
    assert {entry["name"]: entry["unreadable_because"] for entry in ledger} == {
        **dict.fromkeys(good),
        bad: reason,
    }
    assert strict.code == 4
    assert f"Warning: email_events: {bad}: {reason}" in strict.out
    assert last_line(strict.err).startswith("1 ")
    assert "rejected, and --strict is set. Everything else is loaded." in strict.err

    feed.complete(bad)
    healed = run("sync", "--json", "--warehouse", "w.duckdb", env=env, cwd=tmp_path).json
    assert (healed["tables"][0]["inserted"], healed["warnings"]) == (1, [])


def test_a_value_set_aside_is_told_and_strict_fails(server: Server, tmp_path: Path) -> None:
    """The report says where to look, ``--strict`` exits with 4, and the row is there."""
    account = Account()
    account.add_profile("p-1", date_of_birth="17/05/2017")
    with serve(account, requests_per_second=None) as running:
        env = api_env(running, tmp_path / "w.duckdb")
        ended = run("sync", "--strict", env=env, cwd=tmp_path)

    assert ended.code == 4
    assert "ometria-replica rejects list" in ended.out
    (reject,) = read_file(tmp_path / "w.duckdb", "ometria_replica.rejects")
    assert (reject["raw"], reject["column_name"]) == ("17/05/2017", "date_of_birth")
    (row,) = read_file(tmp_path / "w.duckdb", "ometria.profiles")
    assert (row["profile_id"], row["date_of_birth"]) == ("p-1", None)


def test_broken_settings_are_all_told_at_once(env: dict[str, str], tmp_path: Path) -> None:
    """Exit 2: all problems at once, each with its variable; no request, no file."""
    env |= {
        "OMETRIA_REQUESTS_PER_SECOND": "fast",
        "OMETRIA_API_URL": "http://api.ometria.com",
        "OMETRIA_API_KYE": "x",
    }

    ended = run("sync", env=env, cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        (
            "OMETRIA_API_URL: must be https: over http, the API key would be sent unencrypted"
            " (http is allowed for localhost)."
        ),
        "OMETRIA_REQUESTS_PER_SECOND: must be a number above 0 and at most 1000.",
        "OMETRIA_API_KYE: is not a setting; did you mean OMETRIA_API_KEY? Rename it, or unset it.",
    ]
    assert not (tmp_path / "w.duckdb").exists()


def test_without_any_settings_the_first_step_is_told(tmp_path: Path) -> None:
    """Exit 2: the message names the variables to set; no file is created."""
    ended = run("sync", cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "No account is set: it needs an API key, a feed or both."
        " Set OMETRIA_API_KEY or OMETRIA_FEED_URL, or write [[accounts]] in ometria.toml.\n"
    )
    assert list(tmp_path.glob("*.duckdb")) == []


def test_an_unknown_table_is_told_with_the_nearest_or_with_all(
    env: dict[str, str], server: Server, tmp_path: Path
) -> None:
    """Exit 2: the message has each unknown name, before any request."""
    asked = len(server.requests)

    ended = run("sync", "profile", "lists", "Sales", env=env, cwd=tmp_path)

    tables = "The tables are profiles, member_lists, lists, email_events, unsubscribes."
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "There is no table 'profile'; did you mean profiles?",
        f"There is no table 'Sales'. {tables}",
    ]
    assert (len(server.requests), (tmp_path / "w.duckdb").exists()) == (asked, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sync", "--sweep"), "--sweep is now --detect-deletes."),
        (("backfill", "--from", "2026-01-01"), "--from is now --since."),
        (("backfill", "--since=2026-01-01", "--to=2026-01-02"), "--to is now --until."),
        (("state", "rewind", "lists", "--to", "2026-01-02"), "--to is now --since."),
        (("erase", "--from-file", "ids.csv"), "--from-file is now --file."),
        (
            ("state", "rewind", "--table", "lists"),
            "--table is now an argument: ometria-replica state rewind TABLE.",
        ),
        (
            ("backfill", "--since", "2026-01-01", "--table", "lists"),
            "--table is now an argument: ometria-replica backfill TABLE.",
        ),
    ],
)
def test_the_old_name_of_an_option_leads_to_the_new_one(
    arguments: tuple[str, ...], message: str, env: dict[str, str], tmp_path: Path
) -> None:
    """Exit 2: the message has the present name, and nothing is read."""
    ended = invoke(*arguments, env=env)

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert last_line(ended.stderr) == f"Error: {message}"
    assert not (tmp_path / "w.duckdb").exists()


@pytest.mark.parametrize("since", ["tomorrow", "17/05/2017", "2026-02-30", "2026-3", ""])
def test_a_since_that_is_no_day_is_told(since: str, env: dict[str, str], tmp_path: Path) -> None:
    """Exit 2: the option, the value and the form it should have."""
    ended = run("sync", "--since", since, env=env, cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert "Invalid value for '--since'" in last_line(ended.err)
    assert repr(since) in last_line(ended.err)
    assert "is not a day, such as 2026-01-31, yesterday or 7d." in last_line(ended.err)


def test_a_run_that_another_holds_back_says_so(env: dict[str, str], tmp_path: Path) -> None:
    """Exit 75: the message names the run, its machine and the lease's end; nothing was changed."""
    run("sync", env=env, cwd=tmp_path, check=True)
    now = datetime.now(UTC)
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute(
            "INSERT INTO ometria_replica.leases VALUES ('ometria-uk', 'their-run', ?, ?, '', ?, ?)",
            [os.uname().nodename, os.getpid(), now, now + timedelta(hours=1)],
        )
    before = read_file(tmp_path / "w.duckdb", "ometria.profiles")

    ended = run("sync", env=env, cwd=tmp_path)

    assert ended.code == 75
    assert ended.out.startswith("Failed syncing to ")
    assert str(os.getpid()) in last_line(ended.err)
    assert re.search(
        rf" is loading 'ometria-uk' into {re.escape(str(tmp_path / 'w.duckdb'))},"
        r" until \d\d:\d\d:\d\d UTC at the latest\. Run again when it is done\.$",
        last_line(ended.err),
    )
    assert read_file(tmp_path / "w.duckdb", "ometria.profiles") == before


def test_a_warehouse_that_is_no_duckdb_file_is_told(env: dict[str, str], tmp_path: Path) -> None:
    """Exit 5: the message names the file and what to do; nothing was changed."""
    (tmp_path / "w.duckdb").write_text("not a database\n" * 500)

    ended = run("sync", env=env, cwd=tmp_path)

    assert (ended.code, ended.out) == (5, "")
    assert ended.err == (
        f"{tmp_path / 'w.duckdb'} is not a DuckDB file. Nothing was changed."
        " Change warehouse.url, or move it.\n"
    )


def test_a_full_disk_is_told_and_the_next_run_makes_good(server: Server, tmp_path: Path) -> None:
    """Exit 5: the message is the first failure's; with space, the next run loads everything."""
    account = Account.create(profiles=300, lists=2, email_events=40)
    limited = """
import resource, sys
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (800 * 1024, 800 * 1024))
from ometria_replica.cli import main
main()
"""
    with serve(account, requests_per_second=None) as running:
        env = api_env(running, tmp_path / "w.duckdb")
        full = run("sync", env=env, cwd=tmp_path, code=limited)
        run("sync", env=env, cwd=tmp_path, check=True)
        run("sync", "--warehouse", "other.duckdb", env=env, cwd=tmp_path, check=True)

    assert full.code == 5
    assert last_line(full.err) == (
        f"The disk of {tmp_path / 'w.duckdb'} is full, or the disk of the folder for temporary"
        " files. Uncommitted changes were rolled back, and nothing is lost."
        " Free some space, then run again."
    )
    assert everything(tmp_path / "w.duckdb") == everything(tmp_path / "other.duckdb")


def test_check_tells_each_thing_it_tried(env: dict[str, str], tmp_path: Path) -> None:
    """``check`` exits with 0 or the first failure's code, and creates nothing."""
    good = run("check", env=env, cwd=tmp_path)
    bad = run("check", env=env | {"OMETRIA_API_KEY": "another-key"}, cwd=tmp_path)

    assert (good.code, good.err) == (0, "")
    assert "  pass  GET /lists/{id}/changes: the key may read it, for member_lists.\n" in good.out
    assert bad.code == 3
    refused = "127.0.0.1 refuses the API key for every endpoint that was asked: /profiles, /lists,"
    assert f"  fail  {refused}\n        /unsubscribes.\n        > Check that the key" in bad.out
    assert "  pass  The warehouse" in bad.out
    as_json = run("check", "--json", env=env | {"OMETRIA_API_KEY": "x"}, cwd=tmp_path)
    assert as_json.code == as_json.json["exit_code"] == 3
    (failure,) = [each for each in as_json.json["findings"] if each["level"] == "fail"]
    assert (failure["code"], failure["source_id"]) == ("api.right", "ometria-uk")
    assert failure["text"] == f"{refused} /unsubscribes."
    assert not (tmp_path / "w.duckdb").exists()


@pytest.mark.parametrize("options", [(), ("--json",), ("-v",)])
def test_no_name_of_a_file_steers_the_terminal(options: tuple[str, ...], tmp_path: Path) -> None:
    """Escapes of a terminal, and marks that turn the direction of text, are shown as escapes."""
    feed = tmp_path / "feed"
    feed.mkdir()
    for name in ("C1 \x9b31m.csv", "right \u202egnp.csv"):
        (feed / name).write_bytes(b"<html>")
        os.utime(feed / name, (0, 0))
    verbose = [option for option in options if option == "-v"]
    others = [option for option in options if option != "-v"]
    env = {"OMETRIA_FEED_URL": str(feed), "OMETRIA_WAREHOUSE_URL": f"{tmp_path}/w.duckdb"}

    ended = run(*verbose, "sync", *others, env=env, cwd=tmp_path)

    assert r"C1 \u009b31m.csv" in ended.out
    assert r"right \u202egnp.csv" in ended.out
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ended.out + ended.err)
    if "--json" in others:
        assert any("\x9b" in warning for warning in ended.json["warnings"])


# --- Secrets and people ------------------------------------------------------------------------


@pytest.mark.slow
def test_secrets_and_people_stay_out_of_everything_that_is_said(
    s3: S3Server, tmp_path: Path
) -> None:
    """No output of any run holds a key, an address or a name; neither does the state."""
    key, secret, person = "KEY-canary-7f3a", "SECRET-canary-91bc", "canary.person@example.com"
    name = "Canarina Featherstone"
    account = Account.create(profiles=20, lists=2, email_events=30)
    account.add_profile("p-canary", email=person, name=name, seen="of course", loyalty=1)
    account.add_profile("", email=person, name=name)
    account.add_unsubscribe("p-canary", email_address=person, reason_text=name)
    account.add_change(account.lists[0].id, "p-canary", "list_enter", email=person)
    account.add_event(person, "open", campaign_title=name)
    feed = Feed(account, f"s3://{s3.bucket}/canary", s3=s3.access)
    feed.export_history(files_per_day=1 / 90)
    feed.poison("aa.csv", f"{person};{name}\n{person};{name}\n".encode())
    feed.poison("bb.jsonl", f'{{"to_address":"{person}","reason":\n{{"x":1}}\n'.encode())
    feed.poison("cc.jsonl", f'{{"reason":"x"}}\n{{"to_address":"{person}","reason":\n'.encode())
    said = []

    with serve(account, key=key, requests_per_second=None) as server:
        good = api_env(server, tmp_path / "w.duckdb") | s3_env(s3, "canary")
        good["AWS_SECRET_ACCESS_KEY"] = secret
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "w.duckdb").write_text(person * 1000)
        for env, arguments in [
            (good, ("-v", "sync")),
            (good, ("-v", "sync", "--full", "--strict", "--json")),
            (good, ("check",)),
            (good, ("config",)),
            (good, ("runs", "--json")),
            (good | {"OMETRIA_API_URL": f"{server.root_url}/v3"}, ("-v", "sync")),
            (good | {"OMETRIA_FEED_URL": "s3://not-there/x"}, ("-v", "sync")),
            (good | {"OMETRIA_WAREHOUSE_URL": f"duckdb:///{tmp_path}/full/w.duckdb"}, ("sync",)),
            (good | {"OMETRIA_REQUESTS_PER_SECOND": "x"}, ("sync",)),
            (good | {"OMETRIA_SOURCE_ID": "other"}, ("sync",)),
        ]:
            ended = run(*arguments, env=env, cwd=tmp_path)
            assert "Traceback" not in ended.err, ended.err
            said.append(ended.everything)

    for told in said:
        for planted in (key, secret, person, name):
            assert planted not in told
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        states = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = 'ometria_replica' AND table_name <> 'rejects'"
        ).fetchall()
        assert ("runs",) in states
        for (table,) in states:
            rows = str(
                connection.execute(f"SELECT t::VARCHAR FROM ometria_replica.{table} t").fetchall()
            )
            for planted in (key, secret, person, name):
                assert planted not in rows, table
    people = read_file(tmp_path / "w.duckdb", "ometria.profiles")
    assert (person, name) in {(row["email"], row["customer_name"]) for row in people}
    raws = [row["raw"] for row in read_file(tmp_path / "w.duckdb", "ometria_replica.rejects")]
    assert "of course" in raws
    assert any(person in (raw or "") for raw in raws)
    assert json.dumps(raws).count(key) == 0


def test_a_crash_writes_no_memory_to_the_disk(tmp_path: Path) -> None:
    """A core dump would hold the key, so the program allows itself none."""
    code = (
        "import resource, sys\n"
        "_, most = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "from ometria_replica import cli\n"
        "sys.argv = ['ometria-replica', '--version']\n"
        "try:\n    cli.main()\n"
        "finally:\n    print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ended.stdout.splitlines()[-1] == "0", ended.stderr
