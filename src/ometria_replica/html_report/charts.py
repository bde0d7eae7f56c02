"""
Charts as SVG, drawn by Vega-Lite without a browser.

Only numbers and dates get there: titles are text of the page. Colours are variables of the page,
so that one drawing serves light, dark and print; what a colour says, a pattern says too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import vl_convert
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.html_report.periods import Period

WIDTH, HEIGHT = 330, 110  # Of the plot, in pixels; a phone shows it nearly as large.

HATCH, SHADE = "url(#hatch)", "url(#shade)"
"""The patterns of the page: bars that need a second look, and bars of steps that still run."""

_TICKS = 6
_YEAR_ONLY_AT = 700  # Days: longer axes name years alone.


@dataclass(frozen=True)
class Bar:
    """A bar from the day *start*; *hatched* of its *value* are drawn with another pattern."""

    start: date
    value: float
    hatched: float = 0


def bars(period: Period, values: Sequence[Bar], *, top: float | None = None) -> Markup:
    """
    Draw a bar for each step; that of a step which still runs is shaded.

    *top* is the least end of the axis, so that charts can share one.
    """
    rows = [
        {
            "from": _instant(bar.start),
            "to": _instant(period.end(bar.start)),
            "low": low,
            "high": high,
            "fill": fill if period.is_complete(bar.start) or fill == HATCH else SHADE,
        }
        for bar in values
        for low, high, fill in (
            (0, bar.value - bar.hatched, "var(--mark)"),
            (bar.value - bar.hatched, bar.value, HATCH),
        )
        if high > low
    ]
    highest = max([top or 0, *(bar.value for bar in values)])
    mark = {
        "type": "bar",
        "stroke": "var(--mark)",
        "strokeWidth": 0.6,
        "x2Offset": {"expr": f"-{0.25 * _pixels(period):.2f}"},
    }
    return _drawn(
        period,
        rows,
        mark,
        {
            "x": {"field": "from"},
            "x2": {"field": "to"},
            "y": {"field": "low"},
            "y2": {"field": "high"},
            "fill": {"field": "fill", "type": "nominal", "scale": None, "legend": None},
        },
        highest,
    )


def steps(period: Period, values: Sequence[tuple[date, float]]) -> Markup:
    """Draw a quantity that stays the same until the next day with another *value*."""
    rows: list[dict[str, Any]] = [
        {"from": _instant(day), "low": 0, "high": value} for day, value in values
    ]
    mark = {
        "type": "area",
        "interpolate": "step-after",
        "fill": "var(--area)",
        "line": {"stroke": "var(--mark)", "strokeWidth": 1.6, "interpolate": "step-after"},
    }
    encoding = {"x": {"field": "from"}, "y": {"field": "high"}}
    return _drawn(period, rows, mark, encoding, max(value for _, value in values))


def _drawn(
    period: Period, rows: list[Any], mark: dict[str, Any], encoding: dict[str, Any], highest: float
) -> Markup:
    ends = [_instant(period.first), _instant(period.last + timedelta(days=1))]
    scale_x = {"type": "utc", "domain": ends, "nice": False}
    scale_y = {"domain": [0, max(highest, 1)], "nice": 4}
    axis = _count_axis(highest)
    x = {"type": "temporal", "scale": scale_x, "title": None, "axis": _time_axis(period)}
    y = {"type": "quantitative", "scale": scale_y, "title": None, "stack": None, "axis": axis}
    spec = {
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": rows},
        "mark": mark,
        "encoding": {
            **encoding,
            "x": {**encoding["x"], **x},
            "y": {**encoding["y"], **y},
        },
        "config": _LOOK,
    }
    return Markup(_compact(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])))  # noqa: S704 -- no text.


_LOOK = {
    "background": None,
    "aria": False,  # The page describes the figure, and has its numbers in a table.
    "font": "inherit",
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "labelFont": "inherit",
        "labelFontSize": 11,
        "labelColor": "var(--quiet)",
        "labelPadding": 5,
        "gridColor": "var(--line)",
        "gridWidth": 0.7,
        "domain": False,
        "ticks": False,
    },
    "axisX": {"grid": False, "domain": True, "domainColor": "var(--edge)"},
}


def _count_axis(highest: float) -> dict[str, Any]:
    """Label whole numbers alone, each by itself: 500 and 1k, not 0.5k and 1k."""
    whole = {"values": list(range(math.ceil(highest) + 1))} if highest <= 4 else {"tickCount": 4}
    words = "datum.value < 1000 ? format(datum.value, ',') : format(datum.value, '.3~s')"
    return {**whole, "labelExpr": words, "grid": True}


def _time_axis(period: Period) -> dict[str, Any]:
    days = (period.last - period.first).days
    year = "utcFormat(datum.value, '%Y')"
    if days > _YEAR_ONLY_AT:
        return {"tickCount": {"interval": "year", "step": 1}, "labelExpr": year}
    if period.step == "day":
        starts = period.starts()
        ticks = [_instant(day) for day in starts[:: math.ceil(len(starts) / _TICKS)]]
        words = "utcFormat(datum.value, '%-d %b')"
        return {"values": ticks, "labelExpr": words}
    words = f"utcmonth(datum.value) == 0 ? {year} : utcFormat(datum.value, '%b')"
    return {"tickCount": 6, "labelExpr": words, "labelOverlap": True}


def _pixels(period: Period) -> float:
    """Give the width of a step."""
    return WIDTH / len(period.starts())


def _instant(day: date) -> str:
    return f"{day:%Y-%m-%d}T00:00:00Z"


def _compact(svg: str) -> str:
    """Leave out what a page needs not: names of a document's kind, and digits after a tenth."""
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg)
    return re.sub(r"(\d+\.\d)\d+", r"\1", svg)
