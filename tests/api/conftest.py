"""A small shop that is served, and the settings of its account as variables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ometria_replica import load_config
from ometria_simulator import Account, Feed, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ometria_replica import Config
    from ometria_simulator import Server


@pytest.fixture(scope="session")
def shop() -> Account:
    """Return an account of a few people, of whom one has opted out."""
    return Account.create(profiles=25, lists=2, email_events=30, now=datetime.now(UTC))


@pytest.fixture(scope="session")
def export(shop: Account, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the export of the shop."""
    folder = tmp_path_factory.mktemp("export")
    Feed(shop, str(folder)).export_history()
    return folder


@pytest.fixture(scope="session")
def server(shop: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the shop, without a rate limit."""
    with serve(shop, requests_per_second=None) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield running


@pytest.fixture
def environ(server: Server, export: Path, tmp_path: Path) -> dict[str, str]:
    """Return the variables of an account, and of a warehouse that is not there yet."""
    return {
        "OMETRIA_ACCOUNT_ID": "shop",
        "OMETRIA_API_KEY": server.key,
        "OMETRIA_API_URL": server.url,
        "OMETRIA_FEED_URL": str(export),
        "OMETRIA_REQUESTS_PER_SECOND": "1000",
        "OMETRIA_WAREHOUSE_URL": f"duckdb:///{tmp_path}/w.duckdb",
    }


@pytest.fixture
def config_of(environ: dict[str, str]) -> Callable[..., Config]:
    """Return what makes settings, of which any variable can be another."""

    def made(**variables: str) -> Config:
        return load_config(None, environ | variables)

    return made


@pytest.fixture
def config(config_of: Callable[..., Config]) -> Config:
    """Return the settings of the account."""
    return config_of()
