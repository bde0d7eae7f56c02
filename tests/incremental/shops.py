"""A small shop, the requests of a run, and the state that the run leaves."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, Config, WarehouseSettings
from ometria_replica.replication import sync
from ometria_replica.schema import Column, Table, md5
from ometria_replica.ways_to_read import Pages
from ometria_simulator import Account
from tests import replicas
from tests.duck import Row, read_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ometria_replica.report import RunReport
    from ometria_replica.run_context import Progress
    from ometria_simulator import Server

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
YEAR = 365 * DAY
IN_A_HURRY = CATALOG + Table(
    "hurry",
    Pages("data-deletion-requests", requests_per_minute=60_000),
    md5("id"),
    columns=(Column("id", "request_id"),),
    identity=(("id",),),
)
"""Six requests a minute for deletion requests would take ten seconds each."""


def small_shop() -> Account:
    """Return a shop of three profiles, a dynamic and a static list and an opt-out, all old."""
    shop = Account(now=NOON - 90 * DAY)
    for name in ("ann", "bob", "cat"):
        shop.add_profile(name, email=f"{name}@example.com")
    shop.add_list("10", type="DYNAMIC", title="Lovers")
    shop.add_list("20", type="STATIC", title="VIP")
    shop.refresh_list("10", enter=["ann"], leave=[])
    shop.refresh_list("20", enter=["bob"], leave=[])
    shop.add_unsubscribe("bob", email_address="bob@example.com")
    shop.set_time(NOON)
    return shop


def account(
    server: Server | None = None, folder: Path | None = None, **more: Any
) -> AccountSettings:
    """Return settings like :func:`tests.replicas.account`, with any other setting by name."""
    names = {"account_id": "1042", "source_id": "uk"}
    names |= {name: more.pop(name) for name in list(more) if name in names}
    return dataclasses.replace(replicas.account(server, folder, **names), **more)


def config(warehouse: Path, *accounts: AccountSettings) -> Config:
    """Return the settings for a sync of *accounts* into a file."""
    return Config(accounts=accounts, warehouse=WarehouseSettings(url=f"duckdb:///{warehouse}"))


def replicate(
    warehouse: Path,
    *accounts: AccountSettings,
    at: datetime | Callable[[], datetime],
    progress: Progress | None = None,
    **options: Any,
) -> RunReport:
    """Sync into the file; the clock stays at *at*, unless that is a clock itself."""
    clock = at if callable(at) else lambda: at
    return sync(config(warehouse, *accounts), clock=clock, progress=progress, **options)


def state(warehouse: Path, name: str) -> list[Row]:
    """Return the rows of a state table in a fixed order."""
    return read_file(warehouse, f"ometria_replica.{name}", order="ALL")


def watermark_of(
    warehouse: Path, table: str, name: str = "watermark", source_id: str = "uk"
) -> datetime:
    """Return one watermark, which must exist."""
    (found,) = [
        row["reached_at"]
        for row in state(warehouse, "watermarks")
        if (row["source_id"], row["table_name"], row["kind"]) == (source_id, table, name)
    ]
    assert isinstance(found, datetime)
    return found


class ReceivedRequests:
    """The requests that a server receives from now on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = len(server.requests)

    def paths(self) -> list[str]:
        """Return the paths, sorted, without the version."""
        return sorted(r.path.removeprefix("/v2/") for r in self._server.requests[self._before :])

    def values(self, path: str, parameter: str) -> set[str | None]:
        """Return the values of *parameter* in requests of *path*; None for a missing one."""
        return {
            r.query.get(parameter)
            for r in self._server.requests[self._before :]
            if r.path == f"/v2/{path}"
        }

    def lists(self) -> list[str]:
        """Return the ids of the lists whose changes were requested."""
        return sorted({path.split("/")[1] for path in self.paths() if path.endswith("/changes")})

    def __len__(self) -> int:
        return len(self._server.requests) - self._before
