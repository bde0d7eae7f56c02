"""
What kept records cost: the first load of events, with and without `keep_records`.

    nice python bench/records.py --events 1000000

It loads the same files into a new DuckDB file, in new processes that alternate, and prints the
CPU time of each as a ratio to the load without records in the same round, the size of the file,
and the time in which `ometria-replica fields` lists the fields of the kept records.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from measure import run
from scenarios import data_set
from sets import scratch


def main() -> None:
    """Measure, and print a table of ratios as JSON."""
    options = _options()
    data = data_set(options.events, options.files)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(options.repeat):
        for name, keeps in {"none": "false", "records": "true"}.items():
            with scratch() as work:
                database = work / "bench.duckdb"
                variables = {
                    "OMETRIA_FEED_URL": str(data.first),
                    "OMETRIA_ACCOUNT_ID": "bench",
                    "OMETRIA_KEEP_RECORDS": keeps,
                    "PYTHONPATH": str(Path(__file__).parent.parent / "src"),
                }
                program = [sys.executable, "-m", "ometria_replica"]
                ran = run([*program, "sync", "--warehouse", database], variables)
                each = found.setdefault(name, {})
                _add(each, "cpu_seconds", ran.cpu_seconds)
                _add(each, "seconds", ran.seconds)
                _add(each, "file_mb", database.stat().st_size / 1e6)
                if keeps == "true":
                    listed = run([*program, "fields", "--warehouse", database], variables)
                    _add(each, "seconds_of_fields", listed.seconds)
    for each in found.values():
        for name in ("cpu_seconds", "seconds", "file_mb"):
            pairs = zip(each[name], found["none"][name], strict=True)
            each[f"{name}_ratio"] = [round(statistics.median(one / none for one, none in pairs), 3)]
    print(json.dumps({"events": data.events, **found}, indent=2))


def _add(each: dict[str, list[float]], name: str, value: float) -> None:
    each.setdefault(name, []).append(round(value, 2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
