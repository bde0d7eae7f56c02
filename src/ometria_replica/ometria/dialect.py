"""
Detects how a plain file of the export is written, unless the settings say so.

Ometria does not document the format publicly (facts, section 3). Of the possible readings,
the one that yields the most known columns of the table is chosen. No column is guessed by its
position.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

from ometria_replica.ometria.decompress import CHUNK, PARQUET, UnfitError, head
from ometria_replica.ometria.one_per_line import first_records
from ometria_replica.records import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ometria_replica.config import FeedSettings

SAMPLE = 64 << 10  # Bytes from which the delimiter is detected.
LONGEST_LINE = 16 << 20  # Bytes.
SEEN_RECORDS = 100  # Records of which one has a field of the table.
MOST_ABOVE = 20  # Lines above a header.
OVERLAP = 4 << 10  # Bytes that two chunks share, for matches that span both.
DELIMITERS = (",", ";", "\t", "|")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n])|[^\r\n]+")

Format = Literal["csv", "json", "parquet"]
EMPTY = Dialect("csv", columns=(), header=False)
"""An empty or blank file: readable, without rows."""


def choose_dialect(
    path: Path, options: FeedSettings, known: Sequence[str], required: Sequence[str] = ()
) -> Dialect:
    """
    Detect how the plain file at *path* is written, as far as *options* leave it open.

    The dialect holds once the file is normalised. *known* are the columns that the table
    reads, *required* those without which its rows have no key. Raises :class:`UnfitError`,
    which names columns of the table only: in a file without a header, the first line holds
    a customer's data.
    """
    match _format(path, options):
        case None:
            return EMPTY
        case "parquet":
            return _parquet(path, known, required)
        case "json":
            return _json(path, known)
        case "csv":
            return _csv(path, options, known, required)


def _format(path: Path, options: FeedSettings) -> Format | None:
    start = head(path)
    if options.format in {"json", "jsonl"}:
        return "json"
    if options.format == "parquet" or (options.format is None and start.startswith(PARQUET)):
        return "parquet"
    if options.format is None and start.lstrip().startswith((b"{", b"[")):
        return "json"
    return "csv" if start.strip() or path.stat().st_size > len(start) else None


# --- Parquet and JSON --------------------------------------------------------------------------


def _parquet(path: Path, known: Sequence[str], required: Sequence[str]) -> Dialect:
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only Parquet needs it.
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        names: list[str] = pq.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError):  # ValueError: a name that is no UTF-8.
        raise UnfitError("is truncated or damaged: it is not complete Parquet") from None
    spelled = {name.lower(): name for name in known}
    columns = tuple(spelled.get(name.lower(), name) for name in names)
    _require(columns, required)
    return Dialect("parquet", columns=columns)


def _json(path: Path, known: Sequence[str]) -> Dialect:
    spelled = {name.lower() for name in known}
    records = [record for record in first_records(path, SEEN_RECORDS) if isinstance(record, dict)]
    if records and not any(name.lower() in spelled for record in records for name in record):
        raise UnfitError(
            f"is JSON, but its first {len(records)} records have none of the fields"
            f" {', '.join(known)}"
        )
    return Dialect("json")


# --- CSV ---------------------------------------------------------------------------------------


def _csv(
    path: Path, options: FeedSettings, known: Sequence[str], required: Sequence[str]
) -> Dialect:
    lines = _LINE.findall(_sample(path))
    skip = _lines_above(lines, options, known)
    sample = "".join(lines[skip:])
    quote = options.quote if options.quote is not None else _quote(sample)
    delimiter = options.delimiter or _delimiter(sample, quote, options.columns, known)
    escape = options.escape if options.escape is not None else _escape(path, delimiter, quote)
    names = next(iter(_rows(sample, delimiter, quote)), [])
    header, columns = _columns(names, options, known)
    if header and _is_torn(sample, len(names), delimiter, quote, escape):
        raise UnfitError(
            "has a header with a quote that is not closed, or with text after a closed one"
        )
    _require(columns, required)
    return Dialect(
        "csv",
        columns=columns,
        names=tuple(name.strip("\ufeff") for name in names) if header else (),
        header=header,
        skip=skip,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        null=options.null or "",
        quotes_nulls=_quotes_all(sample, delimiter, quote, escape),
        nuls=_holds_nul(path),
    )


def _quotes_all(sample: str, delimiter: str, quote: str, escape: str) -> bool:
    """
    Whether every cell is quoted, the header's included.

    Then an empty text and a missing value look the same, and count as missing, as in an
    unquoted cell.
    """
    if not quote:
        return False
    q, e = re.escape(quote), re.escape(escape or quote)
    escaped = f"{q}{q}" if e == q else f"{e}."
    rest = re.sub(f"{q}(?:{escaped}|[^{q}{e}])*{q}", "\0", sample, flags=re.DOTALL)
    rows = [row for row in re.split("[\r\n]+", rest.partition(quote)[0]) if row]
    return len(rows) > 1 and all(set(row) <= {"\0", delimiter} for row in rows)


def _is_torn(sample: str, width: int, delimiter: str, quote: str, escape: str) -> bool:
    """
    Whether the header has an open quote, so that rows would be lost in it unnoticed.

    A name may have line breaks if the row after the header is as wide; but at a carriage return
    alone, DuckDB drops all rows.
    """
    if not quote or quote not in sample.partition("\n")[0]:
        return False
    q, d, e = re.escape(quote), re.escape(delimiter), re.escape(escape)
    text = f"(?:{e}.|[^{q}{e}])*+" if escape and escape != quote else f"(?:{q}{q}|[^{q}])*+"
    cell = f"(?: *{q}{text}{q} *| *[^{q}{d}\r\n ][^{d}\r\n]*| *)"
    found = re.match(rf"{cell}(?:{d}{cell})*+(?=[\r\n]|\Z)", sample, re.DOTALL)
    if found is None or re.search("\r(?!\n)", found.group()):
        return True
    if "\n" not in found.group():
        return False
    following = next(iter(_rows(sample[found.end() :].lstrip("\r\n"), delimiter, quote)), [])
    return len(following) != width


def _lines_above(lines: Sequence[str], options: FeedSettings, known: Sequence[str]) -> int:
    """
    Count the lines above the header: Excel's ``sep=,``, a title, a note.

    Only the first lines are searched, and only if the settings leave the header open.
    """
    if options.columns or options.header is not None:
        return 0
    quote = options.quote or '"'
    delimiters = [options.delimiter] if options.delimiter else DELIMITERS
    for number, line in enumerate(lines[:MOST_ABOVE]):
        for delimiter in delimiters:
            cells = next(iter(_rows(line, delimiter, quote)), [])
            if len(_spelled(cells, known)) > 1:
                return number
    return 0


def _sample(path: Path) -> str:
    """
    Read complete lines from the start of the file; a cut line would have too few cells.

    The first line, which may name the columns, is read whole.
    """
    size = SAMPLE
    text = head(path, size)
    while len(text) == size < LONGEST_LINE and not re.search(rb"[\r\n]", text.lstrip()):
        size *= 4
        text = head(path, size)
    if len(text) == size and (end := max(text.rfind(b"\n"), text.rfind(b"\r"))) > 0:
        text = text[: end + 1]
    return text.decode("utf-8", "replace").lstrip("\r\n")


def _rows(sample: str, delimiter: str, quote: str, escape: str = "") -> Iterable[list[str]]:
    reader = csv.reader(
        io.StringIO(sample, newline=""),
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        doublequote=not escape or escape == quote,
        escapechar=escape if escape != quote and escape else None,
    )
    try:
        yield from (row for row in reader if row)
    except csv.Error:
        return  # The rows so far are a sufficient sample.


def _quote(sample: str) -> str:
    """Choose the single quote only if the header's first name is enclosed in single quotes."""
    return "'" if re.match(r"\s*'[^'\r\n]*'", sample) else '"'


