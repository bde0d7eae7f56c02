"""A small shop, synced once, with its simulated account still running."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ometria_replica import load_config, sync
from ometria_simulator import Account, Feed, serve
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


TABLES = {"OMETRIA_TABLES": "profiles,lists,member_lists,unsubscribes,email_events,orders"}
"""The five, and a further one of which a page has a query."""

KEPT = {"OMETRIA_HISTORY": "profiles,lists", "OMETRIA_KEEP_RECORDS": "true"}
"""What else pages have queries of."""


@dataclass(frozen=True)
class Shop:
    """A folder with ``warehouse.duckdb``, and the variables of an account that can be read."""

    folder: Path
    environ: Mapping[str, str]
    account: Account


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Sync a simulated account into ``warehouse.duckdb``."""
    folder = tmp_path_factory.mktemp("shop")
    account = Account.create(profiles=600, lists=6, email_events=3_000)
    account.request_deletion(account.profiles[0].email or "ann@example.com")
    export = folder / "export"
    Feed(account, str(export)).export_history()
    with serve(account, requests_per_second=None) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # The folder of the rate limit.
        environ = {
            "OMETRIA_API_KEY": server.key,
            "OMETRIA_API_URL": server.url,
            "OMETRIA_FEED_URL": str(export),
            "OMETRIA_REQUESTS_PER_SECOND": "1000",
            "OMETRIA_WAREHOUSE_URL": f"duckdb:///{folder}/warehouse.duckdb",
        }
        of_dlt = {
            "SOURCES__OMETRIA__API_KEY": server.key,
            "SOURCES__OMETRIA__API_URL": server.url,
            "SOURCES__OMETRIA__FEED_URL": str(export),
            "SOURCES__OMETRIA__REQUESTS_PER_SECOND": "1000",
            "DLT_DATA_DIR": str(folder / "dlt"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        sync(load_config(None, environ | TABLES | KEPT))
        yield Shop(folder, {**_plain_environment(), **environ, **of_dlt}, account)


@pytest.fixture(scope="session")
def database(shop: Shop) -> str:
    """Sync the same account into a database of a PostgreSQL server, and name the database."""
    name = postgres().new_database()
    environ = {**shop.environ, **TABLES, **KEPT}
    sync(load_config(None, environ, warehouse_url=postgres().url(name)))
    return name


def _plain_environment() -> dict[str, str]:
    """Return the environment without the variables of an account."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMETRIA_", "AWS_"))
    }
