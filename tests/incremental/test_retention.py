"""Rows are kept for as long as the settings say, and no longer."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ometria_replica.config import Retention
from ometria_replica.errors import ConfigError
from ometria_replica.retention import retained
from ometria_replica.selection import Selection
from ometria_replica.state_commands import rewind
from ometria_replica.tables import EMAIL_EVENTS
from ometria_replica.warehouse import open_warehouse
from tests.duck import read_file
from tests.incremental.shops import (
    DAY,
    HOUR,
    NOON,
    ReceivedRequests,
    account,
    config,
    replicate,
    state,
)
from tests.places import DuckDBPlace
from tests.replicas import of, write_feed_file
from tests.warehouses.loads import Load, a_lease, opened

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_simulator import Account, Server

MIDNIGHT = NOON.replace(hour=0)


def days(number: int, table: str = "email_events") -> tuple[Retention, ...]:
    """Keep rows for so many days; for ever if it is none."""
    return (Retention(table, number, "day"),) if number else ()


def event(name: str, at: datetime | str) -> dict[str, object]:
    """Write an event of the export."""
    told = at if isinstance(at, str) else at.isoformat()
    return {"to_address": name, "event_type": "open", "dt_occurred": told}


def names(warehouse: Path) -> set[str]:
    """Name the recipients of all events."""
    return {row["email"] for row in read_file(warehouse, "ometria.email_events")}


def mailed(folder: Path, *ages: int) -> AccountSettings:
    """Give an account whose export has an event of so many days ago for each of *ages*."""
    events = [event(f"{age} days", NOON - age * DAY) for age in ages]
    write_feed_file(folder, "all.jsonl", NOON - HOUR, events)
    return account(folder=folder)


@pytest.mark.parametrize(
    ("written", "now", "oldest"),
    [
        ("1 day", "2026-03-02T00:00", "2026-03-01"),
        ("2 weeks", "2026-03-02T23:59", "2026-02-16"),
        ("1 month", "2026-03-31T12:00", "2026-02-28"),
        ("25 months", "2026-01-31T12:00", "2023-12-31"),
        ("6 years", "2024-02-29T12:00", "2018-02-28"),
        ("9999 years", "2024-02-29T12:00", "0001-02-28"),
    ],
)
def test_a_span_is_counted_by_the_calendar(written: str, now: str, oldest: str) -> None:
    """In whole days of UTC; the last day of a shorter month stands for those it lacks."""
    span = Retention.parse("email_events", written)
    assert span is not None
    found = span.oldest(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found.isoformat() == f"{oldest}T00:00:00+00:00"


def test_older_rows_are_neither_loaded_nor_kept(warehouse: Path, tmp_path: Path) -> None:
    """A row of the first moment of the oldest day stays, and goes on the next day."""
    whole = mailed(tmp_path, 0, 1, 40)
    edge = [event("edge", MIDNIGHT - 30 * DAY), event("over", MIDNIGHT - 30 * DAY - HOUR)]
    untimed = [event("untimed", "some day")]
    write_feed_file(tmp_path, "edge.jsonl", NOON - HOUR, edge + untimed)
    kept = replace(whole, retain=days(30))

    first = of(replicate(warehouse, kept, at=NOON), "email_events")
    assert names(warehouse) == {"0 days", "1 days", "edge", "untimed"}
    assert (first.records, first.inserted, first.too_old, first.expired) == (4, 4, 2, 0)

    dry = replicate(warehouse, kept, at=NOON + DAY, dry_run=True)
    assert of(dry, "email_events").expired == 1
    assert "email_events: 1 row older than `retain` would be removed." in dry.to_text()
    assert "edge" in names(warehouse)
    second = replicate(warehouse, kept, at=NOON + DAY, full=True)
    assert "No row changed" not in second.to_text()
    assert of(second, "email_events").expired == 1
    assert "email_events: 1 row older than `retain` removed." in second.to_text()
    assert names(warehouse) == {"0 days", "1 days", "untimed"}

    again = of(replicate(warehouse, kept, at=NOON + DAY, full=True), "email_events")
    assert (again.inserted, again.too_old) == (0, 3)
    assert names(warehouse) == {"0 days", "1 days", "untimed"}


def test_a_longer_retention_reads_back_what_is_still_there(warehouse: Path, tmp_path: Path) -> None:
    """And a shorter one removes it again, on the same day."""
    whole = mailed(tmp_path, 1, 40, 80)
    for number, left in ((30, 1), (50, 2), (30, 1), (0, 3), (30, 1)):
        kept = replace(whole, retain=days(number))
        replicate(warehouse, kept, at=NOON, full=True)
        assert len(names(warehouse)) == left


def test_rows_of_a_table_that_cannot_be_read_grow_old_too(warehouse: Path, tmp_path: Path) -> None:
    """Also without a feed, and if the feed fails."""
    whole = mailed(tmp_path, 1, 40, 80)
    replicate(warehouse, whole, at=NOON)

    without = replace(whole, feed=None, retain=days(50))
    report = replicate(warehouse, without, at=NOON, tables=())
    assert of(report, "email_events").expired == 1
    assert any("no feed is set" in reason for reason in report.not_read)

    for file in tmp_path.glob("*.jsonl"):
        file.unlink()
    tmp_path.joinpath("gone").mkdir()
    replicate(warehouse, replace(whole, retain=days(30)), at=NOON)
    assert names(warehouse) == {"1 days"}


def test_rows_are_removed_in_steps_of_few_rows(warehouse: Path, tmp_path: Path) -> None:
    """Each is a transaction: a run that ends between two leaves the rest to the next."""
    whole = mailed(tmp_path, *range(40), 30_000)
    replicate(warehouse, whole, at=NOON)
    table = replace(EMAIL_EVENTS, oldest=MIDNIGHT - 9 * DAY)
    with open_warehouse(str(warehouse)) as at_hand:
        lease = a_lease(until=NOON + 9 * HOUR)
        at_hand.leases.acquire(lease, NOON)
        expiry = replace(at_hand.expiry, rows_at_once=4)
        steps = [next(iter(expiry.remove([table], lambda: lease, NOON)))]
        steps += expiry.remove([table], lambda: lease, NOON)

    assert sum(rows for _, rows in steps) == 31
    assert max(rows for _, rows in steps) <= 4
    assert names(warehouse) == {f"{age} days" for age in range(10)}


def test_a_table_that_grew_empty_has_lost_nothing(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Its rows are not read again, and a row that is lost later is noticed even so."""
    table = "unsubscribes"
    kept = account(server, retain=days(30, table))
    replicate(warehouse, account(server), at=NOON, tables=[table])
    assert of(replicate(warehouse, kept, at=NOON, tables=[table]), table).expired == 1
    assert replicate(warehouse, kept, at=NOON + HOUR, tables=[table]).warnings == ()

    rewind(config(warehouse, kept), [table], None)
    assert of(replicate(warehouse, kept, at=NOON + HOUR, tables=[table]), table).too_old == 1
    assert replicate(warehouse, kept, at=NOON + 2 * HOUR, tables=[table]).warnings == ()

    shop.set_time(NOON + 3 * HOUR)
    shop.add_unsubscribe("ann", email_address="ann@example.com")
    assert of(replicate(warehouse, kept, at=NOON + 3 * HOUR, tables=[table]), table).inserted == 1
    with duckdb.connect(str(warehouse)) as by_hand:
        by_hand.execute("DELETE FROM ometria.unsubscribes")
    (warning,) = replicate(warehouse, kept, at=NOON + 4 * HOUR, tables=[table]).warnings
    assert "ometria.unsubscribes was without rows of uk" in warning


