"""Fixtures of a shop that is served over HTTP and exported into a folder, for readers of both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Account, Feed, Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shop() -> Account:
    """Return a shop with a history until the real now; some names contain a NUL character."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Account.create(profiles=320, lists=5, email_events=800, nul_characters=True, now=now)


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve the shop over HTTP, without a rate limit."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def feed(shop: Account, tmp_path: Path) -> Feed:
    """Export the shop's events into a folder."""
    feed = Feed(shop, str(tmp_path / "feed"))
    feed.export_history()
    return feed
