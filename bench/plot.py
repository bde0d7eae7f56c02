"""
Draw docs/assets/bench.svg from the newest results.

    python bench/plot.py
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from report import NAMES, newest, seconds

PICTURE = Path(__file__).parents[1] / "docs" / "assets" / "bench.svg"
OURS, OTHERS = "#b3435c", "#8a94a3"


def main() -> None:
    """Draw the chart, if there are results."""
    parser = argparse.ArgumentParser(description="Draw the newest results.")
    parser.add_argument("--results", type=Path, help="a file of results; default: the newest")
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args()
    result = json.loads(options.results.read_text()) if options.results else newest()
    if result is None:
        print("There are no results. Run `make bench`.")
        return
    # The file depends on the results only, not on the time or the machine.
    mpl.rcParams["svg.hashsalt"] = "bench"
    mpl.rcParams["font.family"] = "sans-serif"
    draw(result, options.output)


def draw(result: dict[str, Any], output: Path) -> None:
    """Draw a bar per contender, for the first load and for the upsert."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
    names = [name for name in result["contenders"] if seconds(result, name, "first")]
    names.sort(key=lambda name: -(seconds(result, name, "first") or 0))
    batch = result["events"] // 10
    titles = (
        ("first", f"First load of {result['events']:,} events"),
        ("upsert", f"Upsert of {batch:,}, half of them there"),
    )
    for axis, (step, title) in zip(axes, titles, strict=True):
        times = [seconds(result, name, step) or 0 for name in names]
        bars = axis.barh(
            [NAMES.get(name, name).replace("`", "") for name in names],
            times,
            color=[OURS if name == "ours" else OTHERS for name in names],
        )
        axis.bar_label(bars, labels=[f" {time:,.1f} s" for time in times], fontsize=8)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xscale("log")
        axis.set_xlim(min(times) / 3, max(times) * 4)
        axis.set_xlabel("seconds, on a logarithmic scale", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, format="svg", metadata={"Date": None, "Creator": None})
    text = output.read_text(encoding="utf-8")
    output.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
