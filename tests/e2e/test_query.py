"""`query` prints what SQL reads, exactly, and nothing that it is given can write."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog

from ometria_replica.config import NO_LIMITS
from ometria_replica.errors import ConfigError, QueryError, WarehouseError
from ometria_replica.query_output import (
    Grid,
    as_csv,
    as_json_array,
    as_json_lines,
    as_table,
    grid_of,
)
from ometria_replica.warehouse.queries.run import ask
from tests.e2e.program import SOURCES, invoke, run
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ometria_replica.warehouse.queries.answer import Answer

SECRET = "root:canary"
HOLDER = """
import duckdb, sys
held = duckdb.connect(sys.argv[1])
print('open', flush=True)
input()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a DuckDB file with a table of ten rows."""
    path = tmp_path_factory.mktemp("query") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA ometria")
        connection.execute("CREATE TABLE ometria.t AS SELECT i, 'x' || i AS s FROM range(10) r(i)")
    return path


@pytest.fixture(scope="module")
def database() -> str:
    """Give a database of PostgreSQL with such a table, and with functions that write."""
    name = postgres().new_database()
    postgres().run(
        "CREATE SCHEMA ometria",
        "CREATE TABLE ometria.t AS SELECT i, 'x' || i AS s FROM generate_series(0, 9) r(i)",
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION adds() RETURNS int LANGUAGE sql AS"
        " $$ INSERT INTO ometria.t VALUES (99, 'y'); SELECT 1 $$",
        "CREATE FUNCTION unlocks() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " SET TRANSACTION READ WRITE; INSERT INTO ometria.t VALUES (99, 'y'); RETURN 1; END $$",
        database=name,
    )
    return name


def written(url: str, text: str, form: Callable[[Answer], Any] = as_json_array) -> str:
    """Run a query, and write its answer."""
    with ask(url, text, NO_LIMITS) as answer:
        return "".join(form(answer))


def test_a_table_shows_the_rows_and_says_that_there_are_more(file: Path) -> None:
    """Ten rows are there, three are asked for."""
    found = invoke(
        "query", "FROM ometria.t ORDER BY i DESC", "--limit", "3", "--warehouse", str(file), env={}
    )

    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == [
        "i  s",
        "-  --",
        "9  x9",
        "8  x8",
        "7  x7",
        "",
        "3 rows, and there are more: use --limit, or --csv or --json for all.",
    ]


def test_sql_comes_from_a_file_and_from_standard_input(file: Path, tmp_path: Path) -> None:
    """The same statement, given in three ways, has one answer."""
    text = "SELECT count(*) AS n\nFROM ometria.t; -- all of them\n"
    script = tmp_path / "count.sql"
    script.write_text(text, encoding="utf-8")
    as_argument = invoke("query", text, "--csv", "--warehouse", str(file), env={})
    from_file = invoke("query", "--file", str(script), "--csv", "--warehouse", str(file), env={})
    piped = subprocess.run(
        [sys.executable, "-m", "ometria_replica", "query", "-", "--csv", "--warehouse", str(file)],
        input=text,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert as_argument.stdout == from_file.stdout == piped.stdout == "n\n10\n"


@pytest.mark.parametrize(
    "arguments",
    [(), ("SELECT 1", "--file", "x.sql"), ("SELECT 1", "--csv", "--json"), ("", "--csv")],
    ids=["no SQL", "two statements", "two formats", "empty SQL"],
)
def test_contradictory_arguments_are_refused(file: Path, arguments: tuple[str, ...]) -> None:
    """Nothing is read."""
    found = invoke("query", *arguments, "--warehouse", str(file), env={})

    assert found.exit_code == 2 or isinstance(found.exception, ConfigError)
    assert not found.stdout


def test_all_types_keep_their_digits(file: Path) -> None:
    """Integers, decimals and times are exact; null is null; what JSON lacks is a text."""
    text = """
        SELECT 170141183460469231731687303715884105727::HUGEINT AS large, -1::BIGINT AS less,
        1.10::DECIMAL(18, 2) AS price, 0.1::DOUBLE AS share, 'nan'::DOUBLE AS none, true AS yes,
        '2026-01-01 12:00:00.5+02'::TIMESTAMPTZ AS at, 'infinity'::TIMESTAMPTZ AS never,
        '2026-01-01'::DATE AS day, NULL AS gap, '' AS empty, [1, NULL] AS list,
        {'a': 'x'} AS struct, INTERVAL 1 MONTH AS long, '\\xAA'::BLOB AS bytes,
        DATE '-infinity' AS before, 1 AS less
    """

    (row,) = json.loads(written(f"duckdb:///{file}", text), parse_float=Decimal)

    assert row == {
        "large": 2**127 - 1,
        "less": -1,
        "price": Decimal("1.10"),
        "share": Decimal("0.1"),
        "none": "NaN",
        "yes": True,
        "at": "2026-01-01T10:00:00.500000+00:00",
        "never": "infinity",
        "day": "2026-01-01",
        "gap": None,
        "empty": "",
        "list": [1, None],
        "struct": {"a": "x"},
        "long": "1 month",
        "bytes": "\\xAA",
        "before": "-infinity",
        "less_1": 1,
    }


def test_all_types_of_postgresql_keep_their_digits(database: str) -> None:
    """As in DuckDB; types that the driver does not know are texts of the server's."""
    text = """
        SELECT 12345678901234567890123456789.50::numeric AS price, 'NaN'::numeric AS none,
        '2026-01-01 12:00:00+02'::timestamptz AS at, 'infinity'::timestamptz AS never,
        '-infinity'::date AS before, NULL AS gap, '{"a": 1}'::jsonb AS record,
        '{"a": 1}'::jsonb ? 'a' AS has, interval '1 month' AS long, '$1.50'::money AS paid,
        int4range(1, 2) AS range, ARRAY[1, 2] AS list, true AS yes -- the end
    """

    (row,) = json.loads(written(postgres().url(database), text), parse_float=Decimal)

    assert row == {
        "price": Decimal("12345678901234567890123456789.50"),
        "none": "NaN",
        "at": "2026-01-01T10:00:00+00:00",
        "never": "infinity",
        "before": "-infinity",
        "gap": None,
        "record": '{"a": 1}',
        "has": True,
        "long": "1 mon",
        "paid": "$1.50",
        "range": "[1,2)",
        "list": [1, 2],
        "yes": True,
    }


