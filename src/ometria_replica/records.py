"""
Raw records, as Ometria sent them: pages of the API, files of the feed.

Keys are hashed from the text as received, so nothing here may rewrite it: a JSON
number keeps its digits, a string its spaces.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

Record = dict[str, Any]
"""A JSON object with its numbers as :class:`Number`."""


class Number(str):
    """A JSON number as it was written: ``1.10`` stays ``1.10``."""

    __slots__ = ()


@dataclass(frozen=True)
class Page:
    """
    Records that one request brought, in the order received.

    *requested_at* is our own time (UTC) just before the request left. *origin* says
    where they came from, without a customer's data: ``GET /profiles offset=250``.
    """

    records: Sequence[Record]
    requested_at: datetime
    origin: str


@dataclass(frozen=True)
class Dialect:
    """
    How a file of the feed is written.

    *columns* are the names of its header, or those that the settings give where there
    is none, in the file's order; JSON needs none. *header* says whether the first
    line holds them. The file itself is plain UTF-8 by now, whatever came. What is quoted
    is text and may be an empty one, unless *quotes_nulls*: then the empty text is no value.
    Without *nuls* there is no NUL character in the file, so that none needs to be looked for.
    """

    format: Literal["csv", "json", "parquet"]
    columns: tuple[str, ...] = ()
    header: bool = True
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

    Ordered by time, then name: the order in which newer replaces older.
    """

    name: str
    etag: str
    size: int
    modified_at: datetime

    def __lt__(self, other: FeedObject) -> bool:
        return (self.modified_at, self.name) < (other.modified_at, other.name)


@dataclass(frozen=True)
class FeedFile:
    """A file of the feed that is on this machine at *path* and can be read as *dialect*."""

    origin: FeedObject
    path: Path
    dialect: Dialect

    def discard(self) -> None:
        """Remove it from this machine."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class StagedFile:
    """
    A file of the feed that was mapped elsewhere, and came here as Parquet.

    *rows* are its staged rows, in the file's order, and *lines* those that were no rows of
    it; None where there are none. *unknown_fields* are names that Ometria does not document.
    """

    origin: FeedObject
    rows: Path | None
    lines: Path | None
    unknown_fields: frozenset[str]

    def discard(self) -> None:
        """Remove it from this machine."""
        for path in (self.rows, self.lines):
            if path is not None:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Unreadable:
    """
    A file of the feed that cannot be read, and why, without its contents.

    *again* says that the next run may read it: this version is no longer there, or the
    store denies it for now. So nothing of it belongs into the ledger.
    """

    origin: FeedObject
    reason: str
    again: bool = False


FetchedFile = FeedFile | StagedFile | Unreadable
"""What becomes of a file that was asked for."""


def parse(body: str | bytes) -> Any:
    """
    Read JSON with its numbers as written.

    Raises ValueError for what is no JSON, bad UTF-8 included.
    """
    return json.loads(body, parse_int=Number, parse_float=Number, parse_constant=Number)


def field_text(record: Mapping[str, Any], source: str) -> str | None:
    """
    Read the field *source* (``a::b`` for ``b`` inside ``a``) as text, as it was received.

    None where it is null or absent, or where its parent is no object. An array or an
    object is its JSON text, without the spaces between elements.
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
    """Write JSON with its numbers as they were read, however deep it is nested."""
    text: list[str] = []
    pending: list[_Written | Any] = [value]
    while pending:
        part = pending.pop()
        match part:
            case _Written():
                text.append(part)
            case Number():
                text.append(str(part))
            case dict():
                members = [(_Written(f"{_quoted(name)}:"), member) for name, member in part.items()]
                pending += _enclosed("{", members, "}")
            case list():
                pending += _enclosed("[", [(element,) for element in part], "]")
            case _:
                text.append(_quoted(part))
    return "".join(text)


class _Written(str):
    """A piece of JSON that is already text."""

    __slots__ = ()


def _enclosed(first: str, members: Sequence[tuple[Any, ...]], last: str) -> list[Any]:
    """Put *members* between brackets, with commas, last piece first: a stack gives it back."""
    pieces: list[Any] = [_Written(first)]
    for place, member in enumerate(members):
        pieces += [_Written(","), *member] if place else member
    return [_Written(last), *reversed(pieces)]


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
    Replace half of a surrogate pair by U+FFFD.

    JSON can escape one alone, but no UTF-8 exists for it, hence no MD5 and no column.
    """
    if text.isascii():  # Most are, and this takes no time.
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
