from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
import string
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.config import FeedSettings
from ometria_replica.ometria.decompress import UnfitError, decompress
from ometria_replica.ometria.dialect import EMPTY, SAMPLE, choose_dialect
from ometria_replica.ometria.one_per_line import normalise
from ometria_replica.tables import EMAIL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_replica.records import Dialect

DUCKDB = duckdb.connect(config={"threads": 2})
KNOWN = EMAIL_EVENTS.fields
KEY = ("to_address", "event_type", "dt_occurred")
HEADER = ("to_address", "event_type", "dt_occurred", "reason")
ROW = ("a@x.test", "open", "2026-01-01T00:00:00Z", "café")

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip of two members": lambda d: (
        gzip.compress(d[: len(d) // 2]) + gzip.compress(d[len(d) // 2 :])
    ),
    "zstd": zstandard.compress,
    "zip": lambda data: zipped({"events.csv": data}),
    "zip of gzip": lambda data: zipped({"events.csv.gz": gzip.compress(data)}),
}


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def written(rows: Sequence[Sequence[str]], *, backslash: bool = False, **dialect: str) -> str:
    target = io.StringIO()
    escaping = {"doublequote": False, "escapechar": "\\"} if backslash else {}
    # Python's writer leaves a lone \r or \n bare where the lines end in the other.
    spans = any(end in cell for row in rows for cell in row for end in "\r\n")
    quoting = csv.QUOTE_ALL if backslash or spans else csv.QUOTE_MINIMAL
    csv.writer(target, quoting=quoting, **dialect, **escaping).writerows(rows)  # type: ignore[arg-type]
    return target.getvalue()


def prepare(
    data: bytes, folder: Path, required: tuple[str, ...] = KEY, **options: object
) -> Dialect:
    """Prepare a file as ExportFiles prepares a downloaded one."""
    chosen = FeedSettings("folder", **options)  # type: ignore[arg-type]
    path = folder / "file"
    path.write_bytes(data)
    decompress(path, compression=chosen.compression, encoding=chosen.encoding, max_bytes=10**9)
    dialect = choose_dialect(path, chosen, KNOWN, required)
    normalise(path, dialect)
    return dialect


def read_back(path: Path, dialect: Dialect) -> list[tuple[str, ...]]:
    """Read a plain file with DuckDB as the mapping does; fail if it rejects a line."""
    with DUCKDB.cursor() as connection:
        rows = connection.execute(
            "SELECT * FROM read_csv($path, auto_detect=false, header=$header, delim=$delimiter,"
            " quote=$quote, escape=$escape, columns=$columns, nullstr=$null, skip=$skip,"
            " max_line_size=16777216, store_rejects=true, rejects_limit=0)",
            {
                "path": str(path),
                "header": dialect.header,
                "delimiter": dialect.delimiter,
                "quote": dialect.quote,
                "escape": dialect.escape,
                "columns": dict.fromkeys(dialect.columns, "VARCHAR"),
                "null": dialect.null,
                "skip": dialect.skip,
            },
        ).fetchall()
        assert connection.execute("SELECT count(*) FROM reject_errors").fetchone() == (0,)
        connection.execute("DROP TABLE reject_errors; DROP TABLE reject_scans")
    return [tuple(cell or "" for cell in row) for row in rows]


def csv_of(*rows: Sequence[str], lineterminator: str = "\n") -> bytes:
    return written([HEADER, *rows], lineterminator=lineterminator).encode()


# --- What comes back ---------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(["", '"', "\n", "\r\n", "\r", ",", ";", "\t", "|", "\\", '\\"', "é", "😀"]),
    st.sampled_from(['",\n"', "NULL", "\\N", " x ", "'", "a,b;c", '""', "\x00", "#1"]),
    st.text(st.characters(codec="utf-8"), max_size=12),
)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    lineterminator=st.sampled_from(["\n", "\r\n", "\r"]),
    compression=st.sampled_from(list(COMPRESS)),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    order=st.permutations(range(4)),
)
def test_every_cell_is_read_as_it_was_written(
    *,
    rows: list[tuple[str, ...]],
    delimiter: str,
    lineterminator: str,
    compression: str,
    encoding: str,
    order: list[int],
) -> None:
    """With any dialect, encoding and compression, DuckDB reads the same cells."""
    table = [[line[place] for place in order] for line in (HEADER, *rows)]
    text = written(table, delimiter=delimiter, lineterminator=lineterminator)
    with TemporaryDirectory() as folder:
        dialect = prepare(COMPRESS[compression](text.encode(encoding)), Path(folder))
        back = read_back(Path(folder, "file"), dialect)

    assert dialect.columns == tuple(table[0])
    assert dialect.delimiter == delimiter
    assert back == [tuple(line) for line in table[1:]]


