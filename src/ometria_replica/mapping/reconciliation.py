"""
Compares the records that a file holds with the rows and rejects that became of them.

DuckDB reads CSV, JSON and Parquet, and this module counts without it: the lines of a text, or
the rows in a footer. Each line of a CSV file is part of a row, of a reject or of a header, is
empty, or stands above the header. A reader that skips a line for another reason is found.

Most files cost one comparison: a record takes at least one line, so as many rows and rejects as
lines prove that none is missing. If there are fewer, a quick count leaves out empty lines,
repeated headers, and the line breaks between two quotes. Only if that differs too, each quote is
read as DuckDB reads it, which takes about as long as the rest of the load.
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import TYPE_CHECKING

from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from ometria_replica.records import Dialect, FeedFile

CHUNK = 1 << 20  # Bytes.
KEPT_OF_A_RECORD = 64 << 10  # Bytes, enough for a header.
_BOM = "\ufeff"


class DifferenceError(ValueError):
    """The rows and rejects of a file are not as many as its records. The message says it."""


def reconcile(
    files: Sequence[FeedFile], rows: int, rejects: int, *, may_be_more: bool = False
) -> None:
    """
    Raise DifferenceError unless *rows* and *rejects* are as many as the records of *files*.

    No file has more of them than records, so an equal sum proves that each has all of its own.
    They *may be more* after an open quote: it hid carriage returns, at which records end now.
    """
    if all(file.dialect.format == "csv" for file in files):
        lines = sum(line_count(file.path) if file.lines is None else file.lines for file in files)
        above = sum(file.dialect.skip + file.dialect.header for file in files)
        if lines == above + rows + rejects:
            return
        counts = [_quick_count(file.path, file.dialect) for file in files]
        if min(counts) >= 0 and sum(counts) == rows + rejects:
            return
    elif (
        all(file.dialect.format == "json" for file in files)
        and sum(line_count(file.path) for file in files) == rows + rejects
    ):
        return
    records = sum(record_count(file.path, file.dialect) for file in files)
    if records > rows + rejects or (records < rows + rejects and not may_be_more):
        raise difference(records, rows, rejects)


def difference(records: int, rows: int, rejects: int) -> DifferenceError:
    """Return the error of *records* that became other numbers of rows and rejects."""
    return DifferenceError(
        f"{counted(records, 'record')} became {counted(rows, 'row')} and"
        f" {counted(rejects, 'rejected line')}; please report this"
    )


def line_count(path: Path) -> int:
    """Count the lines of *path*, also the empty ones."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            lines += chunk.count(b"\n")
            last = chunk
    return lines + (not last.endswith(b"\n"))


def written_lines(path: Path) -> int:
    """Count the lines of *path* that are not empty, whatever their ends."""
    with path.open("rb") as file:
        return sum(len(re.findall(rb"[^\r\n]+", line)) for line in file)


def written_in(text: str) -> int:
    """Count the lines of *text* that are not empty, whatever their ends."""
    return len(re.findall(r"[^\r\n]+", text))


def record_count(path: Path, dialect: Dialect) -> int:
    """Count the records of *path*, without its headers and the lines above the first."""
    match dialect.format:
        case "csv":
            return _csv_records(path, dialect)
        case "json":
            return _json_records(path)
        case "parquet":
            return _parquet_records(path)


def _is_empty(line: bytes) -> bool:
    return line in {b"\n", b"\r\n"}


