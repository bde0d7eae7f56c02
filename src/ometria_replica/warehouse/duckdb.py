"""DuckDB, the default warehouse: a file, attached to the DuckDB that maps the records."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Self

import duckdb

from ometria_replica.errors import Busy, ConfigError, WarehouseError
from ometria_replica.mapping import REJECT_COLUMNS, SQL_TYPES, conversion
from ometria_replica.scratch import is_running, process_mark, scratch_folder
from ometria_replica.settings import keys_may_meet
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.attached import CATALOG, WAIT_SECONDS, AttachedFile
from ometria_replica.warehouse.merge import Merge
from ometria_replica.warehouse.state import (
    ACCOUNTS,
    DATA_SCHEMA,
    FILES,
    LEASES,
    MARKS,
    MISSING,
    REJECTS,
    RUNS,
    STATE_SCHEMA,
    STATE_TABLES,
    UNREAD,
    WATERMARK,
    WHOLE,
    Batch,
    Lease,
    Loaded,
    Memory,
    Owner,
    Reject,
    Run,
)
from ometria_replica.warehouse.statements import Statements, instant, instant_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Column, Table
    from ometria_replica.warehouse.state import StateTable


class DuckDBWarehouse:
    """
    The file at *path*, made if it is not there.

    With *dry_run* it is opened to read only, or not made at all, and every statement
    that writes is left out. Another program's lock on it is waited for *wait_seconds*.
    """

    def __init__(
        self, path: str, *, dry_run: bool = False, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self.path = path
        self._dry_run = dry_run
        self._open = ExitStack()
        spill = self._open.enter_context(scratch_folder())
        self.staging = duckdb.connect(
            config={"temp_directory": str(spill), "autoinstall_known_extensions": "false"}
        )
        self.staging.execute("SET TimeZone = 'UTC'")  # A time without a zone is UTC.
        self._run = Statements(self.staging)
        self._file = AttachedFile(self.staging, path, read_only=dry_run, wait_seconds=wait_seconds)

    # --- the protocol ---

    def prepare(self, owner: Owner, now: datetime) -> None:
        """See the protocol."""
        with self._file.using("preparing the schemas"):
            for table in TABLES:
                self._check_columns(table)  # Before anything is made: nothing is changed then.
            known = self._is_known(owner)
            if not self._dry_run:
                self._create_what_is_missing()
            if not known and not self._dry_run:
                self._run.insert(
                    ACCOUNTS, [owner.account_id, owner.source_id, owner.wide_keys, now]
                )

    def owners(self) -> list[Owner]:
        """See the protocol."""
        with self._file.using("reading the accounts"):
            if not self._run.has(ACCOUNTS):
                return []
            return [
                Owner(*row)
                for row in self._run.rows(
                    f"SELECT account_id, source_id, wide_keys FROM {self._run.state(ACCOUNTS)}"
                    " ORDER BY account_id"
                )
            ]

    def take_lease(self, lease: Lease, now: datetime) -> None:
        """See the protocol."""
        if self._dry_run:
            return
        with self._file.using("taking the lease"), self._file.transaction():
            for held in self._leases(lease.source_id):
                if held.run_id != lease.run_id and held.expires_at > now and _is_alive(held):
                    raise Busy(
                        f"{held} is loading '{lease.source_id}' into {self.path}, until"
                        f" {held.expires_at:%H:%M:%S} UTC at the latest. Run again when it is done."
                    )
            row = [lease.source_id, lease.run_id, lease.host, lease.pid, lease.process]
            row += [now, lease.expires_at]
            self._run.replace(LEASES, row)

    def give_back(self, lease: Lease) -> None:
        """See the protocol."""
        if self._dry_run:
            return
        with self._file.using("giving back the lease"):
            self._run.delete(LEASES, source_id=lease.source_id, run_id=lease.run_id)

    def recall(self, source_id: str, table_name: str) -> Memory:
        """See the protocol."""
        with self._file.using("reading the state"):
            rows = 0
            if self._run.exists(table_name, DATA_SCHEMA):
                rows = self._run.scalar(
                    f"SELECT count(*) FROM {self._run.data(table_name)} WHERE __source_id = ?",
                    [source_id],
                )
            if not self._run.has(MARKS):
                return Memory(rows=rows)
            key = [source_id, table_name]
            marks = dict(
                self._run.rows(
                    f"SELECT mark, epoch_us(reached_at) FROM {self._run.state(MARKS)}"
                    " WHERE source_id = ? AND table_name = ?",
                    key,
                )
            )
            loaded_at, files, unreadable = self._run.rows(
                "SELECT epoch_us(max(loaded_at)), count(*), count(unreadable_because)"
                f" FROM {self._run.state(FILES)} WHERE source_id = ? AND table_name = ?",
                key,
            )[0]
            return Memory(
                watermark=instant_or_none(marks.get(WATERMARK)),
                whole_at=instant_or_none(marks.get(WHOLE)),
                unread={
                    mark.removeprefix(UNREAD): instant(reached)
                    for mark, reached in marks.items()
                    if mark.startswith(UNREAD)
                },
                loaded_at=instant_or_none(loaded_at),
                rows=rows,
                files=files,
                unreadable=unreadable,
                rejects=self._count(REJECTS, key),
                missing=self._count(MISSING, key),
            )

    def unseen(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """See the protocol."""
        with self._file.using("reading the ledger"):
            if not files or not self._run.has(FILES):
                return list(files)
            seen = set(
                self._run.rows(
                    f"SELECT name, etag, size FROM {self._run.state(FILES)}"
                    " WHERE source_id = ? AND table_name = ? AND NOT read_again",
                    [source_id, table_name],
                )
            )
            return [file for file in files if (file.name, file.etag, file.size) not in seen]

    def load(self, batch: Batch) -> Loaded:
        """See the protocol."""
        with self._file.using(f"loading {batch.table.name}"):
            merge = Merge(self._run)
            loaded = merge.compare(batch)
            if not self._dry_run:
                with self._file.transaction():
                    merge.write(batch, loaded)
            return loaded

    def record_run(self, run: Run) -> None:
        """See the protocol."""
        if self._dry_run:
            return
        row = [run.run_id, run.started_at, run.finished_at, run.outcome, run.version, run.report]
        with self._file.using("recording the run"), self._file.transaction():
            self._run.replace(RUNS, row)

    def runs(self, limit: int) -> list[Run]:
        """See the protocol."""
        with self._file.using("reading the run history"):
            if not self._run.has(RUNS):
                return []
            return [
                Run(row[0], instant(row[1]), instant(row[2]), *row[3:])
                for row in self._run.rows(
                    "SELECT run_id, epoch_us(started_at), epoch_us(finished_at), outcome, version,"
                    f" report FROM {self._run.state(RUNS)}"
                    " ORDER BY started_at DESC, run_id DESC LIMIT ?",
                    [limit],
                )
            ]

    def holder(self, source_id: str) -> Lease | None:
        """See the protocol."""
        with self._file.using("reading the lease"):
            held = self._leases(source_id) if self._run.has(LEASES) else []
            return held[0] if held else None

    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """See the protocol."""
        key = [source_id, table_name]
        marks, files = self._run.state(MARKS), self._run.state(FILES)
        with self._file.using("rewinding"), self._file.transaction():
            self._run.execute(
                f"DELETE FROM {marks} WHERE source_id = ? AND table_name = ?"
                " AND ?::TIMESTAMPTZ IS NULL",
                [*key, to],
            )
            self._run.execute(
                f"UPDATE {marks} SET reached_at = ? WHERE source_id = ? AND table_name = ?"
                " AND reached_at > ?",
                [to, *key, to],
            )
            self._run.execute(
                f"UPDATE {files} SET read_again = true WHERE source_id = ? AND table_name = ?"
                " AND (?::TIMESTAMPTZ IS NULL OR modified_at >= ?)",
                [*key, to, to],
            )

    def rejects(self, limit: int) -> list[Reject]:
        """See the protocol."""
        with self._file.using("reading the rejects"):
            if not self._run.has(REJECTS):
                return []
            names = REJECT_COLUMNS[1:]
            return [
                Reject(**dict(zip(names, row, strict=True)), rejected_at=instant(at))
                for *row, at in self._run.rows(
                    f"SELECT {', '.join(names)}, epoch_us(rejected_at)"
                    f" FROM {self._run.state(REJECTS)}"
                    " ORDER BY rejected_at DESC, source_id, table_name, origin, position LIMIT ?",
                    [limit],
                )
            ]

    def replay(self, source_id: str) -> int:
        """See the protocol."""
        with self._file.using("replaying rejects"), self._file.transaction():
            self._run.execute(
                f"UPDATE {self._run.state(FILES)} f SET read_again = true WHERE source_id = ?"
                " AND (unreadable_because IS NOT NULL OR EXISTS (SELECT 1"
                f" FROM {self._run.state(REJECTS)} r WHERE r.source_id = f.source_id"
                " AND r.table_name = f.table_name AND r.origin = f.name AND r.sync_key IS NULL))",
                [source_id],
            )
            return sum(
                self._convert_again(source_id, table, column)
                for table in TABLES
                for column in table.columns
                if column.type != "text"
            )

    def guarded(self, doing: str) -> AbstractContextManager[None]:
        """See the protocol."""
        return self._file.translating(doing)

    def release(self) -> None:
        """See the protocol."""
        self._file.release()

    def close(self) -> None:
        """See the protocol."""
        self.staging.close()
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- schemas and owners ---

    def _create_what_is_missing(self) -> None:
        for schema in (DATA_SCHEMA, STATE_SCHEMA):
            self._run.execute(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{schema}")
        for table in TABLES:
            self._run.execute(sql.create_table(table, CATALOG))
        for state_table in STATE_TABLES:
            self._run.execute(sql.create_state_table(state_table, CATALOG))

    def _check_columns(self, table: Table) -> None:
        if not self._run.exists(table.name, DATA_SCHEMA):
            return
        there = self._run.rows(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_catalog = ?"
            " AND table_schema = ? AND table_name = ? ORDER BY ordinal_position",
            [CATALOG, DATA_SCHEMA, table.name],
        )
        ours = [(column.name, SQL_TYPES[column.type]) for column in table.all_columns]
        if there != ours:
            odd = sorted({f"{name} {kind}" for name, kind in set(there) ^ set(ours)})
            raise WarehouseError(
                f"The table {DATA_SCHEMA}.{table.name} in {self.path} is not ours: it differs in"
                f" {', '.join(odd) or 'the order of its columns'}. Nothing was changed."
                " Rename it or drop it, then run again with --full."
            )

    def _is_known(self, owner: Owner) -> bool:
        for known in self.owners():
            if known == owner:
                return True
            if known.account_id == owner.account_id and known.source_id == owner.source_id:
                raise ConfigError(
                    f"wide_keys: {self.path} holds account '{owner.account_id}' with wide_keys ="
                    f" {str(known.wide_keys).lower()}. Other keys would load every event a second"
                    " time. Put the old value back, or use a new warehouse."
                )
            if owner.account_id == known.account_id or owner.source_id == known.source_id:
                raise ConfigError(
                    f"source_id: account '{owner.account_id}' with source '{owner.source_id}' does"
                    f" not fit {self.path}, which holds account '{known.account_id}' as source"
                    f" '{known.source_id}'. Every key contains the source id, so another would"
                    " load every row a second time. Put the old value back, or use a new warehouse."
                )
            if keys_may_meet(owner.source_id, known.source_id):
                raise ConfigError(
                    f"source_id: '{owner.source_id}' and '{known.source_id}', which {self.path}"
                    " holds, begin alike. Keys join the source id with an id and nothing between,"
                    " so that theirs could meet. Use another source_id, or a new warehouse."
                )
        return False

    def _convert_again(self, source_id: str, table: Table, column: Column) -> int:
        """Put into the table what converts today; a value that came since then stays."""
        rejects, name = self._run.state(REJECTS), sql.quoted(column.name)
        key = [source_id, table.name, column.name]
        self._run.execute(
            "CREATE OR REPLACE TEMP TABLE convertible AS"
            f" SELECT reject_id, sync_key, {conversion('raw', column)} AS converted FROM {rejects}"
            " WHERE source_id = ? AND table_name = ? AND column_name = ?"
            f" AND {conversion('raw', column)} IS NOT NULL",
            key,
        )
        self._run.execute(
            f"UPDATE {self._run.data(table.name)} SET {name} = converted FROM convertible"
            f" WHERE __sync_key = sync_key AND {name} IS NULL"
        )
        self._run.execute(
            f"DELETE FROM {rejects} WHERE reject_id IN (SELECT reject_id FROM convertible)"
        )
        return self._run.scalar("SELECT count(*) FROM convertible")

    def _count(self, table: StateTable, key: Sequence[object]) -> int:
        return self._run.scalar(
            f"SELECT count(*) FROM {self._run.state(table)} WHERE source_id = ? AND table_name = ?",
            key,
        )

    def _leases(self, source_id: str) -> list[Lease]:
        rows = self._run.rows(
            "SELECT source_id, run_id, host, pid, process, epoch_us(expires_at)"
            f" FROM {self._run.state(LEASES)} WHERE source_id = ?",
            [source_id],
        )
        return [
            Lease(source, run, host, pid, instant(end), process)
            for source, run, host, pid, process, end in rows
        ]


def _is_alive(lease: Lease) -> bool:
    """Tell whether the process of a lease may still run; of another machine, we cannot know."""
    if lease.host != os.uname().nodename:
        return True
    return is_running(lease.pid) and lease.process in {"", process_mark(lease.pid)}
