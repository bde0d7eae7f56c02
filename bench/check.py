"""
Regression check of the load: ours against hand-written SQL, in alternation in one run.

    python bench/check.py

It compares ratios of the best tries. Processor time decides, because a busy machine changes
it by one or two percent, while it can double the elapsed seconds. The check compares elapsed
seconds as well, to detect idle cores. It takes less than a minute.
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
LIMITS = {
    ("first", "processor seconds"): 1.3,  # Usually 0.80 to 0.86, so that a doubling is 1.6.
    ("first", "seconds"): 1.8,  # Usually below 1.
    ("upsert", "processor seconds"): 2.9,  # 1.3, or 2.1 if DuckDB compacts the table.
    ("upsert", "seconds"): 3.5,  # Usually below 2, a third of it start-up.
}
"""Maximum ratios of ours to hand-written SQL, at the default number of events."""


def main() -> None:
    """Exit with an error if a ratio is too high."""
    parser = argparse.ArgumentParser(description="Check that loads are no slower than usual.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--tries", type=int, default=2)
    parser.add_argument(
        "--program", type=Path, default=Path(sys.executable).parent / "ometria-replica"
    )
    options = parser.parse_args()
    best = _best(options)
    slow = False
    for (step, unit), limit in LIMITS.items():
        ours, by_hand = (best[script, step, unit] for script in ("ours.py", "handwritten.py"))
        slow |= ours > limit * by_hand
        print(
            f"{step}: {ours:.2f} {unit}, hand-written SQL {by_hand:.2f}:"
            f" a ratio of {ours / by_hand:.2f} (at most {limit})"
        )
    if slow:
        sys.exit(
            "A load takes much longer than it did. `make bench` and bench/flame.py tell where."
        )


def _best(options: argparse.Namespace) -> dict[tuple[str, str, str], float]:
    """Return the minimum of each script, step and unit."""
    data = scenarios.data_set(options.events, options.files)
    best: dict[tuple[str, str, str], float] = {}
    for _ in range(options.tries):
        for script, arguments in (("handwritten.py", ()), ("ours.py", (options.program,))):
            with scratch() as work:
                for step in STEPS:
                    command = [sys.executable, BENCH / "contenders" / script, *arguments]
                    ran = run([*command, data.folder / step, work / "bench.duckdb"])
                    units = {"seconds": ran.seconds, "processor seconds": ran.cpu_seconds}
                    for unit, taken in units.items():
                        key = (script, step, unit)
                        best[key] = min(taken, best.get(key, taken))
    return best


if __name__ == "__main__":
    main()