REFUSED = [
    "INSERT INTO ometria.t VALUES (1, 'a')",
    "DROP TABLE ometria.t",
    "CREATE TEMP TABLE x AS SELECT 1",
    "COPY ometria.t TO '{folder}/out.csv'",
    "ATTACH '{folder}/other.duckdb'",
    "EXPORT DATABASE '{folder}/out'",
    "PRAGMA enable_logging",
    "SET threads = 1",
    "INSTALL httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "BEGIN",
    "SELECT 1; DROP TABLE ometria.t",
]


@pytest.mark.parametrize("text", REFUSED)
def test_duckdb_runs_no_statement_that_writes(file: Path, tmp_path: Path, text: str) -> None:
    """Refused before the file is opened; the file stays byte for byte as it was."""
    before = file.read_bytes()

    with pytest.raises(ConfigError):
        written(f"duckdb:///{file}", text.format(folder=tmp_path))

    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "FROM read_csv('{secret}')",
        "FROM read_text('{secret}')",
        "FROM '{secret}'",
        "FROM glob('{folder}/*')",
        "FROM read_text('http://127.0.0.1:9/x')",
        "FROM sniff_csv('{secret}')",
        "SELECT * FROM text",
        "EXPLAIN ANALYZE DELETE FROM ometria.t",
        "COPY (PIVOT ometria.t ON i USING count(*)) TO '{folder}/out.csv'",
        "CREATE TABLE ometria.x AS PIVOT ometria.t ON i USING count(*)",
        "FROM enable_logging(storage = 'file', storage_path = '{folder}/log')",
    ],
)
def test_duckdb_reads_no_file_and_no_variable_of_the_program(
    file: Path, tmp_path: Path, text: str
) -> None:
    """What the SQL may read is the warehouse, and nothing else on this machine."""
    secret = tmp_path / "passwd"
    secret.write_text(SECRET)
    before = file.read_bytes()

    with pytest.raises(QueryError) as refused:
        written(f"duckdb:///{file}", text.format(secret=secret, folder=tmp_path))

    assert SECRET not in str(refused.value)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [secret]


