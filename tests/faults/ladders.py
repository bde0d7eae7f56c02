"""
The kill ladders: one run after another dies, each at the next step, in one warehouse.

A kill before a commit leaves the state as it was, so the next run repeats the work, reaches
the same step, and goes on to the next. A kill after a commit leaves nothing to repeat: then a
day passes in the account. After each kill the warehouse is checked as the run left it; after
the last one a run succeeds, and the warehouse holds exactly what it should.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.faults.checks import EVERYTHING, Finding
from tests.faults.child import Plan
from tests.faults.scenarios import SCENARIOS, Play, Scenario, add, live
from tests.places import DuckDBPlace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.faults.proofs import Proof
    from tests.faults.world import World


@dataclass(frozen=True)
class Rung:
    """
    A step at which a run dies: the *nth* time, and during the sync of *table* if one is named.

    *commits* says that the step leaves nothing for the next run to repeat. *alone* says that
    the run syncs only that table, which takes less time.
    """

    step: str
    table: str = ""
    nth: int = 1
    commits: bool = False
    alone: bool = False

    @property
    def name(self) -> str:
        """The step, and the batch if it is not the first."""
        return f"{self.step} ({self.nth})" if self.nth > 1 else self.step

    @property
    def is_of_duckdb(self) -> bool:
        """Whether only DuckDB has the step: PostgreSQL updates rows in place, and has no file."""
        return self.step.partition(" ")[2] in {"delete", "detach"}


def rungs(table: str, steps: Iterable[str], committing: Iterable[str] = ()) -> tuple[Rung, ...]:
    """Make a ladder of *steps* of one table; those in *committing* leave nothing to repeat."""
    return tuple(Rung(step, table, commits=step in set(committing)) for step in steps)


def climb(world: World, ladder: Iterable[Rung], *, batch_records: int = 1_000) -> None:
    """Let a run die at each rung, check what it left; then let one succeed, and check again."""
    for rung in ladder:
        die(world, rung, batch_records=batch_records)
        if rung.commits:
            live(world)
    world.run()
    world.replica.check()


def die(world: World, rung: Rung, *, batch_records: int = 1_000) -> None:
    """Let a run die at a rung, and check what it left. A Finding names the rung."""
    plan = Plan(rung.step, rung.table, rung.nth, batch_records=batch_records)
    try:
        world.run("sync", *([rung.table] if rung.alone else []), plan=plan, code=-9)
        world.replica.check_after_crash()
    except Finding as finding:
        raise Finding(f"killed {rung.name}: {finding}") from finding


# --- the ladders ---------------------------------------------------------------------------------

KILLS = "Kill ladders: a run dies at each step in turn"

KINDS = {
    "profiles": "pages since a day",
    "lists": "pages, all of them",
    "member_lists": "pages for each list",
    "unsubscribes": "windows of time",
    "email_events": "files of the feed",
}

READING = ("before request", "after request", "before page", "after page")
READING_FEED = ("before listing", "before fetch", "after fetch", "before file", "after file")
STAGING = ("before mapping", "after mapping", "before comparison", "after comparison")
WRITING = ("before renewal", "after renewal", "before delete", "after delete", "before insert",
           "after insert", "before {state}", "after {state}", "before commit of the batch",
           "after commit of the batch")  # fmt: skip


def ladder_of(table: str) -> tuple[Rung, ...]:
    """Give the ladder of a table."""
    feed = table == "email_events"
    state = "file log" if feed else "watermarks"
    # Changed profiles are two pages: the first is a batch, the second and the end another. The
    # state moves with the last batch, so that is the one to kill.
    last = 2 if table == "profiles" else 1
    reading = (
        Rung(step, table, alone=True) for step in (*(READING_FEED if feed else READING), *STAGING)
    )
    writing = (Rung(step.format(state=state), table, last, alone=True) for step in WRITING)
    return (*reading, *writing)


OF_ALL_TABLES = "kills while all tables are synced"

LADDERS: dict[str, tuple[Rung, ...]] = {
    f"kills while {table} are synced": ladder_of(table) for table in KINDS
} | {
    "kills between the tables": (
        Rung("after lease"),
        Rung("after commit of the lease"),
        Rung("after commit of the batch", "profiles"),
        Rung("before request", "unsubscribes"),
        Rung("before detach", nth=3),
        Rung("before release of the lease"),
        Rung("before history"),
        Rung("before commit of the history"),
    ),
    OF_ALL_TABLES: (
        Rung("after page", "contacts", alone=True),
        Rung("after mapping", "orders", alone=True),
        Rung("after comparison", "orders", alone=True),
        Rung("before delete", "orders", alone=True),
        # Rows, lines inside, records and versions: each is inserted by itself.
        *(Rung("after insert", "orders", nth, alone=True) for nth in range(1, 5)),
        Rung("after insert", "profiles", 5, alone=True),
        Rung("before watermarks", "custom_events", alone=True),
        Rung("before commit of the batch", "push_errors", alone=True),
        Rung("before commit of the batch", "contacts", alone=True),
        Rung("after commit of the batch", "contacts", alone=True),
        Rung("after commit of the batch", "orders", alone=True),
    ),
    "kills of the first run": (
        Rung("after schema"),
        Rung("after schema", nth=6),
        Rung("before account"),
        Rung("after commit of the batch", "profiles", 2),
    ),
}
"""The ladders by the name of their scenario."""


def climbing(ladder: tuple[Rung, ...]) -> Play:
    """Give the scenario of a ladder: with batches of about a page, so that profiles have two."""

    def play(world: World) -> None:
        here = type(world.place) is DuckDBPlace
        climb(world, [rung for rung in ladder if here or not rung.is_of_duckdb], batch_records=200)

    return play


def _add_ladders() -> None:
    for name, ladder in LADDERS.items():
        steps = "; ".join(dict.fromkeys(rung.name for rung in ladder))
        table = name.split(" ")[2]
        kind = f" ({KINDS[table]})" if table in KINDS else ""
        what = f"Runs{kind} are killed one after another: {steps}."
        options = {"settings": EVERYTHING} if name == OF_ALL_TABLES else {}
        is_first = name == "kills of the first run"
        add(Scenario(KILLS, name, what, climbing(ladder), fresh=is_first, options=options))


_add_ladders()


def scenario_of(proof: Proof) -> Scenario:
    """Find the scenario of a proof, of a ladder with its one rung."""
    chosen = SCENARIOS[proof.scenario]
    if not proof.rung:
        return chosen
    (rung, *_) = [rung for rung in LADDERS[chosen.name] if rung.step == proof.rung]
    return replace(chosen, play=climbing((rung,)))
