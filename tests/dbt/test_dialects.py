"""
The dbt package in the SQL of the cloud warehouses, none of which runs here.

Each statement is parsed in the dialect of its warehouse, translated by sqlglot, and run by DuckDB.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import sqlglot
from sqlglot import ErrorLevel

from tests.dbt.dialects import Dialect
from tests.duck import read
from tests.faults.world import World
from tests.places import DuckDBPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.duck import Row

pytestmark = pytest.mark.slow

VARIABLES: dict[str, Any] = {
    "ometria_tables": "all",
    "ometria_timezone": "America/New_York",
    "ometria_now": "2026-03-02 09:00:00+00",
}

EVERYWHERE = {
    "cast", "chr", "coalesce", "count", "lag", "lead", "lower", "max", "min", "nullif",
    "row_number", "sum", "trim",
}  # fmt: skip
WORDS = {
    "and", "as", "by", "distinct", "events", "exists", "from", "in", "not", "on", "or", "over",
    "then", "using", "when", "where", "with",
}  # fmt: skip
FUNCTIONS = {
    "bigquery": {
        "array_reverse", "date", "date_add", "offset", "split", "timestamp_diff", "timestamp_sub",
    },
    "databricks": {
        "btrim", "convert_timezone", "current_timezone", "date_add", "reverse", "split_part",
        "timestampdiff", "to_date",
    },
    "redshift": {"btrim", "dateadd", "datediff", "floor", "reverse", "split_part"},
    "snowflake": {
        "convert_timezone", "dateadd", "datediff", "floor", "reverse", "split_part", "to_date",
    },
}  # fmt: skip
"""The functions that the models may call in each warehouse, beside those of all."""


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database with the replica of an account with all tables, and the models of DuckDB."""
    folder = tmp_path_factory.mktemp("shop")
    place = DuckDBPlace(folder / "replica.duckdb")
    with World(
        folder, place=place, profiles=80, lists=3, email_events=500,
        settings='tables = "all"\nhistory = ["profiles"]\n',
    ) as world:  # fmt: skip
        world.sync_here()
    with duckdb.connect() as connection:
        connection.execute(
            f"SET TimeZone = 'UTC'; ATTACH '{place.path}' AS replica (READ_ONLY);"
            # Two functions of Databricks that sqlglot does not translate.
            " CREATE MACRO btrim(given, characters) AS trim(given, characters);"
            " CREATE MACRO current_timezone() AS 'UTC'"
        )
        build(connection, Dialect("duckdb", VARIABLES))
        yield connection


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_models_of_a_warehouse_have_the_rows_of_those_of_duckdb(
    replica: duckdb.DuckDBPyConnection, kind: str
) -> None:
    """Column by column, and in a second run no send is made again, and none is removed."""
    dialect = Dialect(kind, VARIABLES)
    names = build(replica, dialect)

    assert len(names) > 30
    for name in names:
        found, due = rows(replica, f"{kind}.{name}"), rows(replica, f"duckdb.{name}")
        assert found == due, name
        assert due or name in {"stg_ometria__data_deletion_requests", "stg_ometria__profile_lists",
                               "int_ometria__deleted_records"}, name  # fmt: skip

    dialect.is_incremental = True
    assert replica.execute(translated(dialect.model("email_sends"), kind)).fetchall() == []
    days = replica.execute(translated(dialect.model("lifecycle_daily"), kind)).fetchall()
    assert len(days) == len(rows(replica, f"{kind}.lifecycle_daily"))
    replica.execute(translated(dialect.macro("remove_gone_sends", this="email_sends"), kind))
    assert rows(replica, f"{kind}.email_sends") == rows(replica, "duckdb.email_sends")


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_functions_of_a_model_are_those_of_its_warehouse(kind: str) -> None:
    """So that none is left in that only another warehouse has; with each choice of tables."""
    choices = (
        {**VARIABLES, "ometria_now": None, "ometria_history": ["profiles"]},
        {**VARIABLES, "ometria_tables": ["profiles", "member_lists"], "ometria_state_schema": None},
        {**VARIABLES, "ometria_tables": ["email_events"]},
    )
    now = {"bigquery": {"current_timestamp"}, "databricks": {"current_timestamp"},
           "redshift": {"getdate"}}  # fmt: skip
    for variables in choices:
        dialect = Dialect(kind, variables)
        for name in dialect.in_order():
            statement = dialect.model(name)
            assert sqlglot.parse(statement, dialect=kind, error_level=ErrorLevel.RAISE)
            plain = re.sub(r"--[^\n]*|'[^']*'", "", statement)
            called = {word.lower() for word in re.findall(r"\b(\w+)\s*\(", plain)}
            assert called <= EVERYWHERE | WORDS | FUNCTIONS[kind] | now.get(kind, set()), name


@pytest.mark.parametrize("kind", ["duckdb", *FUNCTIONS])
def test_a_text_of_a_variable_is_itself_in_each_warehouse(kind: str) -> None:
    """With quotes and backslashes, which some begin an escape with."""
    for text in ("it's", "a\\", "\\'", "''", 'a"b', "\\n"):
        (literal,) = sqlglot.parse_one(
            f"SELECT {Dialect(kind, VARIABLES).macro('text', text)}", dialect=kind
        ).expressions
        assert literal.is_string
        assert literal.this == text


def build(connection: duckdb.DuckDBPyConnection, dialect: Dialect) -> list[str]:
    """Make the models of *dialect*, and name them."""
    connection.execute(f"CREATE SCHEMA {dialect.kind}")
    names = list(dialect.in_order())
    for name in names:
        query = translated(dialect.model(name), dialect.kind)
        connection.execute(f"CREATE TABLE {dialect.kind}.{name} AS {query}")
    return names


def translated(statement: str, kind: str) -> str:
    """Give a statement of a warehouse in the SQL of DuckDB."""
    if kind == "duckdb":
        return statement
    (made,) = sqlglot.transpile(statement, read=kind, write="duckdb", error_level=ErrorLevel.RAISE)
    return made


def rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[Row]:
    """Read a model, in an order that does not depend on the types of its columns."""
    return sorted(read(connection, table, order="ALL"), key=str)
