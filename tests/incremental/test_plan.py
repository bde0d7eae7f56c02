"""What a run would take, before it runs: exact where that can be known, else in a stated range."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ometria_replica import failpoints
from ometria_replica.batch import BatchSize
from ometria_replica.config import Secret
from ometria_replica.errors import AccessDenied, Busy, ConfigError, Unavailable
from ometria_replica.ometria.client import Client
from ometria_replica.ometria.record_counts import Counted, count_records
from ometria_replica.planning.figures import known
from ometria_replica.planning.run import plan_run
from ometria_replica.run_context import Window
from ometria_replica.state_commands import rewind
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Quirks, Server, serve
from tests.duck import held_elsewhere
from tests.e2e.program import api_env, invoke
from tests.incremental.further import Endpoints, orders, reading
from tests.incremental.shops import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    ReceivedRequests,
    account,
    config,
    replicate,
    small_shop,
)
from tests.replicas import of, write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.planning.figures import Figure
    from ometria_replica.planning.plan_report import Plan
    from ometria_replica.planning.table_plan import TablePlan
    from ometria_replica.report import RunReport


def look(
    warehouse: Path, *accounts: AccountSettings, at: datetime, offline: bool = False, **window: Any
) -> Plan:
    tables = window.pop("tables", ())
    return plan_run(
        config(warehouse, *accounts), tables, Window(**window), offline=offline, clock=lambda: at
    )


def planned(plan: Plan, name: str) -> TablePlan:
    (found,) = [table for table in plan.tables if table.table == name]
    return found


def codes(plan: Plan, name: str) -> list[str]:
    return [why.code for why in planned(plan, name).why]


def holds(figure: Figure, number: int) -> bool:
    """Whether a number is as planned: equal to a known one, or in the range of another."""
    most = number if figure.high is None else figure.high
    return figure.low <= number <= most


def refuted(plan: Plan, report: RunReport) -> list[tuple[str, str, Figure, int]]:
    """List the numbers of a plan that are not as the sync after it has counted."""
    found = []
    for table in plan.tables:
        if table.reads_with:
            continue
        done = of(report, table.table)
        numbers = [
            ("requests", table.requests, done.requests),
            ("rewritten", table.rewritten, done.updated + done.unchanged),
            ("files", table.files, done.files + done.files_unreadable),
        ]
        if table.records.basis != "known":  # A page repeats records of the one before.
            numbers.append(("records", table.records, done.records))
        found += [
            (table.table, name, figure, number)
            for name, figure, number in numbers
            if figure is not None and not holds(figure, number)
        ]
        assert done.due in {table.due, None}, table.table
    return found


def events(names: str, at: datetime) -> list[dict[str, object]]:
    return [
        {
            "to_address": f"{name}@example.com",
            "event_type": "open",
            "dt_occurred": f"{at:%Y-%m-%d %H:%M:%S}",
        }
        for name in names
    ]


def test_profiles_are_counted_before_they_are_read(warehouse: Path) -> None:
    """By a few requests. The sync sends those that are needed, and perhaps a few pages ahead."""
    shop = Account(now=NOON - 90 * DAY)
    for number in range(320):
        shop.add_profile(f"p{number}")
    shop.set_time(NOON)
    quirks = Quirks(ignore_limit=frozenset({"profiles"}))  # Pages of ten.
    with serve(shop, requests_per_second=None, quirks=quirks) as server:
        asked = ReceivedRequests(server)
        plan = look(warehouse, account(server), at=NOON, tables=("profiles",))
        assert plan.asked == len(asked) <= 12
        assert not warehouse.exists()
        asked = ReceivedRequests(server)
        report = replicate(warehouse, account(server), at=NOON, tables=("profiles",))

    table = planned(plan, "profiles")
    assert table.records == known(320) == known(of(report, "profiles").inserted)
    assert table.requests.low == table.requests.value == 64  # Pages overlap by five.
    assert holds(table.requests, len(asked))
    assert table.seconds(4.0).value == 16


DAYS = st.tuples(
    st.integers(0, 5),  # Profiles that are new.
    st.integers(0, 2),  # Lists that are refreshed.
    st.integers(0, 3),  # Opt-outs.
    st.integers(0, 3),  # Files.
    st.sampled_from([1, 5, 24, 24 * 8]),  # Hours to the next run.
)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(days=st.lists(DAYS, min_size=2, max_size=3))
def test_no_known_number_is_refuted_whatever_happens(
    days: list[tuple[int, int, int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Known numbers are equal to those of the sync, and so is what is due."""
    lead_a_life(days, tmp_path_factory.mktemp("moving"))


