"""
The public functions, for programs, notebooks and orchestrators: they return plain data.

Each does what the command of its name does. Its result is a frozen dataclass, of which
``to_dict()`` is the document that the command prints with ``--json``, and ``to_text()`` the text.
No function prints, configures logging, handles signals or ends the program. They can be called in
any thread, several at a time; one that is interrupted, as by Ctrl-C in a notebook, releases what
it holds and raises KeyboardInterrupt.
"""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar, overload

from ometria_replica import erasing, maintaining
from ometria_replica.accounts import only_accounts
from ometria_replica.catalog import CATALOG
from ometria_replica.check_report import CheckReport
from ometria_replica.clock import utc_now
from ometria_replica.doctor.run import check as test_everything
from ometria_replica.erasure_report import ErasePreview, Erasure
from ometria_replica.errors import ConfigError
from ometria_replica.planning.run import plan_run
from ometria_replica.replica_status import read_status
from ometria_replica.run_context import Window
from ometria_replica.running import measured, observed_sync, refuse_rejects
from ometria_replica.status_report import TOO_OLD
from ometria_replica.stopping import interrupts_raised
from ometria_replica.text import names_of
from ometria_replica.verification.run import verify as compare
from ometria_replica.verification.sample import random_seed, share_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date, datetime, timedelta

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config
    from ometria_replica.maintenance_report import Maintenance
    from ometria_replica.planning.plan_report import Plan
    from ometria_replica.report import RunReport
    from ometria_replica.run_context import Progress
    from ometria_replica.status_report import Status
    from ometria_replica.verify_report import VerifyReport

    Names = str | Iterable[str]
    """One name, or several. None of them means all."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _interruptible(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let Ctrl-C be KeyboardInterrupt, wherever it comes."""

    @wraps(function)
    def interruptible(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with interrupts_raised():
            return function(*args, **kwargs)

    return interruptible


@_interruptible
def sync(
    config: Config,
    tables: Names = (),
    *,
    accounts: Names = (),
    full: bool = False,
    detect_deletes: bool = False,
    since: date | None = None,
    until: date | None = None,
    dry_run: bool = False,
    strict: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
) -> RunReport:
    """
    Read new and changed records of Ometria, and merge them into the warehouse.

    *tables* and *accounts* name one or several, as the settings do; none means all that are
    switched on. Each table is read from its watermark on, unless *full* reads everything again, or
    *since* everything from that day on, in UTC. With *until*, it is the command ``backfill``: the
    read ends after that day. Neither of both moves the watermark. *detect_deletes* reads profiles
    and lists in full, and finds the deleted ones. *dry_run* reads, maps and compares, and writes
    nothing. With *strict*, anything that is rejected, in this run or before, is an error, after
    everything else was loaded.

    The settings `notify`, `metrics`, `traces` and `lineage` have their effect, as with the command.
    *catalog* are tables of your own, *clock* gives the time, in UTC, and *progress* is told how far
    each table is, in the thread of the call; None tells nothing.

    The report counts by account and table: requests, files and records are read; inserted, updated
    and unchanged are rows. Times are in UTC, durations in seconds.

    Raises ConfigError before anything is contacted. Any other ReplicaError is raised when all
    tables were tried, and has the report of the run as its attribute ``report``, or None if there
    was no run. What was committed before an error stays, and the next call continues there. Errors
    with the `exit_code` 75 (Busy, Unreachable, Unavailable) pass by themselves: try again later.
    """
    chosen = only_accounts(config, names_of(accounts))
    file = Path(config.metrics) if config.metrics and not dry_run and until is None else None
    with measured(config, file, tells=None if dry_run else chosen) as run:
        run.report = observed_sync(
            chosen,
            names_of(tables),
            full=full,
            detect_deletes=detect_deletes,
            since=since,
            until=until,
            dry_run=dry_run,
            catalog=catalog,
            clock=clock,
            progress=progress,
        )
        if strict:
            refuse_rejects(chosen, run.report)
    return run.report


@_interruptible
def check(config: Config, *, accounts: Names = (), strict: bool = False) -> CheckReport:
    """
    Test the settings, the API keys, the buckets, the warehouse and the machine. Changes nothing.

    *accounts* names one or several; none means all. With *strict*, the report's `exit_code` is 4
    if there are only warnings. A test that fails is a finding, and raises nothing: look at
    `level`. A finding has a *code* for programs, a *text*, and in *mend* what to do; None if
    it passed. It takes up to two minutes if Ometria or a bucket does not answer.

    Raises ConfigError for an account that is not in the settings.
    """
    chosen = only_accounts(config, names_of(accounts))
    return CheckReport(tuple(test_everything(chosen)), strict)


@_interruptible
def plan(
    config: Config,
    tables: Names = (),
    *,
    accounts: Names = (),
    full: bool = False,
    detect_deletes: bool = False,
    since: date | None = None,
    until: date | None = None,
    offline: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Plan:
    """
    Say what :func:`sync` with the same arguments would take. Writes nothing.

    A few requests are sent to count what is due, and the export is listed; none if *offline*.
    `requests`, `seconds`, `files` and `bytes` of the plan are figures: a *value*, None if it is
    not known, between *low* and *high*, None without a bound, and on which *basis*: `known`,
    `estimated` or `unknown`. A table that could not be planned has its *error*, and is among the
    *failures* of the plan, which are raised nowhere.

    Raises ConfigError as a sync would, and WarehouseError if the warehouse cannot be read.
    """
    return plan_run(
        only_accounts(config, names_of(accounts)),
        names_of(tables),
        Window(full, detect_deletes, since, until),
        command="sync" if until is None else "backfill",
        offline=offline,
        catalog=catalog,
        clock=clock,
    )


@_interruptible
def status(
    config: Config,
    tables: Names = (),
    *,
    accounts: Names = (),
    max_age: timedelta = TOO_OLD,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Status:
    """
    Say how fresh each table is, and what needs attention. Reads the warehouse only.

    `is_all_right` is False if no sync has run, if the last one failed, or if one of the accounts or
    tables is older than *max_age*, two days by default. `complete_until` of a table is the time in
    UTC before which everything has been read; None if it was not read to its end yet.

    Raises ConfigError for an unknown name, Busy if a run writes the DuckDB file, and WarehouseError
    if the warehouse cannot be read.
    """
    chosen = only_accounts(config, names_of(accounts))
    return read_status(chosen, names_of(tables), max_age=max_age, catalog=catalog, clock=clock)


@_interruptible
def verify(
    config: Config,
    tables: Names = (),
    *,
    accounts: Names = (),
    everything: bool = False,
    share: float | None = None,
    requests: int | None = None,
    seed: int | None = None,
    repair: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
) -> VerifyReport:
    """
    Compare Ometria and the export with the warehouse, and say which rows differ.

    *share* is that of the pages, lists, windows of time and files to read, at random, above 0 and
    at most 1; None means 0.05. *everything* reads all. *requests* is about the most to send to the
    API; None sets no limit. *seed* chooses the same sample again; None draws one, which the
    report has. *repair* loads what is missing or differs, and no sync can run meanwhile; else
    nothing is written. *progress* is as in :func:`sync`.

    Rows that differ are no error here: look at `differing`, and at `newer` for rows that may have
    changed in Ometria since the last sync. The report has keys, and no value of a row.

    Raises ConfigError before anything is contacted. Any other ReplicaError is raised when all
    tables were tried, with the report as its attribute ``verified``.
    """
    return compare(
        only_accounts(config, names_of(accounts)),
        names_of(tables),
        share=share_to_read(everything, share, requests),
        requests=requests,
        seed=random_seed() if seed is None else seed,
        repair=repair,
        catalog=catalog,
        clock=clock,
        progress=progress,
    )


@_interruptible
def maintain(
    config: Config,
    tables: Names = (),
    *,
    retention: timedelta | None = None,
    optimize: bool = True,
    dry_run: bool = False,
    force: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Maintenance:
    """
    Write the small files of a lake together, and remove old versions. No sync can run meanwhile.

    *tables* names one or several, each with its history and kept records; none means all, with the
    tables of the state. *retention* is for how long versions stay after they were replaced, in
    whole hours; None means a week, or longer where a table says so. Less than a day needs *force*,
    as readers at work may fail. Without *optimize*, only versions are removed. *dry_run* says what
    would be done, and changes nothing.

    `joined`, `written` and `removed` are files and their bytes. `maintains_itself` says why there
    is nothing to do in a warehouse that is no lake; empty in a lake.

    Raises ConfigError, with nothing changed, for an unknown name, a *retention* that cannot be, and
    a warehouse that no account was synced to; Busy while a run is active; and WarehouseError if the
    warehouse refuses. What was done before an error stays, and the next call continues there.
    """
    return maintaining.maintain(
        config.warehouse,
        names_of(tables),
        retention=retention,
        optimize=optimize,
        dry_run=dry_run,
        force=force,
        catalog=catalog,
        clock=clock,
    )


@overload
def erase(
    config: Config,
    *,
    dry_run: Literal[True],
    emails: Names = ...,
    profile_ids: Names = ...,
    customer_ids: Names = ...,
    accounts: Names = ...,
    again: bool = ...,
    blank: bool = ...,
    catalog: Catalog = ...,
) -> ErasePreview: ...


@overload
def erase(
    config: Config,
    *,
    dry_run: Literal[False],
    emails: Names = ...,
    profile_ids: Names = ...,
    customer_ids: Names = ...,
    accounts: Names = ...,
    again: bool = ...,
    blank: bool = ...,
    catalog: Catalog = ...,
) -> Erasure: ...


@_interruptible
def erase(
    config: Config,
    *,
    dry_run: bool,
    emails: Names = (),
    profile_ids: Names = (),
    customer_ids: Names = (),
    accounts: Names = (),
    again: bool = False,
    blank: bool = False,
    catalog: Catalog = CATALOG,
) -> ErasePreview | Erasure:
    """
    Erase people from all tables, and let no sync load them again. It cannot be undone.

    *dry_run* has no default. True returns what is held, in numbers, and changes nothing: look at it
    first, as the command shows it before it asks. `most_profiles` above 1 means that several
    profiles hang together, by an address or a customer id that they share. False erases, and
    returns a receipt for each account.

    *emails*, *profile_ids* and *customer_ids* are one or several; an address in any case.
    *accounts* names one or several; none means all. With *blank*, events stay without personal
    data. *again* also erases what has come of people who were erased before, and may stand without
    an id.

    Raises ConfigError, with nothing changed, without an id, for an id that cannot be one, and if
    the columns are treated otherwise than the settings say; Busy, with nothing changed, while a run
    of one of the accounts is active; and WarehouseError if the warehouse refuses.
    """
    if type(dry_run) is not bool:  # Some text, or None, must not mean False.
        raise TypeError("dry_run: is True, to see what is held, or False, to erase.")
    ids = erasing.ids_of(emails, profile_ids, customer_ids)
    if not ids and not again:
        raise ConfigError("Say whom: emails, profile_ids or customer_ids. Nothing was changed.")
    chosen = only_accounts(config, names_of(accounts))
    if dry_run:
        found = erasing.find(chosen, ids, again=again, catalog=catalog)
        return ErasePreview.of(found, blank=blank)
    done = erasing.erase(chosen, ids, again=again, blank=blank, catalog=catalog)
    return Erasure(tuple(done))
