"""
The values that sources and warehouses exchange: a batch, table state, a lease, what a load did.

They lie below ``ometria`` and ``warehouse``, which never import each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.processes import process_start

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Table


@dataclass(frozen=True)
class FileLogEntry:
    """
    A file that a batch brought. *loaded_at* is its rows' ``__synced_at``.

    *unreadable_because* is None for a file that was read.
    """

    file: FeedObject
    loaded_at: datetime
    records: int
    unreadable_because: str | None = None


@dataclass(frozen=True)
class Owner:
    """Whose rows a run writes, and how their keys are made."""

    account_id: str
    source_id: str
    wide_keys: bool = False


@dataclass(frozen=True)
class Lease:
    """
    The right of one run to write one source's rows, until *expires_at*.

    *process* tells the process from a later one with its *pid*; empty where nothing does.
    """

    source_id: str
    run_id: str
    host: str
    pid: int
    expires_at: datetime
    process: str = ""

    @classmethod
    def of_this_process(cls, source_id: str, run_id: str, expires_at: datetime) -> Lease:
        """Make the lease of a run in this process."""
        pid = os.getpid()
        return cls(source_id, run_id, os.uname().nodename, pid, expires_at, process_start(pid))

    def __str__(self) -> str:
        return f"run {self.run_id} (process {self.pid} on {self.host})"


@dataclass(frozen=True)
class TableState:
    """
    What the warehouse knows of one table of one source.

    *watermark* None: it was never read to the end. *whole_at* None: never whole.
    *loaded_at* is the newest of the ledger; the counts are of the ledger, and of what was
    set aside or not found. *unread* are lists whose changes Ometria would not give, and
    from when they are due. *listed* tells when each feed was last listed whole.
    """

    watermark: datetime | None = None
    whole_at: datetime | None = None
    loaded_at: datetime | None = None
    files: int = 0
    unreadable: int = 0
    rejects: int = 0
    missing: int = 0
    unread: Mapping[str, datetime] = field(default_factory=dict)
    listed: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """
    Something set aside. *column_name* None: a whole record, or a line of a file.

    *position* counts from 1 in *origin*, a file's name or a request. *raw* is what
    Ometria sent, and may be a person's data. Both are None for a whole file.
    """

    source_id: str
    table_name: str
    sync_key: str | None
    column_name: str | None
    raw: str | None
    reason: str
    origin: str
    position: int | None
    rejected_at: datetime


@dataclass(frozen=True)
class DeleteDetection:
    """
    What to do about rows that a whole read did not find.

    The keys it did find are in the staging table ``swept``. Rows are removed only if
    *remove*, and only if they are no more than *max_share* of the source's.
    """

    remove: bool
    max_share: float


@dataclass(frozen=True)
class Batch:
    """
    Staged rows, and the state that becomes true with them.

    *watermark* None leaves it where it is; *whole_at* is set by the last batch of a
    whole read; *sweep* as well, for tables whose records can go. *unread*, if not None,
    takes the place of the lists noted as unread. *whole* says that it is of a whole read,
    of which this may be a part.
    """

    table: Table
    source_id: str
    run_id: str
    synced_at: datetime
    watermark: datetime | None = None
    whole_at: datetime | None = None
    files: tuple[FileLogEntry, ...] = ()
    sweep: DeleteDetection | None = None
    unread: Mapping[str, datetime] | None = None
    lease: Lease | None = None
    whole: bool = False


@dataclass(frozen=True)
class BatchSize:
    """
    How much a warehouse takes at once: *records* of the API, *bytes* and *files* of the feed.

    Bytes are as the bucket lists them, so mostly compressed.
    """

    records: int = 5_000  # Some 20 pages: less than what is under way meanwhile.
    bytes: int = 32 * 2**20  # Bounds memory: twice as much took 1.1 GB.
    files: int = 500  # Thousands of tiny files still become few transactions.


@dataclass(frozen=True)
class Loaded:
    """
    What the merge did, in rows.

    *unchanged* rows were there already with the same contents, and have a new
    ``__synced_at``; *older* ones were left out, because the row that is there came
    from a newer file. *merged* are distinct events that replaced another under their key.
    *missing* rows were not found by a whole read; *removed* of them were taken out,
    unless *sweep_refused* because they were too many.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    older: int = 0
    merged: int = 0
    missing: int = 0
    removed: int = 0
    sweep_refused: bool = False


@dataclass(frozen=True)
class Run:
    """A row of the run history."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    outcome: str
    version: str
    report: str
