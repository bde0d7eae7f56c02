"""
Format the newest results: the table in the terminal, and the tables of the page.

    python bench/report.py           updates docs/explanation/performance.md
    python bench/report.py --check   fails if the page does not match the results

It changes only the text between the markers of the page. A figure without a result is
"not measured yet".
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCH = Path(__file__).parent
PAGE = BENCH.parent / "docs" / "explanation" / "performance.md"
UNKNOWN = "not measured yet"
NAMES = {
    "ours": "`ometria-replica sync`",
    "handwritten": "hand-written SQL",
    "dlt, Arrow, delete-insert": "dlt, Arrow in, `delete-insert`",
    "dlt, Arrow, upsert": "dlt, Arrow in, `upsert`",
    "dlt, default": "dlt, default way",
    "singer": "Singer tap into target-duckdb",
    "sling": "Sling",
}
WAYS = {
    "stage": "stage, remove repeats by row id, delete and insert: what is done",
    "files": "the same, a file at a time",
    "distinct-on": "repeats removed by `DISTINCT ON`",
    "row-number": "repeats removed by `row_number()`",
    "merge": "`MERGE` instead of delete and insert",
    "primary-key": "`INSERT OR REPLACE` through a primary key",
}
PICTURES = {
    "bench": "Seconds of each program, for the first load and for the upsert",
    "flame-feed": "Flame graph of a load of the feed",
    "flame-api": "Flame graph of a sync of profiles",
}
HEADINGS = ("", "first load", "rows/s", "speed", "peak memory", "upsert of a tenth", "speed")


def newest() -> dict[str, Any] | None:
    """Return the newest results; None if there are none."""
    found = sorted((BENCH / "results").glob("*.json"))
    answer: dict[str, Any] | None = json.loads(found[-1].read_text()) if found else None
    return answer


def seconds(result: dict[str, Any], name: str, step: str) -> float | None:
    """Return the median of a contender, scaled to all events; None if it did not finish."""
    one = result["contenders"].get(name, {})
    if not one.get(step):
        return None
    scale = result["events"] / one["events"]
    return scale * float(statistics.median(run["seconds"] for run in one[step]))


def speed(result: dict[str, Any], name: str, step: str, than: str = "handwritten") -> float | None:
    """Return the speed of one contender as a multiple of another's."""
    mine, theirs = seconds(result, name, step), seconds(result, than, step)
    return theirs / mine if mine and theirs else None


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of the table, fastest first."""
    names = sorted(result["contenders"], key=lambda name: seconds(result, name, "first") or 1e9)
    return [_row(result, name) for name in names]


def _row(result: dict[str, Any], name: str) -> tuple[str, ...]:
    first, upsert = seconds(result, name, "first"), seconds(result, name, "upsert")
    one = result["contenders"][name]
    mark = "*" if one["events"] != result["events"] else ""
    peak = max((run["peak_mb"] for step in ("first", "upsert") for run in one[step]), default=0)
    wrong = " (failed)" if one.get("failed") else " (wrong)" if one.get("wrong") else ""
    return (
        NAMES.get(name, name) + wrong,
        f"{first:,.1f} s{mark}" if first else "-",
        f"{result['events'] / first:,.0f}" if first else "-",
        _times(speed(result, name, "first")),
        f"{peak:,} MB" if peak else "-",
        f"{upsert:,.1f} s{mark}" if upsert else "-",
        _times(speed(result, name, "upsert")),
    )


def _times(factor: float | None) -> str:
    return "-" if factor is None else f"{factor:.2f}" if factor >= 0.1 else f"{factor:.3f}"


def notes(result: dict[str, Any]) -> list[str]:
    """Return the notes below the table."""
    answer = ["Speed is that of hand-written SQL as 1. Seconds are medians of whole processes."]
    for name, one in result["contenders"].items():
        label = NAMES.get(name, name)
        if one["events"] != result["events"]:
            answer.append(f"* {label} was given {one['events']:,} events, and scaled by the row.")
        if one.get("wrong"):
            extra = one["wrong"].get("first", {})
            answer.append(
                f"{label} loaded {extra.get('rows', 0):+,} rows more or fewer than there are keys."
            )
        if one.get("failed"):
            answer.append(f"{label} did not finish.")
    return answer


def table(result: dict[str, Any]) -> str:
    """Return the table for a terminal."""
    lines = [HEADINGS, *rows(result)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADINGS))]
    text = "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    words = "\n".join(notes(result))
    goals = "\n".join(
        f"{what}: {measured} (target {goal}; {verdict})"
        for what, goal, measured, verdict in targets(result)
    )
    return f"{result['events']:,} events in {result['files']} files\n\n{text}\n\n{words}\n\n{goals}"


def targets(result: dict[str, Any] | None) -> list[tuple[str, str, str, str]]:
    """Compare the targets with the results."""
    found = result or {}
    return [
        _at_least(
            "first load, as a share of hand-written SQL's speed", 0.9, _factor(found, "first")
        ),
        _at_least(
            "upsert of a tenth, as a share of hand-written SQL's speed",
            0.8,
            _factor(found, "upsert"),
        ),
        _at_least("first load, times as fast as dlt's fastest way", 2, _to_dlt(found, "first")),
        _at_least("upsert, times as fast as dlt's fastest way", 2, _to_dlt(found, "upsert")),
        _at_least("first load, times as fast as a Singer pipe", 25, _to(found, "first", "singer")),
        _at_most(
            f"peak memory at {_part(found, 'memory', 'events', 0, '5,000,000')} events",
            1000,
            _get(found, "memory", "peak_mb", 0),
            " MB",
        ),
        _at_most(
            "peak memory at four times as many events, relative to the row above",
            1.2,
            _growth(found),
        ),
        _at_most(
            f"a batch into {_part(found, 'flatness', 'events', 1, '50,000,000')} rows,"
            f" to its cost into {_part(found, 'flatness', 'events', 0, '5,000,000')}",
            1.3,
            _flatness(found),
        ),
        _at_least(
            "share of the request budget used, answers after 800 ms",
            0.95,
            _get(found, "api", "budget_used"),
        ),
        _at_most("`--help`", 0.15, _get(found, "start", "help_seconds"), " s"),
        _at_most(
            "a sync that finds nothing new, beyond its requests",
            1,
            _get(found, "start", "empty_sync_seconds"),
            " s",
        ),
        _listing(found),
    ]


def _factor(found: dict[str, Any], step: str) -> float | None:
    return _to(found, step, "handwritten")


def _to(found: dict[str, Any], step: str, than: str) -> float | None:
    return speed(found, "ours", step, than) if found else None


def _to_dlt(found: dict[str, Any], step: str) -> float | None:
    ways = [_to(found, step, f"dlt, Arrow, {way}") for way in ("delete-insert", "upsert")]
    return min((factor for factor in ways if factor is not None), default=None)


def _growth(found: dict[str, Any]) -> float | None:
    one, four = _get(found, "memory", "peak_mb", 0), _get(found, "memory", "peak_mb", 1)
    return four / one if one and four else None


def _flatness(found: dict[str, Any]) -> float | None:
    if "flatness" not in found:
        return None
    short, long = (statistics.median(times) for times in found["flatness"]["seconds"])
    return float(long / short)


def _listing(found: dict[str, Any]) -> tuple[str, str, str, str]:
    one = found.get("listing")
    if not one:
        return ("a sync of 100,000 files, ten of them new", "costs only the new ones", UNKNOWN, "")
    what = f"a sync of {one['files']:,} files, {one['new']} of them new"
    measured = f"{one['seconds_with_new']:.2f} s; {one['seconds_without']:.2f} s with none"
    return (what, "costs only the new ones", measured, "")


def _get(found: Any, *path: str | int) -> float | None:
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError):
            return None
    return float(found)


def _part(found: dict[str, Any], scenario: str, name: str, place: int, unknown: str) -> str:
    value = _get(found, scenario, name, place)
    return unknown if value is None else f"{value:,.0f}"


def _at_least(what: str, goal: float, measured: float | None) -> tuple[str, str, str, str]:
    verdict = "" if measured is None else "met" if measured >= goal else "missed"
    return (what, f"{goal:g} or more", _shown(measured, ""), verdict)


def _at_most(
    what: str, goal: float, measured: float | None, unit: str = ""
) -> tuple[str, str, str, str]:
    verdict = "" if measured is None else "met" if measured <= goal else "missed"
    return (what, f"{goal:g}{unit} or less", _shown(measured, unit), verdict)


def _shown(measured: float | None, unit: str) -> str:
    if measured is None:
        return UNKNOWN
    return f"{measured:,.0f}{unit}" if measured >= 100 else f"{measured:.3g}{unit}"


# --- The page ----------------------------------------------------------------------------------


def blocks(result: dict[str, Any] | None) -> dict[str, str]:
    """Return the texts between the markers of the page, by name."""
    goals = markdown(("", "target", "measured", ""), targets(result))
    pictures = {f"picture {name}": _picture(name) for name in PICTURES}
    if result is None:
        unknown = dict.fromkeys(("table", "machine", "ways"), UNKNOWN.capitalize() + ".")
        return {"targets": goals, **unknown, **pictures}
    lines = [note.replace("* ", "\\* ", 1) if note[0] == "*" else note for note in notes(result)]
    return {
        "targets": goals,
        "table": markdown(HEADINGS, rows(result)) + "\n\n" + "  \n".join(lines),
        "machine": _machine(result),
        "ways": _ways(result.get("ways")),
        **pictures,
    }


def _picture(name: str) -> str:
    if not (PAGE.parents[1] / "assets" / f"{name}.svg").exists():
        return "Not drawn yet."
    return f"![{PICTURES[name]}](../assets/{name}.svg)"


def _ways(found: dict[str, Any] | None) -> str:
    if found is None:
        return UNKNOWN.capitalize() + "."
    lines = []
    for name, words in WAYS.items():
        first, upsert = (statistics.median(found[name][step]) for step in ("first", "upsert"))
        lines.append(
            (words, f"{first:,.1f} s", f"{upsert:,.1f} s", f"{found[name]['peak_mb']:,} MB")
        )
    return markdown(("", "first load", "upsert of a tenth", "peak memory"), lines)


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    escaped = [[cell.replace("*", "\\*") for cell in line] for line in lines]
    head = [list(headings), ["---"] + ["---"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *escaped])


def _machine(result: dict[str, Any]) -> str:
    one = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"Measured on {result['made_at'][:10]} with {result['events']:,} events in"
        f" {result['files']} files, the median of {result['repeat']}, on {one['cores']} cores"
        f" ({one['processor']}) with {one['memory_gb']} GB of memory, {one['system']}.\n"
        f"Versions: {versions}.\n"
        f"Command: `{result['command']}`."
    )


def filled(page: str, result: dict[str, Any] | None) -> str:
    """Insert the blocks between their markers."""
    for name, text in blocks(result).items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page = marked.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
    return page


def main() -> None:
    """Update the page, or check it."""
    parser = argparse.ArgumentParser(description="Write the results into the documentation.")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    fresh = filled(page, newest())
    if options.check:
        if page != fresh:
            sys.exit(f"{PAGE.name} does not match the newest results. Run `make bench-docs`.")
        return
    PAGE.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    main()
