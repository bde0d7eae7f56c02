"""The erasures that Ometria has made are followed, if the account wants it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from ometria_replica.config import Secret
from ometria_replica.ometria.deletion_requests import deletion_request
from ometria_simulator import Fault, Quirks
from tests.incremental.shops import (
    DAY,
    HOUR,
    IN_A_HURRY,
    NOON,
    ReceivedRequests,
    account,
    replicate,
    state,
)
from tests.replicas import everything, of, write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server

PATH: Final = "data-deletion-requests"


def follow(warehouse: Path, server: Server, **options: Any) -> Any:
    """Sync lists, which are soon read, and follow the erasures."""
    everything = {"at": NOON, "tables": ["lists"], "catalog": IN_A_HURRY, **options}
    return replicate(warehouse, account(server, follow_erasures=True), **everything)


@pytest.mark.parametrize("paged", [False, True])
def test_deletion_requests_are_noted_once_a_day(
    shop: Account, server: Server, warehouse: Path, *, paged: bool
) -> None:
    """Without what is personal in them, and again when they are completed."""
    if paged:
        server.quirks = Quirks(paged=frozenset({PATH}), deletion_timestamp_form="iso_z")
    shop.request_deletion(
        ["ann@example.com", "a@example.com"],
        completed_after=DAY,
        comment="canary",
        user=("canary@example.com", "canary"),
    )
    requests = ReceivedRequests(server)
    report = follow(warehouse, server)
    follow(warehouse, server, at=NOON + 23 * HOUR)
    assert requests.paths().count(PATH) <= 2

    (noted,) = state(warehouse, "deletion_requests")
    assert (noted["action"], noted["identities"]) == ("anonymise", 2)
    assert (noted["created_at"], noted["completed_at"]) == (NOON, None)
    written = "2026-03-02T12:00:00Z" if paged else "2026-03-02 12:00:00.000000+00"
    assert noted["created_text"] == written
    assert len(json.loads(noted["hashed_emails"])) == 2
    assert "canary" not in str(noted)
    (counts,) = (each for each in report.tables if each.table == "deletion_requests")
    assert (counts.records, counts.requests > 0, report.warnings) == (1, True, ())

    shop.set_time(NOON + DAY)
    follow(warehouse, server, at=NOON + DAY)
    (noted,) = state(warehouse, "deletion_requests")
    assert noted["completed_at"] == NOON + DAY


@pytest.mark.parametrize("status", [403, 404])
def test_a_key_that_may_not_read_deletion_requests_is_warned_of(
    server: Server, warehouse: Path, status: int
) -> None:
    """Once a day, and the run goes on."""
    server.faults.next(f"/v2/{PATH}", Fault(status=status), times=9)
    report = follow(warehouse, server)
    assert report.outcome == "succeeded"
    (warning,) = report.warnings
    assert warning.startswith("deletion_requests: they could not be read: ")
    assert str(status) in warning
    assert follow(warehouse, server, at=NOON + HOUR).warnings == ()


def test_deletion_requests_are_not_read_unasked(server: Server, warehouse: Path) -> None:
    """Nor in a dry run, which could not note them."""
    requests = ReceivedRequests(server)
    replicate(warehouse, account(server), at=NOON, tables=["lists"])
    follow(warehouse, server, dry_run=True)
    assert PATH not in requests.paths()


def test_what_is_odd_about_a_deletion_request_is_left_out() -> None:
    """A plain address and free text are personal, whatever field they are in."""
    found = deletion_request(
        {
            "id": 12,
            "action": "forget ann@example.com",
            "identities": [{"hashed_email": "ann@example.com"}, "ann", {}],
            "timestamp_created": "ann",
            "timestamp_completed": "2017-02-04T10:18:12Z",
        }
    )
    assert found is not None
    assert (found.request_id, found.action, found.created_text) == ("12", None, None)
    assert (found.identities, found.hashed_emails) == (3, "[]")
    assert found.completed_text == "2017-02-04T10:18:12Z"
    assert deletion_request({"id": "ann is gone", "identities": None}) is None


# --- addresses that Ometria has replaced -------------------------------------------------------

OF_PEOPLE = ("profiles", "unsubscribes", "email_events")
HASHED = {"hash": ("*.email",), "hash_key": Secret("a secret of the test", "the test")}


def mailed(folder: Path, *who: str) -> Path:
    """Write an event of each person into an export, and a line of each that is none."""
    folder.mkdir()
    records = [
        {
            "to_address": f" {name.upper()}@example.com",
            "event_type": "open",
            "dt_occurred": (NOON - DAY).isoformat(),
        }
        for name in who
    ]
    odd = [{"reason": f"of {name}@example.com", "uuid": "1"} for name in who]
    write_feed_file(folder, "all.jsonl", NOON - DAY, [*records, *odd])
    return folder


def people(warehouse: Path) -> dict[str, int]:
    """Count the rows of each table."""
    return {name: len(rows) for name, rows in everything(warehouse).items()}


def suppressed(warehouse: Path) -> int:
    """Count the hashes of ids that are suppressed."""
    return len(state(warehouse, "suppressions"))


@pytest.mark.parametrize(
    "more", [{}, pytest.param(HASHED, marks=pytest.mark.slow)], ids=["plain", "hashed"]
)
def test_what_is_held_of_a_replaced_address_goes(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    """And does not come back; the profile and its list changes stay as Ometria has them."""
    feed = mailed(tmp_path / "feed", "ann", "bob")
    shop.add_unsubscribe("ann", email_address="Ann@example.com")
    whole = account(server, feed, follow_erasures=True, **more)
    settings: dict[str, Any] = {"catalog": IN_A_HURRY, "tables": OF_PEOPLE}
    replicate(warehouse, whole, at=NOON, **settings)
    before = people(warehouse)
    assert (before["email_events"], before["unsubscribes"]) == (2, 2)
    (ann,) = (row for row in everything(warehouse)["profiles"] if row["profile_id"] == "ann")

    shop.anonymise_profile("ann")
    dry = replicate(warehouse, whole, at=NOON + HOUR, dry_run=True, **settings)
    assert (of(dry, "profiles").erased, people(warehouse)) == (2, before)
    report = replicate(warehouse, whole, at=NOON + HOUR, **settings)
    assert of(report, "profiles").erased == 2
    assert "profiles: 2 rows of people whom Ometria has erased removed." in report.to_text()

    after = {**before, "email_events": 1, "unsubscribes": 1}
    assert people(warehouse) == after
    (now,) = (row for row in everything(warehouse)["profiles"] if row["profile_id"] == "ann")
    assert now["email"] != ann["email"]
    assert suppressed(warehouse) > 0
    assert "ann@example.com" not in str(state(warehouse, "rejects")).lower()
    (receipt,) = state(warehouse, "erasures")
    assert receipt["remains"] is not None
    again = replicate(warehouse, whole, at=NOON + 2 * HOUR, full=True, **settings)
    assert of(again, "email_events").suppressed > 0
    assert people(warehouse) == after
    found = of(again, "profiles")
    assert (found.unchanged, found.suppressed, found.deleted_upstream) == (3, 0, 0)
    assert len(state(warehouse, "erasures")) == 1


def test_an_address_that_another_profile_has_stays(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """Until Ometria has replaced it there too, in the same run or in a later one."""
    feed = mailed(tmp_path / "feed", "ann", "bob")
    for name, address in (("eve", "ANN@example.com"), ("bo", "bob@example.com")):
        shop.add_profile(name, email=address)
    whole = account(server, feed, follow_erasures=True)
    settings: dict[str, Any] = {"catalog": IN_A_HURRY, "tables": OF_PEOPLE}
    replicate(warehouse, whole, at=NOON, **settings)
    events = people(warehouse)["email_events"]

    shop.anonymise_profile("ann")
    for name in ("bob", "bo"):
        shop.anonymise_profile(name)
    assert of(replicate(warehouse, whole, at=NOON + HOUR, **settings), "profiles").erased == 2
    assert people(warehouse)["email_events"] == events - 1

    shop.anonymise_profile("eve")
    assert of(replicate(warehouse, whole, at=NOON + 2 * HOUR, **settings), "profiles").erased == 1
    assert people(warehouse)["email_events"] == events - 2
    assert people(warehouse)["profiles"] == 5


def test_replaced_addresses_are_not_followed_unasked(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """Without the setting, the profile is a row that changed."""
    whole = account(server, mailed(tmp_path / "feed", "ann"))
    replicate(warehouse, whole, at=NOON)
    shop.anonymise_profile("ann")
    report = replicate(warehouse, whole, at=NOON + HOUR)
    assert (of(report, "profiles").updated, of(report, "profiles").erased) == (1, 0)
    assert people(warehouse)["email_events"] == 1
