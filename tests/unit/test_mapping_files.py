from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ometria_replica.mapping import Staging
from ometria_replica.records import Dialect, Unreadable
from ometria_replica.tables import EMAIL_EVENTS
from tests.spec import oracle
from tests.spec.page import page_tables
from tests.unit.staged import NOON, file_of, finish, stage_file

if TYPE_CHECKING:
    from ometria_replica.records import FeedFile

PROMISED = next(table for table in page_tables() if table.name == "email_events")
NAMES = ("to_address", "event_type", "dt_occurred", "reason")
CSV = Dialect("csv", columns=NAMES)
HEADER = b"to_address,event_type,dt_occurred,reason\n"
GOOD = b"ann@example.com,open,2026-03-01 10:00:00+00,\n"

TICK = timedelta(microseconds=1)

Cells = tuple[str | None, ...]


def test_a_csv_file_keeps_its_texts(tmp_path: Path) -> None:
    """Cells keep quotes, line breaks, delimiters and spaces; an empty unquoted cell is null."""
    content = HEADER + b'" a@b ",op\'en,2026-03-01,"x""y,\nz"\n"",,2026-03-02,""\n'

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, CSV))

    first, second = staged.rows
    assert (first["email"], first["event_type"], first["bounce_reason"]) == (
        " a@b ",
        "op'en",
        'x"y,\nz',
    )
    assert (second["event_type"], second["event_at"]) == (None, datetime(2026, 3, 2, tzinfo=UTC))
    assert staged.rejects == []


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        (b"bob@example.com,open\n", "bob@example.com,open"),
        (b"bob@example.com,open,2026-03-01,,,more\n", "bob@example.com,open,2026-03-01,,,more"),
        (b'bob@example.com,"open"x,2026-03-01,\n', 'bob@example.com,"open"x,2026-03-01,'),
    ],
    ids=["short", "long", "quote"],
)
def test_a_malformed_line_is_rejected_and_the_rest_is_loaded(
    line: bytes, raw: str, tmp_path: Path
) -> None:
    """The reject of a line that cannot be parsed has its number and its text."""
    content = HEADER + GOOD + line + GOOD.replace(b"ann", b"cat")

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, CSV, name="march.csv"))

    assert [row["email"] for row in staged.rows] == ["ann@example.com", "cat@example.com"]
    (reject,) = staged.rejects
    assert reject["raw"].rstrip("\n") == raw
    assert (reject["origin"], reject["position"]) == ("march.csv", 3)
    assert reject["reason"].startswith("line cannot be parsed: ")
    assert (reject["sync_key"], reject["column_name"]) == (None, None)
    assert (staged.counts.records, staged.counts.records_rejected) == (2, 1)


def test_a_line_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    """Invalid bytes reject their own line only."""
    content = HEADER + GOOD + b"b\xffb@example.com,open,2026-03-01,\n" + GOOD.replace(b"ann", b"c")

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, CSV))

    assert [row["email"] for row in staged.rows] == ["ann@example.com", "c@example.com"]
    assert [reject["position"] for reject in staged.rejects] == [3]
    assert staged.counts.records_rejected == 1


def test_a_quote_that_never_closes_loses_nothing_before_it(tmp_path: Path) -> None:
    """Lines before an unclosed quote are loaded; the rest is rejected with its line number."""
    content = HEADER + GOOD + b'bob@example.com,"open,2026-03-01,\n' + GOOD

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, CSV))

    assert [row["email"] for row in staged.rows] == ["ann@example.com"]
    assert [reject["position"] for reject in staged.rejects] == [3]
    assert "bob@example.com" in staged.rejects[0]["raw"]