def test_no_known_number_is_refuted(tmp_path: Path) -> None:
    """With a first run, a pause, and two files that are new."""
    lead_a_life([(3, 2, 1, 2, 24 * 8), (2, 1, 3, 2, 1)], tmp_path)


def lead_a_life(days: list[tuple[int, int, int, int, int]], folder: Path) -> None:
    """Plan and sync a shop again and again, and compare."""
    warehouse, feed, shop = folder / "w.duckdb", folder / "feed", small_shop()
    feed.mkdir()
    with serve(shop, requests_per_second=None) as server:
        on = account(server, feed, detect_deletes_every_days=7)
        for day, (people, lists, opt_outs, files, hours) in enumerate(days):
            for number in range(people):
                shop.add_profile(f"new {day} {number}")
            for list_id in ("10", "20")[:lists]:
                shop.refresh_list(list_id, enter=["cat"], leave=["cat"])
            for _ in range(opt_outs):
                shop.add_unsubscribe("ann")
            for number in range(files):
                write_feed_file(feed, f"{day}{number}.jsonl", shop.now, events("abc", shop.now))
            now = shop.now
            plan = look(warehouse, on, at=now)
            asked = ReceivedRequests(server)
            offline = look(warehouse, on, at=now, offline=True)
            assert not len(asked)
            report = replicate(warehouse, on, at=now)

            for each in (plan, offline):
                found = refuted(each, report)
                assert [one for one in found if one[2].basis != "estimated"] == []
            table, lists_ = planned(plan, "email_events"), planned(plan, "lists")
            assert table.files == known(files)
            assert lists_.requests == known(of(report, "lists").requests)
            assert planned(plan, "profiles").records.basis == "known"
            shop.set_time(shop.now + hours * HOUR)


