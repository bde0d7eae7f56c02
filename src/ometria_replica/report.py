"""The report of a run, as data, text and JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from ometria_replica.json_documents import as_json, document, plain_document
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

Due = Literal["all", "new", "period"]

Outcome = Literal["succeeded", "failed", "dry run", "stopped", "did not end"]

MOST_WARNINGS = 10  # In the text. One problem of an account can repeat for each list.

_COLUMNS = (
    ("inserted", "inserted"),
    ("updated", "updated"),
    ("unchanged", "unchanged"),
    ("rejected", "rejected"),
    ("requests", "requests"),
    ("files", "files"),
)


@dataclass(frozen=True)
class TableReport:
    """
    The counts of one table of one source in a run.

    Of the *requests*, retries included, *rate_limited* were answered with 429.
    *records* were read; *inserted*, *updated* and *unchanged* count rows. An unchanged row
    was read again with the same values. *older* rows were skipped, because the warehouse has
    them from a newer file. *merged* counts distinct events that share the key of another.
    *deleted_upstream* rows are of records deleted in Ometria; *removed* of them were deleted
    here. Of a table that is inside another, *removed* rows are those that no record has any
    longer. *removable* is how many rows of deleted records the settings let the run remove at most.
    *records_rejected* and *values_rejected* are in the rejects table. *suppressed*
    records are of people who were erased, and were left out; *erased* rows, of any table, are of
    people whom Ometria has erased since, and were removed here. *too_old* records are older than
    the table keeps, and were left out; *expired* rows had grown so old, and were removed here.
    *versions_opened* and *versions_closed* count those of the table's history.
    *due* says which records were requested: all, the new ones, or those of a period of days. It is
    None in reports of earlier releases, and of what is not read by itself.
    *continued_after* is the number of records that an interrupted run had read before, if this
    run continued it. *remarks* are what else a reader may want to know. *error* is None if the
    table was read to its end.
    """

    source_id: str
    table: str
    requests: int = 0
    rate_limited: int = 0
    files: int = 0
    files_unreadable: int = 0
    records: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    older: int = 0
    merged: int = 0
    deleted_upstream: int = 0
    removed: int = 0
    removable: int = 0
    records_rejected: int = 0
    values_rejected: int = 0
    nuls_removed: int = 0
    suppressed: int = 0
    erased: int = 0
    too_old: int = 0
    expired: int = 0
    versions_opened: int = 0
    versions_closed: int = 0
    continued_after: int = 0
    unknown_fields: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    due: Due | None = None
    error: str | None = None

    @property
    def rejected(self) -> int:
        """Rejected records and values, and unreadable files."""
        return self.records_rejected + self.values_rejected + self.files_unreadable


@dataclass(frozen=True)
class RunReport:
    """
    The report of a run. *warehouse* is its URL without secrets.

    *not_read* names the tables that an account's settings do not allow to read, and why.
    *reason* says why the run failed, was stopped or did not end; None if it went through.
    """

    run_id: str
    version: str
    warehouse: str
    started_at: datetime
    finished_at: datetime
    outcome: Outcome
    tables: tuple[TableReport, ...]
    warnings: tuple[str, ...] = field(default=())
    not_read: tuple[str, ...] = field(default=())
    reason: str | None = None

    @property
    def rejected(self) -> int:
        """The sum over all tables."""
        return sum(table.rejected for table in self.tables)

    @property
    def changed(self) -> int:
        """Rows inserted or updated, over all tables."""
        return sum(table.inserted + table.updated for table in self.tables)

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def requests(self) -> int:
        """Requests sent to Ometria, including retries."""
        return sum(table.requests for table in self.tables)

    def to_json(self) -> str:
        """Write the report as a JSON document."""
        return as_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to plain data: the document of ``sync --json``."""
        return plain_document("sync", asdict(self))

    def to_text(self) -> str:
        """Write the report as text."""
        return "\n".join([self.headline, "", *self._table_lines(), "", *self._remarks()])

    @property
    def headline(self) -> str:
        """Say in a sentence what the run did, and how long it took."""
        verb = {"succeeded": "Synced to", "dry run": "Would sync to"}
        requests = counted(self.requests, "request")
        where = f"{verb.get(self.outcome, 'Failed syncing to')} {self.warehouse}"
        return f"{where} in {duration(self.seconds)}, with {requests}."

    def name_of(self, table: TableReport) -> str:
        """Name a table, and its account if there are several."""
        several = len({each.source_id for each in self.tables}) > 1
        return f"{table.source_id} {table.table}" if several else table.table

    def _table_lines(self) -> list[str]:
        shown = [(title, name) for title, name in _COLUMNS if name != "files" or self._has_files()]
        lines = [["table", *(title for title, _ in shown)]]
        lines += [
            [self.name_of(table), *(f"{getattr(table, column):,}" for _, column in shown)]
            for table in self.tables
        ]
        return aligned(lines)

    def _has_files(self) -> bool:
        return any(table.files for table in self.tables)

    def failures(self) -> Iterator[str]:
        """Write each error once, with the tables that it stopped."""
        return map(self._failure, self._failed_alike())

    def other_failures(self) -> Iterator[str]:
        """Write each error once, but not that which is the reason why the run failed."""
        alike, reason = list(self._failed_alike()), error_cause(self.reason or "")
        told = next((each for each in alike if error_cause(each[0].error or "") == reason), None)
        return (self._failure(each) for each in alike if each is not told)

    def with_errors_once(self) -> RunReport:
        """Return the report with each error at its first table, to which the others refer."""
        alike = {id(table): tables[0] for tables in self._failed_alike() for table in tables[1:]}
        tables = (
            replace(table, error=f"The same as for {self.name_of(alike[id(table)])}.")
            if id(table) in alike
            else table
            for table in self.tables
        )
        return replace(self, tables=tuple(tables))

    def _failure(self, tables: Sequence[TableReport]) -> str:
        return f"{', '.join(self.name_of(table) for table in tables)}: {tables[0].error}"

    def _failed_alike(self) -> Iterable[list[TableReport]]:
        """Group failed tables: a wrong key fails each of an account with another request's name."""
        alike: dict[str, list[TableReport]] = {}
        for table in self.tables:
            if table.error:
                cause = f"{table.source_id} {error_cause(table.error)}"
                alike.setdefault(cause, []).append(table)
        return alike.values()

    def _remarks(self) -> list[str]:
        remarks = [f"Warning: {warning}" for warning in self.warnings[:MOST_WARNINGS]]
        if len(self.warnings) > MOST_WARNINGS:
            rest = counted(len(self.warnings) - MOST_WARNINGS, "more warning")
            remarks.append(f"{rest}: --json shows all.")
        remarks += [f"Failed: {failure}" for failure in self.failures()]
        for table in self.tables:
            removed = "would be removed" if self.outcome == "dry run" else "removed"
            found = _table_remarks(table, removed)
            remarks += [f"{self.name_of(table)}: {remark}" for remark in found]
        if self.outcome == "succeeded" and not self.changed:
            if not any(table.unchanged for table in self.tables):
                remarks.append("There was nothing to read.")
            elif not any(table.removed or table.erased or table.expired for table in self.tables):
                remarks.append("No row changed, except the load time of rows that were read again.")
        remarks += [f"Not read: {left_out}." for left_out in self.not_read]
        if self.rejected:
            remarks.append("To see what was rejected: ometria-replica rejects list.")
        elif self.outcome != "failed":
            remarks.append("Nothing was rejected.")
        return remarks