def test_rejects_grow_old_with_what_they_are_of(warehouse: Path, tmp_path: Path) -> None:
    """Lines by their file or the time of rejection, records by their own time if they have one."""
    feed = tmp_path / "feed"
    feed.mkdir()
    whole = account(folder=feed, retain=days(30))
    for name, age in (("new", 1), ("old", 40)):
        path, header = feed / f"{name}.csv", "to_address,event_type,dt_occurred"
        path.write_text(f"{header}\nann,{name},some day\n{name},is,torn,off\n", encoding="utf-8")
        os.utime(path, ((NOON - age * DAY).timestamp(),) * 2)

    first = of(replicate(warehouse, whole, at=NOON), "email_events")
    assert first.too_old == 1
    assert {row["raw"] for row in state(warehouse, "rejects")} == {"some day", "new,is,torn,off"}

    later = replicate(warehouse, whole, at=NOON + 35 * DAY)
    assert of(later, "email_events").expired == 0
    assert {row["raw"] for row in state(warehouse, "rejects")} == {"some day"}


def test_a_backfill_from_before_what_is_kept_is_refused(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """Unless other tables keep rows for longer: then that table is read from its oldest day on."""
    whole = replace(mailed(tmp_path, 1, 40), retain=days(30))
    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, whole, at=NOON, since=date(2026, 1, 30))
    assert str(refused.value) == (
        "2026-01-30 is before what retain keeps of email_events of 'uk': it keeps rows from"
        " 2026-01-31 on, and would remove older ones. Begin on that day, or change the setting."
    )
    assert not warehouse.exists()
    replicate(warehouse, whole, at=NOON, since=date(2026, 1, 31))

    both = account(server, tmp_path, retain=(*days(30), *days(20, "unsubscribes")))
    requests = ReceivedRequests(server)
    replicate(warehouse, both, at=NOON, since=date(2025, 1, 1))
    assert requests.values("unsubscribes", "since") == {"2026-02-09T23:59:59"}
    left_out = replicate(warehouse, both, at=NOON, until=date(2026, 2, 9))
    assert left_out.not_read == ("unsubscribes of uk: retain keeps none of these days",)


