from __future__ import annotations

import logging
import os
import re
import signal
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
import duckdb
import pytest
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from ometria_replica import load_config, sync
from ometria_replica.batch import Batch, FileLogEntry, Owner
from ometria_replica.catalog import Catalog
from ometria_replica.config import Limits
from ometria_replica.config.checks import STORAGE_VERSION
from ometria_replica.errors import WarehouseError
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import Staging
from ometria_replica.records import FeedObject
from ometria_replica.tables import EMAIL_EVENTS, LISTS, PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.local_merge import LocalMergeEngine
from ometria_replica.warehouse.remotes.dlt_remote import DltRemote
from ometria_simulator import Account, Feed, serve
from tests.faults.child import Plan
from tests.faults.ladders import Rung, climb
from tests.faults.scenarios import live
from tests.faults.world import World
from tests.places import KINDS, BridgedDuckDBPlace, BridgedPostgresPlace
from tests.postgres import postgres
from tests.warehouses.loads import NOON, Load, opened, rows, state, table_state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.places import Place

CANARY = "canary@example.org"


@pytest.fixture(
    params=["dlt+duckdb", pytest.param("dlt+postgres", marks=pytest.mark.slow)],
)
def bridged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Make a warehouse that dlt writes to."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()


@pytest.fixture
def file(tmp_path: Path) -> BridgedDuckDBPlace:
    """Name a DuckDB file that dlt writes to."""
    return BridgedDuckDBPlace(tmp_path / "replica.duckdb")


@pytest.fixture
def database() -> Iterator[BridgedPostgresPlace]:
    """Make a database that dlt writes to."""
    made = BridgedPostgresPlace.new()
    yield made
    made.remove()


LADDER = (
    Rung("before dlt load"),
    Rung("before dlt merge"),
    Rung("after dlt merge", commits=True),  # The next run has no row to load.
    Rung("after dlt load", commits=True),
    Rung("before remote state", commits=True),
    Rung("after remote state"),
)


@pytest.mark.slow
def test_kills_between_the_steps_of_dlt_lose_nothing(bridged: Place, tmp_path: Path) -> None:
    """
    Before rows are loaded, between staging and merge, between rows and state, after both.

    Each step is one of profiles in the one destination, and one of events in the other.
    """
    is_file = isinstance(bridged, BridgedDuckDBPlace)
    with World(tmp_path, place=bridged, profiles=130, email_events=60) as world:
        world.run()
        world.check()
        live(world)
        tables = cycle(("profiles", "email_events") if is_file else ("email_events", "profiles"))
        climb(world, [replace(rung, table=table, alone=True)
                      for rung, table in zip(LADDER, tables, strict=False)])  # fmt: skip


def test_sigterm_ends_a_run_while_dlt_is_at_work(bridged: Place, tmp_path: Path) -> None:
    """With the exit code that it has elsewhere, and the next run goes on from there."""
    with World(tmp_path, place=bridged, profiles=130, email_events=60) as world:
        process = world.start(plan=Plan("before dlt merge", "profiles", do="stall"))
        world.wait_for_stall(process)
        os.kill(process.pid or 0, signal.SIGTERM)
        (world.folder / "go on").touch()
        world.end(process, 143)
        world.run()
        world.check()


def test_dlt_leaves_nothing_beside_the_five_tables(file: BridgedDuckDBPlace) -> None:
    """What it noted of the loads, and what it staged, is gone; its tables are not in ours."""
    with opened(file) as warehouse:
        Load(PROFILES, [a_profile("ann")]).into(warehouse)
        Load(EMAIL_EVENTS, [an_event(1)]).into(warehouse)

    with duckdb.connect(str(file.path)) as connection:
        tables = connection.sql(
            "SELECT schema_name, table_name, estimated_size FROM duckdb_tables()"
        ).fetchall()
    of_data = {name for schema, name, _ in tables if schema == "ometria"}
    assert of_data == {"profiles", "lists", "member_lists", "unsubscribes", "email_events"}
    assert {
        (schema, name)
        for schema, name, size in tables
        if size and (schema.startswith("ometria_staging") or name.startswith("_dlt"))
    } == set()


def test_a_file_is_made_as_without_dlt(file: BridgedDuckDBPlace) -> None:
    """DuckDB 1.4 opens it, and only its owner reads it."""
    with opened(file):
        pass

    with duckdb.connect(str(file.path), read_only=True) as connection:
        query = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
        ((version,),) = connection.sql(query).fetchall()
    assert version.startswith(STORAGE_VERSION)
    assert file.path.stat().st_mode & 0o077 == 0


def test_dlt_notes_nothing_beside_a_table_in_another_schema(file: BridgedDuckDBPlace) -> None:
    """Its tables are in the schema of the state, whatever the schema of the rows."""
    elsewhere = replace(PROFILES, schema="crm")
    with open_warehouse(file.url, catalog=Catalog((elsewhere,))) as warehouse:
        warehouse.prepare(Owner("account of uk", "uk"), NOON)
        Load(elsewhere, [a_profile("ann")]).into(warehouse)

    with duckdb.connect(str(file.path)) as connection:
        found = connection.sql("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'crm'")
        assert found.fetchall() == [("profiles",)]


