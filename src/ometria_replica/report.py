"""What a run did: data first, text and JSON second."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

Outcome = Literal["succeeded", "failed", "dry run"]

MOST_WARNINGS = 10  # Shown to a person. One trouble of an account can be one of each list.

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
    What a run did to one table of one source.

    *records* were read; *inserted*, *updated* and *unchanged* count rows, the last
    being those that were there with the same contents. *older* rows gave way to one
    from a newer file. *merged* counts distinct events that the key made one row of.
    *deleted_upstream* rows are of records deleted in Ometria; *removed* of them were deleted here.
    *records_rejected* and *values_rejected* are in the rejects table. *error* is None
    for a table that went through.
    """

    source_id: str
    table: str
    requests: int = 0
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
    records_rejected: int = 0
    values_rejected: int = 0
    nuls_removed: int = 0
    unknown_fields: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str | None = None

    @property
    def rejected(self) -> int:
        """Records, values and files in the rejects table or noted as unreadable."""
        return self.records_rejected + self.values_rejected + self.files_unreadable


@dataclass(frozen=True)
class RunReport:
    """A run, from its first statement to its last. *warehouse* is an address without secrets."""

    run_id: str
    version: str
    warehouse: str
    started_at: datetime
    finished_at: datetime
    outcome: Outcome
    tables: tuple[TableReport, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def rejected(self) -> int:
        """Over all tables."""
        return sum(table.rejected for table in self.tables)

    @property
    def changed(self) -> int:
        """Rows inserted or updated, over all tables."""
        return sum(table.inserted + table.updated for table in self.tables)

    @property
    def requests(self) -> int:
        """Requests sent to Ometria, repeats included."""
        return sum(table.requests for table in self.tables)

    def to_json(self) -> str:
        """Write the report as one JSON object, times as ISO 8601 in UTC."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_dict(self) -> dict[str, Any]:
        """Turn the report into plain data."""
        data = asdict(self)
        for name in ("started_at", "finished_at"):
            data[name] = data[name].isoformat()
        return data

    def to_text(self) -> str:
        """Write the report for a person."""
        return "\n".join([*self._headline(), "", *self._table_lines(), "", *self._remarks()])

    def _headline(self) -> list[str]:
        seconds = (self.finished_at - self.started_at).total_seconds()
        verb = {"succeeded": "Synced to", "failed": "Failed syncing to", "dry run": "Would sync to"}
        requests = counted(self.requests, "request")
        where = f"{verb[self.outcome]} {self.warehouse}"
        return [f"{where} in {_duration(seconds)}, with {requests}."]

    def _table_lines(self) -> list[str]:
        several = len({table.source_id for table in self.tables}) > 1
        shown = [(title, name) for title, name in _COLUMNS if name != "files" or self._has_files()]
        lines = [["table", *(title for title, _ in shown)]]
        for table in self.tables:
            name = f"{table.source_id} {table.table}" if several else table.table
            lines.append([name, *(f"{getattr(table, column):,}" for _, column in shown)])
        return aligned(lines)

    def _has_files(self) -> bool:
        return any(table.files for table in self.tables)

    def _remarks(self) -> list[str]:
        remarks = [f"Warning: {warning}" for warning in self.warnings[:MOST_WARNINGS]]
        if len(self.warnings) > MOST_WARNINGS:
            rest = counted(len(self.warnings) - MOST_WARNINGS, "more warning")
            remarks.append(f"And {rest}: --json tells them all.")
        remarks += [f"Failed: {table.table}: {table.error}" for table in self.tables if table.error]
        for table in self.tables:
            remarks += _table_remarks(table)
        if self.outcome == "succeeded" and not self.changed:
            again = any(table.unchanged for table in self.tables)
            remarks.append(
                "Nothing changed but the load time of the rows read again."
                if again
                else "Nothing was there to be read."
            )
        if self.rejected:
            remarks.append("To see what was rejected: ometria-replica rejects list.")
        elif self.outcome != "failed":
            remarks.append("Nothing was rejected.")
        return remarks


def report_from_dict(report: dict[str, Any]) -> RunReport:
    """Read a report back from :meth:`RunReport.to_dict`; fields of later versions are left out."""
    from datetime import datetime  # noqa: PLC0415 -- a type everywhere else in this file.

    known = {item.name for item in fields(RunReport)}
    table_known = {item.name for item in fields(TableReport)}
    data = {name: value for name, value in report.items() if name in known}
    for name in ("started_at", "finished_at"):
        data[name] = datetime.fromisoformat(data[name])
    data["warnings"] = tuple(data.get("warnings", ()))
    data["tables"] = tuple(
        TableReport(**{name: _frozen(table[name]) for name in table if name in table_known})
        for table in data["tables"]
    )
    return RunReport(**data)


def _frozen(value: Any) -> Any:
    """Make a tuple again of what JSON made a list."""
    return tuple(value) if isinstance(value, list) else value


def _table_remarks(table: TableReport) -> Iterable[str]:
    if table.merged:
        yield (
            f"{table.table}: {counted(table.merged, 'distinct event')} had the key of another,"
            " and the newest stands (the specified key's doing)."
        )
    if table.older:
        rows = counted(table.older, "row")
        yield f"{table.table}: {rows} came from an older file, and stayed out."
    if table.deleted_upstream:
        rows = counted(table.deleted_upstream, "row")
        kept = "kept here (see ometria_replica.deleted_upstream)"
        done = f"{table.removed:,} removed here" if table.removed else kept
        yield f"{table.table}: {rows} deleted upstream, {done}."
    if table.nuls_removed:
        texts = counted(table.nuls_removed, "text")
        yield f"{table.table}: a NUL character was removed from {texts}."
    if table.unknown_fields:
        yield f"{table.table}: fields that nobody documents: {', '.join(table.unknown_fields)}."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def history_as_text(reports: Iterable[str]) -> str:
    """Write the run history, a line a run, from reports as JSON text."""
    lines = [["started (UTC)", "outcome", "seconds", "records", "inserted", "updated", "rejected"]]
    for text in reports:
        report = report_from_dict(json.loads(text))
        seconds = (report.finished_at - report.started_at).total_seconds()
        totals = (
            sum(getattr(table, name) for table in report.tables)
            for name in ("records", "inserted", "updated", "rejected")
        )
        lines.append(
            [
                f"{report.started_at:%Y-%m-%d %H:%M:%S}",
                report.outcome,
                f"{seconds:.1f}",
                *(f"{total:,}" for total in totals),
            ]
        )
    return "\n".join(aligned(lines)) if len(lines) > 1 else "No run is recorded yet."


def history_as_json(reports: Iterable[str]) -> str:
    """Write the run history as a JSON array of reports."""
    return json.dumps([json.loads(text) for text in reports], indent=2)
