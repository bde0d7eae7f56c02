from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Account, Server, serve
from tests.incremental.shops import small_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop() -> Account:
    """Make a small shop, everything in it old."""
    return small_shop()


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve it, as fast as anybody asks."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "w.duckdb"
