"""The source of an account reads every kind of table, and divides export files among tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import product
from typing import TYPE_CHECKING

import pytest

from ometria_replica.batch import TableState
from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, FeedSettings, Secret
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.schema import Column, Table, md5
from ometria_replica.tables import EMAIL_EVENTS, LISTS, MEMBER_LISTS, PROFILES, UNSUBSCRIBES
from ometria_replica.ways_to_read import Feed, Pages
from ometria_simulator import Account, Quirks
from ometria_simulator.routes import Api, Route
from tests.ometria.listener import KEY, Asked, Reply, json_reply, listening

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.catalog import Catalog

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
ORDERS = Table(
    "orders",
    read=Feed("orders", pattern="orders/*"),
    sync_key=md5("source_id", "order_id"),
    identity=(("order_id",),),
    columns=(Column("order_id", "order_id"),),
)
DELETIONS = Table(
    "deletion_requests",
    read=Pages("data-deletion-requests", pages=True, requests_per_minute=6),
    sync_key=md5("source_id", "id"),
    identity=(("id",),),
    columns=(Column("id", "request_id"),),
)


def source_of(
    url: str = "",
    feed: FeedSettings | None = None,
    catalog: Catalog = CATALOG,
    started_at: datetime = NOW,
) -> AccountSource:
    settings = AccountSettings(
        account_id="acme",
        source_id="acme",
        api_key=Secret(KEY, "the test") if url else None,
        api_url=url or "https://api.ometria.test/v2",
        requests_per_second=1000.0,
        feed=feed,
    )
    return AccountSource(settings, started_at, catalog)


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def export_folder(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "feed"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names(source: AccountSource, table: Table) -> list[str]:
    return sorted(file.name for file in source.export(table).list())


# --- The day since which profiles are requested ------------------------------------------------

ZONES = [timezone(timedelta(hours=hours)) for hours in range(-12, 15)]


def day_asked(url: str, asked: list[str], at: datetime, since: date | None = None) -> str:
    """Read profiles with a watermark *at*, or *since* a day, and return the ``updateSince``."""
    with source_of(url, started_at=at + timedelta(hours=1)) as source:
        list(source.read(PROFILES, TableState(watermark=at), since).pages())
    return asked[-1]


def is_sent(at: datetime, day: str, zone: timezone, *, inclusive: bool) -> bool:
    """Whether Ometria sends a profile that was updated *at*, if its days are those of *zone*."""
    shop = Account(now=at)
    shop.add_profile("ann", email="ann@example.com")
    offset = zone.utcoffset(None) / timedelta(hours=1)
    quirks = Quirks(update_since_utc_offset_hours=offset, update_since_inclusive=inclusive)
    return b"ann" in Api(shop, quirks).answer(Route("profiles"), {"updateSince": day})


def test_no_change_is_missed_whatever_a_day_means_to_ometria() -> None:
    """At each hour, in each zone, with the day included or not: what changed is requested."""
    asked: list[str] = []

    def answer(request: Asked) -> Reply:
        asked.append(request.query["updateSince"])
        return json_reply([])

    with listening(answer) as server:
        days = {
            at: day_asked(server.url, asked, at)
            for at in (
                *(NOW.replace(hour=hour) for hour in range(24)),
                NOW.replace(hour=23, minute=59),
            )
        }
        since = day_asked(server.url, asked, NOW, NOW.date())

    for (at, day), zone, inclusive in product(days.items(), ZONES, (True, False)):
        assert is_sent(at, day, zone, inclusive=inclusive), (at, day, zone, inclusive)
    for zone, inclusive in product(ZONES, (True, False)):
        for begins in (UTC, zone):  # The day of `--since`, as we and as Ometria count days.
            at = datetime.combine(NOW.date(), time(), begins)
            assert is_sent(at, since, zone, inclusive=inclusive), (at, since, zone, inclusive)


# --- Export files ------------------------------------------------------------------------------


def test_a_table_with_a_pattern_reads_the_files_that_match_it(tmp_path: Path) -> None:
    """Each file belongs to one table; files that the setting excludes belong to none."""
    folder = export_folder(tmp_path, "orders/1.csv", "events/1.csv", "events/2.txt", "other.csv")
    catalog = CATALOG + ORDERS

    with source_of(feed=FeedSettings(str(folder), settle_seconds=0), catalog=catalog) as source:
        assert names(source, ORDERS) == ["orders/1.csv"]
        assert names(source, EMAIL_EVENTS) == ["events/1.csv", "events/2.txt", "other.csv"]
    with source_of(
        feed=FeedSettings(str(folder), settle_seconds=0, pattern="*.csv"), catalog=catalog
    ) as source:
        assert names(source, ORDERS) == ["orders/1.csv"]
        assert names(source, EMAIL_EVENTS) == ["events/1.csv", "other.csv"]
    with source_of(feed=FeedSettings(str(folder), settle_seconds=0)) as source:
        assert len(names(source, EMAIL_EVENTS)) == 4


def test_the_name_of_a_feed_holds_the_pattern_that_selects_its_files() -> None:
    """Another address or pattern is another listing."""
    source = source_of(feed=FeedSettings("s3://exports/acme", pattern="*.csv"))

    assert source.feed_name(EMAIL_EVENTS) == "s3://exports/acme *.csv"
    assert source.feed_name(ORDERS) == "s3://exports/acme orders/*"
    assert source_of(feed=FeedSettings("/x")).feed_name(EMAIL_EVENTS) == "/x *"


def test_export_files_are_opened_once_for_each_table(tmp_path: Path) -> None:
    """They hold the fields and the key fields of their table; wide keys require no more."""
    feed = FeedSettings(str(export_folder(tmp_path, "a.csv")), settle_seconds=0)
    with source_of(feed=feed, catalog=CATALOG + ORDERS) as source:
        events, orders = source.export(EMAIL_EVENTS), source.export(ORDERS)

        assert source.export(EMAIL_EVENTS) is events
        assert orders.required == ("order_id",)
        assert orders.columns == ("order_id",)
        assert events.required == ("to_address", "event_type", "dt_occurred")
        assert source.export(EMAIL_EVENTS.with_wide_keys()).required == events.required


# --- Readings ----------------------------------------------------------------------------------


def answers(asked: Asked) -> Reply:
    """Give two lists, of which one is refused, and one record of all else."""
    if asked.path == "/v2/lists":
        return json_reply([{"id": "1"}, {"id": "2"}])
    if asked.path == "/v2/lists/2/changes":
        return Reply(b"{}", 403)
    return json_reply([{"id": "a", "profile_id": "a", "timestamp": "2026-03-01T00:00:00Z"}])


def test_every_way_of_reading_counts_and_says_whether_it_is_full() -> None:
    """A first read is full; after it, a watermark makes it one of the changes."""
    known = TableState(watermark=NOW - timedelta(hours=1), full_read_at=NOW - timedelta(hours=1))
    with listening(answers) as server:
        for state, is_full in ((TableState(), True), (known, False)):
            for table in (PROFILES, MEMBER_LISTS, UNSUBSCRIBES):
                with source_of(server.url) as source:
                    reading = source.read(table, state)
                    records = sum(len(page.records) for page in reading.pages())

                assert reading.is_full == is_full
                assert reading.unit == ("lists" if table is MEMBER_LISTS else "records")
                assert reading.total == (2 if table is MEMBER_LISTS else None)
                assert reading.done == (2 if table is MEMBER_LISTS else records) >= 1


def test_a_collection_without_dates_is_read_once_a_run() -> None:
    """Lists and their changes share it; each read of it is full."""
    with listening(answers) as server, source_of(server.url) as source:
        for state in (TableState(), TableState(watermark=NOW, full_read_at=NOW)):
            reading = source.read(LISTS, state)
            assert reading.is_full
            assert sum(len(page.records) for page in reading.pages()) == 2
        source.read(MEMBER_LISTS, TableState())

    assert len({asked.path for asked in server.asked}) == 1


def test_a_refused_parent_is_due_from_when_it_would_have_been_read() -> None:
    """Such a reading is doubtful: what it lacks may be there."""
    state = TableState(watermark=NOW, full_read_at=NOW)
    with listening(answers) as server, source_of(server.url) as source:
        reading = source.read(MEMBER_LISTS, state)
        list(reading.pages())

        assert reading.retry == {"2": NOW - timedelta(days=8)}
        assert reading.is_doubtful


def test_no_request_is_sent_before_the_first_page() -> None:
    """Choosing how to read costs nothing, except for parents."""
    with listening(answers) as server, source_of(server.url) as source:
        for table in (PROFILES, LISTS, UNSUBSCRIBES):
            source.read(table, TableState())

        assert source.requests == 0


# --- Rate limits -------------------------------------------------------------------------------


def test_an_endpoint_with_a_limit_of_its_own_is_read_one_page_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its requests are ten seconds apart, those of other endpoints are not."""
    waits: list[float] = []
    monkeypatch.setattr(
        "ometria_replica.ometria.rate_limit.rest", lambda seconds, *_: waits.append(seconds)
    )
    shop = [{"id": str(number)} for number in range(600)]

    def answer(asked: Asked) -> Reply:
        return json_reply(shop[asked.offset : asked.offset + asked.limit])

    with listening(answer) as server, source_of(server.url, catalog=CATALOG + DELETIONS) as source:
        reading = source.read(DELETIONS, TableState())
        found = {record["id"] for page in reading.pages() for record in page.records}
        requests = source.requests
        long = [seconds for seconds in waits if seconds > 5]
        list(source.read(replace(PROFILES, read=Pages("profiles")), TableState()).pages())

    assert len(found) == 600
    assert len(long) == requests - 1
    assert sum(seconds > 5 for seconds in waits) == len(long)
