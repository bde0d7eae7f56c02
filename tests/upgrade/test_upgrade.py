"""
A warehouse of version 1 is upgraded, read by commands that do not write, and refused.

The state has a version: that of commit 2f676c4 is 1, and says so nowhere.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ometria_replica import __version__
from tests.faults.world import TABLES
from tests.upgrade.killed import Killed, run_killed
from tests.upgrade.life import DAY, QUIET, REFUSED, live_on
from tests.upgrade.v1 import KINDS, Contents, contents, run_statement, state_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_simulator.server import LoggedRequest
    from tests.duck import Row
    from tests.upgrade.life import Shop

VERSION = 4
"""The version of the state that the program writes."""

ADDED = (
    *("column_treatments", "deletion_requests", "erasures", "fields"),
    *("suppression_secrets", "suppressions"),
)
"""The tables that version 1 did not have, apart from that of the version."""

NEWER = 5
"""A version that it does not know."""

RENAMED = {"marks": "watermarks", "missing": "deleted_upstream"}
"""The tables of version 1 that have other names in version 2, and what those are."""

COLUMNS = {
    "watermarks": ["source_id", "table_name", "kind", "reached_at", "run_id"],
    "deleted_upstream": [
        "source_id", "table_name", "sync_key", "record_id", "first_missed_at", "removed_at",
        "run_id",
    ],
    "version": ["version", "written_by", "written_at"],
}  # fmt: skip
"""The columns of the tables that version 1 has not, or not by that name."""

PROFILES_BACK, OTHERS_BACK = timedelta(days=2), timedelta(days=8)
"""How far before its watermark the program begins to read."""

UPGRADING = ("state", "rewind", "lists", "--since", "2026-06-01")
"""A command that writes, and then changes nothing: the day is after all watermarks."""

READING = (
    ("state", "show"),
    ("runs",),
    ("runs", "--json"),
    ("rejects", "list", "--raw"),
    ("check",),
    ("sync", "--dry-run"),
    ("sync", "--dry-run", "--detect-deletes"),
)
"""Commands that write nothing."""

ANY = (
    ("sync",),
    ("sync", "--full"),
    ("backfill", "--since", "2026-03-01"),
    ("state", "rewind", "lists"),
    ("rejects", "replay"),
    *READING,
)
"""Every command that opens the warehouse."""


@pytest.fixture(params=sorted(KINDS))
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Serve the account as version 1 last saw it, beside the warehouse that it left."""
    with unpacked(request.param, tmp_path) as found:
        yield found
        found.place.remove()


def kind_of(mark: str) -> str:
    """Say in the words of version 2 what a mark of version 1 is."""
    word, _, name = mark.partition(" ")
    return " ".join(filter(None, ({"whole": "full_read", "unread": "retry"}.get(word, word), name)))


def as_upgraded(v1: Contents) -> Contents:
    """Give the state of version 1 as version 2 should hold it, but for who wrote it and when."""
    upgraded = {RENAMED.get(name, name): rows for name, rows in v1.items()}
    upgraded["watermarks"] = ordered(
        {
            {"mark": "kind"}.get(column, column): kind_of(value) if column == "mark" else value
            for column, value in row.items()
        }
        for row in v1["marks"]
    )
    return upgraded


def ordered(rows: Iterator[Row]) -> list[Row]:
    """Put rows in the order of all their columns."""
    return sorted(rows, key=lambda row: [(value is not None, value) for value in row.values()])


def version_of(state: Contents) -> int:
    """Tell a state's version by its tables: one that is between two fails here."""
    if not {"version", *RENAMED.values()} & state.keys():
        assert RENAMED.keys() <= state.keys()
        return 1
    assert not RENAMED.keys() & state.keys(), sorted(state)
    assert {"version", *RENAMED.values()} <= state.keys(), sorted(state)
    (row,) = state["version"]
    assert row["version"] == VERSION
    return VERSION


def watermark(state: Contents, table: str, mark: str = "watermark") -> datetime:
    """Read a mark out of a state of version 1."""
    (found,) = [
        row["reached_at"]
        for row in state["marks"]
        if (row["table_name"], row["mark"]) == (table, mark)
    ]
    assert isinstance(found, datetime)
    return found