@settings(deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=6))
def test_a_backslash_that_escapes_differs_from_one_that_does_not(
    rows: list[tuple[str, ...]],
) -> None:
    r"""A file that writes a quote as ``\"`` gives back its cells, backslashes included."""
    table = [HEADER, ('he said "so" twice', "", "", ""), *rows]
    with TemporaryDirectory() as folder:
        data = written(table, backslash=True, lineterminator="\n").encode()
        dialect = prepare(data, Path(folder))
        back = read_back(Path(folder, "file"), dialect)

    assert dialect.escape == "\\"
    assert back == [tuple(row) for row in table[1:]]


def test_a_backslash_before_a_doubled_quote_is_a_backslash(tmp_path: Path) -> None:
    """Windows paths and JSON in cells do not hide that a file doubles its quotes."""
    rows = [("C:\\", '{"a": "\\"b\\""}', '\\"', "x"), ('ends in \\"', "", "", '"\\')]
    dialect = prepare(csv_of(*rows), tmp_path)

    assert dialect.escape == '"'
    assert read_back(tmp_path / "file", dialect) == rows


def test_line_ends_may_be_mixed(tmp_path: Path) -> None:
    """Files assembled on several systems are read completely; line ends in cells stay."""
    cells = [("1", "x\r\ny", "z\r", ""), ("2", "\n", "", "a\nb"), ("3", "", "", '"\r\n"')]
    for ends in itertools.product(["\n", "\r\n", "\r"], repeat=3):
        lines = [written([HEADER], lineterminator="\r\n")]
        lines += [written([row], lineterminator=end) for row, end in zip(cells, ends, strict=True)]
        dialect = prepare("".join(lines).encode(), tmp_path)

        assert read_back(tmp_path / "file", dialect) == cells


def test_a_line_end_at_the_edge_of_a_chunk_is_one_line_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any size of chunks, a file with mixed line ends becomes the same."""
    rows = [("1", 'a"b', "x\r\ny", ""), ("2", "\r\n", '""', "é"), ("3", "", "", "")]
    data = written([HEADER], lineterminator="\r\n") + written(rows, lineterminator="\n")
    for size in range(1, 40):
        monkeypatch.setattr("ometria_replica.ometria.one_per_line.CHUNK", size)
        monkeypatch.setattr("ometria_replica.ometria.decompress.CHUNK", size)
        dialect = prepare(gzip.compress(data.encode()), tmp_path)

        assert read_back(tmp_path / "file", dialect) == rows


@pytest.mark.slow
def test_a_large_file_with_lines_inside_cells_is_read_in_parallel(tmp_path: Path) -> None:
    """Cells that look like rows do not mislead threads that start in the middle of a file."""
    chance = random.Random(7)
    bait = ['x","y\n1,"z', "\n", "a\n1,2,3,4\nb", '""","","",""\n', "plain", "1\r\n2", "\\"]
    rows = [
        (str(number), chance.choice(bait), "p" * chance.randint(0, 90), chance.choice(bait))
        for number in range(600_000)
    ]
    dialect = prepare(csv_of(*rows), tmp_path)

    assert (tmp_path / "file").stat().st_size > 32 << 20
    assert read_back(tmp_path / "file", dialect) == rows


def test_a_cell_of_three_megabytes_is_read(tmp_path: Path) -> None:
    """A line may be longer than DuckDB's default of 2 MB."""
    row = ("a", "x" * 3_000_000, "b", "")
    dialect = prepare(csv_of(row, ROW), tmp_path)

    assert read_back(tmp_path / "file", dialect) == [row, ROW]


