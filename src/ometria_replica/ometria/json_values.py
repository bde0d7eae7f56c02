"""Reads the values of a JSON text one by one, with the original text of each, however deep."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TextIO

from ometria_replica.ometria.decompress import CHUNK, UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECORD = 16 << 20  # Characters. No event is longer than this as a JSON record.

_SPACE = re.compile(r"[ \t\r\n]*")
# Possessive, so that each string is scanned once. A quote by itself opens a string without end.
_SIGNS = re.compile(r'"(?:[^"\\]|\\.)*+"|["\[{\]}]', re.DOTALL)
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def json_values(file: TextIO) -> Iterator[str]:
    """
    Yield the text of each element of an array, or of each value in a text of several.

    A value that is nested deeper than Python's parser goes is not checked beyond its brackets.
    Raises UnfitError.
    """
    text = _Window(file)
    closing = text.take("[")
    while not text.at_end() and not (closing and text.take("]")):
        yield text.take_value()
        text.take(",")
    if closing and not text.closed:
        raise UnfitError("is truncated: its JSON array does not end")
    if not text.at_end():
        raise UnfitError("holds more data after the end of its JSON array")


class _Window:
    """The part of a JSON text that is in memory, and the current position in it."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.place = 0
        self.finished = False
        self.closed = False

    def at_end(self) -> bool:
        """Skip whitespace. Whether the text has ended."""
        while True:
            found = _SPACE.match(self.text, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.text):
                return False
            if not self._more():
                return True

    def take(self, sign: str) -> bool:
        """Consume *sign* if it is next."""
        if self.at_end() or self.text[self.place] != sign:
            return False
        self.place += 1
        self.closed = sign == "]"
        return True

    def take_value(self) -> str:
        """Consume the next value and return its text."""
        while True:
            end = self._end()
            if end is None and len(self.text) - self.place > MAX_RECORD:
                break
            # At the end of what is in memory, a number may go on.
            if end is not None and end < len(self.text):
                break
            if not self._more():
                break
        if end is None:
            raise UnfitError("is truncated, or contains text that is not JSON")
        value, self.place = self.text[self.place : end], end
        return value

    def _end(self) -> int | None:
        """Find the end of the value at the current position; None if it is not in memory."""
        try:
            return _DECODER.raw_decode(self.text, self.place)[1]
        except ValueError:
            return None
        except RecursionError:
            return _end_by_brackets(self.text, self.place)

    def _more(self) -> bool:
        """Read as much as is left again, so that a long value is not scanned too often."""
        rest = self.text[self.place :]
        chunk = "" if self.finished else self.file.read(max(CHUNK, len(rest)))
        self.finished = not chunk
        self.text, self.place = rest + chunk, 0
        return bool(chunk)


def _end_by_brackets(text: str, start: int) -> int | None:
    depth = 0
    for found in _SIGNS.finditer(text, start):
        match found[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
                if depth == 0:
                    return found.end()
            case '"':
                return None
    return None
