"""The maintenance of a warehouse, as data, text and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import as_json, plain_document
from ometria_replica.text import aligned, counted, size, span
from ometria_replica.warehouse.upkeep import OVERDUE, Files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from ometria_replica.warehouse.upkeep import Due, Maintained


@dataclass(frozen=True)
class Maintenance:
    """
    The maintenance of a warehouse: its changes to each table, or those that a dry run foresees.

    *place* names the warehouse, without a password. *maintains_itself* says why nothing was done;
    empty if something could be. *retention* None: a week, or longer where a table says so.
    """

    place: str
    dry_run: bool
    retention: timedelta | None
    tables: tuple[Maintained, ...]
    maintains_itself: str = ""

    @property
    def joined(self) -> Files:
        """The small files that were written together."""
        return sum((each.joined for each in self.tables), Files())

    @property
    def written(self) -> Files:
        """The files that they have become."""
        return sum((each.written for each in self.tables), Files())

    @property
    def removed(self) -> Files:
        """The files that were removed."""
        return sum((each.removed for each in self.tables), Files())

    def to_dict(self) -> dict[str, Any]:
        """Convert it to plain data: the document of ``maintain --json``."""
        return plain_document("maintain", _fields(self))

    def to_json(self) -> str:
        """Write it as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write what was done, or would be, to each table for which there was something to do."""
        return _as_text(self)


def due_as_text(tables: Sequence[Due]) -> str:
    """Say in a sentence for which tables of a lake maintenance is due, and why."""
    return f"maintenance is due: {'; '.join(map(_reasons, tables))}."


def _reasons(due: Due) -> str:
    reasons = []
    if due.small_files:
        reasons.append(f"at least {due.small_files:,} of {counted(due.files, 'file')} too many")
    if due.old_versions:
        versions = counted(due.old_versions, "version")
        reasons.append(f"{versions} that should have been removed {span(OVERDUE)} ago")
    return f"{due.table} has {' and '.join(reasons)}"


def _as_text(done: Maintenance) -> str:
    if done.maintains_itself:
        return done.maintains_itself
    would = "would be " if done.dry_run else ""
    shown = [each for each in done.tables if each.joined.count or each.removed.count]
    lines = []
    if shown:
        head = ["table", "files", "", "joined", "into", "removed", ""]
        lines += [*aligned([head, *(_row(each) for each in shown)]), ""]
    joined = f" into {done.written.count:,}" if done.joined.count else ""
    lines.append(
        f"{done.place}: {_files(done.joined)} {would}joined{joined}, {_files(done.removed)}"
        f" {would}removed; {_kept(done)}."
    )
    lines += [f"{each.table} keeps {what}." for each in done.tables for what in each.stays]
    return "\n".join(lines)


def _row(each: Maintained) -> list[str]:
    removed = (
        [f"{each.removed.count:,}", size(each.removed.bytes)] if each.removed.count else ["", ""]
    )
    joined = (
        [f"{each.joined.count:,}", f"{each.written.count:,}"] if each.joined.count else ["", ""]
    )
    return [each.table, f"{each.before.count:,}", size(each.before.bytes), *joined, *removed]


def _files(files: Files) -> str:
    return f"{counted(files.count, 'file')} of {size(files.bytes)}" if files.count else "no file"


def _kept(done: Maintenance) -> str:
    if done.retention is None:
        return "versions stay for 7 days, or longer where a table says so"
    if not done.retention:
        return "only the newest version of each table stays"
    return f"versions stay for {span(done.retention)}"


def _fields(done: Maintenance) -> dict[str, Any]:
    retention = None if done.retention is None else done.retention.total_seconds()
    return {
        "warehouse": done.place,
        "dry_run": done.dry_run,
        "retention_seconds": retention,
        "maintains_itself": done.maintains_itself or None,
        "joined": asdict(done.joined),
        "written": _written(done.written, dry_run=done.dry_run),
        "removed": asdict(done.removed),
        "tables": [_table(each, dry_run=done.dry_run) for each in done.tables],
    }


def _table(each: Maintained, *, dry_run: bool) -> dict[str, Any]:
    return {
        "table": each.table,
        "before": asdict(each.before),
        "joined": asdict(each.joined),
        "written": _written(each.written, dry_run=dry_run),
        "removed": asdict(each.removed),
        "stays": list(each.stays),
    }


def _written(files: Files, *, dry_run: bool) -> dict[str, int | None]:
    """Leave out what a dry run does not know: how well the new files are compressed."""
    return {"count": files.count, "bytes": None if dry_run else files.bytes}
