"""`verify` in warehouses that merge by other means than a DuckDB file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable

from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.nested_tables import PROFILE_TAGS
from ometria_replica.replication import sync
from ometria_replica.selection import Selection, Values
from ometria_replica.state_commands import opened
from ometria_replica.verification.run import verify
from ometria_replica.warehouse import verification
from ometria_simulator import serve
from tests.incremental.shops import HOUR, NOON, account
from tests.incremental.verifications import differing, quiet_feed, quiet_shop
from tests.places import KINDS, DeltaPlace, PostgresPlace
from tests.postgres import postgres

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator.server import LoggedRequest
    from tests.places import Place

OTHERS = sorted(KINDS.keys() - {"duckdb"})


def damage(place: Place, config: Config) -> None:
    """Remove rows of three tables, and change values where another program than ours can."""
    with opened(config) as warehouse:
        tables = {table.name: table for table in warehouse._catalog}
        for name, column, texts in (
            ("profiles", "profile_id", ("p03", "p05")),
            ("email_events", "campaign_title", ("file 0",)),
            ("member_lists", "list_id", ("20",)),
        ):
            warehouse.delete(tables[name], Selection("uk", Values(column, texts)))
    if isinstance(place, PostgresPlace):
        statement = "UPDATE ometria.{} SET {} WHERE {}"
        for change in (
            ("profiles", "city = 'x'", "profile_id = 'p06'"),
            (
                "email_events",
                "event_at = event_at - interval '5 years'",
                "email = 'k@example.com'",
            ),
        ):
            postgres().run(statement.format(*change), database=place.database)
    elif isinstance(place, DeltaPlace):
        table = DeltaTable(place.folder / "ometria" / "profiles")
        table.update({"city": "'x'"}, predicate="profile_id = 'p06'")
        events = DeltaTable(place.folder / "ometria" / "email_events")
        earlier = {"event_at": "event_at - interval '1825 days'"}
        events.update(earlier, predicate="email = 'k@example.com'")


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_damage_is_found_and_repaired(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same counts in each warehouse: of all, and of a sample of all parts."""
    monkeypatch.setattr(verification, "_ROWS_COPIED", 25)
    place = KINDS[kind](tmp_path)
    with serve(quiet_shop(), requests_per_second=None) as server:
        settings = account(server, quiet_feed(tmp_path / "feed"))
        config = Config(accounts=(settings,), warehouse=WarehouseSettings(url=place.url))
        sync(config, clock=lambda: NOON)

        def run(*, repair: bool = False, share: float | None = None) -> set[tuple[str, str, str]]:
            report = verify(config, share=share, repair=repair, clock=lambda: NOON + HOUR)
            return differing(report)

        assert run() == run(share=1.0) == set()
        damage(place, config)
        found = run()
        numbers: dict[tuple[str, str], int] = {}
        for table, what, _ in found:
            numbers[table, what] = numbers.get((table, what), 0) + 1
        changed = {("profiles", "stale"): 1, ("email_events", "stale"): 1}
        assert numbers == {
            ("profiles", "missing"): 2,
            ("email_events", "missing"): 10,
            ("member_lists", "missing"): 8,
            **(changed if isinstance(place, PostgresPlace | DeltaPlace) else {}),
        }
        assert run(share=1.0) == found
        assert run(repair=True) == set()
        assert run() == set()
    place.remove()


@pytest.mark.slow
def test_a_sync_at_the_same_time_is_no_difference(tmp_path: Path) -> None:
    """While rows are compared, another run moves them on, with newer profiles and files."""
    place = PostgresPlace.new()
    shop = quiet_shop()
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, quiet_feed(tmp_path / "feed"))
        config = Config(accounts=(settings,), warehouse=WarehouseSettings(url=place.url))
        sync(config, clock=lambda: NOON)
        rounds = 0

        def meanwhile(_: LoggedRequest) -> None:
            nonlocal rounds
            server.after_request = None
            rounds += 1
            shop.advance(HOUR)
            for number in range(40):
                shop.update_profile(f"p{number:02}", lastname=f"In round {rounds}")
            shop.refresh_list("10", enter=["p30"], leave=[])
            sync(config, clock=lambda: shop.now)
            server.after_request = meanwhile

        server.after_request = meanwhile
        report = verify(config, clock=lambda: shop.now)
        server.after_request = None

        assert rounds > 5
        assert differing(report, newer=False) == set(), report.to_text()
    place.remove()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "delta"])
def test_rows_inside_records_are_compared(kind: str, tmp_path: Path) -> None:
    """What a profile lacks, and has no longer, is found and repaired with it."""
    place = KINDS[kind](tmp_path)
    shop = quiet_shop()
    shop.set_time(NOON - 90 * 24 * HOUR)
    for profile in shop.profiles:
        shop.update_profile(profile.id, tags=["all", profile.id])
    shop.set_time(NOON)
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, tables=("profiles", "profile_tags"))
        config = Config(accounts=(settings,), warehouse=WarehouseSettings(url=place.url))
        sync(config, clock=lambda: NOON)

        def run(*, repair: bool = False) -> set[tuple[str, str]]:
            report = verify(config, repair=repair, clock=lambda: NOON + HOUR)
            return {(table, kind) for table, kind, _ in differing(report)}

        with opened(config) as warehouse:
            lost = Values("profile_id", ("p03", "p05"))
            warehouse.delete(PROFILE_TAGS, Selection("uk", lost))
        assert run() == {("profile_tags", "missing")}
        assert run(repair=True) == run() == set()
    place.remove()
