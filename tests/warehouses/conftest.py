"""A place of each kind, new for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.places import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place

SLOW = ("delta", "dlt+duckdb", "dlt+postgres")
"""Kinds that pass the conformance cases in `make test-all` only: Iceberg stands for remotes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the conformance cases of slow kinds."""
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("place")  # type: ignore[attr-defined]
        if kind in SLOW and item.path.name == "test_conformance.py":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=list(KINDS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written, and remove it afterwards."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()
