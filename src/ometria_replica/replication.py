"""
The main loop: for each account, for each table, for each batch: stage and load.

Start reading here: :func:`sync` replicates accounts, :class:`AccountReplication` the tables of an
account, and :func:`sync_table` the batches of a table.

Lists are read before list changes, because changes are requested per list. Otherwise tables are
independent: if Ometria refuses or fails one, the next is still read.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica import privacy
from ometria_replica.accounts import owner_of
from ometria_replica.api_reads import api_batches
from ometria_replica.batching import ReadAhead
from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.clock import utc_now
from ometria_replica.config import masked
from ometria_replica.duckdb_files import file_name_warning
from ometria_replica.errors import (
    AccessDenied,
    NotFound,
    OmetriaError,
    ReplicaError,
)
from ometria_replica.failpoints import step
from ometria_replica.file_reads import export_batches
from ometria_replica.following import (
    forget_what_is_left,
    note_deletion_requests,
    reads_deletion_requests,
)
from ometria_replica.loading import load
from ometria_replica.log_context import logging_for
from ometria_replica.mapping import forget_keys
from ometria_replica.observer import observed, safely
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.export import FILES_AHEAD
from ometria_replica.reading_threads import OneThread, ReadingThreads
from ometria_replica.run_checks import has_both, scope_of
from ometria_replica.run_context import (
    NoProgress,
    Progress,
    RunContext,
    ToldProgress,
    Window,
    new_id,
)
from ometria_replica.run_endings import finish, leased, recorded_if_stopped
from ometria_replica.run_results import Results, joined_results
from ometria_replica.stopping import is_of_a_library
from ometria_replica.table_reads import TableRead, lost_tables
from ometria_replica.warehouse import open_warehouse
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date, datetime

    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.observer import Observe
    from ometria_replica.reading_threads import Threads
    from ometria_replica.report import RunReport
    from ometria_replica.run_checks import Scope
    from ometria_replica.run_context import Fetch
    from ometria_replica.schema import Table
    from ometria_replica.suppressions import Suppressions
    from ometria_replica.warehouse.warehouse import Warehouse


def sync(
    config: Config,
    tables: Sequence[str] = (),
    *,
    full: bool = False,
    detect_deletes: bool = False,
    since: date | None = None,
    until: date | None = None,
    dry_run: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
    observe: Observe | None = None,
    fetch: Fetch | None = None,
) -> RunReport:
    """
    Replicate every account of *config*, and report the result.

    *tables* names tables of *catalog* that an account has switched on; none means all of those.
    Each is read from its watermark on, unless *full* reads everything again, or *since* everything
    from that day on; *until* ends the read after that day, for files and for tables that are read
    by windows of time. Neither *since* nor *until* moves the watermark. *detect_deletes* reads
    profiles and lists in full, and so finds the deleted ones. *dry_run* reads, maps and compares,
    and writes nothing. *observe* is told of what happens, in any thread; what it raises is logged
    and ends nothing. *fetch* fetches the export files; None fetches them on this machine.

    Raises ConfigError before anything is contacted. Any other error of ours is raised when all
    tables were tried, with the report as its attribute ``report``.
    """
    limits, now = config.warehouse.limits, clock()
    scope = scope_of(config, tables, Window(full, detect_deletes, since, until), catalog, now)
    catalog, chosen = scope.catalog, scope.chosen
    general = Results()
    if warning := file_name_warning(config.warehouse.url, catalog):
        general.warnings.append(warning)
    observe, run_id = safely(observe), new_id(now)
    with (
        observed(observe, run_id, config, catalog, dry_run=dry_run) as seen,
        open_warehouse(
            config.warehouse.url,
            catalog=catalog,
            dry_run=dry_run,
            storage_version=config.warehouse.duckdb_storage_version,
            limits=limits,
        ) as warehouse,
    ):
        threads = _threads(config, chosen)
        run = RunContext(
            started_at=now,
            window=scope.window,
            clock=clock,
            progress=ToldProgress(progress or NoProgress(), threads),
            threads=threads,
            fetch=fetch,
            temp_directory=limits.temp_directory,
            several=len(config.accounts) > 1,
            table_names=[table.name for table in chosen.in_reading_order],
            ahead=ReadAhead(warehouse.batch_size),
            files_ahead=max(1, FILES_AHEAD // min(config.parallel_accounts, len(config.accounts))),
            observe=observe,
            run_id=run_id,
        )
        place = masked(config.warehouse.url)
        replicas = [
            AccountReplication(run, warehouse, account, scope, place) for account in config.accounts
        ]
        results = [general, *(each.results for each in replicas)]
        with logging_for(run=run.run_id):
            with recorded_if_stopped(run, results, warehouse, place):
                for account in config.accounts:
                    for found in warehouse.prepare(owner_of(account, catalog), clock()):
                        general.warn_once(found)
                threads.work(each.replicate for each in replicas)
            seen.report = finish(run, joined_results(results), warehouse, place, dry_run=dry_run)
            return seen.report


def _threads(config: Config, tables: Catalog) -> Threads:
    """Choose the threads that read: none beside this one, if there is nothing to read at once."""
    most = min(config.parallel_accounts, len(config.accounts))
    at_once = most > 1 or (len(config.accounts) == 1 and has_both(config.accounts[0], tables))
    if at_once and config.parallel_accounts > 1:
        return ReadingThreads(most)
    return OneThread()


@dataclass(frozen=True)
class AccountReplication:
    """
    One account of *run*, and the *results* of its tables, which are those of *scope*.

    It is done in a thread that reads: what needs the warehouse is done in the thread that uses it.
    """

    run: RunContext
    warehouse: Warehouse
    account: AccountSettings
    scope: Scope
    place: str
    results: Results = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", Results(self.account.source_id))

    def replicate(self) -> None:
        """Replicate the account while its lease is held. What fails is no other account's."""
        run, results = self.run, self.results
        with results.naming(self.account.source_id, several=run.several):
            try:
                with leased(run, results, self.warehouse, self.account, self.place) as may_write:
                    if may_write:
                        self._sync()
            except ReplicaError as error:
                if not run.several:
                    raise
                run.note(error, results)

    def _sync(self) -> None:
        with (
            AccountSource(
                self.account,
                self.run.started_at,
                self.scope.catalog,
                files_ahead=self.run.files_ahead,
                observe=self.run.observe,
            ) as source,
            self.run.threads.stopping(source.cancel),
        ):
            with self._noted(self.results):
                chosen = self.scope.of(self.account)
                self._read(source, chosen)
                self.results.join_parts()
                if not self.results.is_broken:
                    self._note_refusals()
                    self._follow(source, chosen)
            warnings = [self.run.naming(self.account.source_id, each) for each in source.warnings]
            self.results.warnings += warnings

    def _read(self, source: AccountSource, chosen: Catalog) -> None:
        """Read the tables, those of the feed at the same time as those of the API."""
        suppressed = self._suppressions()
        wanted = list(self._readable(chosen))
        of_feed = [table for table in wanted if isinstance(table.read, Feed)]
        of_api = [table for table in wanted if table not in of_feed]
        read = partial(self._read_tables, source, chosen, suppressed)
        if suppressed or self.account.follow_erasures or not (of_feed and of_api):
            # What the API tells of erased people holds for the files too: so it is read first.
            read(self.results, wanted)
            return
        of_the_feed = self.results.part()
        self.run.threads.beside(
            partial(read, self.results, of_api), partial(read, of_the_feed, of_feed)
        )

    def _read_tables(
        self,
        source: AccountSource,
        chosen: Catalog,
        suppressed: Suppressions | None,
        results: Results,
        tables: Sequence[Table],
    ) -> None:
        every = self.scope.catalog.every.as_set(self.account).tables
        with self._noted(results):
            lost = self.run.threads.call(
                partial(lost_tables, self.warehouse, self.account.source_id)
            )
            for table in tables:
                if suppressed or self.account.follow_erasures:  # The last one may have added some.
                    suppressed = self._suppressions()
                read = TableRead(
                    self.run,
                    results,
                    self.warehouse,
                    self.account,
                    source,
                    table,
                    every,
                    chosen.inside(table),
                    lost,
                ).without(suppressed)
                named = logging_for(table=table.name)
                with step(f"table {table.name}"), _going_on(results), named:
                    results.refusals[table.name] = sync_table(read)

    def _readable(self, chosen: Catalog) -> Iterator[Table]:
        for table, reason in self.scope.readable(self.account, chosen):
            if reason:
                self.results.leave_out(table.name, reason)
            else:
                yield table

    def _note_refusals(self) -> None:
        """Note an error if all tables were refused: then it is of the key."""
        refusals = [each for each in self.results.refusals.values() if each is not None]
        if len(refusals) == len(self.results.refusals):
            self.results.errors += refusals[:1]

    def _suppressions(self) -> Suppressions | None:
        of, secret = self.warehouse.suppressions.of, privacy.secret_for(self.account)
        return self.run.threads.call(partial(of, self.account.source_id, secret))

    def _follow(self, source: AccountSource, chosen: Catalog) -> None:
        """Do what follows the reading: note requests, remove what is too old and what is left."""
        run, call = self.run, self.run.threads.call
        with _going_on(self.results):
            tables = filter(reads_deletion_requests, chosen)
            refusals = (self.results.refusals.get(table.name) for table in tables)
            note_deletion_requests(
                run, self.results, self.warehouse, self.account, source,
                refusal=next(filter(None, refusals), None),
            )  # fmt: skip
        lease = partial(run.lease, self.account.source_id)
        removed = self.warehouse.expiry.remove(chosen, lease, run.clock())
        while (step_done := call(partial(next, removed, None))) is not None:
            table, rows = step_done
            self.results.add_expired(table.name, rows)
        call(partial(forget_what_is_left, self.warehouse, self.account))

    @contextmanager
    def _noted(self, results: Results) -> Iterator[None]:
        """Note what ends the reading of the account, unless it ends the run."""
        try:
            yield
        except ReplicaError as error:
            self.run.note(error, results)  # Without a warehouse or a disk, no table can be read.
            results.is_broken = True
        except BaseException as error:
            if not is_of_a_library(error):
                raise
            results.bugs.append(error)  # The other accounts may well be read.
            results.is_broken = True


def sync_table(read: TableRead) -> OmetriaError | None:
    """
    Read one table of one account in batches, and load each.

    Returns why an optional table could not be read, of which the report warns.
    """
    batches = export_batches if isinstance(read.table.read, Feed) else api_batches
    with ExitStack() as reports:
        for inside in reversed(read.progress_inside.values()):
            reports.enter_context(inside.reported(lambda: 0))
        reports.enter_context(
            read.progress.reported(lambda: read.requests, lambda: read.rate_limited)
        )
        try:
            for pending in batches(read):
                read.run.threads.call(partial(load, read, pending))
        except (AccessDenied, NotFound) as error:
            if not read.can_be_left_out:
                raise
            read.progress.warn(f"it could not be read: {error}")
            return error
        source_id, name = read.account.source_id, read.table.name
        read.ask(lambda warehouse: forget_keys(warehouse.connection, source_id, name))
    return None


@contextmanager
def _going_on(results: Results) -> Iterator[None]:
    """
    Note that Ometria refused or failed a table, and go on: the next may well be read.

    In an outage, the client gives up the next tables sooner than the first.
    """
    try:
        yield
    except OmetriaError as error:
        results.errors.append(error)
