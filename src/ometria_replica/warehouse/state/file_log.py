"""The file log: which versions of export files were read, and which are tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.batch import WaitingFile
from ometria_replica.failpoints import step
from ometria_replica.records import FeedObject
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import FILES, LISTED, REJECTS, RETRY_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ometria_replica.batch import Batch, FileLogEntry
    from ometria_replica.warehouse.state.watermarks import Watermarks

ENOUGH_NAMES = 50  # So many names must sort by time before only later names are listed.

# A name counts as sorted when it follows all names that are older by a week: within a week
# files may come in any order, since the listing begins before them all.
_NAMES_BY_TIME = """
WITH known AS (
  SELECT name{bytewise} AS name, modified_at, read_again FROM {files}
  WHERE source_id = ? AND table_name = ?
), compared AS (
  SELECT name, modified_at, read_again, max(modified_at) OVER () AS newest,
    max(name) OVER (ORDER BY modified_at
      RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL '7 days' PRECEDING) AS older
  FROM known
)
SELECT
  max(CASE WHEN modified_at < newest - INTERVAL '7 days' THEN name END),
  count(CASE WHEN name > older THEN 1 END),
  count(CASE WHEN name <= older THEN 1 END),
  count(CASE WHEN read_again THEN 1 END)
FROM compared
"""


@dataclass(frozen=True)
class FileLog(Part):
    """
    The file log of one warehouse.

    The times of complete listings, and those from which files are tried again, are *watermarks*.
    """

    watermarks: Watermarks

    @reads("reading the file log")
    def new_files(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """
        Keep the files whose version the file log lacks, or wants to be read again.

        In a bucket a version may come back, after another one of its name: it is read again.
        """
        if not files:
            return []
        first = min((file.name for file in files), key=str.encode)
        seen: dict[tuple[str, str, int], datetime] = {}
        newest: dict[str, datetime] = {}
        for name, etag, size, at in self._engine.rows(
            f"SELECT name, etag, size, modified_at FROM {self._readable(FILES)}"
            " WHERE source_id = ? AND table_name = ? AND NOT read_again"
            f" AND name{self._engine.bytewise} >= ?{self._engine.bytewise}",
            [source_id, table_name, first],
        ):
            seen[name, etag, size] = at
            newest[name] = max(at, newest.get(name, at))

        def is_new(file: FeedObject) -> bool:
            at = seen.get((file.name, file.etag, file.size))
            return at is None or at < newest[file.name] < file.modified_at

        return [file for file in files if is_new(file)]

    @reads("reading the file log")
    def waiting_files(
        self, source_id: str, table_name: str, retry: Mapping[str, datetime]
    ) -> dict[str, WaitingFile]:
        """Find the files, by name, that are tried again from the times in *retry* on."""
        if not retry:
            return {}
        rows = self._engine.rows(
            "SELECT name, etag, size, modified_at, loaded_at, unreadable_because"
            f" FROM {self._readable(FILES)} WHERE source_id = ? AND table_name = ?"
            " AND read_again AND unreadable_because IS NOT NULL ORDER BY loaded_at",
            [source_id, table_name],
        )
        return {
            name: WaitingFile(FeedObject(name, etag, size, at), tried_at, reason, retry[name])
            for name, etag, size, at, tried_at, reason in rows
            if name in retry
        }

    @reads("reading the file log")
    def list_after(self, source_id: str, table_name: str, waiting: int = 0) -> str | None:
        """
        Find the name after which new export files come; None if they can have any name.

        None unless each name in the log sorts after all that are older by a week, and while the
        log wants a file to be read again, apart from those *waiting*.
        """
        query = _NAMES_BY_TIME.format(files=self._readable(FILES), bytewise=self._engine.bytewise)
        ((last_old, sorted_names, broken, read_again),) = self._engine.rows(
            query, [source_id, table_name]
        )
        if broken or read_again > waiting or sorted_names < ENOUGH_NAMES:
            return None
        return str(last_old) if last_old is not None else None

    @writes("noting the listing", "the listing")
    def set_listed(
        self, source_id: str, table_name: str, feed: str, at: datetime, run_id: str
    ) -> None:
        """Note that all files of *feed* were listed, and none of them is left to read."""
        self.watermarks.put(source_id, table_name, {f"{LISTED}{feed}": at}, run_id)

    @writes("noting the listing")
    def forget_listed(self, source_id: str, table_name: str, feed: str) -> None:
        """Make the next run list all files of *feed*."""
        self.watermarks.forget(source_id, table_name, f"{LISTED}{feed}")

    @writes("forgetting files")
    def forget_waiting(self, source_id: str, table_name: str, names: Sequence[str]) -> None:
        """Forget files that could not be read and are no longer there."""
        self._forget_waiting([source_id, table_name], names)
        self._engine.execute(
            f"DELETE FROM {self._engine.name(REJECTS)} WHERE source_id = ? AND table_name = ?"
            f" AND {sql.among('origin', names)}",
            [source_id, table_name, *names],
        )

    # --- within a session, or a transaction, of the caller ---

    def counts(self, source_id: str, table_name: str) -> tuple[datetime | None, int, int]:
        """Count the versions of a table, and the unreadable ones, after the last load time."""
        found: tuple[datetime | None, int, int] = self._engine.rows(
            "SELECT max(loaded_at), count(*), count(unreadable_because)"
            f" FROM {self._readable(FILES)} WHERE source_id = ? AND table_name = ?",
            [source_id, table_name],
        )[0]
        return found

    def write(self, batch: Batch) -> None:
        """Write the files of a batch, within its transaction."""
        with step("file log"):
            key = [batch.source_id, batch.table.name]
            if tried := [entry.file.name for entry in batch.files if entry.was_waiting]:
                self._forget_waiting(key, tried)  # Another version of the file, perhaps.
            entries = self._keeping_loads(key, batch.files)
            self._engine.replace(FILES, *(_file_row(batch, entry) for entry in entries))
            waiting = {
                f"{RETRY_FILE}{entry.file.name}": entry.retry_at
                for entry in batch.files
                if entry.retry_at is not None
            }
            self.watermarks.put(batch.source_id, batch.table.name, waiting, batch.run_id)

    def read_again(self, source_id: str, table_name: str, since: datetime | None) -> None:
        """Have files that have changed *since* then read again; None means all of them."""
        of_time = "" if since is None else " AND modified_at >= ?"
        self._engine.execute(
            f"UPDATE {self._engine.name(FILES)} SET read_again = true"
            f" WHERE source_id = ? AND table_name = ?{of_time}",
            [source_id, table_name, *([] if since is None else [since])],
        )

    def _forget_waiting(self, key: Sequence[str], names: Sequence[str]) -> None:
        self.watermarks.forget(*key, *(f"{RETRY_FILE}{name}" for name in names))
        files = self._engine.name(FILES)
        waiting = (
            "source_id = ? AND table_name = ? AND read_again AND unreadable_because IS NOT NULL"
            f" AND {sql.among('name', names)}"
        )
        self._engine.execute(f"DELETE FROM {files} WHERE {waiting} AND records = 0", [*key, *names])
        self._engine.execute(  # Their rows stay, and so does the order among files.
            f"UPDATE {files} SET read_again = false, unreadable_because = NULL WHERE {waiting}",
            [*key, *names],
        )

    def _keeping_loads(
        self, key: Sequence[str], entries: Sequence[FileLogEntry]
    ) -> list[FileLogEntry]:
        """
        Keep the time and records of versions that were loaded before and cannot be read now.

        By that time their rows are known, which older files must not replace.
        """
        names = [entry.file.name for entry in entries if entry.unreadable_because is not None]
        if not names:
            return list(entries)
        rows = self._engine.rows(
            f"SELECT name, etag, size, loaded_at, records FROM {self._engine.name(FILES)}"
            " WHERE source_id = ? AND table_name = ? AND records > 0"
            f" AND {sql.among('name', names)}",
            [*key, *names],
        )
        known = {(name, etag, size): load for name, etag, size, *load in rows}
        kept = []
        for entry in entries:
            load = known.get((entry.file.name, entry.file.etag, entry.file.size))
            if load and entry.unreadable_because is not None:
                entry = replace(entry, loaded_at=load[0], records=load[1])  # noqa: PLW2901 -- It.
            kept.append(entry)
        return kept


def _file_row(batch: Batch, entry: FileLogEntry) -> list[object]:
    """Return the row of a file, its values in the order of the columns."""
    file = entry.file
    return [
        *(batch.source_id, batch.table.name, file.name, file.etag, file.size),
        *(file.modified_at, entry.loaded_at, entry.records),
        *(entry.unreadable_because, entry.retry_at is not None, batch.run_id),
    ]
