"""A warehouse that merges by SQL of ours: an engine, its books, and the merge."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

from ometria_replica.batch import BatchSize
from ometria_replica.errors import Busy, WarehouseError
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import REJECTED, STAGED, SWEPT
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.steps import step
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.merge import Merge
from ometria_replica.warehouse.state_store import StateStore
from ometria_replica.warehouse.state_tables import LEASES, STATE_SCHEMA, STATE_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from types import TracebackType

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch, Lease, Loaded, Owner, Reject, Run, TableState
    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.engines.base import Engine


class Warehouse:
    """
    The protocol, spoken to *engine*.

    With *dry_run* every statement that writes is left out. *closing* ends what the
    warehouse was opened with.
    """

    batch_size = BatchSize()

    def __init__(
        self,
        staging: DuckDBPyConnection,
        engine: Engine,
        closing: ExitStack,
        *,
        dry_run: bool = False,
    ) -> None:
        self.staging = staging
        self._engine = engine
        self._books = StateStore(engine)
        self._closing = closing
        self._dry_run = dry_run

    def prepare(self, owner: Owner, now: datetime) -> None:
        """See the protocol."""
        with self._engine.using("preparing the schemas"):
            for table in TABLES:
                self._check_columns(table)  # Before anything is made: nothing is changed then.
            known = self._books.is_known(owner)
            if not self._dry_run:
                self._create_what_is_missing()
        with self._writing("noting the account") as may_write:
            if may_write and not known:
                self._books.note(owner, now)

    def try_access(self) -> None:
        """See the protocol."""
        with self._engine.using("looking at what may be written"):
            self._engine.try_access()

    def owners(self) -> list[Owner]:
        """See the protocol."""
        with self._engine.using("reading the accounts"):
            return self._books.owners()

    def acquire_lease(self, lease: Lease, now: datetime) -> None:
        """See the protocol."""
        with self._writing("taking the lease", "the lease") as may_write:
            if may_write:
                self._books.take(lease, now)
        if self._engine.flags_leases and not self._dry_run:
            self._look_around(lease, now)

    def release_lease(self, lease: Lease) -> None:
        """See the protocol."""
        with self._writing("giving back the lease") as may_write:
            if may_write:
                self._books.release_lease(lease)

    def table_state(self, source_id: str, table_name: str) -> TableState:
        """See the protocol."""
        with self._engine.using("reading the state"):
            return self._books.table_state(source_id, table_name)

    def count_rows(self, source_id: str, table_name: str) -> int:
        """See the protocol."""
        with self._engine.using("counting rows"):
            return self._books.count_rows(source_id, table_name)

    def new_files(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """See the protocol."""
        with self._engine.using("reading the ledger"):
            return self._books.new_files(source_id, table_name, files)

    def list_after(self, source_id: str, table_name: str) -> str | None:
        """See the protocol."""
        with self._engine.using("reading the ledger"):
            return self._books.list_after(source_id, table_name)

    def set_listed(
        self, source_id: str, table_name: str, feed: str, at: datetime, run_id: str
    ) -> None:
        """See the protocol."""
        with self._writing("noting the listing") as may_write:
            if may_write:
                self._books.set_listed(source_id, table_name, feed, at, run_id)

    def load(self, batch: Batch) -> Loaded:
        """See the protocol."""
        with self._engine.using(f"loading {batch.table.name}"):
            self._engine.look_up(batch)
            for name in (STAGED, REJECTED, *([SWEPT] if batch.sweep else [])):
                self._engine.bring(name)
            merge = Merge(self._engine)
            loaded = merge.compare(batch)
            if not self._dry_run:
                with self._engine.transaction("the batch"):
                    merge.write(batch, loaded)
            return loaded

    def record_run(self, run: Run) -> None:
        """See the protocol."""
        with self._writing("recording the run", "the history") as may_write:
            if may_write:
                self._books.record(run)

    def runs(self, limit: int) -> list[Run]:
        """See the protocol."""
        with self._engine.using("reading the run history"):
            return self._books.runs(limit)

    def holder(self, source_id: str) -> Lease | None:
        """See the protocol."""
        with self._engine.using("reading the lease"):
            return self._books.holder(source_id)

    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """See the protocol."""
        with self._engine.using("rewinding"), self._engine.transaction():
            self._books.rewind(source_id, table_name, to)

    def rejects(self, limit: int) -> list[Reject]:
        """See the protocol."""
        with self._engine.using("reading the rejects"):
            return self._books.rejects(limit)

    def replay(self, source_id: str) -> int:
        """See the protocol."""
        with self._engine.using("replaying rejects"), self._engine.transaction():
            return self._books.replay(source_id, self.staging)

    def guarded(self, doing: str) -> AbstractContextManager[None]:
        """See the protocol."""
        return translating(doing)

    def release(self) -> None:
        """See the protocol."""
        self._engine.release()

    def close(self) -> None:
        """See the protocol."""
        self._engine.close()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- helpers ---

    @contextmanager
    def _writing(self, doing: str, commit: str = "state") -> Iterator[bool]:
        """Be in a transaction, unless this is a dry run: then say so, and do not even connect."""
        if self._dry_run:
            yield False
            return
        with self._engine.using(doing), self._engine.transaction(commit):
            yield True

    def _look_around(self, lease: Lease, now: datetime) -> None:
        """Take a lease back that does not stand alone: of two raised at once, none counts."""
        try:
            with self._engine.using("looking at the leases"):
                self._engine.refresh(LEASES)
                self._books.refuse_beside_others(lease, now)
        except Busy:
            self.release_lease(lease)
            raise

    def _create_what_is_missing(self) -> None:
        engine = self._engine
        for schema in (DATA_SCHEMA, STATE_SCHEMA):
            with step("schema"):
                engine.make_schema(schema)
        for table in TABLES:
            with step("schema"):
                engine.make_table(table)
        for state_table in STATE_TABLES:
            if not engine.has(state_table):
                with step("schema"):
                    engine.execute(
                        sql.create_state_table(state_table, engine.catalog, engine.types)
                    )

    def _check_columns(self, table: Table) -> None:
        there = self._engine.columns(DATA_SCHEMA, table.name)
        ours = [(column.name, self._engine.types[column.type]) for column in table.all_columns]
        if there and there != ours:
            odd = sorted({f"{name} {kind}" for name, kind in set(there) ^ set(ours)})
            raise WarehouseError(
                f"The table {DATA_SCHEMA}.{table.name} in {self._engine.place} is not ours: it"
                f" differs in {', '.join(odd) or 'the order of its columns'}. Nothing was changed."
                " Rename it or drop it, then run again with --full."
            )
