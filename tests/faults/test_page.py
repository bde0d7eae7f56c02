from __future__ import annotations

from tests.faults.page import PAGE, page


def test_the_page_lists_the_scenarios_and_defects_of_the_code() -> None:
    """The page says what the suite does: run ``python -m tests.faults.page`` to write it."""
    assert PAGE.read_text(encoding="utf-8") == page()
