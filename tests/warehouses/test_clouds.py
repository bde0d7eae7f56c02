"""Warehouses without an account for the tests: the SQL that dlt would run there."""

from __future__ import annotations

import re
import sys
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import pytest
import sqlglot

from ometria_replica.catalog import CATALOG
from ometria_replica.comments import comments
from ometria_replica.config import masked
from ometria_replica.describe import describe
from ometria_replica.errors import ConfigError
from ometria_replica.more_tables import COLLECTIONS, ORDERS
from ometria_replica.selection import Selection, Span, Times
from ometria_replica.tables import EMAIL_EVENTS, PROFILES, TABLES
from ometria_replica.warehouse import SCHEMES, open_warehouse

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.schema import Table

FILES = "ometria_replica.warehouse.remotes.dlt_destinations"
URLS = {
    "snowflake": "snowflake://ann:SECRET@account/shop?warehouse=load&role=loader",
    "redshift": "redshift://ann:SECRET@host:5439/shop",
    "databricks": "databricks://token:SECRET@host?http_path=/sql/1.0/warehouses/1&catalog=main",
    "clickhouse": "clickhouse://ann:SECRET@host:9440/shop",
    "bigquery": "bigquery://project?location=EU&credentials_path={folder}/key.json",
}
"""A URL by the name of each file: all that these tests must be told of a warehouse."""

SPAN = (
    datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 3, 2, 1, 2, 3, 456, tzinfo=UTC),
)


@pytest.fixture(params=list(URLS))
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give the engine of a warehouse, which is not connected to."""
    engine = _engine(request.param, tmp_path)
    with engine._loader._context.entered():
        yield engine


def test_each_table_is_made_with_its_columns_in_order(cloud: Any) -> None:
    """And with no others, as the dialect's own parser reads it."""
    for table in CATALOG.every:
        statement, *comments = _made(cloud, table)
        assert len(comments) == (cloud._destination.name == "Databricks")  # Of the table.
        names = [column.name.lower() for column in statement.find_all(sqlglot.exp.ColumnDef)]
        assert names == [column.name for column in table.all_columns]


def test_amounts_are_exact_numbers_that_are_read_back_as_such(cloud: Any) -> None:
    """Of the same digits before and after the point, and whole numbers of 64 bits."""
    mapper = cloud._loader._unconnected.capabilities.get_type_mapper()
    for table, name, ours in ((ORDERS, "tax", "decimal"), (COLLECTIONS, "contact_count", "bigint")):
        statement, *_ = _made(cloud, table)
        (kind,) = (
            column.kind.sql(dialect="").upper()
            for column in statement.find_all(sqlglot.exp.ColumnDef)
            if column.name.lower() == name
        )
        kind = re.sub(r"^NULLABLE\((.*)\)$", r"\1", kind)
        assert re.fullmatch(r"\w+\(38, 9\)" if ours == "decimal" else r"BIGINT|INT64|\w+\(19, 0\)",
                            kind)  # fmt: skip
        written = mapper.to_destination_type(
            cloud._tables.described(table)["columns"][name], cloud._tables.described(table)
        )
        digits = (38, 9) if ours == "decimal" else (19, 0)
        back = mapper.from_destination_type(written.partition("(")[0], *digits)
        assert back["data_type"] == ours


def test_comments_are_sent_where_dlt_writes_them(cloud: Any) -> None:
    """To BigQuery, Databricks and Snowflake; none of the comments is longer than they allow."""
    made = " ".join(cloud.create_statements(TABLES)).replace("\\", "").replace("''", "'")
    there = [
        (table.name, name)
        for table in TABLES
        for name, comment in comments(table).items()
        if comment in made
    ]
    of_tables = {"BigQuery", "Databricks"}
    due = [
        (table.name, name)
        for table in TABLES
        for name in comments(table)
        if cloud._destination.name in of_tables or (cloud._destination.name == "Snowflake" and name)
    ]
    assert there == due


