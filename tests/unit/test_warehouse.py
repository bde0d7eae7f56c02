from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.batch import Batch, BatchSize, Owner
from ometria_replica.catalog import CATALOG
from ometria_replica.duckdb_files import duckdb_path
from ometria_replica.errors import Busy, ConfigError, WarehouseError
from ometria_replica.mapping import Staging
from ometria_replica.schema import Feed
from ometria_replica.sql import create_table
from ometria_replica.tables import EMAIL_EVENTS, PROFILES, TABLES, UNSUBSCRIBES
from ometria_replica.warehouse import SCHEMES, open_warehouse
from ometria_replica.warehouse.engines import duckdb_file
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Server, serve
from tests.duck import read, read_file
from tests.replicas import account, everything, of, replicate, write_feed_file
from tests.unit.staged import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.schema import Table

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def shop() -> Account:
    """Make an account with two old profiles, a list and an opt-out."""
    shop = Account(now=NOON)
    for name in ("ann", "bob"):
        shop.add_profile(name, email=f"{name}@example.com", created_at=NOON - 90 * DAY)
    shop.set_time(NOON + 5 * DAY)
    shop.add_list("1234", title="VIP")
    shop.refresh_list("1234", enter=["ann"], leave=[])
    shop.add_unsubscribe("bob", email_address="bob@example.com")
    return shop


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve it."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "replica.duckdb"


def updated_at(warehouse: Path) -> dict[str, datetime | None]:
    rows = read_file(warehouse, "ometria.profiles")
    return {row["profile_id"]: row["updated_at"] for row in rows}


# --- updated_at of profiles, decision 4 --------------------------------------------------------


