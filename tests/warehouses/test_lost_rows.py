"""State that speaks of rows that are gone is not believed: they are read again, and told of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import DeleteDetection, Run
from ometria_replica.errors import Busy
from ometria_replica.tables import EMAIL_EVENTS, LISTS
from tests.faults.world import NOTHING, TABLES, World
from tests.places import KINDS
from tests.upgrade.v1 import run_statement
from tests.warehouses.loads import (
    NOON,
    Load,
    a_lease,
    opened,
    somebody_elses,
    state,
    table_state_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place

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
        world.check()
        for table in DROPPED:
            place.drop_table(table)

        checked = world.run("check").out
        dry = warnings(world, "--dry-run")
        told = warnings(world)

        for table in DROPPED:
            assert f"ometria.{table} is missing" in checked
            assert any(f"ometria.{table} is missing" in warning for warning in dry)
            assert any(f"ometria.{table} was missing" in warning for warning in told)
        world.check(DROPPED)
        assert warnings(world) == []
        assert "missing" not in world.run("check").out


@two_engines
def test_a_dropped_schema_is_read_again(both: Place, tmp_path: Path) -> None:
    """All its tables are made anew and filled."""
    with World(tmp_path, place=both, profiles=60, lists=3, email_events=60) as world:
        world.run()
        run_statement(both, "DROP SCHEMA ometria CASCADE")

        assert len(warnings(world)) == 5
        world.known = NOTHING
        world.check()


@two_engines
def test_rows_that_are_all_gone_are_read_again(both: Place, tmp_path: Path) -> None:
    """A table without a row of the account, of which rows were loaded, is filled."""
    with World(tmp_path, place=both, profiles=60, lists=3, email_events=60) as world:
        world.run()
        for table in TABLES:
            run_statement(both, f"DELETE FROM ometria.{table}")

        assert world.run("check").out.count("without rows of uk") == len(TABLES)
        assert len(warnings(world)) == len(TABLES)
        world.known = NOTHING
        world.check()
        assert warnings(world) == []


def a_run(run_id: str, table: str, **counts: int) -> Run:
    """Give a run of the history that counted rows of one table."""
    report = {"tables": [{"source_id": "uk", "table": table, **counts}]}
    return Run(run_id, NOON, NOON, "succeeded", "1", json.dumps(report))


def test_a_table_that_never_had_rows_has_lost_none(place: Place) -> None:
    """Records without an identity bring no rows, and an account may have no lists."""
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, ['{"event_type": "open"}'], file=("odd", NOON)).into(warehouse)
        Load(LISTS, [], watermark=NOON).into(warehouse)
        warehouse.state.record(a_run("a-run", "email_events", records=1, inserted=0))

    with opened(place):
        pass
    assert table_state_of(place, "lists").watermark == NOON
    assert {row["read_again"] for row in state(place, "files")} == {False}


@two_engines
def test_rows_that_were_removed_with_their_records_are_not_lost(both: Place) -> None:
    """The last full read found none of the rows that an earlier run had loaded."""
    with opened(both) as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
        warehouse.state.record(a_run("a run before", "lists", inserted=1))
        whole = DeleteDetection(remove=True, max_share=1.0)
        assert Load(LISTS, [], whole=whole, watermark=NOON).into(warehouse).removed == 1
        warehouse.state.record(a_run("a-run", "lists", removed=1))

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
