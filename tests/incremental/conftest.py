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
    """Return a small shop whose records are all old."""
    return small_shop()


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve the shop over HTTP, without a rate limit."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist yet."""
    return tmp_path / "w.duckdb"
