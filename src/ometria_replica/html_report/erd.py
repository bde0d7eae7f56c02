"""The diagram of the tables and how they join, as SVG."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Join, Table

_WIDE, _LINE, _HEAD = 190, 20, 28  # Pixels: a table, a column of it, its name.
_APART, _BELOW, _EDGE = 100, 46, 6  # Between tables side by side, below each other, and around.


@dataclass(frozen=True)
class _Box:
    """A table at *x* and *y*, with the columns that joins need, and the number of the others."""

    table: Table
    columns: tuple[str, ...]
    more: int
    x: int
    y: int

    @property
    def height(self) -> int:
        return _HEAD + _LINE * (len(self.columns) + 1) + 6

    def at(self, column: str) -> int:
        """Find the height of a column's line."""
        return self.y + _HEAD + _LINE * self.columns.index(column) + _LINE // 2 + 2


def joins_of(catalog: Catalog) -> list[Join]:
    """List the joins of tables that are both in the catalog."""
    return [
        join
        for join in catalog.joins
        if {join.one.split(".")[0], join.many.split(".")[0]} <= set(catalog.names)
    ]


def draw(catalog: Catalog) -> Markup:
    """Draw the tables of *catalog*: those that others refer to are on the left of these."""
    joins = joins_of(catalog)
    boxes = {box.table.name: box for box in _boxes(catalog, joins)}
    width = max(box.x for box in boxes.values()) + _WIDE + _EDGE
    height = max(box.y + box.height for box in boxes.values()) + _EDGE
    lines = Markup("").join(_line(join, boxes) for join in joins)
    drawn = Markup("").join(_box(box) for box in boxes.values())
    frame = '<svg class="erd" viewBox="0 0 {0} {1}" width="{0}" aria-hidden="true">{2}{3}</svg>'
    return Markup(frame).format(width, height, lines, drawn)  # noqa: S704 -- a constant.


def _boxes(catalog: Catalog, joins: list[Join]) -> Iterator[_Box]:
    levels = _levels(catalog, joins)
    heights: dict[int, int] = defaultdict(lambda: _EDGE)
    for table in sorted(catalog, key=lambda table: levels[table.name]):
        ends = [end.split(".") for join in joins for end in (join.one, join.many)]
        columns = tuple(dict.fromkeys(column for owner, column in ends if owner == table.name))
        level = levels[table.name]
        x = _EDGE + level * (_WIDE + _APART)
        y = heights[level]
        if level > 1 and y == _EDGE:  # Between the lines from the tables before.
            y += 70
        box = _Box(table, columns, len(table.all_columns) - len(columns), x, y)
        heights[level] = box.y + box.height + _BELOW
        yield box


def _levels(catalog: Catalog, joins: list[Join]) -> dict[str, int]:
    """Put each table behind all that it refers to; a circle of references ends somewhere."""
    levels = dict.fromkeys(catalog.names, 0)
    for _ in catalog.names:
        for join in joins:
            one, many = join.one.split(".")[0], join.many.split(".")[0]
            if one != many and levels[many] <= levels[one] < len(levels):
                levels[many] = levels[one] + 1
    return levels


def _line(join: Join, boxes: dict[str, _Box]) -> Markup:
    (one, column), (many, other) = join.one.split("."), join.many.split(".")
    start, end = boxes[one], boxes[many]
    x, y, last = start.x + _WIDE, start.at(column), (end.x, end.at(other))
    path = f"M{x},{y}"
    while x + _APART < end.x:  # Past the tables between, in the gap below the first of them.
        gap = _gap(x + _APART, boxes) + 12 * (y == start.at(start.columns[0]))
        path += f"{_curve(x, y, x + _APART, gap)}h{_WIDE}"
        x, y = x + _APART + _WIDE, gap
    path += _curve(x, y, *last)
    fork = "M{0},{1}l-9,-5M{0},{1}l-9,5".format(*last)
    kind = "guess" if join.best_effort else "exact"
    return Markup('<path class="{}" d="{}"/><path class="fork" d="{}"/>').format(kind, path, fork)


def _curve(x: int, y: int, to_x: int, to_y: int) -> str:
    half = (x + to_x) // 2
    return f"C{half},{y} {half},{to_y} {to_x},{to_y}"


def _gap(x: int, boxes: dict[str, _Box]) -> int:
    """Find the gap below the first table at *x*."""
    first = min((box for box in boxes.values() if box.x == x), key=lambda box: box.y)
    return first.y + first.height + 10


def _box(box: _Box) -> Markup:
    texts = [
        Markup('<text x="{}" y="{}">{}</text>').format(box.x + 10, box.at(column) + 4, column)
        for column in box.columns
    ]
    foot = box.y + box.height - 11
    more = Markup('<text class="more" x="{}" y="{}">and {} more columns</text>').format(
        box.x + 10, foot, box.more
    )
    return Markup(
        '<rect class="table" x="{x}" y="{y}" width="{w}" height="{h}" rx="4"/>'
        '<path class="rule" d="M{x},{r}h{w}"/>'
        '<text class="name" x="{t}" y="{n}">{name}</text>{texts}{more}'
    ).format(
        x=box.x,
        y=box.y,
        w=_WIDE,
        h=box.height,
        r=box.y + _HEAD - 4,
        t=box.x + 10,
        n=box.y + 17,
        name=escape(box.table.name),
        texts=Markup("").join(texts),
        more=more,
    )
