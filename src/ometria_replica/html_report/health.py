"""The sections of the replica's own health: tables, runs, and what was set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.html_report.charts import Bar, bars
from ometria_replica.html_report.figures import DayOfRuns
from ometria_replica.html_report.parts import (
    NOTHING,
    Cell,
    Grid,
    Panel,
    Section,
    moment,
    name,
    number,
    percent,
    seconds,
)
from ometria_replica.text import counted

if TYPE_CHECKING:
    from ometria_replica.html_report.figures import Figures
    from ometria_replica.status_report import TableStatus


def tables(figures: Figures) -> Section:
    """Show how fresh each table is, and how many rows it has."""
    status = figures.status
    several = len(status.accounts) > 1
    largest = max((table.rows for table in status.tables), default=0)
    old = set(status.tables_too_old)
    heads = ("Table", *(["Account"] if several else []), "Complete up to (UTC)", "Newest event")
    rows = tuple(
        (
            name(table.table),
            *([name(table.source_id)] if several else []),
            name(_complete(figures, table, is_old=table in old)),
            name(moment(table.newest_event)),
            number(table.rows, largest),
            number(table.rejects),
            number(table.deleted_upstream),
            number(table.merged),
        )
        for table in status.tables
    )
    counts = ("Rows", "Set aside", "Gone upstream", "Merged keys")
    grid = Grid((*heads, *counts), rows, names=len(heads))
    return Section(
        "tables",
        "Tables",
        "Complete up to: all that Ometria had by then has been read. Set aside: values, records and"
        " files that could not be converted or read. Gone upstream: rows of records that Ometria no"
        " longer has. Merged keys: events that the specified key cannot tell from another, in the"
        " newest 100 runs; the newest of each was kept.",
        grids=(grid,) if rows else (),
        notes=tuple(
            f"Not replicated{f' of {source}' if several else ''}: {', '.join(names)} ({reason})."
            for source, reason, names in status.not_read
        ),
    )


def _complete(figures: Figures, table: TableStatus, *, is_old: bool) -> str:
    if table.complete_until is None:
        return "not yet" if not figures.status.is_new else NOTHING
    return f"{moment(table.complete_until)}{', too old' if is_old else ''}"


def runs(figures: Figures) -> Section:
    """Show what the runs of each day did."""
    period, days = figures.run_period, figures.runs
    text = (
        f"Runs that started on each of the last {(period.last - period.first).days + 1} days, in"
        " UTC, dry runs left out. Requests include retries."
    )
    if not days:
        return Section("runs", "Runs", text, notes=("No run in this time.",))
    period = period.from_first(days)
    total = sum(days.values(), DayOfRuns())
    failed = f", of which {total.failed:,} did not succeed (hatched)" if total.failed else ""
    shown = (
        ("Runs", f"{total.runs:,}", f"all succeeded{failed}" if not failed else failed[2:], "runs"),
        ("Requests to Ometria", f"{total.requests:,}", "in all", "requests"),
        ("Rows new or changed", f"{total.rows:,}", "in all", "rows"),
        ("Time", seconds(total.seconds), "in all; the axis is in seconds", "seconds"),
    )
    panels = tuple(
        Panel(
            title,
            value,
            note,
            bars(
                period,
                [
                    Bar(day, getattr(one, what), one.failed if what == "runs" else 0)
                    for day, one in days.items()
                ],
            ),
        )
        for title, value, note, what in shown
    )
    rows = tuple(
        (
            name(f"{day:%Y-%m-%d}"),
            number(one.runs),
            number(one.failed),
            number(one.requests),
            number(one.rows),
            Cell(seconds(one.seconds)),
        )
        for day, one in sorted(days.items(), reverse=True)
    )
    heads = ("Day", "Runs", "Not succeeded", "Requests", "Rows new or changed", "Time")
    grid = Grid(heads, rows, summary="Runs by day, as numbers")
    return Section("runs", "Runs", text, panels, (grid,))


def rejects(figures: Figures) -> Section:
    """Show what was set aside, by reason."""
    text = (
        "Values, records and files that are in `ometria_replica.rejects`: nothing is dropped"
        " without a trace. `ometria-replica rejects list` shows them, and `rejects replay` tries"
        " them again."
    )
    found = figures.of("rejects")
    if not found:
        is_known = not any(table.rejects for table in figures.status.tables)
        note = "Nothing is set aside." if is_known else "The reasons were not read."
        return Section("rejects", "Set aside", text, notes=(note,))
    _, total, kinds = found[0].numbers
    largest = max(row.numbers[0] for row in found)
    rows: list[tuple[Cell, ...]] = [
        (
            name(row.source or ""),
            name(row.part or "the whole record or file"),
            name(row.label or NOTHING),
            number(row.numbers[0], largest),
            Cell(percent(row.numbers[0] / total)),
        )
        for row in found
    ]
    if rest := total - sum(row.numbers[0] for row in found):
        others = counted(kinds - len(found), "other reason")
        rows.append((name(others), *map(name, ("", "")), number(rest), Cell(percent(rest / total))))
    grid = Grid(("Table", "Column", "Reason", "Set aside", "Share"), tuple(rows), names=3)
    return Section("rejects", "Set aside", text, grids=(grid,))
