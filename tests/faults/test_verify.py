"""`verify --all` finds the rows that a seeded defect has left wrong, and no others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

import tests.faults.all_tables  # noqa: F401 -- it registers scenarios, and those of odd data.
from ometria_replica.config import load_config
from ometria_replica.verification import findings
from ometria_replica.verification.run import verify
from tests.duck import read
from tests.faults.child import Plan
from tests.faults.ladders import scenario_of
from tests.faults.proofs import PROOFS
from tests.faults.scenarios import mail, run_scenario
from tests.places import DuckDBPlace

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.verify_report import VerifyReport
    from tests.faults.world import World

LEAVES_NO_WRONG_ROW = {
    "errors of writing swallowed": "the run says that it went through; its rows are rolled back",
    "holder not named": "a message",
    "tables made once": "the run fails",
    "no second try": "the run fails",
    "vanished list ends the table": "the run fails",
    "unreadable file ends the run": "the run fails",
    "rejects dropped": "a reject",
    "watermark from records": "a watermark",
    "watermark from the end": "a watermark",
    "own clock trusted": "a watermark",
    "lease ignored": "two runs at once",
    "dead runs hold on": "the run fails",
    "no fence": "two runs at once",
    "deleted for ever": "an entry of deleted_upstream",
    "delete detection over all sources": "entries of deleted_upstream",
    "changes not asked for": "rows of further tables, of which more come while time passes",
    "first collection only": "rows of further tables, of which more come while time passes",
    "records of the first copy": "a record",
    "records twice": "records",
    "version of each load": "a history",
    "versions overwritten": "a history",
    "deleted rows hold on": "a history",
}
"""Defects of which the scenario shows something else, and what that is."""

REMOVED = {"no limit to deletes", "always removes"}
"""Defects that remove rows whose records are gone in Ometria: the run history shows it."""

SEEN_BY_FILE = {
    "gzip endings not checked": "the file cannot be read now",
    "file log by name": "a file waits",
    "listed version not checked": "the version of now waits, and the recorded one is gone",
    "file log by time": "a file waits",
}
"""Defects that are seen by a file that no sync should have left so, and not row by row."""

WRITTEN_BY_HAND = {"open quote takes the rest", "headers are records", "bytes are escaped"}
"""Their scenarios write files of which the oracle does not know the rows."""

EITHER_IS_RIGHT = {"first copy wins": "member_lists"}
"""Defects that also leave, of two changes of a list with one key, the one that came first."""

LEFT_INSIDE = "rows left inside"
"""The defect that leaves rows in nested tables; in those of orders, they count as newer."""

INSIDE = {"profile_tags": "tag", "profile_identities": "identity_id"}
"""The tables inside profiles that are blamed, and the column that identifies a row there."""

Rows = set[tuple[str, str]]


def read_half_a_line(world: World) -> None:
    """
    Let a sync read a file to the middle of a time in it, and the next one the whole file.

    A line without all of its cells is rejected, so that the time is the last one here.
    """
    feed, account = world.feed, world.account
    feed.complete(max(world.contents.state("files"), key=lambda file: file["modified_at"])["name"])
    others = (name for name in feed.dialect.columns if name != "dt_occurred")
    feed.dialect = replace(feed.dialect, columns=(*others, "dt_occurred"))
    mail(world, "torn@example.com", 5)
    (name,) = feed.export()
    whole = feed.read(name)
    feed.poison(name, whole[: whole.rindex(b"T09:") + len("T09:30")])
    world.run(plan=Plan(settle_seconds=60, defect="young files read"))
    account.advance(timedelta(minutes=5))
    feed.complete(name)
    account.advance(timedelta(minutes=5))
    world.run(plan=Plan(settle_seconds=60))


def export_two_copies(world: World) -> None:
    """Let a batch have two files with copies of an event."""
    event = world.account.add_event("both@example.com", "open", campaign_title="old")
    world.feed.export_events([event])
    world.account.advance(timedelta(minutes=1))
    world.feed.export_events([replace(event, campaign_title="new")])
    world.run(plan=Plan(batch_files=50, defect="first copy wins"))


AFTERWARDS = {"young files read": read_half_a_line, "first copy wins": export_two_copies}
"""Steps after a scenario has failed, for defects of which the damage is done only then."""


def stop_failing(world: World) -> None:
    """Let the program be without the defect, and Ometria answer."""
    world.defect = ""
    world.server.after_request = None
    world.server.faults.clear()
    world.server.no_rights = frozenset()


def pass_time(world: World) -> None:
    """
    Let nine days pass in which syncs went through, and have mended nothing.

    What a sync reads again would count as newer: the damage is as old then.
    """
    assert isinstance(world.place, DuckDBPlace)
    later = world.account.now + timedelta(days=9)
    world.account.set_time(later)
    with duckdb.connect(str(world.place.path)) as connection:
        connection.execute(
            "DELETE FROM ometria_replica.watermarks"
            " WHERE starts_with(kind, 'refreshed ') OR starts_with(kind, 'retry ')"
        )
        for table in ("profiles", "lists", "member_lists", "unsubscribes", *INSIDE):
            for kind in ("watermark", "full_read")[: 2 if table == "member_lists" else 1]:
                key = [world.source_id, table, kind]
                connection.execute(
                    "DELETE FROM ometria_replica.watermarks"
                    " WHERE source_id = ? AND table_name = ? AND kind = ?",
                    key,
                )
                connection.execute(
                    "INSERT INTO ometria_replica.watermarks VALUES (?, ?, ?, ?, 'later')",
                    [*key, later],
                )


def wrong_rows(world: World) -> Rows:
    """
    Name the rows that are not as they should be: lost, old, twice, or of no event of the export.

    Files that no sync has loaded are not due. What is gone in Ometria may stay.
    """
    loaded = {(row["name"], row["modified_at"]) for row in world.contents.state("files")}
    every = world.feed.delivered
    world.feed.delivered = [each for each in every if (each.file, each.modified_at) in loaded]
    sent, found = world.replica.sent(), world.contents.found()
    world.feed.delivered = every
    wrong = set()
    for table in sent:
        due = {row["__sync_key"]: row for row in sent[table]}
        there = [row["__sync_key"] for row in found[table]]
        wrong |= {(table, key) for key in due.keys() - set(there)}
        wrong |= {(table, key) for key in there if there.count(key) > 1}
        if table == "email_events":
            wrong |= {(table, key) for key in set(there) - due.keys()}
        for row in found[table]:
            should = {**due.get(row["__sync_key"], row)}
            if table == "profiles":  # A day that a sync has asked for.
                should["updated_at"] = row["updated_at"]
            if row != should:
                wrong.add((table, row["__sync_key"]))
    return wrong


def rows_left_inside(world: World) -> Rows:
    """Name the rows of tables inside profiles that these do not have."""
    there: dict[str, dict[str, set[str]]] = {}
    for profile in world.account.profiles:
        fields: dict[str, Any] = dict(profile.fields)
        there[profile.id] = {
            "profile_tags": set(fields.get("tags") or ()),
            "profile_identities": {each["id"] for each in fields.get("identities") or ()},
        }
    with world.place.looking() as connection:
        return {
            (table, row["__sync_key"])
            for table, column in INSIDE.items()
            for row in read(connection, f"ometria.{table}")
            if row["profile_id"] in there and row[column] not in there[row["profile_id"]][table]
        }


def removed_rows(world: World) -> Rows:
    """Name the rows that were there when the replica was checked for the last time, and are not."""
    before, found = world.replica.known, world.contents.found()
    return {
        (table, key)
        for table in before
        for key in {row["__sync_key"] for row in before[table]}
        - {row["__sync_key"] for row in found[table]}
    }


def verified(world: World) -> VerifyReport:
    """Verify the replica by the program as it is."""
    config = load_config(world.folder / "ometria.toml", world.environ())
    return verify(config, clock=lambda: world.account.now)


def blamed(report: VerifyReport) -> Rows:
    """Name the rows that are not as they should be; each sync reads all lists, as if newer."""
    return {
        (table.table, each.sync_key)
        for table in report.tables
        for each in table.differences
        if each.kind != "newer" or table.table == "lists"
    }


def after(defect: str, tmp_path: Path) -> tuple[Rows, VerifyReport]:
    """Let a defect do its damage; name the wrong rows, and verify."""
    chosen, results = scenario_of(PROOFS[defect]), []

    def play(world: World) -> None:
        with pytest.raises(AssertionError):
            chosen.play(world)
        stop_failing(world)
        if defect in AFTERWARDS:
            AFTERWARDS[defect](world)
        pass_time(world)
        if defect == LEFT_INSIDE:
            wrong = rows_left_inside(world)
        else:
            wrong = wrong_rows(world) | (removed_rows(world) if defect in REMOVED else set())
        results.append((wrong, verified(world)))

    run_scenario(replace(chosen, play=play), tmp_path, defect=defect)
    return results[0]


@pytest.mark.slow
@pytest.mark.parametrize("defect", [name for name in PROOFS if name not in LEAVES_NO_WRONG_ROW])
def test_verify_finds_the_rows_that_a_defect_leaves_wrong(
    defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It blames exactly these, and what it does not see is not seen for a known reason."""
    monkeypatch.setattr(findings, "MOST_KEYS", 100_000)

    wrong, report = after(defect, tmp_path)

    found = blamed(report)
    if defect == LEFT_INSIDE:  # Other rows may be missing: days have passed without a sync.
        extra = {
            (table.table, each.sync_key)
            for table in report.tables
            for each in table.differences
            if each.kind == "extra"
        }
        assert wrong
        assert extra == wrong, report.to_text()
    elif defect in SEEN_BY_FILE:
        assert report.differing + report.newer > 0
        assert found <= wrong
    elif defect in WRITTEN_BY_HAND:
        assert found
    else:
        wrong = {each for each in wrong if each[0] != EITHER_IS_RIGHT.get(defect)}
        assert wrong
        assert found == wrong, report.to_text()
