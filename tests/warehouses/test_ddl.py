"""Tables, their keys and their comments are made as the catalog declares them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog

from ometria_replica.batch import Owner
from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.comments import CERTAINTIES, column_comment, comments, is_ours
from ometria_replica.describe import describe
from ometria_replica.errors import ConfigError
from ometria_replica.schema import documented
from ometria_replica.selection import ALL
from ometria_replica.tables import LISTS, TABLES
from ometria_replica.warehouse import open_warehouse
from tests.places import DuckDBPlace, PostgresPlace
from tests.postgres import GUARDED, PASSWORD, postgres
from tests.warehouses.loads import NOON, Load, columns_of, opened, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.schema import Table
    from tests.places import Place

MOST_CHARACTERS = 1_024  # Of the comment of a column, in BigQuery.
IN_POSTGRES = """
    SELECT c.relname, coalesce(a.attname, ''), d.description FROM pg_description d
    JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
    WHERE c.relnamespace = 'ometria'::regnamespace
"""
IN_DUCKDB = """
    SELECT table_name, column_name, comment FROM duckdb_columns()
    WHERE schema_name = 'ometria' AND comment IS NOT NULL
    UNION ALL
    SELECT table_name, '', comment FROM duckdb_tables()
    WHERE schema_name = 'ometria' AND comment IS NOT NULL
"""


def due() -> set[tuple[str, str, str]]:
    return {
        (table.name, name, comment) for table in TABLES for name, comment in comments(table).items()
    }


def found(place: Place) -> set[tuple[str, str, str]]:
    if isinstance(place, PostgresPlace):
        return set(map(tuple, postgres().rows(IN_POSTGRES, database=place.database)))
    assert isinstance(place, DuckDBPlace)
    with duckdb.connect(str(place.path), read_only=True) as connection:
        return set(connection.execute(IN_DUCKDB).fetchall())


def structure(place: Place) -> dict[str, object]:
    """Describe the columns of each table, and its primary key."""
    if isinstance(place, PostgresPlace):
        keys = (
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'p' AND connamespace = 'ometria'::regnamespace"
        )
        return dict(postgres().rows(keys, database=place.database))
    return {table.name: columns_of(place, table.name) for table in TABLES}


def run(place: Place, *statements: str) -> None:
    if isinstance(place, PostgresPlace):
        postgres().run(*statements, database=place.database)
    elif isinstance(place, DuckDBPlace):
        with duckdb.connect(str(place.path)) as connection:
            connection.execute(";".join(statements))


@pytest.fixture
def in_postgres() -> Iterator[PostgresPlace]:
    """Give an empty database."""
    place = PostgresPlace(postgres().new_database())
    yield place
    place.remove()


@pytest.fixture(params=["duckdb", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse whose tables get comments in every sync that finds others."""
    if request.param == "duckdb":
        yield DuckDBPlace(tmp_path / "warehouse.duckdb")
        return
    yield request.getfixturevalue("in_postgres")


@pytest.mark.parametrize("table", CATALOG.every.tables, ids=lambda table: table.name)
def test_every_column_has_a_meaning(table: Table) -> None:
    """It is in sentences, says when the column is null and how all that is known."""
    assert table.about.endswith(".")
    for column in table.all_columns:
        comment = column_comment(table, column)
        assert re.fullmatch(r"[A-Z].*\. (Null: [^.]+|Never null)\. \[\w+\]", comment), column.name
        assert comment.endswith(tuple(f"[{certainty}]" for certainty in CERTAINTIES))
        assert "`" not in comment
        assert ";" not in comment  # Some clients split a script at each of them.
        assert len(comment) <= MOST_CHARACTERS


def test_tables_have_their_comments_which_the_second_sync_does_not_write_again(
    tmp_path: Path, in_postgres: PostgresPlace
) -> None:
    """By DuckDB's log of queries, and by the transactions of PostgreSQL that wrote a comment."""
    for place in (DuckDBPlace(tmp_path / "warehouse.duckdb"), in_postgres):
        with opened(place):
            pass
        assert found(place) == due()
    wrote = "SELECT DISTINCT xmin::text FROM pg_description WHERE classoid = 'pg_class'::regclass"
    before = postgres().rows(wrote, database=in_postgres.database)
    with opened(in_postgres):
        pass
    with open_warehouse(f"duckdb:///{tmp_path}/warehouse.duckdb") as warehouse:
        warehouse.connection.execute("CALL enable_logging('QueryLog')")
        warehouse.prepare(Owner("account of shop", "shop"), NOON)
        log = "SELECT message FROM duckdb_logs WHERE type = 'QueryLog'"
        statements = [text for (text,) in warehouse.connection.execute(log).fetchall()]

    assert postgres().rows(wrote, database=in_postgres.database) == before
    assert any("duckdb_columns" in statement for statement in statements)
    assert [each for each in statements if each.startswith("COMMENT")] == []


def test_comments_of_an_older_release_are_replaced_and_those_of_a_user_stay(
    database: Place,
) -> None:
    """One of this program ends with the certainty. A dry run writes none."""
    with opened(database):
        pass
    run(
        database,
        "COMMENT ON COLUMN ometria.lists.list_id IS 'What it was. [inferred]'",
        "COMMENT ON COLUMN ometria.lists.list_title IS 'Ask ''Ann'' [PII]'",
        "COMMENT ON COLUMN ometria.lists.list_type IS NULL",
        "COMMENT ON TABLE ometria.lists IS 'Ours.'",
    )
    edited = found(database)
    with open_warehouse(database.url, dry_run=True) as warehouse:
        warehouse.prepare(Owner("account of uk", "uk"), NOON)
    assert found(database) == edited
    with opened(database):
        pass

    theirs = {("lists", "list_title", "Ask 'Ann' [PII]"), ("lists", "", "Ours.")}
    assert found(database) - due() == theirs
    assert {name for _, name, _ in due() - found(database)} == {"list_title", ""}


