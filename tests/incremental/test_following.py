"""The erasures that Ometria has made are followed, if the account wants it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from ometria_replica.catalog import CATALOG
from ometria_replica.ometria.deletion_requests import deletion_request
from ometria_replica.schema import Pages, Table, md5
from ometria_simulator import Fault, Quirks
from tests.incremental.shops import DAY, HOUR, NOON, ReceivedRequests, account, replicate, state

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server

PATH: Final = "data-deletion-requests"
IN_A_HURRY = CATALOG + Table(
    "hurry", Pages(PATH, requests_per_minute=60_000), md5("id"), columns=(), identity=()
)
"""Six requests a minute would take ten seconds."""


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