def test_updated_at_is_the_day_that_was_asked_for(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """It is null after a full read, then the ``updateSince`` of the request that saw a change."""
    settings = account(server)
    replicate(warehouse, settings, at=shop.now)
    assert updated_at(warehouse) == {"ann": None, "bob": None}

    shop.set_time(shop.now + 3 * DAY)
    shop.update_profile("ann", firstname="Ann")
    replicate(warehouse, settings, at=shop.now)
    asked = next(r.query["updateSince"] for r in server.requests if "updateSince" in r.query)
    stamped = datetime.fromisoformat(asked).replace(tzinfo=UTC)
    assert updated_at(warehouse) == {"ann": stamped, "bob": None}


def test_reading_an_unchanged_profile_again_leaves_updated_at(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Neither a later request that repeats the profile nor a full read moves a known value."""
    settings = account(server)
    replicate(warehouse, settings, at=shop.now)
    shop.set_time(shop.now + 3 * DAY)
    shop.update_profile("ann", firstname="Ann")
    replicate(warehouse, settings, at=shop.now)
    stamped = updated_at(warehouse)

    shop.set_time(shop.now + timedelta(hours=30))
    replicate(warehouse, settings, at=shop.now)
    again = of(replicate(warehouse, settings, at=shop.now), "profiles")
    assert (again.records, updated_at(warehouse)) == (again.unchanged, stamped)

    full = of(replicate(warehouse, settings, at=shop.now, full=True), "profiles")
    assert (full.unchanged, updated_at(warehouse)) == (2, stamped)


def test_a_record_that_tells_its_own_update_is_believed(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Its `update_since` wins over the request's date, also where nothing else has changed."""
    settings = account(server)
    shop.update_profile("ann", update_since="2026-01-01T10:00:00+00:00")
    replicate(warehouse, settings, at=shop.now)
    first = updated_at(warehouse)["ann"]

    shop.update_profile("ann", update_since="2026-02-01T10:00:00+00:00")
    second = of(replicate(warehouse, settings, at=shop.now), "profiles")

    assert first == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert updated_at(warehouse)["ann"] == datetime(2026, 2, 1, 10, tzinfo=UTC)
    assert second.updated == 1


def test_a_key_is_found_though_its_time_did_not_convert_then(warehouse: Path) -> None:
    """An event whose time is null, from before its form was known, is replaced and not doubled."""
    record = '{"profile_id": "ann", "timestamp": "2026-03-01T10:00:00+00:00"}'
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(Owner("1042", "uk", wide_keys=False), NOON)
        load(opened, UNSUBSCRIBES, [record], "uk")
        with opened._engine.session("a test"):
            opened.connection.execute("UPDATE warehouse.ometria.unsubscribes SET event_at = NULL")
        load(opened, UNSUBSCRIBES, [record], "uk")

    (row,) = read_file(warehouse, "ometria.unsubscribes")
    assert row["event_at"] == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_a_full_read_of_a_changed_profile_keeps_updated_at(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A full read does not know when a change was made, so the last known value stays."""
    settings = account(server)
    replicate(warehouse, settings, at=shop.now)
    shop.set_time(shop.now + 3 * DAY)
    shop.update_profile("ann", firstname="Ann")
    replicate(warehouse, settings, at=shop.now)
    stamped = updated_at(warehouse)
    shop.set_time(shop.now + 3 * DAY)
    shop.update_profile("ann", firstname="Anna")

    full = of(replicate(warehouse, settings, at=shop.now, full=True), "profiles")

    assert (full.updated, full.unchanged) == (1, 1)
    assert updated_at(warehouse) == stamped
    assert everything(warehouse)["profiles"][0]["first_name"] in {"Anna", None}


def test_a_record_with_update_since_speaks_for_itself(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Should Ometria ever send ``update_since``, that is the column's value."""
    shop.update_profile("ann", update_since="2026-03-07T10:11:12+00:00")

    replicate(warehouse, account(server), at=shop.now)

    assert updated_at(warehouse)["ann"] == datetime(2026, 3, 7, 10, 11, 12, tzinfo=UTC)


# --- One row a key, and whose rows -------------------------------------------------------------


def load(opened: Warehouse, table: Table, records: list[str], source_id: str) -> None:
    staging = Staging(opened.connection, table, "1042", source_id)
    staging.add_pages([page(*records)], NOON)
    staging.finish()
    opened.load(Batch(table, source_id, "a-run", NOON))


records = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "2", "3", 1, 1.5])},
    optional={
        "profile_id": st.sampled_from(["p", "q", None, ""]),
        "timestamp": st.sampled_from([None, "soon", "2026-03-01", "2026-03-01T00:00:00Z", 17]),
        "to_address": st.sampled_from(["a", "b", None]),
        "event_type": st.sampled_from(["open", "click"]),
        "dt_occurred": st.sampled_from([None, "?", "1772359200", "2026-03-01 10:00:00+00"]),
        "event": st.sampled_from(["list_enter", "list_exit"]),
        "title": st.text(max_size=2),
    },
).map(json.dumps)


@pytest.mark.parametrize(
    "table",
    [
        each if each in (PROFILES, EMAIL_EVENTS) else pytest.param(each, marks=pytest.mark.slow)
        for each in TABLES
    ],
    ids=lambda table: table.name,
)
@settings(max_examples=4, deadline=None)
@given(batches=st.lists(st.lists(records, max_size=6), min_size=1, max_size=4))
def test_a_key_has_one_row_at_rest(table: Table, batches: list[list[str]]) -> None:
    """However records are split into batches, ``__sync_key`` is unique, and two sources differ."""
    with open_warehouse("duckdb:///:memory:") as opened:
        for source_id in ("uk", "us"):
            opened.prepare(Owner(f"of {source_id}", source_id, wide_keys=False), NOON)
        for batch in batches:
            for source_id in ("uk", "us"):
                load(opened, table, batch, source_id)
        rows = read(opened.connection, f"warehouse.ometria.{table.name}", order="__sync_key")
    with open_warehouse("duckdb:///:memory:") as opened:
        opened.prepare(Owner("of uk", "uk", wide_keys=False), NOON)
        load(opened, table, [record for batch in batches for record in batch], "uk")
        together = read(opened.connection, f"warehouse.ometria.{table.name}", order="__sync_key")

    assert len({row["__sync_key"] for row in rows}) == len(rows)
    assert [row for row in rows if row["__source_id"] == "uk"] == together
    assert len(rows) == 2 * len(together)