def asked(requests: list[LoggedRequest], path: str, parameter: str) -> set[str | None]:
    """Tell what *parameter* was in the requests of *path*; None where it was left out."""
    return {request.query.get(parameter) for request in requests if request.path == f"/v2/{path}"}


def starts_at(values: set[str | None], due: datetime) -> bool:
    """Tell whether the earliest of the times that were asked for is *due*, to the second."""
    assert None not in values, "asked for everything"
    first = min(datetime.fromisoformat(str(value)).replace(tzinfo=UTC) for value in values)
    return timedelta() <= due - first < timedelta(seconds=2)


# --- What version 1 left -----------------------------------------------------------------------


def test_version_1_left_something_of_everything(shop: Shop) -> None:
    """The files hold a row of each table, each kind of mark, and each way to be missing."""
    found = contents(shop.place)
    state = state_of(found)

    assert version_of(state) == 1
    assert all(found[f"ometria.{name}"] for name in TABLES)
    assert all(state.values()), [name for name, rows in state.items() if not rows]
    assert {row["mark"] for row in state["marks"]} == {
        "watermark", "whole", f"unread {REFUSED}", "listed feed *",
    }  # fmt: skip
    assert {row["table_name"] for row in state["marks"]} == set(TABLES)
    assert {row["removed_at"] is None for row in state["missing"]} == {True, False}
    assert {row["table_name"] for row in state["missing"]} == {"profiles", "lists"}
    assert {row["unreadable_because"] is None for row in state["files"]} == {True, False}
    assert {(row["sync_key"] is None, row["raw"] is None) for row in state["rejects"]} == {
        (False, False), (True, False), (True, True),
    }  # fmt: skip
    assert {row["outcome"] for row in state["runs"]} == {"succeeded", "failed"}
    assert len(state["runs"]) == 4


# --- A sync goes on ----------------------------------------------------------------------------


def test_the_tables_are_what_the_account_is(shop: Shop) -> None:
    """A sync goes on from what version 1 left, and so do those after it: nothing is lost."""
    live_on(shop)
    shop.run()
    shop.replica.check()

    live_on(shop)
    shop.run("sync", "--detect-deletes")
    shop.replica.check()


def test_a_sync_reads_what_is_new_and_no_more(shop: Shop) -> None:
    """A sync asks from the watermarks on, for lists that have news, and reads no file again."""
    before = state_of(contents(shop.place))
    new_files = live_on(shop)
    first = len(shop.server.requests)

    report = json.loads(shop.run("sync", "--json").out)
    requests = shop.server.requests[first:]

    profiles_from = watermark(before, "profiles") - PROFILES_BACK
    assert asked(requests, "profiles", "updateSince") == {profiles_from.date().isoformat()}

    unsubscribes_from = watermark(before, "unsubscribes") - OTHERS_BACK
    assert starts_at(asked(requests, "unsubscribes", "since"), unsubscribes_from)

    changes = {
        list_id: asked(requests, f"lists/{list_id}/changes", "since")
        for list_id in {segment.id for segment in shop.account.lists}
        if any(request.path == f"/v2/lists/{list_id}/changes" for request in requests)
    }
    assert QUIET in changes  # Once: version 1 did not note which refresh it had seen.
    due = watermark(before, "member_lists", f"unread {REFUSED}")
    for list_id, since in changes.items():
        start = due if list_id == REFUSED else watermark(before, "member_lists") - OTHERS_BACK
        assert starts_at(since, start), list_id
    assert REFUSED in changes

    (events,) = [table for table in report["tables"] if table["table"] == "email_events"]
    assert (events["files"], events["files_unreadable"]) == (len(new_files), 0)
    after = state_of(contents(shop.place))["files"]
    assert [row for row in after if row["name"] not in new_files] == before["files"]
    assert {row["name"] for row in after} == {row["name"] for row in before["files"]} | {*new_files}


def test_a_sync_makes_up_for_a_refused_list(shop: Shop) -> None:
    """A sync reads a list that was refused to version 1 from the moment on that it was due."""
    members = {
        row["__sync_key"]
        for row in shop.replica.sent()["member_lists"]
        if row["list_id"] == REFUSED
    }
    lacking = members - {row["__sync_key"] for row in shop.replica.known["member_lists"]}
    assert lacking

    shop.run()

    assert lacking <= {row["__sync_key"] for row in shop.contents.found()["member_lists"]}
    kinds = {row["kind"].partition(" ")[0] for row in shop.contents.state("watermarks")}
    assert kinds == {"watermark", "full_read", "listed", "refreshed", "written"}


