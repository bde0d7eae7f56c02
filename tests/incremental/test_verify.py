"""`verify` finds each row that differs, and blames nothing on a sound replica."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from ometria_replica.config import FeedSettings, Retention, Secret
from ometria_replica.erasing import erase, ids_of
from ometria_replica.errors import AccessDenied, Busy, ConfigError, DifferencesFound
from ometria_replica.run_context import NoProgress
from ometria_replica.state_commands import rewind
from ometria_replica.verification.run import refuse_differences
from ometria_simulator import Account, Dialect, Fault, Feed, serve
from tests.duck import opened, read_file
from tests.incremental.shops import DAY, HOUR, NOON, ReceivedRequests, account, config, replicate
from tests.incremental.verifications import (
    PLANTED,
    QUIET_SINCE,
    differing,
    plant,
    quiet_feed,
    quiet_shop,
    verified,
)
from tests.replicas import TABLES, everything

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.report import TableReport
    from ometria_replica.verify_report import VerifyReport
    from ometria_simulator import Server
    from ometria_simulator.server import LoggedRequest


@dataclasses.dataclass
class Replica:
    """The quiet shop with its replica, of which a test gets a copy."""

    settings: AccountSettings
    server: Server
    warehouse: Path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """Replicate the quiet shop once."""
    folder = tmp_path_factory.mktemp("verify")
    with serve(quiet_shop(), requests_per_second=None) as server:
        settings = account(server, quiet_feed(folder / "feed"))
        replicate(folder / "w.duckdb", settings, at=NOON)
        yield Replica(settings, server, folder / "w.duckdb")


@pytest.fixture
def replica(original: Replica, warehouse: Path) -> Replica:
    """Copy the replica."""
    shutil.copyfile(original.warehouse, warehouse)
    return dataclasses.replace(original, warehouse=warehouse)


def change(warehouse: Path, statement: str) -> None:
    """Change a replica behind the back of the program."""
    with opened(warehouse, read_only=False) as connection:
        connection.execute(statement)


def counts(report: VerifyReport) -> dict[str, tuple[int, ...]]:
    """Give what was checked, and what differs, by table."""
    return {
        table.table: (table.checked, table.missing, table.stale, table.extra, table.newer)
        for table in report.tables
    }


class Ends(NoProgress):
    """Progress that keeps how many records each table had at its end."""

    def __init__(self) -> None:
        self.records: dict[str, int] = {}

    @override
    def finish(self, report: TableReport) -> None:
        """Keep them."""
        self.records[report.table] = report.records


def test_a_sound_replica_is_as_ometria_has_it(replica: Replica) -> None:
    """Every row is compared, none differs, nothing is written, and progress counts records."""
    before, ends = everything(replica.warehouse, load_time=True), Ends()

    report = verified(replica.warehouse, replica.settings, progress=ends)

    assert ends.records["email_events"] == 30
    assert counts(report) == {
        "profiles": (40, 0, 0, 0, 0),
        "lists": (3, 0, 0, 0, 0),
        "member_lists": (24, 0, 0, 0, 0),
        "unsubscribes": (20, 0, 0, 0, 0),
        "email_events": (27, 0, 0, 0, 0),
    }
    refuse_differences(report, strict=True)
    assert "Every row that was compared is as Ometria and the export have it." in report.to_text()
    assert everything(replica.warehouse, load_time=True) == before


def find_and_repair(replica: Replica, *names: str) -> None:
    """Plant differences: a report names exactly their rows, and a repair makes these as before."""
    warehouse = replica.warehouse
    settings = dataclasses.replace(replica.settings, deletes="remove", max_deleted_share=0.5)
    before = everything(warehouse)
    planted = plant(warehouse, *names)
    tables = sorted({PLANTED[name].table for name in names})

    found = verified(warehouse, settings, tables=tables)

    assert differing(found) == planted
    columns = {each.columns for table in found.tables for each in table.differences}
    assert columns == {PLANTED[name].columns for name in names}
    with pytest.raises(DifferencesFound):
        refuse_differences(found, strict=all(kind == "newer" for _, kind, _ in planted))

    repaired = verified(warehouse, settings, tables=tables, repair=True)

    assert differing(repaired) == set()
    assert sum(table.repaired for table in repaired.tables) == len(planted)
    assert everything(warehouse) == before


def test_planted_differences_are_found_exactly_and_repaired(replica: Replica) -> None:
    """All kinds at once: each key is reported with its kind and columns, and no other."""
    find_and_repair(replica, *PLANTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_found_exactly_and_repaired(replica: Replica, name: str) -> None:
    """Each by itself: it is not found because of another."""
    find_and_repair(replica, name)


def test_a_sample_reads_some_parts_and_a_seed_the_same_again(replica: Replica) -> None:
    """Of each table at least one part is read; other seeds read other ones, in the end all."""
    change(replica.warehouse, "DELETE FROM ometria.email_events")
    change(replica.warehouse, "DELETE FROM ometria.member_lists")

    def sample(seed: int | None) -> set[tuple[str, str, str]]:
        share = None if seed is None else 0.05
        tables = ["email_events", "member_lists"]
        options = {"share": share, "seed": seed or 0, "tables": tables}
        return differing(verified(replica.warehouse, replica.settings, **options))

    first, *others = [sample(seed) for seed in (1, 1, 2, 3)]

    assert first == others[0]
    assert first != others[1] or first != others[2]
    assert {table for table, *_ in first} == {"email_events", "member_lists"}
    assert set().union(*others) < sample(None)


def test_a_bound_of_requests_is_kept(replica: Replica) -> None:
    """Of ten requests, no table but a small collection is read whole, and the rest is named."""
    told: list[str] = []
    received = ReceivedRequests(replica.server)

    report = verified(replica.warehouse, replica.settings, requests=8, announce=told.append)

    assert len(received) <= 8 + 3
    assert report.share is not None
    assert "About" in told[0]
    assert "of 3 lists of member_lists" in told[0]


def test_what_has_no_other_explanation_than_a_change_is_newer(
    replica: Replica,
) -> None:
    """What was updated since the watermark may be newer, and the next sync reads it."""
    shop = quiet_shop()
    with serve(shop, requests_per_second=None) as server:
        settings = dataclasses.replace(
            replica.settings, api_url=server.url, api_key=Secret(server.key, "the test")
        )
        shop.set_time(NOON + HOUR)
        shop.update_profile("p07", lastname="New")
        shop.add_profile("p99", email="p99@example.com")
        shop.delete_profile("p08")
        shop.merge_profiles("p09", ["p10"])
        shop.refresh_list("10", enter=["p30"], leave=["p01"])
        shop.delete_list("30")
        shop.add_unsubscribe("p30", at=NOON)
        report = verified(replica.warehouse, settings)

        assert differing(report, newer=False) == set()
        assert {table.table: (table.newer, table.gone) for table in report.tables} == {
            "profiles": (2, 2),
            "lists": (1, 1),
            "member_lists": (2, 9),
            "unsubscribes": (1, 0),
            "email_events": (0, 0),
        }
        with pytest.raises(DifferencesFound):
            refuse_differences(report, strict=True)
        replicate(replica.warehouse, settings, at=shop.now + HOUR)
        after = verified(replica.warehouse, settings, clock=lambda: shop.now + 2 * HOUR)
        assert differing(after) == set()


def moving(
    seed: int,
    tmp_path: Path,
    shares: tuple[float | None, ...] = (None, 0.3, None),
    **options: Any,
) -> None:
    """Verify a replica again and again while its account moves and its server fails."""
    shop = Account.create(seed, profiles=280, lists=4, email_events=100, now=NOON)
    feed = Feed(shop, tmp_path / "feed", Dialect(compression="gzip"))
    feed.export_history(files_per_day=1 / 60)
    warehouse = tmp_path / "w.duckdb"
    asked = 0

    def live(_: LoggedRequest) -> None:
        """Let half an hour pass, and with every few requests something happen."""
        nonlocal asked
        asked += 1
        shop.advance(timedelta(minutes=30))
        someone = [profile.id for profile in shop.profiles]
        match asked % 6:
            case 0:
                shop.delete_profile(someone[(asked * 7) % len(someone)])
            case 1:
                shop.merge_profiles(someone[asked % len(someone)], [someone[asked % 50 - 60]])
            case 2:
                for each in someone[asked % 100 : asked % 100 + 20]:
                    shop.update_profile(each, lastname=f"At {asked}", tags=[f"at {asked}"])
            case 3:
                feed.export()
                shop.add_unsubscribe(someone[asked % len(someone)])

    with serve(shop, requests_per_second=None) as server:
        settings = account(server, tmp_path / "feed", **options)
        for share in shares:
            replicate(warehouse, settings, at=lambda: shop.now)
            server.faults.next("/v2/profiles", Fault(status=500))
            server.after_request = live
            report = verified(warehouse, settings, share=share, seed=seed, clock=lambda: shop.now)
            server.after_request = None
            server.faults.clear()
            assert differing(report, newer=False) == set(), report.to_text()
            refuse_differences(report, strict=False)
            shop.advance(timedelta(days=2))
            feed.export()


def test_a_sound_replica_of_a_moving_account_is_not_blamed(tmp_path: Path) -> None:
    """While verify reads, profiles change, go and are merged, files come, and requests fail."""
    moving(1, tmp_path, shares=(None,))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_sound_replica_of_a_moving_account_is_blamed_for_nothing(
    seed: int, tmp_path: Path
) -> None:
    """While verify reads, profiles change, go and are merged, files come, and requests fail."""
    inside = ("profile_tags", "profile_identities", "profile_lists") if seed % 2 else ()
    moving(seed, tmp_path, tables=(*TABLES, *inside))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"wide_keys": True},
        {"deletes": "remove", "max_deleted_share": 1.0, "detect_deletes_every_days": 1},
        {"retain": (Retention("email_events", 60, "day"), Retention("unsubscribes", 30, "day"))},
        {
            "hash": ("*.email", "*.profile_id", "unsubscribes.unsubscribe_reason_text"),
            "exclude": ("profiles.first_name", "email_events.bounce_reason"),
            "hash_key": Secret("a key that is long enough for a test", "the test"),
        },
        {"follow_erasures": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_settings_that_change_rows_are_no_differences(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Wide keys, removed and expired rows, hashed and excluded columns, followed erasures."""
    moving(3, tmp_path, **options)