@pytest.mark.parametrize("batch_records", [1, 20_000])
def test_two_accounts_stand_side_by_side(
    batch_records: int,
    shop: Account,
    server: Server,
    warehouse: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second account with the very same ids neither touches nor hides a row of the first."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=batch_records))
    uk, us = account(server), account(server, account_id="1043", source_id="us")
    replicate(warehouse, uk, at=shop.now)
    alone = everything(warehouse, load_time=True)
    shop.update_profile("ann", firstname="Ann")

    for _ in range(2):
        replicate(warehouse, us, at=shop.now + DAY, full=True)

    after = everything(warehouse, load_time=True)
    for name, rows in after.items():
        assert [row for row in rows if row["__source_id"] == "uk"] == alone[name]
        others = [row for row in rows if row["__source_id"] == "us"]
        assert len(others) == len(alone[name])
        assert {row["_account_id"] for row in others} <= {"1043"}


def test_two_accounts_sync_in_one_run(shop: Account, server: Server, warehouse: Path) -> None:
    """Both are reported, each under its source."""
    accounts = account(server), account(server, account_id="1043", source_id="us")

    report = replicate(warehouse, *accounts, at=shop.now)

    assert {(each.source_id, each.table) for each in report.tables} == {
        (source, table)
        for source in ("uk", "us")
        for table in (each.name for each in TABLES if not isinstance(each.read, Feed))
    }
    assert len(everything(warehouse)["profiles"]) == 4


@pytest.mark.parametrize(
    ("account_id", "source_id"), [("1042", "another"), ("another", "uk")], ids=["source", "account"]
)
def test_a_silent_change_of_source_is_refused(
    account_id: str, source_id: str, shop: Account, server: Server, warehouse: Path
) -> None:
    """Another source id would re-key every row: nothing is read, nothing is changed."""
    replicate(warehouse, account(server), at=shop.now)
    before, asked = everything(warehouse, load_time=True), len(server.requests)

    changed = account(server, account_id=account_id, source_id=source_id)
    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, changed, at=shop.now + DAY)

    assert str(refused.value) == (
        f"source_id: account '{account_id}' with source '{source_id}' does not fit {warehouse},"
        " which holds account '1042' as source 'uk'. Every key contains the source id, so another"
        " would load every row a second time. Restore the old value, or use a new warehouse."
    )
    assert everything(warehouse, load_time=True) == before
    assert len(server.requests) == asked


# --- All or nothing ----------------------------------------------------------------------------


def state(warehouse: Path, name: str) -> list[dict[str, object]]:
    return list(read_file(warehouse, f"ometria_replica.{name}"))


def make_with_check(warehouse: Path, table: str, check: str) -> None:
    """Make the tables, one of them with a constraint of the customer's own."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE SCHEMA ometria")
        statement = create_table(CATALOG.table(table)).rstrip(")")
        connection.execute(f"{statement}, CHECK ({check}))")


def test_a_batch_that_the_warehouse_refuses_leaves_no_trace(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Rows, rejects and watermark are rolled back together, and the next run starts over."""
    make_with_check(warehouse, "profiles", "length(customer_name) < 5")
    shop.update_profile("bob", name="Bobby", seen="perhaps")

    with pytest.raises(WarehouseError) as refused:
        replicate(warehouse, account(server), at=shop.now, tables=["profiles"])

    assert str(refused.value) == (
        f"DuckDB refused while loading profiles in {warehouse} (ConstraintException)."
        " Uncommitted changes were rolled back. Run again; if it happens again, report it."
    )
    assert read_file(warehouse, "ometria.profiles") == []
    assert state(warehouse, "watermarks") == []
    assert state(warehouse, "rejects") == []
    (run,) = state(warehouse, "runs")
    assert run["outcome"] == "failed"

    shop.update_profile("bob", name="Bob")
    report = of(replicate(warehouse, account(server), at=shop.now), "profiles")
    assert report.inserted == 2
    assert [reject["raw"] for reject in state(warehouse, "rejects")] == ["perhaps"]


