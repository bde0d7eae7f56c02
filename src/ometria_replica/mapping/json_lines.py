r"""
Reads JSON lines as columns of text: DuckDB reads plain lines, and Python reads all others.

Keys hash the text as received, but DuckDB rewrites numbers such as ``1.10``, and reads some
lines that are not JSON. So DuckDB only reads lines of which both readers make the same texts,
which a pattern recognises. The rest is read one by one:

- a value that is an object or an array, ``NaN`` or ``Infinity``
- a number that DuckDB may write otherwise: with an exponent, with a zero at its end, ``-0``, or
  with more digits than a double keeps
- half a surrogate pair, a name with an escape, or a name that repeats
- a record without an identity, whose reject has its whole text
- a line that is not a JSON object, or not UTF-8
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from ometria_replica.local_duckdb import registered
from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.readers import (
    BUFFER_BYTES,
    MAX_LINE_BYTES,
    documented_names,
    to_arrow,
    unknown_fields,
)
from ometria_replica.mapping.select import RECORD, unidentified
from ometria_replica.records import encodable, parse, storable_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.records import Record
    from ometria_replica.schema import Table

LINES = 40_000  # Read by one statement, of which each takes some 10 ms beside its work.
CHARACTERS = 16 * 2**20  # Of these lines. A longer one is read whole.
JSON_BATCH = 20_000  # Records held as Python objects at once: some 40 MB.
CHUNK = 10_000  # Lines that one thread of DuckDB takes.

MOST_SHAPES = 1_000  # Lists of names in a file that is read at once.
FIRST_LINES = 1_000  # If one of them is not plain, no other is looked at.

_NUL = rb"\u0000"
_UNDECODABLE = re.compile("[\udc80-\udcff]")  # As `surrogateescape` reads what is not UTF-8.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_ -]+")  # Has no other meaning in a path of DuckDB.

_SPACES = " \t\r\n"
_SPACE = r"[ \t\r\n]*"
_ESCAPE = (
    r'\\["\\/bfnrt]'
    r"|\\u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_STRING = rf'"(?:[^"\\\x00-\x1f]|{_ESCAPE})*"'
# Whole numbers that fit into 64 bits, and decimals of at most 15 digits, which a double keeps.
_NUMBER = r"(?:0|-?[1-9][0-9]{0,17}|-?(?:0|[1-9][0-9]{0,8})\.(?:0|[0-9]{0,5}[1-9]))"
_VALUE = rf"(?:{_STRING}|null|true|false|{_NUMBER})"
_MEMBER = rf'{_SPACE}"[^"\\\x00-\x1f]*"{_SPACE}:{_SPACE}{_VALUE}{_SPACE}'
_PLAIN_LINE = rf"{_SPACE}\{{{_MEMBER}(?:,{_MEMBER})*\}}{_SPACE}"
_PLAIN = f"CASE WHEN regexp_full_match(line, {literal(_PLAIN_LINE)}) THEN line END"
_NAMES = "array_to_string(json_keys(line), chr(10))"


@dataclass(frozen=True)
class JsonTexts:
    """
    The records of a few lines as *texts*, and the names of their *unknown* fields.

    *texts* has a column for each field, and ``_record``, the text of records without an identity.
    """

    texts: pa.Table
    unknown: frozenset[str]


@dataclass(frozen=True)
class PlainFile:
    """
    A file that one statement reads, and the names of its *unknown* fields.

    *relation* has a column of text for each field. Without *nuls* no text has a NUL character.
    """

    relation: str
    unknown: frozenset[str]
    nuls: bool


def plain_file(connection: DuckDBPyConnection, table: Table, path: Path) -> PlainFile | None:
    """Find out how one statement reads a file; None if one of its lines is not plain."""
    import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

    reader = _Reader(connection, table, [])
    lines, nuls = _count_lines(path)
    if not lines or not reader.can_read:
        return None
    relation = (
        f"read_csv({literal(str(path))}, auto_detect = false, columns = {{'line': 'VARCHAR'}},"
        " header = false, delim = '\x01', quote = '', escape = '', nullstr = '',"
        f" max_line_size = {MAX_LINE_BYTES}, buffer_size = {BUFFER_BYTES})"
    )
    first = f"SELECT {_PLAIN} AS line FROM (FROM {relation} LIMIT {FIRST_LINES})"
    try:
        if connection.execute(f"SELECT 1 FROM ({first}) WHERE line IS NULL LIMIT 1").fetchall():
            return None
        found = connection.execute(
            f"SELECT {_NAMES}, count(*) FROM (SELECT {_PLAIN} AS line FROM {relation}) GROUP BY 1"
            f" LIMIT {MOST_SHAPES + 1}"
        ).fetchall()
    except duckdb.InvalidInputException:  # A line that is not UTF-8, or too long.
        return None
    shapes = [names.split("\n") for names, _ in found if names]
    if not len(shapes) == len(found) <= MOST_SHAPES or sum(count for _, count in found) != lines:
        return None
    unknown = reader.learn(shapes)
    if not all(map(reader.is_read, shapes)):
        return None
    return PlainFile(reader.texts_sql(relation, *reader.kept), unknown, nuls=nuls)


def _count_lines(path: Path) -> tuple[int, bool]:
    """
    Count the lines of *path*, and tell whether one may have a NUL character.

    0 if there is a carriage return or a byte order mark: DuckDB's reader of CSV would end a line
    there, or leave it out.
    """
    lines, nuls, last = 0, False, b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            if b"\r" in chunk or (not last and chunk.startswith(b"\xef\xbb\xbf")):
                return 0, nuls
            nuls = nuls or _NUL in last + chunk[: len(_NUL)] or _NUL in chunk
            lines += chunk.count(b"\n")
            last = chunk[-len(_NUL) :]
    return lines + (not last.endswith(b"\n")), nuls


def json_texts(
    connection: DuckDBPyConnection, table: Table, path: Path, bad: list[tuple[int, str, str]]
) -> Iterator[JsonTexts]:
    """
    Read the objects of a file of JSON lines, in their order.

    Lines that are none are added to *bad*: the number, the text and the reason of each.
    """
    reader = _Reader(connection, table, bad)
    for number, lines in _numbered(path):
        yield reader.read(number, lines)


def _numbered(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield lines with the number of their first, within the limits of a batch."""
    number = 1
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        while lines := file.readlines(CHARACTERS):
            for place in range(0, len(lines), LINES):
                yield number + place, lines[place : place + LINES]
            number += len(lines)


