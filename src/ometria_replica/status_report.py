"""The status of a replica, as data, text and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import as_json, plain_document
from ometria_replica.maintenance_report import due_as_text
from ometria_replica.report import error_cause
from ometria_replica.text import ago, aligned, counted, size, span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ometria_replica.batch import Lease
    from ometria_replica.report import RunReport
    from ometria_replica.warehouse.upkeep import Due

TOO_OLD = timedelta(days=2)
"""Without another limit: what a daily sync never reaches, even if one run of it fails."""

MOST_WARNINGS = 3  # Of the last run; `runs` has the others.


@dataclass(frozen=True)
class Disk:
    """A DuckDB *file*: its size with its log, and what is free on its disk, in bytes."""

    file: str
    bytes: int
    free_bytes: int


@dataclass(frozen=True)
class AccountStatus:
    """
    One account. *last_success_at* is the end of the last run that read its tables without error.

    None: no such run is in the history.
    """

    account_id: str
    source_id: str
    last_success_at: datetime | None


@dataclass(frozen=True)
class TableStatus:
    """
    One table of one account.

    *complete_until* None: the table was not read to its end yet. *newest_event* None: it has no
    event, or no column for the time of one. *rejects* are in the rejects table; *merged* events
    share the key of another, in the newest RECENT_RUNS runs. *deleted_upstream* rows are of
    records that are gone from Ometria. *files* were read or tried, *files_unreadable* of them
    could not be read, and *files_waiting* of those are tried again; *lists_waiting* are lists of
    which changes are outstanding. *error* is why the last run that tried could not read it.
    """

    source_id: str
    table: str
    rows: int
    complete_until: datetime | None
    newest_event: datetime | None
    rejects: int
    merged: int
    deleted_upstream: int
    files: int
    files_unreadable: int
    files_waiting: int
    lists_waiting: int
    error: str | None


@dataclass(frozen=True)
class Status:
    """
    The state of a replica at the time *asked_at*.

    *not_read* are tables that the settings leave out: source, reason, names. *last_run* is the
    last one that has ended, None if none has; *active_runs* are at work. *disk* is None unless
    the warehouse is a DuckDB file that exists. *elsewhere* are sources in the warehouse that the
    settings do not name. *maintenance_due* are tables of a lake that `maintain` should maintain;
    empty in any other warehouse. *max_age* is the limit of what counts as too old.
    """

    asked_at: datetime
    warehouse: str
    max_age: timedelta
    accounts: tuple[AccountStatus, ...]
    tables: tuple[TableStatus, ...]
    not_read: tuple[tuple[str, str, tuple[str, ...]], ...]
    last_run: RunReport | None
    active_runs: tuple[Lease, ...]
    disk: Disk | None
    elsewhere: tuple[str, ...] = ()
    maintenance_due: tuple[Due, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether no sync has run here."""
        return self.last_run is None and not any(table.rows for table in self.tables)

    @property
    def last_run_failed(self) -> bool:
        """Whether the last run that has ended did not go through."""
        return self.last_run is not None and self.last_run.outcome != "succeeded"

    @property
    def accounts_too_old(self) -> tuple[AccountStatus, ...]:
        """The accounts for which no run has succeeded within *max_age*."""
        return tuple(each for each in self.accounts if self._is_too_old(each.last_success_at))

    @property
    def tables_too_old(self) -> tuple[TableStatus, ...]:
        """The tables that are complete only up to a time before *max_age*, or not at all."""
        return tuple(each for each in self.tables if self._is_too_old(each.complete_until))

    @property
    def is_all_right(self) -> bool:
        """Whether the last run succeeded, and nothing is too old."""
        return not (
            self.is_new or self.last_run_failed or self.accounts_too_old or self.tables_too_old
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert the status to plain data: the document of ``status --json``."""
        return plain_document("status", _fields(self))

    def to_json(self) -> str:
        """Write the status as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write the status as text: the answer, then what it is based on."""
        return _as_text(self)

    def _is_too_old(self, moment: datetime | None) -> bool:
        return moment is None or self.asked_at - moment > self.max_age


def _as_text(status: Status) -> str:
    """Write the verdict, then what it is based on: a screen."""
    problems = list(problems_of(status))
    lines = [verdict(status)]
    lines += [f"  {problem}" for problem in problems[1:]]
    lines += ["", *_facts(status)]
    if status.tables and not status.is_new:
        lines += ["", *_table_lines(status)]
    if notes := list(notes_of(status)):
        lines += ["", "To look at:", *(f"  {note}" for note in notes)]
    if left_out := list(_left_out(status)):
        lines += ["", *left_out]
    return "\n".join(lines)


def verdict(status: Status) -> str:
    """Answer in a sentence whether all is right, and what to do if not."""
    if status.is_all_right:
        tables = counted(len(status.tables), "table")
        moments = [each.complete_until for each in status.tables if each.complete_until]
        until = ago(status.asked_at - min(moments)) if moments else ""
        be = "is" if len(status.tables) == 1 else "are"
        return f"All right: {tables} {be} complete up to {until}." if until else "All right."
    return f"Not all right: {next(problems_of(status))}"


def problems_of(status: Status) -> Iterator[str]:
    """Say what is not all right, the worst first, each with what to do."""
    if status.is_new:
        if status.active_runs:
            yield "the first sync is still at work. Ask again when it is done."
        else:
            yield "no sync has run here yet. Run `ometria-replica sync`."
        return
    run = status.last_run
    if run is not None and status.last_run_failed:
        when, reason = ago(status.asked_at - run.finished_at), _one_line(run.reason or "")
        ended = {"failed": "failed", "stopped": "was stopped"}.get(run.outcome, "did not end")
        yield f"the last run {ended} {when}: {reason or 'see `ometria-replica runs`.'}"
    do = "Run `ometria-replica sync`"
    again = f"{do} for all tables, and read its warnings" if not status.accounts_too_old else do
    yield from (f"{each}. {do}, or mend the schedule." for each in _too_old_accounts(status))
    yield from (f"{each}. {again}." for each in _too_old_tables(status))


def _too_old_accounts(status: Status) -> Iterator[str]:
    """Say when runs of accounts last succeeded; accounts of one time in one sentence."""
    several = len(status.accounts) > 1
    alike: dict[str, list[str]] = {}
    for account in status.accounts_too_old:
        last = account.last_success_at
        since = ago(status.asked_at - last) if last else ""
        alike.setdefault(since, []).append(account.source_id)
    for since, names in alike.items():
        whose = f" of {', '.join(names)}" if several else ""
        if since:
            yield f"the last run{whose} that succeeded ended {since}"
        else:
            yield f"no run{whose} has succeeded yet"


def _too_old_tables(status: Status) -> Iterator[str]:
    """Say up to when tables are complete; those of one time in one sentence."""
    alike: dict[str, list[str]] = {}
    for table in status.tables_too_old:
        until = table.complete_until
        how = f"complete only up to {ago(status.asked_at - until)}" if until else ""
        alike.setdefault(how, []).append(_name(status, table))
    for how, names in alike.items():
        be, have = ("is", "has") if len(names) == 1 else ("are", "have")
        told = f"{be} {how}" if how else f"{have} not been read to the end yet"
        is_all = len(names) == len(status.tables) > 1
        which = f"all {len(names)} tables" if is_all else ", ".join(names)
        yield f"{which} {told}"


def notes_of(status: Status) -> Iterator[str]:
    """Say what needs a look although the replica may be all right."""
    for table in status.tables:
        yield from (f"{_name(status, table)}: {note}." for note in _table_notes(table))
    yield from _failures(status)
    if status.last_run:
        yield from (
            f"the last run warned: {_one_line(warning)}"
            for warning in status.last_run.warnings[:MOST_WARNINGS]
        )
    if status.elsewhere:
        yield f"the warehouse also holds {', '.join(status.elsewhere)}, not in the settings."
    if status.maintenance_due:
        yield f"{due_as_text(status.maintenance_due)} Run `ometria-replica maintain`."


def _table_notes(table: TableStatus) -> Iterator[str]:
    if (rest := table.rejects - table.files_unreadable) > 0:
        rejects = counted(rest, "value or record was", "values or records were")
        yield f"{rejects} set aside; see `ometria-replica rejects list`"
    if table.merged:
        events = counted(table.merged, "event was", "events were")
        yield f"{events} merged into others with the same key, in the last runs; see `wide_keys`"
    if table.deleted_upstream:
        rows = counted(table.deleted_upstream, "record is", "records are")
        yield f"{rows} gone from Ometria; see `ometria_replica.deleted_upstream`"
    if table.files_unreadable:
        files = counted(table.files_unreadable, "file")
        again = ""
        if table.files_waiting:
            again = f", of which {table.files_waiting:,} will be tried again"
        yield f"{files} could not be read{again}; see `ometria-replica rejects list`"
    if table.lists_waiting:
        yield f"the changes of {counted(table.lists_waiting, 'list')} are still to be read"


def _failures(status: Status) -> Iterator[str]:
    """Say which tables the last run that tried could not read; those of one cause at once."""
    alike: dict[str, list[TableStatus]] = {}
    for table in status.tables:
        if table.error:
            cause = f"{table.source_id} {error_cause(table.error)}"
            alike.setdefault(cause, []).append(table)
    known = status.last_run.reason if status.last_run and status.last_run_failed else None
    for tables in alike.values():
        names = ", ".join(_name(status, table) for table in tables)
        errors = [table.error or "" for table in tables]
        why = ", as said above." if known in errors else f": {_one_line(errors[0])}"
        yield f"{names}: could not be read{why}"


def _facts(status: Status) -> Iterator[str]:
    run = status.last_run
    yield f"Last run:   {_run(status, run) if run else 'none has ended'}"
    if status.active_runs:
        yield f"Active now: {', '.join(map(_active, status.active_runs))}"
    else:
        yield "Active now: no run"
    yield f"Warehouse:  {status.warehouse}{_disk(status)}"


def _run(status: Status, run: RunReport) -> str:
    seconds = (run.finished_at - run.started_at).total_seconds()
    when = f"{_time(run.finished_at)} UTC, {ago(status.asked_at - run.finished_at)}"
    work = f"{counted(run.changed, 'row')} new or changed, {counted(run.requests, 'request')}"
    return f"{run.outcome} at {when}; it took {span(timedelta(seconds=seconds))}: {work}"


def _active(lease: Lease) -> str:
    return f"{lease} for {lease.source_id}"


def _disk(status: Status) -> str:
    if status.disk is None:
        return ""
    return f", {size(status.disk.bytes)}; {size(status.disk.free_bytes)} free on its disk"


def _table_lines(status: Status) -> list[str]:
    heads = ["table", "complete up to (UTC)", "newest event (UTC)"]
    lines = [[*heads, "rows", "set aside", "gone upstream"]]
    lines += [
        [
            _name(status, table),
            _time(table.complete_until) if table.complete_until else "not yet",
            _time(table.newest_event) if table.newest_event else "-",
            f"{table.rows:,}",
            f"{table.rejects:,}",
            f"{table.deleted_upstream:,}",
        ]
        for table in status.tables
    ]
    return aligned(lines, left=len(heads))


def _left_out(status: Status) -> Iterator[str]:
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for source_id, reason, names in status.not_read:
        alike.setdefault((reason, names), []).append(source_id)
    for (reason, names), sources in alike.items():
        whose = f" of {', '.join(sources)}" if len(status.accounts) > 1 else ""
        yield f"Not replicated{whose}: {', '.join(names)} ({reason})."


def _name(status: Status, table: TableStatus) -> str:
    return f"{table.source_id} {table.table}" if len(status.accounts) > 1 else table.table


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fields(status: Status) -> dict[str, Any]:
    """Return the fields of the JSON document, ages in seconds."""
    run = status.last_run
    return {
        "all_right": status.is_all_right,
        "verdict": verdict(status),
        "problems": list(problems_of(status)) if not status.is_all_right else [],
        "notes": list(notes_of(status)),
        "asked_at": status.asked_at,
        "max_age_seconds": int(status.max_age.total_seconds()),
        "warehouse": status.warehouse,
        "disk": asdict(status.disk) if status.disk else None,
        "last_run": _run_as_data(run) if run else None,
        "active_runs": [lease.as_data() for lease in status.active_runs],
        "accounts": [asdict(account) for account in status.accounts],
        "tables": [asdict(table) for table in status.tables],
        "not_read": [
            {"source_id": source_id, "reason": reason, "tables": names}
            for source_id, reason, names in status.not_read
        ],
        "elsewhere": status.elsewhere,
        "maintenance_due": [asdict(each) for each in status.maintenance_due],
    }


def _run_as_data(run: RunReport) -> dict[str, Any]:
    names = ("run_id", "outcome", "reason", "started_at", "finished_at")
    return {name: getattr(run, name) for name in names}
