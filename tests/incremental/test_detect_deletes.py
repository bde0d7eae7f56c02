from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import BatchSize
from ometria_replica.errors import OmetriaError
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Fault, Server, serve
from tests.duck import read_file
from tests.incremental.shops import DAY, HOUR, NOON, ReceivedRequests, account, replicate, state
from tests.replicas import of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path


ONLY: dict[str, Any] = {"tables": ("profiles",)}


def people(warehouse: Path) -> set[str]:
    return {row["profile_id"] for row in read_file(warehouse, "ometria.profiles")}


def deleted_upstream(warehouse: Path) -> dict[str, tuple[datetime, datetime | None]]:
    """Return the records deleted upstream, when that was detected, and when the row was removed."""
    return {
        row["record_id"]: (row["first_missed_at"], row["removed_at"])
        for row in state(warehouse, "deleted_upstream")
    }


@pytest.fixture
def crowd() -> Account:
    """Return a shop of thirty profiles and two lists, all old."""
    shop = Account(now=NOON - 90 * DAY)
    for number in range(30):
        shop.add_profile(f"p{number:02}", email="x@example.com")
    for list_id in ("10", "20"):
        shop.add_list(list_id, title=list_id)
    shop.set_time(NOON)
    return shop


@pytest.fixture
def busy(crowd: Account) -> Iterator[Server]:
    """Serve the shop."""
    with serve(crowd, requests_per_second=None) as running:
        yield running


def test_delete_detection_records_deleted_profiles_with_a_time(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """By default the rows stay, and later detections keep the time of the first."""
    settings = account(busy, **ONLY)
    replicate(warehouse, settings, at=NOON)
    crowd.delete_profile("p03")
    crowd.merge_profiles("p01", ["p02"])

    first = of(replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True), "profiles")
    crowd.delete_profile("p09")
    second = of(replicate(warehouse, settings, at=NOON + DAY, detect_deletes=True), "profiles")

    assert (first.deleted_upstream, first.removed) == (2, 0)
    assert (second.deleted_upstream, second.removed) == (3, 0)
    assert deleted_upstream(warehouse) == {
        "p02": (NOON + HOUR, None),
        "p03": (NOON + HOUR, None),
        "p09": (NOON + DAY, None),
    }
    assert len(people(warehouse)) == 30


def test_an_incremental_read_detects_no_deletes(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """An incremental read does not contain all records, and detects no deletes."""
    settings = account(busy, **ONLY, deletes="remove", max_deleted_share=1.0)
    replicate(warehouse, settings, at=NOON)
    crowd.delete_profile("p03")
    crowd.set_time(NOON + 3 * DAY)
    crowd.update_profile("p04", firstname="Dan")

    plain = replicate(warehouse, settings, at=crowd.now)
    since = replicate(warehouse, settings, at=crowd.now, since=crowd.now.date())

    assert [of(report, "profiles").deleted_upstream for report in (plain, since)] == [0, 0]
    assert len(people(warehouse)) == 30
    assert deleted_upstream(warehouse) == {}


def test_deletes_remove_removes_the_rows(crowd: Account, busy: Server, warehouse: Path) -> None:
    """Detected rows are removed with a time, and the next detection finds nothing."""
    settings = account(busy, **ONLY, deletes="remove")
    replicate(warehouse, settings, at=NOON)
    crowd.delete_profile("p03")

    first = of(replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True), "profiles")
    second = of(replicate(warehouse, settings, at=NOON + DAY, detect_deletes=True), "profiles")

    assert (first.deleted_upstream, first.removed) == (1, 1)
    assert (second.deleted_upstream, second.removed) == (0, 0)
    assert "p03" not in people(warehouse)
    assert deleted_upstream(warehouse) == {"p03": (NOON + HOUR, NOON + HOUR)}


def test_a_loss_above_the_share_removes_nothing(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """Four of thirty exceed a tenth: they are recorded, the rows stay, and the run warns."""
    settings = account(busy, **ONLY, deletes="remove")
    replicate(warehouse, settings, at=NOON)
    for name in ("p01", "p02", "p03", "p04"):
        crowd.delete_profile(name)

    report = replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True)

    (warning,) = report.warnings
    assert warning == (
        "profiles: 4 rows were not found in Ometria, more than max_deleted_share (10%) of the"
        " table. None was removed. If so many were really deleted, raise the setting for one run."
    )
    assert (of(report, "profiles").deleted_upstream, of(report, "profiles").removed) == (4, 0)
    assert len(people(warehouse)) == 30
    assert set(deleted_upstream(warehouse).values()) == {(NOON + HOUR, None)}

    raised = account(busy, **ONLY, deletes="remove", max_deleted_share=0.14)
    report = replicate(warehouse, raised, at=NOON + DAY, detect_deletes=True)
    assert report.warnings == ()
    assert of(report, "profiles").removed == 4
    assert set(deleted_upstream(warehouse).values()) == {(NOON + HOUR, NOON + DAY)}