def test_a_table_that_was_not_read_to_its_end_is_not_verified(replica: Replica) -> None:
    """The next sync reads it: there is nothing to compare with."""
    rewind(config(replica.warehouse, replica.settings), ["profiles"], None)

    report = verified(replica.warehouse, replica.settings, tables=["profiles"])

    assert report.tables == ()
    assert report.not_verified[0].startswith("profiles of uk: no sync has read it to its end")


def test_a_refused_table_is_an_error_and_the_others_are_verified(replica: Replica) -> None:
    """The error is raised at the end, with the report of the rest."""
    change(replica.warehouse, "DELETE FROM ometria.unsubscribes WHERE rowid = 3")
    replica.server.no_rights = frozenset({"profiles"})
    try:
        with pytest.raises(AccessDenied) as raised:
            verified(replica.warehouse, replica.settings, tables=["profiles", "unsubscribes"])
    finally:
        replica.server.no_rights = frozenset()

    report = raised.value.verified
    assert report is not None
    assert [table.table for table in report.tables if table.error] == ["profiles"]
    assert {kind for _, kind, _ in differing(report)} == {"missing"}


def test_a_folder_that_is_gone_is_an_error_and_the_others_are_verified(replica: Replica) -> None:
    """As after a refused request: the report of the rest is there."""
    folder = FeedSettings(url=str(replica.warehouse.parent / "gone"))
    gone = dataclasses.replace(replica.settings, feed=folder)
    with pytest.raises(ConfigError) as raised:
        verified(replica.warehouse, gone, tables=["lists", "email_events"])

    report = raised.value.verified
    assert report is not None
    found = {table.table: (table.checked, bool(table.error)) for table in report.tables}
    assert found == {"lists": (3, False), "email_events": (0, True)}


