"""
The benchmark: our program, hand-written SQL and other tools on the same files in one run.

    python bench/run.py --events 1000000

It prints a table and writes bench/results/DATE.json. Every process is new, the contenders
alternate, and the loaded rows of each are checked completely, so that a wrong result never
counts. Ratios within a run are comparable; figures of different runs or machines are not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import scenarios
from measure import FailedError, run
from report import table
from sets import scratch

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"
VERSIONED = (
    "duckdb",
    "dlt",
    "pyarrow",
    "singer-sdk",
    "target-duckdb",
    "sling-linux-amd64",
    "duckdb-cli",
)


@dataclass(frozen=True)
class Contender:
    """
    A contender: *script* with *arguments*, and the relation with its loaded rows.

    A *slow* contender gets only a *share* of the events, and its seconds are scaled.
    """

    name: str
    script: str
    relation: str
    arguments: tuple[str, ...] = ()
    share: int = 1
    environment: dict[str, str] = field(default_factory=dict)


SLINGS = (
    "SELECT md5(concat('bench', to_address, event_type,"
    " strftime(dt_occurred AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ'))) AS email_event_id,"
    " uuid AS send_id, to_address AS email, dt_occurred AS event_at, reason AS bounce_reason,"
    " * FROM email_events"
)

CONTENDERS = (
    Contender("ours", "ours.py", "SELECT * FROM ometria.email_events"),
    Contender("handwritten", "handwritten.py", "SELECT * FROM email_events"),
    Contender(
        "dlt, Arrow, delete-insert",
        "dlt_arrow.py",
        "SELECT * FROM dlt.email_events",
        ("delete-insert",),
    ),
    Contender("dlt, Arrow, upsert", "dlt_arrow.py", "SELECT * FROM dlt.email_events", ("upsert",)),
    Contender("sling", "sling.py", SLINGS),
    Contender("singer", "singer.py", "SELECT * FROM email_events", share=5),
    Contender("dlt, default", "dlt_default.py", "SELECT * FROM dlt.email_events", share=25),
)


def main() -> None:
    """Measure the selected contenders and scenarios."""
    options = _options()
    chosen = [one for one in CONTENDERS if not options.only or one.name in options.only]
    result: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "bench/run.py", *_sizes()]),
        "machine": machine(),
        "versions": versions(options.program),
        "events": options.events,
        "files": options.files,
        "repeat": options.repeat,
        "contenders": contest(
            chosen, options.program, options.events, options.files, options.repeat
        ),
    }
    for name in options.scenarios:
        _say(f"scenario {name}")
        result[name] = scenarios.ALL[name](options)
    path = options.output or RESULTS / f"{result['made_at'][:10]}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def contest(
    contenders: list[Contender], program: Path, events: int, files: int, repeat: int
) -> dict[str, Any]:
    """Run each contender *repeat* times, in alternation; return all measurements."""
    answer: dict[str, Any] = {
        one.name: {"events": max(20_000, events // one.share), "first": [], "upsert": []}
        for one in contenders
    }
    for turn in range(repeat):
        # Each round starts with another contender, so that the order varies.
        for one in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
            _say(f"round {turn + 1} of {repeat}: {one.name}")
            mine = answer[one.name]
            if "failed" not in mine:
                mine.update(_take_turn(one, program, mine, files))
    return answer


def _take_turn(one: Contender, program: Path, so_far: dict[str, Any], files: int) -> dict[str, Any]:
    data = scenarios.data_set(so_far["events"], files)
    with scratch() as work:
        database = work / "bench.duckdb"
        arguments = (program, *one.arguments) if one.name == "ours" else one.arguments
        wrong: dict[str, Any] = {}
        for step, folder in (("first", data.first), ("upsert", data.upsert)):
            command = [sys.executable, BENCH / "contenders" / one.script, *arguments]
            try:
                ran = run([*command, folder, database], one.environment)
            except FailedError as error:
                return {"failed": _without_paths(str(error))}
            so_far[step].append({"seconds": round(ran.seconds, 3), "peak_mb": round(ran.peak_mb)})
            found = json.loads(
                run([sys.executable, BENCH / "verify.py", database, one.relation]).output
            )
            wrong |= scenarios.differences(step, data.expected(step), found)
        return {"wrong": wrong} if wrong else {}


def machine() -> dict[str, Any]:
    """Describe the machine, without a name that identifies its owner."""
    name = platform.processor() or platform.machine()
    memory = None
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    if hasattr(os, "sysconf"):
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "memory_gb": memory,
        "system": platform.system(),
        "load_before": load and round(load, 2),
    }


def versions(program: Path) -> dict[str, str]:
    """Return the versions. Ours runs in an environment with its own DuckDB."""
    ours = subprocess.run(
        [program.parent / "python", "-c", "import duckdb; print(duckdb.__version__)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    found = {"python": platform.python_version(), "duckdb (ours)": ours}
    return found | {name: version(name) for name in VERSIONED if _is_installed(name)}


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def _without_paths(text: str) -> str:
    return text.replace(str(BENCH.parent), ".")[-500:]


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _sizes() -> list[str]:
    """Return the command line without the paths of this machine."""
    words = iter(sys.argv[1:])
    return [word for word in words if word not in {"--output", "--program"} or not next(words, "")]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the benchmark, and print its table.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, help="default: bench/results/DATE.json")
    parser.add_argument("--only", nargs="*", default=[], help="contenders; default: all")
    parser.add_argument(
        "--scenarios", nargs="*", default=list(scenarios.ALL), choices=list(scenarios.ALL)
    )
    parser.add_argument(
        "--histories", type=int, nargs=2, help="sizes in events; default: 1 and 10 times --events"
    )
    parser.add_argument(
        "--batch", type=int, default=100_000, help="events to load into each history"
    )
    parser.add_argument("--keys", type=int, default=100_000, help="number of files for the listing")
    parser.add_argument(
        "--profiles", type=int, default=60_000, help="number of profiles for the API"
    )
    parser.add_argument("--program", type=Path, default=scenarios.PROGRAM)
    options = parser.parse_args()
    options.histories = options.histories or [options.events, 10 * options.events]
    return options


if __name__ == "__main__":
    main()
