"""
The tables of the state in a lake, which each run writes several times: they are kept small.

Rows are appended until a table has too many files for its size. Then the commit that adds rows
writes the others anew beside them, so that it costs no commit of its own and a crash leaves
either all of it or nothing. Versions that were replaced are removed when no reader can need them
any more, some at a time.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from ometria_replica import sql
from ometria_replica.errors import CommitConflict, WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.selection import ALL
from ometria_replica.warehouse.remotes.base import retried
from ometria_replica.warehouse.state_tables import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.remotes.base import StateChange
    from ometria_replica.warehouse.remotes.lake_format import Lake, LakeTable
    from ometria_replica.warehouse.remotes.lake_joins import Joins

logger = logging.getLogger(__name__)

GRACE = timedelta(hours=1)
"""For how long a version of a table of the state can be read after it was replaced."""

MOST_FILES = 8  # Of a small table: an open reads each, which in a bucket takes some 20 ms.
BYTES_PER_FILE = 4 * 2**20
"""
A larger table may have one more file for each of these.

So rows are written anew once in so many appends as the table has such parts, which on average is
at most this for each.
"""
COMMITS = 32  # Of a table, after which a long run removes versions before its end.
IN_MEMORY = 8 * 2**20  # Bytes on disk of a table that is read once; a larger one is streamed.

_STORED, _NEW, _GONE = "stored_state", "new_state", "gone_state"


class LakeState:
    """The tables of the state in *lake*; *open_table* opens one, which must exist."""

    def __init__(
        self, joins: Joins, lake: Lake, open_table: Callable[[StateTable], LakeTable]
    ) -> None:
        self._joins = joins
        self._lake = lake
        self._open = open_table
        self._commits: dict[StateTable, int] = {}

    def write(self, changes: Sequence[StateChange]) -> None:
        """
        Write at once, or after a commit conflict again: other runs write other rows meanwhile.

        Then in place of the new rows too: a store may do what it reports as failed.
        """
        for change in changes:
            with step("remote state"):
                try:
                    self._write(change)
                except CommitConflict:
                    keys = change.new.select(change.table.key)
                    again = replace(change, gone=pa.concat_tables([change.gone, keys]))
                    retried(partial(self._write, again))
            self._commits[change.table] = self._commits.get(change.table, 0) + 1
        is_over = any(change.table is RUNS for change in changes)  # Nothing waits for the run.
        for table, commits in tuple(self._commits.items()):
            if is_over or commits >= COMMITS:
                del self._commits[table]
                self._expire(table)

    def _write(self, change: StateChange) -> None:
        table, gone, new = change.table, change.gone, change.new
        names = ", ".join(sql.quoted(name) for name in table.column_names)
        with self._lake.explaining("writing the state"), self._joins.registered(_NEW, new):
            there = self._open(table)
            size = there.data_files()
            rows = there.rows(ALL).read_all() if 0 < size.bytes <= IN_MEMORY else None
            is_split = size.count >= MOST_FILES + size.bytes // BYTES_PER_FILE
            with self._joins.registered(_GONE, gone):
                if not is_split and not (gone.num_rows and self._holds_any(there, table, rows)):
                    self._joins.stream(f"SELECT {names} FROM {_NEW}", there.append)
                    return
                with self._joins.registered(_STORED, there.rows(ALL) if rows is None else rows):
                    self._joins.stream(
                        f"SELECT {names} FROM {_STORED} f WHERE NOT EXISTS"
                        f" (SELECT 1 FROM {_GONE} g WHERE {_same_key(table)})"
                        f" UNION ALL SELECT {names} FROM {_NEW}",
                        lambda kept: there.overwrite(ALL, kept),
                    )

    def _holds_any(self, there: LakeTable, table: StateTable, rows: pa.Table | None) -> bool:
        """Return whether the table, of which *rows* are in memory if it is small, has a key."""
        with self._joins.registered(_STORED, there.rows(ALL) if rows is None else rows):
            found = f"SELECT 1 FROM {_STORED} f JOIN {_GONE} g ON {_same_key(table)} LIMIT 1"
            return bool(self._joins.connection.execute(found).fetchall())

    def _expire(self, table: StateTable) -> None:
        try:
            with self._lake.explaining("removing old versions"), step("old versions"):
                self._lake.expire(sql.schema_of(table), table.name, GRACE)
        except WarehouseError as error:
            logger.info("%s", error)  # The next run does it.


def _same_key(table: StateTable) -> str:
    names = [sql.quoted(name) for name in table.key]
    return " AND ".join(f"f.{name} IS NOT DISTINCT FROM g.{name}" for name in names)