def test_a_repair_waits_for_no_sync_and_lets_none_run(replica: Replica) -> None:
    """While another run holds the lease a repair is refused; a verification reads."""
    change(
        replica.warehouse,
        "INSERT INTO ometria_replica.leases (source_id, run_id, host, pid, process, taken_at,"
        " expires_at) VALUES ('uk', 'other', 'elsewhere', 1, '', now(), TIMESTAMPTZ '2100-01-01')",
    )
    verified(replica.warehouse, replica.settings, tables=["lists"])
    with pytest.raises(Busy):
        verified(replica.warehouse, replica.settings, tables=["lists"], repair=True)


def test_a_report_holds_keys_and_no_value_of_a_person(replica: Replica) -> None:
    """It names lists by Ometria's id, and nobody."""
    change(replica.warehouse, "UPDATE ometria.profiles SET last_name = 'Nobody'")
    change(replica.warehouse, "DELETE FROM ometria.member_lists")

    report = verified(replica.warehouse, replica.settings)

    told = report.to_json() + report.to_text()
    people = read_file(replica.warehouse, "ometria.profiles")
    for row in people:
        assert not any(str(row[name]) in told for name in ("profile_id", "email"))
    assert "Nobody" not in told
    data = json.loads(report.to_json())
    assert {each["id"] for table in data["tables"] for each in table["differences"]} == {
        None, "10", "20", "30",
    }  # fmt: skip
    (profiles,) = [table for table in report.tables if table.table == "profiles"]
    assert profiles.stale == 40
    assert profiles.columns == ("last_name",)