def test_exactly_the_allowed_share_is_removed(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """Three of thirty are a tenth, which the setting allows."""
    settings = account(busy, **ONLY, deletes="remove")
    replicate(warehouse, settings, at=NOON)
    for name in ("p01", "p02", "p03"):
        crowd.delete_profile(name)

    assert of(replicate(warehouse, settings, at=NOON, detect_deletes=True), "profiles").removed == 3


@pytest.mark.parametrize("deletes", ["report", "remove"])
def test_a_returned_profile_is_no_longer_deleted_upstream(
    deletes: str, crowd: Account, busy: Server, warehouse: Path
) -> None:
    """A profile that is back has its row and no entry in ``deleted_upstream``."""
    settings = account(busy, **ONLY, deletes=deletes)
    replicate(warehouse, settings, at=NOON)
    crowd.delete_profile("p03")
    replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True)
    crowd.add_profile("p03", email="back@example.com")

    report = of(replicate(warehouse, settings, at=NOON + DAY, detect_deletes=True), "profiles")

    assert (report.deleted_upstream, report.inserted, report.updated) == (
        0,
        *((1, 0) if deletes == "remove" else (0, 1)),
    )
    assert "p03" in people(warehouse)
    assert deleted_upstream(warehouse) == {}


def test_delete_detection_runs_every_set_number_of_days(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """Profiles have a full read at first, after the set number of days, and on request."""
    settings = account(busy, detect_deletes_every_days=3)
    whole = []
    for day in range(8):
        asked = ReceivedRequests(busy)
        replicate(warehouse, settings, at=crowd.now, tables=["profiles"], detect_deletes=day == 5)
        if asked.values("profiles", "updateSince") == {None}:
            whole.append(day)
        crowd.set_time(crowd.now + DAY + timedelta(minutes=1))

    assert whole == [0, 3, 5]


def test_without_the_setting_no_delete_detection_is_due(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """Only the options ``detect_deletes`` and ``full`` start another full read of profiles."""
    replicate(warehouse, account(busy), at=crowd.now)
    crowd.set_time(crowd.now + 400 * DAY)
    asked = ReceivedRequests(busy)

    replicate(warehouse, account(busy), at=crowd.now, tables=["profiles"])

    assert None not in asked.values("profiles", "updateSince")


def test_every_run_detects_deleted_lists(crowd: Account, busy: Server, warehouse: Path) -> None:
    """Lists always have a full read, so every run detects deleted ones."""
    replicate(warehouse, account(busy), at=NOON)
    crowd.delete_list("20")

    report = replicate(warehouse, account(busy), at=NOON + HOUR)

    assert (of(report, "lists").deleted_upstream, of(report, "profiles").deleted_upstream) == (1, 0)
    assert deleted_upstream(warehouse) == {"20": (NOON + HOUR, None)}


def test_a_run_reports_a_deleted_list_once(crowd: Account, busy: Server, warehouse: Path) -> None:
    """The text of the report has the number of rows without a record, and the state table."""
    replicate(warehouse, account(busy), at=NOON)
    crowd.delete_list("20")

    text = replicate(warehouse, account(busy), at=NOON + HOUR).to_text()

    assert (
        "lists: 1 row deleted upstream, kept here (see ometria_replica.deleted_upstream)." in text
    )


@pytest.mark.parametrize("batch_records", [1, 7, 20_000])
def test_delete_detection_is_independent_of_batches(
    batch_records: int, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full read in batches of any size detects exactly the deleted profiles."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=batch_records))
    shop = Account(now=NOON - 90 * DAY)
    for number in range(900):
        shop.add_profile(f"p{number:03}")
    shop.set_time(NOON)
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, deletes="remove")
        replicate(warehouse, settings, at=NOON, tables=["profiles"])
        for name in ("p000", "p255", "p256", "p899"):
            shop.delete_profile(name)
        shop.add_profile("new")

        report = replicate(warehouse, settings, at=NOON, tables=["profiles"], detect_deletes=True)

    assert (of(report, "profiles").deleted_upstream, of(report, "profiles").inserted) == (4, 1)
    assert people(warehouse) == {profile.id for profile in shop.profiles}
    assert set(deleted_upstream(warehouse)) == {"p000", "p255", "p256", "p899"}


def test_a_failed_read_detects_no_deletes(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that a failed read did not reach do not count as deleted."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=250))
    shop = Account(now=NOON - 90 * DAY)
    for number in range(2_600):
        shop.add_profile(f"p{number:04}")
    shop.set_time(NOON)
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, deletes="remove", max_deleted_share=1.0)
        replicate(warehouse, settings, at=NOON, tables=["profiles"])
        watermarks = state(warehouse, "watermarks")
        shop.delete_profile("p0001")

        def break_off(request: object) -> None:
            if server.requests[-1].query.get("offset") == "0":
                server.faults.next("/v2/profiles", Fault(status=418), times=50)

        server.after_request = break_off
        with pytest.raises(OmetriaError):
            replicate(warehouse, settings, at=NOON + DAY, tables=["profiles"], detect_deletes=True)

        assert len(people(warehouse)) == 2_600
        assert deleted_upstream(warehouse) == {}
        assert state(warehouse, "watermarks") == watermarks

        server.after_request = None
        server.faults.clear()
        report = replicate(
            warehouse, settings, at=NOON + DAY, tables=["profiles"], detect_deletes=True
        )
        assert of(report, "profiles").removed == 1
        assert set(deleted_upstream(warehouse)) == {"p0001"}


def test_delete_detection_is_limited_to_its_source(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """Delete detection ignores rows of another account in the same table."""
    us = account(busy, account_id="1043", source_id="us")
    replicate(warehouse, us, at=NOON)
    crowd.delete_profile("p03")
    uk = account(busy, deletes="remove", max_deleted_share=1.0)
    report = replicate(warehouse, uk, at=NOON, full=True)

    assert of(report, "profiles").deleted_upstream == 0
    rows = read_file(warehouse, "ometria.profiles")
    assert sum(row["__source_id"] == "us" for row in rows) == 30
    assert sum(row["__source_id"] == "uk" for row in rows) == 29


def test_a_dry_run_counts_what_delete_detection_would_remove(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """A dry run counts deletes, and neither removes nor records them."""
    settings = account(busy, **ONLY, deletes="remove")
    replicate(warehouse, settings, at=NOON)
    crowd.delete_profile("p03")

    report = of(
        replicate(warehouse, settings, at=NOON, detect_deletes=True, dry_run=True), "profiles"
    )

    assert (report.deleted_upstream, report.removed) == (1, 1)
    assert len(people(warehouse)) == 30
    assert deleted_upstream(warehouse) == {}


def test_an_incremental_read_clears_a_returned_profile(
    crowd: Account, busy: Server, warehouse: Path
) -> None:
    """An incremental read that contains a profile removes its entry in ``deleted_upstream``."""
    settings = account(busy, **ONLY)
    replicate(warehouse, settings, at=NOON)
    crowd.delete_profile("p07")
    replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True)
    assert set(deleted_upstream(warehouse)) == {"p07"}

    crowd.set_time(NOON + 2 * HOUR)
    crowd.add_profile("p07", email="back@example.com")
    replicate(warehouse, settings, at=NOON + 2 * HOUR)

    assert deleted_upstream(warehouse) == {}


@pytest.mark.parametrize(
    "gone", [pytest.param(n, marks=[pytest.mark.slow] * (n % 7 != 1)) for n in range(1, 30)]
)
def test_any_exactly_allowed_share_is_removed(
    crowd: Account, busy: Server, warehouse: Path, gone: int
) -> None:
    """Of 30 profiles, g can be removed at a share of g/30, for any rounding of the fraction."""
    settings = account(busy, deletes="remove", max_deleted_share=round(gone / 30, 12))
    replicate(warehouse, settings, at=NOON, tables=["profiles"])
    for number in range(gone):
        crowd.delete_profile(f"p{number:02}")

    report = of(
        replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True, tables=["profiles"]),
        "profiles",
    )

    assert (report.deleted_upstream, report.removed) == (gone, gone)
