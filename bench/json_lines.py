"""
What JSON lines cost, as ratios to CSV: the first load of the same events.

    nice python bench/json_lines.py --events 1000000

It loads the files into a new DuckDB file, in new processes that alternate, and prints the
processor time of each as a ratio to CSV in the same round. Beside plain lines it loads files in
which one event in a hundred, or each, has a number that only Python reads as it was written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from multiprocessing import get_context
from pathlib import Path

import events
from measure import run
from sets import scratch

WAYS = {
    "csv": ("csv", ""),
    "json": ("json", ""),
    "json, one odd number in 100": (
        "json",
        ", CASE WHEN event_id LIKE '%00' THEN 'odd' END",
    ),
    "json, odd numbers": ("json", ", 'odd'"),
}


WRITTEN = 1_577_923_200
"""The time of the files, 2020-01-02: a sync leaves younger ones for the next."""


def main() -> None:
    """Measure, and print the figures and the ratios as JSON."""
    options = _options()
    found: dict[str, dict[str, list[float]]] = {}
    with scratch() as work:
        for name, (form, more) in WAYS.items():
            sizes = (options.events, options.files)
            with get_context("spawn").Pool(1) as other:  # So that this process stays small.
                other.apply(_write, (work / name, form, more, *sizes))
        for turn in range(options.repeat):
            for name in WAYS:
                each = found.setdefault(name, {"cpu_seconds": [], "seconds": [], "peak_mb": []})
                ran = run(
                    [
                        *(sys.executable, "-m", "ometria_replica", "sync", "email_events"),
                        *("--warehouse", work / f"{name} {turn}.duckdb"),
                    ],
                    {
                        "OMETRIA_FEED_URL": str(work / name),
                        "OMETRIA_ACCOUNT_ID": "bench",
                        "PYTHONPATH": str(Path(__file__).parent.parent / "src"),
                    },
                )
                if f"read {options.events // 1000 * 999:,} records" not in ran.output:
                    raise SystemExit(ran.output)
                each["cpu_seconds"].append(round(ran.cpu_seconds, 2))
                each["seconds"].append(round(ran.seconds, 2))
                each["peak_mb"].append(round(ran.peak_mb))
    for each in found.values():
        pairs = zip(each["cpu_seconds"], found["csv"]["cpu_seconds"], strict=True)
        each["cpu_seconds_ratio"] = [round(statistics.median(one / csv for one, csv in pairs), 2)]
    print(json.dumps({"events": options.events, **found}, indent=2))


def _write(folder: Path, form: str, more: str, count: int, files: int) -> None:
    """Write *count* events, with the column *more*, as gzip files."""
    import duckdb  # noqa: PLC0415 -- Only the process that writes needs it.

    folder.mkdir()
    size = count // files
    with duckdb.connect() as connection:
        for first in range(0, size * files, size):
            path = folder / f"email_events-{first:012d}.{form}.gz"
            rows = events.select(first, first + size, repeats=False)
            if more:
                rows = f"SELECT *{more} AS revenue FROM ({rows})"
            options = "FORMAT csv, HEADER"
            if form == "json":  # As text, since DuckDB would write 1.1.
                record = "replace(to_json(records)::VARCHAR, '\"odd\"', '1.10')"
                rows = f"SELECT {record} FROM ({rows}) records"
                options = "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'"
            connection.execute(f"COPY ({rows}) TO '{path}' ({options}, COMPRESSION gzip)")
            os.utime(path, (WRITTEN, WRITTEN))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
