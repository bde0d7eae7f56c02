"""
What pseudonyms cost: the first load of events, with columns hashed and without.

    nice python bench/hashing.py --events 1000000

It loads the same files into a new DuckDB file, in new processes that alternate, and prints the
CPU time of each as a ratio to the load without hashing in the same round. The columns are the
address, with few values, the send, and the event's id, with a value for each row.
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

WAYS = {
    "address": "*.email",
    "address, send and event": "*.email,email_events.send_id,email_events.event_id",
    "address, title and device": "*.email,email_events.campaign_title,email_events.device_type",
}


def main() -> None:
    """Measure, and print a table of ratios as JSON."""
    options = _options()
    data = data_set(options.events, options.files)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(options.repeat):
        for name, columns in {"none": "", **WAYS}.items():
            with scratch() as work:
                database = work / "bench.duckdb"
                variables = {"OMETRIA_HASH": columns, "OMETRIA_HASH_KEY": "0123456789abcdef" * 4}
                ran = run(
                    [sys.executable, "-m", "ometria_replica", "sync", "--warehouse", database],
                    {
                        "OMETRIA_FEED_URL": str(data.first),
                        "OMETRIA_ACCOUNT_ID": "bench",
                        "PYTHONPATH": str(Path(__file__).parent.parent / "src"),
                        **variables,
                    },
                )
                each = found.setdefault(name, {"cpu_seconds": [], "seconds": [], "file_mb": []})
                each["cpu_seconds"].append(round(ran.cpu_seconds, 2))
                each["seconds"].append(round(ran.seconds, 2))
                each["file_mb"].append(round(database.stat().st_size / 1e6, 1))
    for each in found.values():
        for name in ("cpu_seconds", "seconds"):
            pairs = zip(each[name], found["none"][name], strict=True)
            each[f"{name}_ratio"] = [round(statistics.median(one / none for one, none in pairs), 3)]
    print(json.dumps({"events": data.events, **found}, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
