"""
Raw records as Ometria sent them: pages of the API, and export files.

Keys are hashes of the text as received, so this module must not rewrite it: a JSON
number keeps its digits, and a string its spaces.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ometria_replica import scratch_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.read_position import ReadPosition

Record = dict[str, Any]
"""A JSON object with its numbers as :class:`Number`."""


class TextRecord(dict[str, Any]):
    """A record with its *text* as it came, of which a parser loses names that repeat."""

    __slots__ = ("text",)

    def __init__(self, record: Mapping[str, Any], text: str) -> None:
        super().__init__(record)
        self.text = text


class Number(str):
    """A JSON number with its original text: ``1.10`` stays ``1.10``."""

    __slots__ = ()


class JsonText(str):
    """A piece of JSON that is already serialised."""

    __slots__ = ()


@dataclass(frozen=True)
class Page:
    """
    The records of one response, in the order received.

    *requested_at* is this machine's time (UTC) just before the request. *origin* names the
    request without personal data: ``GET /profiles offset=250``. *position* is where another
    read can continue once this page and those before it are loaded; None if it cannot.
    """

    records: Sequence[Record]
    requested_at: datetime
    origin: str
    position: ReadPosition | None = None


@dataclass(frozen=True)
class Dialect:
    """
    The format of a normalised export file, which is uncompressed UTF-8.

    *columns* are the names in its header, or in the settings if it has no header, in the
    order of the file; JSON needs none. *header* says whether a line contains them, *names* are
    its texts as written, and *skip* counts the lines above it.
    A quoted cell is text and may be empty; with *quotes_nulls*, an empty quoted cell is null.
    Without *nuls* the file contains no NUL character, so that the reader need not search for one.
    """

    format: Literal["csv", "json", "parquet"]
    columns: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    header: bool = True
    skip: int = 0
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    null: str = ""
    quotes_nulls: bool = False
    nuls: bool = True


@dataclass(frozen=True)
class FeedObject:
    """
    A file as the bucket lists it. Its version is *etag* and *size*; *modified_at* is UTC.

    Files are read by time, then by name, so that newer rows replace older ones.
    """

    name: str
    etag: str
    size: int
    modified_at: datetime

    def __lt__(self, other: FeedObject) -> bool:
        return (self.modified_at, self.name) < (other.modified_at, other.name)


@dataclass(frozen=True)
class Packing:
    """
    How an export file was written before it was normalised.

    *compressions* are those that were removed, the outermost first. *encoding* is None for
    Parquet; ``western`` is Windows-1252 or Latin-1.
    """

    compressions: tuple[str, ...] = ()
    encoding: str | None = None


@dataclass(frozen=True)
class FeedFile:
    """
    An export file on this machine, at *path*, in the format *dialect*.

    Of a part of a file, *lines_before* counts the lines above it. *lines* are the lines of a CSV
    file, with the empty ones; None if they have not been counted. *packing* is None of a part.
    """

    origin: FeedObject
    path: Path
    dialect: Dialect
    lines_before: int = 0
    lines: int | None = None
    packing: Packing | None = None

    def discard(self) -> None:
        """Remove it from this machine."""
        scratch_files.discard(self.path)


@dataclass(frozen=True)
class StagedFile:
    """
    An export file that another machine mapped to Parquet files.

    *rows* are its staged rows in the order of the file, and *lines* are the lines that could
    not be parsed; None if there are none. *counts* are the numbers of both, and *unknown_fields*
    are undocumented field names.
    """

    origin: FeedObject
    rows: Path | None
    lines: Path | None
    counts: tuple[int, int]
    unknown_fields: frozenset[str]

    def discard(self) -> None:
        """Remove it from this machine."""
        for path in (self.rows, self.lines):
            if path is not None:
                scratch_files.discard(path)


@dataclass(frozen=True)
class Unreadable:
    """
    An export file that cannot be read, with the *reason*, which quotes none of its contents.

    *again* says that the next run may succeed, because this version no longer exists, or because
    rows were lost between two machines. Such a file is not recorded in the file log. *later* says
    that some run may: the file is archived, or this user may not read it. It is recorded, with
    the time from which it is tried again.
    """

    origin: FeedObject
    reason: str
    again: bool = False
    later: bool = False


FetchedFile = FeedFile | StagedFile | Unreadable
"""The result of fetching a file."""


def parse(body: str | bytes) -> Any:
    """
    Parse JSON, with the original text of its numbers.

    Raises ValueError if *body* is not JSON or not UTF-8.
    """
    return json.loads(body, parse_int=Number, parse_float=Number, parse_constant=Number)


def extended(record: Record, name: str, value: Any) -> Record:
    """Add a field to a record, whose text stays what came."""
    more = {**record, name: value}
    return TextRecord(more, record.text) if isinstance(record, TextRecord) else more


def record_text(record: Record) -> str:
    """Return the JSON text of a record, as it came if that is known."""
    return record.text if isinstance(record, TextRecord) else json_text(record)


def storable_json(text: str) -> str:
    """
    Replace half a surrogate pair, also a written one, by U+FFFD.

    JSON can hold it, but no reader of text in UTF-8 can: neither DuckDB nor PostgreSQL takes it.
    """
    text = encodable(text)
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _ESCAPES.sub(_whole_escape, text)


_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def _whole_escape(found: re.Match[str]) -> str:
    return "\\ufffd" if found["half"] else found[0]


def field_text(record: Mapping[str, Any], source: str) -> str | None:
    """
    Return the field *source* (``a::b`` for ``b`` inside ``a``) as text, as it was received.

    None if it is null or absent, or if its parent is not an object. The text of an array or
    an object is its JSON without spaces between elements.
    """
    value: Any = record
    for name in _path(source):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return _text(value)


@cache
def _path(source: str) -> tuple[str, ...]:
    return tuple(source.split("::"))


def json_text(value: Any) -> str:
    """Write JSON of any depth of nesting, with the original text of its numbers."""
    text: list[str] = []
    pending: list[JsonText | Any] = [value]
    while pending:
        part = pending.pop()
        match part:
            case JsonText() | Number():
                text.append(str(part))
            case dict():
                members = [(JsonText(f"{_quoted(name)}:"), member) for name, member in part.items()]
                pending += _enclosed("{", members, "}")
            case list():
                pending += _enclosed("[", [(element,) for element in part], "]")
            case _:
                text.append(_quoted(part))
    return "".join(text)


def _enclosed(first: str, members: Sequence[tuple[Any, ...]], last: str) -> list[Any]:
    """Return *members* with commas between brackets, in reverse order, for a stack."""
    pieces: list[Any] = [JsonText(first)]
    for position, member in enumerate(members):
        pieces += [JsonText(","), *member] if position else member
    return [JsonText(last), *reversed(pieces)]


def _quoted(value: object) -> str:
    return encodable(json.dumps(value, ensure_ascii=False))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return encodable(value)
    return json_text(value)


def encodable(text: str) -> str:
    """
    Replace a lone surrogate by U+FFFD.

    JSON can escape a lone surrogate, but UTF-8 cannot encode it, so it has no MD5 and fits
    into no column.
    """
    if text.isascii():  # True for most texts, and takes no time.
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