# --- Encodings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_in_any_encoding_is_detected(tmp_path: Path, encoding: str) -> None:
    """A byte order mark or the pattern of zero bytes shows the encoding."""
    dialect = prepare(csv_of(ROW).decode().encode(encoding), tmp_path)

    assert read_back(tmp_path / "file", dialect) == [ROW]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_western_text_is_detected_even_if_its_first_accent_comes_late(
    tmp_path: Path, encoding: str
) -> None:
    """Three megabytes of ASCII do not make the é after them UTF-8."""
    rows = [("a@x.test", "open", "t", "x" * 1000)] * 3000 + [ROW]
    dialect = prepare(csv_of(*rows).decode().encode(encoding), tmp_path)

    assert read_back(tmp_path / "file", dialect)[-1] == ROW


def test_one_damaged_character_does_not_garble_the_others(tmp_path: Path) -> None:
    """UTF-8 with a broken line stays UTF-8: the mapping rejects that line."""
    data = csv_of(ROW, ROW, ROW) + b"b,click,t,\xff\n"
    prepare(data, tmp_path)

    assert (tmp_path / "file").read_bytes() == data


def test_the_setting_encoding_overrides_detection(tmp_path: Path) -> None:
    """Cyrillic Windows text cannot be distinguished from Western, so it needs the setting."""
    row = ("a@x.test", "open", "t", "почта")
    dialect = prepare(csv_of(row).decode().encode("cp1251"), tmp_path, encoding="windows-1251")

    assert read_back(tmp_path / "file", dialect) == [row]


# --- Headers -----------------------------------------------------------------------------------


def test_a_header_may_be_spelled_in_another_way(tmp_path: Path) -> None:
    """Case, spaces and quotes are ignored; unknown, empty and repeated names stay distinct."""
    header = b' To Address ,"EVENT_TYPE",dt-occurred,,Other,other,,\n'
    dialect = prepare(header + b"a,b,c,d,e,f,g,h\n", tmp_path)

    assert dialect.columns == (
        *KEY,
        "column_4",
        "Other",
        "other_2",
        "column_7",
        "column_8",
    )
    assert read_back(tmp_path / "file", dialect) == [tuple("abcdefgh")]


def test_the_exact_name_takes_precedence_over_a_similar_one(tmp_path: Path) -> None:
    """``reason`` is the reason, even if a ``Reason`` comes before it."""
    dialect = prepare(b"Reason,to_address,event_type,dt_occurred,reason\n1,2,3,4,5\n", tmp_path)

    assert dialect.columns == ("Reason_2", *KEY, "reason")


def test_a_header_in_single_quotes_means_cells_in_single_quotes(tmp_path: Path) -> None:
    """The first name decides."""
    dialect = prepare(b"'to_address';'event_type';'dt_occurred'\n'a;b';'it''s';'\"'\n", tmp_path)

    assert read_back(tmp_path / "file", dialect) == [("a;b", "it's", '"')]


def test_blank_lines_before_the_header_are_not_the_header(tmp_path: Path) -> None:
    """DuckDB would take the first of them for the header."""
    dialect = prepare(b"\n\r\n" + csv_of(ROW), tmp_path)

    assert read_back(tmp_path / "file", dialect) == [ROW]


def test_without_a_header_the_settings_name_the_columns(tmp_path: Path) -> None:
    """No column is guessed from its position."""
    data = written([ROW, ROW], delimiter=";").encode()
    dialect = prepare(data, tmp_path, columns=HEADER)

    assert not dialect.header
    assert dialect.delimiter == ";"
    assert read_back(tmp_path / "file", dialect) == [ROW, ROW]


def test_a_header_takes_precedence_over_the_columns_of_the_settings(tmp_path: Path) -> None:
    """A file names its own columns, unless the settings say otherwise."""
    backwards = HEADER[::-1]

    assert prepare(csv_of(ROW), tmp_path, columns=backwards).columns == HEADER
    insisted = prepare(csv_of(ROW), tmp_path, columns=backwards, header=True)
    assert insisted.columns == backwards
    assert insisted.header