def test_the_sql_of_a_cloud_needs_no_connection(cloud: Any) -> None:
    """It makes the tables of the loader, in a database that the documentation names."""
    text = describe((), "sql", warehouse=cloud._destination.name.lower())

    made = [
        sqlglot.parse_one(statement.replace(" SORTKEY ", " "), read=_dialect(cloud))
        for statement in text.split(";\n")
        if "CREATE TABLE" in statement
    ]
    names = [str(statement.find(sqlglot.exp.Table)) for statement in made]
    assert [re.split(r"\W|___", name.rstrip('"`'))[-1].lower() for name in names] == [
        table.name for table in TABLES
    ]
    assert "SECRET" not in text


def test_a_merge_of_events_is_bound_to_their_span_of_time(cloud: Any) -> None:
    """By moments that are written out, so that the warehouse can skip what lies outside."""
    first, *_ = merged = _merged(cloud, EMAIL_EVENTS)
    for statement in merged:
        sqlglot.parse_one(statement, read=_dialect(cloud))
    if cloud._destination.strategy == "upsert":
        assert first.startswith("MERGE INTO")
    else:
        assert first.startswith("DELETE FROM")
        assert "2026-03-01 00:00:00.000000" in first
        assert "2026-03-02 01:02:03.000456" in first
    assert all("ometria_staging_" in statement.lower() for statement in merged)


def test_a_merge_puts_rows_in_the_place_of_those_with_their_key(cloud: Any) -> None:
    """Of profiles too, whose rows have no span."""
    for statement in _merged(cloud, PROFILES):
        sqlglot.parse_one(statement, read=_dialect(cloud))
        assert "__sync_key" in statement.lower()


def test_rows_travel_as_what_dlt_loads_there(cloud: Any) -> None:
    """With what the extra brings: to load Parquet, some ask for a driver that no extra has."""
    capabilities = cloud._loader._client.capabilities
    formats = capabilities.supported_loader_file_formats
    if choose := capabilities.loader_file_format_selector:
        _, formats = choose("insert_values", formats, table_schema={})
    assert cloud._destination.file_format in formats


@pytest.mark.parametrize("name", list(URLS))
def test_a_password_is_masked(name: str) -> None:
    """Wherever the URL is shown, and the place has none in its name."""
    from ometria_replica.warehouse.remotes.dlt_destinations import Address  # noqa: PLC0415 -- dlt: 0.8 s.

    assert "SECRET" not in masked(URLS[name])
    assert "SECRET" not in _destination(name).place(Address.read(URLS[name]))


@pytest.mark.parametrize("password", ["SEC/RET", "SEC[RET"])
def test_a_password_that_breaks_the_url_is_not_shown(password: str) -> None:
    """Python's own words for it would quote what it takes for a port."""
    from ometria_replica.warehouse.remotes.dlt_destinations import Address  # noqa: PLC0415 -- dlt: 0.8 s.

    with pytest.raises(ConfigError, match="Percent-encode") as refused:
        Address.read(f"snowflake://user:{password}@account/database")
    assert "SEC" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("name", list(URLS))
def test_what_is_missing_in_a_url_is_named(name: str) -> None:
    """With the form to write."""
    options = _destination(name).options
    from ometria_replica.warehouse.remotes.dlt_destinations import Address  # noqa: PLC0415 -- dlt: 0.8 s.

    with pytest.raises(ConfigError, match=f"missing. Write {name}://"):
        options(Address.read(f"{name}://"))
    with pytest.raises(ConfigError, match=r"'colour' is not known here. Write"):
        options(Address.read(f"{URLS[name].partition('?')[0]}?colour=red"))


@pytest.mark.parametrize("scheme", list(URLS))
def test_a_driver_that_is_missing_is_asked_for(scheme: str) -> None:
    """By the extra that brings it."""
    try:
        import_module(f"{FILES}.{scheme}")
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("the driver is installed here")
    with pytest.raises(ConfigError, match=rf"pip install 'ometria-replica\[{scheme}\]'"):
        open_warehouse(f"{scheme}://user:password@host/database")


