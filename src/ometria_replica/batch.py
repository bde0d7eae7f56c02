"""
The values that sources and warehouses exchange: a batch, table state, a lease, what a load did.

They lie below ``ometria`` and ``warehouse``, which never import each other.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.processes import process_start

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ometria_replica.field_paths import NotedField
    from ometria_replica.read_position import InterruptedRead, ReadPosition
    from ometria_replica.records import FeedObject
    from ometria_replica.schema import ColumnTreatment, Table
    from ometria_replica.suppressions import JoinedId


@dataclass(frozen=True)
class FileLogEntry:
    """
    A version of an export file that a batch loads. *loaded_at* is its rows' ``__synced_at``.

    *unreadable_because* is None for a file that could be read. *retry_at* is the time from which
    it is tried again; None means never. *was_waiting* says that it had such a time.
    """

    file: FeedObject
    loaded_at: datetime
    records: int
    unreadable_because: str | None = None
    retry_at: datetime | None = None
    was_waiting: bool = False


@dataclass(frozen=True)
class WaitingFile:
    """A version of an export file that could not be read, and is tried again from *retry_at* on."""

    file: FeedObject
    tried_at: datetime
    reason: str
    retry_at: datetime


@dataclass(frozen=True)
class Owner:
    """
    An account whose rows a run writes, and how their keys are made.

    *treatments* are those of its columns, and *history* are the names of the tables of which it
    keeps every version; owners that differ in nothing else are equal.
    """

    account_id: str
    source_id: str
    wide_keys: bool = False
    treatments: frozenset[ColumnTreatment] = field(default=frozenset(), compare=False)
    history: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True)
class Lease:
    """
    The right of one run to write the rows of one source, until *expires_at*.

    *process* is the start time of the process, which tells it from a later process with the
    same *pid*; empty where the system does not give it.
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
        return cls(source_id, run_id, platform.node(), pid, expires_at, process_start(pid))

    def as_data(self) -> dict[str, object]:
        """Return the fields that commands print as JSON."""
        names = ("source_id", "run_id", "host", "pid", "expires_at")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return f"run {self.run_id} (process {self.pid} on {self.host})"


@dataclass(frozen=True)
class TableState:
    """
    The state of one table of one source.

    *watermark* None: the table was never read to its end. *full_read_at* None: never in full.
    *loaded_at* is the newest time in the file log. *files*, *unreadable*, *rejects* and
    *deleted_upstream* count rows of the state tables. *retry* maps each list that Ometria could
    not answer for to the time from which its changes are due. *listed* maps each feed to the
    time of its last complete listing. *refreshed* maps each list to its refresh
    when its changes were last read. *interrupted* is a full read that did not end, to be
    continued; None if there is none. *retry_files* maps the name of each file that could not be
    read to the time from which it is tried again. *ends* are where the last reads of collections
    that grow have ended.
    """

    watermark: datetime | None = None
    full_read_at: datetime | None = None
    loaded_at: datetime | None = None
    files: int = 0
    unreadable: int = 0
    rejects: int = 0
    deleted_upstream: int = 0
    retry: Mapping[str, datetime] = field(default_factory=dict)
    listed: Mapping[str, datetime] = field(default_factory=dict)
    refreshed: Mapping[str, datetime] = field(default_factory=dict)
    interrupted: InterruptedRead | None = None
    retry_files: Mapping[str, datetime] = field(default_factory=dict)
    ends: tuple[ReadPosition, ...] = ()