@pytest.mark.parametrize(
    "text",
    [
        *REFUSED[:5],
        "/* /* */ SELECT */ COPY ometria.t TO PROGRAM 'cat > {folder}/out'",
        "DO $$ BEGIN INSERT INTO ometria.t VALUES (1, 'a'); END $$",
        "COMMIT",
        "SET TRANSACTION READ WRITE",
        "SELECT 1; SELECT 2",
        "SELECT adds()",
        "SELECT unlocks()",
        "SELECT nextval('numbers')",
        "SELECT * INTO ometria.copy FROM ometria.t",
        "WITH gone AS (DELETE FROM ometria.t RETURNING *) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM ometria.t",
        "SELECT set_config('transaction_read_only', 'off', true), adds()",
    ],
)
def test_postgresql_runs_nothing_that_writes(database: str, tmp_path: Path, text: str) -> None:
    """By its first word, or by the server, since the transaction is read only."""
    tmp_path.chmod(0o777)

    with pytest.raises((ConfigError, QueryError)):
        written(postgres().url(database), text.format(folder=tmp_path))

    assert postgres().rows("SELECT count(*) FROM ometria.t", database=database) == [(10,)]
    assert list(tmp_path.iterdir()) == []


def test_quotes_and_comments_of_postgresql_are_read_as_it_reads_them(database: str) -> None:
    """A quote in a comment begins no text, and a comment in a text is no comment."""
    text = "/* don't */ SELECT 'it''s -- ; /*' AS a, $x$ ; $x$ AS b, E'\\';' AS c; -- ' the end"

    found = json.loads(written(postgres().url(database), text))

    assert found == [{"a": "it's -- ; /*", "b": " ; ", "c": "';"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELECT wrong FROM ometria.t", "wrong"),
        ("SELEC 1", "SELEC"),
        ("SELECT i / 0 FROM ometria.none", "ometria.none"),
    ],
)
def test_an_error_of_the_sql_is_told_and_not_logged(
    file: Path, caplog: pytest.LogCaptureFixture, text: str, says: str
) -> None:
    """The warehouse's own words, on standard error alone."""
    with pytest.raises(QueryError) as refused:
        written(f"duckdb:///{file}", text)

    assert says.lower().removeprefix("ometria.") in str(refused.value).lower()
    assert caplog.text == ""


def test_an_error_ends_the_program_with_5(file: Path, tmp_path: Path) -> None:
    """The message is one line, and there is no traceback."""
    ended = run("query", "SELECT 'abc'::INT", "--warehouse", str(file), cwd=tmp_path)

    assert (ended.code, ended.out) == (5, "")
    assert ended.err.startswith("Conversion Error")
    assert len(ended.err.splitlines()) == 1


def test_a_row_that_fails_later_fails_the_query(file: Path, database: str) -> None:
    """The rows before it may be printed, but the JSON has no end, so no reader takes it as all."""
    for url, rows in ((f"duckdb:///{file}", "range(0, 50000)"), (postgres().url(database), None)):
        series = rows or "generate_series(0, 49999)"
        text = f"SELECT CAST(CASE WHEN i = 49000 THEN 'x' ELSE '1' END AS INT) FROM {series} r(i)"
        with pytest.raises(QueryError, match=r"""['"]x['"]"""):
            written(url, text)


