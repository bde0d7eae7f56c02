"""
The time and the files of many hourly syncs into a lake: the last of them against the first.

The simulated account lives for an hour between two syncs: profiles change, and events come in a
new file of the export. Each sync is a process of its own, started under libfaketime, so that it
believes the hours: files get the times that they would have. The time of a sync is that of its
report, without the start of Python. The simulator responds at once and without a limit.

    apt-get install faketime
    python bench/lake_syncs.py --kind iceberg --syncs 100

--program names another installation of the program, for a comparison with an earlier release.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ometria_simulator import Account, Feed, serve

HOUR = timedelta(hours=1)
URLS = {
    "delta": "delta:///{folder}",
    "iceberg": "iceberg+sqlite:///{folder}/catalog.db?warehouse=file://{folder}",
}
PARTS = ("state", "tables", "metadata")


class Cost(NamedTuple):
    """The seconds of a sync, and those of the processor that its process took from its start."""

    seconds: float
    cpu: float


def main() -> None:
    """Sync each hour, and print one JSON object."""
    options = _options()
    account = Account.create(
        profiles=options.profiles,
        lists=10,
        email_events=options.profiles * 5,
        now=datetime.now(UTC),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(account, requests_per_second=None) as server,
    ):
        lake = Path(folder) / "lake"
        lake.mkdir()
        feed = Feed(account, f"{folder}/export")
        feed.export_history()
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("OMETRIA_")},
            "OMETRIA_API_KEY": server.key,
            "OMETRIA_API_URL": server.url,
            "OMETRIA_FEED_URL": f"{folder}/export",
            "OMETRIA_REQUESTS_PER_SECOND": "1000",
            "OMETRIA_WAREHOUSE_URL": URLS[options.kind].format(folder=lake),
        }
        costs: list[Cost] = []
        sizes, known = [], set[Path]()
        for place in range(options.syncs + 1):
            costs.append(_sync(options, environment, place * HOUR))
            _set_times(lake, place * HOUR, known)
            sizes.append(_sizes(lake))
            if options.verbose:
                print(place, *costs[-1], sizes[-1], file=sys.stderr, flush=True)
            account.advance(HOUR)
            feed.export()
    print(json.dumps(_answer(options, costs[1:], sizes), indent=2))


def _sync(options: argparse.Namespace, environment: dict[str, str], later: timedelta) -> Cost:
    """Sync *later* than now."""
    process = subprocess.Popen(
        ["faketime", "-f", f"+{later.total_seconds():.0f}s",
         options.program, "-m", "ometria_replica", "sync", "--json", "--quiet"],
        env=environment | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a sync failed with {process.returncode}")
    began, ended = (datetime.fromisoformat(report[name]) for name in ("started_at", "finished_at"))
    return Cost((ended - began).total_seconds(), usage.ru_utime + usage.ru_stime)


def _set_times(lake: Path, later: timedelta, known: set[Path]) -> None:
    """Give the files of a sync, which have the real time, the time that it believes in."""
    moment = time.time() + later.total_seconds()
    for file in {each for each in lake.rglob("*") if each.is_file()} - known:
        with suppress(FileNotFoundError):
            os.utime(file, (moment, moment))
        known.add(file)


def _sizes(lake: Path) -> dict[str, dict[str, int]]:
    """Count files and bytes of the state and of the tables, and how much of both is metadata."""
    found = {name: {"files": 0, "bytes": 0} for name in PARTS}
    for file in lake.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file():
                of_state = any(part.startswith("ometria_replica") for part in file.parts)
                kinds = ["state" if of_state else "tables"]
                kinds += ["metadata"] if {"_delta_log", "metadata"} & {*file.parts} else []
                for kind in kinds:
                    found[kind]["files"] += 1
                    found[kind]["bytes"] += file.stat().st_size
    return found


def _answer(
    options: argparse.Namespace, costs: list[Cost], sizes: list[dict[str, dict[str, int]]]
) -> dict[str, Any]:
    some = min(10, len(costs) // 2)
    found: dict[str, Any] = {
        "kind": options.kind,
        "syncs": len(costs),
        "profiles": options.profiles,
        "compared": some,
    }
    for place, name in enumerate(Cost._fields):
        first = statistics.median(cost[place] for cost in costs[:some])
        last = statistics.median(cost[place] for cost in costs[-some:])
        found[name] = {"first": round(first, 2), "last": round(last, 2)}
        found[name]["ratio"] = round(last / first, 2)
    at = {"after_the_first": 0, f"after_{some}": some, "at_the_end": -1}
    return found | {name: sizes[place] for name, place in at.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--kind", choices=URLS, default="delta")
    parser.add_argument("--syncs", type=int, default=100)
    parser.add_argument("--profiles", type=int, default=500)
    parser.add_argument("--program", default=sys.executable, help="its Python")
    parser.add_argument("--verbose", action="store_true", help="print each sync")
    return parser.parse_args()


if __name__ == "__main__":
    main()