def test_only_the_setting_null_marks_a_missing_value(tmp_path: Path) -> None:
    r"""``NULL`` and ``\N`` are text unless a setting says otherwise."""
    assert prepare(csv_of(ROW), tmp_path).null == ""
    assert prepare(csv_of(ROW), tmp_path, null="\\N").null == "\\N"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\n\n",
        b"  \r\n",
        gzip.compress(b"", mtime=0),
        zstandard.compress(b""),
    ],
)
def test_an_empty_file_is_readable_and_has_no_rows(tmp_path: Path, data: bytes) -> None:
    """An empty file is no error."""
    assert prepare(data, tmp_path) == EMPTY


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_header_alone_is_a_table_without_rows(tmp_path: Path, end: bytes) -> None:
    """A quiet hour's export."""
    dialect = prepare(",".join(HEADER).encode() + end, tmp_path)

    assert dialect.columns == HEADER
    assert read_back(tmp_path / "file", dialect) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_unreadable_wherever_the_damage_is(method: int, tmp_path: Path) -> None:
    """Names, sizes, offsets and each kind of compression have errors of their own."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("é.csv", csv_of(ROW))
    whole = target.getvalue()
    refused = 0
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            prepare(damaged, tmp_path)
        except UnfitError:
            refused += 1

    assert refused > len(whole) / 2


QUOTED = b'"to_address","event_type","dt_occurred","reason%s'
ROWS = b'\r\n"a@x.test","open","2026-01-01",",z"\r\n"b@x.test","open","2026-01-01",""\r\n'


@pytest.mark.parametrize(
    "last", [b"", b'"x', b'"\x1a', b'\r"', b'" "', b'\r\n"a@x.test","open","2026-01-01","z"']
)
@pytest.mark.parametrize("rows", [ROWS, ROWS.replace(b'"', b"")])
def test_a_header_with_an_open_quote_is_unreadable(
    last: bytes, rows: bytes, tmp_path: Path
) -> None:
    """The rows that it would take in are not lost in silence, and no name of a column holds one."""
    with pytest.raises(UnfitError, match=r"^has a header with a quote that is not closed") as error:
        prepare(QUOTED % last + rows, tmp_path)

    assert "x.test" not in str(error.value)


@pytest.mark.parametrize("last", [b'"', b'" ', b'\nwhy"', b'\r\nwhy"', b' ""why"""'])
def test_a_name_in_quotes_may_hold_anything(last: bytes, tmp_path: Path) -> None:
    """Also line breaks and quotes, and spaces may follow it."""
    header = QUOTED % last
    data = header + (ROWS if b"\r\n" in last else ROWS.replace(b"\r", b""))

    assert len(read_back(tmp_path / "file", prepare(data, tmp_path))) == 2


@pytest.mark.parametrize("above", [b"sep=,\n", b"Export of email events\n\n", b"a,b\r\n"])
def test_lines_above_the_header_are_skipped(above: bytes, tmp_path: Path) -> None:
    """Excel's ``sep=,`` or a title; the header names at least two columns of the table."""
    dialect = prepare(above + csv_of(ROW), tmp_path)

    assert dialect.columns == HEADER
    assert read_back(tmp_path / "file", dialect) == [ROW]


def test_the_first_records_may_say_nothing(tmp_path: Path) -> None:
    """An empty object or metadata is a record like any other; the next ones tell what they are."""
    lines = b'{}\n{"exported": 1}\n' + RECORDS[0].encode() + b"\n"

    assert prepare(lines, tmp_path).format == "json"
    assert prepare(b'{"TO_ADDRESS": "a"}\n', tmp_path).format == "json"


def test_a_header_of_any_length_is_read_whole(tmp_path: Path) -> None:
    """It may be longer than the sample from which the delimiter is detected."""
    others = [f"other_{number}".ljust(1000, "x") for number in range(100)]
    header = ",".join([*others, *HEADER]).encode()
    dialect = prepare(header + b"\n" + b"," * (len(others) + len(HEADER) - 1) + b"\n", tmp_path)

    assert len(header) > SAMPLE
    assert dialect.columns == (*others, *HEADER)


# --- JSON and Parquet --------------------------------------------------------------------------

