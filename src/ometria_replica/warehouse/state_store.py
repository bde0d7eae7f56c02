"""What the warehouse remembers, read and written: owners, leases, marks, ledger, rejects, runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.batch import Lease, Owner, Reject, Run, TableState
from ometria_replica.errors import Busy, ConfigError
from ometria_replica.keys import keys_may_meet
from ometria_replica.mapping import REJECT_COLUMNS, conversion
from ometria_replica.processes import is_running, process_start
from ometria_replica.steps import step
from ometria_replica.tables import TABLES
from ometria_replica.warehouse.state_tables import (
    ACCOUNTS,
    DELETED_UPSTREAM,
    FILES,
    FULL_READ,
    LEASES,
    LISTED,
    REJECTS,
    RETRY,
    RUNS,
    WATERMARK,
    WATERMARKS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Column, Table
    from ometria_replica.warehouse.engines.base import Engine
    from ometria_replica.warehouse.state_tables import StateTable


_AT_ONCE = 1_000  # Rows in one statement.

ENOUGH_NAMES = 50  # That followed all older ones, before new files are looked for after them.

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
class StateStore:
    """
    The state tables of one engine. What belongs together is the caller's transaction.

    A table that is not there yet counts as empty when it is read.
    """

    run: Engine

    # --- whose rows, and who may write them ---

    def owners(self) -> list[Owner]:
        """List whose rows are here."""
        if not self.run.has(ACCOUNTS):
            return []
        return [
            Owner(*row)
            for row in self.run.rows(
                f"SELECT account_id, source_id, wide_keys FROM {self.run.state(ACCOUNTS)}"
                " ORDER BY account_id"
            )
        ]

    def is_known(self, owner: Owner) -> bool:
        """Tell whether an owner is on the list; raise ConfigError where one like it stands."""
        for known in self.owners():
            if known == owner:
                return True
            _refuse_to_mix(owner, known, self.run.place)
        return False

    def note(self, owner: Owner, now: datetime) -> None:
        """Put an owner on the list, unless another run that began with this one has done it."""
        self.run.lock(ACCOUNTS)
        if self.is_known(owner):
            return
        with step("account"):
            self.run.insert(ACCOUNTS, [owner.account_id, owner.source_id, owner.wide_keys, now])

    def take(self, lease: Lease, now: datetime) -> None:
        """Take a lease. Raises Busy while another run, that may be alive, holds it."""
        self.run.lock(LEASES)
        self.refuse_beside_others(lease, now)
        self.run.delete(LEASES, source_id=lease.source_id)
        row = [lease.source_id, lease.run_id, lease.host, lease.pid, lease.process]
        with step("lease"):
            self.run.insert(LEASES, [*row, now, lease.expires_at])

    def refuse_beside_others(self, lease: Lease, now: datetime) -> None:
        """Raise Busy while another run, that may be alive, holds a lease of the same source."""
        for held in self._leases(lease.source_id):
            if held.run_id != lease.run_id and held.expires_at > now and _is_alive(held):
                raise Busy(
                    f"{held} is loading '{lease.source_id}' into {self.run.place}, until"
                    f" {held.expires_at:%H:%M:%S} UTC at the latest. Run again when it is done."
                )

    def release_lease(self, lease: Lease) -> None:
        """End a lease; nothing happens if it is no longer ours."""
        with step("release of the lease"):
            self.run.delete(LEASES, source_id=lease.source_id, run_id=lease.run_id)

    def holder(self, source_id: str) -> Lease | None:
        """Tell which run holds a source's lease."""
        held = self._leases(source_id) if self.run.has(LEASES) else []
        return held[0] if held else None

    def _leases(self, source_id: str) -> list[Lease]:
        rows = self.run.rows(
            "SELECT source_id, run_id, host, pid, expires_at, process"
            f" FROM {self.run.state(LEASES)} WHERE source_id = ?",
            [source_id],
        )
        return [Lease(*row) for row in rows]

    # --- how far each table has come ---

    def table_state(self, source_id: str, table_name: str) -> TableState:
        """Tell what is known of a table of a source."""
        if not self.run.has(WATERMARKS):
            return TableState()
        key = [source_id, table_name]
        marks = dict(
            self.run.rows(
                f"SELECT kind, reached_at FROM {self.run.state(WATERMARKS)}"
                " WHERE source_id = ? AND table_name = ?",
                key,
            )
        )
        loaded_at, files, unreadable = self.run.rows(
            "SELECT max(loaded_at), count(*), count(unreadable_because)"
            f" FROM {self.run.state(FILES)} WHERE source_id = ? AND table_name = ?",
            key,
        )[0]
        return TableState(
            watermark=marks.get(WATERMARK),
            whole_at=marks.get(FULL_READ),
            unread=_called(marks, RETRY),
            listed=_called(marks, LISTED),
            loaded_at=loaded_at,
            files=files,
            unreadable=unreadable,
            rejects=self._count(REJECTS, key),
            missing=self._count(DELETED_UPSTREAM, key),
        )

    def count_rows(self, source_id: str, table_name: str) -> int:
        """Count a source's rows of one of the five."""
        return self.run.count_rows(table_name, source_id)

    def new_files(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """Keep the files of which the ledger lacks this version, or is to read it again."""
        if not files or not self.run.has(FILES):
            return list(files)
        first = min((file.name for file in files), key=str.encode)
        seen = set(
            self.run.rows(
                f"SELECT name, etag, size FROM {self.run.state(FILES)}"
                " WHERE source_id = ? AND table_name = ? AND NOT read_again"
                f" AND name{self.run.bytewise} >= ?{self.run.bytewise}",
                [source_id, table_name, first],
            )
        )
        return [file for file in files if (file.name, file.etag, file.size) not in seen]

    def list_after(self, source_id: str, table_name: str) -> str | None:
        """Tell after which name new files are, if the ledger's names have always shown it."""
        if not self.run.has(FILES):
            return None
        last_old, sorted_pairs, broken, read_again = self.run.rows(
            _NAMES_BY_TIME.format(files=self.run.state(FILES), bytewise=self.run.bytewise),
            [source_id, table_name],
        )[0]
        if broken or read_again or sorted_pairs < ENOUGH_NAMES:
            return None
        return str(last_old) if last_old is not None else None

    def set_listed(
        self, source_id: str, table_name: str, feed: str, at: datetime, run_id: str
    ) -> None:
        """Note that all files of *feed* were listed and read."""
        self.run.replace(WATERMARKS, [source_id, table_name, f"{LISTED}{feed}", at, run_id])

    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """Move the watermark back to *to*, and have the ledger's files since then read again."""
        key = [source_id, table_name]
        marks, files = self.run.state(WATERMARKS), self.run.state(FILES)
        of_table = "WHERE source_id = ? AND table_name = ?"
        if to is None:
            self.run.execute(f"DELETE FROM {marks} {of_table}", key)
            self.run.execute(f"UPDATE {files} SET read_again = true {of_table}", key)
            return
        self.run.execute(
            f"UPDATE {marks} SET reached_at = ? {of_table} AND reached_at > ?", [to, *key, to]
        )
        self.run.execute(
            f"UPDATE {files} SET read_again = true {of_table} AND modified_at >= ?", [*key, to]
        )

    def _count(self, table: StateTable, key: Sequence[object]) -> int:
        return self.run.scalar(
            f"SELECT count(*) FROM {self.run.state(table)} WHERE source_id = ? AND table_name = ?",
            key,
        )

    # --- the history of runs ---

    def record(self, run: Run) -> None:
        """Add a run to the history, or replace it."""
        row = [run.run_id, run.started_at, run.finished_at, run.outcome, run.version, run.report]
        with step("history"):
            self.run.replace(RUNS, row)

    def runs(self, limit: int) -> list[Run]:
        """Read the newest runs, newest first."""
        if not self.run.has(RUNS):
            return []
        return [
            Run(*row)
            for row in self.run.rows(
                "SELECT run_id, started_at, finished_at, outcome, version, report"
                f" FROM {self.run.state(RUNS)}"
                f" ORDER BY started_at DESC, run_id DESC LIMIT {limit:d}"
            )
        ]

    # --- what was set aside ---

    def rejects(self, limit: int) -> list[Reject]:
        """Read what was set aside, newest first."""
        if not self.run.has(REJECTS):
            return []
        names = (*REJECT_COLUMNS[1:], "rejected_at")
        return [
            Reject(**dict(zip(names, row, strict=True)))
            for row in self.run.rows(
                f"SELECT {', '.join(names)} FROM {self.run.state(REJECTS)}"
                " ORDER BY rejected_at DESC, source_id, table_name, origin, position"
                f" LIMIT {limit:d}"
            )
        ]

    def replay(self, source_id: str, staging: DuckDBPyConnection) -> int:
        """Convert again in *staging*, and have files that could not be read be read again."""
        files, rejects = self.run.state(FILES), self.run.state(REJECTS)
        self.run.execute(
            f"UPDATE {files} SET read_again = true WHERE source_id = ?"
            " AND (unreadable_because IS NOT NULL OR EXISTS (SELECT 1"
            f" FROM {rejects} r WHERE r.source_id = {files}.source_id"
            f" AND r.table_name = {files}.table_name AND r.origin = {files}.name"
            " AND r.sync_key IS NULL))",
            [source_id],
        )
        return sum(
            self._convert_again(source_id, table, column, staging)
            for table in TABLES
            for column in table.columns
            if column.type != "text"
        )

    def _convert_again(
        self, source_id: str, table: Table, column: Column, staging: DuckDBPyConnection
    ) -> int:
        """Put into the table what converts today; a value that came since then stays."""
        rejected = self.run.rows(
            f"SELECT reject_id, sync_key, raw FROM {self.run.state(REJECTS)}"
            " WHERE source_id = ? AND table_name = ? AND column_name = ?",
            [source_id, table.name, column.name],
        )
        values = _converted(staging, column, [raw for *_, raw in rejected])
        found = [
            (reject_id, key, value)
            for (reject_id, key, _), value in zip(rejected, values, strict=True)
            if value is not None
        ]
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            self.run.fill_in(table, column, [(key, value) for _, key, value in some])
            self.run.execute(
                f"DELETE FROM {self.run.state(REJECTS)}"
                f" WHERE reject_id IN ({', '.join('?' for _ in some)})",
                [reject_id for reject_id, *_ in some],
            )
        return len(found)


def _called(marks: Mapping[str, datetime], prefix: str) -> dict[str, datetime]:
    return {
        mark.removeprefix(prefix): reached
        for mark, reached in marks.items()
        if mark.startswith(prefix)
    }


def _converted(
    staging: DuckDBPyConnection, column: Column, texts: Sequence[str | None]
) -> list[Any]:
    """Convert *texts* as the mapping does: None where one still will not."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a replay needs it.

    staging.register("rejected_texts", pa.table({"raw": pa.array(texts, pa.string())}))
    try:
        found = staging.execute(f"SELECT {conversion('raw', column)} FROM rejected_texts")
        return [value for (value,) in found.fetchall()]
    finally:
        staging.unregister("rejected_texts")


def _refuse_to_mix(owner: Owner, known: Owner, place: str) -> None:
    """Raise ConfigError where the keys of two owners could not be told apart."""
    if known.account_id == owner.account_id and known.source_id == owner.source_id:
        raise ConfigError(
            f"wide_keys: {place} holds account '{owner.account_id}' with wide_keys ="
            f" {str(known.wide_keys).lower()}. Other keys would load every event a second"
            " time. Put the old value back, or use a new warehouse."
        )
    if owner.account_id == known.account_id or owner.source_id == known.source_id:
        raise ConfigError(
            f"source_id: account '{owner.account_id}' with source '{owner.source_id}' does"
            f" not fit {place}, which holds account '{known.account_id}' as source"
            f" '{known.source_id}'. Every key contains the source id, so another would"
            " load every row a second time. Put the old value back, or use a new warehouse."
        )
    if keys_may_meet(owner.source_id, known.source_id):
        raise ConfigError(
            f"source_id: '{owner.source_id}' and '{known.source_id}', which {place}"
            " holds, begin alike. Keys join the source id with an id and nothing between,"
            " so that theirs could meet. Use another source_id, or a new warehouse."
        )


def _is_alive(lease: Lease) -> bool:
    """Tell whether the process of a lease may still run; of another machine, we cannot know."""
    if lease.host != os.uname().nodename:
        return True
    return is_running(lease.pid) and lease.process in {"", process_start(lease.pid)}