def _delimiter(sample: str, quote: str, columns: Sequence[str] | None, known: Sequence[str]) -> str:
    """Choose the delimiter that yields the most known columns, then the most uniform rows."""

    def fitness(delimiter: str) -> tuple[int, float]:
        rows = list(_rows(sample, delimiter, quote))
        found = len(_spelled(rows[0], known)) if rows else 0
        widths = Counter(len(row) for row in rows)
        width, alike = max(widths.items(), key=lambda item: item[1], default=(0, 0))
        expected = len(columns) if columns else max(width, 2)
        return found, alike if width == expected else 0

    return max(DELIMITERS, key=fitness)


def _escape(path: Path, delimiter: str, quote: str) -> str:
    r"""
    Detect ``\"`` or ``""`` from the whole file: the first escaped quote may come late.

    In a file that doubles quotes, ``\"`` inside a cell is followed by another quote or by the
    end of the cell. Any other character after it means that the backslash escapes.
    """
    if not quote:
        return ""
    escaped, doubled = _evidence(delimiter, quote)
    needle, before = ("\\" + quote).encode(), b""
    balance = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            # A search for one byte is eight times as fast as for two, and most files hold none.
            text = before + chunk if b"\\" in chunk or before else b""
            if needle in text:
                balance += len(escaped.findall(text)) - len(doubled.findall(text))
            before = text[-OVERLAP:]
    return "\\" if balance > 0 else quote


