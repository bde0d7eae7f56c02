"""Wide tables, so that a phone shows each row as a block and each cell below its heading."""

from __future__ import annotations

import html
import re

COLUMNS = 4
"""How many columns are too many for a phone."""

_ROLES = {
    "table": "table",
    "thead": "rowgroup",
    "tbody": "rowgroup",
    "tr": "row",
    "td": "cell",
}
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_HEADING = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<td\b")
_TAG = re.compile(r"<[^>]+>")


def mark(content: str) -> str:
    """Name the heading in each cell of a wide table; its style sheet does the rest."""
    return _TABLE.sub(lambda table: _mark_table(table[0]), content)


def _mark_table(table: str) -> str:
    names = [html.unescape(_TAG.sub("", heading)).strip() for heading in _HEADING.findall(table)]
    if len(names) < COLUMNS:
        return table

    def row(found: re.Match[str]) -> str:
        labels = iter(names)
        return _CELL.sub(lambda _: f'<td data-label="{html.escape(next(labels, ""))}"', found[0])

    marked = _ROW.sub(row, table)
    for tag, role in _ROLES.items():  # A cell that is shown as a block is none to a screen reader.
        marked = re.sub(rf"<{tag}\b", f'<{tag} role="{role}"', marked)
    return marked.replace("<table", "<table data-wide", 1)
