"""What a person does between two runs: look at the state, rewind it, try rejects again."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

from ometria_replica.batch import Lease
from ometria_replica.config import masked
from ometria_replica.errors import ConfigError
from ometria_replica.replication import LEASE, owner_of, utc_now
from ometria_replica.report import aligned
from ometria_replica.selection import Selection
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.warehouse.warehouse import Warehouse

_RAW_WIDTH = 60  # Characters of a raw value: the whole is in the rejects table.


def show_state(config: Config) -> str:
    """Tell, for each source and table, how far it was read, and which run is at work."""
    lines = [
        [
            "source",
            "table",
            "rows",
            "read until (UTC)",
            "files",
            "unreadable",
            "rejects",
            "deleted upstream",
        ]
    ]
    running = []
    with open_warehouse(config.warehouse.url, dry_run=True) as warehouse:
        for owner in warehouse.owners():
            for table in TABLES:
                known = warehouse.table_state(owner.source_id, table.name)
                until = f"{known.watermark:%Y-%m-%d %H:%M:%S}" if known.watermark else "-"
                numbers = (known.files, known.unreadable, known.rejects, known.deleted_upstream)
                counts = [f"{number:,}" for number in numbers]
                rows = f"{warehouse.count(table, Selection(owner.source_id)):,}"
                lines.append([owner.source_id, table.name, rows, until, *counts])
            holder = warehouse.holder(owner.source_id)
            if holder:
                running.append(f"{owner.source_id}: {holder} is at work.")
    if len(lines) == 1:
        return "Nothing is known yet: no sync has run."
    return "\n".join([*aligned(lines, left=2), *running])


def rewind(config: Config, table_name: str, to: date | None) -> str:
    """
    Make the next run read a table again from *to* on; None means all of it.

    Raises ConfigError for a table that is none of ours, and Busy while a run is at work.
    """
    if table_name not in {table.name for table in TABLES}:
        names = ", ".join(table.name for table in TABLES)
        raise ConfigError(f"There is no table '{table_name}'. The tables are {names}.")
    moment = datetime.combine(to, time(), UTC) if to else None
    _refuse_if_unknown(config)
    with open_warehouse(config.warehouse.url) as warehouse:
        for account in config.accounts:
            with _leased(warehouse, account):
                warehouse.rewind(account.source_id, table_name, moment)
    since = f"what came since {to}" if to else "everything"
    return f"The next sync reads {table_name} again: {since}. No row was touched."


def list_rejects(config: Config, limit: int, *, raw: bool) -> str:
    """List what was set aside; what Ometria sent only if *raw*."""
    with open_warehouse(config.warehouse.url, dry_run=True) as warehouse:
        rejects = warehouse.rejects(limit)
    if not rejects:
        return "Nothing was rejected."
    lines = [["rejected (UTC)", "table", "column", "reason", "where", *(["raw"] if raw else [])]]
    for reject in rejects:
        where = f"{reject.origin}, {reject.position}" if reject.position else reject.origin
        line = [f"{reject.rejected_at:%Y-%m-%d %H:%M:%S}", reject.table_name]
        line += [reject.column_name or "(all of it)", reject.reason, where]
        lines.append([*line, repr((reject.raw or "")[:_RAW_WIDTH])] if raw else line)
    return "\n".join(aligned(lines, left=len(lines[0])))


def replay(config: Config) -> int:
    """Convert values again and mark unreadable files to be read again; return the values."""
    _refuse_if_unknown(config)
    with open_warehouse(config.warehouse.url) as warehouse:
        converted = 0
        for account in config.accounts:
            with _leased(warehouse, account):
                converted += warehouse.replay(account.source_id)
        return converted


def _refuse_if_unknown(config: Config) -> None:
    """Change nothing by hand where nothing was loaded: the address is likely wrong."""
    with open_warehouse(config.warehouse.url, dry_run=True) as warehouse:
        known = {owner.source_id for owner in warehouse.owners()}
    unknown = [account for account in config.accounts if account.source_id not in known]
    if unknown:
        raise ConfigError(
            f"{masked(config.warehouse.url)} holds nothing of source '{account.source_id}'."
            " Check warehouse.url and source_id, or run `ometria-replica sync` first."
            for account in unknown
        )


@contextmanager
def _leased(warehouse: Warehouse, account: AccountSettings) -> Iterator[None]:
    """Keep runs out while the state is changed by hand."""
    now = utc_now()
    warehouse.prepare(owner_of(account), now)
    lease = Lease.of_this_process(account.source_id, f"by hand {os.getpid()}", now + LEASE)
    warehouse.acquire_lease(lease, now)
    try:
        yield
    finally:
        warehouse.release_lease(lease)
