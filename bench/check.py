"""
Has a load become slower? Ours against hand-written SQL, taking turns in one run.

    python bench/check.py

Compares ratios, not seconds, and of each the best of its tries, so that a slow or busy
machine does not matter much. Nearly twice the usual ratio fails. Some 30 seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import scenarios
from measure import run
from sets import scratch

BENCH = Path(__file__).parent
STEPS = ("first", "upsert")
USUAL = {"first": 1.45, "upsert": 1.65}
"""Our seconds to those of hand-written SQL: far from 1 here, where 0.3 s of start-up weigh."""

SLACK = 1.8
"""Less than twice, so that a doubling is seen; the best of three tries stays well below."""


def main() -> None:
    """Fail if a ratio is too high."""
    parser = argparse.ArgumentParser(description="Check that loads are no slower than usual.")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument(
        "--program", type=Path, default=Path(sys.executable).parent / "ometria-replica"
    )
    options = parser.parse_args()
    data = scenarios.data_set(options.events, options.files)
    best: dict[tuple[str, str], float] = {}
    for _ in range(options.tries):
        for script, arguments in (("handwritten.py", ()), ("ours.py", (options.program,))):
            with scratch() as work:
                for step in STEPS:
                    command = [sys.executable, BENCH / "contenders" / script, *arguments]
                    ran = run([*command, data.folder / step, work / "bench.duckdb"])
                    key = (script, step)
                    best[key] = min(ran.seconds, best.get(key, ran.seconds))
    slow = False
    for step in STEPS:
        ours, by_hand = best["ours.py", step], best["handwritten.py", step]
        ratio, limit = ours / by_hand, SLACK * USUAL[step]
        slow |= ratio > limit
        print(
            f"{step}: {ours:.2f} s, hand-written SQL {by_hand:.2f} s:"
            f" {ratio:.2f} times as long (usual {USUAL[step]}, at most {limit:.2f})"
        )
    if slow:
        sys.exit(
            "A load takes much longer than it did. `make bench` and bench/flame.py tell where."
        )


if __name__ == "__main__":
    main()
