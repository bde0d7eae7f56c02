"""Plans a sync or a backfill: for each account and each table, by the decisions of the sync."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica import privacy
from ometria_replica.accounts import owner_of
from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import masked
from ometria_replica.duckdb_files import file_name_warning
from ometria_replica.errors import AccessDenied, ConfigError, NotFound, OmetriaError, Unavailable
from ometria_replica.following import reads_deletion_requests, requests_are_due
from ometria_replica.more_tables import DELETION_REQUESTS_ENDPOINT
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.planning.api_tables import ApiPlanner
from ometria_replica.planning.figures import NOTHING, unknown
from ometria_replica.planning.file_tables import FilePlanner
from ometria_replica.planning.last_runs import LastRuns, requests_of
from ometria_replica.planning.plan_report import Plan
from ometria_replica.planning.table_plan import AccountPlan, TablePlan
from ometria_replica.reading_threads import OneThread
from ometria_replica.run_checks import scope_of
from ometria_replica.run_context import NoProgress, RunContext, Window
from ometria_replica.run_results import Results
from ometria_replica.state_commands import opened
from ometria_replica.table_reads import TableRead, lost_tables
from ometria_replica.version import __version__
from ometria_replica.warehouse.state_tables import DELETION_REQUESTS
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.errors import ReplicaError
    from ometria_replica.run_checks import Scope
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse


def plan_run(
    config: Config,
    tables: Sequence[str] = (),
    window: Window = Window(),  # noqa: B008 -- It is frozen.
    *,
    command: str = "sync",
    offline: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Plan:
    """
    Plan what :func:`~ometria_replica.replication.sync` would do, and write nothing.

    *tables* and *window* are as there. A few requests are sent to count what is due, and the
    export is listed; none if *offline*. The plan of a table that cannot be read has the error,
    which is also among the plan's failures.

    Raises ConfigError as a sync would, and WarehouseError if the warehouse cannot be read.
    """
    scope = scope_of(config, tables, window, catalog, clock())
    warning = file_name_warning(config.warehouse.url, scope.catalog)
    results = Results()
    if warning:
        results.warnings.append(warning)
    with opened(config, scope.catalog, dry_run=True) as warehouse:
        for account in config.accounts:
            for found in warehouse.prepare(owner_of(account, scope.catalog), scope.now):
                results.warn_once(found)
        runs = LastRuns.read(warehouse)
        accounts = [
            _Account(config, scope, warehouse, account, runs, is_offline=offline)
            for account in config.accounts
        ]
        plans = tuple(each.plan() for each in accounts)
    for each in accounts:
        results.warnings += each.results.warnings
    return Plan(
        command=command,
        version=__version__,
        warehouse=masked(config.warehouse.url),
        planned_at=scope.now,
        is_offline=offline,
        at_once=max(1, min(config.parallel_accounts, len(config.accounts))),
        accounts=plans,
        warnings=tuple(results.warnings),
        not_read=tuple(left for each in accounts for left in each.results.left_out()),
        failures=tuple(error for each in accounts for error in each.results.errors),
    )


@dataclass
class _Account:
    """Plans one account. Once Ometria does not answer, its other tables are planned offline."""

    config: Config
    scope: Scope
    warehouse: Warehouse
    account: AccountSettings
    runs: LastRuns
    is_offline: bool
    results: Results = field(init=False)
    is_down: bool = False

    def __post_init__(self) -> None:
        self.results = Results(self.account.source_id)

    def plan(self) -> AccountPlan:
        several = len(self.config.accounts) > 1
        with self.results.naming(self.account.source_id, several=several):
            return self._plan()

    def _plan(self) -> AccountPlan:
        account, warehouse, now = self.account, self.warehouse, self.scope.now
        chosen = self.scope.of(account)
        run = self._run()
        with AccountSource(account, now, self.scope.catalog) as source:
            plans: list[TablePlan] = []
            refused: list[ReplicaError] = []
            reads = list(self._reads(run, source, chosen))
            for read in reads:
                plan, error = self._table(read)
                plans += [plan, *self._inside(read, plan)]
                refused += [error] if error else []
            if refused and len(refused) == len(reads):
                self.results.errors += refused[:1]  # Then it is of the key.
            plans += self._deletion_requests(run, chosen)
            expired = dict(
                warehouse.expiry.remove(chosen, partial(run.lease, account.source_id), now)
            )
            holder = warehouse.leases.holder(account.source_id)
            return AccountPlan(
                account.source_id,
                account.requests_per_second,
                tuple(replace(each, expired=_named(expired).get(each.table, 0)) for each in plans),
                asked=source.requests,
                busy=holder if holder and warehouse.leases.is_active(holder, now) else None,
            )

    def _run(self) -> RunContext:
        return RunContext(
            started_at=self.scope.now,
            window=self.scope.window,
            clock=lambda: self.scope.now,
            progress=NoProgress(),
            threads=OneThread(),
            several=len(self.config.accounts) > 1,
        )

    def _reads(
        self, run: RunContext, source: AccountSource, chosen: Catalog
    ) -> Iterator[TableRead]:
        """Give the tables to read, as a sync would."""
        account = self.account
        lost = lost_tables(self.warehouse, account.source_id)
        people = self.warehouse.suppressions.of(account.source_id, privacy.secret_for(account))
        for table, reason in self.scope.readable(account, chosen):
            if reason:
                self.results.leave_out(table.name, reason)
                continue
            read = TableRead(
                run, self.results, self.warehouse, account, source, table,
                inside=chosen.inside(table), lost=lost,
            )  # fmt: skip
            yield read.without(people)

    def _table(self, read: TableRead) -> tuple[TablePlan, ReplicaError | None]:
        """Plan a table; if it is optional, and Ometria refuses it, also give the refusal."""
        make = FilePlanner if isinstance(read.table.read, Feed) else ApiPlanner
        refusal = None
        try:
            is_offline = self.is_offline or (self.is_down and make is ApiPlanner)
            plan = make(read, self.runs, is_offline).plan()
        except (OmetriaError, ConfigError) as error:  # As of a folder that is not there.
            known = make(read, self.runs, is_offline=True).plan()
            plan = TablePlan(
                self.account.source_id, read.table.name, known.due, known.rows, why=known.why,
                requests=unknown(), records=unknown(), rewritten=unknown(), error=str(error),
                files=known.files and unknown(), bytes=known.bytes and unknown(),
            )  # fmt: skip
            if read.can_be_left_out and isinstance(error, AccessDenied | NotFound):
                refusal = error
            else:
                self.results.errors.append(error)
            if isinstance(error, Unavailable) and make is ApiPlanner:
                self.is_down = True
        source_id = self.account.source_id
        versions = self.warehouse.versions_to_begin(read.table, source_id)
        return replace(plan, versions=versions), refusal

    def _inside(self, read: TableRead, plan: TablePlan) -> Iterator[TablePlan]:
        """Plan the tables that are read with another."""
        source_id = self.account.source_id
        for table in read.inside:
            rows = self._count(read, table)
            yield TablePlan(
                source_id,
                table.name,
                plan.due,
                rows,
                records=unknown(),
                rewritten=replace(unknown(), high=rows) if rows else NOTHING,
                versions=self.warehouse.versions_to_begin(table, source_id),
                reads_with=read.table.name,
            )

    @staticmethod
    def _count(read: TableRead, table: Table) -> int:
        return replace(read, table=table).count_rows()

    def _deletion_requests(self, run: RunContext, chosen: Catalog) -> Iterator[TablePlan]:
        """Plan the deletion requests that an account reads once a day to follow erasures."""
        if not requests_are_due(run, self.warehouse, self.account):
            return
        name = DELETION_REQUESTS.name
        requests = requests_of(self.runs.reads(self.account.source_id, name, "all"))
        if any(map(reads_deletion_requests, chosen)):
            requests = NOTHING  # They are read for that table already.
        elif requests.value is None:
            requests = unknown(1)
        plan = TablePlan(
            self.account.source_id, name, "all", 0, requests=requests, records=unknown(),
            per_minute=DELETION_REQUESTS_ENDPOINT.requests_per_minute,
        )  # fmt: skip
        yield plan.because("interval", "follow_erasures has them read once a day")


def _named(expired: dict[Table, int]) -> dict[str, int]:
    return {table.name: rows for table, rows in expired.items()}
