"""What tests/README.md says of the suite."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import REPEATS

TESTS = Path(__file__).parents[1]


def test_the_readme_names_each_file_with_slow_tests() -> None:
    """So that a reader knows what `make test` leaves to `make test-all`."""
    text = (TESTS / "README.md").read_text(encoding="utf-8").partition("## What only")[2]
    named = set(re.findall(r"`(tests/[^`]+)`", text))
    slow = {
        str(path.relative_to(TESTS.parent))
        for path in TESTS.rglob("test_*.py")
        if "pytest.mark.slow" in path.read_text(encoding="utf-8") and path != Path(__file__)
    }
    assert named == slow | {f"tests/{each.file}" for each in REPEATS}
