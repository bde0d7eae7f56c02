"""Records are staged as they came, one for each row, however they are read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.config import FeedSettings
from ometria_replica.mapping import STAGED_RECORDS, Staging
from ometria_replica.ometria.dialect import choose_dialect
from ometria_replica.records import (
    Dialect,
    FeedFile,
    FeedObject,
    Page,
    TextRecord,
    parse,
    storable_json,
)
from ometria_replica.tables import EMAIL_EVENTS, PROFILES
from tests.duck import connected, read
from tests.unit.staged import NOON, ORIGIN, file_of

if TYPE_CHECKING:
    from pathlib import Path

KEPT_EVENTS = replace(EMAIL_EVENTS, keeps_records=True)
KEPT_PROFILES = replace(PROFILES, keeps_records=True)
JSONL = Dialect("json")

SPELLINGS = ("1.10", "-0", "1E400", "1e-7", "0.1000", "123456789012345678901234567890", "-0.0")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def json_texts(draw: st.DrawFn, depth: int = 3) -> str:
    """Draw a JSON text in any spelling: spaces, escapes, numbers, names that repeat."""
    space = draw(st.sampled_from(["", " ", "  ", "\t"]))
    kinds = st.sampled_from(["text", "number", "word", *(["list", "object"] if depth else [])])
    match draw(kinds):
        case "text":
            return json.dumps(draw(TEXTS), ensure_ascii=draw(st.booleans()))
        case "number":
            return draw(
                st.one_of(st.sampled_from(SPELLINGS), st.integers().map(str),
                          st.floats(allow_nan=False, allow_infinity=False).map(repr))
            )  # fmt: skip
        case "word":
            return draw(st.sampled_from(["null", "true", "false"]))
        case "list":
            return f"[{space}{', '.join(draw(st.lists(json_texts(depth - 1), max_size=3)))}]"
        case _:
            return draw(json_objects(depth - 1, space=space))


@st.composite
def json_objects(draw: st.DrawFn, depth: int = 3, *, first: str = "", space: str = "") -> str:
    """Draw the text of an object, with the member *first* before others."""
    names = st.one_of(TEXTS, st.sampled_from(["a", "stats", "it's", 'b"c']))
    members = draw(st.lists(st.tuples(names, json_texts(depth)), max_size=4))
    texts = [f"{json.dumps(name, ensure_ascii=False)}:{space}{value}" for name, value in members]
    return f"{{{space}{', '.join([*([first] if first else []), *texts])}{space}}}"


EVENT = '"to_address": "{}@example.com", "dt_occurred": "2026-03-01"'


def staged(staging: Staging) -> dict[str, str]:
    """Finish, and read what is kept by key; a row has the load time of its record."""
    staging.finish()
    rows = {row["__sync_key"]: row["__synced_at"] for row in read(staging.connection, "staged")}
    records = read(staging.connection, STAGED_RECORDS)
    assert {row["__sync_key"]: row["__synced_at"] for row in records} == rows
    assert len(records) == len(rows)
    return {row["__sync_key"]: row["record"] for row in records}


def of_pages(*texts: str) -> list[str]:
    with connected() as connection:
        staging = Staging(connection, KEPT_PROFILES, "1042", "uk")
        records = [TextRecord(parse(text), storable_json(text)) for text in texts]
        staging.add_pages([Page(records, NOON, ORIGIN)], NOON)
        return list(staged(staging).values())


def of_lines(folder: Path, *lines: str) -> list[str]:
    file = file_of(folder, "\n".join(lines).encode(), JSONL)
    return of_file(file)


def of_file(file: FeedFile) -> list[str]:
    with connected() as connection:
        staging = Staging(connection, KEPT_EVENTS, "1042", "uk")
        assert staging.add_file(file, NOON)
        return list(staged(staging).values())


@settings(deadline=None)
@given(st.lists(json_objects(depth=2), min_size=1, max_size=4))
def test_records_of_a_page_are_kept_to_the_letter(objects: list[str]) -> None:
    texts = [f'{{"id": "{number}",{text[1:]}' for number, text in enumerate(objects)]
    texts = [text for text in texts if json_is_valid(text)]
    assert sorted(of_pages(*texts)) == sorted(texts)


@settings(deadline=None)
@given(st.lists(json_objects(depth=2), min_size=1, max_size=4))
def test_json_lines_are_kept_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, objects: list[str]
) -> None:
    """Plain lines are read by DuckDB, others in Python: both keep the line."""
    lines = [f"{{{EVENT.format(number)},{text[1:]}" for number, text in enumerate(objects)]
    lines = [line for line in lines if json_is_valid(line)]
    if lines:
        kept = of_lines(tmp_path_factory.mktemp("feed"), *lines)
        assert sorted(kept) == sorted(lines)


def json_is_valid(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (r'{"id": "1", "a": "\ud800"}', r'{"id": "1", "a": "\ufffd"}'),
        (r'{"id": "1", "a": "\\ud800"}', r'{"id": "1", "a": "\\ud800"}'),
        (r'{"id": "1", "a": "\ud83d\ude00"}', r'{"id": "1", "a": "\ud83d\ude00"}'),
        (r'{"id": "1", "a": "\ud83d\ud83d\ude00"}', r'{"id": "1", "a": "\ufffd\ud83d\ude00"}'),
        (r'{"id": "1", "a": NaN}', r'{"id": "1", "a": NaN}'),
    ],
)
def test_half_a_surrogate_pair_is_replaced(sent: str, kept: str) -> None:
    """No UTF-8 can hold it, and it would stop the batch: the rest of the record stays."""
    assert of_pages(sent) == [kept]


def test_a_csv_line_is_an_object_of_all_its_cells(tmp_path: Path) -> None:
    """Also of columns that no table takes, by the names of the header, and in their order."""
    header = "To_Address,dt_occurred,Price,note,Price"
    path = tmp_path / "e.csv"
    path.write_text(
        f'{header}\na@b.example,2026-03-01,1.10,"a ""b"", ü",x\nc@d.example,2026-03-01,007,,y\n'
    )
    found = FeedObject("e.csv", "etag", path.stat().st_size, NOON)
    kept = of_file(FeedFile(found, path, csv_dialect(path)))
    assert kept == [
        (
            '{"To_Address":"a@b.example","dt_occurred":"2026-03-01","Price":"1.10",'
            '"note":"a \\"b\\", ü","Price_2":"x"}'
        ),
        (
            '{"To_Address":"c@d.example","dt_occurred":"2026-03-01","Price":"007",'
            '"note":null,"Price_2":"y"}'
        ),
    ]


def csv_dialect(path: Path) -> Dialect:
    return choose_dialect(path, FeedSettings(url="x"), KEPT_EVENTS.fields, ())


def test_a_row_of_parquet_is_an_object_with_its_digits(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    columns = {
        "to_address": ["a@b.example"],
        "dt_occurred": [NOON],
        "price": pa.array([Decimal("1.10")], pa.decimal128(20, 2)),
        "share": [0.1],
        "none": pa.array([None], pa.float64()),
        "not_a_number": [float("nan")],
        "big": [2**62],
        "flag": [True],
        "tags": [["a", 'b"']],
        "lines": pa.array(
            [[{"price": Decimal("2.50")}]], pa.list_(pa.struct([("price", pa.decimal128(20, 2))]))
        ),
        "bytes": [b"abc"],
    }
    pq.write_table(pa.table(columns), path)
    found = FeedObject("e.parquet", "etag", path.stat().st_size, NOON)
    (kept,) = of_file(FeedFile(found, path, Dialect("parquet", columns=tuple(columns))))
    assert kept == (
        '{"to_address":"a@b.example","dt_occurred":"2026-03-02 12:00:00+00","price":1.10,'
        '"share":0.1,"none":null,'
        '"not_a_number":"nan","big":4611686018427387904,"flag":true,"tags":["a","b\\""],'
        '"lines":[{"price":"2.50"}],"bytes":"abc"}'
    )


def test_the_newest_record_of_a_key_is_kept() -> None:
    """In the order of reading, as for the row."""
    with connected() as connection:
        staging = Staging(connection, KEPT_PROFILES, "1042", "uk")
        texts = ['{"id": "1", "stats": 1}', '{"id": "2"}', '{"id": "1", "stats": 2}']
        records = [TextRecord(parse(text), text) for text in texts]
        staging.add_pages([Page(records[:2], NOON, ORIGIN)], NOON)
        staging.add_pages([Page(records[2:], NOON, ORIGIN)], NOON + timedelta(hours=1))
        assert sorted(staged(staging).values()) == sorted(texts[1:])


def test_without_the_setting_no_record_is_staged() -> None:
    with connected() as connection:
        staging = Staging(connection, PROFILES, "1042", "uk")
        staging.add_pages([Page([parse('{"id": "1"}')], NOON, ORIGIN)], NOON)
        staging.finish()
        tables = {
            name
            for (name,) in connection.execute("SELECT view_name FROM duckdb_views()").fetchall()
        }
        assert STAGED_RECORDS not in tables
