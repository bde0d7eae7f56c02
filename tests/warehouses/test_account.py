"""A whole account in every warehouse: the real program, and an oracle that knows none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.child import Plan
from tests.faults.scenarios import live
from tests.faults.world import World
from tests.places import DuckDBPlace, PostgresPlace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place


def test_the_replica_is_the_account(place: Place, tmp_path: Path) -> None:
    """All five tables are what they should be: at first, again, whole, and after a day."""
    with World(tmp_path, place=place, profiles=260, email_events=200) as world:
        world.run()
        world.check()
        world.run("sync", "--full")
        world.check()
        live(world)
        world.run()
        world.check()


def test_two_accounts_share_a_warehouse(place: Place, tmp_path: Path) -> None:
    """Replicated by the same runs, each is what it should be."""
    with (
        World(tmp_path, place=place, profiles=60, email_events=60) as world,
        world.beside("us") as other,
    ):
        for _ in range(2):
            world.run()
            world.check()
            other.check()
            live(world)


FEW = ("after renewal", "after insert", "after commit")
"""Told to every warehouse. DuckDB and PostgreSQL, which are quick, are told them all."""


@pytest.mark.parametrize(
    "step",
    ["before comparison", "after comparison", "after renewal", "before insert", "after insert",
     "after marks", "before commit", "after commit"],
)  # fmt: skip
def test_a_run_that_is_killed_is_gone_on_with(step: str, place: Place, tmp_path: Path) -> None:
    """Killed before, between or after rows and state: nothing is lost, doubled or ahead."""
    if step not in FEW and type(place) not in {DuckDBPlace, PostgresPlace}:
        pytest.skip("it takes long, and its own tests kill it at each of its steps")
    with World(tmp_path, place=place, profiles=130, email_events=60) as world:
        world.run()
        world.check()
        live(world)
        for table in ("profiles", "email_events"):
            named = step.replace("marks", "ledger") if table == "email_events" else step
            world.run(plan=Plan(named, table, batch_records=1_000), code=-9)
            world.check_after_crash()
            world.run()
            world.check()
            live(world)