def test_a_file_that_is_being_written_is_waited_for_and_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has it: the message names it, and the exit code means to try again."""
    monkeypatch.setattr("ometria_replica.warehouse.engines.duckdb_file.WAIT_SECONDS", 0.1)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(file),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin
    assert holder.stdout
    try:
        holder.stdout.readline()
        with pytest.raises(WarehouseError, match=f"PID {holder.pid}") as busy:
            written(f"duckdb:///{file}", "SELECT 1")
    finally:
        holder.communicate(b"\n")

    assert busy.value.exit_code == 75


def test_a_file_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    """Nor is its folder."""
    with pytest.raises(WarehouseError, match="does not exist"):
        written(f"duckdb:///{tmp_path}/none/x.duckdb", "SELECT 1")

    assert list(tmp_path.iterdir()) == []


def test_a_cloud_is_refused_with_a_sentence() -> None:
    """It names what to use in its place."""
    with pytest.raises(ConfigError, match="does not query snowflake://"):
        written("snowflake://user@account/db", "SELECT 1")


@given(
    st.lists(
        st.tuples(st.none() | st.text(), st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=1
    )
)
def test_csv_and_json_give_back_any_value(rows: list[tuple[str | None, int | None]]) -> None:
    """Python's own readers find each text and each number; CSV has null as an empty field."""
    texts = [None if text is None else text.replace("\0", "") for text, _ in rows]
    rows = [(text, number) for text, (_, number) in zip(texts, rows, strict=True)]

    def answer() -> Any:
        batch = pa.record_batch(
            {"text": pa.array(texts, pa.string()), "n": pa.array([n for _, n in rows], pa.int64())}
        )
        return type("", (), {"names": ("text", "n"), "batches": iter([batch])})

    from_csv = list(csv.reader(io.StringIO("".join(as_csv(answer())), newline="")))
    from_json = json.loads("".join(as_json_array(answer())))
    lines = "".join(as_json_lines(answer())).split("\n")[:-1]

    assert from_csv == [["text", "n"], *([t or "", "" if n is None else str(n)] for t, n in rows)]
    assert [(row["text"], row["n"]) for row in from_json] == rows
    assert [json.loads(line) for line in lines] == from_json


def test_csv_tells_null_from_an_empty_text(file: Path) -> None:
    """As PostgreSQL and DuckDB do, whose COPY reads it back."""
    assert written(f"duckdb:///{file}", "SELECT NULL AS a, '' AS b", as_csv) == 'a,b\n,""\n'


def test_no_cell_steers_a_terminal(file: Path) -> None:
    """Escape sequences, line ends and marks of direction are shown as escapes."""
    text = "SELECT chr(27) || '[2J' || chr(10) || chr(8238) || chr(155) || '1m' AS \"a\x1b[1m\""

    with ask(f"duckdb:///{file}", text, NO_LIMITS) as answer:
        table = as_table(grid_of(answer, 1))

    assert "\\u001b[2J\\n\\u202e\\u009b1m" in table
    assert "\x1b" not in table
    assert "\x1b" not in written(f"duckdb:///{file}", text)


@pytest.mark.parametrize("width", [1, 10, 40, 80])
def test_a_table_fits_its_terminal(width: int) -> None:
    """Texts are cut where they must be; columns that do not fit are counted."""
    names = ("name", "a rather long name of a column", "n", "東京")
    cells: list[list[str | None]] = [["x" * 50, "y" * 9, "1", "東" * 20], [None, "", "22", None]]

    lines = as_table(Grid(names, (False, False, True, False), cells, has_more=False), width=width)

    from rich.cells import cell_len  # noqa: PLC0415 -- for the width of wide characters.

    table, _, notes = lines.partition("\n\n")
    assert all(cell_len(line) <= max(width, 8) for line in table.splitlines())
    assert notes.startswith("2 rows.")
    assert ("did not fit" in notes) == (width < 40)
    assert width == 80 or "…" in table


