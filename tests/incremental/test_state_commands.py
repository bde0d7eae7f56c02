from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, date
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ometria_replica.catalog import CATALOG
from ometria_replica.config import FeedSettings
from ometria_replica.errors import Busy, ConfigError
from ometria_replica.rendering import rejects_as_text, replay_as_text, state_as_text
from ometria_replica.report import report_from_dict
from ometria_replica.state_commands import read_rejects, read_state, replay, rewind
from tests.duck import read_file
from tests.e2e.program import api_env, invoke, run
from tests.incremental.shops import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    ReceivedRequests,
    account,
    config,
    replicate,
    state,
    watermark_of,
)
from tests.replicas import everything, of, write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server

SECRET = "ann@secret.example"


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Make a feed of three files, a day apart."""
    feed = tmp_path / "feed"
    for day, name in enumerate(("ann", "bob", "cat")):
        record = {"to_address": f"{name}@example.com", "event_type": "open", "dt_occurred": NOON}
        plain = {key: str(value) for key, value in record.items()}
        write_feed_file(feed, f"{day}.jsonl", NOON - (10 - day) * DAY, [plain])
    return feed


def spoil(feed: Path) -> None:
    """Add a file that has the header of gzip, but is not gzip."""
    path = feed / "bad.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00 this is no gzip file at all" * 9)
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))


# --- state show --------------------------------------------------------------------------------


def test_the_state_is_a_line_a_table(
    shop: Account, server: Server, warehouse: Path, feed: Path
) -> None:
    """It has rows, the end of reading, files, rejects and deleted rows of each table."""
    shop.update_profile("ann", seen="perhaps")
    spoil(feed)
    replicate(warehouse, account(server, feed), at=NOON - HOUR)
    shop.delete_list("10")
    replicate(warehouse, account(server, feed), at=NOON - HOUR)

    assert (
        state_as_text(read_state(config(warehouse)))
        == """\