def test_a_package_that_fails_is_dropped_and_the_next_one_loads(
    database: BridgedPostgresPlace,
) -> None:
    """The error names the package; the rows that come after it are loaded, and only they."""
    with opened(database) as warehouse:
        postgres().run(
            "ALTER TABLE ometria.profiles ADD CHECK (gender <> 'f')", database=database.database
        )
        with pytest.raises(WarehouseError, match=r"load package \d+\.\d+, which was dropped"):
            Load(PROFILES, [a_profile("ann", gender="f")], watermark=NOON).into(warehouse)
        Load(PROFILES, [a_profile("bob")]).into(warehouse)

    assert [row["profile_id"] for row in rows(database, "profiles")] == ["bob"]
    assert table_state_of(database, "profiles").watermark is None


def test_a_merge_that_fails_leaves_the_rows_that_were_there(file: BridgedDuckDBPlace) -> None:
    """DELETE and INSERT are one transaction, whatever words the columns' names hold."""
    for table, one in ((LISTS, a_list), (PROFILES, a_profile)):
        with opened(file) as warehouse:
            Load(table, [one("1")]).into(warehouse)
        with duckdb.connect(str(file.path)) as connection:
            connection.execute(f"ALTER TABLE ometria.{table.name} ALTER _account_id SET NOT NULL")
            connection.execute(
                f"CREATE UNIQUE INDEX only_{table.name} ON ometria.{table.name} (_account_id)"
            )
        with opened(file) as warehouse, pytest.raises(WarehouseError):
            Load(table, [one("1"), one("2")]).into(warehouse)
        assert len(rows(file, table.name)) == 1


