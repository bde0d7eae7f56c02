"""
What the replica remembers, in the schema ``ometria_replica`` beside the data.

Every warehouse has these tables, with these columns. They are written in the
transaction of the rows that they speak of, so state is never ahead of data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.mapping import REJECT_COLUMNS

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.mapping import Staging
    from ometria_replica.records import FeedObject
    from ometria_replica.schema import ColumnType, Table

DATA_SCHEMA = "ometria"
STATE_SCHEMA = "ometria_replica"


@dataclass(frozen=True)
class StateTable:
    """A table of the state schema: column names and types, and which columns are its key."""

    name: str
    columns: tuple[tuple[str, ColumnType | str], ...]
    key: tuple[str, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(name for name, _ in self.columns)


ACCOUNTS = StateTable(
    "accounts",
    (("account_id", "text"), ("source_id", "text"), ("first_run_at", "timestamptz")),
    key=("account_id",),
)
"""Which source id an account was first loaded with: another would re-key every row."""

WATERMARKS = StateTable(
    "watermarks",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("watermark", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name"),
)
"""Up to when a table has been read, in Ometria's own time."""

FILES = StateTable(
    "files",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("name", "text"),
        ("etag", "text"),
        ("size", "integer"),
        ("modified_at", "timestamptz"),
        ("loaded_at", "timestamptz"),
        ("records", "integer"),
        ("unreadable_because", "text"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "name", "etag", "size"),
)
"""
The ledger of the feed: every version of every file that was read, or could not be.

*loaded_at* is the ``__synced_at`` of the file's rows, and of no other file's.
"""

REJECTS = StateTable(
    "rejects",
    (
        *((name, "integer" if name == "position" else "text") for name in REJECT_COLUMNS),
        ("rejected_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("reject_id",),
)
"""Values that would not convert and records that nothing identifies, as they came."""

RUNS = StateTable(
    "runs",
    (
        ("run_id", "text"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
        ("outcome", "text"),
        ("version", "text"),
        ("report", "text"),
    ),
    key=("run_id",),
)
"""What each run did: its report as JSON text."""

STATE_TABLES = (ACCOUNTS, WATERMARKS, FILES, REJECTS, RUNS)


@dataclass(frozen=True)
class LedgerEntry:
    """
    A file that a batch brought. *loaded_at* is its rows' ``__synced_at``.

    *unreadable_because* is None for a file that was read.
    """

    file: FeedObject
    loaded_at: datetime
    records: int
    unreadable_because: str | None = None


@dataclass(frozen=True)
class Batch:
    """
    Staged rows, and the state that becomes true with them.

    *watermark* None leaves it where it is.
    """

    table: Table
    source_id: str
    staging: Staging
    run_id: str
    synced_at: datetime
    watermark: datetime | None = None
    files: tuple[LedgerEntry, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """
    What the merge did, in rows.

    *unchanged* rows were there already with the same contents, and have a new
    ``__synced_at``; *older* ones were left out, because the row that is there came
    from a newer file. *merged* are distinct events that replaced another under their key.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    older: int = 0
    merged: int = 0


@dataclass(frozen=True)
class Run:
    """A row of the run history."""

    run_id: str
    started_at: datetime
    finished_at: datetime
    outcome: str
    version: str
    report: str
