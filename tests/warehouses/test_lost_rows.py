"""State that speaks of rows that are gone is not believed: they are read again, and told of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import DeleteDetection, Owner, Run
from ometria_replica.errors import Busy
from ometria_replica.tables import EMAIL_EVENTS, LISTS, PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.state_tables import (
    ACCOUNTS,
    FILES,
    STATE_TABLES,
    VERSION,
    WATERMARKS,
)
from tests.faults.world import NOTHING, TABLES, World
from tests.places import KINDS
from tests.upgrade.v1 import run_statement
from tests.warehouses.loads import (
    HOUR,
    NOON,
    Load,
    a_lease,
    opened,
    rows,
    somebody_elses,
    state,
    table_state_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.schema import StateTable
    from tests.places import Place

EVENT = '{"to_address": "%s@example.com", "event_type": "open", "dt_occurred": "2026-03-01"}'
OWNER = Owner("account of uk", "uk")
DROPPED = ("email_events", "member_lists")


def warnings(world: World, *arguments: str) -> list[str]:
    """Sync, and give the warnings of the report."""
    report: dict[str, Any] = json.loads(world.run("sync", "--json", *arguments).out)
    return [str(warning) for warning in report["warnings"]]


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a DuckDB file, or a database of PostgreSQL."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()


two_engines = pytest.mark.parametrize("both", ["duckdb", "postgres"], indirect=True)


def test_a_dropped_table_is_read_again(place: Place, tmp_path: Path) -> None:
    """The next sync fills it and says so, once; `check` and a dry run say it before."""
    with World(tmp_path, place=place, profiles=60, lists=3, email_events=60) as world:
        world.run()
        world.replica.check()
        for table in DROPPED:
            place.drop_table(table)

        checked = " ".join(world.run("check").out.split())
        dry = warnings(world, "--dry-run")
        told = warnings(world)

        for table in DROPPED:
            assert f"ometria.{table} is missing" in checked
            assert any(f"ometria.{table} is missing" in warning for warning in dry)
            assert any(f"ometria.{table} was missing" in warning for warning in told)
        world.replica.check(DROPPED)
        assert warnings(world) == []
        assert "missing" not in world.run("check").out


@two_engines
def test_a_dropped_schema_is_read_again(both: Place, tmp_path: Path) -> None:
    """All its tables are made anew and filled."""
    with World(tmp_path, place=both, profiles=60, lists=3, email_events=60) as world:
        world.run()
        run_statement(both, "DROP SCHEMA ometria CASCADE")

        assert len(warnings(world)) == 5
        world.replica.known = NOTHING
        world.replica.check()


@two_engines
def test_rows_that_are_all_gone_are_read_again(both: Place, tmp_path: Path) -> None:
    """A table without a row of the account, of which rows were loaded, is filled."""
    with World(tmp_path, place=both, profiles=60, lists=3, email_events=60) as world:
        world.run()
        for table in TABLES:
            run_statement(both, f"DELETE FROM ometria.{table}")

        checked = " ".join(world.run("check").out.split())
        assert checked.count("without rows of uk") == len(TABLES)
        assert len(warnings(world)) == len(TABLES)
        world.replica.known = NOTHING
        world.replica.check()
        assert warnings(world) == []


def person(number: int) -> str:
    """Write a profile."""
    return json.dumps({"id": str(number)})


def a_run(run_id: str, table: str, **counts: int) -> Run:
    """Give a run of the history that counted rows of one table."""
    report = {"tables": [{"source_id": "uk", "table": table, **counts}]}
    return Run(run_id, NOON, NOON, "succeeded", "1", json.dumps(report))


def test_a_table_that_never_had_rows_has_lost_none(place: Place) -> None:
    """Records without an identity bring no rows, and an account may have no lists."""
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, ['{"event_type": "open"}'], file=("odd", NOON)).into(warehouse)
        Load(LISTS, [], watermark=NOON).into(warehouse)
        warehouse.runs.record(a_run("a-run", "email_events", records=1, inserted=0))

    with opened(place):
        pass
    assert table_state_of(place, "lists").watermark == NOON
    assert {row["read_again"] for row in state(place, "files")} == {False}


@two_engines
def test_rows_that_were_removed_with_their_records_are_not_lost(both: Place) -> None:
    """The last full read found none of the rows that an earlier run had loaded."""
    with opened(both) as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
        warehouse.runs.record(a_run("a run before", "lists", inserted=1))
        whole = DeleteDetection(remove=True, max_share=1.0)
        assert Load(LISTS, [], whole=whole, watermark=NOON).into(warehouse).removed == 1
        warehouse.runs.record(a_run("a-run", "lists", removed=1))

    with opened(both):
        pass
    assert table_state_of(both, "lists").watermark == NOON


@two_engines
def test_the_state_of_every_source_is_rewound(both: Place) -> None:
    """Whichever account finds the table missing, the rows of each are read again."""
    with opened(both, "uk", "fr") as warehouse:
        for source_id in ("uk", "fr"):
            for table in (LISTS, EMAIL_EVENTS):
                Load(table, [], source_id, watermark=NOON).into(warehouse)
        gone = Load(LISTS, ['{"id": "1"}']).into(warehouse)
        assert gone.inserted == 1
        Load(LISTS, [], whole=DeleteDetection(remove=False, max_share=1.0)).into(warehouse)
    both.drop_table("lists")

    with opened(both, "fr"):
        pass

    for source_id in ("uk", "fr"):
        assert table_state_of(both, "lists", source_id).watermark is None
        assert table_state_of(both, "email_events", source_id).watermark == NOON
    (deleted,) = state(both, "deleted_upstream")
    assert deleted["removed_at"] == NOON


@two_engines
def test_a_table_is_not_made_anew_while_a_run_goes_on(both: Place) -> None:
    """At its end that run would say that all is loaded: the other ends, with nothing changed."""
    with opened(both) as warehouse:
        Load(LISTS, ['{"id": "1"}'], watermark=NOON).into(warehouse)
        warehouse.leases.acquire(somebody_elses(a_lease()), NOON)
    both.drop_table("lists")

    with pytest.raises(Busy, match="are gone"), opened(both, "fr"):
        pass
    assert table_state_of(both, "lists").watermark == NOON


# --- state ---


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(table, id=table.name, marks=() if table is FILES else pytest.mark.slow)
        for table in STATE_TABLES
    ],
)
@two_engines
def test_a_dropped_state_table_is_created_again(both: Place, table: StateTable) -> None:
    """Its content is lost, and a warning says so, once; what it said was read is read again."""
    with opened(both) as warehouse:
        Load(LISTS, ['{"id": "1"}'], watermark=NOON).into(warehouse)
        Load(EMAIL_EVENTS, [EVENT % 1], file=("1", NOON)).into(warehouse)
        warehouse.file_log.set_listed("uk", "email_events", "feed", NOON, "a-run")
    run_statement(both, f"DROP TABLE ometria_replica.{table.name}")

    with open_warehouse(both.url, dry_run=True) as warehouse:
        dry = warehouse.prepare(OWNER, NOON)
        assert warehouse.accounts.owners() == ([] if table is ACCOUNTS else [OWNER])
    first, second = told(both), told(both)

    lost = table is not VERSION  # That is no loss: it is written anew.
    assert [f"{table.name} is missing" in warning for warning in dry] == [True] * lost
    assert [f"{table.name} was missing" in warning for warning in first] == [True] * lost
    assert second == []
    with opened(both) as warehouse:
        Load(LISTS, ['{"id": "1"}'], at=NOON + HOUR).into(warehouse)
    lists, events = table_state_of(both, "lists"), table_state_of(both, "email_events")
    assert lists.watermark == (None if table is WATERMARKS else NOON)
    assert events.files == (0 if table is FILES else 1)
    assert bool(events.listed) == (table not in {FILES, WATERMARKS})


# --- older copies ------------------------------------------------------------------------------


def two_loads(place: Place) -> None:
    """Load events and profiles, back the schema up, and load more of both."""
    with opened(place) as warehouse:
        Load(PROFILES, [person(1), person(2), person(9)], watermark=NOON).into(warehouse)
        Load(EMAIL_EVENTS, [EVENT % 1], file=("1", NOON)).into(warehouse)
    for table in ("profiles", "email_events", "lists"):
        run_statement(place, f"CREATE TABLE {table}_backup AS SELECT * FROM ometria.{table}")
    with opened(place) as warehouse:
        records = [person(1), person(2), person(3)]
        Load(PROFILES, records, at=NOON + HOUR, watermark=NOON + HOUR).into(warehouse)
        Load(EMAIL_EVENTS, [EVENT % 2], file=("2", NOON), at=NOON + HOUR).into(warehouse)
        Load(LISTS, ['{"id": "1"}'], at=NOON + 2 * HOUR, watermark=NOON).into(warehouse)


def restore(place: Place, table: str) -> None:
    """Put the older copy of a table in its place."""
    run_statement(place, f"DELETE FROM ometria.{table}")
    run_statement(place, f"INSERT INTO ometria.{table} SELECT * FROM {table}_backup")


def told(place: Place, source_id: str = "uk") -> list[str]:
    """Begin a run, and give its warnings."""
    with open_warehouse(place.url) as warehouse:
        return warehouse.prepare(Owner(f"account of {source_id}", source_id), NOON)


@two_engines
def test_tables_of_an_older_backup_are_read_again(both: Place) -> None:
    """Data that is older than its state is noticed once, in the tables that lack rows."""
    two_loads(both)
    restore(both, "profiles")
    restore(both, "email_events")

    first, second = told(both)
    assert "ometria.profiles was an older copy, from before 2026-03-02 13:00:00 UTC" in first
    assert "ometria.email_events was an older copy" in second
    assert "uk is read again" in first
    assert table_state_of(both, "profiles").watermark is None
    assert table_state_of(both, "lists").watermark == NOON
    assert {row["read_again"] for row in state(both, "files")} == {True}
    assert told(both) == []


@two_engines
def test_rows_that_a_user_deletes_are_not_an_older_backup(both: Place) -> None:
    """Not even those of the last load: they may have been deleted for privacy."""
    two_loads(both)
    for table in ("profiles", "email_events"):
        run_statement(
            both, f"DELETE FROM ometria.{table} WHERE __synced_at > '2026-03-02 12:30:00+00'"
        )

    assert told(both) == []
    assert [row["profile_id"] for row in rows(both, "profiles")] == ["9"]


@two_engines
def test_an_older_state_and_a_clock_that_goes_back_are_not_told(both: Place) -> None:
    """A state from before reads again by itself, and load times need not rise."""
    two_loads(both)
    with opened(both) as warehouse:
        Load(PROFILES, [person(1)], at=NOON - HOUR, watermark=NOON + HOUR).into(warehouse)
    assert told(both) == []

    run_statement(both, "UPDATE ometria.profiles SET __synced_at = '2026-03-05 12:00:00+00'")
    assert told(both) == []