def test_rows_are_removed_only_if_the_settings_say_so(replica: Replica) -> None:
    """Else a profile that is gone is noted, as a full read does; an event is reported."""
    plant(replica.warehouse, "a row of profiles of nobody", "a row of unsubscribes made up")

    tables = ["profiles", "unsubscribes"]
    report = verified(replica.warehouse, replica.settings, tables=tables, repair=True)

    assert differing(report) == {("unsubscribes", "extra", "planted")}
    noted = read_file(replica.warehouse, "ometria_replica.deleted_upstream")
    assert [(row["table_name"], row["sync_key"]) for row in noted] == [("profiles", "planted")]


def test_the_source_must_be_known(replica: Replica, tmp_path: Path) -> None:
    """A warehouse without rows of the account is likely the wrong one."""
    other = dataclasses.replace(replica.settings, source_id="us", account_id="7")
    with pytest.raises(ConfigError, match="has no rows of source 'us'"):
        verified(replica.warehouse, other)


def test_a_repair_is_in_the_history(replica: Replica) -> None:
    """With the rows that it loaded."""
    change(replica.warehouse, "DELETE FROM ometria.profiles WHERE rowid IN (3, 5)")
    options = {"tables": ["profiles"], "repair": True, "clock": lambda: NOON + DAY}
    verified(replica.warehouse, replica.settings, **options)

    runs = read_file(replica.warehouse, "ometria_replica.runs", order="started_at")
    report = json.loads(runs[-1]["report"])
    assert {t["table"]: t["inserted"] for t in report["tables"] if t["inserted"]} == {"profiles": 2}


def test_of_two_events_with_one_key_the_row_may_be_either(warehouse: Path) -> None:
    """Ometria sends them in no fixed order, so which of them a sync has kept is no difference."""
    shop = quiet_shop()
    shop.set_time(QUIET_SINCE)
    for event in ("list_enter", "list_exit"):
        shop.add_change("10", "p39", event, at=QUIET_SINCE - DAY)
    shop.set_time(NOON)
    with serve(shop, requests_per_second=None) as server:
        settings = account(server)
        replicate(warehouse, settings, at=NOON, tables=["lists", "member_lists"])
        for event, kinds in (("list_enter", set()), ("list_exit", set()), ("other", {"stale"})):
            change(
                warehouse,
                f"UPDATE ometria.member_lists SET event = '{event}' WHERE profile_id = 'p39'",
            )
            report = verified(warehouse, settings, tables=["member_lists"])
            assert {kind for _, kind, _ in differing(report)} == kinds


@pytest.mark.parametrize("blank", [False, True])
def test_erased_people_are_no_difference(replica: Replica, blank: bool) -> None:
    """Their records are there and no sync may load them; a repair does not bring them back."""
    settings = dataclasses.replace(replica.settings, deletes="remove", max_deleted_share=1.0)
    people = ids_of(["p03@example.com", "c@example.com"])
    erase(config(replica.warehouse, settings), people, blank=blank, clock=lambda: NOON)
    before = everything(replica.warehouse)
    assert "p03@example.com" not in str(before)

    report = verified(replica.warehouse, settings, repair=True)

    assert differing(report) == set(), report.to_text()
    assert sum(table.repaired for table in report.tables) == 0
    assert everything(replica.warehouse) == before
