"""The warehouse: batches of rows with their state, on any engine."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from ometria_replica.batch import Loaded
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.history import history_table
from ometria_replica.raw_records import raw_table
from ometria_replica.selection import Selection
from ometria_replica.warehouse import state_upgrades
from ometria_replica.warehouse.comparison import compare_all
from ometria_replica.warehouse.erasure.erasures import Erasures
from ometria_replica.warehouse.erasure.marts import Marts
from ometria_replica.warehouse.erasure.receipts import Receipts
from ometria_replica.warehouse.erasure.replaced_addresses import ReplacedAddresses
from ometria_replica.warehouse.erasure.suppression_list import SuppressionList
from ometria_replica.warehouse.expiry import Expiry
from ometria_replica.warehouse.history_seeding import Seeding
from ometria_replica.warehouse.kept_records import KeptRecords
from ometria_replica.warehouse.lost_rows import LostRows
from ometria_replica.warehouse.remotes.base import retried
from ometria_replica.warehouse.sessions import Sessions
from ometria_replica.warehouse.state.accounts import Accounts
from ometria_replica.warehouse.state.deleted_upstream import DeletedUpstream
from ometria_replica.warehouse.state.deletion_requests import DeletionRequests
from ometria_replica.warehouse.state.file_log import FileLog
from ometria_replica.warehouse.state.leases import Leases
from ometria_replica.warehouse.state.lost_tables import LostTables, warnings
from ometria_replica.warehouse.state.record_fields import RecordFields
from ometria_replica.warehouse.state.rejects import Rejects
from ometria_replica.warehouse.state.run_history import RunHistory
from ometria_replica.warehouse.state.table_states import TableStates
from ometria_replica.warehouse.state.treatments import Treatments
from ometria_replica.warehouse.state.watermarks import Watermarks
from ometria_replica.warehouse.state_tables import STATE_TABLES
from ometria_replica.warehouse.state_upgrades import OLD_TABLES
from ometria_replica.warehouse.table_columns import refuse_other_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch, BatchSize, Lease, Owner
    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import ColumnTreatment, StateTable, Table
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.engines.base import Engine
    from ometria_replica.warehouse.lost_rows import Lost
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep


class Warehouse:
    """
    The tables of *catalog* in the database of *engine*, and the state beside them.

    *leases*, *accounts*, *runs*, *watermarks*, *file_log*, *state*, *treatments*, *rejects*,
    *suppressions*, *receipts*, *erasures*, *replaced_addresses*, *expiry*, *deletion_requests*,
    *fields*, *records* and *marts* are its parts. Records are staged in *connection*, a DuckDB, for
    every engine. With *dry_run*, no statement that writes is run.
    *closing* closes the resources that were opened for the warehouse.

    Driver errors become WarehouseError, with the batch rolled back. Between two calls
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
        self.sessions = Sessions(engine, dry_run=dry_run)
        self.leases = Leases(self.sessions)
        self.watermarks = Watermarks(self.sessions)
        self.accounts = Accounts(self.sessions)
        self.runs = RunHistory(self.sessions)
        self.file_log = FileLog(self.sessions, self.watermarks)
        self.state = TableStates(
            self.sessions, self.watermarks, self.file_log, DeletedUpstream(self.sessions)
        )
        self.treatments = Treatments(self.sessions)
        self.rejects = Rejects(self.sessions, catalog, connection)
        self.suppressions = SuppressionList(self.sessions, connection)
        self.marts = Marts(self.sessions)
        self.receipts = Receipts(self.sessions)
        self.erasures = Erasures(
            self.sessions,
            connection,
            self.suppressions,
            self.receipts,
            self.leases,
            self.watermarks,
            self.marts,
        )
        self.replaced_addresses = ReplacedAddresses(self.sessions, connection, self.erasures)
        self.expiry = Expiry(self.sessions, self.leases, self.watermarks)
        self.deletion_requests = DeletionRequests(self.sessions)
        self.fields = RecordFields(self.sessions)
        self.records = KeptRecords(self.sessions, connection)
        self._seeding = Seeding(self.sessions, self.leases)
        self._engine = engine
        self._catalog = catalog
        self._records = [raw_table(table) for table in catalog if table.keeps_records]
        self._closing = closing

    @property
    def batch_size(self) -> BatchSize:
        """How much the engine takes at once."""
        return self._engine.batch_size

    def prepare(self, owner: Owner, now: datetime) -> list[str]:
        """
        Create missing tables, upgrade an older state, and note how the account's keys are made.

        If rows are gone that the state says were loaded, make the next run read them again, and
        return a warning for each table, and for each table of the state that was missing; in a dry
        run only return the warnings.

        Raises ConfigError if its rows were loaded with other keys or treatments of columns,
        WarehouseError if a table has other columns than the catalog says, or the state is of a
        newer program, and Busy if a run of an older program is at work.
        """
        with self.sessions.open("preparing the schemas"):
            tables = [*self._catalog, *self._histories(owner), *self._records]
            self._engine.look_up(tables)
            for table in tables:
                # Before anything is created: then nothing changes.
                refuse_other_columns(self._engine, table)
            known = self.accounts.is_known(owner)
            are_treated = self.treatments.refuse_changed(owner, self._catalog.every)
            lost = list(LostRows(self.sessions).of(self._catalog, owner.source_id))
            lost_state = LostTables(self.sessions).tables()
            lost_records = list(self._lost_records(owner.source_id))
            if not self.sessions.dry_run:
                if lost:  # Before their tables exist again: from then on the state is believed.
                    self._create_or_upgrade([], now, lost)
                self._create_or_upgrade(tables, now, lost_state=lost_state)
                if are_treated:
                    with self._engine.transaction("the treatments"):
                        self.treatments.note(owner, now)
        if not known:
            self.accounts.add(owner, now)
        dry_run = self.sessions.dry_run
        return [
            *warnings(lost_state, dry_run=dry_run),
            *(each.warning(dry_run=dry_run) for each in lost),
            *lost_records,
        ]

    def lost_tables(self, source_id: str) -> frozenset[str]:
        """Name the tables whose rows of a source are gone: the next run reads them again."""
        with self.sessions.open("looking for lost rows"):
            lost = list(LostRows(self.sessions).of(self._catalog, source_id))
        return frozenset(each.table.name for each in lost if source_id in each.sources)

    def versions_to_begin(self, table: Table, source_id: str) -> int:
        """Count the rows of which the next run begins the history of *table*; it has none yet."""
        with self.sessions.open("looking at the history"):
            due = table.keeps_history and self._seeding.is_due(table, source_id)
            return self._engine.count(table, Selection(source_id)) if due else 0

    @property
    def rewrites_unchanged(self) -> bool:
        """Whether a row that is read again unchanged is written, with the time of the load."""
        return self._engine.rewrites_unchanged

    def refuse_changed_treatments(self, owner: Owner) -> None:
        """Raise ConfigError if rows of *owner* were loaded with other treatments. Only reads."""
        with self.sessions.open("reading the treatments of columns"):
            self.treatments.refuse_changed(owner, self._catalog.every)

    def noted_treatments(self, source_id: str) -> frozenset[ColumnTreatment]:
        """Read how the columns of a source are treated in the rows that are there."""
        with self.sessions.open("reading the treatments of columns"):
            return self.treatments.of(source_id)

    def check_access(self) -> None:
        """Raise WarehouseError if this user could not write here. Changes nothing."""
        with self.sessions.open("checking the privileges"):
            self._engine.check_access()

    @contextmanager
    def rolled_back(self, doing: str) -> Iterator[Warehouse | None]:
        """
        Give a warehouse that writes, in one transaction that is rolled back.

        None where the database cannot: then nothing was tried.
        """
        with self.sessions.open(doing):
            can = self._engine.rolls_back()
            yield (
                Warehouse(self.connection, self._engine, self._catalog, ExitStack())
                if can
                else None
            )

    def remark(self) -> str:
        """Say what a user may want to know about the database; empty if there is nothing."""
        with self.sessions.open("looking at the database"):
            return self._engine.remark()

    def load(self, batch: Batch) -> Loaded:
        """
        Merge the staged rows of *batch* and write its state, in one transaction.

        Raises Busy, with nothing written, if another run has the batch's lease. After a commit
        conflict the batch is compared and written again.
        """
        return retried(lambda: self._load(batch))

    def count(self, table: Table, selection: Selection) -> int:
        """Count rows of a table; 0 if there is no such table."""
        with self.sessions.open("counting rows"):
            return self._engine.count(table, selection)

    def newest(self, table: Table, selection: Selection) -> datetime | None:
        """Find the time of the newest event of a table; None without events, or without times."""
        with self.sessions.open("looking for the newest event"):
            if table.time is None or not self._engine.exists(table):
                return None
            return self._engine.newest(table, table.time, selection)

    def read(self, table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
        """Read rows of a table, with all its columns in order; none if there is no such table."""
        with self.sessions.open(f"reading {table.name}"):
            if self._engine.exists(table):
                yield from self._engine.read(table, selection)

    def delete(self, table: Table, selection: Selection) -> int:
        """Delete rows of a table, and return how many; in a dry run only count them."""
        if self.sessions.dry_run:
            return self.count(table, selection)
        with self.sessions.writing(f"deleting rows of {table.name}"):
            return self._engine.delete(table, selection)

    def forget_deleted(self) -> str:
        """
        Remove from the storage what rows that were deleted have left there.

        Returns what may still hold their values, as a sentence; empty if nothing does, and in a
        dry run.
        """
        if self.sessions.dry_run:
            return ""
        with self.sessions.open("removing what deleted rows have left"):
            tables = (*self._catalog.stored, *self._catalog.records)
            others = (*STATE_TABLES, *OLD_TABLES, *self.marts.all_tables())
            remains = self._engine.forget_deleted([*tables, *others])
            return " ".join(filter(None, (remains, self.marts.remark())))

    def forget_erased(self, source_ids: Iterable[str]) -> None:
        """Do as forget_deleted, and note in the receipts of the sources what remains."""
        try:
            remains = self.forget_deleted()
        except WarehouseError as error:  # The rows themselves are gone.
            remains = f"What the rows have left in the storage could not be removed: {error}"
        for source_id in source_ids:
            self.receipts.note_remains(source_id, remains)

    def maintains_itself(self) -> str:
        """Say why the tables need no maintenance by this program; empty if they need it."""
        with self.sessions.open("looking at the database"):
            return self._engine.maintains_itself

    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained | None:
        """
        Write small files of a table together, and remove its old versions; None without a table.

        No run may write meanwhile. In a dry run nothing is changed.
        """
        if self.sessions.dry_run:
            upkeep = replace(upkeep, dry_run=True)
        with self.sessions.open(f"maintaining {table.name}"):
            return self._engine.maintain(table, upkeep)

    def maintenance_due(self, tables: Iterable[Table]) -> list[Due]:
        """Name those of *tables* that `maintain` should maintain. Only metadata is read."""
        with self.sessions.open("looking at the files of the tables"):
            found = (self._engine.maintenance_due(table) for table in tables)
            return [each for each in found if each is not None]

    def close(self) -> None:
        """Release connections and locks. Safe to call twice."""
        self._engine.close()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- helpers ---

    def _lost_records(self, source_id: str) -> Iterator[str]:
        """Warn of tables of records that are missing, although the state knows their fields."""
        for raw in self._records:
            if not self._engine.exists(raw) and self.fields.of(source_id, raw.name):
                verb = "is" if self.sessions.dry_run else "was"
                yield (
                    f"{raw.full_name} {verb} missing, although records of {source_id} were kept"
                    " there. They come as rows are read again: `ometria-replica sync --full` brings"
                    " all that Ometria and the export still have."
                )

    def _load(self, batch: Batch) -> Loaded:
        with self.sessions.open(f"loading {batch.table.name}"):
            seeded = self._seeding.seed(batch)
            self._engine.stage(batch)
            changes = compare_all(self._engine, batch)
            if not self.sessions.dry_run:
                with self._engine.transaction("the batch"):
                    self._write(changes, batch)
        own, *others = changes
        parts = {each.table.full_name: each.counts for each in others}
        if batch.table.keeps_history:
            name = history_table(batch.table).full_name
            begun = parts.get(name, Loaded())
            parts[name] = replace(begun, inserted=begun.inserted + seeded)
        return replace(own.counts, parts=parts)

    def _write(self, changes: Sequence[Changes], batch: Batch) -> None:
        if batch.lease and self._must_renew(changes, batch.lease):
            with step("renewal"):
                self.leases.renew(batch.lease)
        with step("rows"):
            for each in changes:
                self._engine.apply(each)
        self.suppressions.join(batch)
        self.rejects.write(changes[0], batch)
        self.fields.write(batch)
        self.state.write(changes[0], batch)
        of_tables = {each.table.full_name: each for each in changes}
        for part in batch.parts:
            each = of_tables[part.table.full_name]
            if part.rejected:
                self.rejects.write_part(each, batch, part.rejected)
            if part.parent:
                self.state.write_inside(each, batch)

    def _must_renew(self, changes: Sequence[Changes], lease: Lease) -> bool:
        """Return True, unless no row is written: then now and then is enough."""
        is_idle = all(each.is_idle for each in changes) and not self._engine.rewrites_unchanged
        return not is_idle or self.leases.is_due(lease)

    def _histories(self, owner: Owner) -> list[Table]:
        return [history_table(table) for table in self._catalog if table.name in owner.history]

    def _create_or_upgrade(
        self,
        tables: Sequence[Table],
        now: datetime,
        lost: Sequence[Lost] = (),
        lost_state: Sequence[StateTable] = (),
    ) -> None:
        with self._engine.transaction("the upgrade"):
            if state_upgrades.version_of(self._engine) == 1:
                # A run of an older program would lose its tables.
                self.leases.refuse_any(now, "the state there must be upgraded first")
            if lost:  # At its end the run would say again that all is loaded.
                self.leases.refuse_any(now, "rows that were loaded there are gone")
            self._engine.create_missing([*tables, *STATE_TABLES])
            state_upgrades.upgrade(self._engine, now)
            LostTables(self.sessions).forget(lost_state)
            for each in lost:
                for source_id in each.sources:
                    self.state.forget_rows(source_id, each.table.name, now)