@pytest.mark.slow
def test_the_lists_that_are_due_are_those_that_the_sync_asks_for(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """After the first run only those that were refreshed, and all of them once a week."""
    replicate(warehouse, account(server), at=NOON)
    for later, refreshed, reason in (
        (DAY, [], []),
        (DAY, ["10"], []),
        (8 * DAY, [], ["weekly round"]),
    ):
        shop.set_time(shop.now + later)
        for list_id in refreshed:
            shop.refresh_list(list_id, enter=["cat"], leave=[])
        plan = look(warehouse, account(server), at=shop.now)
        asked = ReceivedRequests(server)
        replicate(warehouse, account(server), at=shop.now)

        table = planned(plan, "member_lists")
        assert table.parts is not None
        assert (table.parts.value, table.parts_total) == (len(asked.lists()), 2)
        assert codes(plan, "member_lists") == reason


@pytest.mark.slow
def test_a_moving_account_stays_in_the_stated_ranges(tmp_path: Path) -> None:
    """Six days of a simulated shop, planned with requests and without."""
    shop = Account.create(profiles=120, lists=6, email_events=0)
    warehouse = tmp_path / "w.duckdb"
    exact = 0
    with serve(shop, requests_per_second=None) as server:
        for day in range(6):
            now = shop.now
            plan = look(warehouse, account(server), at=now)
            offline = look(warehouse, account(server), at=now, offline=True)
            report = replicate(warehouse, account(server), at=now)
            assert refuted(plan, report) == [], day
            assert refuted(offline, report) == [], day
            exact += sum(table.requests.basis == "known" for table in plan.tables)
            shop.advance(DAY)

    assert exact >= 6
    assert all(table.requests.basis == "estimated" for table in offline.tables)


# --- why all is read ----------------------------------------------------------------------------


def test_why_all_is_read_is_said(shop: Account, server: Server, warehouse: Path) -> None:
    """And the sync after it does read all of it."""
    on = account(server, detect_deletes_every_days=7)
    assert codes(look(warehouse, on, at=NOON), "profiles") == ["first run"]
    replicate(warehouse, on, at=NOON)

    assert codes(look(warehouse, on, at=NOON + DAY), "profiles") == []
    assert codes(look(warehouse, on, at=NOON + DAY, full=True), "profiles") == ["--full"]
    asked = look(warehouse, on, at=NOON + DAY, detect_deletes=True)
    assert codes(asked, "profiles") == ["--detect-deletes"]
    assert codes(asked, "unsubscribes") == []
    interval = look(warehouse, on, at=NOON + 7 * DAY)
    assert codes(interval, "profiles") == ["interval"]
    assert (
        "a full read is due every 7 days (detect_deletes_every_days); the last was on 2026-03-02"
        in interval.to_text()
    )
    tags = replace(on, tables=("profiles", "profile_tags"))
    nested = look(warehouse, tags, at=NOON + DAY)
    assert codes(nested, "profiles") == ["nested tables"]
    assert planned(nested, "profile_tags").reads_with == "profiles"
    rewind(config(warehouse, on), ["unsubscribes"], None)
    assert codes(look(warehouse, on, at=NOON + DAY), "unsubscribes") == ["rewound"]
    report = replicate(warehouse, on, at=NOON + 7 * DAY)
    assert (of(report, "profiles").due, of(report, "unsubscribes").due) == ("all", "all")


@pytest.mark.slow
def test_rows_that_are_gone_are_a_reason(server: Server, warehouse: Path, tmp_path: Path) -> None:
    """As in the sync, which sets the state back first; the plan leaves the state as it is."""
    feed = tmp_path / "feed"
    write_feed_file(feed, "0.jsonl", NOON - 10 * DAY, events("ab", NOON - 10 * DAY))
    replicate(warehouse, account(server, feed), at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DELETE FROM ometria.profiles")
        connection.execute("DROP TABLE ometria.email_events")
    plans = [look(warehouse, account(server, feed), at=NOON + HOUR) for _ in range(2)]
    dry, report = (
        replicate(warehouse, account(server, feed), at=NOON + HOUR, dry_run=dry_run)
        for dry_run in (True, False)
    )

    assert [(each.table, each.due, each.inserted) for each in dry.tables] == [
        (each.table, each.due, each.inserted) for each in report.tables
    ]
    for plan in plans:
        assert codes(plan, "profiles") == ["rows lost"]
        assert codes(plan, "email_events") == ["rows lost"]
        assert len(plan.warnings) == 2
        assert refuted(plan, report) == []
    assert of(report, "email_events").files == 1
    assert planned(plans[0], "email_events").records.value == 2


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve sixty profiles in pages of ten, which are loaded thirty at a time."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=30))
    shop = Account(now=NOON - 90 * DAY)
    for number in range(60):
        shop.add_profile(f"p{number:03}")
    shop.set_time(NOON)
    quirks = Quirks(ignore_limit=frozenset({"profiles"}))
    with serve(shop, requests_per_second=None, quirks=quirks) as running:
        yield running


@pytest.mark.slow
def test_an_interrupted_read_counts_from_where_it_continues(crowd: Server, warehouse: Path) -> None:
    """The records that were committed are not due again."""

    def end(step: str) -> None:
        if step == "after commit of the batch":
            raise MemoryError

    whole = look(warehouse, account(crowd), at=NOON, tables=("profiles",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_listeners", [end])
        with pytest.raises(MemoryError):
            replicate(warehouse, account(crowd), at=NOON, tables=("profiles",))
    plan = look(warehouse, account(crowd), at=NOON + HOUR, tables=("profiles",))
    report = replicate(warehouse, account(crowd), at=NOON + HOUR, tables=("profiles",))

    assert codes(plan, "profiles") == ["first run", "continued"]
    committed = of(report, "profiles").continued_after
    assert planned(whole, "profiles").records.value == 60
    assert planned(plan, "profiles").records.value == 60 - committed
    assert refuted(plan, report) == []


# --- other tables, other options ----------------------------------------------------------------


@pytest.mark.slow
def test_further_tables_are_planned_too(warehouse: Path) -> None:
    """Contacts by the numbers that Ometria tells of its collections, orders by counting them."""
    shop = Endpoints(
        {
            "orders": orders(1, 600),
            "contacts": [{"collection": "shop", "count": 700}, {"collection": "b", "count": 1}],
            "contacts/shop": orders(1, 700),
            "contacts/b": orders(1, 1),
            "push/_errors": [],
        }
    )
    with shop.served() as listener:
        on = reading(listener, "orders", "collections", "contacts", "push_errors")
        plan = look(warehouse, on, at=NOON)
        report = replicate(warehouse, on, at=NOON)
        assert refuted(plan, report) == []
        later = look(warehouse, on, at=NOON + DAY)
        again = replicate(warehouse, on, at=NOON + DAY)

    assert planned(plan, "orders").records.value == 600
    assert (planned(plan, "contacts").records.value, planned(plan, "contacts").parts_total) == (
        701,
        2,
    )
    assert planned(plan, "push_errors").requests.value == of(report, "push_errors").requests == 1
    assert refuted(later, again) == []
    assert (planned(later, "orders").due, of(again, "orders").due) == ("new", "new")


def test_a_backfill_is_planned_by_its_own_days(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """Files by the days on which they were written; no watermark counts."""
    feed = tmp_path / "feed"
    for day in range(1, 6):
        at = NOON - day * DAY
        write_feed_file(feed, f"{day}.jsonl", at, events("abc"[:day], at))
    on = account(server, feed)
    replicate(warehouse, on, at=NOON)
    days: dict[str, Any] = {"since": (NOON - 4 * DAY).date(), "until": (NOON - 3 * DAY).date()}
    plan = look(warehouse, on, at=NOON + HOUR, **days)
    report = replicate(warehouse, on, at=NOON + HOUR, **days)

    files = planned(plan, "email_events")
    assert files.files is not None
    assert (files.files.value, files.records.value, files.records.basis) == (2, 6, "known")
    assert {table.due for table in plan.tables} == {"period"}
    assert refuted(plan, report) == []


def test_a_history_that_begins_and_rows_that_expire_are_counted(
    server: Server, warehouse: Path
) -> None:
    """Each row becomes a version."""
    replicate(warehouse, account(server), at=NOON)
    on = account(server, history=("profiles",))
    plan = look(warehouse, on, at=NOON + HOUR)
    report = replicate(warehouse, on, at=NOON + HOUR)

    assert planned(plan, "profiles").versions == of(report, "profiles").versions_opened == 3
    assert planned(look(warehouse, on, at=NOON + HOUR), "profiles").versions == 0
    assert "profiles: 3 rows would begin the history, as its first versions." in plan.to_text()


def test_a_file_that_could_not_be_read_is_tried_again_in_its_time(
    warehouse: Path, tmp_path: Path
) -> None:
    """Not before."""
    feed = tmp_path / "feed"
    write_feed_file(feed, "0.jsonl", NOON - DAY, events("ab", NOON - DAY))
    (feed / "1.jsonl").symlink_to("missing")
    os.utime(feed / "1.jsonl", (NOON.timestamp(),) * 2, follow_symlinks=False)
    on = account(None, feed)
    replicate(warehouse, on, at=NOON)
    soon, due = (look(warehouse, on, at=NOON + later) for later in (MINUTE, 2 * HOUR))
    offline = look(warehouse, on, at=NOON + 2 * HOUR, offline=True)
    (feed / "1.jsonl").unlink()
    write_feed_file(feed, "1.jsonl", NOON - DAY, events("cd", NOON - DAY))
    report = replicate(warehouse, on, at=NOON + 2 * HOUR)

    assert planned(soon, "email_events").tried_again == 0
    assert "1 file that could not be read is not due to be tried again yet." in soon.to_text()
    assert [planned(plan, "email_events").tried_again for plan in (due, offline)] == [1, 1]
    assert refuted(due, report) == []


# --- what can go wrong --------------------------------------------------------------------------


def test_a_wrong_key_is_named_once_and_ends_with_an_error(server: Server, warehouse: Path) -> None:
    """The rest of the plan is there; nothing is written, and no key is shown."""
    env = {**api_env(server, warehouse), "OMETRIA_API_KEY": "wrong-key-0123456789"}
    ended = invoke("plan", env=env)

    assert isinstance(ended.exception, AccessDenied)
    assert ended.output.count("Ometria refused the API key") == 1
    assert "Not planned: profiles, lists, member_lists:" in ended.output
    assert "wrong-key" not in ended.output
    assert not warehouse.exists()
    shape = json.loads(invoke("plan", "--json", env=env).stdout)
    assert all(table["error"] for table in shape["accounts"][0]["tables"][:3])


def test_an_account_that_cannot_be_planned_leaves_the_others_planned(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """A folder that is not there, or a wrong key: its tables alone have no numbers."""
    wrong = account(server, source_id="us", api_key=Secret("wrong", "the test"))
    for other, failed in (
        (account(None, tmp_path / "none", source_id="us"), {"email_events"}),
        (wrong, {"profiles", "lists", "member_lists"}),
    ):
        plan = look(warehouse, account(server), other, at=NOON)

        assert [error.source_id for error in plan.failures[:1]] == ["us"]
        assert {table.table for table in plan.tables if table.error} == failed
        assert {table.due for table in plan.tables} == {"all"}
        for table in plan.tables:
            assert bool(table.error) == (table.source_id == "us" and table.table in failed)
    assert "Not planned: us profiles, us lists, us member_lists:" in plan.to_text()


def test_without_ometria_the_rest_is_planned_offline(
    server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One table waits for the answer that does not come, and not each of them."""
    monkeypatch.setattr("ometria_replica.ometria.retries.UNREACHABLE_SECONDS", 0.1)
    replicate(warehouse, account(server), at=NOON)
    gone = account(server, api_url="http://127.0.0.1:9/v2")
    plan = look(warehouse, gone, at=NOON + HOUR)

    assert [type(error) for error in plan.failures] == [Unavailable]
    assert [bool(table.error) for table in plan.tables] == [True, False, False, False]
    assert planned(plan, "lists").requests.basis == "estimated"


def test_a_run_at_work_is_named(server: Server, warehouse: Path) -> None:
    """A sync would not start now; the plan is there all the same."""
    replicate(warehouse, account(server), at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO ometria_replica.leases VALUES ('uk', '20260302T120030-aaaaaa',"
            " 'another-host', 1, 'long ago', ?, ?)",
            [NOON, NOON + 30 * MINUTE],
        )
    plan = look(warehouse, account(server), at=NOON + MINUTE)

    assert "uk: run 20260302T120030-aaaaaa (process 1 on another-host) is at work" in (
        plan.to_text()
    )
    assert plan.to_dict()["accounts"][0]["active_run"]["pid"] == 1


def test_a_warehouse_that_another_program_has_open_is_in_use(
    server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB lets one program write: the plan says so, and to try again."""
    monkeypatch.setattr("ometria_replica.warehouse.engines.duckdb_file.WAIT_SECONDS", 0.0)
    replicate(warehouse, account(server), at=NOON)
    with held_elsewhere(warehouse):
        ended = invoke("plan", env=api_env(server, warehouse))

    assert isinstance(ended.exception, Busy)
    assert str(ended.exception).startswith("Not known, because the warehouse is in use: ")


def test_settings_that_a_sync_refuses_are_refused(server: Server, warehouse: Path) -> None:
    """Before anything is sent."""
    replicate(warehouse, account(server), at=NOON)
    asked = ReceivedRequests(server)
    with pytest.raises(ConfigError, match="rehash"):
        look(warehouse, account(server, exclude=("profiles.email",)), at=NOON)
    assert not len(asked)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backfill"], "backfill needs --since"),
        (["backfill", "--since", "2026-01-01", "--full"], "backfill has no --full"),
        (["sync", "--until", "2026-01-01"], "sync has no --until"),
        (["profile"], "There is no table 'profile'"),
    ],
)
def test_it_takes_the_options_of_the_command(
    arguments: list[str], said: str, server: Server, warehouse: Path
) -> None:
    """And no others."""
    ended = invoke("plan", *arguments, env=api_env(server, warehouse))

    assert said in f"{ended.output}{ended.exception}"


# --- counting -----------------------------------------------------------------------------------


@settings(deadline=None)  # Other processes may need the cores.
@given(
    records=st.integers(0, 1300),
    guess=st.integers(0, 2000),
    page_size=st.sampled_from([250, 100, 7]),
)
def test_records_are_counted_by_few_requests(records: int, guess: int, page_size: int) -> None:
    """Whatever was guessed, and however many records the server sends at once."""
    shop = Endpoints({"orders": orders(1, records)}, most=page_size)
    with (
        shop.served() as listener,
        Client(api_url=listener.url, api_key="k" * 20, requests_per_second=10_000) as client,
    ):
        counted = count_records(client, "orders", {}, guess)

    assert isinstance(counted, Counted)
    assert counted.records == records
    assert len(listener.asked) <= 6 + 2 * (max(records, guess) // page_size).bit_length()


@pytest.mark.parametrize("quirk", ["ignore_offset", "frozen_first_page"])
def test_what_offsets_do_not_tell_is_not_known(quirk: str, warehouse: Path) -> None:
    """A server that ignores the offset answers at every one of them."""
    shop = Account(now=NOON - 90 * DAY)
    for number in range(20):
        shop.add_profile(f"p{number}")
    quirks = Quirks(ignore_limit=frozenset({"profiles"}), **{quirk: frozenset({"profiles"})})  # type: ignore[arg-type]
    with serve(shop, requests_per_second=None, quirks=quirks) as server:
        plan = look(warehouse, account(server), at=NOON, tables=("profiles",))

    table = planned(plan, "profiles")
    assert (table.requests.basis, table.records.value) == ("unknown", None)
    assert "its records could not be counted" in table.notes[0]
    assert plan.asked < 70
