"""A selection means the same rows in every language that it is written in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.expressions.visitors import bind
from pyiceberg.io.pyarrow import expression_to_pyarrow, pyarrow_to_schema
from pyiceberg.table.name_mapping import NameMapping

from ometria_replica import sql
from ometria_replica.mapping import quoted
from ometria_replica.selection import (
    ALL,
    Dialect,
    Selection,
    Span,
    Times,
    Values,
    chunks,
    join_spans,
    joined,
    to_arrow,
    to_iceberg,
    to_sql,
)
from ometria_replica.warehouse.remotes.delta import predicate

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIELDS: dict[str, pa.DataType] = {
    "__source_id": pa.string(),
    "email": pa.string(),
    "at": pa.timestamp("us", "UTC"),
    "number": pa.int64(),
}
SCHEMA = pa.schema(FIELDS)
NAMES = NameMapping.model_validate(
    [{"field-id": place, "names": [name]} for place, name in enumerate(FIELDS, start=1)]
)

texts = st.sampled_from(["uk", "o'neil", "us", "a\\b", "Å", ""])
moments = st.integers(0, 40).map(lambda hours: NOON + hours * HOUR)
spans = (
    st.lists(st.tuples(moments, moments), max_size=3)
    .map(lambda pairs: [Span(min(pair), max(pair)) for pair in pairs])
    .map(tuple)
)
selections = st.builds(
    Selection,
    st.none() | texts,
    st.none() | st.builds(Values, st.just("email"), st.lists(texts, max_size=3).map(tuple)),
    st.none() | st.builds(Times, st.just("at"), spans, st.booleans()),
)
rows = st.lists(
    st.tuples(texts, st.none() | texts, st.none() | moments), min_size=1, max_size=12
).map(
    lambda drawn: pa.table(
        [
            pa.array([row[0] for row in drawn], pa.string()),
            pa.array([row[1] for row in drawn], pa.string()),
            pa.array([row[2] for row in drawn], pa.timestamp("us", "UTC")),
            pa.array(range(len(drawn)), pa.int64()),
        ],
        schema=SCHEMA,
    )
)


def fits(selection: Selection, row: dict[str, Any]) -> bool:
    """Say in plain Python whether a row fits."""
    if selection.source_id is not None and row["__source_id"] != selection.source_id:
        return False
    if selection.values is not None and row["email"] not in selection.values.texts:
        return False
    times, at = selection.times, row["at"]
    if times is None:
        return True
    if at is None:
        return times.untimed
    return any(span.first <= at <= span.last for span in times.spans)


def expected(selection: Selection, table: pa.Table) -> list[int]:
    return [row["number"] for row in table.to_pylist() if fits(selection, row)]


@given(selections, rows)
def test_sql_selects_the_rows(selection: Selection, table: pa.Table) -> None:
    """DuckDB's SQL has no parameters, and finds the rows that fit."""
    condition = to_sql(selection, sql.DIALECT)
    with duckdb.connect() as connection:
        connection.register("rows", table)
        found = connection.execute(
            f"SELECT number FROM rows WHERE {condition.text} ORDER BY number"
        ).fetchall()

    assert condition.parameters == ()
    assert [number for (number,) in found] == expected(selection, table)


@given(selections, rows)
def test_sql_with_parameters_selects_the_rows(selection: Selection, table: pa.Table) -> None:
    """A text that a dialect might have to escape becomes a parameter, and no other does."""
    dialect = Dialect(name=quoted, moment=lambda at: f"TIMESTAMPTZ '{at.isoformat()}'")
    condition = to_sql(selection, dialect)
    with duckdb.connect() as connection:
        connection.register("rows", table)
        found = connection.execute(
            f"SELECT number FROM rows WHERE {condition.text} ORDER BY number",
            list(condition.parameters),
        ).fetchall()

    assert set(condition.parameters) <= {"o'neil", "a\\b", "Å"}
    assert [number for (number,) in found] == expected(selection, table)


