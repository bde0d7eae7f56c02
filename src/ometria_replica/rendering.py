"""Text and JSON of the state, the rejects and the settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import document
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date, datetime

    from ometria_replica.batch import Reject
    from ometria_replica.fields import TableFields
    from ometria_replica.rehashing import Rehashed
    from ometria_replica.report import RunReport
    from ometria_replica.state_commands import ReplicaState

_RAW_WIDTH = 60  # Characters of a raw value; the rejects table holds all of it.


def state_as_text(state: ReplicaState) -> str:
    """Write a line for each table, and one for each run that is active."""
    if not state.tables:
        return "No sync has run yet."
    names = ("files", "unreadable", "rejects", "deleted_upstream")
    lines = [["source", "table", "rows", "read until (UTC)", *names[:3], "deleted upstream"]]
    for table in state.tables:
        until = _time(table.read_until) if table.read_until else "-"
        counts = [f"{getattr(table, name):,}" for name in names]
        lines.append([table.source_id, table.table, f"{table.rows:,}", until, *counts])
    active = [f"{lease.source_id}: {lease} is active." for lease in state.leases]
    return "\n".join([*aligned(lines, left=2), *active])


def state_as_json(state: ReplicaState) -> str:
    """Write the state."""
    leases = [lease.as_data() for lease in state.leases]
    tables = [asdict(table) for table in state.tables]
    return document("state-show", {"tables": tables, "active_runs": leases})


def fields_as_text(found: Sequence[TableFields]) -> str:
    """Write a line for each field, below its table."""
    if not found:
        return "No records are kept. Set keep_records (OMETRIA_KEEP_RECORDS), then run a sync."
    return "\n\n".join("\n".join(_fields_of(table)) for table in found)


def _fields_of(table: TableFields) -> Iterator[str]:
    yield f"{table.source_id} {table.table}: {counted(table.records, 'record')}"
    header = ["field", "types", "column", "first (UTC)", "last (UTC)", "records"]
    lines = [
        [
            each.path,
            ", ".join(sorted(each.types)) or "null",
            column or "-",
            *(_time(at) if at else "-" for at in (each.first_at, each.last_at)),
            f"{each.records:,}",
        ]
        for each, column in table.fields
    ]
    yield from aligned([header, *lines], left=5)
    if table.is_cut:
        yield "* stands for names that are not shown: ids, or more names than an object has fields."


def fields_as_json(found: Sequence[TableFields]) -> str:
    """Write an object for each table, with one for each field."""
    return document("fields", {"tables": [_table_fields(table) for table in found]})


def _table_fields(table: TableFields) -> dict[str, Any]:
    return {
        "source_id": table.source_id,
        "table": table.table,
        "records": table.records,
        "is_cut": table.is_cut,
        "fields": [
            {
                "path": each.path,
                "records": each.records,
                "types": sorted(each.types),
                "first_at": each.first_at,
                "last_at": each.last_at,
                "column": column,
            }
            for each, column in table.fields
        ],
    }


def rewound_as_text(tables: Sequence[str], source_ids: Sequence[str], since: date | None) -> str:
    """Write what the next run does after a rewind."""
    what = f"what changed since {since}" if since else "everything"
    whose = f" of {', '.join(source_ids)}" if len(source_ids) > 1 else ""
    return f"The next sync reads {', '.join(tables)}{whose} again: {what}. No row was changed."


def rewound_as_json(tables: Sequence[str], source_ids: Sequence[str], since: date | None) -> str:
    """Write the tables, the sources and the day of a rewind; None means from the beginning."""
    return document(
        "state-rewind",
        {"tables": list(tables), "source_ids": list(source_ids), "since": since},
    )


def rehashed_as_text(done: Sequence[Rehashed]) -> str:
    """Write what became of the rows of each table, and what may still hold the old values."""
    if not done:
        return "The rows are as the settings want them. None was changed."
    lines = [
        f"{each.table} of {each.source_id}: {counted(each.rows, 'row')}"
        + (" removed; the next sync reads them again." if each.removed else " rewritten.")
        for each in done
    ]
    lines += [
        f"{each.table} of {each.source_id}: {counted(each.merged, 'row')} merged into another,"
        " because addresses that differ in case or space only are one now."
        for each in done
        if each.merged
    ]
    return "\n".join([*lines, *filter(None, [done[0].remains])])


def rehashed_as_json(done: Sequence[Rehashed]) -> str:
    """Write what became of the rows of each table."""
    return document("rehash", {"tables": [asdict(each) for each in done]})


def replay_as_text(converted: int, remaining: int | None, report: RunReport | None) -> str:
    """Write the report of the run that read files again, and the result of the replay."""
    done = f"{counted(converted, 'value')} converted now."
    if remaining:
        rest = counted(remaining, "reject remains", "rejects remain")
        done += f" {rest}: ometria-replica rejects list."
    elif remaining is not None:
        done += " No reject remains."
    return f"{report.to_text()}\n\n{done}" if report else done


def replay_as_json(converted: int, remaining: int | None, report: RunReport | None) -> str:
    """Write the result of a replay; *remaining* is null if the warehouse failed then."""
    run = report.with_errors_once().to_dict() if report else None
    return document(
        "rejects-replay", {"converted": converted, "remaining": remaining, "report": run}
    )


def rejects_as_text(rejects: list[Reject], *, raw: bool) -> str:
    """Write a line for each reject; the value as received only if *raw*."""
    if not rejects:
        return "Nothing was rejected."
    heads = ["rejected (UTC)", "source", "table", "column", "reason", "where"]
    lines = [[*heads, "raw"] if raw else heads]
    for reject in rejects:
        where = f"{reject.origin}, {reject.position}" if reject.position else reject.origin
        line = [_time(reject.rejected_at), reject.source_id, reject.table_name]
        line += [reject.column_name or "(all of it)", reject.reason, where]
        lines.append([*line, repr((reject.raw or "")[:_RAW_WIDTH])] if raw else line)
    return "\n".join(aligned(lines, left=len(lines[0])))


def rejects_as_json(rejects: list[Reject], *, raw: bool) -> str:
    """Write the rejects; the value as received only if *raw*."""
    hidden = set() if raw else {"raw"}
    shown = [
        {name: value for name, value in asdict(reject).items() if name not in hidden}
        for reject in rejects
    ]
    return document("rejects-list", {"rejects": shown})


def settings_as_text(settings: Iterable[tuple[str, str, str]]) -> str:
    """Write a line for each setting: its key, its value and its origin."""
    return "\n".join(aligned([list(line) for line in settings], left=3))


def settings_as_json(settings: Iterable[tuple[str, str, str]]) -> str:
    """Write an object for each setting, values as they are shown."""
    names = ("key", "value", "origin")
    shown = [dict(zip(names, line, strict=True)) for line in settings]
    return document("config", {"settings": shown})


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
