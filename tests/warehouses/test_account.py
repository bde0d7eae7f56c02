"""A whole account in every warehouse: the real program, and an oracle that shares no code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.ladders import Rung, climb
from tests.faults.scenarios import live
from tests.faults.world import HISTORY, World
from tests.places import KINDS, DeltaPlace, DuckDBPlace, PostgresPlace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_the_replica_is_the_account(kind: str, tmp_path: Path) -> None:
    """All five tables are what they should be: at first, again, in full, and after a day."""
    place = KINDS[kind](tmp_path)
    with World(tmp_path, place=place, profiles=260, email_events=200) as world:
        world.run()
        world.replica.check()
        world.run("sync", "--full")
        world.replica.check()
        live(world)
        world.run()
        world.replica.check()
    place.remove()


@pytest.mark.slow
def test_two_accounts_share_a_warehouse(place: Place, tmp_path: Path) -> None:
    """Replicated by the same runs, each is what it should be."""
    if type(place) in {PostgresPlace, DeltaPlace}:
        pytest.skip("with all tables: test_all_tables.py")
    with (
        World(tmp_path, place=place, profiles=60, email_events=60) as world,
        world.beside("us") as other,
    ):
        for _ in range(2):
            world.run()
            world.replica.check()
            other.replica.check()
            live(world)


LADDER = (
    "before comparison",
    "after renewal",
    "before insert",
    "after rejects",
    "before commit of the batch",
    "after commit of the batch",
)


@pytest.mark.slow
def test_killed_runs_lose_nothing(place: Place, tmp_path: Path) -> None:
    """Killed before, between or after rows and state: nothing is lost, duplicated or ahead."""
    if type(place) not in {DuckDBPlace, PostgresPlace}:
        pytest.skip("a remote has steps of its own: test_lakes.py and test_dlt.py")
    with World(tmp_path, place=place, profiles=130, email_events=60, settings=HISTORY) as world:
        world.run()
        world.replica.check()
        for table in ("profiles", "email_events"):
            live(world)
            climb(world, [Rung(step, table, alone=True) for step in LADDER])


BETWEEN = ("after insert", "before insert", "before commit of the batch")
BETWEEN_REMOTE = ("after remote rows", "before remote rows", "after remote rows")
"""After the rows, before their records, which are all that is left to write, and after these."""


@pytest.mark.slow
def test_runs_that_are_killed_between_rows_and_records_lose_none(
    place: Place, tmp_path: Path
) -> None:
    """The next run compares the records with their own table, and writes those that lack."""
    is_engine = type(place) in {DuckDBPlace, PostgresPlace}
    settings = "keep_records = true"
    with World(tmp_path, place=place, profiles=60, email_events=60, settings=settings) as world:
        world.run()
        world.replica.check()
        live(world)
        ladder = [Rung(step, "profiles", alone=True)
                  for step in (BETWEEN if is_engine else BETWEEN_REMOTE)]  # fmt: skip
        climb(world, ladder)