@dataclass(frozen=True)
class Reject:
    """
    A rejected value, record, line or file.

    *column_name* is None for a whole record or line. *position* counts from 1 in *origin*, the
    name of a file or a request. *raw* is the text from Ometria and may be personal data. Both
    are None for a whole file.
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
class DeletionRequest:
    """
    A request to Ometria to anonymise a person, without personal data.

    *created_text* and *completed_text* are the times as they came, also where they did not
    convert; *completed_at* None: not yet. *hashed_emails* is a JSON list of the addresses that
    replaced those of the person, of whom Ometria knows so many *identities*.
    """

    request_id: str
    action: str | None
    created_at: datetime | None
    created_text: str | None
    completed_at: datetime | None
    completed_text: str | None
    identities: int
    hashed_emails: str


@dataclass(frozen=True)
class DeleteDetection:
    """
    How to treat rows whose records a full read did not find.

    The keys that it found are in the temporary view ``seen_keys``. The rows are removed only
    with *remove*, and only if they are at most *max_share* of the source's rows.
    """

    remove: bool
    max_share: float


@dataclass(frozen=True)
class Part:
    """
    Rows of *table* that a batch carries beside its own, in the temporary table *staged*.

    *staged* has the columns of *table*, and one row for each key. *parent* names the column with
    the ``record_id`` of the record that a row is inside. The column ``parent`` of the temporary
    table *whole* has the ids of the records of which all rows are staged, so that others inside
    them are gone. None: nothing is gone. In both cases rows are removed with their record, which
    without *parent* is the one with their own key. *rejected* is the temporary table of the
    rejects; None if there are none.
    """

    table: Table
    staged: str
    parent: str | None = None
    whole: str | None = None
    rejected: str | None = None

    @property
    def relations(self) -> tuple[str, ...]:
        """The temporary tables of the part."""
        return tuple(name for name in (self.staged, self.whole, self.rejected) if name)


@dataclass(frozen=True)
class Batch:
    """
    Staged rows of one table, and the state to commit with them.

    *watermark* None leaves the watermark. The last batch of a full read sets *full_read_at*,
    and *deletes* for a table whose records can be deleted. *retry*, unless it is None, replaces
    the lists that are noted for a retry, and ends an interrupted read. *is_full* marks every
    batch of a full read. *refreshed* are the refreshes of lists whose changes were read.
    *interrupted* is how far a full read has come with the batch; None leaves what is noted.
    *joined_ids* are suppressed from now on. *parts* are rows of other tables, which are written
    with the batch. *fields* are what the state notes of fields of kept records. *ends*, unless they
    are None, replace where the last reads of growing collections have ended. *any_time* says that
    an event may replace a row with another time, so that rows of any time are searched for its key.
    """

    table: Table
    source_id: str
    run_id: str
    synced_at: datetime
    watermark: datetime | None = None
    full_read_at: datetime | None = None
    files: tuple[FileLogEntry, ...] = ()
    deletes: DeleteDetection | None = None
    retry: Mapping[str, datetime] | None = None
    lease: Lease | None = None
    is_full: bool = False
    refreshed: Mapping[str, datetime] = field(default_factory=dict)
    interrupted: InterruptedRead | None = None
    joined_ids: tuple[JoinedId, ...] = ()
    parts: tuple[Part, ...] = ()
    fields: tuple[NotedField, ...] = ()
    ends: tuple[ReadPosition, ...] | None = None
    any_time: bool = False


@dataclass(frozen=True)
class BatchSize:
    """
    How much a warehouse takes at once: *records* of the API, *bytes* and *files* of the export.

    Bytes are sizes in the bucket, so mostly compressed.
    """

    records: int = 5_000  # Some 20 pages: less than a read-ahead holds.
    bytes: int = 32 * 2**20  # Bounds memory: twice as much took 1.1 GB.
    files: int = 500  # Thousands of tiny files still become few transactions.


@dataclass(frozen=True)
class Loaded:
    """
    The result of a batch, in rows.

    *unchanged* rows had the same contents and get a new ``__synced_at``. *older* rows were left
    out because the row in the table is from a newer file. *merged* counts distinct events that
    replaced another under their key. *deleted_upstream* rows were not found by a full read;
    *removed* of them were removed, unless there were too many: *removal_refused*. The settings let
    at most *removable* be removed. *parts* are the results of the batch's parts by the full names
    of their tables.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    older: int = 0
    merged: int = 0
    deleted_upstream: int = 0
    removed: int = 0
    removable: int = 0
    removal_refused: bool = False
    parts: Mapping[str, Loaded] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A row of the run history."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    outcome: str
    version: str
    report: str
