"""
One record a line, in the two formats where that takes work.

CSV gets one kind of line end, because DuckDB's strict parser reads no file that
mixes them; JSON in an array, or spread over lines, becomes JSON lines. Neither
touches what is inside a cell or a string.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TextIO, cast

from ometria_replica.ometria.decompress import CHUNK, UnfitError, head, rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_RECORD = 16 << 20  # Characters. One JSON record beyond this is no event.

_SPACE = re.compile(r"[ \t\r\n]*")
_ENDS = re.compile(rb"\r\n?")


# --- CSV ---------------------------------------------------------------------------------------


def unify_line_ends(path: Path, *, delimiter: str, quote: str, escape: str) -> None:
    r"""
    Write *path* again with ``\n`` between records where it has several kinds of ends.

    Files that hold only ``\n``, or only ``\r\n``, stay untouched, and so does every
    line end inside quotes. Blank lines at the start go: DuckDB takes one for the header.
    """
    if _mixes_line_ends(path):
        quotes = _Quotes(delimiter.encode(), quote.encode(), escape.encode())
        rewrite(path, _with_one_end(path, quotes, quote.encode()))


def _mixes_line_ends(path: Path) -> bool:
    """Count the ends; those inside quotes too, so that a doubtful file is looked at closely."""
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
    Knows what is inside quotes, over the pieces of a file between one quote and the next.

    As in DuckDB, a quote opens at the start of a cell only. One that closes and has
    another right behind it was the first half of a doubled one: the cell goes on.
    """

    def __init__(self, delimiter: bytes, quote: bytes, escape: bytes) -> None:
        self.opens_after = (b"\n", b"\r", delimiter)
        self.escape = b"" if escape == quote else escape
        self.inside = False
        self.closed = False
        self.since = b"\n"  # What stood since the last quote; a file begins as a line does.

    def outside(self, piece: bytes, after_quote: bool) -> bytes:
        """Give *piece* its line ends, unless it is inside quotes."""
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
    r"""Read the file in chunks that never part ``\r`` from its ``\n``."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk + file.read(1) if chunk.endswith(b"\r") else chunk


# --- JSON --------------------------------------------------------------------------------------


def unfold_json(path: Path) -> None:
    """
    Write *path* again as JSON lines where it is an array, or its records span lines.

    The text of each record stays as it is but for the space between its parts.
    A line that is no JSON stays too, for the mapping to set aside.
    """
    start = head(path).lstrip()
    if start.startswith(b"[") or _spans_lines(path):
        rewrite(path, _json_lines(path))


def first_record(path: Path) -> object:
    """Read the first record of JSON lines; None where it is no JSON."""
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.strip():
                return _parsed(line)
    return None


def _spans_lines(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        line = file.readline(MAX_RECORD)
        while line and not line.strip():
            line = file.readline(MAX_RECORD)
    if _parsed(line) is not None:
        return False
    try:
        return next(_json_lines(path), b"").startswith(b"{")
    except UnfitError:
        return False


def _parsed(line: str) -> object:
    try:
        return cast("object", json.loads(line))
    except (ValueError, RecursionError):
        return None


def _json_lines(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        text = _Window(file)
        closing = text.take("[")
        while not text.at_end() and not (closing and text.take("]")):
            record = re.sub(r"[ \t]*[\r\n]\s*", " ", text.take_value())
            yield f"{record}\n".encode("utf-8", "surrogateescape")
            text.take(",")
        if closing and not text.closed:
            raise UnfitError("is truncated: its JSON array does not end")
        if not text.at_end():
            raise UnfitError("holds more after the end of its JSON array")


class _Window:
    """The part of a JSON text in memory, and the place in it."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.place = 0
        self.finished = False
        self.closed = False

    def at_end(self) -> bool:
        """Skip space; True at the end of the text."""
        while True:
            found = _SPACE.match(self.text, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.text):
                return False
            if not self._more():
                return True

    def take(self, sign: str) -> bool:
        """Step over *sign* if it is next."""
        if self.at_end() or self.text[self.place] != sign:
            return False
        self.place += 1
        self.closed = sign == "]"
        return True

    def take_value(self) -> str:
        """Step over the next value and return its text."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self.text, self.place)
                if end < len(self.text) or not self._more():
                    break
            except (ValueError, RecursionError):
                if len(self.text) - self.place > MAX_RECORD or not self._more():
                    raise UnfitError("is truncated, or is not JSON throughout") from None
        value, self.place = self.text[self.place : end], end
        return value

    def _more(self) -> bool:
        chunk = "" if self.finished else self.file.read(CHUNK)
        self.finished = not chunk
        self.text = self.text[self.place :] + chunk
        self.place = 0
        return bool(chunk)


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