source  table         rows     read until (UTC)  files  unreadable  rejects  deleted upstream
uk      profiles         3  2026-03-02 11:00:00      0           0        1                 0
uk      member_lists     2  2026-03-02 11:00:00      0           0        0                 0
uk      lists            2  2026-03-02 11:00:00      0           0        0                 1
uk      email_events     3                    -      4           1        1                 0
uk      unsubscribes     1  2026-03-02 11:00:00      0           0        0                 0"""
    )


def test_state_and_rejects_are_there_as_json(
    shop: Account, server: Server, warehouse: Path, feed: Path
) -> None:
    """``state show --json`` and ``rejects list --json`` hold the same, without raw values."""
    shop.update_profile("ann", seen=SECRET)
    replicate(warehouse, account(server, feed), at=NOON)
    acquire_lease(warehouse, "us-east")
    env = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk"}

    def answer(*arguments: str) -> Any:
        return run(*arguments, "--json", env=env, cwd=warehouse.parent, check=True).json

    shown = answer("state", "show")
    assert shown["tables"][0] == {
        "source_id": "uk",
        "table": "profiles",
        "rows": 3,
        "read_until": watermark_of(warehouse, "profiles").astimezone(UTC).isoformat(),
        "files": 0,
        "unreadable": 0,
        "rejects": 1,
        "deleted_upstream": 0,
    }
    assert [table["table"] for table in shown["tables"]] == [table.name for table in CATALOG]
    (run_of_another,) = shown["active_runs"]
    assert (run_of_another["source_id"], run_of_another["host"]) == ("uk", "us-east")
    (reject,) = answer("rejects", "list")["rejects"]
    assert (reject["table_name"], reject["column_name"]) == ("profiles", "seen")
    assert "raw" not in reject
    assert [reject["raw"] for reject in answer("rejects", "list", "--raw")["rejects"]] == [SECRET]


def test_the_state_says_who_is_at_work(server: Server, warehouse: Path) -> None:
    """A run that holds the lease is named below the tables."""
    replicate(warehouse, account(server), at=NOON)
    acquire_lease(warehouse, "us-east")

    assert state_as_text(read_state(config(warehouse))).splitlines()[-1] == (
        f"uk: run a-run (process {os.getpid()} on us-east) is active."
    )


def acquire_lease(warehouse: Path, host: str) -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO ometria_replica.leases"
            " VALUES ('uk', 'a-run', ?, ?, '', now(), now() + INTERVAL 1 HOUR)",
            [host, os.getpid()],
        )


def test_nothing_is_told_of_a_warehouse_that_is_not_there(warehouse: Path) -> None:
    """Reading the state creates no file."""
    assert state_as_text(read_state(config(warehouse))) == "No sync has run yet."
    assert rejects_as_text(read_rejects(config(warehouse), 10), raw=True) == "Nothing was rejected."
    assert not warehouse.exists()


# --- state rewind ------------------------------------------------------------------------------


def test_a_rewound_table_is_read_from_the_beginning(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """The next run reads all of that table, and only new records of the others."""
    settings = account(server)
    replicate(warehouse, settings, at=NOON)
    before = everything(warehouse, load_time=True)

    rewind(config(warehouse, settings), ["profiles"], None)

    assert everything(warehouse, load_time=True) == before
    shop.set_time(NOON + HOUR)
    asked = ReceivedRequests(server)
    report = replicate(warehouse, settings, at=shop.now)
    assert asked.values("profiles", "updateSince") == {None}
    assert of(report, "profiles").unchanged == 3
    assert len(asked.lists()) < 2
    assert watermark_of(warehouse, "profiles") > NOON


@pytest.mark.parametrize(
    ("options", "since"),
    [((), "everything"), (("--since", "2026-01-20"), "what changed since 2026-01-20")],
)
def test_the_program_says_what_a_rewind_does(
    options: tuple[str, ...], since: str, server: Server, warehouse: Path
) -> None:
    """``state rewind`` names the table and what the next sync reads of it."""
    replicate(warehouse, account(server), at=NOON)
    env = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk"}

    ended = run("state", "rewind", "profiles", *options, env=env, cwd=warehouse.parent, check=True)

    assert ended.out == f"The next sync reads profiles again: {since}. No row was changed.\n"
    assert ended.err == ""


def test_a_table_is_rewound_to_a_day(shop: Account, server: Server, warehouse: Path) -> None:
    """The next run asks from two days before that one; a day that is to come is refused."""
    settings = account(server)
    replicate(warehouse, settings, at=NOON)
    watermarks = state(warehouse, "watermarks")

    with pytest.raises(ConfigError, match="2026-03-03 is in the future: today is 2026-03-02"):
        rewind(config(warehouse, settings), ["profiles"], date(2026, 3, 3), clock=lambda: NOON)
    assert state(warehouse, "watermarks") == watermarks

    rewind(config(warehouse, settings), ["profiles"], date(2026, 1, 20))
    asked = ReceivedRequests(server)
    replicate(warehouse, settings, at=NOON)
    assert asked.values("profiles", "updateSince") == {"2026-01-18"}


@pytest.mark.parametrize(
    ("day", "files"), [(None, 3), (date(2026, 2, 21), 2), (date(2026, 3, 2), 0)]
)
def test_a_rewound_feed_is_read_again(
    day: date | None, files: int, warehouse: Path, feed: Path
) -> None:
    """Its files are read again: all, or those written from that day on; and then no more."""
    settings = account(folder=feed)
    replicate(warehouse, settings, at=NOON)

    rewind(config(warehouse, settings), ["email_events"], day)

    first = of(replicate(warehouse, settings, at=NOON + HOUR), "email_events")
    second = of(replicate(warehouse, settings, at=NOON + 2 * HOUR), "email_events")
    assert (first.files, first.unchanged, second.files) == (files, files, 0)


def test_a_table_that_is_none_cannot_be_rewound(server: Server, warehouse: Path) -> None:
    """The message names the nearest table; nothing is rewound, and no file is created."""
    with pytest.raises(ConfigError) as refused:
        rewind(config(warehouse, account(server)), ["lists", "profile"], None)

    assert str(refused.value) == "There is no table 'profile'; did you mean profiles?"
    assert not warehouse.exists()


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_changed_by_hand_where_nothing_was_loaded(
    server: Server, warehouse: Path, *, there: bool
) -> None:
    """A mistyped warehouse or source is an error, and no file is created."""
    if there:
        replicate(warehouse, account(server), at=NOON)
    mistyped = account(server, account_id="2", source_id="kk")

    for attempt in (
        lambda: rewind(config(warehouse, mistyped), ["profiles"], None),
        lambda: replay(config(warehouse, mistyped)),
    ):
        with pytest.raises(ConfigError) as refused:
            attempt()
        assert str(refused.value) == (
            f"duckdb:///{warehouse} has no rows of source 'kk'. Check warehouse.url and"
            " source_id, or run `ometria-replica sync` first."
        )

    assert warehouse.exists() is there


def test_nothing_is_rewound_under_a_run(server: Server, warehouse: Path) -> None:
    """While a run is active, the state is not changed."""
    replicate(warehouse, account(server), at=NOON)
    acquire_lease(warehouse, os.uname().nodename)
    watermarks = state(warehouse, "watermarks")

    for attempt in (
        lambda: rewind(config(warehouse, account(server)), ["profiles"], None),
        lambda: replay(config(warehouse, account(server))),
    ):
        with pytest.raises(Busy, match="run a-run"):
            attempt()

    assert state(warehouse, "watermarks") == watermarks
    assert [row["run_id"] for row in state(warehouse, "leases")] == ["a-run"]


# --- rejects -----------------------------------------------------------------------------------


def test_rejects_are_listed_without_what_was_sent(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Table, column, reason and place are shown; the raw value only on request."""
    shop.update_profile("ann", date_of_birth=SECRET)
    replicate(warehouse, account(server), at=NOON)

    plain = rejects_as_text(read_rejects(config(warehouse), 10), raw=False)
    assert (
        plain
        == """\
rejected (UTC)       source  table     column         reason      where
2026-03-02 12:00:00  uk      profiles  date_of_birth  not a date  GET /profiles offset=0, 1"""
    )
    shown = rejects_as_text(read_rejects(config(warehouse), 10), raw=True)
    assert shown.splitlines()[1].endswith(repr(SECRET))
    assert SECRET not in plain


