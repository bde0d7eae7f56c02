"""The state store: accounts, watermarks, the file log, deleted records and the run history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.batch import Owner, Run, TableState, WaitingFile
from ometria_replica.errors import ConfigError
from ometria_replica.failpoints import step
from ometria_replica.mapping import SEEN_KEYS
from ometria_replica.read_position import InterruptedRead, ReadPosition
from ometria_replica.records import FeedObject
from ometria_replica.source_ids import keys_may_meet
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import (
    ACCOUNTS,
    DELETED_UPSTREAM,
    EMPTIED,
    END,
    FILES,
    FULL_READ,
    LISTED,
    POSITION,
    REFRESHED,
    REJECTS,
    RETRY,
    RETRY_FILE,
    RUNS,
    WATERMARK,
    WATERMARKS,
    WRITTEN,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.batch import Batch, FileLogEntry
    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.changes import Changes

_NOTED = 5  # Rows: a few, because a user may delete some of them.
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
class StateStore(Part):
    """The state tables of one warehouse."""

    # --- accounts ---

    @reads("reading the accounts")
    def owners(self) -> list[Owner]:
        """List the accounts whose rows are here."""
        return self._owners()

    def _owners(self) -> list[Owner]:
        return [
            Owner(*row)
            for row in self._engine.rows(
                "SELECT account_id, source_id, wide_keys"
                f" FROM {self._readable(ACCOUNTS)} ORDER BY account_id"
            )
        ]

    def is_known(self, owner: Owner) -> bool:
        """Return whether an account is on the list. Raises ConfigError if its keys have changed."""
        for known in self._owners():
            if known == owner:
                return True
            _refuse_to_mix(owner, known, self._engine.place)
        return False

    @writes("noting the account")
    def add_owner(self, owner: Owner, now: datetime) -> None:
        """Put an account on the list, unless a run that began at the same time has done it."""
        self._engine.lock(ACCOUNTS)
        if self.is_known(owner):
            return
        with step("account"):
            row = [owner.account_id, owner.source_id, owner.wide_keys, now]
            self._engine.insert(ACCOUNTS, row)

    # --- how far each table was read ---

    @reads("reading the state")
    def table_state(self, source_id: str, table_name: str) -> TableState:
        """Read the state of one table of one source."""
        key = [source_id, table_name]
        marks = dict(
            self._engine.rows(
                f"SELECT kind, reached_at FROM {self._readable(WATERMARKS)}"
                " WHERE source_id = ? AND table_name = ?",
                key,
            )
        )
        loaded_at, files, unreadable = self._engine.rows(
            "SELECT max(loaded_at), count(*), count(unreadable_because)"
            f" FROM {self._readable(FILES)} WHERE source_id = ? AND table_name = ?",
            key,
        )[0]
        return TableState(
            watermark=marks.get(WATERMARK),
            full_read_at=marks.get(FULL_READ),
            retry=_with_prefix(marks, RETRY),
            listed=_with_prefix(marks, LISTED),
            refreshed=_with_prefix(marks, REFRESHED),
            retry_files=_with_prefix(marks, RETRY_FILE),
            loaded_at=loaded_at,
            files=files,
            unreadable=unreadable,
            rejects=self._count(REJECTS, key),
            deleted_upstream=self._count(DELETED_UPSTREAM, key),
            interrupted=_interrupted(marks),
            ends=tuple(_positions(marks, END)),
        )

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
        self._engine.replace(WATERMARKS, [source_id, table_name, f"{LISTED}{feed}", at, run_id])

    @writes("noting the listing")
    def forget_listed(self, source_id: str, table_name: str, feed: str) -> None:
        """Make the next run list all files of *feed*."""
        self._forget_marks([source_id, table_name], [f"{LISTED}{feed}"])

    @writes("forgetting files")
    def forget_waiting(self, source_id: str, table_name: str, names: Sequence[str]) -> None:
        """Forget files that could not be read and are no longer there."""
        self._forget_waiting([source_id, table_name], names)
        self._engine.execute(
            f"DELETE FROM {self._engine.name(REJECTS)} WHERE source_id = ? AND table_name = ?"
            f" AND origin IN ({', '.join('?' for _ in names)})",
            [source_id, table_name, *names],
        )

    def _forget_waiting(self, key: Sequence[str], names: Sequence[str]) -> None:
        self._forget_marks(key, [f"{RETRY_FILE}{name}" for name in names])
        files = self._engine.name(FILES)
        waiting = (
            "source_id = ? AND table_name = ? AND read_again AND unreadable_because IS NOT NULL"
            f" AND name IN ({', '.join('?' for _ in names)})"
        )
        self._engine.execute(f"DELETE FROM {files} WHERE {waiting} AND records = 0", [*key, *names])
        self._engine.execute(  # Their rows stay, and so does the order among files.
            f"UPDATE {files} SET read_again = false, unreadable_because = NULL WHERE {waiting}",
            [*key, *names],
        )

    def _forget_marks(self, key: Sequence[str], kinds: Sequence[str]) -> None:
        self._engine.execute(
            f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ? AND table_name = ?"
            f" AND kind IN ({', '.join('?' for _ in kinds)})",
            [*key, *kinds],
        )

    @writes("rewinding")
    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """
        Make the next run read again the records since *to*; None means all of them.

        The watermark moves back, never on. Files of the export since then are read again.
        """
        self._rewind(source_id, table_name, to)

    def forget_rows(self, source_id: str, table_name: str, now: datetime) -> None:
        """Rewind a table whose rows are gone, within a transaction of the caller."""
        self._rewind(source_id, table_name, None)
        self._engine.execute(
            f"UPDATE {self._engine.name(DELETED_UPSTREAM)} SET removed_at = ?"
            " WHERE source_id = ? AND table_name = ? AND removed_at IS NULL",
            [now, source_id, table_name],
        )

    def _rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        key = [source_id, table_name]
        marks, files = self._engine.name(WATERMARKS), self._engine.name(FILES)
        of_table = "WHERE source_id = ? AND table_name = ?"
        if to is None:
            self._engine.execute(f"DELETE FROM {marks} {of_table} AND kind <> ?", [*key, EMPTIED])
            self._engine.execute(f"UPDATE {files} SET read_again = true {of_table}", key)
            return
        self._engine.execute(
            f"DELETE FROM {marks} {of_table} AND (starts_with(kind, ?) OR starts_with(kind, ?))",
            [*key, POSITION, END],
        )
        self._engine.execute(
            f"UPDATE {marks} SET reached_at = ? {of_table} AND reached_at > ? AND kind <> ?",
            [to, *key, to, EMPTIED],
        )
        self._engine.execute(
            f"UPDATE {files} SET read_again = true {of_table} AND modified_at >= ?", [*key, to]
        )

    def _count(self, table: StateTable, key: Sequence[object]) -> int:
        return self._engine.scalar(
            f"SELECT count(*) FROM {self._readable(table)} WHERE source_id = ? AND table_name = ?",
            key,
        )

    # --- state committed with a batch ---

    def write(self, changes: Changes, batch: Batch) -> None:
        """Write the state of a batch, within the transaction of its rows."""
        self._write_files(batch)
        self._write_deleted(changes, batch)
        self._write_watermarks(batch)
        if changes.replaces and self._engine.notes_replaced:
            self._note_replaced(changes, batch)

    def write_inside(self, changes: Changes, batch: Batch) -> None:
        """
        Write the state of a table that is inside that of *batch*: it was read as far.

        That nothing is inside any record need not be a loss.
        """
        retry: dict[str, datetime] | None = None if batch.retry is None else {}
        self._write_watermarks(replace(batch, table=changes.table, retry=retry, refreshed={}))
        if changes.removes and not self._engine.holding([changes.table], batch.source_id):
            row = [batch.source_id, changes.table.name, EMPTIED, batch.synced_at, batch.run_id]
            self._engine.replace(WATERMARKS, row)

    def _write_files(self, batch: Batch) -> None:
        with step("file log"):
            key = [batch.source_id, batch.table.name]
            if tried := [entry.file.name for entry in batch.files if entry.was_waiting]:
                self._forget_waiting(key, tried)  # Another version of the file, perhaps.
            entries = self._keeping_loads(key, batch.files)
            self._engine.replace(FILES, *(_file_row(batch, entry) for entry in entries))
            waiting = [entry for entry in batch.files if entry.retry_at is not None]
            marks = [[*key, f"{RETRY_FILE}{entry.file.name}", entry.retry_at] for entry in waiting]
            self._engine.replace(WATERMARKS, *([*mark, batch.run_id] for mark in marks))

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
            f" AND name IN ({', '.join('?' for _ in names)})",
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

    def _write_deleted(self, changes: Changes, batch: Batch) -> None:
        """Add the rows that a full read did not find; drop those whose records came back."""
        if batch.table.record_id is None:
            return
        self._forget_deleted(batch, changes.rows)
        if changes.gone is None:
            return
        self._forget_deleted(batch, SEEN_KEYS)
        deleted, key = (
            self._engine.name(DELETED_UPSTREAM),
            [batch.source_id, batch.table.name],
        )
        with step("deleted upstream"):
            self._engine.execute(
                f"INSERT INTO {deleted} ({', '.join(DELETED_UPSTREAM.column_names)})"
                " SELECT ?::VARCHAR, ?::VARCHAR, __sync_key, record_id,"
                f" ?::TIMESTAMPTZ, NULL::TIMESTAMPTZ, ?::VARCHAR FROM {changes.gone} gone"
                f" WHERE NOT EXISTS (SELECT 1 FROM {deleted} known"
                " WHERE known.source_id = ? AND known.table_name = ?"
                " AND known.sync_key = gone.__sync_key)",
                [*key, batch.synced_at, batch.run_id, *key],
            )
            if changes.removes:
                self._engine.execute(
                    f"UPDATE {deleted} SET removed_at = ? WHERE source_id = ? AND table_name = ?"
                    f" AND sync_key IN (SELECT __sync_key FROM {changes.gone})",
                    [batch.synced_at, *key],
                )

    def _forget_deleted(self, batch: Batch, found: str) -> None:
        """Drop the rows whose keys are in the temporary table *found*."""
        self._engine.execute(
            f"DELETE FROM {self._engine.name(DELETED_UPSTREAM)}"
            " WHERE source_id = ? AND table_name = ?"
            f" AND sync_key IN (SELECT __sync_key FROM {found})",
            [batch.source_id, batch.table.name],
        )

    def _write_watermarks(self, batch: Batch) -> None:
        key = [batch.source_id, batch.table.name]
        marks = {WATERMARK: batch.watermark, FULL_READ: batch.full_read_at}
        with step("watermarks"):
            if batch.retry is not None or batch.interrupted is not None:
                self._engine.execute(
                    f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ?"
                    " AND table_name = ? AND (starts_with(kind, ?) OR starts_with(kind, ?))",
                    [*key, POSITION, POSITION if batch.retry is None else RETRY],
                )
            if batch.ends is not None:
                self._engine.execute(
                    f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ?"
                    " AND table_name = ? AND starts_with(kind, ?)",
                    [*key, END],
                )
                marks |= {f"{END}{position}": batch.watermark for position in batch.ends}
            if batch.retry is not None:
                marks |= {f"{RETRY}{_storable(name)}": due for name, due in batch.retry.items()}
            marks |= {
                f"{REFRESHED}{_storable(name)}": seen for name, seen in batch.refreshed.items()
            }
            if batch.interrupted is not None:
                marks[f"{POSITION}{batch.interrupted.position}"] = batch.interrupted.began_at
            rows = [[*key, kind, at, batch.run_id] for kind, at in marks.items() if at is not None]
            self._engine.replace(WATERMARKS, *rows)

    def _note_replaced(self, changes: Changes, batch: Batch) -> None:
        """Note the load time of a few rows that are replaced: see :mod:`.lost_rows`."""
        key = [batch.source_id, batch.table.name]
        self._engine.execute(
            f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE source_id = ?"
            " AND table_name = ? AND starts_with(kind, ?)",
            [*key, WRITTEN],
        )
        rows = self._engine.rows(
            f"SELECT __sync_key, __synced_at FROM {changes.rows} WHERE __sync_key IN"
            f" (SELECT __sync_key FROM {changes.replaced} LIMIT {_NOTED})"
        )
        self._engine.replace(
            WATERMARKS, *([*key, f"{WRITTEN}{name}", at, batch.run_id] for name, at in rows)
        )

    # --- the run history ---

    @writes("recording the run", "the history")
    def record(self, run: Run, *, may_be_known: bool = False) -> None:
        """
        Add a run to the history.

        Where a look at the history costs, a run that *may_be_known* there, because another run
        has taken it for ended, says so.
        """
        self._add(run, may_be_known=may_be_known or self._engine.rewrites_unchanged)

    def _add(self, run: Run, *, may_be_known: bool = False) -> None:
        row = [run.run_id, run.started_at, run.finished_at, run.outcome, run.version, run.report]
        with step("history"):
            if may_be_known:
                self._engine.replace(RUNS, row)
            else:
                self._engine.insert(RUNS, row)

    @writes("recording a run that did not end", "the history")
    def record_unended(self, run: Run) -> None:
        """Add a run to the history, unless it is there: then it ended, except for its lease."""
        known = f"SELECT 1 FROM {self._readable(RUNS)} WHERE run_id = ?"
        if not self._engine.rows(known, [run.run_id]):
            self._add(run)

    @reads("reading the run history")
    def runs(self, limit: int) -> list[Run]:
        """Read the newest runs, newest first."""
        return [
            Run(*row)
            for row in self._engine.rows(
                "SELECT run_id, started_at, finished_at, outcome, version, report"
                f" FROM {self._readable(RUNS)}"
                f" ORDER BY started_at DESC, run_id DESC LIMIT {limit:d}"
            )
        ]


def _file_row(batch: Batch, entry: FileLogEntry) -> list[object]:
    """Return the row of a file, its values in the order of the columns."""
    file = entry.file
    return [
        *(batch.source_id, batch.table.name, file.name, file.etag, file.size),
        *(file.modified_at, entry.loaded_at, entry.records),
        *(entry.unreadable_because, entry.retry_at is not None, batch.run_id),
    ]


_NUL = r"\u0000"


def _storable(name: str) -> str:
    """Escape a NUL, which PostgreSQL does not store; :func:`_with_prefix` reads it back."""
    return name.replace("\0", _NUL)


def _with_prefix(marks: Mapping[str, datetime], prefix: str) -> dict[str, datetime]:
    return {
        kind.removeprefix(prefix).replace(_NUL, "\0"): reached
        for kind, reached in marks.items()
        if kind.startswith(prefix)
    }


def _interrupted(marks: Mapping[str, datetime]) -> InterruptedRead | None:
    for text, began_at in _with_prefix(marks, POSITION).items():
        if (position := ReadPosition.parse(text)) is not None:
            return InterruptedRead(position, began_at)
    return None


def _positions(marks: Mapping[str, datetime], prefix: str) -> Iterator[ReadPosition]:
    for text in _with_prefix(marks, prefix):
        if (position := ReadPosition.parse(text)) is not None:
            yield position


def _refuse_to_mix(owner: Owner, known: Owner, place: str) -> None:
    """Raise ConfigError where the keys of two accounts could not be told apart."""
    if known.account_id == owner.account_id and known.source_id == owner.source_id:
        raise ConfigError(
            f"wide_keys: {place} holds account '{owner.account_id}' with wide_keys ="
            f" {str(known.wide_keys).lower()}. Other keys would load every event a second"
            " time. Restore the old value, or use a new warehouse."
        )
    if owner.account_id == known.account_id or owner.source_id == known.source_id:
        raise ConfigError(
            f"source_id: account '{owner.account_id}' with source '{owner.source_id}' does"
            f" not fit {place}, which holds account '{known.account_id}' as source"
            f" '{known.source_id}'. Every key contains the source id, so another would"
            " load every row a second time. Restore the old value, or use a new warehouse."
        )
    if keys_may_meet(owner.source_id, known.source_id):
        raise ConfigError(
            f"source_id: '{owner.source_id}' and '{known.source_id}', which {place}"
            " holds, begin alike. Keys join the source id with an id and nothing between,"
            " so that two keys could be equal. Use another source_id, or a new warehouse."
        )