def test_nothing_of_a_person_and_no_password_is_logged_or_told(
    database: BridgedPostgresPlace,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither by dlt nor by a driver, when all is logged that can be, and a row is refused."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("dlt").setLevel(logging.DEBUG)
    url = database.url.replace("postgres@", "postgres:CANARY-PASSWORD@")
    with opened(database):
        pass
    postgres().run(
        "ALTER TABLE ometria.profiles ADD CHECK (gender <> 'f')", database=database.database
    )
    with open_warehouse(url) as warehouse, pytest.raises(WarehouseError) as refused:
        Load(PROFILES, [a_profile("ann", gender="f")]).into(warehouse)

    told = "".join([str(refused.value), caplog.text, *capfd.readouterr()])
    assert "CANARY" not in told
    assert CANARY not in told


def test_settings_of_dlt_that_lie_about_are_not_read(
    file: BridgedDuckDBPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the environment nor in the working folder; and its own are left as they were."""
    from dlt.common import logger  # noqa: PLC0415 -- here, and not where tests are collected.
    from dlt.common.configuration.container import Container  # noqa: PLC0415
    from dlt.common.configuration.specs.pluggable_run_context import (  # noqa: PLC0415
        PluggableRunContext,
    )
    from dlt.common.runtime.telemetry import is_telemetry_started  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text('[schema]\nnaming = "duck_case"\n')
    for name in ("DESTINATION__DUCKDB__CREDENTIALS", "DESTINATION__CREDENTIALS"):
        monkeypatch.setenv(name, "duckdb:///elsewhere.duckdb")
    monkeypatch.setenv("SCHEMA__NAMING", "snake_case")
    monkeypatch.setenv("NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID", "true")
    before = Container()[PluggableRunContext].context, logger.LOGGER, is_telemetry_started()

    with opened(file) as warehouse:
        Load(PROFILES, [a_profile("ann")]).into(warehouse)

    found = rows(file, "profiles")
    assert [column.name for column in PROFILES.all_columns] == list(found[0])
    assert not (tmp_path / "elsewhere.duckdb").exists()
    assert before == (
        Container()[PluggableRunContext].context,
        logger.LOGGER,
        is_telemetry_started(),
    )


@pytest.mark.slow
def test_much_state_is_sent_as_rows_are(bridged: Place) -> None:
    """Hundreds of values that do not convert are rejected, and the rejects dropped when they do."""
    records = [a_profile(str(number), seen="perhaps") for number in range(300)]
    with opened(bridged) as warehouse:
        Load(PROFILES, records).into(warehouse)
        assert len(warehouse.rejects.newest(1_000)) == 300
    with opened(bridged) as warehouse:
        assert len(warehouse.rejects.newest(1_000)) == 300
        Load(PROFILES, [a_profile(str(number)) for number in range(300)]).into(warehouse)
    assert table_state_of(bridged, "profiles").rejects == 0
    assert len(rows(bridged, "profiles")) == 300


def test_state_of_two_sources_goes_through_two_staging_schemas(
    file: BridgedDuckDBPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs side by side would merge each other's rows in one, with or without rows of data."""
    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader  # noqa: PLC0415 -- dlt: 0.8 s.

    staged: dict[str, set[str]] = {}
    load = DltLoader.load

    def noted(self: Any, dataset: str, staging: str, table: Any, batches: Any) -> None:
        found = list(batches)
        names = [name for name in found[0].schema.names if name.endswith("source_id")]
        for batch in found:
            staged.setdefault(staging, set()).update(batch.column(names[0]).to_pylist())
        load(self, dataset, staging, table, found)

    monkeypatch.setattr(DltLoader, "load", noted)
    with opened(file, "uk", "us") as warehouse:
        for source_id in ("uk", "us"):
            unreadable = tuple(
                FileLogEntry(FeedObject(f"{n}.csv", "1", 1, NOON), NOON, 0, "it cannot be read")
                for n in range(120)
            )
            with translating("a test"):
                Staging(warehouse.connection, EMAIL_EVENTS, "1042", source_id).finish()
            warehouse.load(Batch(EMAIL_EVENTS, source_id, "a-run", NOON, files=unreadable))

    assert sorted(map(sorted, staged.values())) == [["uk"], ["us"]]
    assert len(state(file, "files")) == 240


def test_the_limits_of_memory_reach_the_duckdb_of_dlt(
    file: BridgedDuckDBPlace, tmp_path: Path
) -> None:
    """It runs in the same process as ours."""
    limits = Limits("210MB", 3, str(tmp_path / "temporary"))
    shown = (
        "SELECT current_setting('memory_limit'), current_setting('threads'),"
        " current_setting('temp_directory')"
    )
    with open_warehouse(file.url, limits=limits) as warehouse:
        engine = warehouse._engine
        assert isinstance(engine, LocalMergeEngine)
        assert isinstance(engine._remote, DltRemote)
        ((memory, threads, folder),) = engine._remote._loader.rows(shown)
    assert (memory, threads) == ("200.2 MiB", 3)
    assert folder.startswith(str(tmp_path / "temporary"))


def a_profile(name: str, **fields: str) -> str:
    """Write a profile."""
    return as_json(id=name, email=CANARY, **fields)


def a_list(name: str, **fields: str) -> str:
    """Write a list."""
    return as_json(id=name, title=f"The list {name}", **fields)


def an_event(number: int) -> str:
    """Write an event of the feed."""
    return as_json(to_address=CANARY, event_type="open", dt_occurred=f"2026-03-0{number}T12:00:00Z")


def as_json(**fields: str) -> str:
    """Write a record."""
    members = ", ".join(f'"{name}": "{value}"' for name, value in fields.items())
    return f"{{{members}}}"


@pytest.mark.slow
def test_a_sync_sends_the_statements_that_the_page_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sync of a small account, and the second, which finds nothing new."""
    counts: Counter[str] = Counter()

    def counting(owner: Any, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def counted(self: Any, *arguments: Any, **options: Any) -> Any:
            counts[kind] += 1
            return original(self, *arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    counting(DuckDbSqlClient, "execute_query", "statements")
    counting(dlt.Pipeline, "run", "packages")
    shop = Account.create(profiles=600, lists=6, email_events=3_000)
    Feed(shop, str(tmp_path / "export")).export_history()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = []
    with serve(shop, requests_per_second=None) as server:
        environ = {
            "OMETRIA_API_KEY": server.key,
            "OMETRIA_API_URL": server.url,
            "OMETRIA_FEED_URL": str(tmp_path / "export"),
            "OMETRIA_REQUESTS_PER_SECOND": "1000",
            "OMETRIA_WAREHOUSE_URL": f"dlt+duckdb:///{tmp_path}/warehouse.duckdb",
        }
        for _ in range(2):
            counts.clear()
            sync(load_config(None, environ))
            found.append((counts["statements"], counts["packages"]))

    page = (Path(__file__).parents[2] / "docs/how-to/cloud-warehouses.md").read_text()
    table = page.partition("<!-- statements -->")[2].partition("<!-- /statements -->")[0]
    assert [(int(s), int(p)) for s, p in re.findall(r"\| (\d+) \| (\d+) \|", table)] == found


@pytest.mark.slow
def test_the_constraint_of_older_releases_is_replaced(database: BridgedPostgresPlace) -> None:
    """Under it two accounts could not have equal keys; one that a foreign key needs stays."""
    with opened(database, "uk", "fr") as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
    for table in ("lists", "profiles"):
        for statement in (
            f"DROP INDEX ometria.{table}___source_id___sync_key_idx",
            f"ALTER TABLE ometria.{table} ADD UNIQUE (__sync_key)",
        ):
            postgres().run(statement, database=database.database)
    needed = "CREATE TABLE mine (key text REFERENCES ometria.profiles (__sync_key))"
    postgres().run(needed, database=database.database)

    with opened(database, "uk", "fr"):
        pass
    indexes = postgres().rows(
        "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'ometria'"
        " AND tablename IN ('lists', 'profiles') ORDER BY 1",
        database=database.database,
    )
    assert indexes == [("lists___source_id___sync_key_idx",), ("profiles___sync_key_key",)]