def test_the_full_round_is_due_a_week_after_that_of_version_1(shop: Shop) -> None:
    """A sync asks for every list again a week after the full round that version 1 noted."""
    before = state_of(contents(shop.place))
    whole = watermark(before, "member_lists", "whole")
    shop.account.set_time(whole + 7 * DAY + timedelta(hours=1))
    first = len(shop.server.requests)

    shop.run()

    paths = {request.path for request in shop.server.requests[first:]}
    assert f"/v2/lists/{QUIET}/changes" in paths


# --- The state afterwards ----------------------------------------------------------------------


def test_the_state_is_carried_over(shop: Shop) -> None:
    """The upgraded state holds every row of before by its new names, and the data is untouched."""
    before = contents(shop.place)

    shop.run(*UPGRADING)

    after = contents(shop.place)
    found, due = state_of(after), as_upgraded(state_of(before))
    assert version_of(found) == VERSION
    for name in due.keys() - {"leases"}:  # The killed run's is taken over.
        assert ordered(iter(found[name])) == ordered(iter(due[name])), name
    assert found.keys() == due.keys() | {"version", *ADDED}
    for name in TABLES:
        assert after[f"ometria.{name}"] == before[f"ometria.{name}"]


def test_the_upgraded_tables_have_their_columns(shop: Shop) -> None:
    """The upgraded state has the columns of version 2, and says which program wrote it."""
    shop.run(*UPGRADING)

    found = state_of(contents(shop.place))
    assert {name: list(found[name][0]) for name in COLUMNS} == COLUMNS
    (version,) = found["version"]
    assert __version__ in version["written_by"]
    assert isinstance(version["written_at"], datetime)


def test_a_sync_upgrades_the_state(shop: Shop) -> None:
    """A sync leaves the state as version 2, its history, owners and rejects those of before."""
    before = state_of(contents(shop.place))
    live_on(shop)

    shop.run()

    after = state_of(contents(shop.place))
    assert version_of(after) == VERSION
    assert after["accounts"] == before["accounts"]
    assert [known(row) for row in after["rejects"]] == [known(row) for row in before["rejects"]]
    assert after["deleted_upstream"] == before["missing"]
    assert [row for row in after["runs"] if row in before["runs"]] == before["runs"]
    added = [row["outcome"] for row in after["runs"] if row not in before["runs"]]
    assert sorted(added) == ["did not end", "succeeded"]  # The first one had been killed.
    assert after["leases"] == []
    read_whole = {
        (row["table_name"], row["reached_at"])
        for row in before["marks"]
        if row["mark"] == "whole" and row["table_name"] != "lists"  # They are read whole always.
    }
    assert read_whole <= {
        (row["table_name"], row["reached_at"])
        for row in after["watermarks"]
        if row["kind"] == "full_read"
    }


def known(reject: dict[str, object]) -> dict[str, object]:
    """Leave out when and by which request a reject was read: its profile is read again."""
    read = {"rejected_at", "run_id", "origin", "position"}
    return {name: value for name, value in reject.items() if name not in read}


def test_the_state_is_upgraded_once(shop: Shop) -> None:
    """A command that reads nothing keeps the rejects; a second run keeps the version's row."""
    before = state_of(contents(shop.place))["rejects"]
    shop.run(*UPGRADING)
    (first,) = shop.contents.state("version")
    assert state_of(contents(shop.place))["rejects"] == before

    shop.account.advance(timedelta(hours=1))
    shop.run()

    assert shop.contents.state("version") == [first]


# --- Commands that only read -------------------------------------------------------------------


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_upgrades_nothing(shop: Shop, command: tuple[str, ...]) -> None:
    """A command that only reads works on a state of version 1, and leaves it as it is."""
    live_on(shop)
    before = contents(shop.place)

    shop.run(*command)

    assert contents(shop.place) == before


