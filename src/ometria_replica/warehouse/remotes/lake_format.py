"""What a lake needs of a table format: tables, their versions, and their upkeep."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from ometria_replica.schema import StateTable, Table
    from ometria_replica.selection import Selection
    from ometria_replica.warehouse.upkeep import Due, Files, Maintained, Upkeep

RETENTION = timedelta(days=7)
"""For how long a version of a table stays after it was replaced, unless the user says otherwise."""

ABANDONED = timedelta(hours=24)
"""
The age from which a file that belongs to no version is one that a killed run has left.

A younger one may be that of a commit under way, which takes seconds in a sync, and some hours at
most in another program.
"""
BUCKETS = (
    "If the bucket of {place} has versioning, replication or backups, those keep the removed"
    " files until they expire."
)


class LakeTable(Protocol):
    """A table as it was when it was opened."""

    def schema(self) -> pa.Schema:
        """Return the Arrow schema."""

    def comments(self) -> Mapping[str, str] | None:
        """
        Read the comments of columns, and of the table, under ``""``.

        None where each would cost a commit of its own, so that none is written later.
        """

    def write_comments(self, comments: Mapping[str, str]) -> None:
        """Write comments in one commit. Not called where :meth:`comments` returns None."""

    def rows(
        self, selection: Selection, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """
        Read rows; those with other values than selected may be among them.

        Of *columns*, or of all of them.
        """

    def scan(self) -> object:
        """Return what a DuckDB can register as a relation, and read any number of times."""

    def count(self, selection: Selection) -> int:
        """Count rows."""

    def data_files(self) -> Files:
        """Tell how many data files the table has, and how large they are, by its metadata."""

    def append(self, rows: pa.RecordBatchReader) -> None:
        """Add rows. Raises CommitConflict if the table has changed since it was opened."""

    def overwrite(self, selection: Selection, rows: pa.RecordBatchReader) -> None:
        """Write *rows* in place of a selection in which they all lie. Raises as append()."""


class Lake(Protocol):
    """A place with tables."""

    @property
    def place(self) -> str:
        """The name in messages, without a password."""

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours, without their text: it may quote personal data."""

    def open(self, schema: str, name: str) -> LakeTable | None:
        """Open a table as it is now; None if it does not exist."""

    def create(
        self,
        schema: str,
        name: str,
        columns: Sequence[tuple[str, str]],
        comments: Mapping[str, str],
    ) -> None:
        """
        Create a table with *columns* of our types, unless it exists by now.

        *comments* are those of columns by name, and that of the table under ``""``.
        """

    def expire(self, schema: str, name: str, older_than: timedelta) -> None:
        """
        Remove versions of a table of the state that were replaced that long ago.

        Only some of them, and none while they are so few that it does not pay.
        """

    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained:
        """Write small files of a table, which exists, together, and remove old versions."""

    def maintenance_due(self, schema: str, name: str) -> Due | None:
        """Return whether a table should be maintained, by its metadata; None if not, or none."""

    def forget_deleted(self, schema: str, name: str) -> Sequence[str]:
        """
        Remove all versions of a table but the newest, with their files and statistics.

        Returns what stays, as parts of a sentence. Raises CommitConflict if the table changes
        meanwhile.
        """

    def kept_elsewhere(self) -> str:
        """Say what the place itself may keep of files that were removed; empty for a folder."""

    def check_access(self) -> None:
        """Raise WarehouseError if this user cannot write here, as far as a look can tell."""


def abandoned(files: int) -> str:
    """Say that young files that belong to no version were not removed."""
    return (
        f"{counted(files, 'file')} that a run may be writing, or may have left when it was killed"
        f" less than {ABANDONED // timedelta(hours=1)} hours ago"
    )
