"""The plan of a run, as data, text and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import as_json, plain_document
from ometria_replica.planning.figures import Figure, known, total
from ometria_replica.report import error_cause
from ometria_replica.text import aligned, counted
from ometria_replica.text import size as bytes_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ometria_replica.errors import ReplicaError
    from ometria_replica.planning.table_plan import AccountPlan, TablePlan

_MARKS = {
    "~": "~ is estimated, by the last runs or the rows of the tables (--json has the range)",
    ">=": ">= is the least that is needed",
    "?": "? is not known",
}


@dataclass(frozen=True)
class Plan:
    """
    The plan of a *command*, ``sync`` or ``backfill``, at the time *planned_at*.

    *is_offline* says that nothing was asked of Ometria and the export. *at_once* accounts are read
    at the same time. *not_read* says which tables the settings leave out, and why. *failures* are
    the errors of its tables.
    """

    command: str
    version: str
    warehouse: str
    planned_at: datetime
    is_offline: bool
    at_once: int
    accounts: tuple[AccountPlan, ...]
    warnings: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()
    failures: tuple[ReplicaError, ...] = field(default=(), repr=False)

    @property
    def tables(self) -> tuple[TablePlan, ...]:
        """The tables of all accounts."""
        return tuple(table for account in self.accounts for table in account.tables)

    @property
    def requests(self) -> Figure:
        """The requests to Ometria."""
        return total(account.requests for account in self.accounts)

    @property
    def asked(self) -> int:
        """The requests that were sent to plan."""
        return sum(account.asked for account in self.accounts)

    @property
    def seconds(self) -> Figure:
        """How long the requests take at least: each account has a rate limit of its own."""
        each = [account.seconds for account in self.accounts]
        one_by_one = total(each)
        if self.at_once == 1 or not each:
            return one_by_one
        return Figure(
            self._at_once([one.value for one in each]),
            one_by_one.basis,
            self._at_once([one.low for one in each]) or 0,
            self._at_once([one.high for one in each]),
        )

    def _at_once(self, seconds: list[int | None]) -> int | None:
        """Return how long several accounts take at once: the longest, or a share of all."""
        told = [each for each in seconds if each is not None]
        if len(told) < len(seconds):
            return None
        return max(*told, sum(told) // self.at_once)

    @property
    def files(self) -> Figure:
        """The files of the export."""
        return total(table.files for table in self.tables if table.files)

    @property
    def bytes(self) -> Figure:
        """Their bytes in the bucket."""
        return total(table.bytes for table in self.tables if table.bytes)

    @property
    def rewritten(self) -> Figure:
        """The rows that would be written again, with those that begin a history."""
        begun = known(sum(table.versions for table in self.tables))
        return total([begun, *(table.rewritten for table in self.tables)])

    def to_dict(self) -> dict[str, Any]:
        """Convert the plan to plain data: the document of ``plan --json``."""
        names = ("requests", "seconds", "files", "bytes", "rewritten")
        fields = {
            "version": self.version,
            "command": self.command,
            "planned_at": self.planned_at,
            "warehouse": self.warehouse,
            "offline": self.is_offline,
            "requests_sent": self.asked,
            "total": {name: getattr(self, name).as_data() for name in names},
            "accounts": [account.as_data() for account in self.accounts],
            "not_read": self.not_read,
            "warnings": self.warnings,
        }
        return plain_document("plan", fields)

    def to_json(self) -> str:
        """Write the plan as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write the plan as text: a sentence, a table, and why."""
        return _as_text(self)


def _as_text(plan: Plan) -> str:
    """Write the plan for people: a sentence, a table, and why."""
    shown = _table_lines(plan) if plan.tables else []
    remarks = [*_whys(plan), *_notes(plan)]
    parts = [list(_headline(plan)), shown, remarks, _legend([*_headline(plan), *shown])]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _headline(plan: Plan) -> Iterator[str]:
    """Sum up what the run takes, and what it took to find out."""
    takes = [f"{_words(plan.requests, 'request')} to Ometria"]
    if plan.requests.low or plan.requests.value:
        takes.append(f"{_about(plan.seconds)}{_span(_told(plan.seconds))} at {_rates(plan)}")
    if any(table.files for table in plan.tables):
        size = f" of {_size(plan.bytes)}" if plan.bytes.value else ""
        takes.append(f"{_words(plan.files, 'file')}{size}")
    yield f"`ometria-replica {plan.command}` would take {', '.join(takes)}."
    asked = counted(plan.asked, "request was", "requests were")
    how = "Nothing was sent" if plan.is_offline else f"{asked} sent"
    yield f"{how} to plan it, and nothing was written to {plan.warehouse}."


def _words(figure: Figure, noun: str) -> str:
    """Write a number within a sentence."""
    if figure.value is None and not figure.low:
        return f"an unknown number of {noun}s"
    return f"{_about(figure)}{counted(_told(figure), noun)}"


def _about(figure: Figure) -> str:
    if figure.value is None:
        return "at least "
    return "about " if figure.basis == "estimated" else ""


def _told(figure: Figure) -> int:
    """Return the number to tell: the least, if no more is known."""
    return figure.low if figure.value is None else figure.value


def _rates(plan: Plan) -> str:
    rates = sorted({account.per_second for account in plan.accounts})
    each = " for each account" if len(plan.accounts) > 1 else ""
    return f"{' or '.join(f'{rate:g}' for rate in rates)} a second{each}"


def _table_lines(plan: Plan) -> list[str]:
    has_files = any(table.files for table in plan.tables)
    heads = ["table", "reads", "requests", "time", "records", "rewritten", "rows"]
    lines = [[*heads, *(("files", "size") if has_files else ())]]
    for account in plan.accounts:
        for table in account.tables:
            cells = [
                _name(plan, table),
                _reads(table),
                str(table.requests),
                _time(table.seconds(account.per_second)),
                str(table.records),
                str(table.rewritten),
                f"{table.rows:,}",
            ]
            if has_files:
                cells += [
                    str(table.files) if table.files else "",
                    _size(table.bytes) if table.bytes else "",
                ]
            lines.append(cells)
    return aligned(lines, left=2)


def _reads(table: TablePlan) -> str:
    if table.reads_with:
        return f"with {table.reads_with}"
    if table.parts is not None and table.parts_total is not None:
        parts, unit = str(table.parts), table.unit
        if table.parts.value != table.parts_total:
            return f"{table.due}, {parts} of {counted(table.parts_total, unit)}"
        return f"{table.due}, {counted(table.parts_total, unit)}"
    return table.due


def _whys(plan: Plan) -> Iterator[str]:
    """Say why all records are read; tables with the same reasons in one line."""
    alike: dict[str, list[str]] = {}
    for table in plan.tables:
        if table.why:
            alike.setdefault("; ".join(why.text for why in table.why), []).append(
                _name(plan, table)
            )
    for text, names in alike.items():
        yield f"Reads all of {', '.join(names)}: {text}."


def _failed(plan: Plan) -> Iterator[str]:
    """Say why tables could not be planned; those of one cause at once."""
    alike: dict[str, list[TablePlan]] = {}
    for table in plan.tables:
        if table.error:
            alike.setdefault(f"{table.source_id} {error_cause(table.error)}", []).append(table)
    for tables in alike.values():
        names = ", ".join(_name(plan, table) for table in tables)
        yield f"Not planned: {names}: {' '.join((tables[0].error or '').split())}"


def _notes(plan: Plan) -> Iterator[str]:
    yield from _failed(plan)
    for table in plan.tables:
        name = _name(plan, table)
        if table.tried_again:
            files = counted(table.tried_again, "file that", "files that")
            yield f"{name}: {files} could not be read before would be tried again."
        if table.versions:
            rows = counted(table.versions, "row")
            yield f"{name}: {rows} would begin the history, as its first versions."
        if table.expired:
            rows = counted(table.expired, "row")
            yield f"{name}: {rows} older than `retain` would be removed."
        yield from (f"{name}: {note}." for note in table.notes)
    for account in plan.accounts:
        if account.busy:
            yield f"{account.source_id}: {account.busy} is at work, so a run would not start now."
    yield from (f"Not read: {left_out}." for left_out in plan.not_read)
    yield from (f"Warning: {warning}" for warning in plan.warnings)


def _legend(lines: list[str]) -> list[str]:
    """Explain the marks that numbers in *lines* have."""
    cells = {cell.rstrip(",;.") for line in lines for cell in line.split()}
    used = [text for mark, text in _MARKS.items() if any(_has(cell, mark) for cell in cells)]
    return [f"Other numbers are exact as of now; {'; '.join(used)}."] if used else []


def _has(cell: str, mark: str) -> bool:
    """Whether a cell is a number with a mark, or the mark that stands for a number."""
    return cell == mark or (cell.startswith(mark) and cell[len(mark) :][:1].isdecimal())


def _name(plan: Plan, table: TablePlan) -> str:
    return f"{table.source_id} {table.table}" if len(plan.accounts) > 1 else table.table


def _time(seconds: Figure) -> str:
    if seconds.value is None:
        return f">={_span(seconds.low)}" if seconds.low else "?"
    return f"{'~' if seconds.basis == 'estimated' else ''}{_span(seconds.value)}"


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _size(size: Figure) -> str:
    return "?" if size.value is None else bytes_text(size.value)