def test_on_a_terminal_null_is_dim_and_long_texts_are_cut(file: Path, tmp_path: Path) -> None:
    """In a pipe neither is so."""
    text = "SELECT repeat('x', 200) AS long, NULL AS gap"
    main, side = pty.openpty()
    env = {"COLUMNS": "40", "TERM": "xterm"}
    ended = run("query", text, "--warehouse", str(file), cwd=tmp_path, env=env, out=side)
    os.close(side)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    piped = invoke("query", text, "--warehouse", str(file), env=env)

    assert ended.code == 0
    assert "x…  \x1b[2mNULL" in shown
    assert "x" * 200 + "  NULL" in piped.stdout


def test_many_rows_stream_and_a_closed_pipe_ends_the_query(file: Path, tmp_path: Path) -> None:
    """A reader that takes one line of 10 ** 12 gets it at once."""
    text = "SELECT i, repeat('x', 100) AS s FROM range(1000000000000) r(i)"
    with subprocess.Popen(
        [sys.executable, "-m", "ometria_replica", "query", text, "--csv", "--warehouse", str(file)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"i,s\n"
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_postgresql_stops_when_enough_rows_are_read(database: str) -> None:
    """The table has its rows at once, and the server does not compute the others."""
    text = "SELECT generate_series(1, 100000000000) AS i"  # In FROM, it would be computed whole.

    with ask(postgres().url(database), text, NO_LIMITS) as answer:
        grid = grid_of(answer, 2)

    assert (grid.cells, grid.has_more) == ([["1"], ["2"]], True)


TABLES = {
    "t": pa.table({"i": pa.array(range(5), pa.int64()), "s": ["a", "b", "a", None, "c"]}),
    "u": pa.table({"i": pa.array([1, 2], pa.int64())}),
}
JOINED = (
    "SELECT t.i, x.s FROM ometria.t JOIN ometria.u USING (i)"
    " JOIN \"ometria\".\"t\" x ON x.s = t.s AND x.i <> 9 WHERE x.s IN ('a', 'b') ORDER BY t.i, x.i"
)


@pytest.mark.parametrize("kind", ["delta", pytest.param("iceberg", marks=pytest.mark.slow)])
def test_a_lake_answers_joins_and_lets_no_other_file_be_read(tmp_path: Path, kind: str) -> None:
    """A table can be named twice; what is no table of the lake does not exist."""
    if kind == "delta":
        url = f"delta:///{tmp_path}"
        for name, rows in TABLES.items():
            write_deltalake(tmp_path / "ometria" / name, rows)
    else:
        place = f"sqlite:///{tmp_path}/catalog.db"
        url = f"iceberg+{place}?warehouse=file://{tmp_path}"
        catalog = SqlCatalog("default", uri=place, warehouse=f"file://{tmp_path}")
        catalog.create_namespace("ometria")
        for name, rows in TABLES.items():
            catalog.create_table(("ometria", name), rows.schema).append(rows)
        catalog.close()
    (tmp_path / "passwd").write_text(SECRET)

    assert written(url, JOINED, as_csv) == "i,s\n1,b\n2,a\n2,a\n"
    for text in ("FROM ometria.none", f"FROM read_text('{tmp_path}/passwd')"):
        with pytest.raises(QueryError):
            written(url, text)
    with pytest.raises(ConfigError):
        written(url, "DROP VIEW ometria.t")
    for data in tmp_path.rglob("*.parquet"):
        data.unlink()
    with pytest.raises(WarehouseError, match="could not be read to the end") as lost:
        written(url, "FROM ometria.t")
    assert not isinstance(lost.value, QueryError)
