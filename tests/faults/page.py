# ruff: noqa: E501 -- One sentence per line, as the docs are written.
"""Writes the page of the fault suite from its code: ``python -m tests.faults.page``."""

from __future__ import annotations

from pathlib import Path

import tests.faults.stories  # noqa: F401 -- it fills the list.
from tests.faults.defects import DEFECTS
from tests.faults.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "faults.md"

_HEAD = """\
# What is done to the replica, and what it withstands

The replica is meant to run every hour for years, so it is hurt in every way that we could think of.
Each scenario below runs the real program in a process of its own, against the simulator and a feed, into a DuckDB file.
After it, all five tables are compared with what the simulator's own state says they should hold.
Nothing may be lost or doubled, nothing older may stand over something newer, and no watermark and no entry of the ledger may be ahead of its rows.
A killed process is looked after twice: as it left things, and when the next run has gone through.

A checker that cannot fail proves nothing.
So each scenario is told a second time with a *seeded defect*: a mistake that is switched on in the test's process only, and that the checkers must see.
The column on the right says what they saw.

This page is made from `tests/faults` by `python -m tests.faults.page`, and a test holds it against the code.
There are {scenarios} scenarios and {defects} defects.

Besides, a state machine mixes changes of two accounts, syncs, backfills, rewinds, kills and second runs in an order that nobody chose: `tests/faults/test_machine.py`.
Some scenarios are told again in three time zones: `tests/faults/test_timezones.py`.
All but those of a file and its disk are told again in a database of a real PostgreSQL server, without the defects: `tests/faults/test_postgres.py`.
"""


def page() -> str:
    """Write the page."""
    used = {each.defect for each in SCENARIOS.values()}
    lines = [_HEAD.format(scenarios=len(SCENARIOS), defects=len(used))]
    for group in dict.fromkeys(each.group for each in SCENARIOS.values()):
        lines += [
            f"## {group}",
            "",
            "| scenario | what happens | seeded defect | what the checker saw |",
        ]
        lines += ["| --- | --- | --- | --- |"]
        lines += [
            f"| {each.name} | {each.what} | {each.defect} | {each.saw.replace('|', ' or ')} |"
            for each in SCENARIOS.values()
            if each.group == group
        ]
        lines += [""]
    lines += ["## The seeded defects", "", "| defect | what it gets wrong |", "| --- | --- |"]
    lines += [f"| {name} | {DEFECTS[name].what} |" for name in sorted(used)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
