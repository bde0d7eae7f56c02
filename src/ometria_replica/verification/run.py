"""Compares Ometria and the export with the warehouse: the command ``verify``."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica import privacy, retention
from ometria_replica.accounts import owner_of
from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import masked
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    DifferencesFound,
    NotFound,
    OmetriaError,
    ReplicaError,
)
from ometria_replica.log_context import logging_for
from ometria_replica.ometria.account_source import AccountSource, setting_missing
from ometria_replica.reading_threads import OneThread
from ometria_replica.run_context import NoProgress, RunContext, Window, history_of
from ometria_replica.run_endings import leased, recorded_if_stopped
from ometria_replica.run_results import Results
from ometria_replica.state_commands import opened, refuse_if_unknown
from ometria_replica.table_reads import TableRead
from ometria_replica.text import counted
from ometria_replica.verification.files import FilesVerification, list_files
from ometria_replica.verification.nested import InsideVerification
from ometria_replica.verification.results import verified
from ometria_replica.verification.sample import Budget, Planner, Sample, within
from ometria_replica.verification.tables import TableVerification
from ometria_replica.verify_report import TableVerified, VerifyReport, read_of
from ometria_replica.version import __version__
from ometria_replica.warehouse.verification import Verification
from ometria_replica.ways_to_read import Feed, Inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from ometria_replica.batch import TableState
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.report import Outcome
    from ometria_replica.run_context import Progress
    from ometria_replica.schema import Table
    from ometria_replica.verification.files import ListedFiles
    from ometria_replica.verification.nested import ReadInside
    from ometria_replica.verification.sample import Plan
    from ometria_replica.warehouse.warehouse import Warehouse

_NOT_READ = "no sync has read it to its end since it was last rewound, if ever"


def verify(
    config: Config,
    tables: Sequence[str] = (),
    *,
    share: float | None = None,
    requests: int | None = None,
    seed: int = 0,
    repair: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
    announce: Callable[[str], object] = lambda _: None,
) -> VerifyReport:
    """
    Compare each account of *config* with the warehouse, and report which rows differ.

    *tables* names tables of *catalog*; none means all. *share* is that of the parts of each table
    that *seed* chooses; None reads all. *requests* bounds what is asked of Ometria's API. *repair*
    loads what is missing or stale, and holds the lease of the account for that; else nothing is
    written. *announce* is told what will be read, before it is.

    Raises ConfigError before anything is contacted. Any other error of ours is raised when all
    tables were tried, with the report as its attribute ``report``, if not all could be read.
    """
    catalog = catalog.of(config.accounts).with_records(config.accounts if repair else ())
    chosen = catalog.only(tables)
    privacy.refuse_problems(catalog, config.accounts)
    if repair:
        catalog.refuse_records(config.accounts)
    refuse_if_unknown(config)
    run = RunContext(
        started_at=clock(),
        window=Window(),
        clock=clock,
        progress=progress or NoProgress(),
        threads=OneThread(),
        temp_directory=config.warehouse.limits.temp_directory,
        several=len(config.accounts) > 1,
    )
    sample, budget = Sample(share, seed), Budget(requests)
    work = _Verifying(run, config, catalog, sample, budget, announce, repairs=repair)
    with logging_for(run=run.run_id):
        return work.report(chosen)


def refuse_differences(report: VerifyReport, *, strict: bool) -> None:
    """Raise DifferencesFound if rows differ; if *strict*, also if a later change could be why."""
    differing = report.differing + (report.newer if strict else 0)
    if differing:
        raise DifferencesFound(
            f"{counted(differing, 'row or file', 'rows and files')} of {report.warehouse} are not"
            " as Ometria and the export have them. The report names them; `ometria-replica verify"
            " --repair` loads them again."
        )


@dataclass
class _Verifying:
    """One verification of all accounts."""

    run: RunContext
    config: Config
    catalog: Catalog
    sample: Sample
    budget: Budget
    announce: Callable[[str], object]
    repairs: bool
    results: Results = field(default_factory=Results)
    found: list[TableVerified] = field(default_factory=list)
    not_verified: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """The warehouse's URL without secrets."""
        return masked(self.config.warehouse.url)

    def report(self, chosen: Catalog) -> VerifyReport:
        """Verify every account."""
        run, results = self.run, self.results
        with opened(self.config, self.catalog, dry_run=not self.repairs) as warehouse:
            for account in self.config.accounts:
                for warning in warehouse.prepare(owner_of(account, self.catalog), run.clock()):
                    results.warn_once(warning)
            with self._recorded(warehouse):
                for account in self.config.accounts:
                    with results.naming(account.source_id, several=run.several):
                        self._account(warehouse, account, chosen)
            if self.repairs:
                outcome: Outcome = "failed" if results.errors else "succeeded"
                done = run.report(results, self.place, outcome)
                warehouse.runs.record(history_of(done))
        report = VerifyReport(
            version=__version__,
            warehouse=self.place,
            started_at=run.started_at,
            finished_at=run.clock(),
            seed=self.sample.seed,
            share=self.sample.share,
            repairs=self.repairs,
            tables=tuple(self.found),
            warnings=tuple(results.warnings),
            not_verified=tuple(self.not_verified),
        )
        if results.errors:
            error = _worst(results.errors)
            error.verified = report
            raise error
        return report

    def _recorded(self, warehouse: Warehouse) -> AbstractContextManager[None]:
        if not self.repairs:
            return nullcontext()
        return recorded_if_stopped(self.run, [self.results], warehouse, self.place)

    def _account(self, warehouse: Warehouse, account: AccountSettings, chosen: Catalog) -> None:
        if not self.repairs:
            self._tables(warehouse, account, chosen)
            return
        with leased(self.run, self.results, warehouse, account, self.place) as may_write:
            if may_write:
                self._tables(warehouse, account, chosen)

    def _tables(self, warehouse: Warehouse, account: AccountSettings, chosen: Catalog) -> None:
        run, source_id = self.run, account.source_id
        every = self.catalog.every.as_set(account).tables
        with AccountSource(account, run.started_at, self.catalog) as source:
            verification = Verification(warehouse.sessions, warehouse.leases)
            suppressed = warehouse.suppressions.of(source_id, privacy.secret_for(account))
            reads: list[TableRead] = []
            of_account = chosen.for_account(account)
            for table in of_account.in_reading_order:
                if isinstance(table.read, Inside):
                    continue
                if reason := setting_missing(account, table):
                    self._leave_out(account, table, reason)
                    continue
                kept = self._retained(table, account, warehouse)
                left = replace(kept, keeps_records=kept.keeps_records and self.repairs)
                read = TableRead(
                    run,
                    self.results,
                    warehouse,
                    account,
                    source,
                    left,
                    every,
                    of_account.inside(table),
                )
                reads.append(read.without(suppressed))
            plans = list(self._plans([self._with_inside(each) for each in reads], verification))
            for table in of_account.in_reading_order:
                if not any(table.is_inside(read.table) for read, *_ in plans):
                    self._not_with_another(account, table)
            self._announce(account, [plan for _, plan, _ in plans])
            for read, plan, listed in plans:
                if not isinstance(read.table.read, Feed) and not self.budget.allows(
                    source.requests
                ):
                    self._leave_out(account, read.table, "--requests were used up")
                    continue
                make: Callable[..., TableVerification] = TableVerification
                if listed is not None:
                    make = partial(FilesVerification, listed=listed)
                one = partial(
                    make, read, plan, self.sample, self.budget, self.repairs, verification
                )
                with logging_for(table=read.table.name):
                    self._table(read, plan, one)
            self.budget.used += source.requests
            self.results.warnings += [run.naming(source_id, each) for each in source.warnings]

    def _retained(self, table: Table, account: AccountSettings, warehouse: Warehouse) -> Table:
        """Give the table the oldest time of the rows that must be there; older ones are removed."""
        kept = retention.retained(table, account, self.run.started_at)
        removed = warehouse.expiry.done(account.source_id).get(table.name)
        times = [each for each in (kept.oldest, removed) if each is not None]
        return replace(kept, oldest=max(times, default=None))

    def _plans(
        self, reads: Sequence[TableRead], verification: Verification
    ) -> Iterator[tuple[TableRead, Plan, ListedFiles | None]]:
        """Plan each table that was read to its end. A bound of requests may lower the share."""
        due: list[tuple[TableRead, ListedFiles | None]] = []
        for read in reads:
            state, listed = read.state, None
            if isinstance(read.table.read, Feed):
                try:
                    listed = list_files(read, verification, state)
                except (OmetriaError, ConfigError) as error:
                    self._fail(read, error)
                    continue
                if not listed.loaded:
                    self._leave_out(read.account, read.table, "no file of the export was loaded")
                    continue
            elif state.watermark is None:
                self._leave_out(read.account, read.table, _NOT_READ)
                continue
            due.append((read, listed))
        plans = self._planned(due, self.sample)
        most = self.budget.most
        if most is not None and sum(plan.requests for plan in plans) > most - self.budget.used:
            whole = self._planned(due, replace(self.sample, share=1.0))
            share = within(most - self.budget.used, whole, self.sample.share)
            self.sample = replace(self.sample, share=share)
            plans = self._planned(due, self.sample)
        for (read, listed), plan in zip(due, plans, strict=True):
            yield read, plan, listed

    def _planned(
        self, due: Sequence[tuple[TableRead, ListedFiles | None]], sample: Sample
    ) -> list[Plan]:
        plans = []
        for read, listed in due:
            source_id, now = read.account.source_id, self.run.started_at
            planner = Planner(read.warehouse, source_id, sample, self.catalog, now)
            plans.append(planner.plan(read.table, read.state, listed.loaded if listed else ()))
        return plans

    def _announce(self, account: AccountSettings, plans: Sequence[Plan]) -> None:
        """Say how many requests it will take, and how long at the rate limit."""
        if not plans:
            return
        number = sum(plan.requests for plan in plans)
        seconds = number / account.requests_per_second
        parts = ", ".join(
            f"{read_of(plan.parts, plan.total, plan.unit)} of {plan.table.name}" for plan in plans
        )
        seed = "" if self.sample.share is None else f" (seed {self.sample.seed})"
        size = sum(plan.bytes for plan in plans)
        files = f", and {size / 1e6:,.1f} MB of files" if size else ""
        self.announce(
            f"Verifying {account.source_id}{seed}: {parts}. About {counted(number, 'request')},"
            f" {seconds:,.0f} s at {account.requests_per_second:g} a second{files}; then a few more"
            " for what differs."
        )

    # --- one table ---

    def _table(self, read: TableRead, plan: Plan, make: Callable[[], TableVerification]) -> None:
        source, began, before = read.source, time.monotonic(), read.source.requests
        unit = "bytes" if plan.bytes else "records"
        total = plan.bytes or None
        self.run.progress.start(read.account.source_id, read.table.name, total, unit)
        try:
            with read.progress.reported(lambda: source.requests):
                work = make()
                work.verify()
                found = verified(work)
                self.found.append(
                    replace(
                        found,
                        requests=source.requests - before,
                        seconds=round(time.monotonic() - began, 3),
                    )
                )
                for inside in work.inside:
                    self._inside(work, inside)
        except (OmetriaError, ConfigError) as error:
            is_refused = isinstance(error, AccessDenied | NotFound)
            if is_refused and read.table.optional and read.table.name not in read.account.require:
                self._leave_out(read.account, read.table, f"it could not be read: {error}")
            else:
                self._fail(read, error)

    def _inside(self, table: TableVerification, inside: ReadInside) -> None:
        """Verify a table whose rows are inside the records of *table*, which was verified."""
        read, source, began = table.read, table.read.source, time.monotonic()
        before, state = source.requests, read.state_of(inside.table)
        work = InsideVerification(
            read,
            inside,
            table.plan,
            replace(table.plan.state, watermark=_earlier(table.plan.state, state)),
            table.parts,
            table.parts_total,
            self.budget,
            table.verification,
        )
        with logging_for(table=inside.table.name):
            work.verify()
        found = verified(work)
        self.found.append(
            replace(
                found,
                repaired=found.repaired + table.repaired_inside[inside.table.name],
                requests=source.requests - before,
                seconds=round(time.monotonic() - began, 3),
            )
        )

    def _with_inside(self, read: TableRead) -> TableRead:
        """Leave out the tables inside this one that were not read with all of its records."""
        state, known = read.state, []
        for table in read.inside:
            at = read.state_of(table).watermark
            if at is None or (state.full_read_at is not None and at < state.full_read_at):
                self._leave_out(read.account, table, _NOT_READ)
            else:
                known.append(table)
        return replace(read, inside=tuple(known))

    def _not_with_another(self, account: AccountSettings, table: Table) -> None:
        if isinstance(table.read, Inside):
            reason = f"it is verified with {table.read.parent}, which is not verified"
            self._leave_out(account, table, reason)

    def _fail(self, read: TableRead, error: ReplicaError) -> None:
        self.results.errors.append(error)
        self.found.append(
            TableVerified(read.account.source_id, read.table.name, "part", error=str(error))
        )

    def _leave_out(self, account: AccountSettings, table: Table, reason: str) -> None:
        self.not_verified.append(f"{table.name} of {account.source_id}: {reason}")


def _earlier(one: TableState, other: TableState) -> datetime | None:
    """Return the earlier watermark of two tables; None if there is none."""
    known = [each.watermark for each in (one, other) if each.watermark is not None]
    return min(known, default=None)


def _worst(errors: Sequence[ReplicaError]) -> ReplicaError:
    return min(errors, key=lambda error: error.exit_code == 75)
