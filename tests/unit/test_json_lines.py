"""JSON lines that DuckDB reads, and those that Python reads: the same texts either way."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.mapping.json_lines import json_texts, plain_file
from ometria_replica.mapping.readers import to_arrow
from ometria_replica.records import encodable, parse
from ometria_replica.schema import Column, Md5, Table
from ometria_replica.tables import EMAIL_EVENTS
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import Record

THINGS = Table(
    name="things",
    read=Feed("things"),
    columns=(Column("id", "id"), Column("in::side", "inside"), Column("in::1", "first")),
    sync_key=Md5(("source_id", "id")),
    identity=(("id",),),
    unmapped=("known",),
)

VALUES = (
    *("null", "true", "false", "True", "nan", "NaN", "-NaN", "Infinity", "-Infinity", "inf"),
    *("0", "-0", "00", "01", "-1", "+1", "1.", ".1", "0x1", "1_0", "17", "-17", "1 1"),
    *("1.10", "1.1", "1.0", "-0.0", "0.0", "0.10", "0.000001", "0.0000001", "0.000000", "-0.5"),
    *("1e5", "1E5", "1e-7", "1e999", "-1e999", "1.5e+3", "1e400"),
    *("9007199254740993", "999999999999999999", "-999999999999999999", "9223372036854775808"),
    *("12345678901234567890", "18446744073709551616", "123456789.123456", "123456789012345678.5"),
    *("0.1234567890123456789", "999999999.999999", "100000000.000001", "123456789012345678901.10"),
    *('""', '"x"', r'"\u0000"', r'"a\u0000b"', r'"\ud83d\ude00"', r'"\ud83d"', r'"\ude00\ud83d"'),
    *(
        r'"\ud83dx\ude00"',
        r'"\uD83D\uDE00"',
        r'"\u00e9"',
        r'"\/\\\"\b\f\n\r\t"',
        r'"\x"',
        r'"\u12"',
    ),
    *(
        r'"\uDFFF"',
        r'"\uffff"',
        r'"\ud7ff"',
        r'"\ue000"',
        '"\x00"',
        '"\t"',
        '"\x7f"',
        '"\x85\u2028"',
    ),
    *('"\udcff"', '"\ufeff"', '"1.10"', '"{}"', '"\\n"', '"a', "'a'", "", '"a" "b"', '"\ud800"'),
    *(
        "[]",
        "{}",
        "[1, 2]",
        '{"a": 1.10}',
        '{"side": 1.10, "side": "x"}',
        '{"side":"y"}',
        "[[",
        "{",
    ),
    *(
        '["x", "side"]',
        "[" * 50 + "]" * 50,
        "[" * 3000 + "]" * 3000,
        '{"side":{"a":[1 , 2e1]}}',
        "[1,]",
    ),
)
SPACES = ("", "", "", " ", "\t", "\r", "  ", "\x0b", "\xa0", "\ufeff", "\x00", "/**/", ",")
NAMES = ("unknown", "", " ", r"to\u005faddress", 'a"b', "a\\b", "\x01", "é", "\udcff", "k\u0131")


def _names(table: Table) -> st.SearchStrategy[str]:
    fields = sorted({source.split("::")[0] for source in table.fields} | set(table.unmapped))
    known = [*fields, *fields, *map(str.upper, fields), *map(str.title, fields)]
    return st.sampled_from([*known, *NAMES])


def _line(table: Table) -> st.SearchStrategy[str]:
    """Draw a line that is JSON, or nearly: with space, names and values of all kinds."""
    written = st.one_of(
        st.sampled_from(VALUES),
        st.text(max_size=5).map(json.dumps),
        st.text(max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False)),
        st.floats().map(json.dumps),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
        st.integers().map(str),
    )
    space = st.sampled_from(SPACES)
    # Mostly plain, so that most lines are not broken twice.
    good = st.sampled_from(['"a"', '"b"', "1", "1.5", "null", '"\\u00e9"'])
    value = st.one_of(good, good, good, written)
    member = st.tuples(_names(table).map('"{}"'.format), value).map(":".join)
    members = st.lists(member, max_size=7).map(",".join)
    spaced = st.lists(st.tuples(_names(table).map('"{}"'.format), space, space, value, space))
    return st.one_of(
        members.map("{{{}}}".format),
        members.map("{{{}}}".format),
        spaced.map(
            lambda parts: "{" + ",".join(f"{a}{b}:{c}{d}{e}" for a, b, c, d, e in parts) + "}"
        ),
        st.tuples(space, members, space).map(lambda p: f"{p[0]}{{{p[1]}}}{p[2]}"),
        st.tuples(members, st.integers(0, 40)).map(lambda p: f"{{{p[0]}}}"[: p[1]]),
        st.sampled_from(["", " ", "\r", "\x85", "[]", "1", "{}", '{"id":1}}', "\udcff", "null"]),
    )


def _plain_line(table: Table) -> st.SearchStrategy[str]:
    fields = [name for name in table.fields if "::" not in name]
    names = st.sampled_from([*fields, *map(str.upper, fields), *table.unmapped, "new", "é", "a b"])
    value = st.one_of(
        st.sampled_from(
            ['"a"', "null", "true", "17", "-1.5", r'"\u0000"', r'"\ud83d\ude00"', '"é"']
        ),
        st.text(max_size=5).map(json.dumps).filter(lambda text: r"\ud" not in text),
    )
    members = st.dictionaries(names, value, min_size=1, max_size=7)
    return members.map(
        lambda drawn: "{" + ", ".join(f'"{name}": {value}' for name, value in drawn.items()) + "}"
    )


def _expected(table: Table, lines: list[str]) -> tuple[list[Any], list[Any], set[str]]:
    """Read *lines* one by one with Python's parser: the texts, the bad lines, unknown fields."""
    spelled = {name.lower(): name for name in table.fields}
    known = {source.split("::")[0] for source in table.fields} | set(table.unmapped)
    records: list[Record] = []
    bad: list[Any] = []
    unknown: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record: Any = None
        with suppress(ValueError, RecursionError):
            line.encode()
            record = parse(line)
        if not isinstance(record, dict):
            bad.append((number, encodable(line)))
            continue
        renamed: Record = {}
        for name in map(str, record):
            ours = name if name in known else spelled.get(name.lower(), name)
            unknown |= {ours} - known - set(table.fields)
            renamed[ours] = record[name]
        records.append(renamed)
    return to_arrow(table, records).to_pylist(), bad, unknown


