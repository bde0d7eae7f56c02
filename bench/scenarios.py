"""Measurements of our program alone: memory, long histories, many files, the API, a short run."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Run, run
from sets import DataSet, scratch

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

BENCH = Path(__file__).parent
PROGRAM = BENCH.parent / ".venv-bench-ours" / "bin" / "ometria-replica"
"""The environment of a user, without the packages for tests."""

PYTHON = BENCH.parent / ".venv" / "bin" / "python"
"""The environment with the simulator."""

WAYS = ("stage", "files", "distinct-on", "row-number", "merge", "primary-key")
STARTS = 11


def data_set(events: int, files: int) -> DataSet:
    """Return a data set, generated if needed in another process, to keep this one small."""
    run([sys.executable, BENCH / "data.py", "--events", str(events), "--files", str(files)])
    return DataSet.named(events, files)


def differences(
    step: str, expected: Mapping[str, int], found: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Return the differences from the expected result after *step*."""
    if expected == found:
        return {}
    return {step: {name: found[name] - expected[name] for name in ("rows", "keys")}}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Load N and four times N events, in files of the same size."""
    answer: dict[str, Any] = {"events": [], "peak_mb": [], "seconds": []}
    for factor in (1, 4):
        events = factor * options.events
        with scratch() as work:
            _write(work / "feed", 0, events, factor * options.files)
            ran = _sync(options.program, work / "feed", work / "bench.duckdb")
        answer["events"].append(events)
        answer["peak_mb"].append(round(ran.peak_mb))
        answer["seconds"].append(round(ran.seconds, 3))
    return answer


def ways(options: argparse.Namespace) -> dict[str, Any]:
    """Measure other ways to write the table by hand, as alternatives to ours."""
    data = data_set(options.events, options.files)
    answer: dict[str, Any] = {"events": data.events}
    for way in WAYS:
        answer[way] = {"first": [], "upsert": [], "peak_mb": 0}
    for _ in range(options.repeat):
        for way in WAYS:
            with scratch() as work:
                for step, folder in (("first", data.first), ("upsert", data.upsert)):
                    command = [sys.executable, BENCH / "contenders" / "ways.py", way, folder]
                    ran = run([*command, work / "bench.duckdb"])
                    answer[way][step].append(round(ran.seconds, 3))
                    answer[way]["peak_mb"] = max(answer[way]["peak_mb"], round(ran.peak_mb))
    return answer


def flatness(options: argparse.Namespace) -> dict[str, Any]:
    """Load batches of one size into a short history and into a long one."""
    answer: dict[str, Any] = {"batch": options.batch, "events": options.histories, "seconds": []}
    for events in options.histories:
        with scratch() as work:
            database, empty = work / "bench.duckdb", work / "empty"
            empty.mkdir()
            _sync(options.program, empty, database)
            run([sys.executable, BENCH / "history.py", database, str(events)])
            times = []
            for turn in range(options.repeat + 1):
                first = events + turn * options.batch // 2 - options.batch // 2
                batch = work / f"batch-{turn}"
                _write(batch, first, options.batch, 1)
                times.append(round(_sync(options.program, batch, database).seconds, 3))
        answer["seconds"].append(times[1:])  # The first also reads the file from disk.
    return answer


def listing(options: argparse.Namespace) -> dict[str, Any]:
    """Sync a folder of many files with ten new ones, then again with none."""
    with scratch() as work:
        command = [PYTHON, BENCH / "listing.py", work, "--files", str(options.keys)]
        run([*command, "--known"])
        before = _sync(options.program, work / "feed", work / "bench.duckdb")
        run([*command, "--new", "10"])
        after = _sync(options.program, work / "feed", work / "bench.duckdb")
        again = _sync(options.program, work / "feed", work / "bench.duckdb")
    loaded = _json(after.output)["tables"][0]["files"]
    return {
        "files": options.keys,
        "new": loaded,
        "seconds_with_new": round(after.seconds, 3),
        "seconds_without": round(min(before.seconds, again.seconds), 3),
    }


def start(options: argparse.Namespace) -> dict[str, Any]:
    """Start the program for ``--help``, and for a sync without new data."""
    helps = [run([options.program, "--help"]).seconds for _ in range(STARTS)]
    empty = _json(run([PYTHON, BENCH / "empty_sync.py", options.program]).output)
    return {"help_seconds": round(statistics.median(helps), 3), **empty}


def api(options: argparse.Namespace) -> dict[str, Any]:
    """Read profiles from a simulated account that responds after 800 ms."""
    output = run(
        [PYTHON, BENCH / "api_budget.py", "--profiles", str(options.profiles), "--latency", "0.8"]
    ).output
    return _json(output)


ALL: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ways": ways,
    "memory": memory,
    "flatness": flatness,
    "listing": listing,
    "start": start,
    "api": api,
}


def _write(folder: Path, first: int, events: int, files: int) -> None:
    """Write one folder of events in another process, to keep this one small."""
    sizes = ["--first", str(first), "--events", str(events), "--files", str(files)]
    run([sys.executable, BENCH / "data.py", "--into", folder, *sizes])


def _json(output: str) -> dict[str, Any]:
    """Return the JSON at the end of a program's output."""
    answer: dict[str, Any] = json.loads(output[output.index("{\n") :])
    return answer


def _sync(program: Path, folder: Path, database: Path) -> Run:
    return run([sys.executable, BENCH / "contenders" / "ours.py", program, folder, database])
