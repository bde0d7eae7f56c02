from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ometria_replica.errors import OmetriaError, UnexpectedResponse
from ometria_simulator import Account, Fault, Quirks, Server, serve
from tests.duck import read_file
from tests.incremental.shops import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    YEAR,
    ReceivedRequests,
    account,
    replicate,
    small_shop,
    state,
    watermark_of,
)
from tests.replicas import everything, of

LISTS = ("lists", "member_lists")
API_TABLES = ("profiles", "lists", "member_lists", "unsubscribes")


def changes(warehouse: Path) -> set[tuple[str, str, datetime]]:
    rows = read_file(warehouse, "ometria.member_lists")
    return {(row["list_id"], row["profile_id"], row["event_at"]) for row in rows}


def changes_of(shop: Account) -> set[tuple[str, str, datetime]]:
    return {(change.list_id, change.profile_id, change.at) for change in shop.changes}


# --- Profiles, and the watermark ---------------------------------------------------------------


@pytest.mark.parametrize("pause", [MINUTE, 13 * HOUR, 40 * DAY], ids=str)
def test_profiles_are_requested_from_two_days_before_the_watermark(
    pause: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """The first read has no ``updateSince``; later reads start two days before the last run."""
    first = ReceivedRequests(server)
    replicate(warehouse, account(server), at=shop.now)
    assert first.values("profiles", "updateSince") == {None}
    watermark = watermark_of(warehouse, "profiles")

    shop.set_time(shop.now + pause)
    second = ReceivedRequests(server)
    replicate(warehouse, account(server), at=shop.now)

    assert second.values("profiles", "updateSince") == {f"{watermark - 2 * DAY:%Y-%m-%d}"}
    assert NOON - MINUTE < watermark <= NOON


@pytest.mark.parametrize("ahead", [-YEAR, -MINUTE, timedelta(0), MINUTE, YEAR], ids=str)
def test_the_watermark_is_never_ahead_of_either_clock(
    ahead: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """For any error of either clock, the earlier of the two sets every watermark."""
    for _ in range(2):
        replicate(warehouse, account(server), at=shop.now + ahead)
        earlier = min(shop.now, shop.now + ahead)
        for table in API_TABLES:
            assert earlier - MINUTE < watermark_of(warehouse, table) <= earlier
            assert watermark_of(warehouse, table, "full_read") <= earlier
        shop.set_time(shop.now + 3 * DAY)


@pytest.mark.parametrize("ahead", [-YEAR, YEAR], ids=["behind", "ahead"])
def test_a_wrong_clock_skips_nothing(
    ahead: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """A run with a correct clock finds changes after a run with a clock that is a year wrong."""
    replicate(warehouse, account(server), at=shop.now + ahead)
    shop.set_time(shop.now + HOUR)
    shop.update_profile("ann", firstname="Ann")
    shop.refresh_list("10", enter=["cat"], leave=[])
    shop.add_unsubscribe("cat", email_address="cat@example.com")
    shop.set_time(shop.now + HOUR)

    replicate(warehouse, account(server), at=shop.now)

    rows = everything(warehouse)
    assert "Ann" in {row["first_name"] for row in rows["profiles"]}
    assert changes(warehouse) == changes_of(shop)
    assert len(rows["unsubscribes"]) == 2


def test_a_failed_read_advances_no_watermark(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A table that fails keeps its watermarks, and later tables advance theirs."""
    replicate(warehouse, account(server), at=shop.now)
    before = watermark_of(warehouse, "profiles")
    shop.set_time(shop.now + DAY)
    server.faults.next("/v2/profiles", Fault(status=418))

    with pytest.raises(OmetriaError) as failed:
        replicate(warehouse, account(server), at=shop.now)

    assert watermark_of(warehouse, "profiles") == before
    assert watermark_of(warehouse, "unsubscribes") > before
    assert failed.value.report is not None
    assert failed.value.report.outcome == "failed"
    assert [row["outcome"] for row in state(warehouse, "runs")].count("failed") == 1


# --- The requests of a run ---------------------------------------------------------------------


def test_a_run_without_changes_needs_a_handful_of_requests(tmp_path: Path) -> None:
    """For any size of account, the run needs at most five requests, and the report counts them."""
    shop = Account(now=NOON - 90 * DAY)
    for number in range(600):
        shop.add_profile(f"p{number}", email=f"p{number}@example.com")
    for number in range(40):
        shop.add_list(str(number), type="DYNAMIC")
        shop.refresh_list(str(number), enter=[f"p{number}"], leave=[])
        at = NOON - number * DAY - 20 * DAY
        shop.add_unsubscribe(f"p{number}", email_address="x@example.com", at=at)
    shop.set_time(NOON)
    with serve(shop, requests_per_second=None, key="own-key") as server:
        warehouse = tmp_path / "w.duckdb"
        first = ReceivedRequests(server)
        report = replicate(warehouse, account(server), at=shop.now)
        assert report.requests == len(first) > 40

        for _ in range(2):
            shop.set_time(shop.now + HOUR)
            quiet = ReceivedRequests(server)
            settings = account(server, requests_per_second=4.0)  # Prefetched requests wait.
            report = replicate(warehouse, settings, at=shop.now)

            assert set(quiet.paths()) == {"lists", "profiles", "unsubscribes"}
            assert report.requests == len(quiet) <= 5
            assert of(report, "profiles").requests == 1
            assert of(report, "lists").requests <= 3  # It is undocumented whether lists have pages.
            assert of(report, "member_lists").requests == 0
            assert of(report, "unsubscribes").requests == 1
            assert sum(each.inserted + each.updated for each in report.tables) == 0


def test_retries_of_a_request_are_counted(shop: Account, server: Server, warehouse: Path) -> None:
    """Each retry of a request counts in the report, as in the server's log."""
    asked = ReceivedRequests(server)
    server.faults.next("/v2/unsubscribes", Fault(status=503, retry_after="0"), times=2)

    report = replicate(warehouse, account(server), at=shop.now)

    assert report.requests == len(asked)
    assert of(report, "unsubscribes").requests >= 3


# --- Unsubscribes ------------------------------------------------------------------------------


def test_unsubscribes_are_requested_from_eight_days_before(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Later reads start eight days before the watermark, to find late records."""
    replicate(warehouse, account(server), at=shop.now)
    watermark = watermark_of(warehouse, "unsubscribes")
    shop.set_time(shop.now + HOUR)
    shop.add_unsubscribe("ann", email_address="ann@example.com", at=watermark - 8 * DAY + MINUTE)
    asked = ReceivedRequests(server)

    report = replicate(warehouse, account(server), at=shop.now)

    (since,) = {value for value in asked.values("unsubscribes", "since") if value}
    began = datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert watermark - 8 * DAY - MINUTE < began <= watermark - 8 * DAY
    assert of(report, "unsubscribes").inserted == 1


# --- Changes of lists --------------------------------------------------------------------------


def test_only_changes_of_refreshed_lists_are_requested(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """
    A run requests changes of a dynamic list after its refresh; a static list has none.

    It asks for those since the refresh that was seen last, and a week and a day before it.
    """
    shop.add_list("30", type="DYNAMIC", refreshed_at=NOON - 60 * DAY)
    first = ReceivedRequests(server)
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    assert first.lists() == ["10", "20", "30"]
    assert first.values("lists/10/changes", "since") == {None}

    shop.set_time(shop.now + 2 * DAY)
    shop.refresh_list("10", enter=["cat"], leave=["ann"])
    second = ReceivedRequests(server)
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert second.lists() == ["10", "20"]
    (since,) = second.values("lists/10/changes", "since")
    assert since is not None
    assert datetime.fromisoformat(since).replace(tzinfo=UTC) == NOON - 98 * DAY
    assert changes(warehouse) == changes_of(shop)


def test_every_list_is_requested_once_a_week_and_not_more(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """With a run every half week, every second run requests a list that is never refreshed."""
    asked_on = []
    for run in range(6):
        asked = ReceivedRequests(server)
        replicate(warehouse, account(server), at=shop.now, tables=LISTS)
        if "10" in asked.lists():
            asked_on.append(run)
        shop.set_time(shop.now + 3.5 * DAY + MINUTE)

    assert asked_on == [0, 2, 4]


@pytest.mark.slow
def test_a_round_without_a_refreshed_list_delays_no_full_round(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Runs without a refreshed list do not count as a full round."""
    shop.delete_list("20")
    asked_on = []
    for run in range(5):
        asked = ReceivedRequests(server)
        replicate(warehouse, account(server), at=shop.now, tables=LISTS)
        if "10" in asked.lists():
            asked_on.append(run)
        shop.set_time(shop.now + 3.5 * DAY + MINUTE)

    assert asked_on == [0, 2, 4]


@pytest.mark.parametrize(
    "late",
    [5 * HOUR, *(pytest.param(late, marks=pytest.mark.slow) for late in (HOUR, 30 * HOUR))],
    ids=str,
)
def test_a_refresh_that_shows_late_is_read_when_it_shows(
    late: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """Its time is hours before the last run then; it is read once, and not in each run."""
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.set_time(shop.now + DAY)
    happened = shop.now - HOUR
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.set_time(happened + late + 2 * HOUR)
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.add_change("10", "cat", "list_enter", at=happened)
    shop.update_list("10", refreshed_at=happened)

    asked_on = []
    for run in range(4):
        asked = ReceivedRequests(server)
        shop.set_time(shop.now + 4 * HOUR)
        replicate(warehouse, account(server), at=shop.now, tables=LISTS)
        if "10" in asked.lists():
            asked_on.append(run)

    assert changes(warehouse) == changes_of(shop)
    assert asked_on == [0]


def test_a_list_that_comes_back_is_read_from_its_last_refresh_on(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Ometria does not list it for a month; what changed in the meantime is not lost."""
    shop.delete_list("20")
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    listed = next(each for each in shop.lists if each.id == "10")
    known = [change for change in shop.changes if change.list_id == "10"]
    shop.delete_list("10")
    for _ in range(3):
        shop.set_time(shop.now + 10 * DAY)
        replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.add_list("10", type="DYNAMIC", title=listed.title, refreshed_at=NOON + 10 * DAY)
    for change in known:
        shop.add_change("10", change.profile_id, change.event, at=change.at)
    shop.add_change("10", "cat", "list_enter", at=NOON + 10 * DAY)

    replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert changes(warehouse) == changes_of(shop)


def test_a_list_that_shows_for_the_first_time_is_read_whole(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Its changes may be older than the watermark and the look-back."""
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.set_time(shop.now + DAY)
    shop.add_list("30", type="DYNAMIC", created_at=NOON - YEAR, refreshed_at=NOON - 60 * DAY)
    shop.add_change("30", "ann", "list_enter", at=NOON - 60 * DAY)

    replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert changes(warehouse) == changes_of(shop)


def test_a_list_that_failed_stays_due_while_it_is_not_listed(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """It fails in the first run, is gone in the second and there in the third: none is lost."""
    server.faults.sometimes("/v2/lists/20/changes", Fault.html_200(), 1.0)
    with pytest.raises(UnexpectedResponse):
        replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    server.faults.clear()
    entered = [change for change in shop.changes if change.list_id == "20"]
    shop.delete_list("20")
    shop.set_time(shop.now + DAY)
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.add_list("20", type="STATIC", title="VIP")
    for change in entered:
        shop.add_change("20", change.profile_id, change.event, at=change.at)
    shop.set_time(shop.now + DAY)

    replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert changes(warehouse) == changes_of(shop)


def test_the_full_round_finds_changes_without_a_refresh(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A change in a list without a refresh is loaded within a week."""
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.set_time(shop.now + HOUR)
    shop.add_change("10", "bob", "list_enter")
    shop.set_time(shop.now + 2 * DAY)
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    assert len(changes(warehouse)) == 2

    shop.set_time(NOON + 7 * DAY + HOUR)
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert changes(warehouse) == changes_of(shop)


@settings(max_examples=5, deadline=None)
@given(
    pauses=st.lists(st.integers(1, 24 * 20), min_size=1, max_size=4),
    hours=st.lists(st.integers(0, 24 * 60), max_size=8),
    late=st.lists(st.integers(0, 7 * 24), min_size=8, max_size=8),
)
@example(pauses=[3 * 24, 3 * 24, 3 * 24, 24], hours=[1, 80, 150], late=[0] * 8)
def test_no_change_is_missed_for_good(pauses: list[int], hours: list[int], late: list[int]) -> None:
    """For any times of runs and of changes without a refresh, all changes are loaded."""
    shop = small_shop()
    appear = sorted((hour, hour - lag) for hour, lag in zip(hours, late, strict=False))
    with (
        TemporaryDirectory() as folder,
        serve(shop, requests_per_second=None) as server,
    ):
        warehouse, hour = Path(folder) / "w.duckdb", 0
        replicate(warehouse, account(server), at=NOON, tables=["member_lists"])
        for pause in [*pauses, 7 * 24 + 1]:
            while appear and appear[0][0] <= hour + pause:
                _, happened = appear.pop(0)
                shop.add_change("10", f"p{happened}", "list_enter", at=NOON + happened * HOUR)
            hour += pause
            shop.set_time(NOON + hour * HOUR)
            replicate(warehouse, account(server), at=shop.now, tables=["member_lists"])

        assert changes(warehouse) == changes_of(shop)


def test_a_new_list_is_requested_from_its_first_day(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A list created between two runs is loaded with its first members."""
    replicate(warehouse, account(server), at=shop.now, tables=LISTS)
    shop.set_time(shop.now + 3 * DAY)
    shop.add_list("30", type="DYNAMIC", title="New")
    shop.refresh_list("30", enter=["ann", "bob", "cat"], leave=[])
    shop.set_time(shop.now + 3 * DAY)

    report = replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert of(report, "lists").inserted == 1
    assert of(report, "member_lists").inserted == 3
    assert changes(warehouse) == changes_of(shop)


def test_archived_lists_are_read_with_their_changes(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Lists are requested with ``mode=all``, so archived ones are loaded and not deleted."""
    shop.archive_list("10")
    asked = ReceivedRequests(server)

    replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert asked.values("lists", "mode") == {"all"}
    assert "10" in asked.lists()
    assert {row["list_id"] for row in read_file(warehouse, "ometria.lists")} == {"10", "20"}
    assert state(warehouse, "deleted_upstream") == []


def test_a_list_that_disappears_before_its_request_is_skipped(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A 404 for one list is a warning; the run reads the other lists and succeeds."""

    def vanish(request: object) -> None:
        if server.requests[-1].path == "/v2/lists" and len(shop.lists) == 2:
            shop.delete_list("10")

    server.after_request = vanish

    report = replicate(warehouse, account(server), at=shop.now, tables=LISTS)

    assert report.outcome == "succeeded"
    assert report.warnings == ("lists/10/changes is gone (404); nothing was read from it",)
    assert {list_id for list_id, _, _ in changes(warehouse)} == {"20"}
    assert watermark_of(warehouse, "member_lists") <= shop.now


@pytest.mark.slow
def test_a_list_that_failed_is_read_from_its_last_success(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A list that failed for weeks is read from its last success, not from eight days ago."""
    server.quirks = Quirks(archived_changes="not_found")
    shop.archive_list("10")
    for weeks in range(5):
        replicate(warehouse, account(server), at=NOON + weeks * 8 * DAY, tables=LISTS)
    assert {list_id for list_id, _, _ in changes(warehouse)} == {"20"}
    (due,) = [row for row in state(warehouse, "watermarks") if row["kind"] == "retry 10"]

    server.quirks = Quirks()
    replicate(warehouse, account(server), at=NOON + 41 * DAY, tables=LISTS)

    assert due["reached_at"] < NOON - YEAR
    assert {list_id for list_id, _, _ in changes(warehouse)} == {"10", "20"}
    assert not [row for row in state(warehouse, "watermarks") if row["kind"].startswith("retry")]


# --- --since, --until, backfill ----------------------------------------------------------------


def marks(warehouse: Path) -> list[dict[str, Any]]:
    """Read how far tables were read, without the rows that were noted as written."""
    found = state(warehouse, "watermarks")
    return [mark for mark in found if not mark["kind"].startswith("written ")]


def test_a_backfill_advances_no_watermark(shop: Account, server: Server, warehouse: Path) -> None:
    """``since`` reads from that day on; the next run continues from the last watermark."""
    replicate(warehouse, account(server), at=shop.now)
    watermarks = marks(warehouse)
    shop.set_time(shop.now + 5 * DAY)
    shop.update_profile("ann", firstname="Ann")
    stretch = ReceivedRequests(server)

    report = replicate(warehouse, account(server), at=shop.now, since=(NOON - 100 * DAY).date())

    day = f"{NOON - 100 * DAY:%Y-%m-%d}"
    assert stretch.values("profiles", "updateSince") == {f"{NOON - 102 * DAY:%Y-%m-%d}"}
    assert stretch.lists() == ["10", "20"]
    assert stretch.values("lists/10/changes", "since") == {f"{day}T00:00:00"}
    before = f"{NOON - 101 * DAY:%Y-%m-%d}T23:59:59"  # A second more, in case bounds are exclusive.
    assert stretch.values("unsubscribes", "since") == {before}
    profiles = of(report, "profiles")
    assert (profiles.inserted, profiles.updated, profiles.unchanged) == (0, 1, 2)
    assert marks(warehouse) == watermarks

    normal = ReceivedRequests(server)
    replicate(warehouse, account(server), at=shop.now)
    asked_since = watermark_in(watermarks, "profiles") - 2 * DAY
    assert normal.values("profiles", "updateSince") == {f"{asked_since:%Y-%m-%d}"}
    assert watermark_of(warehouse, "profiles") > watermark_in(watermarks, "profiles")


def watermark_in(watermarks: list[dict[str, object]], table: str) -> datetime:
    (found,) = [m for m in watermarks if (m["table_name"], m["kind"]) == (table, "watermark")]
    assert isinstance(found["reached_at"], datetime)
    return found["reached_at"]


def test_a_backfill_as_first_run_leaves_no_watermark(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """After a backfill into an empty warehouse, the first sync still reads everything."""
    replicate(warehouse, account(server), at=shop.now, since=NOON.date())
    assert state(warehouse, "watermarks") == []
    asked = ReceivedRequests(server)

    replicate(warehouse, account(server), at=shop.now)

    assert asked.values("profiles", "updateSince") == {None}
    assert len(everything(warehouse)["profiles"]) == 3
    assert changes(warehouse) == changes_of(shop)


def test_until_ends_the_window_of_unsubscribes(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """The window contains both days completely, and no opt-out of the next day."""
    for day in range(4):
        for moment in (timedelta(0), DAY - timedelta(seconds=2)):
            at = datetime(2026, 2, 1, tzinfo=UTC) + day * DAY + moment
            shop.add_unsubscribe(f"p{day}", email_address="p@example.com", at=at)
    replicate(
        warehouse,
        account(server),
        at=shop.now,
        tables=["unsubscribes"],
        since=date(2026, 2, 2),
        until=date(2026, 2, 3),
    )

    rows = read_file(warehouse, "ometria.unsubscribes")
    found = sorted(row["profile_id"] for row in rows if row["event_at"].day < 4)
    assert found == ["p1", "p1", "p2", "p2"]
    beyond = [row["event_at"] for row in rows if row["event_at"].day >= 4]
    assert set(beyond) <= {datetime(2026, 2, 4, tzinfo=UTC)}  # The end of the window.