def test_lines_that_are_not_json_objects_are_rejected(tmp_path: Path) -> None:
    """A broken line, an array and a number are rejected with their line; blank lines are not."""
    good = b'{"to_address":"ann@example.com","event_type":"open"}\n'
    content = good + b'{"to_address":\n' + b"\n[1]\n" + good.replace(b"ann", b"bob") + b"17\n"

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, Dialect("json"), name="m.jsonl"))

    assert [row["email"] for row in staged.rows] == ["ann@example.com", "bob@example.com"]
    assert sorted((r["position"], r["raw"], r["origin"]) for r in staged.rejects) == [
        (2, '{"to_address":', "m.jsonl"),
        (4, "[1]", "m.jsonl"),
        (6, "17", "m.jsonl"),
    ]
    assert {reject["reason"] for reject in staged.rejects} == {"line cannot be parsed: not JSON"}
    assert staged.counts.records == 2
    assert staged.counts.records_rejected == 3


def test_each_line_of_json_is_rejected_for_its_reason(tmp_path: Path) -> None:
    """A byte that is not UTF-8, and a value that is nested without end, reject their own lines."""
    good = '{"to_address":"zoë@example.com","event_type":"open"}\n'.encode()
    damaged, deep = (
        good.replace(b"open", b"\xffopen"),
        b'{"x":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    )
    content = good + damaged + deep + b"\n" + good.replace(b"zo", b"chlo")

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, Dialect("json")))

    assert [row["email"] for row in staged.rows] == ["zoë@example.com", "chloë@example.com"]
    assert sorted((r["position"], r["reason"], r["raw"]) for r in staged.rejects) == [
        (
            2,
            "line cannot be parsed: invalid encoding",
            damaged.decode(errors="replace").rstrip("\n"),
        ),
        (3, "line cannot be parsed: nested too deeply", deep.decode()),
    ]


@pytest.mark.parametrize("file_ends", ["\n", "\r\n"])
def test_a_long_line_that_is_rejected_is_kept_whole(tmp_path: Path, file_ends: str) -> None:
    """DuckDB keeps 10,000 bytes of it; the rest, and the lines of its record, are in the file."""
    long = "é" * 9_000
    surplus, spans = f"{long},open,2026-03-01,t,surplus", f'a,b,c,"{long}\r\n{long}\udcff"'
    lines = ["\ufeff" + HEADER.decode().strip(), surplus, GOOD.decode().strip(), spans, "short"]
    content = "".join(line + file_ends for line in lines).encode("utf-8", "surrogateescape")

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, CSV))

    assert [row["email"] for row in staged.rows] == ["ann@example.com"]
    found = {(reject["position"], reject["raw"].rstrip("\r\n")) for reject in staged.rejects}
    # DuckDB counts records: it does not say in which line of the file one begins.
    assert found == {(2, surplus), (4, spans.replace("\udcff", "\ufffd")), (5, "short")}


def test_two_malformed_files_in_one_batch_keep_their_own_lines(tmp_path: Path) -> None:
    """A rejected line names its file in a batch of several files."""
    bad = HEADER + b"short\n" + GOOD
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        for name in ("a", "b"):
            assert staging.add_file(file_of(tmp_path, bad, CSV, name=name), NOON) == 1
        staged = finish(staging)

    assert sorted((r["origin"], r["position"], r["raw"]) for r in staged.rejects) == [
        ("a", 2, "short"),
        ("b", 2, "short"),
    ]


def test_a_reject_after_an_empty_file_names_its_own_file(tmp_path: Path) -> None:
    """A rejected value names its file, even after an empty file."""
    bad = HEADER + GOOD.replace(b"2026-03-01 10:00:00+00", b"soon")
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        for name, content in (("a", HEADER), ("b", bad), ("c", HEADER), ("d", HEADER)):
            staging.add_file(file_of(tmp_path, content, CSV, name=name), NOON)
        staged = finish(staging)

    assert [(r["origin"], r["position"], r["raw"]) for r in staged.rejects] == [("b", 1, "soon")]


