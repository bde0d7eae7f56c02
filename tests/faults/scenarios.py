"""
The scenarios: what is done to a replica, and how each starts.

A scenario starts from an account that was replicated and has changed since, unless it is
*fresh*: then nothing was replicated yet.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from tests import places
from tests.faults.world import World

Play = Callable[[World], None]


@dataclass(frozen=True)
class Scenario:
    """A way to hurt a replica, and the checks after it, in a world that is made with *options*."""

    group: str
    name: str
    what: str
    play: Play
    fresh: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


SCENARIOS: dict[str, Scenario] = {}


def add(scenario: Scenario) -> None:
    """Register a scenario. ValueError if the name is taken."""
    if scenario.name in SCENARIOS:
        raise ValueError(scenario.name)
    SCENARIOS[scenario.name] = scenario


def scenario(group: str, *, fresh: bool = False, **options: Any) -> Callable[[Play], Play]:
    """Register a function as a scenario, named like it and described by its docstring."""

    def register(play: Play) -> Play:
        name = play.__name__.replace("_", " ")
        what = " ".join((play.__doc__ or "").split())
        add(Scenario(group, name, what, play, fresh, options))
        return play

    return register


def run_scenario(
    chosen: Scenario,
    folder: Path,
    *,
    defect: str = "",
    new_place: places.NewPlace = places.KINDS["duckdb"],
    timezone: str = "",
) -> None:
    """Run a scenario in a new warehouse; from its start on, the program has the *defect*."""
    options = dict(chosen.options) | ({"timezone": timezone} if timezone else {})
    with World(folder, place=new_place(folder), **options) as world:
        if not chosen.fresh:
            if not options:
                world.begin_as(_replicated(new_place))
            else:
                world.run()
                world.check()
            live(world)
        world.defect = defect
        try:
            chosen.play(world)
        finally:
            world.place.remove()


@cache
def _replicated(new_place: places.NewPlace) -> World:
    """Replicate the usual account, once for each kind of place and test process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    with World(folder, place=new_place(folder)) as world:
        atexit.register(shutil.rmtree, world.folder)
        world.run()
        world.check()
    return world


def live(world: World) -> None:
    """Let a day pass during which every table changes."""
    account = world.account
    account.advance(timedelta(days=1))
    everyone = [profile.id for profile in account.profiles]
    # Nine of ten: of 300 profiles, that is two pages of changes.
    for number, profile_id in enumerate(everyone[: len(everyone) * 9 // 10]):
        account.update_profile(profile_id, lastname=f"Renamed {number} on {account.now:%d %B}")
    account.delete_profile(everyone[-1])
    account.merge_profiles(everyone[0], [everyone[-2]])
    for segment in account.lists:
        if not segment.archived:
            account.refresh_list(segment.id, enter=everyone[5:30], leave=everyone[2:4])
    for number in range(5):
        account.add_unsubscribe(
            everyone[number], at=account.now - timedelta(hours=number), reason_text=f"no {number}"
        )
    world.feed.export()
    for number in range(3):
        account.advance(timedelta(minutes=1))
        mail(world, f"fresh-{number}@example.com", 12)
        world.feed.export()


def mail(world: World, address: str, count: int = 1) -> None:
    """Add events of *address*, a second apart."""
    for number in range(count):
        world.account.add_event(
            address, "open", occurred_at=world.account.now - timedelta(seconds=number),
            uuid=f"{address}-{number}", campaign_title="Spring",
        )  # fmt: skip