@dataclass
class _Reader:
    """
    Reads the lines of one file.

    *spelled* maps the fields that the lines write in another case to their names there.
    """

    connection: DuckDBPyConnection
    table: Table
    bad: list[tuple[int, str, str]]
    spelled: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_read(self) -> bool:
        """Whether DuckDB can find the fields of the table by their names."""
        return all(map(_PLAIN_NAME.fullmatch, "::".join(self.table.fields).split("::")))

    def learn(self, shapes: Sequence[Sequence[str]]) -> frozenset[str]:
        """Learn how lines with these names spell the fields; return the names of unknown ones."""
        self.spelled = self._spellings(shapes)
        return self._undocumented(shapes)

    def read(self, number: int, lines: Sequence[str]) -> JsonTexts:
        """Read *lines*, of which *number* is that of the first."""
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.
        import pyarrow.compute as pc  # noqa: PLC0415 -- As above.

        from ometria_replica.arrow_types import text_array  # noqa: PLC0415 -- As above.

        if not self.can_read:
            return self._read_others(number, dict(enumerate(lines)))[0]
        plain = self._read_plain(lines)
        shapes = {text: text.split("\n") for text in pc.unique(plain["_names"]).to_pylist() if text}
        before = self.spelled
        self.learn(list(shapes.values()))
        if self.spelled != before:
            plain = self._read_plain(lines)
        read = {text: names for text, names in shapes.items() if self.is_read(names)}
        unknown = self._undocumented(read.values())
        is_read = pc.and_(
            pc.is_in(plain["_names"], text_array(list(read))), plain["_is_identified"]
        )
        places = pc.indices_nonzero(pc.invert(is_read)).to_pylist()
        plain = plain.drop_columns(["_names", "_is_identified"])
        plain = plain.append_column("_record", pa.nulls(len(lines), pa.string()))
        if not places:
            return JsonTexts(plain, unknown)
        others, kept = self._read_others(number, {place: lines[place] for place in places})
        return JsonTexts(_merged(plain, is_read, others.texts, kept), unknown | others.unknown)

    def _read_plain(self, lines: Sequence[str]) -> pa.Table:
        """
        Read plain lines: a column for each field, then ``_names`` and ``_is_identified``.

        ``_names`` has a line for each name in the record, and is null if the line is not plain.
        """
        # A reject has the text of the record, but not if columns are hashed or excluded.
        needs_text = "false" if self.table.is_treated else unidentified(self.table, quoted)
        plain = f"(SELECT {_PLAIN} AS line FROM lines)"
        texts = self.texts_sql(plain, f"{_NAMES} AS _names", *self.kept)
        with registered(self.connection, "lines", _arrow_of(lines)):
            found: pa.Table = self.connection.sql(
                f"SELECT *, NOT ({needs_text}) AS _is_identified FROM {texts}"
            ).to_arrow_table()
            return found

    @property
    def kept(self) -> list[str]:
        """What is kept of a plain line, if records are kept."""
        return [f"trim(line, {literal(_SPACES)}) AS {RECORD}"] if self.table.keeps_records else []

    def texts_sql(self, lines: str, *more: str) -> str:
        """Write the relation with a column for each field of the plain *lines*, and *more*."""
        fields = self.table.fields
        paths = ", ".join(literal(_path(self.spelled.get(name, name))) for name in fields)
        columns = [f"_texts[{place}] AS {quoted(name)}" for place, name in enumerate(fields, 1)]
        return (
            f"(SELECT {', '.join([*columns, *more])} FROM"
            f" (SELECT line, json_extract_string(line, [{paths}]) AS _texts FROM {lines}))"
        )

    def _spellings(self, shapes: Iterable[Sequence[str]]) -> dict[str, str]:
        """Choose a name for each field that has the documented one in no line."""
        names = set(chain.from_iterable(shapes))
        known = documented_names(self.table, sorted(self._unknown([names])))
        return {
            ours: name
            for name, ours in known.items()
            if ours not in names and _PLAIN_NAME.fullmatch(name)
        }

    def is_read(self, names: Sequence[str]) -> bool:
        """Whether the texts of lines with these *names* were found."""
        known = documented_names(self.table, self._unknown([names]))
        return len(set(names)) == len(names) and all(
            self.spelled.get(ours) == name for name, ours in known.items()
        )

    def _undocumented(self, shapes: Iterable[Iterable[str]]) -> frozenset[str]:
        unknown = self._unknown(shapes)
        return unknown.difference(documented_names(self.table, unknown))

    def _unknown(self, shapes: Iterable[Iterable[str]]) -> frozenset[str]:
        return frozenset(unknown_fields(self.table, shapes))

    def _read_others(self, number: int, lines: Mapping[int, str]) -> tuple[JsonTexts, list[int]]:
        """Read lines in Python, and return the places of those that are records, too."""
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

        texts: list[pa.Table] = []
        unknown: frozenset[str] = frozenset()
        read: list[int] = []
        places = list(lines)
        for first in range(0, len(places), JSON_BATCH):
            records: list[Record] = []
            kept: list[str] = []
            for place in places[first : first + JSON_BATCH]:
                if not (line := lines[place]).strip():
                    continue
                try:
                    records.append(_record(line))
                    read.append(place)
                    if self.table.keeps_records:
                        kept.append(storable_json(line.strip(_SPACES)))
                except _NoRecordError as reason:
                    self.bad.append((number + place, encodable(line.rstrip("\n")), str(reason)))
            few = self._texts_of(records, kept)
            texts.append(few.texts)
            unknown |= few.unknown
        return JsonTexts(pa.concat_tables(texts), unknown), read

    def _texts_of(self, records: list[Record], kept: Sequence[str]) -> JsonTexts:
        unknown = self._unknown(records)
        if names := documented_names(self.table, unknown):
            records = [
                {names.get(name, name): value for name, value in record.items()}
                for record in records
            ]
        return JsonTexts(to_arrow(self.table, records, kept), unknown.difference(names))


