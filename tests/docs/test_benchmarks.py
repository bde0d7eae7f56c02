"""The benchmarks, at sizes at which they measure nothing: that each still runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "accounts.py --accounts 2 --profiles 100 --latency 0 --rate 100",
    "api_budget.py --profiles 1000 --latency 0 --rate 200",
    "hashing.py --events 1000 --files 2 --repeat 1",
    "json_lines.py --events 1000 --files 1 --repeat 1",
    "lake_maintenance.py --rows 2000 --file-rows 500",
    "nested.py --profiles 300 --repeat 1",
    "records.py --events 1000 --files 2 --repeat 1",
    "table_loads.py duckdb profiles 1000 60",
    "versions.py --profiles 300 --days 3",
)


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALL, ids=[each.split(".")[0] for each in SMALL])
def test_a_benchmark_runs_and_prints_json(command: str) -> None:
    script, *options = command.split()
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    text = done.stdout
    assert json.loads(text[min(text.index(mark) for mark in "[{" if mark in text) :])
