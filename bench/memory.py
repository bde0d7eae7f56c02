"""
The peak of resident memory of a first load and of an upsert, by `memory_limit`.

    python bench/memory.py --events 20000000 --limits default 281MB

The upsert is a tenth of the first load, and half of its events exist already. The folder for
temporary files, TMPDIR, must be on a disk: what is in memory would not be counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from measure import run
from scenarios import BENCH, PROGRAM
from sets import DATA, scratch


def main() -> None:
    """Print a table of Markdown, with a row for each limit."""
    options = _options()
    feed = _feed(options.events, options.files)
    print("| events | files | `memory_limit` | first load | upsert of a tenth | processor time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for limit in options.limits:
        peaks, seconds = [], 0.0
        with scratch() as work:
            for step in ("first", "upsert"):
                command = [sys.executable, BENCH / "contenders" / "ours.py", options.program]
                ran = run([*command, feed / step, work / "bench.duckdb"], _environment(limit))
                _check(step, options.events, ran.output)
                peaks.append(f"{ran.peak_mb:,.0f} MB")
                seconds += ran.cpu_seconds
        cells = (f"{options.events:,}", options.files, limit, *peaks, f"{seconds:,.0f} s")
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def _environment(limit: str) -> dict[str, str]:
    kept = {"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}
    return kept if limit == "default" else kept | {"OMETRIA_MEMORY_LIMIT": limit}


def _feed(events: int, files: int) -> Path:
    """Return the folder of both feeds, generated if needed in other processes."""
    folder, batch = DATA / f"memory-{events}-{files}", events // 10
    parts = {"first": (0, events, files), "upsert": (events - batch // 2, batch, files // 10 or 1)}
    for step, (first, count, number) in parts.items():
        if (folder / step).exists():
            continue
        unfinished = folder / f"{step}.unfinished"
        sizes = ["--first", str(first), "--events", str(count), "--files", str(number)]
        run([sys.executable, BENCH / "data.py", "--into", unfinished, *sizes])
        unfinished.rename(folder / step)
    return folder


def _check(step: str, events: int, output: str) -> None:
    """Compare the counts with what the feeds hold: a load that is wrong has no peak to report."""
    table = json.loads(output[output.index("{\n") :])["tables"][0]
    found = table["inserted"] + table["updated"] + table["unchanged"]
    read = events if step == "first" else events // 10
    if not 0.998 * read < found <= read:
        raise SystemExit(f"{step}: {found} rows of {read} events")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--limits", nargs="+", default=["default"], help="default, or 281MB")
    parser.add_argument("--program", type=Path, default=PROGRAM)
    return parser.parse_args()


if __name__ == "__main__":
    main()