def test_an_unreadable_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file is staged completely or not at all, and the batch continues without it."""
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        junk = file_of(tmp_path, b"PAR1junkPAR1", Dialect("parquet", columns=NAMES), name="junk")
        refused = staging.add_file(junk, NOON)
        late = file_of(
            tmp_path, b'{"to_address":"x"}\n\xff\xff\n', Dialect("json"), name="latin.json"
        )
        staging.add_file(late, NOON)
        assert staging.add_file(file_of(tmp_path, HEADER + GOOD, CSV), NOON) == 1
        staged = finish(staging)

    assert isinstance(refused, Unreadable)
    assert refused.origin.name == "junk"
    assert refused.reason == "it cannot be read as parquet"
    assert "ann@example.com" in [row["email"] for row in staged.rows]
    assert all(reject["origin"] != "junk" for reject in staged.rejects)


def test_a_csv_record_without_an_identity_is_rejected_as_json(tmp_path: Path) -> None:
    """The reject of a CSV record without an identity contains its cells as JSON."""
    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, HEADER + b",open,,why\n", CSV, name="f"))

    (reject,) = staged.rejects
    assert json.loads(reject["raw"]) == {
        "to_address": None,
        "event_type": "open",
        "dt_occurred": None,
        "reason": "why",
    }
    assert (reject["origin"], reject["position"], reject["column_name"]) == ("f", 1, None)


def test_unknown_columns_are_reported(tmp_path: Path) -> None:
    """The result names undocumented columns, except those of old exports."""
    names = ("to_address", "geo_city", "delay_class", "ip_address")
    content = b"a@example.com,Leeds,10,::1\n"

    staged = stage_file(
        EMAIL_EVENTS, file_of(tmp_path, content, Dialect("csv", columns=names, header=False))
    )

    assert staged.counts.unknown_fields == {"ip_address"}
    assert staged.row["email"] == "a@example.com"


def test_parquet_of_any_type_is_read_as_text(tmp_path: Path) -> None:
    """Numbers, times and booleans of a typed Parquet file become text and then convert."""
    moment = datetime(2026, 3, 1, 10, tzinfo=UTC)
    table = pa.table(
        {
            "to_address": ["a@example.com", "b@example.com"],
            "dt_occurred": pa.array([moment, None], pa.timestamp("us", "UTC")),
            "bounce_class": pa.array([10, None], pa.int64()),
            "event_type": [True, False],
        }
    )
    parquet.write_table(table, tmp_path / "made")
    file = file_of(
        tmp_path,
        (tmp_path / "made").read_bytes(),
        Dialect("parquet", columns=tuple(table.column_names)),
    )

    staged = stage_file(EMAIL_EVENTS, file)

    first, second = staged.rows
    assert (first["event_at"], first["bounce_class"], first["event_type"]) == (moment, "10", "true")
    assert (second["event_at"], second["bounce_class"]) == (None, None)


# --- Any cells ---------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
cells = (
    st.none()
    | texts
    | st.sampled_from(
        [
            "",
            "a@example.com",
            "b@example.com",
            ",",
            '"',
            '""',
            "\n",
            "\\",
            " x ",
            "NULL",
            "\0",
            "1.10",
        ]
    )
)
times = st.sampled_from(
    [None, "", "soon", "2026-03-01", "2026-03-01 10:00:00.5+00", "1772359200", "2026-02-30"]
)
rows = st.lists(st.tuples(cells, cells, times, cells), max_size=6)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
@settings(deadline=None)
@given(lines=rows)
def test_any_cells_map_as_the_page_says(
    form: str, lines: list[Cells], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The rows of a file are those of the oracle in each format, for any cells."""
    file = _file(form, lines, tmp_path_factory.getbasetemp())
    records = [
        {name: None if cell is None else cell for name, cell in zip(NAMES, line, strict=True)}
        for line in lines
    ]

    staged = stage_file(EMAIL_EVENTS, file)

    found = {
        row["__sync_key"]: {name: row[name] for name in row if name != "__synced_at"}
        for row in staged.rows
    }
    assert found == oracle.rows_by_key(PROMISED, records, "1042", "uk")
    assert staged.counts.records == len(records)
    assert len([r for r in staged.rejects if r["column_name"] is None]) == len(
        [record for record in records if not oracle.identified(PROMISED, record)]
    )


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(4)), split=st.integers(1, 3))
def test_the_copy_of_the_last_file_in_a_batch_is_kept(
    order: list[int], split: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The copy of an event in the file that was staged last is kept."""
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        for place, start in enumerate(range(0, len(order), split)):
            lines = [
                f'{{"to_address":"a","event_type":"open","reason":"{version}"}}'
                for version in order[start : start + split]
            ]
            content = "\n".join([*lines, ""]).encode()
            file = file_of(tmp_path_factory.getbasetemp(), content, Dialect("json"))
            staging.add_file(file, NOON + place * TICK)
        staged = finish(staging)

    assert staged.row["bounce_reason"] == str(order[-1])
    assert staged.row["__synced_at"] == NOON + (len(order) - 1) // split * TICK
    assert staged.counts.merged == 3


SEMICOLONS = replace(CSV, delimiter=";")
KINDS = {
    "good": (HEADER + GOOD, CSV),
    "another": (HEADER + GOOD.replace(b"ann", b"bob") * 3, CSV),
    "windows": ((HEADER + GOOD).replace(b"\n", b"\r\n"), CSV),
    "empty": (HEADER, CSV),
    "nothing": (b"", Dialect("csv", header=False)),
    "no time": (HEADER + b"ann@example.com,open,soon,\n", CSV),
    "nobody": (HEADER + GOOD + b",open,,\n", CSV),
    "broken": (HEADER + b"short\n" + GOOD + b"too,long,for,its,header\n", CSV),
    "nul": (HEADER + GOOD.replace(b",\n", b",a\0b\n"), CSV),
    "semicolons": ((HEADER + GOOD).replace(b",", b";"), SEMICOLONS),
    "json": (b'{"to_address":"ann@example.com","event_type":"open"}\n', Dialect("json")),
    "unreadable": (HEADER + GOOD.replace(b"\n", b"\r\r\n"), CSV),
    "parquet": (b"PAR1junkPAR1", Dialect("parquet", columns=NAMES)),
}
"""Contents of files and their formats."""


@settings(deadline=None)
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=7))
@example(kinds=["good", "broken", "empty", "no time", "another", "windows", "broken"])
@example(kinds=["broken", "unreadable", "no time", "good"])
def test_files_staged_together_give_the_same_rows_as_alone(
    kinds: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One statement for several files gives the same rows as one statement per file."""
    folder = tmp_path_factory.mktemp("files")
    files = [
        (_kind(kind, folder, f"{place}"), NOON + place * TICK) for place, kind in enumerate(kinds)
    ]
    with duckdb.connect() as one, duckdb.connect() as other:
        alone, together = (Staging(each, EMAIL_EVENTS, "1042", "uk") for each in (one, other))
        found = [alone.add_file(*file) for file in files]

        assert together.add_files(files) == found
        apart, staged = finish(alone), finish(together)

    assert staged.rows == apart.rows
    assert staged.counts == apart.counts
    assert sorted(map(str, staged.rejects)) == sorted(map(str, apart.rejects))


def test_many_files_that_are_read_together_keep_their_order(tmp_path: Path) -> None:
    """However many columns they have: DuckDB joins with long lists, and then in any order."""
    columns = (*CSV.columns, *(f"other_{number}" for number in range(40)))
    dialect = replace(CSV, columns=columns, names=columns)
    header = ",".join(columns)
    rest = "," * 40
    files = []
    for place in range(40):
        lines = [f"ann-{row}@example.com,open,2026-03-01,{place:02}{rest}" for row in range(50)]
        content = "\n".join([header, *lines, ""]).encode()
        files.append((file_of(tmp_path, content, dialect, name=f"{place:02}"), NOON + place * TICK))
    with duckdb.connect(config={"threads": 4}) as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        staging.add_files(files)
        found = connection.execute("SELECT bounce_reason FROM staged ORDER BY rowid").fetchall()

    assert found == sorted(found)


def _kind(kind: str, folder: Path, name: str) -> FeedFile:
    content, dialect = KINDS[kind]
    return file_of(folder, content, replace(dialect, nuls=b"\0" in content), name=name)


def test_files_of_one_format_are_read_by_one_statement(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Consecutive CSV files take one statement, which succeeds for all of these contents."""
    caplog.set_level("INFO")
    kinds = ("good", "another", "windows", "empty", "no time", "nobody", "broken")
    files = [(_kind(kind, tmp_path, kind), NOON + place * TICK) for place, kind in enumerate(kinds)]
    with duckdb.connect() as connection:
        found = Staging(connection, EMAIL_EVENTS, "1042", "uk").add_files(files)

    assert found == [1, 3, 1, 0, 1, 2, 1]
    assert "one by one" not in caplog.text


def test_an_unreadable_file_does_not_block_the_others(tmp_path: Path) -> None:
    """One bad file fails the common statement; then each file is read alone."""
    kinds = ("good", "unreadable", "broken")
    good, odd, late = (_kind(kind, tmp_path, kind) for kind in kinds)
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        found = staging.add_files(
            [(file, NOON + place * TICK) for place, file in enumerate((good, odd, late))]
        )

    assert found == [1, Unreadable(odd.origin, "it cannot be read as csv"), 1]


def test_a_field_can_have_the_name_of_the_file_index(tmp_path: Path) -> None:
    """A column named file_index is an undocumented field, and its rows keep their time."""
    dialect = replace(CSV, columns=(*NAMES, "FILE_INDEX"))
    content = HEADER.replace(b"\n", b",FILE_INDEX\n") + GOOD.replace(b"\n", b",7\n")
    files = [
        (file_of(tmp_path, content, dialect, name=name), NOON + place * TICK)
        for place, name in enumerate("ab")
    ]
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        assert staging.add_files(files) == [1, 1]
        staged = finish(staging)

    assert staged.row["__synced_at"] == files[-1][1]
    assert staged.counts.unknown_fields == {"FILE_INDEX"}


def _file(form: str, lines: list[Cells], folder: Path) -> FeedFile:
    match form:
        case "csv":
            text = "".join(",".join(map(_quoted, line)) + "\n" for line in lines)
            return file_of(folder, HEADER + text.encode(), CSV)
        case "json":
            objects = [json.dumps(dict(zip(NAMES, line, strict=True))) for line in lines]
            return file_of(folder, "\n".join([*objects, ""]).encode(), Dialect("json"))
    columns = {
        name: pa.array([line[place] for line in lines], pa.string())
        for place, name in enumerate(NAMES)
    }
    parquet.write_table(pa.table(columns), folder / "made")
    content = (folder / "made").read_bytes()
    return file_of(folder, content, Dialect("parquet", columns=NAMES))


def _quoted(cell: str | None) -> str:
    return "" if cell is None else '"' + cell.replace('"', '""') + '"'


def test_a_repeated_bad_value_names_its_newest_position(tmp_path: Path) -> None:
    """The reject names the position of the newest copy, which is the one in the table."""
    bad = b"ann@example.com,open,never,\n"

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, HEADER + bad * 500, CSV))

    assert [reject["position"] for reject in staged.rejects] == [500]


# --- Lines with an open quote ------------------------------------------------------------------


QUOTE = '"'
# A text that began with a line break would close the open quote before it, as good CSV.
cells = st.text(st.sampled_from(["a", "é", " ", ",", "\n", "'", "\\"]), max_size=5).filter(
    lambda text: not text.lstrip(", ").startswith("\n")
)


@settings(deadline=None)
@given(reasons=st.lists(cells, min_size=1, max_size=12), place=st.integers(0, 12))
@example(reasons=["a"] * 8, place=2)
@example(reasons=["two\nlines"] * 8, place=2)
@example(reasons=['say "no"'] * 8, place=2)
def test_an_open_quote_costs_its_own_line_and_no_other(reasons: list[str], place: int) -> None:
    """The other rows are loaded, and the line is rejected whole, with its number."""
    rows = [
        f'p{number}@x.test,open,2026-03-01,"{reason.replace(QUOTE, QUOTE * 2)}"\n'
        for number, reason in enumerate(reasons)
    ]
    place %= len(rows) + 1
    torn = 'torn@x.test,open,2026-03-01,"never closed'
    before = "".join([HEADER.decode(), *rows[:place]])
    content = "".join([before, torn, "\n", *rows[place:]])

    with TemporaryDirectory() as folder:
        staged = stage_file(EMAIL_EVENTS, file_of(Path(folder), content.encode(), CSV))

    assert [(row["email"], row["bounce_reason"]) for row in staged.rows] == [
        (f"p{number}@x.test", reason) for number, reason in enumerate(reasons)
    ]
    (reject,) = staged.rejects
    assert (reject["raw"], reject["position"]) == (torn, before.count("\n") + 1)


def test_the_end_of_a_torn_record_is_no_row(tmp_path: Path) -> None:
    """It may have as many cells as the header, which would be those of other columns."""
    torn = b'eve@x.test,"two\nlines","2026-03-01","c","d"\n'
    content = HEADER + GOOD + torn + GOOD.replace(b"ann", b"bob")

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, CSV))

    assert [row["email"] for row in staged.rows] == ["ann@example.com", "bob@example.com"]
    assert [(reject["raw"], reject["position"]) for reject in staged.rejects] == [
        ('eve@x.test,"two', 3),
        ('lines","2026-03-01","c","d"', 4),
    ]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_an_open_quote_costs_no_other_line_whatever_the_line_ends(
    end: bytes, tmp_path: Path
) -> None:
    """Lines after an open quote look like text, and keep the line ends of the file until then."""
    lines = [
        *(HEADER.strip(), GOOD.strip(), b'torn@x.test,open,2026-03-01,"never closed'),
        *(b"eve@example.com,open,2026-03-01,plain", b'bob@example.com,open,2026-03-01,"a, b"'),
    ]
    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, end.join([*lines, b""]), CSV))

    assert [row["email"] for row in staged.rows] == [
        *("ann@example.com", "eve@example.com", "bob@example.com"),
    ]
    (reject,) = staged.rejects
    assert (reject["raw"], reject["position"]) == (lines[2].decode(), 3)


def test_an_open_quote_costs_the_files_beside_it_nothing(tmp_path: Path) -> None:
    """Files of one dialect are read together; then each by itself."""
    torn = HEADER + GOOD + b'bob@example.com,open,2026-03-01,"x\n' + GOOD.replace(b"ann", b"eve")
    files = [
        file_of(tmp_path, content, CSV, name=name)
        for name, content in (("1", HEADER + GOOD), ("2", torn), ("3", HEADER + GOOD))
    ]
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        counts = staging.add_files(
            [(file, NOON + place * TICK) for place, file in enumerate(files)]
        )
        staged = finish(staging)

    assert counts == [1, 2, 1]
    assert {row["email"] for row in staged.rows} == {"ann@example.com", "eve@example.com"}
    assert [(reject["origin"], reject["position"]) for reject in staged.rejects] == [("2", 3)]


# --- Headers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [HEADER, b"\xef\xbb\xbf" + HEADER, HEADER.upper()])
def test_a_header_in_the_middle_is_no_record(again: bytes, tmp_path: Path) -> None:
    """As in a file that was joined of parts; a cell that says the name of a column is a value."""
    odd = b"to_address,open,2026-03-01,\n"
    dialect = replace(CSV, names=NAMES)

    staged = stage_file(
        EMAIL_EVENTS, file_of(tmp_path, HEADER + GOOD + again + odd + HEADER, dialect)
    )

    assert [row["email"] for row in staged.rows] == ["ann@example.com", "to_address"]
    assert staged.rejects == []


@pytest.mark.parametrize(
    "header",
    [
        "reason,dt_occurred,event_type,to_address",
        "\ufeffreason,dt_occurred,event_type,to_address",
        "REASON,DT_OCCURRED,EVENT_TYPE,TO_ADDRESS",
    ],
)
def test_a_header_in_another_order_gives_the_lines_after_it_their_columns(
    header: str, tmp_path: Path
) -> None:
    """Parts that differ in their order may be joined; each reject keeps its place in the file."""
    lines = [
        ",".join(NAMES),
        "a@x.test,open,2026-03-01,first",
        header,
        "second,2026-03-02,click,b@x.test",
        "too,short",
        'torn,2026-03-02,click,"never closed',
        "third,2026-03-03,open,c@x.test",
        ",".join(NAMES),
        "d@x.test,open,2026-03-04,fourth",
        "to_address,dt_occurred,event_type,ip_address",
        "e@x.test,2026-03-05,open,::1",
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    file = file_of(tmp_path, content, replace(CSV, names=NAMES), name="joined.csv")

    staged = stage_file(EMAIL_EVENTS, file)

    assert [
        (row["email"], row["event_type"], row["event_at"].day, row["bounce_reason"])
        for row in staged.rows
    ] == [
        ("a@x.test", "open", 1, "first"),
        ("b@x.test", "click", 2, "second"),
        ("c@x.test", "open", 3, "third"),
        ("d@x.test", "open", 4, "fourth"),
        ("e@x.test", "open", 5, None),
    ]
    assert sorted((reject["position"], reject["raw"]) for reject in staged.rejects) == [
        (5, lines[4]),
        (6, lines[5]),
    ]
    assert staged.counts.unknown_fields == {"ip_address"}
    assert [path.name for path in tmp_path.iterdir()] == ["joined.csv"]


def test_a_joined_file_is_read_beside_others(tmp_path: Path) -> None:
    """The common statement fails, and then each file is read by itself."""
    joined = HEADER + GOOD + b"reason,dt_occurred,event_type,to_address\nx,2026-03-02,open,eve\n"
    files = [
        (file_of(tmp_path, content, replace(CSV, names=NAMES), name=name), NOON)
        for name, content in (("1", HEADER + GOOD), ("2", joined))
    ]
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        counts = staging.add_files(files)
        staged = finish(staging)

    assert counts == [1, 2]
    assert {row["email"] for row in staged.rows} == {"ann@example.com", "eve"}


def test_a_header_that_names_a_column_twice_makes_a_file_unreadable(tmp_path: Path) -> None:
    """Which of the two cells is meant cannot be known; no row of the file is loaded."""
    doubled = HEADER + GOOD + b"dt_occurred,event_type,to_address,event_type\nx,2026-03-02,a,b\n"
    file = file_of(tmp_path, doubled, replace(CSV, names=NAMES))
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")

        assert isinstance(staging.add_file(file, NOON), Unreadable)
        assert finish(staging).rows == []


def test_binary_text_in_parquet_is_text(tmp_path: Path) -> None:
    """Some writers leave out the mark that says so; bytes that are not UTF-8 stay visible."""
    path = tmp_path / "binary.parquet"
    parquet.write_table(
        pa.table(
            {
                "to_address": pa.array(["é@x.test".encode(), b"\xff@x.test"], pa.binary()),
                "event_type": ["open", "open"],
                "dt_occurred": ["2026-03-01", "2026-03-01"],
            }
        ),
        path,
    )
    file = file_of(tmp_path, path.read_bytes(), Dialect("parquet", columns=NAMES[:3]))

    assert [row["email"] for row in stage_file(EMAIL_EVENTS, file).rows] == [
        "é@x.test",
        r"\xFF@x.test",
    ]


def test_json_fields_are_known_in_any_case(tmp_path: Path) -> None:
    """``TO_ADDRESS`` is ``to_address``, and only a name that is none of Ometria's is unknown."""
    record = {"TO_ADDRESS": "ann@x.test", "Event_Type": "open", "DT_OCCURRED": "2026-03-01", "X": 1}

    staged = stage_file(
        EMAIL_EVENTS, file_of(tmp_path, json.dumps(record).encode(), Dialect("json"))
    )

    assert [(row["email"], row["event_type"]) for row in staged.rows] == [("ann@x.test", "open")]
    assert staged.counts.unknown_fields == {"X"}