def test_a_later_batch_that_is_refused_leaves_the_earlier_ones(
    shop: Account, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed stays, the watermark does not move, and a re-run loads the rest."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=1))
    make_with_check(warehouse, "lists", "length(list_title) < 5")
    settings = account(server)
    replicate(warehouse, settings, at=shop.now, tables=["lists"])
    marks = state(warehouse, "watermarks")
    shop.update_list("1234", title="too long")

    with pytest.raises(WarehouseError, match="rolled back"):
        replicate(warehouse, settings, at=shop.now + DAY)

    assert [row["list_title"] for row in everything(warehouse)["lists"]] == ["VIP"]
    assert [
        mark for mark in state(warehouse, "watermarks") if mark["table_name"] == "lists"
    ] == marks
    assert len(everything(warehouse)["profiles"]) == 2  # Read before the lists, and committed.


def test_a_refused_file_is_not_in_the_ledger(tmp_path: Path, warehouse: Path) -> None:
    """The ledger is written with the rows: a file whose rows are refused is read again."""
    make_with_check(warehouse, "email_events", "email <> 'eve'")
    feed = tmp_path / "feed"
    write_feed_file(feed, "f", NOON, [{"to_address": "ann"}, {"to_address": "eve"}])
    with pytest.raises(WarehouseError, match="rolled back"):
        replicate(warehouse, account(folder=feed), at=NOON)
    assert (everything(warehouse)["email_events"], state(warehouse, "files")) == ([], [])

    write_feed_file(feed, "f", NOON + DAY, [{"to_address": "ann"}, {"to_address": "bob"}])
    report = of(replicate(warehouse, account(folder=feed), at=NOON), "email_events")

    assert (report.files, report.inserted) == (1, 2)
    assert [entry["records"] for entry in state(warehouse, "files")] == [2]


def test_a_dry_run_writes_nothing(shop: Account, server: Server, warehouse: Path) -> None:
    """It counts what would be done, and makes no file; beside an old one it changes no byte."""
    report = of(replicate(warehouse, account(server), at=shop.now, dry_run=True), "profiles")
    assert (report.inserted, warehouse.exists()) == (2, False)

    replicate(warehouse, account(server), at=shop.now)
    before = warehouse.read_bytes()
    shop.update_profile("ann", firstname="Ann")
    again = replicate(warehouse, account(server), at=shop.now, dry_run=True, full=True)
    report = of(again, "profiles")

    assert (report.inserted, report.updated, report.unchanged) == (0, 1, 1)
    assert warehouse.read_bytes() == before


# --- Files that are not ours -------------------------------------------------------------------


LISTS = create_table(CATALOG.table("lists")).split("(", 1)[1].rstrip(")\n")


def objects(warehouse: Path) -> list[tuple[str, ...]]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return connection.execute(
            "SELECT table_schema, table_name, column_name FROM information_schema.columns"
            " ORDER BY ALL"
        ).fetchall()


@pytest.mark.parametrize(
    ("columns", "odd"),
    [
        ("list_id VARCHAR, extra INTEGER", None),
        (
            LISTS.replace('"created_at" TIMESTAMP WITH TIME ZONE', '"created_at" VARCHAR'),
            "created_at text, created_at timestamptz",
        ),
        (",".join(reversed(LISTS.split(","))), "the order of its columns"),
    ],
    ids=["others", "type", "order"],
)
def test_a_table_with_other_columns_is_refused(
    columns: str, odd: str | None, server: Server, warehouse: Path
) -> None:
    """A foreign table is named with its differences, and nothing is changed."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"CREATE SCHEMA ometria; CREATE TABLE ometria.lists ({columns})")
    before = objects(warehouse)

    with pytest.raises(WarehouseError) as refused:
        replicate(warehouse, account(server), at=NOON)

    message = str(refused.value)
    assert message.startswith(f"The table ometria.lists in {warehouse} is not ours: it differs in ")
    assert message.endswith(
        " Nothing was changed. Rename it or drop it, then run again with --full."
    )
    assert (odd or "extra INTEGER") in message
    assert objects(warehouse) == before
    assert server.requests == []


def test_other_schemas_in_the_file_are_left_alone(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """What else a customer keeps in the file stays as it is."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE TABLE profiles (mine INTEGER); INSERT INTO profiles VALUES (42)")

    replicate(warehouse, account(server), at=shop.now)

    assert read_file(warehouse, "main.profiles") == [{"mine": 42}]


