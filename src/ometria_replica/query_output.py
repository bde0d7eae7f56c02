"""An answer to a query as a table, as CSV and as JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import typer
from rich.cells import cell_len, set_cell_size

from ometria_replica.query_cells import as_object, as_text, is_number, rows_of
from ometria_replica.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ometria_replica.warehouse.queries.answer import Answer

NARROWEST = 8
"""Columns of a terminal that a shortened column has at least."""

_GAP = "  "
_LINE_ENDS = {"\n": "\\n", "\t": "\\t"}
_QUOTED = re.compile(r'[",\r\n]')


@dataclass(frozen=True)
class Grid:
    """
    The first rows of an answer: *names* of the columns, and *cells*, None where null.

    *numbers* tells of each column whether it has numbers. *has_more* says that there are more
    rows.
    """

    names: tuple[str, ...]
    numbers: tuple[bool, ...]
    cells: list[list[str | None]]
    has_more: bool


def grid_of(answer: Answer, most: int) -> Grid:
    """Read the first *most* rows, and whether there are more."""
    numbers: tuple[bool, ...] = (False,) * len(answer.names)
    cells: list[list[str | None]] = []
    for batch in answer.batches:
        numbers = tuple(is_number(kind) for kind in batch.schema.types)
        cells.extend(map(_cells, islice(rows_of(batch), most + 1 - len(cells))))
        if len(cells) > most:
            break
    return Grid(tuple(map(_on_one_line, answer.names)), numbers, cells[:most], len(cells) > most)


def as_table(grid: Grid, *, width: int | None = None, styled: bool = False) -> str:
    """
    Write a table. Within *width*, long texts are cut, and columns that do not fit are left out.

    *styled* writes NULL dim, as terminals show it.
    """
    widths = [
        max([cell_len(name), *(cell_len(_shown(row[place])) for row in grid.cells)])
        for place, name in enumerate(grid.names)
    ]
    if width is not None:
        widths = _fitting(widths, width)
    lines = [
        _GAP.join(_cut(name, wide) for name, wide in zip(grid.names, widths, strict=False)),
        _GAP.join("-" * wide for wide in widths),
    ]
    for row in grid.cells:
        cells = zip(row, widths, grid.numbers, strict=False)
        lines.append(_GAP.join(_cell(*each, styled=styled) for each in cells))
    told = counted(len(grid.cells), "row")
    if grid.has_more:
        told += ", and there are more: use --limit, or --csv or --json for all"
    notes = [told]
    if left := len(grid.names) - len(widths):
        notes.append(f"{counted(left, 'column')} did not fit: select fewer, or use --csv or --json")
    return "\n".join([*(line.rstrip() for line in lines), "", *(f"{note}." for note in notes)])


def as_csv(answer: Answer, most: int | None = None) -> Iterator[str]:
    r"""
    Write CSV as RFC 4180 has it, with ``\n`` at the ends of lines, in parts.

    Null is an empty field, and an empty text is ``""``; but a single column has ``""`` for both,
    since readers skip an empty line.
    """
    yield ",".join(map(_field, answer.names)) + "\n"
    for rows in _parts(answer, most):
        lines = (",".join(_field(value) for value in row) or '""' for row in rows)
        yield "".join(f"{line}\n" for line in lines)


def as_json_lines(answer: Answer, most: int | None = None) -> Iterator[str]:
    """Write each row as a JSON object on its own line, in parts."""
    for objects in _objects(answer, most):
        yield "".join(f"{each}\n" for each in objects)


def as_json_array(answer: Answer, most: int | None = None) -> Iterator[str]:
    """Write an array of objects, one on a line, in parts."""
    yield "["
    before = ""
    for objects in _objects(answer, most):
        yield f"{before}\n" + ",\n".join(objects)
        before = ","
    yield "\n]\n" if before else "]\n"


def _objects(answer: Answer, most: int | None) -> Iterator[list[str]]:
    names = _different(answer.names)
    for rows in _parts(answer, most):
        yield [printable(as_object(zip(names, row, strict=True))) for row in rows]


def _parts(answer: Answer, most: int | None) -> Iterator[Iterable[tuple[Any, ...]]]:
    left = most
    for batch in answer.batches:
        part = batch if left is None else batch.slice(0, left)
        if left is not None:
            left -= part.num_rows
        if part.num_rows:
            yield rows_of(part)
        if left == 0:
            return


def _field(value: Any) -> str:
    if value is None:
        return ""
    text = as_text(value)
    if not text or _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _different(names: Sequence[str]) -> list[str]:
    """Give names that repeat a number, as DuckDB does: an object has each field once."""
    taken, different = set(names), []
    for place, name in enumerate(names):
        new = name
        if name in names[:place]:
            new = next(free for i in count(1) if (free := f"{name}_{i}") not in taken)
            taken.add(new)
        different.append(new)
    return different


def _cells(row: Iterable[Any]) -> list[str | None]:
    return [None if value is None else _on_one_line(as_text(value)) for value in row]


def _on_one_line(text: str) -> str:
    """Escape what steers a terminal, and line ends."""
    return re.sub(r"[\n\t]", lambda found: _LINE_ENDS[found[0]], printable(text))


def _shown(cell: str | None) -> str:
    return "NULL" if cell is None else cell


def _cell(cell: str | None, wide: int, is_a_number: bool, *, styled: bool) -> str:
    text = _cut(_shown(cell), wide)
    if is_a_number:
        text = text.strip().rjust(wide)
    return typer.style(text, dim=True) if styled and cell is None else text


def _cut(text: str, wide: int) -> str:
    if cell_len(text) > wide:
        text = set_cell_size(text, wide - 1).rstrip() + "…"
    return set_cell_size(text, wide)


def _fitting(widths: list[int], width: int) -> list[int]:
    """Shorten the widest columns until all fit; leave out the last ones where none can shrink."""
    fitting = list(widths)
    while fitting:
        room = width - len(_GAP) * (len(fitting) - 1)
        widest = max(fitting)
        if sum(fitting) <= room:
            break
        if widest > NARROWEST:
            cap = max(NARROWEST, widest - max(1, (sum(fitting) - room) // len(fitting)))
            fitting = [min(each, cap) for each in fitting]
        elif len(fitting) > 1:
            fitting.pop()
        else:
            break
    return _grown(fitting, widths, width)


def _grown(fitting: list[int], widths: list[int], width: int) -> list[int]:
    """Give room that is left to the columns that were shortened, from the first on."""
    spare = width - sum(fitting) - len(_GAP) * (len(fitting) - 1)
    for place, wide in enumerate(fitting):
        more = max(0, min(spare, widths[place] - wide))
        fitting[place] += more
        spare -= more
    return fitting
