"""Each record of an export file is in its rows or in its rejects, or the file is set aside."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ometria_replica.config import FeedSettings
from ometria_replica.mapping import Staging, file_staging
from ometria_replica.mapping.reconciliation import record_count
from ometria_replica.ometria.dialect import choose_dialect
from ometria_replica.ometria.one_per_line import normalise
from ometria_replica.records import Dialect, FeedFile, Unreadable
from ometria_replica.tables import EMAIL_EVENTS
from tests.duck import read
from tests.unit.staged import NOON, file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ometria_replica.mapping.json_lines import JsonTexts

TICK = timedelta(microseconds=1)
NAMES = ("to_address", "event_type", "dt_occurred", "reason")
CSV = Dialect("csv", columns=NAMES, names=NAMES)
HEADER = ",".join(NAMES)
THREE = "\n".join([HEADER, *(f"{name}@a.b,open,2026-03-01," for name in ("ann", "bob", "cat")), ""])
THREE_OBJECTS = "".join(f'{{"to_address":"{name}@a.b"}}\n' for name in ("ann", "bob", "cat"))

# Each @ becomes a text of its own, by which its line is found again.
reasons = st.one_of(
    st.sampled_from(
        [
            "",
            '"two\nlines"',
            '"two\r\nlines"',
            '"one\rline"',
            '"say ""no"""',
            '"say \\"no\\""',
            ' "a,b"',
            '  "',
            '5" wide',
            '"open',
            '"closed" early',
            '"a" "b\nc"',
            "x\0y",
            "\\",
            '"',
            '""',
            "\udcff",
        ]
    ),
    st.text('ab,"\\ \n\r', max_size=6),
)
lines = st.one_of(
    st.builds("@,open,2026-03-01 10:00:00,{}".format, reasons),
    st.builds("@,open,{}".format, reasons),
    st.builds("@,open,2026-03-01,{},more".format, reasons),
    st.sampled_from(["", HEADER, HEADER.upper(), "reason,dt_occurred,event_type,to_address", "@"]),
)
ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
csv_texts = st.tuples(
    st.sampled_from(["", "\n", "Report\n", 'A "report"\n']),
    st.lists(st.tuples(lines, ends), max_size=8),
    st.booleans(),
).map(lambda drawn: _csv_text(*drawn))


def _csv_text(above: str, drawn: Sequence[tuple[str, str]], is_cut: bool) -> str:
    text = f"{above}{HEADER}\n" + "".join(line + end for line, end in drawn)
    return text.rstrip("\r\n") if is_cut else text


@settings(deadline=None)
@given(text=csv_texts)
@example(text=f'{HEADER}\n@,open,2026-03-01,"two\nlines"\n\n{HEADER}\n@,open,"\n@,open\n')
@example(text=f'{HEADER}\r\n@,"open,2026-03-01,\n@,open,2026-03-01,x\r@,,,\r\n')
@example(text=f'{HEADER}\n@,open,,"\n@,open,,\r"\\\n@,open,,\n@,open,,\n')
def test_each_line_of_a_csv_file_is_in_a_row_or_a_reject(text: str) -> None:
    """Whatever is in the lines, each is found again, and no file is set aside for its count."""
    with TemporaryDirectory() as name:
        file, marks = _marked(Path(name), text)

        found = _staged(file)

    if found is not None:
        assert [mark for mark in marks if mark not in found] == []


def _marked(folder: Path, text: str) -> tuple[FeedFile, list[str]]:
    """Write *text* with another address for each ``@``, as the feed prepares it."""
    first, *others = text.split("@")
    marks = [f"m{number:03}@a.b" for number, _ in enumerate(others)]
    content = first + "".join(mark + other for mark, other in zip(marks, others, strict=True))
    file = file_of(folder, content.encode("utf-8", "surrogateescape"), CSV)
    dialect = choose_dialect(file.path, FeedSettings(url="file:///feed"), EMAIL_EVENTS.fields)
    normalise(file.path, dialect)
    return replace(file, dialect=dialect), marks


def _staged(file: FeedFile) -> str | None:
    """Return the texts in the rows and rejects of *file*; None if it cannot be read."""
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        records = staging.add_file(file, NOON)
        if isinstance(records, Unreadable):
            assert records.reason == "it cannot be read as csv"
            return None
        return _texts(connection)


def _texts(connection: duckdb.DuckDBPyConnection) -> str:
    return f"{read(connection, 'staged')} {read(connection, 'rejected')}"


