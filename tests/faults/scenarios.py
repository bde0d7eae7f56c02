"""
The scenarios: a story each, and a seeded defect with which its checkers must find something.

Every story starts from an account that was replicated and has lived on since, unless
it is *fresh*. It is told once as the program is, and once with the defect.
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
from tests.faults.child import Plan
from tests.faults.world import World

Play = Callable[[World], None]


@dataclass(frozen=True)
class Scenario:
    """
    A story, told in a world that is made with *options*.

    *saw* is a pattern for what the checkers say when *defect* is switched on.
    """

    group: str
    name: str
    what: str
    defect: str
    saw: str
    play: Play
    fresh: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


SCENARIOS: dict[str, Scenario] = {}


def add(scenario: Scenario) -> None:
    """Put a scenario on the list. ValueError for a name that is there already."""
    if scenario.name in SCENARIOS:
        raise ValueError(scenario.name)
    SCENARIOS[scenario.name] = scenario


def scenario(
    group: str, defect: str, saw: str, *, fresh: bool = False, **options: Any
) -> Callable[[Play], Play]:
    """Register a story; its name is the function's, what it tells the docstring."""

    def register(play: Play) -> Play:
        name = play.__name__.replace("_", " ")
        what = " ".join((play.__doc__ or "").split())
        add(Scenario(group, name, what, defect, saw, play, fresh, options))
        return play

    return register


def tell(
    chosen: Scenario,
    folder: Path,
    *,
    defective: bool,
    new_place: places.NewPlace = places.KINDS["duckdb"],
) -> None:
    """Tell a story, with its defect switched on if *defective*, in a warehouse of its own."""
    with World(folder, place=new_place(folder), **chosen.options) as world:
        if not chosen.fresh:
            if not chosen.options:
                world.begin_as(_replicated(new_place))
            else:
                world.run()
                world.check()
            live(world)
        if defective:
            world.defect = chosen.defect
        try:
            chosen.play(world)
        finally:
            world.place.remove()


@cache
def _replicated(new_place: places.NewPlace) -> World:
    """Replicate the usual account, once a kind of place, for all stories that start from it."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    with World(folder, place=new_place(folder)) as world:
        atexit.register(shutil.rmtree, world.folder)
        world.run()
        world.check()
    return world


def live(world: World) -> None:
    """Let a day pass in which something happens to every table."""
    account = world.account
    account.advance(timedelta(days=1))
    everyone = [profile.id for profile in account.profiles]
    for number, profile_id in enumerate(everyone[: len(everyone) // 2]):
        account.update_profile(profile_id, lastname=f"Renamed {number}")
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
    """Let events happen to *address*, a second apart."""
    for number in range(count):
        world.account.add_event(
            address, "open", occurred_at=world.account.now - timedelta(seconds=number),
            uuid=f"{address}-{number}", campaign_title="Spring",
        )  # fmt: skip


# --- SIGKILL at every step of every table --------------------------------------------------------

KINDS = {
    "profiles": "pages since a day",
    "lists": "pages, whole",
    "member_lists": "for each list",
    "unsubscribes": "windows of time",
    "email_events": "files of the feed",
}

_READING = ("before request", "after request", "before page", "after page")
_READING_FEED = (
    "before listing", "before fetch", "after fetch", "before file", "after file",
)  # fmt: skip
_STAGED = ("before mapping", "after mapping", "before comparison", "after comparison")
_WRITING = {
    "before renewal": ("state before reading", "state ahead of data"),
    "after renewal": ("state before rows", "state ahead of data"),
    "before delete": ("state before rows", "state ahead of data"),
    "after delete": ("state before rows", "state ahead of data"),
    "before insert": ("delete committed before insert", "rows are lost that were there before"),
    "after insert": ("state before rows", "state ahead of data"),
    "before {state}": ("merge without delete", "rows are doubled"),
    "after {state}": ("merge without delete", "rows are doubled"),
    "before commit": ("state before rows", "state ahead of data"),
    "after commit": ("merge without delete", "rows are doubled"),
}


def _killed(step: str, table: str, nth: int = 1) -> Play:
    def play(world: World) -> None:
        # Some 350 profiles are two pages: the first is a batch, the second and the end another.
        batch = 200 if table == "profiles" else 10_000
        world.run(plan=Plan(step, table, nth, batch_records=batch), code=-9)
        world.check_after_crash()
        world.run()
        world.check()

    return play


def _add_kills() -> None:
    for table, kind in KINDS.items():
        feed = table == "email_events"
        for step in (*(_READING_FEED if feed else _READING), *_STAGED):
            if step == "before listing":
                _add_kill(step, table, kind, "merge without delete", "rows are doubled")
                continue
            _add_kill(step, table, kind, "state before reading", "state ahead of data")
        for form, (defect, saw) in _WRITING.items():
            step = form.format(state="ledger" if feed else "watermarks")
            # Profiles come in two batches; the state moves with the last.
            last = table == "profiles" and "marks" not in step
            _add_kill(step, table, kind, defect, saw, nth=2 if last else 1)


def _add_kill(step: str, table: str, kind: str, defect: str, saw: str, *, nth: int = 1) -> None:
    which = " of its last batch" if nth > 1 else ""
    add(
        Scenario(
            "SIGKILL while a table is read and written",
            f"{table}: {step}",
            f"The process is killed {step}{which} ({kind}), and run again.",
            defect,
            saw,
            _killed(step, table, nth),
        )
    )


_add_kills()
