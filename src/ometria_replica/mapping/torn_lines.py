"""
Takes the lines with an open quote out of a CSV file.

To a parser, a quote that is never closed takes in all lines after it. Here each record is read
for itself: a record that starts with an open quote loses its first line, and no other than that
on which the quote ends.
"""

from __future__ import annotations

import io
import re
from collections import deque
from typing import TYPE_CHECKING

from ometria_replica import scratch_files
from ometria_replica.records import encodable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from ometria_replica.records import Dialect

LONGEST_LINES = 1_000  # Of one record. A cell of an event holds no text longer than that,
LONGEST_TEXT = 1 << 20  # nor than so many characters.


def take_out_torn_lines(path: Path, dialect: Dialect) -> list[tuple[int, str, str]]:
    """
    Rewrite *path* without its torn lines; return their numbers, from 1, their texts, and why.

    An empty line stays in their place, so that the other lines keep their numbers. All records
    end with a line feed then: lines after an open quote seemed to be text, which keeps its ends,
    also those that are a carriage return alone.
    """
    torn: list[tuple[int, str, str]] = []
    if not dialect.quote:
        return torn
    written = scratch_files.create(path.with_name(f"{path.name}.whole"))
    with (
        path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines,
        written.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as whole,
    ):
        for number, line, is_torn, is_last in _lines(lines, dialect):
            if is_torn:
                torn.append((number, encodable(line.rstrip("\r\n")), "a quote is not closed"))
                line = "\n"  # noqa: PLW2901 -- In its place.
            whole.write(re.sub(r"(?:\r\n|\r|\n)\Z", "\n", line) if is_last else line)
    scratch_files.replace(path, written)
    return torn


def _lines(file: TextIO, dialect: Dialect) -> Iterator[tuple[int, str, bool, bool]]:
    """Yield each line with its number, whether it is torn, and whether its record ends there."""
    ahead: deque[str] = deque()
    number, follows_torn = 0, False
    while line := ahead.popleft() if ahead else file.readline():
        number += 1
        if follows_torn and _ends_a_quote(line, dialect):
            yield number, line, True, True
            continue
        more = _lines_of_record(line, ahead, file, dialect) if dialect.quote in line else 0
        follows_torn = more is None or (follows_torn and dialect.quote not in line)
        yield number, line, more is None, not more
        for left in reversed(range(more or 0)):
            number += 1
            yield number, ahead.popleft(), False, not left


def _ends_a_quote(line: str, dialect: Dialect) -> bool:
    """
    Whether the first quote of a line can only close a cell that began on a torn line before.

    The cells of such a line would count as those of other columns.
    """
    place = line.find(dialect.quote)
    begins = place == 0 or line.endswith(dialect.delimiter, 0, place)
    return place > 0 and not begins and line.startswith((dialect.delimiter, "\n", "\r"), place + 1)


def _lines_of_record(line: str, ahead: deque[str], file: TextIO, dialect: Dialect) -> int | None:
    """
    Count the lines after *line* that its record takes; None if a quote in it is not closed.

    Lines that are read for this are put into *ahead*.
    """
    text, taken, place, cells = line, 0, 0, 1
    quote, delimiter = dialect.quote, dialect.delimiter
    while True:
        if text.startswith(quote, place):
            end = _closing(text, place + 1, dialect)
            while end is None:
                if taken == len(ahead):
                    ahead.append(file.readline())
                following = ahead[taken]
                if not following or taken == LONGEST_LINES or len(text) > LONGEST_TEXT:
                    if not following:
                        ahead.pop()
                    return None
                text, taken = text + following, taken + 1
                end = _closing(text, place + 1, dialect)
            place = end + 1
            if not text.startswith((delimiter, "\n", "\r"), place) and place < len(text):
                return None
        ends = [at for sign in (delimiter, "\r", "\n") if (at := text.find(sign, place)) >= 0]
        place = min(ends, default=len(text))
        if not text.startswith(delimiter, place):
            return taken if not taken or cells == len(dialect.columns) else None
        place, cells = place + len(delimiter), cells + 1


def record_at(path: Path, place: int, dialect: Dialect) -> str:
    """
    Return the record that begins at the byte *place*, with the lines that it takes.

    DuckDB counts the end of the line before as one byte, also where it is ``CR LF``.
    """
    with path.open("rb") as file:
        file.seek(place)
        if file.read(1) != b"\n":
            file.seek(place)
        lines = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="\n")
        line, ahead = lines.readline(), deque[str]()
        more = _lines_of_record(line, ahead, lines, dialect) if dialect.quote in line else 0
        record = line + "".join(list(ahead)[: more or 0])
    return encodable(record.rstrip("\r\n"))


def _closing(text: str, start: int, dialect: Dialect) -> int | None:
    """Find the quote that closes the cell whose text begins at *start*; None if there is none."""
    place = start
    while (place := text.find(dialect.quote, place)) >= 0:
        if dialect.escape == dialect.quote:
            if not text.startswith(dialect.quote, place + 1):
                return place
            place += 2
        elif dialect.escape and _is_escaped(text, place, start, dialect.escape):
            place += 1
        else:
            return place
    return None


def _is_escaped(text: str, place: int, start: int, escape: str) -> bool:
    before = text[start:place]
    return (len(before) - len(before.rstrip(escape))) % 2 == 1
