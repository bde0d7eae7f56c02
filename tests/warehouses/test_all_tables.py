"""All tables of an account, their records, the arrays inside these, and their histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Quirks
from tests.clickhouse import ClickHousePlace
from tests.faults.all_tables import check_states
from tests.faults.checks import EVERYTHING
from tests.faults.scenarios import live
from tests.faults.world import World
from tests.places import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place

NEW = {**KINDS, "clickhouse": ClickHousePlace.new}
SETTINGS = f'{EVERYTHING}deletes = "remove"\nmax_deleted_share = 1.0'
IN_LISTS = Quirks(only_on_single_profile=frozenset())
"""An Ometria that sends the lists of a profile with all profiles."""


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse of a kind in which nothing was written."""
    made = NEW[request.param](tmp_path)
    yield made
    made.remove()


@pytest.mark.slow
@pytest.mark.parametrize("place", NEW, indirect=True)
def test_the_replica_of_all_tables_is_the_account(place: Place, tmp_path: Path) -> None:
    """
    Through days on which every table changes, and records are deleted and their rows removed.

    Each row is what its record becomes, each record is as it was sent, what is inside records is
    in the nested tables, and the histories tell of each state that there was, and of no other.
    """
    with World(
        tmp_path, place=place, profiles=70, lists=3, email_events=40, quirks=IN_LISTS,
        settings=SETTINGS,
    ) as world:  # fmt: skip
        world.sync_here()
        world.replica.check()
        live(world)
        world.sync_here()
        world.replica.check()
        live(world)
        world.sync_here(detect_deletes=True)
        world.replica.check()
        assert world.replica.pasts["orders"].moments
        check_states(world)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["postgres", "delta"], indirect=True)
def test_accounts_side_by_side_are_each_what_they_should_be(place: Place, tmp_path: Path) -> None:
    """Read at the same time by the same runs, with all tables, records and histories."""
    with (
        World(
            tmp_path, place=place, profiles=70, lists=2, email_events=40, settings=EVERYTHING
        ) as world,
        world.beside("us", EVERYTHING) as other,
    ):
        for _ in range(2):
            world.sync_here()
            world.replica.check()
            other.replica.check()
            live(world)
            live(other)
