"""A table is one declaration: the program reads, merges and shows it, and keeps its state."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica.batch import Owner
from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.doctor.run import check
from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.replication import sync
from ometria_replica.schema import Column, Table, md5
from ometria_replica.selection import Selection
from ometria_replica.state_commands import read_state, rewind
from ometria_replica.tables import EMAIL_EVENTS, LISTS, MEMBER_LISTS, PROFILES, UNSUBSCRIBES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.ways_to_read import Feed, Pages, PerParent
from tests.duck import read_file
from tests.incremental.shops import DAY, HOUR, NOON, account, config
from tests.places import KINDS
from tests.replicas import everything, of, write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server
    from tests.duck import Row

# fmt: off
# Not the example of docs/how-to/add-a-table.md, so that it can be added to the program.
PRIVACY_REQUESTS = Table(
    "privacy_requests",
    # Ometria's limit is 6 a minute. tests/ometria shows that it is kept; here nothing waits.
    read=Pages("data-deletion-requests", requests_per_minute=600),
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    record_id="request_id",
    sample=("request_id", "action", "created_at", "completed_at"),
    columns=(
        Column("id",                     "request_id"),
        Column("action",                 "action"),
        Column("comment",                "comment"),
        Column("summary",                "summary"),
        Column("identities",             "identities"),
        Column("source::api_request_id", "api_request_id"),
        Column("source::origin",         "origin"),
        Column("source::user::email",    "user_email"),
        Column("source::user::name",     "user_name"),
        Column("timestamp_created",      "created_at", "timestamptz"),
        Column("timestamp_completed",    "completed_at", "timestamptz"),
    ),
)
# fmt: on
SIX = CATALOG + PRIVACY_REQUESTS

SMS_EVENTS = replace(
    EMAIL_EVENTS, name="sms_events", read=Feed("sms_events", pattern="sms/*.json"), schema="mobile"
)
"""Events of another dataset in the same bucket, in a schema of their own."""


def rows(warehouse: Path, table: Table) -> list[Row]:
    """Read a table, ordered by key."""
    return read_file(warehouse, table.full_name, order="__sync_key")


def test_a_sixth_table_is_synced(shop: Account, server: Server, warehouse: Path) -> None:
    """The declaration alone creates the table, reads its endpoint and merges what has changed."""
    request = shop.request_deletion("ann@example.com", completed_after=2 * DAY, comment="please")
    settings = config(warehouse, account(server))

    report = sync(settings, catalog=SIX, clock=lambda: shop.now)

    assert [table.table for table in report.tables][-1] == "privacy_requests"
    assert of(report, "privacy_requests").inserted == 1
    (row,) = rows(warehouse, PRIVACY_REQUESTS)
    assert list(row) == [column.name for column in PRIVACY_REQUESTS.all_columns]
    assert (row["request_id"], row["comment"], row["completed_at"]) == (request.id, "please", None)
    assert row["created_at"] == request.created_at
    assert json.loads(row["identities"]) == [
        {"hashed_email": hashed} for hashed in request.hashed_emails
    ]

    shop.advance(3 * DAY)
    again = sync(settings, ["privacy_requests"], catalog=SIX, clock=lambda: shop.now)
    assert (of(again, "privacy_requests").updated, len(again.tables)) == (1, 1)
    assert rows(warehouse, PRIVACY_REQUESTS)[0]["completed_at"] == request.created_at + 2 * DAY


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "delta", "dlt+duckdb"])
def test_a_sixth_table_is_synced_to_every_kind_of_warehouse(
    kind: str, shop: Account, server: Server, tmp_path: Path
) -> None:
    """Nothing of a warehouse knows the five tables by heart, nor their schema."""
    place = KINDS[kind](tmp_path)
    request = shop.request_deletion("ann@example.com", completed_after=DAY)
    elsewhere = replace(PRIVACY_REQUESTS, schema="privacy")
    settings = config(tmp_path / "unused", account(server))
    settings = replace(settings, warehouse=replace(settings.warehouse, url=place.url))
    for _ in range(2):
        report = sync(
            settings,
            ["privacy_requests"],
            catalog=CATALOG + elsewhere,
            clock=lambda: shop.now,
        )

    assert of(report, "privacy_requests").unchanged == 1
    with open_warehouse(place.url, catalog=CATALOG + elsewhere) as warehouse:
        (batch,) = [b for b in warehouse.read(elsewhere, Selection("uk")) if len(b)]
        assert batch.to_pylist()[0]["request_id"] == request.id
        assert warehouse.count(elsewhere, Selection("uk")) == 1
    place.remove()


def test_a_sixth_table_is_checked_shown_and_rewound(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """What is said of tables elsewhere is said of it too."""
    shop.request_deletion("ann@example.com", completed_after=DAY)
    settings = config(warehouse, account(server))
    sync(settings, ["privacy_requests"], catalog=SIX, clock=lambda: shop.now)

    tried = [finding for finding in check(settings, catalog=SIX) if not finding.error]
    assert any("/data-deletion-requests: the key may" in finding.text for finding in tried)
    (status,) = [
        table
        for table in read_state(settings, catalog=SIX).tables
        if table.table == "privacy_requests"
    ]
    assert (status.rows, status.read_until is not None) == (1, True)

    rewind(settings, ["privacy_requests"], None, catalog=SIX)
    (status,) = [
        table
        for table in read_state(settings, catalog=SIX).tables
        if table.table == "privacy_requests"
    ]
    assert status.read_until is None


def test_a_table_that_is_not_asked_for_is_not_known(server: Server, warehouse: Path) -> None:
    """The five tables are the default; another name is refused before anything is read."""
    with pytest.raises(ConfigError, match="There is no table 'privacy_requests'"):
        sync(config(warehouse, account(server)), ["privacy_requests"])
    assert server.requests == []


def test_another_table_changes_nothing_for_the_five(
    shop: Account, server: Server, tmp_path: Path
) -> None:
    """With a sixth table or without, the five have the same rows."""
    for name, catalog in (("five", CATALOG), ("six", SIX)):
        settings = config(tmp_path / name, account(server))
        sync(settings, catalog=catalog, clock=lambda: shop.now)

    assert everything(tmp_path / "five", load_time=True) == everything(
        tmp_path / "six", load_time=True
    )


def test_two_datasets_share_a_bucket(tmp_path: Path) -> None:
    """Each takes the files that its pattern matches, and the other leaves those alone."""
    feed, warehouse = tmp_path / "feed", tmp_path / "w.duckdb"
    both = CATALOG + SMS_EVENTS
    for number, folder in enumerate(("mail", "sms", "sms")):
        record = {
            "to_address": f"{folder}-{number}", "event_type": "open",
            "dt_occurred": NOON.isoformat(), "uuid": str(number),
        }  # fmt: skip
        (feed / folder).mkdir(parents=True, exist_ok=True)
        write_feed_file(feed, f"{folder}/{number}.json", NOON - HOUR, [record])
    settings = config(warehouse, account(None, feed))

    first = sync(settings, catalog=both, clock=lambda: NOON)
    second = sync(settings, catalog=both, clock=lambda: NOON + HOUR)

    assert (of(first, "email_events").files, of(first, "sms_events").files) == (1, 2)
    assert (of(second, "email_events").files, of(second, "sms_events").files) == (0, 0)
    assert [row["email"] for row in rows(warehouse, EMAIL_EVENTS)] == ["mail-0"]
    assert sorted(row["email"] for row in rows(warehouse, SMS_EVENTS)) == ["sms-1", "sms-2"]
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM mobile.sms_events").fetchall() == [(2,)]


# --- the catalog as a value --------------------------------------------------------------------


def test_a_parent_is_read_before_its_children() -> None:
    """Whatever the order of the declarations, and the export comes after the API."""
    backwards = Catalog((SMS_EVENTS, EMAIL_EVENTS, MEMBER_LISTS, LISTS))
    names = [table.name for table in backwards.in_reading_order]

    assert names == ["lists", "member_lists", "sms_events", "email_events"]
    five = Catalog((PROFILES, MEMBER_LISTS, LISTS, EMAIL_EVENTS, UNSUBSCRIBES))
    assert [table.name for table in five.in_reading_order] == [
        "profiles", "lists", "member_lists", "unsubscribes", "email_events",
    ]  # fmt: skip


def test_children_without_their_parent_are_read() -> None:
    """A parent's records are asked for, whether its rows are wanted or not."""
    only = CATALOG.only(["member_lists"])
    assert [table.name for table in only.in_reading_order] == ["member_lists"]
    assert isinstance(MEMBER_LISTS.read, PerParent)


def test_wide_keys_are_the_accounts_affair(server: Server) -> None:
    """The catalog of an account has the keys that its settings ask for, and no other does."""
    wide = CATALOG.for_account(account(server, wide_keys=True))

    assert wide.table("email_events").sync_key != EMAIL_EVENTS.sync_key
    assert CATALOG.for_account(account(server)) == CATALOG
    assert wide.joins == CATALOG.joins


def test_two_tables_of_one_name_are_refused() -> None:
    """In any schema: state knows a table by its name."""
    with pytest.raises(ConfigError, match="Two tables are named 'lists'"):
        _ = CATALOG + replace(LISTS, schema="elsewhere")


def test_a_table_with_other_columns_is_refused_by_its_full_name(
    warehouse: Path, server: Server
) -> None:
    """A table in a schema of its own is looked at there."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE SCHEMA mobile; CREATE TABLE mobile.sms_events (x INTEGER)")
    with (
        open_warehouse(f"duckdb:///{warehouse}", catalog=CATALOG + SMS_EVENTS) as opened,
        pytest.raises(WarehouseError, match=r"The table mobile\.sms_events in .* is not ours"),
    ):
        opened.prepare(Owner("1042", "uk"), NOON)
