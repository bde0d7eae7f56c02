"""Rows are rewritten in each kind of warehouse, and an interrupted rewrite is done again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ometria_replica import failpoints
from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, Config, Secret, WarehouseSettings
from ometria_replica.errors import WarehouseError
from ometria_replica.rehashing import rehash
from ometria_replica.tables import EMAIL_EVENTS, PROFILES, UNSUBSCRIBES
from tests.unit.staged import stage_records
from tests.warehouses.loads import NOON, Load, opened, rows, state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.schema import Table
    from tests.duck import Row
    from tests.places import Place

pytestmark = pytest.mark.slow

RECORDS: Mapping[str, tuple[str, ...]] = {
    "profiles": ('{"id": "ann", "email": "Ann@example.com", "date_of_birth": "1990-05-01"}',),
    "email_events": (
        '{"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "2026-03-01"}',
        '{"to_address": "ann@example.com", "event_type": "x", "dt_occurred": "2026-03-01 08:00"}',
        '{"to_address": null, "event_type": "open", "dt_occurred": "2026-03-01T08:00:00Z"}',
    ),
    "unsubscribes": (
        '{"profile_id": "ann", "timestamp": "2026-03-01T08:00:00Z", "email_address": "a@b.c"}',
        '{"profile_id": "bob", "timestamp": "never", "reason": "ann"}',
    ),
}
SETTINGS = AccountSettings(
    account_id="account of uk",
    source_id="uk",
    hash=("*.email", "member_lists.profile_id"),
    exclude=("profiles.date_of_birth",),
    hash_key=Secret("a secret that is long enough", "the test"),
)


def filled(place: Place) -> None:
    """Load a few rows of each kind, as they came; of another source too."""
    with opened(place, "uk", "fr") as warehouse:
        for table in (PROFILES, EMAIL_EVENTS, UNSUBSCRIBES):
            for source_id in ("uk", "fr"):
                Load(table, RECORDS[table.name], source_id).into(warehouse)


def rehashed(place: Place) -> None:
    """Rewrite the rows of the source "uk"."""
    rehash(Config((SETTINGS,), WarehouseSettings(url=place.url)), clock=lambda: NOON)


def contents(found: list[Row]) -> list[Row]:
    """Leave out whose the rows are, and when they were loaded."""
    left_out = {"_account_id", "__synced_at"}
    return [{name: row[name] for name in row if name not in left_out} for row in found]


def newly_loaded(table: Table) -> list[Row]:
    """Give the rows that a load with the settings makes."""
    treated = CATALOG.for_account(SETTINGS).table(table.name)
    made = contents(stage_records(treated, *RECORDS[table.name]).rows)
    return sorted(made, key=lambda row: str(row["__sync_key"]))


def are_rewritten(place: Place) -> None:
    """Check the rows of both sources."""
    for table in (PROFILES, EMAIL_EVENTS, UNSUBSCRIBES):
        assert contents(rows(place, table.name, "uk")) == newly_loaded(table)
        assert len(rows(place, table.name, "fr")) == len(RECORDS[table.name])
    (profile,) = rows(place, "profiles", "fr")
    assert profile["email"] == "Ann@example.com"
    noted = {(row["table_name"], row["column_name"]) for row in state(place, "column_treatments")}
    assert ("email_events", "email") in noted


def test_rows_are_rewritten(place: Place) -> None:
    """They are as a load with the settings makes them, and those of another source stay."""
    filled(place)

    rehashed(place)

    are_rewritten(place)
    rejects = state(place, "rejects")
    assert [row["raw"] for row in rejects if row["source_id"] == "uk"] == ["never"]


@pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
def test_values_of_a_users_own_columns_follow_the_new_keys(place: Place) -> None:
    """Those of rows that become one, since their addresses differed in case only, are lost."""
    filled(place)
    with opened(place) as warehouse:
        events = (
            {"to_address": to, "event_type": "own", "dt_occurred": "2026-03-02T08:00:00Z"}
            for to in ("two@example.com", "TWO@example.com", "one@example.com")
        )
        Load(EMAIL_EVENTS, list(map(json.dumps, events))).into(warehouse)
    place.add_column("email_events", "note")
    with opened(place) as warehouse, warehouse.sessions.writing("noting"):
        warehouse._engine.execute(
            f"UPDATE {warehouse._engine.name(EMAIL_EVENTS)} SET note ="
            " coalesce(__source_id || email || event_type, 'none')"
        )
    before = rows(place, "email_events", "fr")

    rehashed(place)

    found = {(row["event_type"], row["note"]) for row in rows(place, "email_events", "uk")}
    assert found == {("own", None), ("own", "ukone@example.comown"), ("open", "none"),
                     ("open", "ukann@example.comopen"), ("x", "ukann@example.comx")}  # fmt: skip
    assert rows(place, "email_events", "fr") == before


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_interrupted_rewrite_is_done_again(
    place: Place, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether some rows were rewritten before or none, the second run ends with all."""
    filled(place)
    seen = 0

    def fail(name: str) -> None:
        nonlocal seen
        seen += name.endswith("rewritten rows")
        if seen == number:
            raise WarehouseError("the test ends it here")

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_listeners", [fail])
        with pytest.raises(WarehouseError):
            rehashed(place)
    rehashed(place)

    are_rewritten(place)
