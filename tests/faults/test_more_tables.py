"""Runs with further and nested tables that are killed: nothing of them is lost or doubled."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.duck import read
from tests.e2e.oracle import expected_further
from tests.faults.child import Plan
from tests.faults.world import World
from tests.nested_arrays import IDENTITIES, LINES, TAGS, Expected

if TYPE_CHECKING:
    from pathlib import Path

FURTHER = ("collections", "contacts", "orders", "products", "custom_events", "push_errors")
NESTED = {"profile_tags": TAGS, "profile_identities": IDENTITIES, "order_lines": LINES}
FIVE = ("profiles", "member_lists", "lists", "email_events", "unsubscribes")
SETTINGS = f"tables = {json.dumps([*FIVE, *FURTHER, *NESTED])}"
STEPS = ("after page", "before insert", "before commit of the batch", "after commit of the batch")
LINEAGE = ("_account_id", "__source_id", "__synced_at")


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("table", ["profiles", "contacts", "orders", "push_errors"])
def test_killed_runs_leave_what_the_account_has(table: str, step: str, tmp_path: Path) -> None:
    """At first, and in a full read a week later, in which records have changed and gone."""
    with World(tmp_path, settings=SETTINGS, profiles=60, email_events=30) as world:
        world.run(plan=Plan(step, table), code=-9)
        world.check_after_crash()
        world.run()
        world.check()
        check(world, has_all=True)
        world.account.advance(timedelta(days=7))
        world.run("sync", "--full", plan=Plan(step, table), code=-9)
        world.check_after_crash()
        world.run("sync", "--full")
        check(world, has_all=False)


def check(world: World, *, has_all: bool) -> None:
    """Compare the tables with the account; without *has_all*, rows that are gone may be there."""
    promised = expected_further(world.account, world.account_id, world.source_id)
    for name in FURTHER:
        due = {row["__sync_key"]: row for row in promised[name]}
        found = {row["__sync_key"]: _without_time(row) for row in rows(world, name)}
        assert due
        assert {key: found.get(key) for key in due} == due, name
        assert not has_all or found.keys() == due.keys(), name
    shop = world.account.shop
    lines = [shop.order_record(order) for order in shop.orders]
    profiles = [profile.record() for profile in world.account.profiles]
    for name, arrays in NESTED.items():
        expected = Expected(arrays, world.source_id)
        expected.read(json.loads(json.dumps(lines if name == "order_lines" else profiles),
                                 parse_float=str))  # fmt: skip
        there = [
            tuple(value for column, value in row.items() if column not in LINEAGE)
            for row in rows(world, name)
        ]
        due_rows = expected.all()
        assert due_rows
        if has_all:
            assert sorted(there, key=repr) == due_rows, name
        else:
            assert not set(due_rows) - set(there), name


def rows(world: World, name: str) -> list[dict[str, Any]]:
    """Read the rows of a table."""
    with world.place.looking() as connection:
        return read(connection, f"ometria.{name}", "ALL")


def _without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "__synced_at"}
