from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import tests.faults.stories  # noqa: F401 -- it fills the list.
from tests.faults.defects import DEFECTS
from tests.faults.scenarios import SCENARIOS, tell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_replica_withstands(name: str, tmp_path: Path) -> None:
    """Whatever goes wrong, nothing is lost or doubled, and state is never ahead of data."""
    tell(SCENARIOS[name], tmp_path, defective=False)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_checker_sees(name: str, tmp_path: Path) -> None:
    """With its seeded defect the same story fails, for the reason that was to be expected."""
    told = SCENARIOS[name]
    assert told.defect in DEFECTS
    with pytest.raises(AssertionError) as finding:
        tell(told, tmp_path, defective=True)
    assert re.search(told.saw, str(finding.value)), finding.value
