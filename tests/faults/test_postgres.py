"""Scenarios that reach the engine, in a database of a real PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.faults.odd_data  # noqa: F401 -- it registers its scenarios, after the catalog's.
from tests.faults.catalog import DELETES, ENDS, MAINTENANCE, OTHERS
from tests.faults.ladders import KILLS, OF_ALL_TABLES
from tests.faults.scenarios import SCENARIOS, run_scenario
from tests.places import KINDS

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = {KILLS, ENDS, OTHERS, DELETES, MAINTENANCE}
"""The others end before a warehouse is written to: DuckDB stands for all of them."""
ALSO = {"the api goes down during a table", "a late file with an old copy",
        "two copies in one batch", "an event without a key"}  # fmt: skip
"""Scenarios of other groups in which the engine decides: batches, versions, rejects."""
OF_DUCKDB = {"another process has the file open", OF_ALL_TABLES}
"""A server has no file that a process can lock, and updates rows where DuckDB inserts them."""

NAMES = [
    each.name
    for each in SCENARIOS.values()
    if (each.group in GROUPS or each.name in ALSO) and each.name not in OF_DUCKDB
]


pytestmark = pytest.mark.slow  # In `make test`, a ladder over every step stands for them.


@pytest.mark.parametrize("name", NAMES)
def test_postgres_withstands(name: str, tmp_path: Path) -> None:
    """In each scenario no row is lost or duplicated, and state is never ahead of data."""
    run_scenario(SCENARIOS[name], tmp_path, new_place=KINDS["postgres"])
