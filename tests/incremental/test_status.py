from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ometria_replica.errors import AccessDenied, Busy, ConfigError, NotFound, NotUpToDate
from ometria_replica.replica_status import read_status
from ometria_replica.status_report import Status, verdict
from ometria_simulator import Account, Fault, Server
from tests.docs.pages import blocks
from tests.duck import held_elsewhere, opened
from tests.e2e.program import SOURCES, api_env, invoke
from tests.incremental.shops import DAY, HOUR, MINUTE, NOON, account, config, replicate
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings

LINES = {
    "rows": "SELECT count(*) FROM ometria.{table} WHERE __source_id = '{source}'",
    "newest_event": "SELECT max(event_at) FROM ometria.{table} WHERE __source_id = '{source}'",
    **{
        name: f"SELECT {what} FROM ometria_replica.{table} WHERE source_id = '{{source}}'"
        " AND table_name = '{table}'"
        for name, what, table in (
            ("rejects", "count(*)", "rejects"),
            ("deleted_upstream", "count(*)", "deleted_upstream"),
            ("files", "count(*)", "files"),
            ("files_unreadable", "count(unreadable_because)", "files"),
        )
    },
}
TIMED = {"member_lists", "email_events", "unsubscribes"}


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Make a feed of two files, with an event twice, and of a file that is no gzip."""
    folder = tmp_path / "feed"
    for day, name in enumerate(("ann", "bob")):
        events = [
            {
                "to_address": f"{name}@example.com",
                "event_type": "open",
                "dt_occurred": f"{NOON - 2 * DAY:%Y-%m-%d %H:%M:%S}",
                "campaign_title": f"{number}",
            }
            for number in range(2)
        ]
        write_feed_file(folder, f"{day}.jsonl", NOON - (10 - day) * DAY, events)
    path = folder / "bad.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00 this is no gzip file at all" * 9)
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    return folder


def look(
    warehouse: Path,
    *accounts: AccountSettings,
    at: datetime = NOON + MINUTE,
    tables: tuple[str, ...] = (),
    **options: Any,
) -> Status:
    return read_status(config(warehouse, *accounts), tables, clock=lambda: at, **options)


def acquire_lease(warehouse: Path, host: str, run_id: str = "20260302T120030-aaaaaa") -> None:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO ometria_replica.leases VALUES ('uk', ?, ?, 1, 'long ago', ?, ?)",
            [run_id, host, NOON, NOON + 30 * MINUTE],
        )


def test_the_numbers_are_those_of_sql(
    shop: Account, server: Server, warehouse: Path, feed: Path
) -> None:
    """Of each table of each of two accounts, one of which another account's rows surround."""
    shop.update_profile("ann", seen="perhaps")
    replicate(warehouse, account(server, feed), at=NOON)
    shop.delete_list("10")
    accounts = [account(server, feed), account(server, account_id="7", source_id="us")]
    for several in (accounts[:1], accounts):
        replicate(warehouse, *several, at=NOON)
        status = look(warehouse, *several)

        with opened(warehouse) as connection:
            for table in status.tables:
                for name, query in LINES.items():
                    if name == "newest_event" and table.table not in TIMED:
                        assert table.newest_event is None
                        continue
                    statement = query.format(table=table.table, source=table.source_id)
                    assert connection.execute(f"SELECT to_json(({statement}))").fetchone() == (
                        connection.execute(
                            "SELECT to_json(?::"
                            + ("TIMESTAMPTZ)" if name == "newest_event" else "BIGINT)"),
                            [getattr(table, name)],
                        ).fetchone()
                    ), (table.table, name)
    found = {(table.source_id, table.table): table for table in status.tables}
    assert found["uk", "profiles"].rejects == 1
    assert found["uk", "lists"].deleted_upstream == 1
    events = found["uk", "email_events"]
    assert (events.rows, events.files, events.files_unreadable, events.merged) == (2, 3, 1, 2)
    assert events.complete_until == NOON
    assert ("us", "email_events") not in found


def test_a_screen_answers_whether_all_is_right(
    shop: Account, server: Server, warehouse: Path, feed: Path
) -> None:
    """It is the one that the page on schedules shows, but for the disk and requests in advance."""
    shop.update_profile("ann", seen="perhaps")
    replicate(warehouse, account(server, feed), at=NOON - 2 * HOUR)
    shop.delete_list("10")
    replicate(warehouse, account(server, feed), at=NOON - HOUR)
    status = look(warehouse, account(server, feed), at=NOON - HOUR + 12 * MINUTE)
    ((_, _, shown),) = (block.text.partition("status\n") for block in blocks("console status"))

    def but_for_the_machine(text: str) -> str:
        text = re.sub(r"(?<=: )duckdb:///.*(?=, \d)", "FILE", text.replace(":  duckdb", ": duckdb"))
        text = re.sub(r"[\d.]+ [kMGT]B", "SIZE", text)
        text = re.sub(r"(Not replicated: )(\w+, )+\w+", r"\1TABLES", text)  # Others may come.
        return re.sub(r"\d+ requests", "REQUESTS", text)

    assert but_for_the_machine(status.to_text()) == but_for_the_machine(shown).strip()
    assert status.disk is not None
    assert status.disk.bytes == warehouse.stat().st_size


