from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from ometria_replica.config import load_config
from ometria_replica.errors import ReplicaError
from ometria_replica.ometria import retries
from ometria_replica.replication import sync
from ometria_simulator import Fault
from tests.faults.child import Plan
from tests.faults.world import HISTORIES, HISTORY, World
from tests.warehouses.histories import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MONTH, YEAR = timedelta(days=30), timedelta(days=365)
SPANS = (*(timedelta(days=1),) * 14, timedelta(hours=6), timedelta(days=2), timedelta(days=7))
FAULTS = (Fault.reset(), Fault.truncate(), Fault(status=500), Fault.bad_json(), Fault(status=429))
STEPS = (
    "after page",
    "before insert",
    "after commit of the batch",
    "before commit of the batch",
    "after fetch",
)


@pytest.mark.timeout(290)
@pytest.mark.parametrize(
    ("span", "seed", "least"),
    [
        pytest.param(MONTH, 1, (12, 1, 10), id="month"),
        pytest.param(YEAR, 2026, (200, 3, 150), id="year", marks=pytest.mark.slow),
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
    An account lives for a year, synced about daily, during faults; then the replica equals it.

    *least* is how many runs, kills and files there are at least.

    Days are skipped and whole weeks missed, requests fail by chance, runs are killed,
    files are broken, mended and written again, and clocks are wrong. The histories tell of every
    state that the tables had.
    """
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.005)
    chance = Random(seed)
    with World(tmp_path, profiles=120, lists=4, email_events=200, settings=HISTORY) as world:
        config = load_config(
            tmp_path / "ometria.toml",
            {
                **world.environ(),
                "HOME": str(tmp_path),
                "XDG_CACHE_HOME": str(tmp_path),
            },
            None,
        )
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        account, end = world.account, world.account.now + span
        for fault in FAULTS:
            world.server.faults.sometimes("/v2", fault, 0.004)
        broken: list[str] = []
        runs = killed = failed = 0
        observers = {name: Observer() for name in HISTORIES}
        while account.now < end:
            if span == YEAR:
                _look(world, observers)
            account.advance(chance.choice(SPANS))
            broken = _export(world, broken, chance)
            if chance.random() < 0.05:
                step = chance.choice(STEPS)
                killed += world.run(plan=Plan(step, nth=chance.randint(1, 3)), code=None).code < 0
                continue
            wrong = timedelta(days=chance.choice((-400, 400))) if chance.random() < 0.03 else None
            at = account.now + (wrong or timedelta())
            runs += 1
            try:
                sync(config, detect_deletes=chance.random() < 0.03, clock=lambda at=at: at)  # type: ignore[misc]
            except ReplicaError:
                failed += 1
        world.server.faults.clear()
        for name in broken:
            world.feed.complete(name)
        sync(config, clock=lambda: account.now)
        world.check_loosely()
        if span == YEAR:
            _look(world, observers)
            for name, observer in observers.items():
                assert observer.refute(world.history(name)) == []
        assert (runs > least[0], killed >= least[1], len(world.state("files")) > least[2]) == (
            True, True, True,
        )  # fmt: skip


def _look(world: World, observers: Mapping[str, Observer]) -> None:
    """Take note of the tables as they are, unless nothing is there yet."""
    if world.place.is_there:
        for name, observer in observers.items():
            observer.look(*world.rows_and_deleted(name))


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