@given(selections, rows)
def test_an_arrow_filter_selects_the_rows(selection: Selection, table: pa.Table) -> None:
    """A filter of pyarrow's datasets finds the rows that fit; all rows need no filter."""
    found = ds.dataset(table).to_table(filter=to_arrow(selection))

    assert found.column("number").to_pylist() == expected(selection, table)
    assert (to_arrow(selection) is None) == (selection == ALL)


@given(selections, rows)
def test_an_iceberg_expression_selects_the_rows(selection: Selection, table: pa.Table) -> None:
    """The library's own translation of the expression finds the rows that fit."""
    schema = pyarrow_to_schema(SCHEMA, name_mapping=NAMES)
    bound = bind(schema, to_iceberg(selection), case_sensitive=True)
    found = ds.dataset(table).to_table(filter=expression_to_pyarrow(bound))

    assert found.column("number").to_pylist() == expected(selection, table)


@pytest.mark.parametrize(
    "selection",
    [
        Selection("o'neil"),
        Selection("uk", times=Times("at", (Span(NOON, NOON + HOUR),))),
        Selection(times=Times("at", (Span(NOON, NOON), Span(NOON + 2 * HOUR, NOON + 9 * HOUR)))),
        Selection(times=Times("at", (), untimed=True)),
        Selection(times=Times("at")),
        Selection("uk", Values("email", ("o'neil", ""))),
    ],
)
def test_a_delta_predicate_selects_the_rows(selection: Selection, tmp_path: Any) -> None:
    """DataFusion finds the rows that fit, in a table with a row of every kind."""
    sources, times = ("uk", "o'neil"), (NOON, NOON + HOUR, NOON + 5 * HOUR, None)
    drawn = [(s, e, t) for s in sources for e in ("o'neil", "", None) for t in times]
    columns = [*zip(*drawn, strict=True), range(len(drawn))]
    arrays = [pa.array(c, k) for c, k in zip(columns, SCHEMA.types, strict=True)]
    table = pa.table(arrays, schema=SCHEMA)
    write_deltalake(tmp_path, table)

    query = QueryBuilder().register("found", DeltaTable(tmp_path))
    found = query.execute(f"SELECT number FROM found WHERE {predicate(selection)}")

    numbers: list[Any] = pa.table(found)["number"].to_pylist()
    assert sorted(numbers) == expected(selection, table)


def test_all_rows_need_no_predicate() -> None:
    """delta-rs takes none for a whole table."""
    assert predicate(ALL) is None


@given(selections, rows, st.integers(1, 3))
def test_joined_spans_lose_no_row(selection: Selection, table: pa.Table, most: int) -> None:
    """A selection with fewer spans holds at least the same rows."""
    times = selection.times
    if times is not None:
        ordered = sorted(times.spans, key=lambda span: span.first)
        apart = [s for n, s in enumerate(ordered) if not n or s.first > ordered[n - 1].last]
        selection = Selection(selection.source_id, times=Times("at", tuple(apart), times.untimed))

    fewer = joined(selection, most)

    assert set(expected(selection, table)) <= set(expected(fewer, table))
    assert fewer.times is None or len(fewer.times.spans) <= most


def test_the_closest_spans_are_joined_first() -> None:
    """Of three spans, those with the smaller gap become one."""
    at = partial(lambda hours: NOON + hours * HOUR)
    apart = [Span(at(0), at(1)), Span(at(2), at(3)), Span(at(9), at(10))]

    assert join_spans(apart, 2) == (Span(at(0), at(3)), Span(at(9), at(10)))
    assert join_spans(apart, 3) == tuple(apart)
    assert join_spans([], 3) == ()


def test_many_values_become_several_statements() -> None:
    """Texts that need no parameter go in large parts, others in small ones; none is lost."""
    plain = Selection("uk", Values("__sync_key", tuple(f"{n:032x}" for n in range(12))))
    odd = Selection("uk", Values("email", tuple(f"o'neil{n}" for n in range(12))))

    assert [len(part.values.texts) for part in chunks(plain, 5, 2) if part.values] == [5, 5, 2]
    assert [len(part.values.texts) for part in chunks(odd, 5, 2) if part.values] == [2] * 6
    assert list(chunks(ALL, 5, 2)) == [ALL]
