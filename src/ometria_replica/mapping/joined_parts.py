"""
Takes a CSV file apart at headers that name its columns in another order.

Such a file was joined of parts. Headers in the order of the first are left out while the file
is read; after another one, each cell would count as that of another column.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from ometria_replica import scratch_files
from ometria_replica.mapping.quoting import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ometria_replica.records import Dialect, FeedFile
    from ometria_replica.schema import Table

_MARK = "another header"
_BOM = "\ufeff"


class AnotherHeaderError(ValueError):
    """The file holds a header that names its columns in another order."""


def is_of_another_header(error: Exception) -> bool:
    """Whether DuckDB met such a header while it read a relation with :func:`without_headers`."""
    return _MARK in str(error)


def without_headers(dialect: Dialect, table: Table) -> str:
    """Write the condition that leaves out repeated headers and fails at one in another order."""
    names = _named(dialect, table)
    if len(dialect.names) < 2 or not names:
        return ""
    cells = ", ".join(
        f"lower(ltrim(coalesce({quoted(column)}, ''), {literal(_BOM)}))"
        for column in dialect.columns
    )
    # One comparison for each row, and the rest for next to none. Not by IN or list_contains: of a
    # long list DuckDB makes a join, after which the files are in any order, and later ones win.
    watched = quoted(dialect.columns[_folded(dialect).index(names[-1])])
    header = f"[{', '.join(map(literal, _folded(dialect)))}]"
    longest = max(len(f"{_BOM}{name}".encode()) for name in dialect.names)
    return (
        f" WHERE CASE WHEN strlen({watched}) <= {longest}"
        f" AND list_position({header}, lower(ltrim({watched}, {literal(_BOM)}))) > 0"
        f" AND list_has_all([{cells}], [{', '.join(map(literal, names))}])"
        f" THEN CASE WHEN [{cells}] = {header}"
        f" THEN false ELSE error({literal(_MARK)}) END ELSE true END"
    )


def parts(file: FeedFile, table: Table) -> Iterator[FeedFile]:
    """
    Yield the parts of *file*, each of which has one order of columns, in their order.

    Each is removed when the next is taken. A file of one part stays where it is.
    Raises ValueError if a header names a column twice.
    """
    starts = list(_other_headers(file, table))
    if not starts:
        yield replace(file, lines=None)
        return
    first = file.dialect
    with file.path.open("rb") as lines:
        before = 0
        for (until, _), dialect in zip(
            [*starts, (None, first)], [first, *(found for _, found in starts)], strict=True
        ):
            path = scratch_files.create(file.path.with_name(f"{file.path.name}.part"))
            taken = _copy(lines, path, None if until is None else until - before)
            try:
                yield replace(file, path=path, dialect=dialect, lines_before=before, lines=None)
            finally:
                scratch_files.discard(path)
            before += taken


def _other_headers(file: FeedFile, table: Table) -> Iterator[tuple[int, Dialect]]:
    """Yield where the order of columns changes: the line, counted from 0, and the dialect."""
    dialect = file.dialect
    names = _named(dialect, table)
    needles = [name.encode() for name in names if name.isascii()]
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number <= dialect.skip or not names or not _holds(line, needles):
                continue
            cells = _cells(line.decode("utf-8", "replace"), dialect)
            folded = [cell.lower() for cell in cells]
            if {*names} <= {*folded} and folded != _folded(dialect):
                dialect = _of_header(cells, file.dialect)
                yield number, dialect


def _holds(line: bytes, needles: Sequence[bytes]) -> bool:
    text = line.lower()
    return all(needle in text for needle in needles)


def _folded(dialect: Dialect) -> list[str]:
    return [name.lower() for name in dialect.names]


def _named(dialect: Dialect, table: Table) -> list[str]:
    """Give the names without which a line is no header: those of the key, or else all."""
    ours = dict(zip(dialect.columns, _folded(dialect), strict=False))
    key = [ours[str(part)] for part in table.sync_key.parts if str(part) in ours]
    return key if len(key) > 1 else _folded(dialect)


def _cells(line: str, dialect: Dialect) -> list[str]:
    reader = csv.reader(
        [line.strip(f"{_BOM}\r\n")],
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )
    try:
        return next(reader, [])
    except csv.Error:
        return []


def _of_header(cells: Sequence[str], first: Dialect) -> Dialect:
    ours = dict(zip(_folded(first), first.columns, strict=True))
    columns = tuple(
        ours.get(cell.lower(), cell or f"column_{place}")
        for place, cell in enumerate(cells, start=1)
    )
    if len({column.lower() for column in columns}) < len(columns):
        raise ValueError("a header names a column twice")
    return replace(first, names=tuple(cells), columns=columns, skip=0)


def _copy(lines: Iterator[bytes], path: Path, count: int | None) -> int:
    """Copy *count* lines, or all that are left, into the file at *path*; return their number."""
    taken = 0
    with path.open("wb") as part:
        for line in islice(lines, count):
            part.write(line)
            taken += 1
    return taken
