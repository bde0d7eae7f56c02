"""A place of each kind, new for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.places import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place


@pytest.fixture(params=list(KINDS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written, and remove it afterwards."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()