def test_a_file_that_another_process_holds_is_busy(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the file and the process that holds it; nothing was changed."""
    hold = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(warehouse)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()

        monkeypatch.setattr(duckdb_file, "WAIT_SECONDS", 0.0)
        with (
            pytest.raises(Busy) as refused,
            open_warehouse(f"duckdb:///{warehouse}") as opened,
        ):
            opened.prepare(Owner("1042", "uk", wide_keys=False), NOON)

        message = str(refused.value)
        assert message.startswith(f"{warehouse} is open in another program (")
        assert f"(PID {holder.pid}))" in message
        assert message.endswith("Close it there, then run again.")
        assert refused.value.exit_code == 75
        holder.communicate("")
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(Owner("1042", "uk", wide_keys=False), NOON)


def test_a_file_that_is_no_duckdb_file_is_refused_and_kept(server: Server, warehouse: Path) -> None:
    """A text file by the warehouse's name keeps its every byte."""
    warehouse.write_text("my diary\n" * 1000)

    with pytest.raises(WarehouseError) as refused:
        replicate(warehouse, account(server), at=NOON)

    assert str(refused.value) == (
        f"{warehouse} is not a DuckDB file. Nothing was changed. Change warehouse.url, or move it."
    )
    assert refused.value.exit_code == 5
    assert warehouse.read_text() == "my diary\n" * 1000


def test_a_folder_that_is_not_there_is_not_made(server: Server, tmp_path: Path) -> None:
    """A slip in the path is told, not turned into a new folder."""
    file = tmp_path / "typo" / "replica.duckdb"

    with pytest.raises(WarehouseError) as refused:
        replicate(file, account(server), at=NOON)

    assert str(refused.value) == (
        f"Cannot create {file}: its folder does not exist."
        " Create the folder, or change warehouse.url."
    )
    assert not file.parent.exists()
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("duckdb:///replica.duckdb", "replica.duckdb"),
        ("duckdb:////data/replica.duckdb", "/data/replica.duckdb"),
        ("replica.duckdb", "replica.duckdb"),
        ("postgresql://host/db", None),
    ],
)
def test_an_address_names_a_file(url: str, path: str | None) -> None:
    """Three slashes are relative, four absolute, and a bare path is itself."""
    assert duckdb_path(url) == path


def test_no_warehouse_speaks_another_scheme() -> None:
    """An address of no warehouse of ours is a problem of the settings."""
    with pytest.raises(ConfigError) as refused:
        open_warehouse("carrier-pigeon://roof")

    assert str(refused.value) == (
        "warehouse.url: 'carrier-pigeon://' is not a known kind of warehouse."
        f" Use one of {', '.join(SCHEMES)}, or the path of a .duckdb file."
    )


def test_a_run_of_a_living_process_keeps_others_out(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A lease of a live run makes another run busy; an expired one is taken over."""
    replicate(warehouse, account(server), at=shop.now)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO ometria_replica.leases VALUES ('uk', 'other-run', ?, ?, '', ?, ?)",
            [os.uname().nodename, os.getpid(), shop.now, shop.now + timedelta(hours=1)],
        )
    before = everything(warehouse, load_time=True)

    with pytest.raises(Busy, match=rf"{os.getpid()}.* is loading 'uk' into .* Run again"):
        replicate(warehouse, account(server), at=shop.now)
    assert everything(warehouse, load_time=True) == before

    replicate(warehouse, account(server), at=shop.now + timedelta(hours=2))
    assert state(warehouse, "leases") == []
