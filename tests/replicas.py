"""Sync into a DuckDB file by the real program, in this process, and look at what it left."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ometria_replica.config import (
    AccountSettings,
    Config,
    FeedSettings,
    Secret,
    WarehouseSettings,
)
from ometria_replica.replication import sync
from tests.duck import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.report import RunReport, TableReport
    from ometria_simulator import Server
    from tests.duck import Row

TABLES = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")


def account(
    server: Server | None = None,
    folder: Path | None = None,
    *,
    account_id: str = "1042",
    source_id: str = "uk",
) -> AccountSettings:
    """Give the settings of an account that is read from a simulator, a folder, or both."""
    return AccountSettings(
        account_id=account_id,
        source_id=source_id,
        api_key=Secret(server.key, "the test") if server else None,
        api_url=server.url if server else "https://api.ometria.com/v2",
        requests_per_second=1000,
        feed=FeedSettings(url=str(folder), settle_seconds=0) if folder else None,
    )


def replicate(
    warehouse: Path,
    *accounts: AccountSettings,
    at: datetime,
    tables: Sequence[str] = (),
    full: bool = False,
    dry_run: bool = False,
) -> RunReport:
    """Sync *accounts* into the file *warehouse*; it is *at* all the time."""
    config = Config(accounts=accounts, warehouse=WarehouseSettings(url=f"duckdb:///{warehouse}"))
    return sync(config, tables, full=full, dry_run=dry_run, clock=lambda: at)


def of(report: RunReport, table: str) -> TableReport:
    """Find what a run did to *table*, which it did for one account only."""
    (found,) = [each for each in report.tables if each.table == table]
    return found


def everything(warehouse: Path, *, load_time: bool = False) -> dict[str, list[Row]]:
    """Read the five tables, ordered by key, by default without the load time."""
    return {
        name: [
            row if load_time else {column: row[column] for column in row if column != "__synced_at"}
            for row in read_file(warehouse, f"ometria.{name}", order="__sync_key")
        ]
        for name in TABLES
    }


def write_feed_file(
    folder: Path, name: str, modified_at: datetime, records: Iterable[Mapping[str, object]]
) -> None:
    """Write JSON lines, last changed at *modified_at*."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    os.utime(path, (modified_at.timestamp(), modified_at.timestamp()))
