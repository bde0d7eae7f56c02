from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import tests.faults.all_tables
import tests.faults.odd_data  # noqa: F401 -- it registers its scenarios, after the catalog's.
from tests.faults.checks import EVERYTHING
from tests.faults.ladders import OF_ALL_TABLES, scenario_of
from tests.faults.proofs import PROOFS
from tests.faults.scenarios import SCENARIOS, run_scenario
from tests.faults.table_defects import DEFECTS
from tests.faults.test_canary import LEAKING

if TYPE_CHECKING:
    from pathlib import Path


STORIES = {
    "an open quote", "parts that were joined", "text without its mark",
    "a time with the name of a zone", "a young file that grows", "days that begin west of utc",
    "a refresh that shows late", "a dropped table",
}  # fmt: skip
DELETED = {
    "deleted profiles stay and are recorded", "a profile comes back", "too many deleted profiles",
    "delete detection fails midway",
}  # fmt: skip
SHOWN_IN_ONE_PROCESS = {
    "rewound", "backfilled", "rejects replayed", "days in another time zone",
    "a list vanishes", "a list without a new refresh time", "one endpoint refused",
    "profiles vanish between pages", "profiles merge between pages", "pages shorter than requested",
    "connections reset", "an html page", "the api goes down during a table",
    "a truncated file", "unreadable files among others", "a file deleted while it is fetched",
    "a value that does not convert", "two copies in one batch", "times without a zone",
    "deleted profiles are removed", "delete detection beside another account",
}  # fmt: skip
"""Scenarios of which tests in one process show the parts."""
SLOW = {
    OF_ALL_TABLES,
    *SHOWN_IN_ONE_PROCESS,
    *(f"kills while {table} are synced" for table in ("lists", "unsubscribes", "member_lists")),
    *("bodies cut", "errors of the server", "bodies with incomplete json", "answers that hang"),
    *("a storm of 429", "a storm of 429 with a hint"),
    "killed again and again",
    *DELETED,
    *STORIES,
}
"""
Ladders of tables that are read as another one is, and scenarios of which tests in one process show
the parts. In them all tables are replicated, with records and histories.
"""

ONE_OF_EACH = {
    "merge without delete",
    "delete committed before insert",
    "state before rows",
    "gzip endings not checked",
    "one refusal ends the run",
    "watermark from the end",
    "rejects dropped",
    "lease ignored",
}
"""A defect for each thing that the checks report: rows that are doubled, gone, lost, old, ..."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SCENARIOS]
)
def test_the_replica_withstands(name: str, tmp_path: Path) -> None:
    """In each scenario no row is lost or duplicated, and state is never ahead of data."""
    run_scenario(SCENARIOS[name], tmp_path, settings=EVERYTHING * (name in SLOW))


@pytest.mark.parametrize(
    "defect",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in ONE_OF_EACH)) for name in PROOFS],
)
def test_the_checks_see(defect: str, tmp_path: Path) -> None:
    """With a seeded defect the scenario fails, for the expected reason."""
    proof = PROOFS[defect]
    with pytest.raises(AssertionError) as finding:
        run_scenario(scenario_of(proof), tmp_path, defect=defect)
    assert re.search(proof.report, str(finding.value)), finding.value


def test_each_defect_is_seen_by_one_check() -> None:
    """No defect is without proof, and no proof without its defect."""
    assert {*PROOFS, *LEAKING} == DEFECTS.keys()
