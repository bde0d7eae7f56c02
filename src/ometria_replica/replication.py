"""
The main loop: for each account, for each table, for each batch: stage and load.

Start reading here. Lists are read before list changes, because changes are requested per list.
Otherwise tables are independent: if Ometria refuses or fails one, the next is still read.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, date
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica import privacy, retention
from ometria_replica.batch import Owner
from ometria_replica.batching import parts_inside
from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.config import masked
from ometria_replica.duckdb_files import file_name_warning
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    NotEnoughMemory,
    NotFound,
    OmetriaError,
    ReplicaError,
)
from ometria_replica.failpoints import step
from ometria_replica.following import (
    forget_replaced,
    forget_what_is_left,
    note_deletion_requests,
)
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import Staging
from ometria_replica.ometria.account_source import AccountSource, setting_missing
from ometria_replica.run_context import (
    LEASE,
    NoProgress,
    Progress,
    RunContext,
    Window,
    utc_now,
)
from ometria_replica.run_endings import finish, is_of_a_library, leased, recorded_if_stopped
from ometria_replica.schema import Feed, Inside, Newest
from ometria_replica.table_reads import TableRead, api_batches, export_batches
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.mapping import Staged
    from ometria_replica.report import RunReport
    from ometria_replica.run_context import Fetch
    from ometria_replica.schema import Table
    from ometria_replica.table_reads import Pending
    from ometria_replica.warehouse.warehouse import Warehouse

__all__ = [
    "LEASE",
    "NoProgress",
    "Progress",
    "owner_of",
    "reachable",
    "refuse_future",
    "sync",
    "utc_now",
]


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
    fetch: Fetch | None = None,
) -> RunReport:
    """
    Replicate every account of *config*, and report the result.

    *tables* names tables of *catalog* that an account has switched on; none means all of those.
    Each is read from its watermark on, unless *full* reads everything again, or *since* everything
    from that day on; *until* ends the read after that day, for files and for tables that are read
    by windows of time. Neither *since* nor *until* moves the watermark. *detect_deletes* reads
    profiles and lists in full, and so finds the deleted ones. *dry_run* reads, maps and compares,
    and writes nothing. *fetch* fetches the export files; None fetches them on this machine.

    Raises ConfigError before anything is contacted. Any other error of ours is raised when all
    tables were tried, with the report as its attribute ``report``.
    """
    catalog = catalog.of(config.accounts)
    chosen = catalog.read_with(tables)
    window = Window(full, detect_deletes, since, until)
    _refuse_contradictions(window)
    _refuse_what_is_not_set(config, catalog, tables)
    window = replace(window, since=reachable(since), until=reachable(until))
    limits = config.warehouse.limits
    run = RunContext(clock(), window, clock, progress or NoProgress(), fetch, limits.temp_directory)
    run.several = len(config.accounts) > 1
    refuse_future(since, run.started_at)
    _refuse_what_is_not_kept(config, chosen, window, run.started_at)
    if warning := file_name_warning(config.warehouse.url, catalog):
        run.warnings.append(warning)
    with open_warehouse(
        config.warehouse.url,
        catalog=catalog,
        dry_run=dry_run,
        storage_version=config.warehouse.duckdb_storage_version,
        limits=limits,
    ) as warehouse:
        place = masked(config.warehouse.url)
        with recorded_if_stopped(run, warehouse, place):
            for account in config.accounts:
                found = warehouse.prepare(owner_of(account, catalog), run.clock())
                run.warnings += [warning for warning in found if warning not in run.warnings]
            for account in config.accounts:
                with (
                    run.at(account.source_id),
                    leased(run, warehouse, account, place) as may_write,
                ):
                    if may_write:
                        _sync_account(run, warehouse, account, chosen, catalog)
        return finish(run, warehouse, place, dry_run=dry_run)


def _sync_account(
    run: RunContext, warehouse: Warehouse, account: AccountSettings, tables: Catalog, all_: Catalog
) -> None:
    with AccountSource(account, run.started_at, all_) as source:
        try:
            secret, every = privacy.secret_for(account), all_.every.as_set(account).tables
            of_account = tables.for_account(account)
            chosen = replace(
                of_account,
                tables=tuple(
                    retention.retained(table, account, run.started_at)
                    for table in of_account.in_reading_order
                ),
            )
            suppressed = warehouse.suppressions.of(account.source_id, secret)
            refusals: list[OmetriaError | None] = []
            for table in chosen:
                if isinstance(table.read, Inside):
                    continue  # It is read with its parent.
                if reason := setting_missing(account, table) or _not_kept(table, run.window):
                    run.leave_out(account.source_id, table.name, reason)
                    continue
                if suppressed or account.follow_erasures:  # The table before may have added some.
                    suppressed = warehouse.suppressions.of(account.source_id, secret)
                left, *inside = (
                    replace(each, suppressions=suppressed)
                    for each in (table, *chosen.inside(table))
                )
                read = TableRead(run, warehouse, account, source, left, every, tuple(inside))
                with step(f"table {table.name}"), _going_on(run):
                    refusals.append(sync_table(read))
            if refusals and None not in refusals:  # Of the key, and not of a table or two.
                run.errors += [each for each in refusals if each][:1]
            with _going_on(run):
                note_deletion_requests(run, warehouse, account, source)
            lease = partial(run.lease, account.source_id)
            for table, rows in warehouse.expiry.remove(chosen, lease, run.clock()):
                run.add_expired(account.source_id, table.name, rows)
            forget_what_is_left(warehouse, account)
        except ReplicaError as error:
            run.errors.append(error)  # Without a warehouse or a disk, no table can be read.
        except BaseException as error:
            if not is_of_a_library(error):
                raise
            run.bugs.append(error)  # The other accounts may well be read.
        run.warnings += [run.naming(account.source_id, each) for each in source.warnings]


def _not_kept(table: Table, window: Window) -> str | None:
    """Say that none of the days that are asked for is kept; None if one is."""
    if window.until is None or window.until >= retention.oldest_day(table, window.until):
        return None
    return "retain keeps none of these days"


def sync_table(read: TableRead) -> OmetriaError | None:
    """
    Read one table of one account in batches, and load each.

    Returns why an optional table could not be read, of which the report warns.
    """
    batches = export_batches if isinstance(read.table.read, Feed) else api_batches
    missed = isinstance(read.table.read, Newest) and read.state.watermark is not None
    with ExitStack() as reports:
        for inside in reversed(read.progress_inside.values()):
            reports.enter_context(inside.reported(lambda: 0))
        reports.enter_context(
            read.progress.reported(lambda: read.source.requests, lambda: read.source.rate_limited)
        )
        try:
            for pending in batches(read):
                _load(read, pending)
        except (AccessDenied, NotFound) as error:
            names = {each.name for each in (read.table, *read.inside)}
            if not read.table.optional or names & set(read.account.require):
                raise
            read.progress.warn(f"it could not be read: {error}")
            return error
        if missed:
            _warn_if_missed(read)
    return None


def _warn_if_missed(read: TableRead) -> None:
    """Warn if an endpoint that gives its newest records gave none that was known."""
    report, newest = read.progress.report, read.table.read
    is_known = report.unchanged or report.updated or report.merged
    if isinstance(newest, Newest) and report.records >= newest.most and not is_known:
        read.progress.warn(
            f"all of the newest {newest.most} are new, so there were probably more since the last"
            " run, and Ometria no longer gives them; run more often to miss none"
        )


def _load(read: TableRead, pending: Pending) -> None:
    """Stage and load a batch; in parts, if there is too little memory for the whole of it."""
    try:
        batch, staged = stage(
            read.warehouse.connection, read.account, read.table, pending, read.inside
        )
        forget_replaced(read, batch)
        with translating(f"loading {read.table.name}"):
            loaded = read.warehouse.load(batch)
    except NotEnoughMemory:
        parts = pending.in_parts()
        if not parts:
            raise
    else:
        pending.finish()
        read.progress.add(staged, loaded)
        for name, inside in read.progress_inside.items():
            inside.add(staged.inside[name], loaded.parts[name])
        return
    for part in parts:
        _load(read, part)


def stage(
    connection: DuckDBPyConnection,
    account: AccountSettings,
    table: Table,
    pending: Pending,
    inside: tuple[Table, ...] = (),
) -> tuple[Batch, Staged]:
    """Map records, and the tables *inside* them, into the temporary tables of *connection*."""
    with translating(f"mapping {table.name}", connection):
        staging = Staging(connection, table, account.account_id, account.source_id, inside)
        batch = pending.stage(staging)
        with step("mapping"):
            staged = staging.finish()
            batch = replace(batch, joined_ids=staged.joined_ids, parts=parts_inside(staging))
        if batch.is_full:
            staging.collect_keys(afresh=pending.is_first)
        return batch, staged


@contextmanager
def _going_on(run: RunContext) -> Iterator[None]:
    """
    Note that Ometria refused or failed a table, and go on: the next may well be read.

    In an outage, the client gives up the next tables sooner than the first.
    """
    try:
        yield
    except OmetriaError as error:
        run.errors.append(error)


def owner_of(account: AccountSettings, catalog: Catalog) -> Owner:
    """Return the account as the warehouse knows it: its source, its keys, its columns."""
    treatments = privacy.treatments_of(catalog.every.as_set(account))
    return Owner(account.account_id, account.source_id, account.wide_keys, treatments)


def _refuse_what_is_not_set(config: Config, catalog: Catalog, named: Sequence[str]) -> None:
    """Raise ConfigError if no account can read a named table, or one lacks what it requires."""
    missing = {
        (account.source_id, table.name): setting_missing(account, table)
        for account in config.accounts
        for table in catalog
    }
    problems = [
        f"{name}: cannot be read: {missing[config.accounts[0].source_id, name]}."
        for name in named
        if all(missing[account.source_id, name] for account in config.accounts)
    ]
    problems += [
        f"{table.name}: required for '{account.source_id}', but {reason}."
        for account in config.accounts
        for table in (catalog.of([account]).only(account.require) if account.require else ())
        if (reason := missing[account.source_id, table.name])
    ]
    problems += [
        f"{account.source_id}: {problem}"
        for account in config.accounts
        for problem in (
            *privacy.problems(catalog.every, account),
            *privacy.problems_inside(catalog.for_account(account)),
            *catalog.of([account]).problems(),
            *retention.problems(catalog.every, account),
        )
    ]
    if problems:
        raise ConfigError(problems)


def _refuse_what_is_not_kept(
    config: Config, tables: Catalog, window: Window, now: datetime
) -> None:
    """
    Raise ConfigError if *window* begins before anything that is kept of any table.

    If others of the tables keep rows for longer, what is asked for can be done of these, and the
    read of the rest begins with what is kept: to refuse it would lose the others too.
    """
    first = window.since or window.until
    if first is None:
        return
    kept = {
        (account.source_id, table.name): retention.oldest_day(
            retention.retained(table, account, now), first
        )
        for account in config.accounts
        for table in tables
        if setting_missing(account, table) is None
    }
    if kept and all(first < day for day in kept.values()):
        raise ConfigError(
            f"{first} is before what retain keeps of {name} of '{source_id}': it keeps rows from"
            f" {day} on, and would remove older ones. Begin on that day, or change the setting."
            for (source_id, name), day in kept.items()
        )


def refuse_future(since: date | None, now: datetime) -> None:
    """Raise ConfigError for a day from which on nothing can have happened yet."""
    today = now.astimezone(UTC).date()
    if since is not None and since > today:
        raise ConfigError(f"{since} is in the future: today is {today} in UTC. Check the year.")


def reachable(day: date | None) -> date | None:
    """Limit a day to times before and after which there is a margin for look-backs."""
    return None if day is None else min(max(day, date(1970, 1, 1)), date(9000, 1, 1))


def _refuse_contradictions(window: Window) -> None:
    if window.is_partial and (window.full or window.detect_deletes):
        raise ConfigError(
            "--since and --until read a part of a table, --full and --detect-deletes all of it."
            " Leave out one or the other."
        )
    if window.since and window.until and window.since > window.until:
        raise ConfigError(f"The first day, {window.since}, is after the last one, {window.until}.")