RECORDS = [
    '{"to_address": "a@x.test", "n": 1.10, "deep": {"a": [1, 2]}}',
    '{"to_address": "b]}, {\\"", "n": 1e400}',
    '{"to_address": "\\ud83d\\ude00 é"}',
]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(RECORDS),
        "[" + ",".join(RECORDS) + "]",
        " [\n  " + ",\n  ".join(RECORDS) + "\n]\n",
        "[" + ",".join(json.dumps(json.loads(r), indent=2) for r in RECORDS[::2]) + "]",
        json.dumps(json.loads(RECORDS[0]), indent=4) + "\n" + RECORDS[2],
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_json_becomes_json_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, chunk: int
) -> None:
    """Lines, arrays and records that span lines all become one record per line."""
    monkeypatch.setattr("ometria_replica.ometria.json_values.CHUNK", chunk)
    expected = json.loads(text) if text.lstrip().startswith("[") else None
    dialect = prepare(text.encode(), tmp_path)
    lines = (tmp_path / "file").read_text().splitlines()

    assert dialect.format == "json"
    assert len(lines) in {2, 3}
    records = [json.loads(line) for line in lines]
    assert records == (expected or [json.loads(r) for r in RECORDS if json.loads(r) in records])


DEEP = '{"x": "]\\"[", "y": ' + "[" * 60_000 + "]" * 60_000 + "}"


@pytest.mark.parametrize("chunk", [1_000, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join([RECORDS[0], DEEP, RECORDS[1]]) + "]",
        "\n".join([RECORDS[0], DEEP, RECORDS[1]]),
        json.dumps(json.loads(RECORDS[0]), indent=1) + "\n" + DEEP + "\n" + RECORDS[1],
    ],
    ids=["an array", "lines", "records that span lines"],
)
def test_a_record_that_is_nested_without_end_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, chunk: int
) -> None:
    """Its end is found by its brackets, so that only its line is set aside."""
    monkeypatch.setattr("ometria_replica.ometria.json_values.CHUNK", chunk)
    prepare(text.encode(), tmp_path)
    first, deep, last = (tmp_path / "file").read_text().splitlines()

    assert deep == DEEP
    assert [json.loads(line) for line in (first, last)] == [json.loads(r) for r in RECORDS[:2]]


def test_one_damaged_character_does_not_garble_the_only_other(tmp_path: Path) -> None:
    """The file is UTF-8: its line alone is set aside, by the mapping."""
    data = "to_address,event_type,dt_occurred\nzoë@x.test,open,t\n".encode() + b"b,cl\xffick,t\n"
    prepare(data, tmp_path)

    assert (tmp_path / "file").read_bytes() == data


def test_an_array_that_ends_in_a_nested_record_is_truncated(tmp_path: Path) -> None:
    """Brackets in a text do not close it."""
    for text in (f"[{DEEP[:-9]}", f'[{DEEP[:-70_000]}"]]]]]]'):
        with pytest.raises(UnfitError, match="is truncated"):
            prepare(text.encode(), tmp_path)


@pytest.mark.parametrize("first", ["{}", '{"exported": "2026-03-01", "rows": 2}'])
def test_a_first_record_about_the_file_hides_no_records_that_span_lines(
    tmp_path: Path, first: str
) -> None:
    """Records in one line and in several can stand in one file."""
    spanning = json.dumps(json.loads(RECORDS[0]), indent=2)
    prepare(f"{first}\n{spanning}\n{spanning}".encode(), tmp_path)
    lines = (tmp_path / "file").read_text().splitlines()

    assert [json.loads(line) for line in lines] == [
        json.loads(r) for r in (first, *RECORDS[:1] * 2)
    ]


def test_a_torn_line_does_not_join_others(tmp_path: Path) -> None:
    """Lines stay as they are where they are no records that span lines."""
    text = "\n".join([RECORDS[0], RECORDS[1][:9], RECORDS[2]])
    prepare(text.encode(), tmp_path)

    assert (tmp_path / "file").read_text() == text


def test_an_array_keeps_the_text_of_its_numbers(tmp_path: Path) -> None:
    """``1.10`` is part of a key, and stays ``1.10``."""
    prepare(f"[{RECORDS[0]},{RECORDS[1]}]".encode(), tmp_path)

    assert (tmp_path / "file").read_text() == f"{RECORDS[0]}\n{RECORDS[1]}\n"


def test_parquet_is_not_rewritten_and_names_its_columns(tmp_path: Path) -> None:
    """Also inside gzip, with the names spelled as the table has them."""
    target = io.BytesIO()
    pq.write_table(
        pa.table({"TO_ADDRESS": ["a"], "event_type": ["b"], "dt_occurred": ["c"]}), target
    )
    dialect = prepare(gzip.compress(target.getvalue()), tmp_path)

    assert dialect.format == "parquet"
    assert dialect.columns == KEY
    assert (tmp_path / "file").read_bytes() == target.getvalue()


