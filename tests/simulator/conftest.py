from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Account, Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def account() -> Account:
    """Return an empty account."""
    return Account()


@pytest.fixture
def server(account: Account) -> Iterator[Server]:
    """Serve the empty account over HTTP, without a rate limit."""
    with serve(account, requests_per_second=None) as running:
        yield running


@pytest.fixture
def shop() -> Account:
    """Return a small shop with a history."""
    return Account.create(profiles=300, lists=5, email_events=800)
