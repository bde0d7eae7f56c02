"""The warehouse: leases, state and batches of rows, on any engine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from ometria_replica.errors import Busy, WarehouseError
from ometria_replica.steps import step
from ometria_replica.warehouse import sql, upgrades
from ometria_replica.warehouse.conflicts import retried
from ometria_replica.warehouse.leases import Leases
from ometria_replica.warehouse.merge import compare
from ometria_replica.warehouse.rejects import Rejects
from ometria_replica.warehouse.state_store import StateStore
from ometria_replica.warehouse.state_tables import STATE_TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import ExitStack
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import (
        Batch,
        BatchSize,
        Lease,
        Loaded,
        Owner,
        Reject,
        Run,
        TableState,
    )
    from ometria_replica.catalog import Catalog
    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Table
    from ometria_replica.selection import Selection
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.engines.base import Engine


class Warehouse:
    """
    The tables of *catalog*, and the state of the replica, in the database of *engine*.

    Records are mapped in *connection*, a DuckDB, whatever the engine. With *dry_run* every
    statement that writes is left out. *closing* ends what the warehouse was opened with.

    Errors of the driver become WarehouseError, with the batch rolled back. Between two calls
    other programs may use the database.
    """

    def __init__(
        self,
        connection: DuckDBPyConnection,
        engine: Engine,
        catalog: Catalog,
        closing: ExitStack,
        *,
        dry_run: bool = False,
    ) -> None:
        self.connection = connection
        self._engine = engine
        self._catalog = catalog
        layout = upgrades.Layout(engine)
        self._leases = Leases(engine, layout)
        self._state = StateStore(engine, layout)
        self._rejects = Rejects(engine, layout)
        self._closing = closing
        self._dry_run = dry_run
        self._is_checked = False

    @property
    def batch_size(self) -> BatchSize:
        """How much the engine takes at once."""
        return self._engine.batch_size

    # --- before a run ---

    def prepare(self, owner: Owner, now: datetime) -> None:
        """
        Create missing tables, upgrade an older state, and note how the account's keys are made.

        Raises ConfigError if its rows were loaded with other keys, and WarehouseError if a table
        has other columns than the catalog says, or the state is of a newer program.
        """
        with self._session("preparing the schemas"):
            for table in self._catalog:
                self._check_columns(table)  # Before anything is created: then nothing changes.
            known = self._state.is_known(owner)
            if not self._dry_run:
                self._create_or_upgrade(now)
        with self._writing("noting the account") as may_write:
            if may_write and not known:
                self._state.add_owner(owner, now)

    def check_access(self) -> None:
        """Raise WarehouseError if this user could not write here. Changes nothing."""
        with self._session("checking the privileges"):
            self._engine.check_access()

    def owners(self) -> list[Owner]:
        """List the accounts whose rows are here."""
        with self._session("reading the accounts"):
            return self._state.owners()

    # --- leases ---

    def acquire_lease(self, lease: Lease, now: datetime) -> None:
        """
        Let one run write the rows of a source; take over the lease of a dead or silent run.

        Raises Busy, naming the holder, while another run is at work.
        """
        with self._writing("acquiring the lease", "the lease") as may_write:
            if may_write:
                self._leases.acquire(lease, now)
        if self._engine.locks or self._dry_run:
            return
        try:
            with self._session("reading the leases"):
                self._leases.refuse_unless_alone(lease, now)
        except Busy:
            self.release_lease(lease)
            raise

    def release_lease(self, lease: Lease) -> None:
        """End a lease; without effect if another run has it."""
        with self._writing("releasing the lease") as may_write:
            if may_write:
                self._leases.release(lease)

    def holder(self, source_id: str) -> Lease | None:
        """Find the lease of a source; None if no run is at work."""
        with self._session("reading the lease"):
            return self._leases.holder(source_id)

    # --- rows ---

    def load(self, batch: Batch) -> Loaded:
        """
        Merge the staged rows of *batch* and write its state, in one transaction.

        Raises Busy, with nothing written, if another run has the batch's lease. After a commit
        conflict the batch is compared and written again.
        """
        return retried(lambda: self._load(batch))

    def count(self, table: Table, selection: Selection) -> int:
        """Count rows of a table; 0 if there is no such table."""
        with self._session("counting rows"):
            return self._engine.count(table, selection)

    def read(self, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Read rows of a table, with all its columns in order."""
        with self._session(f"reading {table.name}"):
            yield from self._engine.read(table, selection)

    def delete(self, table: Table, selection: Selection) -> int:
        """Delete rows of a table, and return how many; in a dry run only count them."""
        if self._dry_run:
            return self.count(table, selection)
        with self._writing(f"deleting rows of {table.name}"):
            return self._engine.delete(table, selection)

    # --- state ---

    def table_state(self, source_id: str, table_name: str) -> TableState:
        """Read the state of one table of one source."""
        with self._session("reading the state"):
            return self._state.table_state(source_id, table_name)

    def new_files(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """Keep the files whose version the file log lacks, or wants to be read again."""
        with self._session("reading the file log"):
            return self._state.new_files(source_id, table_name, files)

    def list_after(self, source_id: str, table_name: str) -> str | None:
        """
        Find the name after which new export files come; None if they can have any name.

        None unless each name in the log sorts after all that are older by a week, and while the
        log wants a file to be read again.
        """
        with self._session("reading the file log"):
            return self._state.list_after(source_id, table_name)

    def set_listed(
        self, source_id: str, table_name: str, feed: str, at: datetime, run_id: str
    ) -> None:
        """Note that all files of *feed* were listed, and none of them is left to read."""
        with self._writing("noting the listing") as may_write:
            if may_write:
                self._state.set_listed(source_id, table_name, feed, at, run_id)

    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """
        Make the next run read again the records since *to*; None means all of them.

        The watermark moves back, never on. Files of the export since then are read again.
        """
        with self._writing("rewinding") as may_write:
            if may_write:
                self._state.rewind(source_id, table_name, to)

    def rejects(self, limit: int) -> list[Reject]:
        """Read the rejects, newest first."""
        with self._session("reading the rejects"):
            return self._rejects.newest(limit)

    def replay(self, source_id: str) -> int:
        """
        Convert rejected values again, and return how many convert now.

        The next run reads the files again that could not be read, in whole or in part.
        """
        with self._writing("replaying rejects") as may_write:
            if not may_write:
                return 0
            return self._rejects.replay(source_id, self._catalog, self.connection)

    def record_run(self, run: Run) -> None:
        """Add a run to the history, or replace it."""
        with self._writing("recording the run", "the history") as may_write:
            if may_write:
                self._state.record(run)

    def runs(self, limit: int) -> list[Run]:
        """Read the newest runs, newest first."""
        with self._session("reading the run history"):
            return self._state.runs(limit)

    # --- opening and closing ---

    def close(self) -> None:
        """Release connections and locks. Safe to call twice."""
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
    def _session(self, doing: str) -> Iterator[None]:
        """Connect for the block, and let other programs in afterwards."""
        with self._engine.session(doing):
            if not self._is_checked:
                upgrades.refuse_newer(self._engine)
                self._is_checked = True
            yield
        self._engine.detach()

    @contextmanager
    def _writing(self, doing: str, commit: str = "state") -> Iterator[bool]:
        """Run the block in one transaction; in a dry run yield False, without connecting."""
        if self._dry_run:
            yield False
            return
        with self._session(doing), self._engine.transaction(commit):
            yield True

    def _load(self, batch: Batch) -> Loaded:
        with self._session(f"loading {batch.table.name}"):
            self._engine.stage(batch)
            changes = compare(self._engine, batch)
            if not self._dry_run:
                with self._engine.transaction("the batch"):
                    self._write(changes, batch)
        return changes.counts

    def _write(self, changes: Changes, batch: Batch) -> None:
        if batch.lease:
            with step("renewal"):
                self._leases.renew(batch.lease)
        with step("rows"):
            self._engine.apply(changes)
        self._write_state(changes, batch)

    def _write_state(self, changes: Changes, batch: Batch) -> None:
        self._rejects.write(changes, batch)
        self._state.write_files(batch)
        self._state.write_deleted(changes, batch)
        self._state.write_watermarks(batch)

    def _create_or_upgrade(self, now: datetime) -> None:
        version = upgrades.version_of(self._engine)
        if version == 1:
            self._leases.refuse_any(now)  # A run of an older program would lose its tables.
        with self._engine.transaction("the upgrade"):
            self._engine.create_missing([*self._catalog, *STATE_TABLES])
            if version != upgrades.STATE_VERSION:
                upgrades.upgrade(self._engine, now)

    def _check_columns(self, table: Table) -> None:
        there, ours = self._engine.columns(table), sql.columns_of(table)
        if there and there != ours:
            odd = sorted({f"{name} {kind}" for name, kind in set(there) ^ set(ours)})
            raise WarehouseError(
                f"The table {table.full_name} in {self._engine.place} is not ours: it"
                f" differs in {', '.join(odd) or 'the order of its columns'}. Nothing was changed."
                " Rename it or drop it, then run again with --full."
            )