# --- Poison ------------------------------------------------------------------------------------

GOOD = csv_of(*[ROW] * 5000)
PARQUET = io.BytesIO()
pq.write_table(pa.table({name: ["x"] for name in KEY}), PARQUET)
FLIPPED = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(GOOD))
FLIPPED[len(FLIPPED) // 2] ^= 0xFF
POISON = {
    "a truncated gzip": (gzip.compress(GOOD)[:-9], "truncated"),
    "a gzip of one byte less": (gzip.compress(GOOD)[:-1], "truncated"),
    "a gzip with a wrong checksum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "damaged"),
    "a gzip with a tail": (gzip.compress(GOOD) + b"tail", "damaged"),
    "a truncated zstd": (zstandard.compress(GOOD)[:-5], "truncated or damaged"),
    "a damaged zstd": (bytes(FLIPPED), "truncated or damaged"),
    "a truncated zip": (zipped({"a.csv": GOOD})[:-30], "truncated or damaged"),
    "a zip of two": (zipped({"a.csv": GOOD, "b.csv": GOOD}), "a zip of 2 files"),
    "a workbook": (zipped({"[Content_Types].xml": b"", "xl": b""}), "Excel"),
    "an HTML page": (b"\n<!DOCTYPE html><html>SECRET</html>", "HTML"),
    "an XML error": (b'<?xml version="1.0"?><Error>SECRET</Error>', "XML"),
    "random bytes": (random.Random(3).randbytes(5000), "no known format"),
    "bzip2": (b"BZh91AY&SY", "bzip2"),
    "truncated Parquet": (PARQUET.getvalue()[:-20], "not complete Parquet"),
    "no header": (written([ROW]).encode(), "no header"),
    "a header without the key": (b"to_address,reason\na,SECRET\n", "event_type, dt_occurred"),
    "a header with a column twice": (b"to_address,to_address,event_type,dt_occurred\n", "twice"),
    "a truncated array": (b'[{"to_address": "a"}, {"to_', "truncated"),
    "an array without its end": (b'[{"to_address": "a"},', "truncated"),
    "a strange object": (b'{"error": "SECRET"}', "none of the fields"),
    "half of UTF-16": (csv_of(ROW).decode().encode("utf-16")[:-1], "truncated"),
}


@pytest.mark.parametrize(("data", "reason"), POISON.values(), ids=POISON)
def test_poison_is_refused_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    """Each reason names the problem; none quotes the content, or leaves a file behind."""
    with pytest.raises(UnfitError, match=reason) as caught:
        prepare(data, tmp_path)

    assert "SECRET" not in str(caught.value)
    assert "x.test" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path) -> None:
    """A file that expands beyond the limit is refused before it fills the disk."""
    path = tmp_path / "file"
    for name in ("gzip", "zstd", "zip"):
        path.write_bytes(COMPRESS[name](b"\0" * 50_000_000))
        with pytest.raises(UnfitError, match="expands to more than 10,000,000 bytes"):
            decompress(path, max_bytes=10_000_000)


def test_the_setting_compression_is_obeyed(tmp_path: Path) -> None:
    """``gzip`` refuses a file that is not gzip; ``none`` leaves even a gzip file unchanged."""
    with pytest.raises(UnfitError, match="is not gzip"):
        prepare(csv_of(ROW), tmp_path, compression="gzip")
    with pytest.raises(UnfitError, match="binary"):
        prepare(gzip.compress(random.Random(1).randbytes(3000)), tmp_path, compression="none")


@settings(deadline=None)
@given(data=st.binary(max_size=400) | st.text(string.printable, max_size=200).map(str.encode))
def test_any_bytes_lead_to_a_dialect_or_a_reason(data: bytes) -> None:
    """No content of a bucket causes a crash."""
    with TemporaryDirectory() as folder:
        for attempt in (data, b"to_address,event_type,dt_occurred\n" + data):
            try:
                prepare(attempt, Path(folder))
            except UnfitError as unfit:
                assert str(unfit)  # noqa: PT017 -- Either end is fine; a crash is not.