def _holds_nul(path: Path) -> bool:
    """Scan the file once: this takes a hundredth of the time of scanning each cell."""
    with path.open("rb") as file:
        return any(b"\0" in chunk for chunk in iter(lambda: file.read(CHUNK), b""))


def _evidence(delimiter: str, quote: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    q, end = re.escape(quote), re.escape(delimiter[:1])
    ordinary = rf"[^{q}{end}\r\n]"
    # Possessive, so that each cell is scanned once: the time is linear in the size.
    escaped = rf"(?:^|[{end}\r\n]){q}(?:[^{q}\\]|{q}{q}|\\(?!{q}{ordinary})[\s\S])*+\\{q}{ordinary}"
    doubled = rf"[^{q}{end}\r\n\\]{q}{q}{ordinary}"
    return re.compile(escaped.encode()), re.compile(doubled.encode())


def _columns(
    names: Sequence[str], options: FeedSettings, known: Sequence[str]
) -> tuple[bool, tuple[str, ...]]:
    """
    Detect whether *names* is a header, and name the columns.

    A line with two known columns of the table is a header. The setting ``columns`` names the
    columns of a file without a header; with ``header`` set, it replaces the header.
    """
    spelled = _spelled(names, known)
    header = len(spelled) > 1 if options.header is None else options.header
    if options.columns and (options.header or not header):
        if len(options.columns) != len(names):
            raise UnfitError(
                f"has {len(names)} cells in its first line,"
                f" but the feed's setting columns names {len(options.columns)}"
            )
        return header, options.columns
    if not header:
        raise UnfitError(
            "has no header that names at least two columns of the table;"
            " name its columns in the feed's setting columns"
        )
    _refuse_doubles(spelled.values())
    return True, tuple(_unique(names, spelled))


def _spelled(names: Sequence[str], known: Sequence[str]) -> dict[int, str]:
    """Map positions to known columns. Case, spaces and quotes are ignored."""
    exact = {place: name for place, name in enumerate(names) if name in known}
    free = {_folded(name): name for name in known if name not in exact.values()}
    loose = {
        place: free[fold] for place, name in enumerate(names) if (fold := _folded(name)) in free
    }
    return exact | loose


def _folded(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip("\ufeff\"'` \t").lower())


def _refuse_doubles(names: Iterable[str]) -> None:
    doubles = [name for name, count in Counter(names).items() if count > 1]
    if doubles:
        raise UnfitError(f"names {', '.join(doubles)} twice in its header")


def _unique(names: Sequence[str], spelled: dict[int, str]) -> Iterator[str]:
    """Give unknown columns names that DuckDB accepts: not empty, unique in any case."""
    taken = {name.lower() for name in spelled.values()}
    for place, name in enumerate(names):
        if place in spelled:
            yield spelled[place]
            continue
        free = plain = re.sub(r"[\x00-\x1f\x7f]", " ", name).strip() or f"column_{place + 1}"
        number = 1
        while free.lower() in taken:
            number += 1
            free = f"{plain}_{number}"
        taken.add(free.lower())
        yield free


def _require(columns: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        raise UnfitError(
            f"has no column {', '.join(missing)};"
            " if it has another name in the file, set the feed's columns and header"
        )
