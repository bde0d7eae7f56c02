from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.faults.catalog  # noqa: F401 -- it registers its scenarios.
from ometria_simulator import Dialect
from tests.faults.ladders import Rung, climb
from tests.faults.scenarios import SCENARIOS, live, run_scenario
from tests.faults.world import World

if TYPE_CHECKING:
    from pathlib import Path

ZONES = (
    pytest.param("America/St_Johns", marks=pytest.mark.slow),
    pytest.param("Asia/Kolkata", marks=pytest.mark.slow),
    "Pacific/Kiritimati",
)
"""Behind UTC by hours and a half, ahead by as much, and a whole day ahead of some."""

NAMES = (
    pytest.param("kills of the first run", marks=pytest.mark.slow),
    pytest.param("this machine a year ahead", marks=pytest.mark.slow),
    "events that arrive late",
    "a late file",
)

LADDER = (
    Rung("after insert", "unsubscribes", alone=True),
    # Files are read beside the API: a run of all tables may have written them before.
    Rung("before commit of the batch", "email_events", alone=True),
    Rung("after commit of the batch", "profiles", commits=True),
)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", NAMES)
def test_the_zone_of_the_machine_does_not_matter(name: str, zone: str, tmp_path: Path) -> None:
    """Scenarios of every kind end alike in every time zone."""
    run_scenario(SCENARIOS[name], tmp_path, timezone=zone)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_kills_in_any_zone_lose_nothing(zone: str, tmp_path: Path) -> None:
    """A kill ladder over three tables ends alike in every time zone."""
    with World(tmp_path, timezone=zone) as world:
        world.run()
        world.replica.check()
        live(world)
        climb(world, LADDER)


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_without_a_zone_is_utc(zone: str, tmp_path: Path) -> None:
    """Times without a zone in the feed are read as UTC on any machine."""
    dialect = Dialect(timestamp_form="naive")
    with World(tmp_path, timezone=zone, profiles=30, dialect=dialect) as world:
        world.run()
        world.replica.check()
