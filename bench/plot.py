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
OURS, OTHERS = "#d1567a", "#7d8897"
TEXT, LINES = "#7d8590", "#8a94a3"


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
    """
    Draw a dot per contender, for the first load and for the upsert.

    The scale is logarithmic, because the times differ by two orders of magnitude: dots, since the
    length of a bar would mean nothing. The colours are legible on white and on black.
    """
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
        shown = [NAMES.get(name, name).replace("`", "") for name in names]
        colors = [OURS if name == "ours" else OTHERS for name in names]
        axis.scatter(times, shown, c=colors, s=60, zorder=2)
        for time, name, color in zip(times, shown, colors, strict=True):
            axis.annotate(
                f"{time:,.1f} s", (time, name), (8, 0), textcoords="offset points",
                va="center", fontsize=8, color=color,
            )  # fmt: skip
        axis.margins(y=0.15)
        axis.grid(visible=True, axis="x", color=LINES, alpha=0.35, zorder=0)
        axis.grid(visible=True, axis="y", color=LINES, alpha=0.15, zorder=0)
        axis.set_title(title, fontsize=10, loc="left", color=TEXT)
        axis.set_xscale("log")
        axis.set_xlim(min(times) / 2, max(times) * 4)
        axis.set_xlabel("seconds, on a logarithmic scale", fontsize=8, color=TEXT)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.tick_params(which="both", labelsize=8, colors=TEXT)
        axis.spines[["left", "bottom"]].set_color(LINES)
        axis.spines[["top", "right"]].set_visible(False)
    # Without a background, so that the page's own shows, be it light or dark.
    metadata = {"Date": None, "Creator": None}
    figure.savefig(output, format="svg", transparent=True, metadata=metadata)
    text = output.read_text(encoding="utf-8")
    output.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
