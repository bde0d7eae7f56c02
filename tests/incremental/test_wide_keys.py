from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ometria_replica.errors import ConfigError
from ometria_replica.tables import TABLES
from tests.duck import read_file
from tests.incremental.shops import DAY, NOON, account, replicate
from tests.replicas import everything, write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server

AT = NOON - DAY


def two_of_each(shop: Account, feed: Path) -> None:
    """Add two different events with one specified key, in each table of events."""
    for event in ("list_exit", "list_enter"):
        shop.add_change("20", "ann", event, at=AT)
    shop.add_unsubscribe("cat", "link_unsubscribe", email_address="cat@example.com", at=AT)
    shop.add_unsubscribe("cat", "stopword_unsubscribe_TF", email_address=None, at=AT)
    click = {
        "to_address": "ann@example.com",
        "event_type": "click",
        "dt_occurred": AT.isoformat(),
        "uuid": "one-send",
    }
    links = ("https://example.com/a", "https://example.com/b")
    write_feed_file(feed, "f.jsonl", AT, [{**click, "target_url": link} for link in links])


def test_merges_by_the_specified_keys_are_reported(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """By default each pair is one row, and the report counts one merged event per table."""
    two_of_each(shop, tmp_path / "feed")

    report = replicate(warehouse, account(server, tmp_path / "feed"), at=NOON)

    merged = {each.table: each.merged for each in report.tables if each.merged}
    assert merged == {"member_lists": 1, "unsubscribes": 1, "email_events": 1}
    rows = everything(warehouse)
    assert [row["event_at"] for row in rows["email_events"]] == [AT]
    assert (
        "unsubscribes: 1 event was merged into another because the specified key cannot"
        " tell them apart; the newest of each was kept. Set `wide_keys` before the first load"
    ) in report.to_text()


def test_wide_keys_separate_events_that_the_specified_keys_merge(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """Exit and entry at one refresh, two clicks or two opt-outs in a second are two rows each."""
    two_of_each(shop, tmp_path / "feed")
    settings = account(server, tmp_path / "feed", wide_keys=True)

    report = replicate(warehouse, settings, at=NOON)

    assert {each.merged for each in report.tables} == {0}
    rows = everything(warehouse)
    at = {name: [row for row in found if row.get("event_at") == AT] for name, found in rows.items()}
    assert {row["event"] for row in at["member_lists"]} == {"list_enter", "list_exit"}
    assert {row["email"] for row in at["unsubscribes"]} == {"cat@example.com", None}
    assert {row["target_url"][-1] for row in at["email_events"]} == {"a", "b"}

    again = replicate(warehouse, settings, at=NOON + timedelta(hours=1), full=True)
    assert everything(warehouse) == rows
    assert sum(each.inserted + each.updated + each.merged for each in again.tables) == 0


def test_profiles_and_lists_have_the_same_keys_either_way(
    shop: Account, server: Server, tmp_path: Path
) -> None:
    """Wide keys apply to events; tables with an id keep their keys."""
    narrow, wide = tmp_path / "narrow.duckdb", tmp_path / "wide.duckdb"
    replicate(narrow, account(server), at=NOON)
    replicate(wide, account(server, wide_keys=True), at=NOON)

    for name in ("profiles", "lists"):
        assert everything(wide)[name] == everything(narrow)[name]
    for name in ("member_lists", "unsubscribes"):
        keys = [{row["__sync_key"] for row in everything(file)[name]} for file in (narrow, wide)]
        assert keys[0].isdisjoint(keys[1])


def test_the_id_of_an_event_is_its_wide_key() -> None:
    """The column that contains the key of a row contains the wide key."""
    for table in TABLES:
        wide = table.with_wide_keys()
        keys = [column.source for column in wide.columns if not isinstance(column.source, str)]
        assert keys == ([wide.sync_key] if table.events else [])


@pytest.mark.parametrize("wide", [True, False])
def test_a_later_change_of_keys_is_refused(
    wide: bool, shop: Account, server: Server, warehouse: Path
) -> None:
    """A change of the setting would duplicate every event, so the run reads nothing."""
    replicate(warehouse, account(server, wide_keys=wide), at=NOON)
    before, asked = everything(warehouse, load_time=True), len(server.requests)

    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, account(server, wide_keys=not wide), at=NOON)

    assert str(refused.value) == (
        f"wide_keys: {warehouse} holds account '1042' with wide_keys = {str(wide).lower()}. Other"
        " keys would load every event a second time. Restore the old value, or use a new"
        " warehouse."
    )
    assert refused.value.exit_code == 2
    assert everything(warehouse, load_time=True) == before
    assert len(server.requests) == asked


def test_each_account_has_its_own_key_setting(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """The setting of one account does not affect another."""
    two_of_each(shop, tmp_path / "feed")
    uk = account(server, wide_keys=True)
    us = account(server, account_id="1043", source_id="us")

    replicate(warehouse, uk, us, at=NOON)

    rows = read_file(warehouse, "ometria.member_lists")
    assert sum(row["event_at"] == AT and row["__source_id"] == "uk" for row in rows) == 2
    assert sum(row["event_at"] == AT and row["__source_id"] == "us" for row in rows) == 1
