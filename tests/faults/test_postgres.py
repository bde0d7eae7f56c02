"""The stories again, in a database of a real PostgreSQL server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.faults.stories  # noqa: F401 -- it fills the list.
from tests.faults.scenarios import SCENARIOS, tell
from tests.places import KINDS

if TYPE_CHECKING:
    from pathlib import Path

OF_A_FILE = {
    "killed while letting the file go",
    "no room for the file",
    "somebody has the file open",
}
"""Stories of a DuckDB file, its lock and its disk: a server has none of them."""


def told_here(name: str) -> bool:
    """Tell whether a story is not about a file. No row is deleted here: an upsert moves it."""
    return name not in OF_A_FILE and not name.endswith((": before delete", ": after delete"))


@pytest.mark.parametrize("name", [name for name in SCENARIOS if told_here(name)])
def test_postgres_withstands(name: str, tmp_path: Path) -> None:
    """Whatever goes wrong, nothing is lost or doubled, and state is never ahead of data."""
    tell(SCENARIOS[name], tmp_path, defective=False, new_place=KINDS["postgres"])