def test_the_program_hides_raw_values_too(shop: Account, server: Server, warehouse: Path) -> None:
    """``rejects list`` prints personal data only with ``--raw``; ``--limit`` limits it."""
    shop.update_profile("ann", date_of_birth=SECRET, seen=SECRET)
    replicate(warehouse, account(server), at=NOON)
    env = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk"}

    plain = run("rejects", "list", env=env, cwd=warehouse.parent, check=True)
    shown = run(
        "rejects", "list", "--raw", "--limit", "1", env=env, cwd=warehouse.parent, check=True
    )

    assert SECRET not in plain.everything
    assert len(plain.out.splitlines()) == 3
    assert shown.out.count(SECRET) == 1


def test_rejects_are_forgotten_once_the_record_converts(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A later copy of the record that converts removes its reject, and only its own."""
    shop.update_profile("ann", seen="perhaps")
    shop.update_profile("bob", seen="perhaps")
    replicate(warehouse, account(server), at=NOON)
    assert len(state(warehouse, "rejects")) == 2
    shop.set_time(NOON + HOUR)
    shop.update_profile("ann", seen=True)

    replicate(warehouse, account(server), at=shop.now)

    assert len(state(warehouse, "rejects")) == 1
    rows = {row["profile_id"]: row["seen"] for row in everything(warehouse)["profiles"]}
    assert rows == {"ann": True, "bob": None, "cat": None}


def test_replay_converts_what_converts_today(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A value that an older version rejected is written to its row, unless the row has one."""
    settings = account(server)
    shop.update_profile("ann", date_of_birth="soon")
    shop.update_profile("bob", date_of_birth="soon")
    shop.update_profile("cat", date_of_birth="never")
    replicate(warehouse, settings, at=NOON)
    with duckdb.connect(str(warehouse)) as connection:  # As if "soon" were readable today.
        connection.execute(
            "UPDATE ometria_replica.rejects SET raw = '1984-04-22' WHERE raw = 'soon'"
        )
        connection.execute(
            "UPDATE ometria.profiles SET date_of_birth = DATE '2000-01-01' WHERE profile_id = 'bob'"
        )

    assert replay(config(warehouse, settings)) == 2

    born = {
        row["profile_id"]: row["date_of_birth"] for row in read_file(warehouse, "ometria.profiles")
    }
    assert born == {"ann": date(1984, 4, 22), "bob": date(2000, 1, 1), "cat": None}
    assert [reject["raw"] for reject in state(warehouse, "rejects")] == ["never"]
    assert replay(config(warehouse, settings)) == 0
    assert state(warehouse, "leases") == []


def test_replay_touches_only_the_accounts_that_are_set_up(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Rejects of other sources stay."""
    uk, us = account(server), account(server, account_id="1043", source_id="us")
    shop.update_profile("ann", date_of_birth="soon")
    replicate(warehouse, uk, us, at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("UPDATE ometria_replica.rejects SET raw = '1984-04-22'")

    assert replay(config(warehouse, us)) == 1

    rows = read_file(warehouse, "ometria.profiles")
    born = {row["__source_id"] for row in rows if row["date_of_birth"]}
    assert born == {"us"}
    assert [reject["source_id"] for reject in state(warehouse, "rejects")] == ["uk"]


def test_replay_reads_an_unreadable_file_again(warehouse: Path, feed: Path) -> None:
    """A file that was unreadable because of the settings is read once they are fixed."""
    path = feed / "tabs.csv"
    path.write_text("to_address;event_type;dt_occurred\neve@example.com;open;2026-01-01\n")
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    right = account(folder=feed)
    wrong = replace(right, feed=FeedSettings(url=str(feed), settle_seconds=0, encoding="utf-16"))
    broken = of(replicate(warehouse, wrong, at=NOON), "email_events")
    assert broken.files_unreadable == 4
    assert of(replicate(warehouse, right, at=NOON), "email_events").files == 0

    assert replay(config(warehouse, right)) == 0
    healed = of(replicate(warehouse, right, at=NOON + MINUTE), "email_events")

    assert (healed.files, healed.inserted, healed.files_unreadable) == (4, 4, 0)
    assert {entry["unreadable_because"] for entry in state(warehouse, "files")} == {None}
    assert of(replicate(warehouse, right, at=NOON + HOUR), "email_events").files == 0


def test_replay_reads_a_file_with_rejected_lines_again(warehouse: Path, feed: Path) -> None:
    """A file with a rejected line is read again; its other rows don't change."""
    path = feed / "lines.jsonl"
    path.write_text('{"to_address": "eve@example.com", "event_type": "open"}\n{"to_add\n')
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    settings = account(folder=feed)
    first = of(replicate(warehouse, settings, at=NOON), "email_events")
    assert (first.inserted, first.records_rejected) == (4, 1)
    assert of(replicate(warehouse, settings, at=NOON), "email_events").files == 0

    replay(config(warehouse, settings))
    again = of(replicate(warehouse, settings, at=NOON + HOUR), "email_events")

    assert (again.files, again.unchanged, again.inserted, again.records_rejected) == (1, 1, 0, 1)
    assert len(state(warehouse, "rejects")) == 1


def test_the_program_replays_and_reads_again(
    shop: Account, server: Server, warehouse: Path, feed: Path
) -> None:
    """``rejects replay`` reports the number of converted values, then syncs the feed."""
    shop.update_profile("ann", date_of_birth="soon")
    spoil(feed)
    settings = account(server, feed)
    replicate(warehouse, settings, at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("UPDATE ometria_replica.rejects SET raw = '1984-04-22'")
    env = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk", "OMETRIA_FEED_URL": str(feed)}

    ended = run("rejects", "replay", "--json", env=env, cwd=warehouse.parent, check=True)

    assert (ended.json["converted"], ended.json["remaining"]) == (1, 1)
    (table,) = ended.json["report"]["tables"]
    assert (table["table"], table["files_unreadable"]) == ("email_events", 1)
    assert replay_as_text(1, 1, report_from_dict(ended.json["report"])).splitlines()[-1] == (
        "1 value converted now. 1 reject remains: ometria-replica rejects list."
    )


def test_the_program_replays_without_a_feed(shop: Account, server: Server, warehouse: Path) -> None:
    """``rejects replay`` reads no files of an account without an export, and says what remains."""
    shop.update_profile("ann", date_of_birth="soon")
    shop.update_profile("bob", date_of_birth="never")
    replicate(warehouse, account(server), at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "UPDATE ometria_replica.rejects SET raw = '1984-04-22' WHERE raw = 'soon'"
        )
    env = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk"}

    ended = invoke("rejects", "replay", env=env)
    again = invoke("rejects", "replay", "--json", env=env)

    assert (ended.exit_code, ended.stdout) == (
        0, "1 value converted now. 1 reject remains: ometria-replica rejects list.\n"
    )  # fmt: skip
    assert json.loads(again.stdout) == {
        "schema": "ometria-replica/rejects-replay/1",
        "converted": 0,
        "remaining": 1,
        "report": None,
    }
