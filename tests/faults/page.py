# ruff: noqa: E501 -- One sentence per line, as the docs are written.
"""Writes the page of the fault suite from its code: ``python -m tests.faults.page``."""

from __future__ import annotations

from pathlib import Path

import tests.faults.all_tables
import tests.faults.odd_data  # noqa: F401 -- it registers its scenarios, after those of the catalog.
from tests.faults.checks import EVERYTHING
from tests.faults.proofs import PROOFS
from tests.faults.scenarios import SCENARIOS
from tests.faults.table_defects import DEFECTS
from tests.faults.test_canary import LEAKING
from tests.faults.test_postgres import NAMES as IN_POSTGRES
from tests.faults.test_scenarios import SLOW

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "faults.md"

_HEAD = """\
# Faults that the replica withstands

The replica runs every hour for years, so the fault suite breaks it in every way that the developers know.
Each scenario below runs the real program in a process of its own, against the simulator and a feed, into a DuckDB file.
Afterwards all five tables are compared with the rows that follow from the simulator's own state.
In the scenarios marked *all tables*, the further and nested tables are replicated too, with the records as they came and the history of every table that has one.
Each record must be the one that the simulator sent, each row what its record becomes, and each nested table what is inside these records.
A history must have no gap, no overlap and no two versions alike in a row; its last version is the row, and of each past moment it must tell what the table held then.
No row may be lost or duplicated, an older copy may never replace a newer one, and no watermark and no entry of the file log may be ahead of its rows.
State is checked twice after each kill: as the killed run left it, and after the next run.

A *kill ladder* kills one run after another in one warehouse, each at the next step.
A kill before a commit leaves the state as it was, so the next run repeats the work and reaches the next step; after a commit, a day passes in the account.

A check that cannot fail proves nothing.
So there are *seeded defects*: mistakes that a test switches on in its own process.
For each defect one scenario runs with it, and the checks must report it.

`python -m tests.faults.page` writes this page from `tests/faults`, and a test compares the two.
There are {scenarios} scenarios and {defects} defects.

`make test` runs the scenarios on DuckDB, except those marked *slow*, and one defect for each thing that the checks report.
`make test-all` also runs the slow ones, with all tables, records and histories, and every defect, and on PostgreSQL every scenario that reaches the engine, marked *PostgreSQL*.
Besides, a state machine mixes changes of two accounts, syncs, backfills, rewinds, kills and second runs in random order, and a fortnight, in `make test-all` a year with all tables, of an account passes during faults: `tests/faults/test_machine.py`, `tests/faults/test_year.py`.
Each load also compares the records of each file with its rows and rejects, whatever the fault; `tests/unit/test_reconciliation.py` seeds readers that lose a record, and each is noticed.
"""


def page() -> str:
    """Write the page."""
    lines = [_HEAD.format(scenarios=len(SCENARIOS), defects=len(DEFECTS))]
    for group in dict.fromkeys(each.group for each in SCENARIOS.values()):
        lines += [f"## {group}", "", "| scenario | what happens | also |", "| --- | --- | --- |"]
        lines += [
            f"| {each.name} | {each.what} | {_also(each.name)} |"
            for each in SCENARIOS.values()
            if each.group == group
        ]
        lines += [""]
    lines += [
        "## The seeded defects",
        "",
        "| defect | the mistake | the scenario that shows it | the checks report |",
        "| --- | --- | --- | --- |",
    ]
    lines += [_proof(name) for name in sorted(DEFECTS)]
    return "\n".join(lines) + "\n"


def _also(name: str) -> str:
    with_all = {
        *SLOW,
        *(each.name for each in SCENARIOS.values() if each.options.get("settings") == EVERYTHING),
    }
    words = {"slow": SLOW, "all tables": with_all, "PostgreSQL": IN_POSTGRES}
    return ", ".join(word for word, names in words.items() if name in names)


def _proof(name: str) -> str:
    what = DEFECTS[name].what
    if name in LEAKING:
        return f"| {name} | {what} | `tests/faults/test_canary.py` | a secret or a person's data |"
    proof = PROOFS[name]
    rung = f", killed {proof.rung}" if proof.rung else ""
    report = proof.report.replace("|", " or ")
    return f"| {name} | {what} | {proof.scenario}{rung} | {report} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
