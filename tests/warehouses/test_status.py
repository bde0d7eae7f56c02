"""The numbers of the status in every kind of warehouse, against those of another program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.replica_status import read_status
from ometria_replica.replication import sync
from ometria_simulator import serve
from tests.incremental.shops import HOUR, MINUTE, NOON, account, small_shop
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place

TIMES = {"member_lists", "email_events", "unsubscribes"}


@pytest.mark.slow
def test_the_numbers_are_those_that_another_program_reads(place: Place, tmp_path: Path) -> None:
    """For one source alone, which is counted without a condition, and for two."""
    shop = small_shop()
    shop.update_profile("ann", seen="perhaps")
    events = [
        {
            "to_address": f"{name}@example.com",
            "event_type": "open",
            "dt_occurred": f"{NOON - 2 * HOUR:%Y-%m-%d %H:%M:%S}",
        }
        for name in ("ann", "bob")
    ]
    write_feed_file(tmp_path / "feed", "1.jsonl", NOON - HOUR, events)
    with serve(shop, requests_per_second=None) as server:
        accounts = (
            account(server, tmp_path / "feed"),
            account(server, account_id="7", source_id="us"),
        )
        for several, gone in ((accounts[:1], "10"), (accounts, "20")):
            config = Config(several, WarehouseSettings(url=place.url))
            if not place.is_there:
                assert read_status(config).is_new
                assert not place.is_there
            sync(config, clock=lambda: NOON - HOUR)
            shop.delete_list(gone)
            sync(config, clock=lambda: NOON - HOUR + MINUTE)
            status = read_status(config, clock=lambda: NOON)

            assert status.is_all_right
            assert not status.active_runs
            assert {each.last_success_at for each in status.accounts} == {NOON - HOUR + MINUTE}
            assert {each.complete_until for each in status.tables} == {NOON - HOUR + MINUTE}
            with place.looking() as connection:

                def found(query: str) -> int:
                    ((value,),) = connection.execute(query).fetchall()
                    return int(value)

                for table in status.tables:
                    of_source = f"WHERE __source_id = '{table.source_id}'"
                    of_table = (
                        f"WHERE source_id = '{table.source_id}' AND table_name = '{table.table}'"
                    )
                    state = "FROM ometria_replica"
                    assert (table.rows, table.rejects, table.deleted_upstream, table.files) == (
                        found(f"SELECT count(*) FROM ometria.{table.table} {of_source}"),
                        found(f"SELECT count(*) {state}.rejects {of_table}"),
                        found(f"SELECT count(*) {state}.deleted_upstream {of_table}"),
                        found(f"SELECT count(*) {state}.files {of_table}"),
                    )
                    if table.table in TIMES:
                        assert table.newest_event is not None
                        assert int(table.newest_event.timestamp()) == found(
                            "SELECT epoch(max(event_at)::TIMESTAMPTZ)::BIGINT"
                            f" FROM ometria.{table.table} {of_source}"
                        )
                    else:
                        assert table.newest_event is None
            rows = {(table.source_id, table.table): table.rows for table in status.tables}
            assert rows["uk", "profiles"] == 3
            assert rows["uk", "email_events"] == 2