def error_cause(error: str) -> str:
    """Leave out of an error which request failed: errors of one cause are then equal."""
    return re.sub(r"GET /.*? \(", "GET (", error)


def report_from_dict(report: dict[str, Any]) -> RunReport:
    """Build a report from :meth:`RunReport.to_dict`; fields of later versions are ignored."""
    from datetime import datetime  # noqa: PLC0415 -- a type everywhere else in this file.

    known = {item.name for item in fields(RunReport)}
    table_known = {item.name for item in fields(TableReport)}
    data = {name: value for name, value in report.items() if name in known}
    for name in ("started_at", "finished_at"):
        data[name] = datetime.fromisoformat(data[name])
    for name in ("warnings", "not_read"):
        data[name] = tuple(data.get(name, ()))
    data["tables"] = tuple(
        TableReport(**{name: _frozen(table[name]) for name in table if name in table_known})
        for table in data["tables"]
    )
    return RunReport(**data)


def _frozen(value: Any) -> Any:
    """Convert a JSON list back to a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _table_remarks(table: TableReport, removed: str) -> Iterable[str]:
    if table.continued_after:
        before = counted(table.continued_after, "record")
        yield (
            f"an interrupted read was continued after {before}. It detects no"
            " deletes; the next full read does."
        )
    if table.merged:
        events = counted(
            table.merged, "event was merged into another", "events were merged into others"
        )
        yield (
            f"{events} because the specified key cannot tell them apart;"
            " the newest of each was kept. Set `wide_keys` before the first load to keep all."
        )
    if table.older:
        rows = counted(table.older, "row of an older file was", "rows of an older file were")
        yield f"{rows} skipped; the warehouse has newer ones."
    if table.deleted_upstream:
        rows = counted(table.deleted_upstream, "row")
        kept = "kept here (see ometria_replica.deleted_upstream)"
        done = f"{table.removed:,} {removed} here" if table.removed else kept
        yield f"{rows} deleted upstream, {done}."
    elif table.removed:
        rows = counted(table.removed, "row")
        yield f"{rows} that no record has any longer {removed}."
    if table.versions_opened or table.versions_closed:
        opened = counted(table.versions_opened, "version")
        yield f"{opened} began in the history, and {table.versions_closed:,} ended."
    yield from _left_out(table, removed)
    if table.nuls_removed:
        texts = counted(table.nuls_removed, "text")
        yield f"NUL characters were removed from {texts}."
    if table.unknown_fields:
        yield f"undocumented fields in the data: {', '.join(table.unknown_fields)}."
    yield from (f"{remark}." for remark in table.remarks)


def _left_out(table: TableReport, removed: str) -> Iterable[str]:
    """Say what is not there, or no longer, because of people's rights or of its age."""
    if table.suppressed:
        records = counted(table.suppressed, "record")
        yield f"{records} of erased people left out."
    if table.erased:
        rows = counted(table.erased, "row")
        yield f"{rows} of people whom Ometria has erased {removed}."
    if table.too_old:
        records = counted(table.too_old, "record")
        yield f"{records} older than `retain` left out."
    if table.expired:
        rows = counted(table.expired, "row")
        yield f"{rows} older than `retain` {removed}."