def _found(
    connection: DuckDBPyConnection, table: Table, path: Path
) -> tuple[list[Any], list[Any], set[str]]:
    bad: list[tuple[int, str, str]] = []
    texts: list[Any] = []
    unknown: set[str] = set()
    for read in json_texts(connection, table, path, bad):
        texts += read.texts.to_pylist()
        unknown |= read.unknown
    return texts, [(number, text) for number, text, _ in bad], unknown


def _at_once(
    connection: DuckDBPyConnection, table: Table, path: Path
) -> tuple[list[Any], set[str]] | None:
    """Read a file by one statement; None if some line is not plain."""
    plain = plain_file(connection, table, path)
    if plain is None:
        return None
    texts = connection.sql(f"FROM {plain.relation}").to_arrow_table().to_pylist()
    assert plain.nuls or "\0" not in "".join(
        text for record in texts for text in record.values() if text
    )
    return texts, set(plain.unknown)


@pytest.fixture(scope="module")
def connection() -> Iterator[DuckDBPyConnection]:
    """Open a DuckDB that reads lines."""
    with duckdb.connect() as opened:
        yield opened


@settings(deadline=None)  # A statement takes as long as other programs let it.
@given(data=st.data(), table=st.sampled_from([EMAIL_EVENTS, THINGS]))
def test_duckdb_and_python_read_the_same_from_json(
    data: st.DataObject, table: Table, connection: DuckDBPyConnection
) -> None:
    """Whatever a file of JSON lines holds, its texts are those of Python's parser, in order."""
    line = data.draw(st.sampled_from([_line, _plain_line]))(table)
    drawn = data.draw(st.lists(line, max_size=12))
    end = data.draw(st.sampled_from(["\n", "\n", ""]))
    content = ("\n".join(drawn) + end).encode("utf-8", "surrogatepass")
    # What is not UTF-8 comes back as the reader sees it.
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    with TemporaryDirectory() as folder:
        (path := Path(folder) / "lines").write_bytes(content)
        found, at_once = _found(connection, table, path), _at_once(connection, table, path)
    texts, bad, unknown = _expected(table, lines)

    assert found == (texts, bad, unknown)
    if at_once is not None:
        fields = [{name: row[name] for name in table.fields} for row in texts]
        assert (at_once, bad) == ((fields, unknown), [])


@pytest.mark.parametrize(
    ("line", "is_plain"),
    [
        ('{"to_address": "a", "event_type": null}', True),
        ('{"TO_ADDRESS": "a", "new": true, "event_type": "\\u00e9"}', True),
        ('{"to_address": 12, "event_type": -3.25}', True),
        ('{"to_address": 1.10}', False),
        ('{"to_address": {}}', False),
        ('{"to_address": "a", "to_address": "b"}', False),
        ("[]", False),
        ("", False),
    ],
)
def test_duckdb_reads_a_file_of_plain_lines_at_once(
    line: str, is_plain: bool, connection: DuckDBPyConnection, tmp_path: Path
) -> None:
    """Texts, whole numbers and short decimals need no Python, and one other line does."""
    (path := tmp_path / "lines").write_text(f"{line}\n{line.replace('a', 'b')}\n", encoding="utf-8")

    found = _at_once(connection, EMAIL_EVENTS, path)

    assert (found is not None) == is_plain