def test_a_table_without_a_time_cannot_be_kept_for_a_while(warehouse: Path, server: Server) -> None:
    """Nor one that is not there; both are told at once, before anything is asked."""
    odd = account(server, retain=(*days(1, "profiles"), *days(1, "unsubscribe")))
    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, odd, at=NOON)
    no_time = (
        "uk: retain: profiles has no column with the time of an event, by which rows grow old."
        " The tables that have one are member_lists, email_events, unsubscribes, push_errors."
    )
    not_there = "uk: retain: there is no table 'unsubscribe'; did you mean unsubscribes?"
    assert refused.value.problems == (no_time, not_there)


syncs = st.lists(
    st.tuples(
        st.integers(0, 4),  # Days that go by before.
        st.sampled_from([0, 1, 2, 3, 5]),  # Days that are kept.
        st.booleans(),  # Whether all is read again.
        st.lists(st.integers(0, 8), max_size=3),  # Days of age of new events.
    ),
    min_size=2,
    max_size=4,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(syncs=syncs, hour=st.integers(0, 23))
def test_what_is_there_is_what_is_not_too_old(
    syncs: list[tuple[int, int, bool, list[int]]], hour: int, warehouse: Path
) -> None:
    """Whatever the events, the retention and the order of loads and removals."""
    now, all_of_it, there = MIDNIGHT, dict[str, datetime](), set[str]()
    lease = a_lease(until=NOON + 99 * DAY)
    with opened(DuckDBPlace(warehouse)) as place:
        place.delete(EMAIL_EVENTS, Selection("uk"))
        place.state.rewind("uk", "email_events", None)
        place.leases.acquire(lease, NOON)
        for number, (gone_by, kept, is_full, ages) in enumerate(syncs):
            now += gone_by * DAY + HOUR
            new = {f"{number} {age}": now - age * DAY + hour * HOUR for age in ages}
            all_of_it |= new
            table = retained(EMAIL_EVENTS, account(retain=days(kept)), now)
            records = [json.dumps(event(*each)) for each in (all_of_it if is_full else new).items()]
            Load(table, records, at=now, lease=lease).into(place)
            list(place.expiry.remove([table], lambda: lease, now))

            oldest = now.replace(hour=0) - kept * DAY if kept else datetime.min.replace(tzinfo=UTC)
            read = all_of_it if is_full else {name: all_of_it[name] for name in {*there, *new}}
            there = {name for name, at in read.items() if at >= oldest}
            found = place.read(EMAIL_EVENTS, Selection("uk"))
            assert {row["email"] for rows in found for row in rows.to_pylist()} == there
