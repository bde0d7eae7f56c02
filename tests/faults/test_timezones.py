from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.faults.stories  # noqa: F401 -- it fills the list.
from ometria_simulator import Dialect
from tests.faults.scenarios import SCENARIOS, live
from tests.faults.world import World

if TYPE_CHECKING:
    from pathlib import Path

ZONES = ("America/St_Johns", "Asia/Kolkata", "Pacific/Kiritimati")
"""Behind UTC by hours and a half, ahead by as much, and a whole day ahead of some."""

STORIES = (
    "profiles: after commit",
    "email_events: before commit",
    "unsubscribes: after insert",
    "killed in the first read",
    "this machine a year ahead",
    "events that come late",
    "a late file",
)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", STORIES)
def test_the_zone_of_the_machine_does_not_matter(name: str, zone: str, tmp_path: Path) -> None:
    """Stories of every kind end alike wherever the machine thinks it is."""
    story = SCENARIOS[name]
    with World(tmp_path, timezone=zone, **story.options) as world:
        if not story.fresh:
            world.run()
            world.check()
            live(world)
        story.play(world)


@pytest.mark.parametrize("zone", ZONES)
def test_a_time_without_a_zone_is_utc(zone: str, tmp_path: Path) -> None:
    """A feed that writes times without a zone is read as UTC on any machine."""
    dialect = Dialect(timestamp_form="naive")
    with World(tmp_path, timezone=zone, profiles=30, dialect=dialect) as world:
        world.run()
        world.check()
