"""
Rewrites a file to one record per line.

CSV gets uniform line ends, because DuckDB's strict parser rejects a file that mixes them;
JSON in an array, or spread over several lines, becomes JSON lines. The text inside a cell or a
string never changes.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, cast

from ometria_replica.ometria.decompress import CHUNK, UnfitError, head, rewrite
from ometria_replica.ometria.json_values import MAX_RECORD, json_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.records import Dialect

SEEN_LINES = 100  # Lines by which records that span lines are detected.

_ENDS = re.compile(rb"\r\n?")


def normalise(path: Path, dialect: Dialect) -> None:
    """Rewrite *path* to one record per line, where it is not. Raises :class:`UnfitError`."""
    if dialect.format == "json":
        unfold_json(path)
    elif dialect.format == "csv" and dialect.columns:  # Without columns, the file is blank.
        unify_line_ends(
            path, delimiter=dialect.delimiter, quote=dialect.quote, escape=dialect.escape
        )


# --- CSV ---------------------------------------------------------------------------------------


def unify_line_ends(path: Path, *, delimiter: str, quote: str, escape: str) -> None:
    r"""
    Rewrite *path* with ``\n`` between records if it has several kinds of line ends.

    Files with only ``\n``, or only ``\r\n``, are not rewritten, and line ends inside quotes
    stay as they are. Blank lines at the start are removed: DuckDB takes one for the header.
    """
    if _mixes_line_ends(path):
        quotes = _Quotes(delimiter.encode(), quote.encode(), escape.encode())
        rewrite(path, _with_one_end(path, quotes, quote.encode()))


def _mixes_line_ends(path: Path) -> bool:
    """Count the line ends, including those inside quotes, so that no mixture is overlooked."""
    if head(path, 1) in {b"\r", b"\n"}:
        return True
    if not any(b"\r" in chunk for chunk in _chunks(path)):
        return False
    pairs = returns = feeds = 0
    for chunk in _chunks(path):
        pairs += chunk.count(b"\r\n")
        returns += chunk.count(b"\r")
        feeds += chunk.count(b"\n")
    return not pairs == returns == feeds


def _with_one_end(path: Path, quotes: _Quotes, quote: bytes) -> Iterator[bytes]:
    began = False
    for chunk in _chunks(path):
        text = chunk if began else chunk.lstrip(b"\r\n")
        began = began or bool(text)
        pieces = text.split(quote) if quote else [text]
        yield quote.join(quotes.outside(piece, index > 0) for index, piece in enumerate(pieces))


class _Quotes:
    """
    Tracks whether text is inside quotes, over the pieces of a file between two quotes.

    As in DuckDB, a quote opens only at the start of a cell. A closing quote that is directly
    followed by another is the first half of a doubled quote: the cell continues.
    """

    def __init__(self, delimiter: bytes, quote: bytes, escape: bytes) -> None:
        self.opens_after = (b"\n", b"\r", delimiter)
        self.escape = b"" if escape == quote else escape
        self.inside = False
        self.closed = False
        self.since = b"\n"  # The text since the last quote; a file begins like a line.

    def outside(self, piece: bytes, after_quote: bool) -> bytes:
        """Unify the line ends of *piece*, unless it is inside quotes."""
        if after_quote:
            self._pass_quote()
        self.since = (self.since + piece)[-64:]
        return piece if self.inside else _ENDS.sub(b"\n", piece)

    def _pass_quote(self) -> None:
        was_inside = self.inside
        if was_inside:
            self.inside = self._is_escaped()
        else:
            doubled = self.closed and not self.since and not self.escape
            self.inside = doubled or self.since.endswith(self.opens_after)
        self.closed = was_inside and not self.inside
        self.since = b""

    def _is_escaped(self) -> bool:
        if not self.escape:
            return False
        escapes = len(self.since) - len(self.since.rstrip(self.escape))
        return escapes % 2 == 1


def _chunks(path: Path) -> Iterator[bytes]:
    r"""Read the file in chunks that never separate ``\r`` from its ``\n``."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk + file.read(1) if chunk.endswith(b"\r") else chunk


# --- JSON --------------------------------------------------------------------------------------


def unfold_json(path: Path) -> None:
    """
    Rewrite *path* as JSON lines if it is an array, or if its records span lines.

    The text of each record stays as it is, except for the space between its parts.
    A line that is not JSON stays too, and the mapping rejects it.
    """
    if _is_folded(path):
        rewrite(path, _json_lines(path))


def first_records(path: Path, most: int) -> list[object]:
    """Read the first records of a JSON file; None for one that is not JSON. Raises UnfitError."""
    if _is_folded(path):
        return [_parsed(line) for line in islice(_json_lines(path), most)]
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        return [_parsed(line) for line in islice(filter(str.strip, file), most)]


def _is_folded(path: Path) -> bool:
    """Whether the file is a JSON array, or its records span lines."""
    return head(path).lstrip().startswith(b"[") or _spans_lines(path)


def _spans_lines(path: Path) -> bool:
    """Whether the first records span lines; the very first may not, as one about the file."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        lines = iter(lambda: file.readline(MAX_RECORD), "")
        if all(_is_json(line) for line in islice(filter(str.strip, lines), SEEN_LINES)):
            return False
    try:
        return all(each.startswith(b"{") for each in islice(_json_lines(path), SEEN_LINES))
    except UnfitError:
        return False


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except RecursionError:  # It is nested so deep that only its end can be found.
        return True
    except ValueError:
        return False
    return True


def _parsed(line: str | bytes) -> object:
    try:
        return cast("object", json.loads(line))
    except (ValueError, RecursionError):
        return None


def _json_lines(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for value in json_values(file):
            record = re.sub(r"[ \t]*[\r\n]\s*", " ", value)
            yield f"{record}\n".encode("utf-8", "surrogateescape")