def _arrow_of(lines: Sequence[str]) -> pa.Table:
    """Return *lines* as a column; null for one that is not UTF-8."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

    parts = [_column(lines[place : place + CHUNK]) for place in range(0, len(lines), CHUNK)]
    return pa.table({"line": pa.chunked_array(parts, pa.string())})


def _column(lines: Sequence[str]) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    from ometria_replica.arrow_types import text_array  # noqa: PLC0415 -- It imports pyarrow.

    try:
        return text_array(lines)
    except UnicodeEncodeError:
        return text_array([None if _UNDECODABLE.search(line) else line for line in lines])


def _path(source: str) -> str:
    return "".join(["$", *(f'."{name}"' for name in source.split("::"))])


def _merged(
    plain: pa.Table, is_read: pa.ChunkedArray[Any], others: pa.Table, places: Sequence[int]
) -> pa.Table:
    """Put *others* at their *places* in *plain*, and drop the lines that neither read."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.
    import pyarrow.compute as pc  # noqa: PLC0415 -- As above.

    numbers = pa.array(range(len(plain)), pa.int64())
    is_other = pc.is_in(numbers, pa.array(places, pa.int64()))
    columns = {
        name: pc.replace_with_mask(
            plain[name].combine_chunks(), is_other, others[name].combine_chunks()
        )
        for name in plain.column_names
    }
    return pa.table(columns).filter(pc.or_(is_read.combine_chunks(), is_other))


class _NoRecordError(Exception):
    """A line cannot be parsed."""


def _record(line: str) -> Record:
    if not line.isascii() and _UNDECODABLE.search(line):
        raise _NoRecordError("invalid encoding")  # As DuckDB says of a line of CSV.
    try:
        value = parse(line)
    except RecursionError:
        raise _NoRecordError("nested too deeply") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _NoRecordError("not JSON")
    return value