def _json_records(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(
            b"{" in line or bool(line.decode("utf-8", "surrogateescape").strip()) for line in lines
        )


def _parquet_records(path: Path) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415 -- 80 ms, and only Parquet needs it.

    return pq.read_metadata(path).num_rows


# --- CSV ---------------------------------------------------------------------------------------


def _quick_count(path: Path, dialect: Dialect) -> int:
    """
    Count the records as if each quote opened or closed a text; -1 if the last one is open then.

    Doubled quotes make no difference. One that is escaped, or in the middle of a cell, does.
    """
    quote = dialect.quote.encode()
    number, is_open = 0, False
    with path.open("rb") as file:
        for _ in range(dialect.skip):
            file.readline()
        header = file.readline() if dialect.header else b""
        others = [b"\n", b"\r\n"] if len(dialect.columns) > 1 else []
        others += [header] if len(dialect.names) > 1 else []
        while lines := file.readlines(CHUNK):
            quotes = map(bytes.count, lines, repeat(quote)) if quote else ()
            if not is_open and not any(map((1).__and__, quotes)):
                number += len(lines) - sum(map(lines.count, others))
                continue
            for line in lines:
                number += not is_open and line not in others
                is_open ^= bool(line.count(quote) & 1)
    return -1 if is_open else number


def _csv_records(path: Path, dialect: Dialect) -> int:
    is_header = _header_test(dialect)
    with path.open("rb") as file:
        for _ in range(dialect.skip):
            file.readline()
        records = _texts_of_records(file, dialect)
        if dialect.header:
            next(records, None)
        return sum(not is_header(record) for record in records)


def _texts_of_records(file: BinaryIO, dialect: Dialect) -> Iterator[bytes]:
    """Yield the text of each record, of a long one its first lines."""
    quote, stays_open = dialect.quote.encode(), _quote_test(dialect)
    has_empty_rows = len(dialect.columns) == 1  # Of an empty cell.
    is_open, record = False, b""
    for line in file:
        if is_open:
            record += line if len(record) < KEPT_OF_A_RECORD else b""
        elif has_empty_rows or not _is_empty(line):
            record = line
        else:
            continue
        if quote and (is_open or quote in line):
            is_open = stays_open(line, is_open)
        if not is_open:
            yield record
    if is_open:
        yield record


def _quote_test(dialect: Dialect) -> Callable[[bytes, bool], bool]:
    """Return a function that tells whether a quote is open after a line, given whether before."""
    cell, text = (pattern.encode() for pattern in _patterns(dialect))
    quote, delimiter = dialect.quote.encode(), re.escape(dialect.delimiter).encode()
    closed = re.compile(cell + b"(?:" + delimiter + cell + b")*+", re.DOTALL)
    closing = re.compile(text + re.escape(quote), re.DOTALL)

    def stays_open(line: bytes, is_open: bool) -> bool:
        if is_open:
            found = closing.match(line)
            if found is None:
                return True
            line = quote * 2 + line[found.end() :]  # As if the quote had opened in this line.
        return closed.fullmatch(line) is None

    return stays_open


def _header_test(dialect: Dialect) -> Callable[[bytes], bool]:
    """Return a function that tells whether a record repeats the header, in any case of letters."""
    names = [name.lower() for name in dialect.names]
    if len(names) < 2:
        return lambda _: False
    needle = names[-1].encode() if re.fullmatch("[a-z0-9_]+", names[-1]) else b""
    cell = re.compile(_patterns(dialect)[0], re.DOTALL)

    def is_header(record: bytes) -> bool:
        if needle not in record.lower():
            return False
        line = re.sub("\r?\n$", "", record.decode("utf-8", "replace"))
        texts = (_plain(text, dialect) for text in _cells(line, cell, dialect.delimiter))
        found = [text.lstrip(_BOM).lower() for text in texts]
        return found in (names, [*names, ""])  # DuckDB ignores a delimiter at the end.

    return is_header


def _cells(line: str, cell: re.Pattern[str], delimiter: str) -> Iterator[str]:
    place = 0
    while (found := cell.match(line, place)) is not None:
        yield found.group()
        if not line.startswith(delimiter, found.end()):
            return
        place = found.end() + len(delimiter)


def _plain(cell: str, dialect: Dialect) -> str:
    """Return the text of a cell without its quotes."""
    quote, escape = dialect.quote, dialect.escape
    bare = cell.strip(" ")
    if not quote or len(bare) < 2 or not bare.startswith(quote) or not bare.endswith(quote):
        return cell
    return re.sub(f"{re.escape(escape)}(.)", r"\1", bare[1:-1]) if escape else bare[1:-1]


def _patterns(dialect: Dialect) -> tuple[str, str]:
    """
    Write the patterns of a cell, and of the text between its quotes.

    As in DuckDB, a quote opens at the start of a cell or after one space, and two quotes with
    spaces between them are in the text as two without.
    """
    quote, delimiter, escape = map(re.escape, (dialect.quote, dialect.delimiter, dialect.escape))
    is_byte = len(dialect.delimiter.encode()) == 1
    plain = f"[^{delimiter}]*+" if is_byte else f"(?:(?!{delimiter}).)*+"
    if not quote:
        return plain, ""
    if escape == quote:
        text = f"(?:[^{quote}]|{quote} *+{quote})*+"
    else:
        text = f"(?:[^{quote}{escape}]|{escape}.)*+" if escape else f"[^{quote}]*+"
    return f"(?: ?{quote}{text}{quote}{plain}|(?! ?{quote}){plain})", text