def duration(seconds: float) -> str:
    """Write a duration in seconds, or in minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def history_as_text(reports: Iterable[dict[str, Any]]) -> str:
    """Write the run history, one line for each run, and below it why a run failed."""
    heads = ["started (UTC)", "outcome", "seconds", "records", "inserted", "updated", "rejected"]
    runs = [report_from_dict(report) for report in reports]
    lines = aligned([heads, *(_history_cells(report) for report in runs)])
    told = [[line, *_reasons(report)] for line, report in zip(lines[1:], runs, strict=True)]
    return "\n".join([lines[0], *chain(*told)]) if runs else "No run has been recorded yet."


def _history_cells(report: RunReport) -> list[str]:
    totals = (
        sum(getattr(table, name) for table in report.tables)
        for name in ("records", "inserted", "updated", "rejected")
    )
    return [
        f"{report.started_at:%Y-%m-%d %H:%M:%S}",
        report.outcome,
        f"{report.seconds:.1f}",
        *(f"{total:,}" for total in totals),
    ]


def _reasons(report: RunReport) -> Iterator[str]:
    """Say why a run failed: each error with the tables that it stopped, or why the run ended."""
    for failure in list(report.failures()) or [report.reason or ""]:
        if failure:
            yield f"    {' '.join(failure.split())}"


def history_as_json(reports: Iterable[dict[str, Any]]) -> str:
    """Write the run history. Reports of earlier releases get the fields that are new."""
    return document("runs", {"runs": [report_from_dict(report).to_dict() for report in reports]})
