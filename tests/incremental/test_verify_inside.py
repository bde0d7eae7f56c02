"""`verify` compares the tables inside records with what the records have, as part of these."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from ometria_replica.state_commands import rewind
from ometria_simulator import serve
from tests.duck import opened, read_file
from tests.incremental.further import Endpoints, orders, reading
from tests.incremental.shops import (
    HOUR,
    NOON,
    account,
    config,
    replicate,
)
from tests.incremental.test_verify import Replica, change, counts
from tests.incremental.verifications import QUIET_SINCE, differing, quiet_shop, verified

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_simulator import Account
    from ometria_simulator.server import LoggedRequest

NESTED = ("profile_tags", "profile_identities", "profile_lists")


def tagged_shop() -> Account:
    """Return the quiet shop, whose people have two tags and two identities each."""
    shop = quiet_shop()
    shop.set_time(QUIET_SINCE)
    for profile in shop.profiles:
        shop.update_profile(
            profile.id,
            tags=["all", profile.id],
            identities=[{"id": f"{profile.id}@example.com", "type": "email"}, {"id": profile.id}],
        )
    shop.set_time(NOON)
    return shop


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """Replicate the profiles of the tagged shop once."""
    folder = tmp_path_factory.mktemp("inside")
    with serve(tagged_shop(), requests_per_second=None) as server:
        settings = account(server, tables=("profiles", *NESTED))
        replicate(folder / "w.duckdb", settings, at=NOON)
        yield Replica(settings, server, folder / "w.duckdb")


@pytest.fixture
def replica(original: Replica, warehouse: Path) -> Replica:
    """Copy the replica."""
    shutil.copyfile(original.warehouse, warehouse)
    return Replica(original.settings, original.server, warehouse)


def keys(warehouse: Path, table: str, condition: str) -> set[str]:
    """Give the keys of the rows of a table for which a condition holds."""
    with opened(warehouse) as connection:
        statement = f"SELECT __sync_key FROM ometria.{table} WHERE {condition}"
        return {key for (key,) in connection.execute(statement).fetchall()}


def rows(warehouse: Path, *tables: str) -> dict[str, list[dict[str, object]]]:
    """Read tables, without the load time, in the order of their keys."""
    return {
        table: [
            {name: value for name, value in row.items() if name != "__synced_at"}
            for row in read_file(warehouse, f"ometria.{table}", order="__sync_key")
        ]
        for table in tables or ("profiles", "profile_tags", "profile_identities")
    }


def damage(warehouse: Path) -> set[tuple[str, str, str]]:
    """Let tags be lost, changed, moved to another profile, doubled and made up; name them."""
    tags, found = "ometria.profile_tags", set[tuple[str, str, str]]()
    for kind, condition, statement in (
        ("missing", "profile_id = 'p03'", f"DELETE FROM {tags}"),
        ("stale", "tag = 'p04'", f"UPDATE {tags} SET tag = 'x'"),
        ("stale", "tag = 'p05'", f"UPDATE {tags} SET profile_id = 'p06'"),
        ("extra", "tag = 'p07'", f"INSERT INTO {tags} FROM {tags}"),
    ):
        found |= {("profile_tags", kind, key) for key in keys(warehouse, "profile_tags", condition)}
        change(warehouse, f"{statement} WHERE {condition}")
    copy = f"SELECT * REPLACE ('made up' AS __sync_key) FROM {tags} WHERE tag = 'p08'"
    change(warehouse, f"INSERT INTO {tags} {copy}")
    return found | {("profile_tags", "extra", "made up")}


def test_what_is_inside_records_is_compared_and_repaired_with_them(replica: Replica) -> None:
    """Each row is named that differs, although its profile does not; no page is read twice."""
    warehouse = replica.warehouse
    sound, before = verified(warehouse, replica.settings), rows(warehouse)
    assert counts(sound) == {
        "profiles": (40, 0, 0, 0, 0),
        "profile_identities": (80, 0, 0, 0, 0),
        "profile_tags": (80, 0, 0, 0, 0),
        "profile_lists": (0, 0, 0, 0, 0),
    }
    assert sum(table.requests for table in sound.tables[1:]) == 0
    planted = damage(warehouse)

    assert differing(verified(warehouse, replica.settings)) == planted
    assert differing(verified(warehouse, replica.settings, share=1.0)) == planted
    assert differing(verified(warehouse, replica.settings, tables=["profiles"])) == set()

    repaired = verified(warehouse, replica.settings, repair=True)
    assert differing(repaired) == set()
    assert {table.table for table in repaired.tables if table.repaired} == {"profile_tags"}
    assert rows(warehouse) == before


def test_what_a_profile_has_since_the_sync_is_newer(replica: Replica) -> None:
    """Tags come and go, and a profile is deleted."""
    shop = tagged_shop()
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, tables=("profiles", *NESTED))
        shop.set_time(NOON + HOUR)
        shop.update_profile("p01", tags=["new"])
        shop.update_profile("p02", tags=[])
        shop.delete_profile("p03")
        report = verified(replica.warehouse, settings)

    assert differing(report, newer=False) == set(), report.to_text()
    newer = {table.table: table.newer for table in report.tables}
    assert newer == {
        "profiles": 0, "profile_identities": 0, "profile_tags": 5, "profile_lists": 0,
    }  # fmt: skip


def test_what_differs_is_asked_for_again(replica: Replica) -> None:
    """What was put right between the pages and the last question is no difference any more."""
    planted = damage(replica.warehouse)
    shop = tagged_shop()
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, tables=("profiles", "profile_tags"))

        def put_right(request: LoggedRequest) -> None:
            if "updateSince" in request.query:
                shop.update_profile("p04", tags=["all", "x"])
                shop.update_profile("p03", tags=[])
                shop.delete_profile("p05")

        server.after_request = put_right
        report = verified(replica.warehouse, settings)

    kinds = {kind for _, kind, _ in differing(report, newer=False)}
    assert kinds == {"extra"}  # The row that is twice, and the one of no tag.
    assert differing(report, newer=False) == {each for each in planted if each[1] == "extra"}


@pytest.mark.slow
def test_lines_of_orders_are_read_whole_by_a_sync_and_newer(warehouse: Path) -> None:
    """Their number is known, and which they are; a repair loads them without their orders."""
    both = ("orders", "order_lines")
    shop = Endpoints({"orders": orders(1, 5, lineitems=[{"sku": "a"}, {"sku": "b"}])})
    with shop.served() as listener:
        settings = reading(listener, *both)
        replicate(warehouse, settings, at=NOON)
        before = rows(warehouse, *both)
        lost = keys(warehouse, "order_lines", "order_id = '000003'")
        change(warehouse, "DELETE FROM ometria.order_lines WHERE order_id = '000003'")
        report = verified(warehouse, settings)
        assert differing(report) == {("order_lines", "newer", key) for key in lost}
        assert differing(verified(warehouse, settings, repair=True)) == set()
        assert rows(warehouse, *both) == before


def test_lists_of_a_profile_change_without_an_update_and_are_newer(warehouse: Path) -> None:
    """Only a full read brings them: what differs in them is no fault of the replica."""
    profile = {"id": "p1", "lists": [{"id": "10", "title": "Lovers"}]}
    shop = Endpoints({"profiles": [profile]}, honours=True)
    with shop.served() as listener:
        settings = reading(listener, "profiles", "profile_lists")
        replicate(warehouse, settings, at=NOON)
        profile["lists"] = [{"id": "20", "title": "VIP"}]
        report = verified(warehouse, settings)

    newer = {table.table: (table.differing, table.newer) for table in report.tables}
    assert newer == {"profiles": (0, 0), "profile_lists": (0, 2)}


def test_what_cannot_be_compared_is_named(replica: Replica) -> None:
    """A table inside others is not verified without these, nor before all of them were read."""
    alone = verified(replica.warehouse, replica.settings, tables=["profile_tags"])
    assert not alone.tables
    assert "with profiles, which is not verified" in alone.not_verified[0]

    rewind(config(replica.warehouse, replica.settings), ["profile_tags"], since=None)
    rewound = verified(replica.warehouse, replica.settings)
    assert "profile_tags of uk: no sync has read it" in rewound.not_verified[0]
    assert {"profiles", "profile_lists"} <= {table.table for table in rewound.tables}