def test_nothing_is_known_and_made_where_no_sync_has_run(warehouse: Path, server: Server) -> None:
    """The screen says what to do, and with --max-age it is no success."""
    env = api_env(server, warehouse)

    shown = invoke("status", env=env)
    refused = invoke("status", "--max-age", "26h", env=env)

    assert shown.exit_code == 0
    assert shown.stdout.startswith(
        "Not all right: no sync has run here yet. Run `ometria-replica sync`.\n"
    )
    assert isinstance(refused.exception, NotUpToDate)
    assert not warehouse.exists()


def test_a_look_leaves_the_warehouse_as_it_was(server: Server, warehouse: Path) -> None:
    """Each byte of the file, and no file beside it."""
    replicate(warehouse, account(server), at=NOON)

    def contents() -> dict[str, str]:
        files = [path for path in warehouse.parent.iterdir() if path.is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = contents()
    look(warehouse, account(server))

    assert contents() == before


def test_a_replica_is_too_old_after_the_age_that_is_given(server: Server, warehouse: Path) -> None:
    """It is 25 hours old: the exit code is 0 or 6. Without an age it is 0, whatever is said."""
    now = datetime.now(UTC)
    replicate(warehouse, account(server), at=now - 25 * HOUR)
    with duckdb.connect(str(warehouse)) as connection:  # The shop's own clock stands still.
        connection.execute(
            "UPDATE ometria_replica.watermarks SET reached_at = ?", [now - 25 * HOUR]
        )
    env = {**api_env(server, warehouse), "OMETRIA_SOURCE_ID": "uk", "OMETRIA_ACCOUNT_ID": "1042"}

    def ended(*arguments: str) -> tuple[Any, BaseException | None]:
        result = invoke("status", "--json", *arguments, env=env)
        return json.loads(result.stdout), result.exception

    for age in ("1510m", "26h", "2d"):
        said, error = ended("--max-age", age)
        assert (said["all_right"], said["problems"], error) == (True, [], None)
    for age in ("1499m", "25h", "1d"):
        said, error = ended("--max-age", age)
        assert not said["all_right"]
        assert isinstance(error, NotUpToDate)
        assert error.exit_code == 6
        assert said["problems"][0] == (
            "the last run that succeeded ended 25 hours ago. Run `ometria-replica sync`, or mend"
            " the schedule."
        )
    assert ended()[1] is None


@pytest.mark.parametrize("text", ["0h", "1", "26", "h", "1.5h", "-1h", "1w", "26 h", "1234567d"])
def test_an_age_is_a_number_with_a_unit(text: str, warehouse: Path, server: Server) -> None:
    """Others are refused before anything is opened."""
    ended = invoke("status", "--max-age", text, env=api_env(server, warehouse))

    assert ended.exit_code == 2
    assert "such as 90m, 26h or 2d" in ended.stderr


def test_a_failure_is_told_until_a_run_succeeds(server: Server, warehouse: Path) -> None:
    """With its reason; the success before it still counts for the age."""
    replicate(warehouse, account(server), at=NOON)
    wrong = account(server)
    server.faults.next("/v2/", Fault(status=403), 100)
    with pytest.raises(AccessDenied):
        replicate(warehouse, wrong, at=NOON + HOUR)
    server.faults.clear()
    failed = look(warehouse, wrong, at=NOON + 2 * HOUR)

    assert verdict(failed).startswith(
        "Not all right: the last run failed 60 minutes ago: Ometria refused the API key"
    )
    assert [each.last_success_at for each in failed.accounts] == [NOON]
    assert (
        "profiles, member_lists, lists, unsubscribes: could not be read, as said above."
    ) in failed.to_text()

    replicate(warehouse, account(server), at=NOON + 2 * HOUR)
    assert look(warehouse, account(server), at=NOON + 2 * HOUR).is_all_right


def test_a_table_that_a_run_left_out_grows_old_by_itself(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A sync of some tables says nothing of the others."""
    replicate(warehouse, account(server), at=NOON)
    shop.set_time(NOON + 4 * DAY)
    replicate(warehouse, account(server), at=NOON + 3 * DAY, tables=["lists"])
    status = look(warehouse, account(server), at=NOON + 3 * DAY)

    assert verdict(status) == (
        "Not all right: profiles, member_lists, unsubscribes are complete only up to 3 days ago."
        " Run `ometria-replica sync` for all tables, and read its warnings."
    )
    assert look(warehouse, account(server), at=NOON + 3 * DAY, tables=("lists",)).is_all_right
    with pytest.raises(ConfigError, match="There is no table"):
        look(warehouse, account(server), tables=("profile",))


def test_a_run_at_work_is_named_and_one_that_was_killed_too(
    server: Server, warehouse: Path
) -> None:
    """A lease of a process that is gone is the trace of a run that did not end."""
    replicate(warehouse, account(server), at=NOON)
    acquire_lease(warehouse, "another-host")
    at_work = look(warehouse, account(server))
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("UPDATE ometria_replica.leases SET host = ?", [os.uname().nodename])
    killed = look(warehouse, account(server), at=NOON + 2 * MINUTE)

    assert at_work.is_all_right
    assert "Active now: run 20260302T120030-aaaaaa (process 1 on another-host) for uk" in (
        at_work.to_text()
    )
    assert verdict(killed).startswith("Not all right: the last run did not end")
    assert "Active now: no run" in killed.to_text()


def test_a_run_that_found_another_at_work_is_no_failure(server: Server, warehouse: Path) -> None:
    """Schedules overlap: the run that gave way has read nothing, and its code says try again."""
    replicate(warehouse, account(server), at=NOON)
    acquire_lease(warehouse, "another-host")
    with pytest.raises(Busy):
        replicate(warehouse, account(server), at=NOON + MINUTE)

    assert look(warehouse, account(server)).is_all_right


def test_an_account_is_not_blamed_for_another(server: Server, warehouse: Path) -> None:
    """Each has its own last success; a source that the settings do not name is mentioned."""
    us = account(server, account_id="7", source_id="us")
    replicate(warehouse, account(server), us, at=NOON)
    broken = account(server, account_id="7", source_id="us", api_url=f"{server.url}/nowhere")
    with pytest.raises(NotFound):
        replicate(warehouse, account(server), broken, at=NOON + HOUR)
    status = look(warehouse, account(server), us, at=NOON + HOUR)
    alone = look(warehouse, account(server), at=NOON + HOUR)

    assert {each.source_id: each.last_success_at for each in status.accounts} == {
        "uk": NOON + HOUR,
        "us": NOON,
    }
    assert alone.elsewhere == ("us",)
    assert "the warehouse also holds us, not in the settings." in alone.to_text()


def test_what_the_settings_leave_out_is_told(warehouse: Path, feed: Path) -> None:
    """Tables without a key, and those that are switched off."""
    only_feed = account(None, feed, tables=("email_events", "profiles"))
    replicate(warehouse, only_feed, at=NOON)
    status = look(warehouse, only_feed)

    assert [table.table for table in status.tables] == ["email_events"]
    assert [(reason, names[:2]) for _, reason, names in status.not_read] == [
        ("no API key is set (OMETRIA_API_KEY, or api_key)", ("profiles",)),
        ("switched off in the settings", ("member_lists", "lists")),
    ]
    assert status.to_dict()["not_read"][0]["tables"] == ["profiles"]


def test_a_warehouse_in_use_is_said_to_be_in_use(
    server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB lets one program write: what is not known is not called wrong."""
    monkeypatch.setattr("ometria_replica.warehouse.engines.duckdb_file.WAIT_SECONDS", 0.0)
    replicate(warehouse, account(server), at=NOON)
    with held_elsewhere(warehouse):
        ended = invoke("status", "--max-age", "1h", env=api_env(server, warehouse))

    assert isinstance(ended.exception, Busy)
    assert ended.exception.exit_code == 75
    assert str(ended.exception).startswith("Not known, because the warehouse is in use: ")


@pytest.mark.parametrize("plain", [{}, {"NO_COLOR": "1"}], ids=["terminal", "NO_COLOR"])
def test_the_answer_has_a_colour_on_a_terminal_only(
    warehouse: Path, server: Server, plain: dict[str, str]
) -> None:
    """The words say it too."""
    ours, theirs = pty.openpty()
    env = {
        **api_env(server, warehouse),
        **plain,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCES),
        "TERM": "xterm",
    }
    subprocess.run(
        [sys.executable, "-m", "ometria_replica", "status"], env=env, stdout=theirs, check=True
    )
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)

    assert ("\x1b[31m\x1b[1mNot all right:\x1b[0m no sync" in said) == (not plain)
    assert ("\x1b" in said) == (not plain)
