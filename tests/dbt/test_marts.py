"""Every mart is what the accounts say, in DuckDB and PostgreSQL, at first and after more syncs."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from ometria_simulator import Quirks
from tests.dbt import oracle
from tests.dbt.program import PACKAGE, Project, needs_dbt
from tests.dbt.shown import CAMPAIGN, Shown
from tests.faults.checks import FIVE
from tests.faults.scenarios import live
from tests.faults.world import HISTORY, World
from tests.places import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.duck import Row
    from tests.places import Place

pytestmark = [pytest.mark.slow, needs_dbt]

ZONE = "America/New_York"
SETTINGS = 'tables = "all"\n'
IDS = {"profiles": "profile_id", "lists": "list_id", "orders": "order_id"}
KEYS = {
    "email_sends": ("source_id", "send_key"),
    "campaign_performance": CAMPAIGN,
    "campaign_performance_daily": (*CAMPAIGN, "sent_on"),
    "campaign_bounces": (*CAMPAIGN, "bounce_class"),
    "deliverability_daily": ("source_id", "sent_on", "email_domain"),
    "profile_current": ("source_id", "profile_id"),
    "list_membership_periods": ("source_id", "list_id", "profile_id", "period_number"),
    "list_members_current": ("source_id", "list_id", "profile_id"),
    "unsubscribe_reasons": ("source_id", "unsubscribed_on", "unsubscribe_reason"),
    "customer_orders": ("source_id", "customer_id", "currency"),
    "order_attribution": ("source_id", "order_id"),
    "campaign_revenue": (*CAMPAIGN, "ordered_on", "currency"),
    "lifecycle_daily": ("source_id", "day", "lifecycle_status", "consent"),
    "consent_daily": ("source_id", "day"),
}
OF_THE_LOAD = {"synced_at", "settings"}
"""Columns that depend on when a row was loaded, or how."""


@pytest.fixture(params=["duckdb", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()


def test_every_mart_is_what_the_accounts_say(place: Place, tmp_path: Path) -> None:
    """
    Of two accounts, with odd events and hostile texts; again after days on which all changed.

    Then no row differs from what a full refresh makes, and an erased person is in no mart.
    """
    with two_worlds(place, tmp_path) as worlds:
        project = Project(PACKAGE, place, tmp_path)
        world, _ = worlds
        odd(world)
        world.sync_here()
        first = shown(worlds)
        build(project, first)
        expect(project, oracle.marts(first))
        days = lifecycle([first])
        expect(project, {"lifecycle_daily": days, "consent_daily": oracle.consents(first, days)})

        for each in worlds:
            each.account.advance(timedelta(days=1))  # A day without a sync.
            live(each)
        late(world)
        world.sync_here()
        shown(worlds)
        for each in worlds:
            live(each)
        world.sync_here(detect_deletes=True)
        later = shown(worlds)
        assert later.deleted
        run(project, later)
        expect(project, oracle.marts(later))
        days = lifecycle([first, later])
        expect(project, {"lifecycle_daily": days, "consent_daily": oracle.consents(later, days)})

        address = erase_somebody(world)
        run(project, later)
        assert address.strip().lower() not in str([project.table(name) for name in KEYS]).lower()
        incremental = project.table("email_sends")
        run(project, later, "--full-refresh", "--select", "email_sends lifecycle_daily")
        assert project.table("email_sends") == incremental
        assert {row["day"] for row in project.table("lifecycle_daily")} == {r["day"] for r in days}


def test_with_a_history_each_day_is_counted(tmp_path: Path) -> None:
    """Also days on which no sync and no dbt ran, and profiles that were deleted."""
    place = KINDS["duckdb"](tmp_path)
    with World(
        tmp_path, place=place, profiles=80, lists=2, email_events=40, settings=HISTORY
    ) as world:
        moments = []
        for is_full in (False, False, True):
            world.account.advance(timedelta(days=2))
            live(world)
            world.sync_here(detect_deletes=is_full)
            found = shown([world])
            moments.append(found if is_full else replace(found, deleted=frozenset()))
        project = Project(PACKAGE, place, tmp_path)
        run(
            project, moments[-1], "--select", "+consent_daily",
            ometria_tables=list(FIVE), ometria_history=["profiles"],
        )  # fmt: skip
        days = from_versions(moments, moments[-1])
        consents = oracle.consents(moments[-1], days)
        expect(project, {"lifecycle_daily": days, "consent_daily": consents})
        assert len({row["day"] for row in days}) > len(moments)


@contextmanager
def two_worlds(place: Place, folder: Path) -> Iterator[tuple[World, World]]:
    """Give an account with all tables, and another one in the same warehouse."""
    quirks = Quirks(only_on_single_profile=frozenset())
    with (
        World(
            folder, place=place, profiles=120, lists=4, email_events=700, settings=SETTINGS,
            quirks=quirks,
        ) as world,
        world.beside("us", SETTINGS) as other,
    ):  # fmt: skip
        yield world, other


def shown(worlds: Sequence[World]) -> Shown:
    """Check the replica of accounts, and give what they have shown."""
    for world in worlds:
        world.replica.check()
    rows = {
        name: [row for world in worlds for row in world.replica.known[name]]
        for name in worlds[0].replica.known
    }
    deleted = set()
    for world in worlds:
        for name, record_id in IDS.items():
            gone = world.replica.gone(name) if name in world.replica.known else set()
            found = [row for row in world.replica.known.get(name, []) if row["__sync_key"] in gone]
            deleted |= {(name, world.source_id, row[record_id]) for row in found}
    return Shown(rows, frozenset(deleted), worlds[0].account.now, ZONE)


def build(project: Project, now: Shown) -> None:
    """Build and test all models as of a moment; only event types may be unknown."""
    project.run("build", **variables(now))
    results = project.results()
    warned = {name for name, each in results.items() if each["status"] == "warn"}
    assert warned == {"test.ometria.email_event_types_are_known"}
    assert sum(name.startswith("unit_test.") for name in results) > 8


def run(project: Project, now: Shown, *arguments: str, **more: Any) -> None:
    """Run models without their tests."""
    project.run("run", *arguments, **variables(now) | more)


def variables(now: Shown) -> dict[str, Any]:
    """Give the variables of a run as of a moment."""
    return {
        "ometria_tables": "all",
        "ometria_timezone": now.zone,
        "ometria_now": now.now.isoformat(),
    }


def expect(project: Project, marts: dict[str, list[Row]]) -> None:
    """Compare marts with the rows that they must have."""
    for name, rows in marts.items():
        compare(name, project.table(name), rows)


def compare(name: str, found: list[Row], rows: list[Row]) -> None:
    """Compare the rows of a mart with others, column by column."""
    there, due = (
        {tuple(row[k] for k in KEYS[name]): row for row in each} for each in (found, rows)
    )
    assert len(there) == len(found), f"{name}: a key is there twice"
    assert there.keys() == due.keys(), f"{name}: {list(there.keys() ^ due.keys())[:4]}"
    assert due, f"{name}: there is nothing to compare"
    for key, row in due.items():
        shown_columns = there[key].keys() - OF_THE_LOAD
        assert shown_columns == row.keys(), f"{name}: {shown_columns ^ row.keys()}"
        wrong = {c: (there[key][c], row[c]) for c in row if not same(there[key][c], row[c])}
        assert not wrong, f"{name} {key}: {wrong}"


def same(found: Any, due: Any) -> bool:
    """Compare two values; a driver gives decimals as texts."""
    if isinstance(due, Decimal) and found is not None:
        return Decimal(str(found)) == due
    if isinstance(due, float) and found is not None:
        return math.isclose(float(found), due, rel_tol=1e-9)
    return bool(found == due)


def lifecycle(moments: list[Shown]) -> list[Row]:
    """Make the rows of `lifecycle_daily` of runs at *moments*, without a history."""
    rows: list[Row] = []
    known: set[tuple[Any, ...]] = set()
    for each in moments:
        counts = oracle.stages(each)
        known |= counts.keys()
        rows += [stage(key, each.day(each.now), counts.get(key, 0)) for key in known]
    return rows


def stage(key: tuple[Any, ...], day: Any, profiles: int) -> Row:
    """Make a row of `lifecycle_daily`."""
    names = ("source_id", "account_id", "lifecycle_status", "consent")
    return {**dict(zip(names, key, strict=True)), "day": day, "profiles": profiles}


def from_versions(synced: Iterable[Shown], until: Shown) -> list[Row]:
    """
    Make the rows of `lifecycle_daily` with a history of profiles, of syncs in order.

    At the end of a day the profiles are as the last sync of the day, or before it, has seen them.
    """
    states: dict[Any, dict[tuple[Any, ...], int]] = {}
    began: dict[tuple[Any, ...], Any] = {}
    for each in synced:
        day = each.day(each.now)
        states[day] = oracle.stages(each)
        began |= {key: day for key in states[day] if key not in began}
    rows = []
    day = min(states)
    counts: dict[tuple[Any, ...], int] = {}
    while day <= until.now.astimezone(ZoneInfo(until.zone)).date():
        counts = states.get(day, counts)
        rows += [stage(key, day, counts.get(key, 0)) for key in began if began[key] <= day]
        day += timedelta(days=1)
    return rows


def odd(world: World) -> None:
    """Add what accounts rarely have: see the descriptions of the events."""
    account, now = world.account, world.account.now
    ann, bob = [profile for profile in account.profiles if profile.email][:2]

    def event(kind: str, hours: float, uuid: str | None = None, **more: Any) -> None:
        address = more.pop("to", ann.email)
        account.add_event(
            address, kind, occurred_at=now - timedelta(hours=hours), uuid=uuid, **more
        )

    title = """'; DROP TABLE "models"; -- {{ 1 }} 🎂"""
    event("open", 30, "before-the-send", campaign_title=title, device_type="desktop")
    event("send", 29, "before-the-send", campaign_title=title, campaign_type="broadcast")
    event(" Click ", 28, "before-the-send", target_url="https://shop.example/'?a={{ b }}")
    for _ in range(3):
        event("click", 28, "before-the-send", target_url="https://shop.example/")
        now += timedelta(microseconds=1)
    event("click", 40, "never-sent", to=f"\t{(bob.email or '').upper()} ", geo_country="FR")
    event("bounce", 27, "opened-all-the-same", bounce_class="10", reason="no such user")
    event("bounce", 26, "opened-all-the-same", bounce_class="777")
    event(
        "open", 25, "opened-all-the-same", campaign_title="Only later", campaign_type="automation"
    )
    event("send", 24, None)
    event("open", 23, None)
    event("send", 22, "in the future", to="nobody")
    event("open", -48, "in the future", to="nobody")
    event("amp_open", 21, "of a type that nobody knows")
    account.add_unsubscribe(ann.id, send_id="before-the-send", reason="'quoted'", reason_text=" ")
    account.add_unsubscribe(None, email_address="sms@example.com", at=now - timedelta(days=200))
    world.feed.export()


def late(world: World) -> None:
    """Let an event of an old send arrive late."""
    old = min(world.account.events, key=lambda event: event.dt_occurred)
    world.account.add_event(
        old.to_address, "open", occurred_at=old.dt_occurred + timedelta(hours=1), uuid=old.uuid
    )
    world.feed.export()


def erase_somebody(world: World) -> str:
    """Erase the person with the most events; return the address."""
    counts: dict[str, int] = {}
    known = {row["email"] for row in world.replica.known["profiles"]}
    for row in world.replica.known["email_events"]:
        if row["email"] in known:
            counts[row["email"]] = counts.get(row["email"], 0) + 1
    address = max(counts, key=lambda each: counts[each])
    world.run("erase", "--email", address, "--yes")
    return address
