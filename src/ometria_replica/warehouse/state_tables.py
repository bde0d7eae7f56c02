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
    from ometria_replica.schema import ColumnType

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
    (
        ("account_id", "text"),
        ("source_id", "text"),
        ("wide_keys", "boolean"),
        ("first_run_at", "timestamptz"),
    ),
    key=("account_id",),
)
"""How an account was first loaded. Another source id or other keys would load all rows again."""

WATERMARKS = StateTable(
    "watermarks",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("kind", "text"),
        ("reached_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "kind"),
)
"""
How far a table has been read, in Ometria's own time.

``watermark``: nothing before it is unread. ``whole``: when it was last read whole.
``unread LIST``: an exception, a list whose changes are due from then on. ``listed FEED``:
when the files of a feed were last listed from the first name on, and all of them read.
"""

WATERMARK, FULL_READ, RETRY, LISTED = "watermark", "full_read", "retry ", "listed "

LEASES = StateTable(
    "leases",
    (
        ("source_id", "text"),
        ("run_id", "text"),
        ("host", "text"),
        ("pid", "integer"),
        ("process", "text"),
        ("taken_at", "timestamptz"),
        ("expires_at", "timestamptz"),
    ),
    key=("source_id", "run_id"),
)
"""Which run may write a source's rows. Renewed with every batch, gone when the run ends."""

DELETED_UPSTREAM = StateTable(
    "deleted_upstream",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("sync_key", "text"),
        ("record_id", "text"),
        ("first_missed_at", "timestamptz"),
        ("removed_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "sync_key"),
)
"""Profiles and lists that a whole read did not find. *removed_at* None: the row is still there."""

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
        ("read_again", "boolean"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "name", "etag", "size"),
)
"""
The ledger of the feed: every version of every file that was read, or could not be.

*loaded_at* is the ``__synced_at`` of the file's rows, and of no other file's.
*read_again* asks the next run to read the file as if it were new.
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

STATE_TABLES = (ACCOUNTS, WATERMARKS, LEASES, FILES, REJECTS, DELETED_UPSTREAM, RUNS)
