from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ometria_replica.errors import OmetriaError
from ometria_simulator import Account, Fault, Quirks, Server, serve
from tests.duck import read_file
from tests.incremental.shops import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    YEAR,
    Asked,
    account,
    mark,
    replicate,
    small_shop,
    state,
)
from tests.replicas import everything, of

API_TABLES = ("profiles", "lists", "member_lists", "unsubscribes")


def changes(warehouse: Path) -> set[tuple[str, str, datetime]]:
    rows = read_file(warehouse, "ometria.member_lists")
    return {(row["list_id"], row["profile_id"], row["event_at"]) for row in rows}


def changes_of(shop: Account) -> set[tuple[str, str, datetime]]:
    return {(change.list_id, change.profile_id, change.at) for change in shop.changes}


# --- Profiles, and the watermark ---------------------------------------------------------------


@pytest.mark.parametrize("pause", [MINUTE, 13 * HOUR, 40 * DAY], ids=str)
def test_profiles_are_asked_for_from_a_day_before_the_watermark(
    pause: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """The first read has no ``updateSince``, every other the day before the last run's."""
    first = Asked(server)
    replicate(warehouse, account(server), at=shop.now)
    assert first.values("profiles", "updateSince") == {None}
    watermark = mark(warehouse, "profiles")

    shop.set_time(shop.now + pause)
    second = Asked(server)
    replicate(warehouse, account(server), at=shop.now)

    assert second.values("profiles", "updateSince") == {f"{watermark - DAY:%Y-%m-%d}"}
    assert NOON - MINUTE < watermark <= NOON


@pytest.mark.parametrize("ahead", [-YEAR, -MINUTE, timedelta(0), MINUTE, YEAR], ids=str)
def test_the_watermark_is_never_ahead_of_either_clock(
    ahead: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """However wrong our clock or Ometria's is, the earlier of the two sets every mark."""
    for _ in range(2):
        replicate(warehouse, account(server), at=shop.now + ahead)
        earlier = min(shop.now, shop.now + ahead)
        for table in API_TABLES:
            assert earlier - MINUTE < mark(warehouse, table) <= earlier
            assert mark(warehouse, table, "full_read") <= earlier
        shop.set_time(shop.now + 3 * DAY)


@pytest.mark.parametrize("ahead", [-YEAR, YEAR], ids=["behind", "ahead"])
def test_a_wrong_clock_skips_nothing(
    ahead: timedelta, shop: Account, server: Server, warehouse: Path
) -> None:
    """What happens after a run by a clock a year wrong is found by the next, its clock right."""
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


def test_a_failed_read_moves_no_mark(shop: Account, server: Server, warehouse: Path) -> None:
    """A table that fails keeps its marks, and the tables after it move theirs."""
    replicate(warehouse, account(server), at=shop.now)
    before = mark(warehouse, "profiles")
    shop.set_time(shop.now + DAY)
    server.faults.next("/v2/profiles", Fault(status=418))

    with pytest.raises(OmetriaError) as failed:
        replicate(warehouse, account(server), at=shop.now)

    assert mark(warehouse, "profiles") == before
    assert mark(warehouse, "unsubscribes") > before
    assert failed.value.report is not None
    assert failed.value.report.outcome == "failed"
    assert [row["outcome"] for row in state(warehouse, "runs")].count("failed") == 1


# --- What a run costs --------------------------------------------------------------------------


def test_a_run_after_nothing_happened_costs_a_handful_of_requests(tmp_path: Path) -> None:
    """However large the account is, it is five at the most, and the report counts them."""
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
        first = Asked(server)
        report = replicate(warehouse, account(server), at=shop.now)
        assert report.requests == len(first) > 40

        for _ in range(2):
            shop.set_time(shop.now + HOUR)
            quiet = Asked(server)
            settings = account(server, requests_per_second=4.0)  # What is asked ahead waits.
            report = replicate(warehouse, settings, at=shop.now)

            assert set(quiet.paths()) == {"lists", "profiles", "unsubscribes"}
            assert report.requests == len(quiet) <= 5
            assert of(report, "profiles").requests == 1
            assert of(report, "lists").requests <= 3  # Nobody documents whether they page.
            assert of(report, "member_lists").requests == 0
            assert of(report, "unsubscribes").requests == 1
            assert sum(each.inserted + each.updated for each in report.tables) == 0


def test_repeats_of_a_request_are_counted_too(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A request that is tried again is one more in the report, as in the server's log."""
    asked = Asked(server)
    server.faults.next("/v2/unsubscribes", Fault(status=503, retry_after="0"), times=2)

    report = replicate(warehouse, account(server), at=shop.now)

    assert report.requests == len(asked)
    assert of(report, "unsubscribes").requests >= 3


# --- Unsubscribes ------------------------------------------------------------------------------


def test_unsubscribes_are_asked_for_from_eight_days_before(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Later reads begin eight days before the watermark, so one that shows up late is found."""
    replicate(warehouse, account(server), at=shop.now)
    watermark = mark(warehouse, "unsubscribes")
    shop.set_time(shop.now + HOUR)
    shop.add_unsubscribe("ann", email_address="ann@example.com", at=watermark - 8 * DAY + MINUTE)
    asked = Asked(server)

    report = replicate(warehouse, account(server), at=shop.now)

    (since,) = {value for value in asked.values("unsubscribes", "since") if value}
    began = datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert watermark - 8 * DAY - MINUTE < began <= watermark - 8 * DAY
    assert of(report, "unsubscribes").inserted == 1


# --- Changes of lists --------------------------------------------------------------------------


def test_only_lists_that_were_refreshed_are_asked_for_their_changes(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A dynamic list is asked when it was refreshed since; a static one has no such time."""
    shop.add_list("30", type="DYNAMIC", refreshed_at=NOON - 60 * DAY)
    first = Asked(server)
    replicate(warehouse, account(server), at=shop.now)
    assert first.lists() == ["10", "20", "30"]
    assert first.values("lists/10/changes", "since") == {None}

    shop.set_time(shop.now + 2 * DAY)
    shop.refresh_list("10", enter=["cat"], leave=["ann"])
    watermark = mark(warehouse, "member_lists")
    second = Asked(server)
    replicate(warehouse, account(server), at=shop.now)

    assert second.lists() == ["10", "20"]
    (since,) = second.values("lists/10/changes", "since")
    assert since is not None
    asked_since = datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert watermark - 8 * DAY - MINUTE < asked_since <= watermark - 8 * DAY
    assert changes(warehouse) == changes_of(shop)


def test_every_list_is_asked_once_a_week_and_not_more(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Of a run every half week, each second one asks a list that nothing refreshes."""
    asked_on = []
    for run in range(6):
        asked = Asked(server)
        replicate(warehouse, account(server), at=shop.now)
        if "10" in asked.lists():
            asked_on.append(run)
        shop.set_time(shop.now + 3.5 * DAY + MINUTE)

    assert asked_on == [0, 2, 4]


def test_a_round_without_any_list_to_ask_puts_off_no_full_round(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Runs that find no list refreshed don't count as a full round."""
    shop.delete_list("20")
    asked_on = []
    for run in range(5):
        asked = Asked(server)
        replicate(warehouse, account(server), at=shop.now)
        if "10" in asked.lists():
            asked_on.append(run)
        shop.set_time(shop.now + 3.5 * DAY + MINUTE)

    assert asked_on == [0, 2, 4]


def test_the_full_round_finds_what_no_refresh_announced(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A change in a list that claims no refresh is there within a week."""
    replicate(warehouse, account(server), at=shop.now)
    shop.set_time(shop.now + HOUR)
    shop.add_change("10", "bob", "list_enter")
    shop.set_time(shop.now + 2 * DAY)
    replicate(warehouse, account(server), at=shop.now)
    assert len(changes(warehouse)) == 2

    shop.set_time(NOON + 7 * DAY + HOUR)
    replicate(warehouse, account(server), at=shop.now)

    assert changes(warehouse) == changes_of(shop)


@settings(max_examples=5, deadline=None)
@given(
    pauses=st.lists(st.integers(1, 24 * 20), min_size=1, max_size=4),
    hours=st.lists(st.integers(0, 24 * 60), max_size=8),
    late=st.lists(st.integers(0, 7 * 24), min_size=8, max_size=8),
)
@example(pauses=[3 * 24, 3 * 24, 3 * 24, 24], hours=[1, 80, 150], late=[0] * 8)
def test_no_change_is_missed_for_good(pauses: list[int], hours: list[int], late: list[int]) -> None:
    """Whenever runs happen and unannounced changes appear, late by a week, all are found."""
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


def test_a_new_list_is_asked_from_its_first_day(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A list made between two runs comes with those who were in it from the start."""
    replicate(warehouse, account(server), at=shop.now)
    shop.set_time(shop.now + 3 * DAY)
    shop.add_list("30", type="DYNAMIC", title="New")
    shop.refresh_list("30", enter=["ann", "bob", "cat"], leave=[])
    shop.set_time(shop.now + 3 * DAY)

    report = replicate(warehouse, account(server), at=shop.now)

    assert of(report, "lists").inserted == 1
    assert of(report, "member_lists").inserted == 3
    assert changes(warehouse) == changes_of(shop)


def test_archived_lists_are_read_with_their_changes(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Lists are asked for with ``mode=all``, so an archived one neither hides nor is missed."""
    shop.archive_list("10")
    asked = Asked(server)

    replicate(warehouse, account(server), at=shop.now)

    assert asked.values("lists", "mode") == {"all"}
    assert "10" in asked.lists()
    assert {row["list_id"] for row in read_file(warehouse, "ometria.lists")} == {"10", "20"}
    assert state(warehouse, "deleted_upstream") == []


def test_a_list_that_vanishes_before_it_is_asked_is_passed_over(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A 404 for one list is a warning; the others are read, and the run succeeds."""

    def vanish(request: object) -> None:
        if server.requests[-1].path == "/v2/lists" and len(shop.lists) == 2:
            shop.delete_list("10")

    server.after_request = vanish

    report = replicate(warehouse, account(server), at=shop.now)

    assert report.outcome == "succeeded"
    assert report.warnings == ("lists/10/changes is gone (404); nothing was read from it",)
    assert {list_id for list_id, _, _ in changes(warehouse)} == {"20"}
    assert mark(warehouse, "member_lists") <= shop.now


def test_a_list_that_would_not_answer_owes_all_its_changes(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A list passed over for weeks is then read from where it was left, not from eight days ago."""
    server.quirks = Quirks(archived_changes="not_found")
    shop.archive_list("10")
    for weeks in range(5):
        replicate(warehouse, account(server), at=NOON + weeks * 8 * DAY)
    assert {list_id for list_id, _, _ in changes(warehouse)} == {"20"}
    (due,) = [row for row in state(warehouse, "watermarks") if row["kind"] == "retry 10"]

    server.quirks = Quirks()
    replicate(warehouse, account(server), at=NOON + 41 * DAY)

    assert due["reached_at"] < NOON - YEAR
    assert {list_id for list_id, _, _ in changes(warehouse)} == {"10", "20"}
    assert not [row for row in state(warehouse, "watermarks") if row["kind"].startswith("retry")]


# --- --since, --until, backfill ----------------------------------------------------------------


def test_a_stretch_is_read_without_moving_marks(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """``since`` asks for what came from that day on; the next run goes on where the last was."""
    replicate(warehouse, account(server), at=shop.now)
    marks = state(warehouse, "watermarks")
    shop.set_time(shop.now + 5 * DAY)
    shop.update_profile("ann", firstname="Ann")
    stretch = Asked(server)

    report = replicate(warehouse, account(server), at=shop.now, since=(NOON - 100 * DAY).date())

    day = f"{NOON - 100 * DAY:%Y-%m-%d}"
    assert stretch.values("profiles", "updateSince") == {day}
    assert stretch.lists() == ["10", "20"]
    assert stretch.values("lists/10/changes", "since") == {f"{day}T00:00:00"}
    before = f"{NOON - 101 * DAY:%Y-%m-%d}T23:59:59"  # A second more, should bounds be exclusive.
    assert stretch.values("unsubscribes", "since") == {before}
    profiles = of(report, "profiles")
    assert (profiles.inserted, profiles.updated, profiles.unchanged) == (0, 1, 2)
    assert state(warehouse, "watermarks") == marks

    normal = Asked(server)
    replicate(warehouse, account(server), at=shop.now)
    asked_since = mark_of(marks, "profiles") - DAY
    assert normal.values("profiles", "updateSince") == {f"{asked_since:%Y-%m-%d}"}
    assert mark(warehouse, "profiles") > mark_of(marks, "profiles")


def mark_of(marks: list[dict[str, object]], table: str) -> datetime:
    (found,) = [m for m in marks if (m["table_name"], m["kind"]) == (table, "watermark")]
    assert isinstance(found["reached_at"], datetime)
    return found["reached_at"]


def test_a_first_run_of_a_stretch_leaves_no_mark(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """A backfill into an empty warehouse doesn't make the first sync believe it read all."""
    replicate(warehouse, account(server), at=shop.now, since=NOON.date())
    assert state(warehouse, "watermarks") == []
    asked = Asked(server)

    replicate(warehouse, account(server), at=shop.now)

    assert asked.values("profiles", "updateSince") == {None}
    assert len(everything(warehouse)["profiles"]) == 3
    assert changes(warehouse) == changes_of(shop)


def test_until_ends_the_window_of_unsubscribes(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """From a day to a day brings the opt-outs of both days whole, and none of the next."""
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
    assert set(beyond) <= {datetime(2026, 2, 4, tzinfo=UTC)}  # The window's own end.
