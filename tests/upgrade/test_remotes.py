"""A state of version 1 in a lake, or behind dlt, is upgraded too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from ometria_replica.arrow_types import arrow_schema
from ometria_replica.batch import Owner
from ometria_replica.errors import Busy
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.remotes.base import StateChange
from ometria_replica.warehouse.state_tables import (
    ACCOUNTS,
    DELETED_UPSTREAM,
    LEASES,
    VERSION,
    WATERMARKS,
)
from ometria_replica.warehouse.state_upgrades import OLD_TABLES, STATE_VERSION
from tests.places import KINDS
from tests.warehouses.loads import HOUR, NOON, Load, opened, state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place

MARKS, MISSING = OLD_TABLES
UK = Owner("account of uk", "uk")
LEFT = {
    MARKS: [
        ["uk", "profiles", "watermark", NOON, "v1"],
        ["uk", "profiles", "whole", NOON - HOUR, "v1"],
        ["uk", "member_lists", "unread 10", NOON, "v1"],
        ["uk", "email_events", "listed s3://exports *", NOON, "v1"],
    ],
    MISSING: [["uk", "profiles", "0" * 32, "p1", NOON, None, "v1"]],
}
"""The rows of the tables that version 1 had, and version 2 has not."""


@pytest.fixture(params=["delta", "iceberg", "dlt+duckdb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give a place with a profile, and with state as version 1 left it."""
    made = KINDS[request.param](tmp_path)
    with opened(made) as warehouse:
        Load(PROFILES, ['{"id": "a"}'], watermark=NOON).into(warehouse)
        remote: Any = warehouse._engine._remote  # type: ignore[attr-defined]  # Of remotes.
        with remote.explaining("a test"):
            remote.create(OLD_TABLES)
            for table, rows in LEFT.items():
                columns = [list(values) for values in zip(*rows, strict=True)]
                new = pa.table(columns, schema=arrow_schema(table.columns))
                none = new.select(table.key).slice(0, 0)
                remote.write_state([StateChange(table, none, new)])
            for table in (VERSION, WATERMARKS):
                (there,) = remote.read_state([table])
                change = StateChange(table, there.select(table.key), there.slice(0, 0))
                remote.write_state([change])
    return made


def test_the_state_of_a_remote_is_upgraded(place: Place) -> None:
    """Its rows are there under their new names, once, and a second run changes nothing."""
    for _ in range(2):
        with opened(place) as warehouse:
            found = warehouse.state.table_state("uk", "profiles")
            assert (found.watermark, found.full_read_at) == (NOON, NOON - HOUR)
            assert found.deleted_upstream == 1
            assert warehouse.state.table_state("uk", "member_lists").retry == {"10": NOON}
            listed = warehouse.state.table_state("uk", "email_events").listed
            assert listed == {"s3://exports *": NOON}

    assert [row["version"] for row in state(place, VERSION.name)] == [STATE_VERSION]
    assert sorted(row["kind"] for row in state(place, WATERMARKS.name)) == [
        "full_read", "listed s3://exports *", "retry 10", "watermark",
    ]  # fmt: skip
    assert len(state(place, DELETED_UPSTREAM.name)) == 1


def test_a_remote_of_version_1_can_be_looked_at(place: Place) -> None:
    """A dry run sees the rows under their new names and writes nothing."""
    with open_warehouse(place.url, dry_run=True) as warehouse:
        assert warehouse.state.table_state("uk", "profiles").watermark == NOON
    assert state(place, VERSION.name) == []


@pytest.mark.slow
def test_two_programs_upgrade_once(place: Place) -> None:
    """The second finds what the first one wrote, though it had looked before."""
    with open_warehouse(place.url) as first, open_warehouse(place.url) as second:
        assert not second.leases.holder("uk")
        first.prepare(UK, NOON)
        first.state.set_listed("uk", "profiles", "feed", NOON, "a-run")
        second.prepare(UK, NOON)

    assert [row["version"] for row in state(place, VERSION.name)] == [STATE_VERSION]
    assert len(state(place, WATERMARKS.name)) == len(LEFT[MARKS]) + 1
    assert len(state(place, ACCOUNTS.name)) == 1


def test_an_upgrade_sees_a_lease_that_came_since(place: Place) -> None:
    """A program that had looked before refuses to take the tables from a run at work."""
    with open_warehouse(place.url) as second:
        assert not second.leases.holder("uk")
        with open_warehouse(place.url) as first:
            engine = first._engine
            with engine.session("a test"), engine.transaction():
                engine.insert(LEASES, ["uk", "a-run", "elsewhere", 1, "", NOON, NOON + HOUR])
        with pytest.raises(Busy, match="must be upgraded first"):
            second.prepare(UK, NOON)
    assert state(place, VERSION.name) == []


def test_state_moves_on_from_the_upgrade(place: Place) -> None:
    """What version 1 left behind does not come back."""
    with opened(place) as warehouse:
        Load(PROFILES, ['{"id": "b"}'], watermark=NOON + HOUR).into(warehouse)
    with opened(place) as warehouse:
        assert warehouse.state.table_state("uk", "profiles").watermark == NOON + HOUR
