"""
Tries a sync in one transaction that is rolled back, so that `check` finds what would fail.

Privileges, triggers and policies are as many as a database has: only the statements themselves
tell whether a role may run them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.batch import Batch, DeleteDetection, FileLogEntry, Lease, Owner, Run
from ometria_replica.batching import parts_of
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import RECORD, REJECTED, STAGED, Staging
from ometria_replica.records import FeedObject
from ometria_replica.version import __version__
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

SOURCE = "!check"
"""The source of the rows that are tried. The id of an account's source has no such character."""


def try_sync(warehouse: Warehouse, tables: Catalog, now: datetime) -> bool:
    """
    Load a row into each of *tables*, replace it and remove it, and keep nothing.

    Does nothing where a database cannot roll all of that back, and returns whether it can. Raises
    as a sync would.
    """
    with warehouse.rolled_back("trying a sync") as trial:
        if trial is None:
            return False
        lease = Lease.of_this_process(SOURCE, SOURCE, now + timedelta(minutes=1))
        kept = frozenset(table.name for table in tables if table.keeps_history)
        trial.prepare(Owner(SOURCE, SOURCE, history=kept), now)
        trial.leases.acquire(lease, now)
        for table in tables:
            for is_last in (False, False, True) if table.record_id else (False, False):
                trial.load(_staged(trial, table, lease, now, is_last=is_last))
        trial.runs.record(Run(SOURCE, now, now, "dry run", __version__, "{}"))
        trial.leases.release(lease)
    return True


def _staged(trial: Warehouse, table: Table, lease: Lease, now: datetime, *, is_last: bool) -> Batch:
    """Stage a row and a reject; the last batch ends a full read that has not found the row."""
    removes = is_last and table.record_id is not None
    values = {
        "text": sql.literal(SOURCE),
        "boolean": "true",
        "date": f"DATE '{now:%Y-%m-%d}'",
        "timestamptz": f"TIMESTAMPTZ '{now.isoformat()}'",
        "integer": "0",
        "decimal": "0",
    }
    row = ", ".join(values[column.type] for column in table.all_columns)
    with translating("trying a sync", trial.connection):
        staging = Staging(trial.connection, table, SOURCE, SOURCE)
        if not removes:
            names = f"{sql.names(table)}{f', {RECORD}' if table.keeps_records else ''}"
            row += ", '{}'" if table.keeps_records else ""
            trial.connection.execute(f"INSERT INTO {STAGED} ({names}) SELECT {row}")
        trial.connection.execute(
            f"INSERT INTO {REJECTED} (reject_id, source_id, table_name, sync_key, reason)"
            " SELECT $1 || $2, $1, $2, $1, $1",
            [SOURCE, table.name],
        )
        staging.collect_keys(afresh=True)
    file = FeedObject(SOURCE, SOURCE, 0, now)
    return Batch(
        table=table,
        source_id=SOURCE,
        run_id=SOURCE,
        synced_at=now,
        watermark=now,
        full_read_at=now if removes else None,
        files=(FileLogEntry(file, now, 0, SOURCE),) if isinstance(table.read, Feed) else (),
        deletes=DeleteDetection(remove=True, max_share=1.0) if removes else None,
        retry={},
        lease=lease,
        is_full=removes,
        parts=parts_of(staging),
    )
