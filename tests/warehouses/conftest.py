"""A place of each kind, new for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.places import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place

SLOW = {
    "test_conformance.py": ("delta", "dlt+duckdb", "dlt+postgres"),
    "test_account.py": ("iceberg", "dlt+postgres"),
}
"""Kinds that pass these cases in `make test-all` only. In `make test`, Iceberg covers remotes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases of slow kinds."""
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("place")  # type: ignore[attr-defined]
        if kind in SLOW.get(item.path.name, ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=list(KINDS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written, and remove it afterwards."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()
