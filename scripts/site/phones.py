"""
What a page needs on a phone: each row of a wide table becomes a block, with each cell below its
heading, and short code, such as ``--account``, stays in one line.
"""

from __future__ import annotations

import html
import re

COLUMNS = 4
"""So many columns are too many for a phone."""

LONG = 60
"""With one column fewer, a cell with so many characters is too long for a phone."""

SHORT = 24
"""Code of at most so many characters is not broken."""

_CODE = re.compile(r"<code>([^<]*)</code>")
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
_TH = re.compile(r"<th(?=[ >])")
_CELL = re.compile(r"<td\b")
_TEXT = re.compile(r"<td\b[^>]*>(.*?)</td>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def mark(content: str) -> str:
    """Name the heading in each cell of a wide table, and mark short code, for the style sheet."""
    marked = _TABLE.sub(lambda table: _mark_table(table[0]), content)
    return _CODE.sub(_mark_code, marked)


def _mark_code(code: re.Match[str]) -> str:
    text = html.unescape(code[1])
    return f"<code data-short>{code[1]}</code>" if len(text) <= SHORT else code[0]


def _text(cell: str) -> str:
    return html.unescape(_TAG.sub("", cell)).strip()


def _longest(columns: int, table: str) -> int:
    """Find the column with the longest cell, which needs the most room."""
    lengths = [len(_text(cell)) for cell in _TEXT.findall(table)]
    return max(range(columns), key=lambda column: max(lengths[column::columns], default=0))


def _mark_table(table: str) -> str:
    names = [_text(heading) for heading in _HEADING.findall(table)]
    longest = max((len(_text(cell)) for cell in _TEXT.findall(table)), default=0)
    if len(names) < (COLUMNS - 1 if longest >= LONG else COLUMNS):
        return table

    def row(found: re.Match[str]) -> str:
        labels = iter(names)
        return _CELL.sub(lambda _: f'<td data-label="{html.escape(next(labels, ""))}"', found[0])

    longest_column = _longest(len(names), table)
    headings = iter(range(len(names)))
    marked = _TH.sub(
        lambda _: "<th data-long" if next(headings) == longest_column else "<th",
        _ROW.sub(row, table),
    )
    for tag, role in _ROLES.items():  # A cell that is shown as a block is none to a screen reader.
        marked = re.sub(rf"<{tag}\b", f'<{tag} role="{role}"', marked)
    return marked.replace("<table", "<table data-wide", 1)