def test_a_meaning_may_hold_any_text(database: Place) -> None:
    """Quotes, question marks, dollars and backslashes of a table that a user declares."""
    odd = r"""It's "odd": $1 ? \' ?; -- /* %s {x}"""
    first, *others = LISTS.columns
    table = replace(LISTS, columns=(replace(first, meaning=documented(odd)), *others), about=odd)
    catalog = Catalog(tuple(table if each is LISTS else each for each in CATALOG))
    for _ in range(2):
        with open_warehouse(database.url, catalog=catalog) as warehouse:
            warehouse.prepare(Owner("account of shop", "shop"), NOON)

    there = {name: comment for of, name, comment in found(database) if of == "lists"}
    assert there["list_id"] == f"{odd} Never null. [documented]"
    assert there[""] == f"{odd} [ometria-replica]"
    assert all(map(is_ours, there.values()))


def test_the_sql_of_a_warehouse_makes_the_tables_that_a_sync_would_make(database: Place) -> None:
    """With its keys and comments; the sync takes them for its own, loads, and changes nothing."""
    statements = describe(
        (), "sql", warehouse="duckdb" if isinstance(database, DuckDBPlace) else "postgresql"
    )
    if isinstance(database, DuckDBPlace):
        duckdb.connect(str(database.path)).execute(statements).close()
    else:
        run(database, *statements.split(";\n"))
    made = structure(database)
    assert found(database) == due()
    if isinstance(database, PostgresPlace):
        key = "PRIMARY KEY (__source_id, __sync_key)"
        assert made == {f"ometria.{table.name}": key for table in TABLES}

    with opened(database) as warehouse:
        Load(LISTS, ['{"id": "7"}']).into(warehouse)
        assert warehouse.count(LISTS, ALL) == 1
    assert structure(database) == made
    assert found(database) == due()


def test_a_role_that_does_not_own_the_tables_writes_no_comments(
    in_postgres: PostgresPlace,
) -> None:
    """An administrator made them from the printed SQL, without its comments; rows are loaded."""
    statements = describe((), "sql", warehouse="postgresql").split(";\n")
    run(
        in_postgres,
        *(statement for statement in statements if "COMMENT ON" not in statement),
        f"GRANT USAGE ON SCHEMA ometria TO {GUARDED}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ometria TO {GUARDED}",
        f"CREATE SCHEMA ometria_replica AUTHORIZATION {GUARDED}",
        f"GRANT TEMPORARY ON DATABASE {in_postgres.database} TO {GUARDED}",
    )
    url = postgres().url(in_postgres.database, GUARDED, PASSWORD)
    with open_warehouse(url) as warehouse:
        warehouse.prepare(Owner("account of shop", "shop"), NOON)
        Load(LISTS, ['{"id": "7"}']).into(warehouse)

    assert found(in_postgres) == set()
    assert [row["list_id"] for row in rows(in_postgres, "lists")] == ["7"]


def test_a_delta_table_has_comments_as_spark_writes_them(tmp_path: Path) -> None:
    """In the metadata of its fields, which rows that are written do not change."""
    with open_warehouse(f"delta:///{tmp_path}/lake") as warehouse:
        warehouse.prepare(Owner("account of shop", "shop"), NOON)
        Load(LISTS, ['{"id": "7"}']).into(warehouse)

    table = DeltaTable(f"{tmp_path}/lake/ometria/lists")
    there = {field.name: field.metadata.get("comment") for field in table.schema().fields}
    assert there | {"": table.metadata().description} == comments(LISTS)


def test_an_iceberg_table_has_comments_as_spark_writes_them(tmp_path: Path) -> None:
    """In the docs of its fields, and in a property of the table; those of a user stay."""
    folder = f"file://{tmp_path}/lake"
    catalog = load_catalog("default", uri=f"sqlite:///{tmp_path}/c.db", warehouse=folder)

    def table_after_a_run() -> Any:
        with open_warehouse(f"iceberg+sqlite:///{tmp_path}/c.db?warehouse={folder}") as warehouse:
            warehouse.prepare(Owner("account of shop", "shop"), NOON)
        return catalog.load_table(("ometria", "lists"))

    def found_in(table: Any) -> dict[str, str]:
        there = {field.name: field.doc for field in table.schema().fields}
        return there | {"": table.properties["comment"]}

    table = table_after_a_run()
    assert found_in(table) == comments(LISTS)
    with table.update_schema() as schema:
        schema.update_column("list_id", doc="What it was. [inferred]")
        schema.update_column("list_title", doc="Mine.")
    with table.transaction() as transaction:
        transaction.set_properties(comment="What it was. [ometria-replica]")

    table = table_after_a_run()
    assert found_in(table) == {**comments(LISTS), "list_title": "Mine."}
    assert table_after_a_run().metadata_location == table.metadata_location


@pytest.mark.parametrize(
    ("form", "warehouse", "reason"),
    [
        ("json", "postgresql", "--for names the warehouse of --format sql"),
        ("sql", "mysql", r"no SQL for 'mysql'. The warehouses are duckdb, postgresql, bigquery"),
        ("sql", "delta", "no SQL for 'delta'"),
        ("sql", "", "no SQL for ''"),
    ],
)
def test_a_warehouse_without_sql_is_refused(form: str, warehouse: str, reason: str) -> None:
    """By the names of those that have it."""
    with pytest.raises(ConfigError, match=reason):
        describe((), form, warehouse=warehouse)
