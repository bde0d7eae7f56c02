"""The maintenance of a warehouse as text and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import document
from ometria_replica.text import aligned, counted, size, span

if TYPE_CHECKING:
    from ometria_replica.maintaining import Maintenance
    from ometria_replica.warehouse.upkeep import Files, Maintained


def maintenance_as_text(done: Maintenance) -> str:
    """Write what was done, or would be, to each table for which there was something to do."""
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


def maintenance_as_json(done: Maintenance) -> str:
    """Write what was done, or would be, to each table."""
    retention = None if done.retention is None else done.retention.total_seconds()
    return document(
        "maintain",
        {
            "warehouse": done.place,
            "dry_run": done.dry_run,
            "retention_seconds": retention,
            "maintains_itself": done.maintains_itself or None,
            "joined": asdict(done.joined),
            "written": _written(done.written, dry_run=done.dry_run),
            "removed": asdict(done.removed),
            "tables": [_table(each, dry_run=done.dry_run) for each in done.tables],
        },
    )


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