@settings(deadline=None)
@given(
    drawn=st.lists(
        st.sampled_from(
            [
                '{"to_address":"@"}',
                '{"to_address":"@"',
                '["@"]',
                '"@\udcff"',
                "@\0",
                "",
                " \t",
                "\x85",
                "\xa0\u2028",
                "\r",
            ]
        ),
        max_size=8,
    ),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_each_line_of_json_is_in_a_row_or_a_reject(drawn: list[str], end: str) -> None:
    """A line with anything but space is found again."""
    first, *others = end.join(drawn).split("@")
    marks = [f"m{number:03}" for number, _ in enumerate(others)]
    text = first + "".join(mark + other for mark, other in zip(marks, others, strict=True))
    with TemporaryDirectory() as name:
        content = text.encode("utf-8", "surrogateescape")
        found = _staged(file_of(Path(name), content, Dialect("json")))

    assert found is not None
    assert [mark for mark in marks if mark not in found] == []


def _without_the_last(found: Iterator[JsonTexts]) -> Iterator[JsonTexts]:
    return (replace(few, texts=few.texts[:-1]) for few in found)


def _loses_bob(relation: str) -> str:
    also = "AND" if " WHERE " in relation else "WHERE"
    return f"{relation} {also} to_address <> 'bob@a.b'"


def _lossy(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Any], Any]) -> None:
    """Seed a defect: the function *name* of the mapping gives what *change* leaves of it."""
    original = getattr(file_staging, name)
    monkeypatch.setattr(file_staging, name, lambda *given, **also: change(original(*given, **also)))


def _three(folder: Path, form: str) -> FeedFile:
    if form == "parquet":
        dialect = Dialect("parquet", columns=NAMES[:1])
        file = file_of(folder, b"", dialect, form)
        parquet.write_table(pa.table({"to_address": ["ann@a.b", "bob@a.b", "cat@a.b"]}), file.path)
        return file
    text, dialect = (THREE, CSV) if form == "csv" else (THREE_OBJECTS, Dialect("json"))
    if form == "odd json":  # Which is read line by line.
        text = text.replace("}", ',"x":1.10}')
    return file_of(folder, text.encode(), dialect, form)


@pytest.mark.parametrize(
    ("form", "reader", "change"),
    [
        ("csv", "csv_relation", _loses_bob),
        ("parquet", "parquet_relation", _loses_bob),
        ("json", "plain_file", lambda file: replace(file, relation=_loses_bob(file.relation))),
        ("odd json", "json_texts", _without_the_last),
    ],
)
def test_a_file_of_which_the_reader_loses_a_record_is_set_aside(
    form: str,
    reader: str,
    change: Callable[[Any], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a seeded defect in the reader, no row of the file is loaded, and the reason says it."""
    _lossy(monkeypatch, reader, change)
    with duckdb.connect() as connection:
        found = Staging(connection, EMAIL_EVENTS, "1042", "uk").add_file(
            _three(tmp_path, form), NOON
        )

        assert isinstance(found, Unreadable)
        assert found.reason == "3 records became 2 rows and 0 rejected lines; please report this"
        assert "ann" not in _texts(connection)


def test_a_loss_sets_no_other_file_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that are read together, only the one that lost a record is set aside."""
    other = file_of(tmp_path, THREE.replace("bob", "dan").encode(), CSV, "other")
    files = [(_three(tmp_path, "csv"), NOON), (other, NOON + TICK)]
    _lossy(monkeypatch, "csv_relation", _loses_bob)
    with duckdb.connect() as connection:
        lost, kept = Staging(connection, EMAIL_EVENTS, "1042", "uk").add_files(files)

    assert isinstance(lost, Unreadable)
    assert kept == 3


def test_a_reader_that_fails_on_whole_files_only_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose count differs is read again part by part, and loaded if it agrees then."""
    times = count()
    _lossy(monkeypatch, "csv_relation", lambda text: text if next(times) else _loses_bob(text))
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")

        assert staging.add_file(_three(tmp_path, "csv"), NOON) == 3


def test_a_line_that_is_lost_between_the_parts_of_a_file_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are taken out of a file must be among its rejects."""
    file = file_of(tmp_path, THREE.replace("open", '"open', 1).encode(), CSV)
    _lossy(monkeypatch, "take_out_torn_lines", lambda torn: torn[1:])
    with duckdb.connect() as connection:
        found = Staging(connection, EMAIL_EVENTS, "1042", "uk").add_file(file, NOON)

    assert isinstance(found, Unreadable)
    assert found.reason == "some of its lines are in none of its parts; please report this"


@pytest.mark.parametrize(
    ("text", "records"),
    [
        (THREE, 3),
        (THREE.rstrip("\n"), 3),
        (THREE + HEADER.upper() + "\n\n" + "dan,open,,\n", 4),
        (THREE + 'dan,open,,"\n\n"\n', 4),
        (THREE + 'dan,open,,5" wide\neve,"open",,"a ""\n"" b"\n', 5),
        (HEADER, 0),
    ],
)
def test_records_are_counted_without_the_reader(text: str, records: int, tmp_path: Path) -> None:
    """Headers and empty lines are no records, and a line break in quotes ends none."""
    assert record_count(file_of(tmp_path, text.encode(), CSV).path, CSV) == records
