from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica.config import (
    AccountSettings,
    Config,
    FeedSettings,
    Secret,
    WarehouseSettings,
)
from ometria_replica.replication import sync
from ometria_replica.schema import DATA_SCHEMA, LINEAGE
from ometria_replica.tables import JOINS, TABLES
from ometria_replica.ways_to_read import Feed, Pages, PerParent, Windows
from ometria_simulator import Account, serve
from ometria_simulator import Feed as SimulatedFeed
from tests.spec import page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.schema import Table
    from tests.spec.page import PageTable

TYPES = {"timestamptz": "timestamp with time zone"}
DUCKDB_TYPES = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
}
STARTED_AT = datetime(2026, 3, 2, 9, tzinfo=UTC)

NAMES = [table.name for table in page.page_tables()]
SPECIFIED = [table for table in TABLES if table.name in NAMES]
"""The program may have more tables than the page."""

each_table = pytest.mark.parametrize(
    ("promised", "ours"),
    [
        pytest.param(promised, ours, id=promised.name)
        for promised, ours in zip(page.page_tables(), SPECIFIED, strict=True)
    ],
)


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Sync a small account with the real program and open its warehouse."""
    folder = tmp_path_factory.mktemp("spec")
    account = Account.create(profiles=40, lists=3, email_events=60)
    account.add_unsubscribe(account.profiles[0].id, email_address="ann@example.com")
    SimulatedFeed(account, folder / "feed").export_history()
    with serve(account, requests_per_second=None) as server:
        settings = AccountSettings(
            account_id="1042",
            source_id="ometria-uk",
            api_key=Secret(server.key, "the test"),
            api_url=server.url,
            requests_per_second=1000,
            feed=FeedSettings(url=str(folder / "feed"), settle_seconds=0),
        )
        warehouse = WarehouseSettings(url=f"duckdb:///{folder / 'replica.duckdb'}")
        sync(Config(accounts=(settings,), warehouse=warehouse), clock=lambda: STARTED_AT)
    with duckdb.connect(str(folder / "replica.duckdb"), read_only=True) as connection:
        yield connection


def test_the_tables_are_those_of_the_page_in_its_order() -> None:
    """The five tables have the names and the order of the page."""
    assert [table.name for table in SPECIFIED] == NAMES
    assert len(NAMES) == 5


@each_table
def test_every_line_of_the_page_is_a_column(promised: PageTable, ours: Table) -> None:
    """Source, column and type of every line are those of the page, in its order."""
    lines = [
        (str(column.source), column.name, TYPES.get(column.type, column.type))
        for column in ours.columns
    ]

    assert lines == list(promised.lines)


@each_table
def test_the_key_is_the_pages(promised: PageTable, ours: Table) -> None:
    """Each key hashes the parts that the page names, in their order."""
    assert str(ours.sync_key) == promised.key


@each_table
def test_every_table_ends_with_the_same_four_columns(promised: PageTable, ours: Table) -> None:
    """The last four columns are those of the page, with one leading underscore in the first."""
    last = [(column.name, TYPES.get(column.type, column.type)) for column in ours.all_columns[-4:]]

    assert last == list(page.LAST_FOUR)
    assert ours.all_columns == (*ours.columns, *LINEAGE)


@each_table
def test_each_table_has_the_source_of_the_page(promised: PageTable, ours: Table) -> None:
    """Profiles, lists, list changes and unsubscribes come from endpoints, events from S3."""
    match ours.read:
        case Pages(endpoint="profiles"):
            read_from = "endpoint Profiles"
        case Pages(endpoint="lists", query=(("mode", "all"),)):
            read_from = "endpoint Lists"
        case PerParent(endpoint="lists/{id}/changes"):
            read_from = "endpoint Lists, the changes of each list"
        case Windows(endpoint="unsubscribes"):
            read_from = "endpoint Unsubscribes"
        case Feed(dataset="email_events"):
            read_from = "S3 feed, Email Events"
        case other:
            pytest.fail(f"{other} is not on the page")

    assert read_from == promised.read_from


def test_the_tables_join_as_the_page_says() -> None:
    """The joins are those of the page."""
    joins = [
        (join.one, join.many)
        for join in JOINS
        if {join.one.partition(".")[0], join.many.partition(".")[0]} <= set(NAMES)
    ]

    assert joins == list(page.JOINS)


@each_table
def test_duckdb_reports_the_columns_of_the_page(
    promised: PageTable, ours: Table, replica: duckdb.DuckDBPyConnection
) -> None:
    """After a sync, the database reports the columns and types of the page in its order."""
    reported = replica.execute(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'ometria' AND table_name = ? ORDER BY ordinal_position",
        [promised.name],
    ).fetchall()

    assert reported == [(name, DUCKDB_TYPES[kind]) for name, kind in promised.columns]


@each_table
def test_the_last_four_columns_identify_the_source_of_a_row(
    promised: PageTable, ours: Table, replica: duckdb.DuckDBPyConnection
) -> None:
    """Every row has its account, source, a unique MD5 in lower-case hex, and the load time."""
    rows, lineages, keys, hexes, early, late = replica.execute(
        "SELECT count(*), list(DISTINCT (_account_id, __source_id)), count(DISTINCT __sync_key),"
        " bool_and(regexp_full_match(__sync_key, '[0-9a-f]{32}')),"
        " min(__synced_at) >= ?, max(__synced_at) < ?::TIMESTAMPTZ + INTERVAL 1 MINUTE"
        f" FROM ometria.{promised.name}",
        [STARTED_AT, STARTED_AT],
    ).fetchall()[0]

    assert rows > 0
    assert lineages == [("1042", "ometria-uk")]
    assert (keys, hexes, early, late) == (rows, True, True, True)


@each_table
def test_a_key_in_the_first_column_is_the_key(
    promised: PageTable, ours: Table, replica: duckdb.DuckDBPyConnection
) -> None:
    """A column that the page fills with the key equals ``__sync_key`` in every row."""
    source, column, _ = promised.lines[0]
    if not source.startswith("MD5"):
        assert promised.name in {"profiles", "lists"}
        return

    assert replica.execute(
        f"SELECT bool_and({column} = __sync_key) FROM ometria.{promised.name}"
    ).fetchall() == [(True,)]


def test_the_schema_contains_no_other_tables(replica: duckdb.DuckDBPyConnection) -> None:
    """State and rejects are in a schema of their own, beside the tables."""
    there = replica.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ometria'"
    ).fetchall()

    assert {name for (name,) in there} == {
        table.name for table in TABLES if table.schema == DATA_SCHEMA
    }