def test_a_driver_that_does_not_load_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it lacks, as drivers for ODBC lack the library of that name."""
    (tmp_path / "clickhouse_connect.py").write_text(
        "raise ImportError('libodbc.so.2: no such file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for loaded in ("clickhouse_connect", f"{FILES}.clickhouse"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)

    with pytest.raises(ConfigError, match=r"does not load: libodbc\.so\.2: no such file\. Install"):
        open_warehouse("clickhouse://user:password@host/database")


def test_each_file_of_a_destination_is_a_scheme() -> None:
    """So that to add a warehouse is to add a file."""
    assert {"snowflake", "bigquery", "redshift", "databricks", "clickhouse"} <= set(SCHEMES)
    assert {"dlt+duckdb", "dlt+postgresql", "dlt+snowflake"} <= set(SCHEMES)
    assert "dlt+__init__" not in SCHEMES


def _destination(name: str) -> Any:
    return pytest.importorskip(f"{FILES}.{name}", reason="the driver is not installed").DESTINATION


def _engine(name: str, folder: Path) -> Any:
    destination = _destination(name)
    from ometria_replica.warehouse.remotes import dlt_loader, dlt_remote, dlt_schemas  # noqa: PLC0415 -- dlt: 0.8 s.
    from ometria_replica.warehouse.remotes.dlt_destinations import Address  # noqa: PLC0415

    if name == "bigquery":
        (folder / "key.json").write_text(_a_key())
    address = Address.read(URLS[name].format(folder=folder))
    loader = dlt_loader.DltLoader(destination, destination.options(address), folder)
    place = destination.place(address)
    remote: Any = dlt_remote.DltRemote(destination, loader, place, ExitStack())
    with loader._context.entered():
        schema = dlt_schemas.schema_of("nothing", ())
        loader._client = loader._new_client(schema, "ometria")
    return remote


def _client(cloud: Any, table: Table) -> tuple[Any, Any]:
    from ometria_replica.warehouse.remotes.dlt_schemas import schema_of  # noqa: PLC0415 -- dlt: 0.8 s.

    times = Times(table.time, (Span(*SPAN),)) if table.time else None
    scope = cloud._merge_scope(table, Selection("uk", times=times))
    described = {
        **cloud._tables.described(table, scope),
        "x-merge-strategy": cloud._destination.strategy,
    }
    schema = schema_of("one", [described])
    return cloud._loader._new_client(schema, "ometria", "ometria_staging_1"), schema


def _made(cloud: Any, table: Table) -> list[Any]:
    """Parse the CREATE TABLE, without the SORTKEY of a column, which the parser does not know."""
    client, schema = _client(cloud, table)
    columns = list(schema.tables[table.name]["columns"].values())
    statements = client._get_table_update_sql(table.name, columns, False)
    return [
        sqlglot.parse_one(each.replace(" SORTKEY ", " "), read=_dialect(cloud))
        for each in statements
    ]


def _merged(cloud: Any, table: Table) -> list[str]:
    client, _ = _client(cloud, table)
    (job,) = client._create_merge_followup_jobs([client.prepare_load_table(table.name)])
    with open(job.new_file_path(), encoding="utf-8") as text:  # noqa: PTH123 -- dlt's path.
        return [line.strip() for line in text.read().split("\n") if line.strip()]


def _dialect(cloud: Any) -> str:
    return cast("str", cloud._loader._client.capabilities.sqlglot_dialect)


def _a_key() -> str:
    """Invent the key of a service account."""
    import json  # noqa: PLC0415 -- for BigQuery alone.

    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return json.dumps({
        "type": "service_account", "project_id": "project", "private_key": private.decode(),
        "client_email": "loader@project.example.com", "token_uri": "https://localhost/token",
    })  # fmt: skip