def test_a_state_of_version_1_is_shown(shop: Shop) -> None:
    """``state show`` tells the rows, watermarks and counts of a state of version 1."""
    found = contents(shop.place)
    state = state_of(found)

    lines = [line.split() for line in shop.run("state", "show").out.splitlines()]

    for table in TABLES:
        (shown,) = [line for line in lines if line[:2] == ["uk", table]]
        marks = [row for row in state["marks"] if row["mark"] == "watermark"]
        reached = [
            f"{m['reached_at']:%Y-%m-%d %H:%M:%S}" for m in marks if m["table_name"] == table
        ]
        files = [row for row in state["files"] if row["table_name"] == table]
        counts = (
            len(files),
            sum(row["unreadable_because"] is not None for row in files),
            *(sum(r["table_name"] == table for r in state[n]) for n in ("rejects", "missing")),
        )
        due = [len(found[f"ometria.{table}"]), *(reached or ["-"]), *counts]
        assert shown[2:] == " ".join(map(str, due)).split()


def test_the_runs_of_version_1_are_shown(shop: Shop) -> None:
    """``runs`` shows the runs of version 1, newest first."""
    runs = [row["run_id"] for row in shop.contents.state("runs")]

    shown = json.loads(shop.run("runs", "--json").out)["runs"]

    assert [run["run_id"] for run in shown] == sorted(runs, reverse=True)


def test_the_rejects_of_version_1_are_listed(shop: Shop) -> None:
    """``rejects list`` shows each value, record and file that version 1 rejected."""
    out = shop.run("rejects", "list", "--raw").out

    assert len(out.splitlines()) == 1 + len(shop.contents.state("rejects"))
    assert "31st of June" in out


def test_a_dry_run_knows_how_far_version_1_came(shop: Shop) -> None:
    """A dry run of a state of version 1 reads what is new, and says what would be loaded."""
    watermarks = state_of(contents(shop.place))
    new_files = live_on(shop)
    first = len(shop.server.requests)

    report = json.loads(shop.run("sync", "--dry-run", "--json").out)

    since = watermark(watermarks, "profiles") - PROFILES_BACK
    requests = shop.server.requests[first:]
    assert asked(requests, "profiles", "updateSince") == {since.date().isoformat()}
    assert any(request.path == f"/v2/lists/{REFUSED}/changes" for request in requests)
    files = {table["table"]: table["files"] for table in report["tables"]}
    assert files["email_events"] == len(new_files)


# --- A state that is newer than the program ----------------------------------------------------


@pytest.mark.parametrize("command", ANY, ids=" ".join)
def test_a_newer_state_is_refused(shop: Shop, command: tuple[str, ...]) -> None:
    """The program says that the state is newer than it knows, and changes nothing."""
    run_statement(
        shop.place,
        "CREATE TABLE ometria_replica.version"
        " (version bigint, written_by text, written_at timestamp with time zone)",
    )
    run_statement(
        shop.place,
        f"INSERT INTO ometria_replica.version VALUES ({NEWER}, '9.0.0', '2026-03-04 12:00:00+00')",
    )
    before = contents(shop.place)
    live_on(shop)

    ended = shop.run(*command, code=5)

    said = " ".join((ended.out + ended.err).split())
    assert re.search(rf"\b{NEWER}\b", said), said
    assert re.search(rf"\b{VERSION}\b", said), said
    assert "newer ometria-replica" in said, said
    assert "Traceback" not in said
    assert contents(shop.place) == before


# --- An upgrade that is killed -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_upgrade_is_done_or_not(shop: Shop, when: Killed) -> None:
    """
    A process that is killed at any statement leaves version 1 or 2, and nothing between.

    It is killed at the first statement that writes, begun again and killed at the second, and
    so on, until it leaves version 2; then it is let be, and all is as it should be.
    """
    before = state_of(contents(shop.place))
    due = {1: before, VERSION: as_upgraded(before)}
    live_on(shop)
    version, nth = 1, 0
    while version == 1:
        nth += 1
        code = run_killed(shop, UPGRADING, nth, when)
        found = state_of(contents(shop.place))
        version = version_of(found)
        for name in due[version].keys() - {"leases"}:
            assert ordered(iter(found[name])) == ordered(iter(due[version][name])), (nth, name)
        assert code == -9 or version == VERSION, "the command ended, and the state is version 1"

    assert nth > 3  # Two tables became others and one was made: it was killed amid that.
    shop.run()
    shop.replica.check()
