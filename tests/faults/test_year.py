from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from ometria_replica.errors import ReplicaError
from ometria_replica.ometria import retries
from ometria_simulator import Fault
from tests.faults.all_tables import check_states
from tests.faults.checks import EVERYTHING
from tests.faults.child import Plan
from tests.faults.world import HISTORY, World

if TYPE_CHECKING:
    from pathlib import Path

FORTNIGHT, YEAR = timedelta(days=14), timedelta(days=365)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
DAILY = (*(DAY,) * 14, timedelta(hours=6), 2 * DAY, WEEK)
NOW_AND_THEN = (timedelta(hours=6), DAY, DAY, 2 * DAY, 3 * DAY, WEEK, 3 * WEEK)
"""A run of all tables takes three times as long as one of the five."""
FAULTS = (Fault.reset(), Fault.truncate(), Fault(status=500), Fault.bad_json(), Fault(status=429))
STEPS = (
    "after page",
    "before insert",
    "after commit of the batch",
    "before commit of the batch",
    "after fetch",
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("span", "seed", "least"),
    [
        pytest.param(FORTNIGHT, 1, (5, 0, 4), id="fortnight"),
        pytest.param(YEAR, 2026, (50, 1, 40), id="year", marks=pytest.mark.slow),
    ],
)
def test_a_year_in_the_life_of_a_replica(
    span: timedelta,
    seed: int,
    least: tuple[int, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    An account lives for a year, and is synced during faults; then the replica equals it.

    *least* is how many runs, kills and files there are at least.

    Days are skipped and whole weeks missed, requests fail by chance, runs are killed, files are
    broken, mended and written again, and clocks are wrong. In the year all tables are replicated,
    and the histories tell of every state that they had.
    """
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.005)
    chance, spans = Random(seed), NOW_AND_THEN if span == YEAR else DAILY
    settings = EVERYTHING if span == YEAR else f"keep_records = true\n{HISTORY}"
    with World(tmp_path, profiles=120, lists=4, email_events=200, settings=settings) as world:
        account, end = world.account, world.account.now + span
        for fault in FAULTS:
            world.server.faults.sometimes("/v2", fault, 0.004)
        broken: list[str] = []
        runs = killed = failed = 0
        while account.now < end:
            account.advance(chance.choice(spans))
            broken = _export(world, broken, chance)
            if chance.random() < 0.05:
                step = chance.choice(STEPS)
                killed += world.run(plan=Plan(step, nth=chance.randint(1, 3)), code=None).code < 0
            else:
                is_wrong = chance.random() < 0.03
                at = account.now + (chance.choice((-400, 400)) * DAY if is_wrong else 0 * DAY)
                runs += 1
                try:
                    world.sync_here(at=at, detect_deletes=chance.random() < 0.03)
                except ReplicaError:
                    failed += 1
            if span == YEAR:
                world.replica.look_back()
        world.server.faults.clear()
        for name in broken:
            world.feed.complete(name)
        world.sync_here()
        world.replica.check_loosely()
        if span == YEAR:
            check_states(world)
        files = len(world.contents.state("files"))
        assert (runs > least[0], killed >= least[1], files > least[2]) == (True, True, True)


def _export(world: World, broken: list[str], chance: Random) -> list[str]:
    """Export what is new: now and then a broken file, mended later, or one written again."""
    match chance.random():
        case dice if dice < 0.03:
            return [*broken, world.feed.export_truncated_gzip()]
        case dice if dice < 0.06:
            return [*broken, world.feed.export_partial()]
        case dice if dice < 0.09 and broken:
            world.feed.complete(broken[0])
            return broken[1:]
        case dice if dice < 0.12:
            names = sorted({each.file for each in world.feed.delivered})
            world.feed.rewrite(chance.choice(names))
    world.feed.export()
    return broken
