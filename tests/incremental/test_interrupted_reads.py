"""A full read of profiles that a run did not end: the next run continues it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ometria_replica import failpoints
from ometria_replica.batch import BatchSize
from ometria_replica.state_commands import rewind
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Quirks, serve
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
    watermark_of,
)
from tests.replicas import of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ometria_simulator import Server

ONLY = ("profiles",)
STARTED_OVER = "profiles: an interrupted full read could not be continued, and started over"


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Account:
    """Return a shop of sixty profiles, loaded thirty at a time."""
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(records=30))
    shop = Account(now=NOON - 90 * DAY)
    for number in range(60):
        shop.add_profile(f"p{number:03}", email="x@example.com", firstname="old")
    shop.set_time(NOON)
    return shop


@pytest.fixture
def server(crowd: Account) -> Iterator[Server]:
    """Serve the shop in pages of ten."""
    quirks = Quirks(ignore_limit=frozenset({"profiles"}))
    with serve(crowd, requests_per_second=None, quirks=quirks) as running:
        yield running


def interrupt(server: Server, warehouse: Path, at: datetime, **options: Any) -> None:
    """End a sync of profiles as a kill does, after the commit of its first batch."""

    def end(step: str) -> None:
        if step == "after commit of the batch":
            raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_listeners", [end])
        with pytest.raises(MemoryError):
            replicate(warehouse, account(server), at=at, tables=ONLY, **options)


def positions(warehouse: Path) -> list[str]:
    kinds = [row["kind"] for row in state(warehouse, "watermarks")]
    return [kind for kind in kinds if kind.startswith("position ")]


def names(warehouse: Path) -> dict[str, str]:
    rows = read_file(warehouse, "ometria.profiles")
    return {row["profile_id"]: row["first_name"] for row in rows}


def sent(crowd: Account) -> dict[str, object]:
    return {profile.id: profile.record()["firstname"] for profile in crowd.profiles}


def lowest_offset(received: ReceivedRequests) -> int:
    return min(int(offset or 0) for offset in received.values("profiles", "offset"))


def test_an_interrupted_first_read_continues_where_it_was_committed(
    crowd: Account, server: Server, warehouse: Path
) -> None:
    """The watermark is that of its beginning, so that changes in the meantime are read next."""
    interrupt(server, warehouse, NOON)
    assert len(positions(warehouse)) == 1
    assert 0 < len(names(warehouse)) < 60

    crowd.set_time(NOON + 5 * HOUR)
    crowd.update_profile("p000", firstname="new")
    crowd.delete_profile("p001")
    crowd.add_profile("p900", firstname="late")
    received = ReceivedRequests(server)
    report = replicate(warehouse, account(server), at=NOON + 5 * HOUR, tables=ONLY)

    assert lowest_offset(received) > 0
    assert {*names(warehouse)} == {*sent(crowd), "p001"}
    assert positions(warehouse) == []
    assert NOON - HOUR < watermark_of(warehouse, "profiles") <= NOON
    assert "profiles: an interrupted read was continued after " in report.to_text()
    assert state(warehouse, "deleted_upstream") == []

    replicate(warehouse, account(server), at=NOON + 6 * HOUR, tables=ONLY)

    assert names(warehouse) == sent(crowd) | {"p001": "old"}


def test_a_read_that_is_interrupted_again_keeps_its_beginning(
    crowd: Account, server: Server, warehouse: Path
) -> None:
    """The third run continues the second, and the watermark is that of the first."""
    interrupt(server, warehouse, NOON)
    (first,) = positions(warehouse)
    for number in range(60, 120):
        crowd.add_profile(f"p{number:03}", email="x@example.com", firstname="more")
    crowd.set_time(NOON + DAY)
    interrupt(server, warehouse, NOON + DAY)
    assert positions(warehouse) != [first]

    report = replicate(warehouse, account(server), at=NOON + 2 * DAY, tables=ONLY)

    assert of(report, "profiles").continued_after > int(first.split()[2])
    assert names(warehouse) == sent(crowd)
    assert NOON - HOUR < watermark_of(warehouse, "profiles") <= NOON


def test_deletes_are_detected_only_by_a_read_that_was_not_interrupted(
    crowd: Account, server: Server, warehouse: Path
) -> None:
    """A read that is continued has not seen the profiles before; an asked one starts over."""
    removing: dict[str, Any] = {
        "deletes": "remove",
        "max_deleted_share": 1.0,
        "detect_deletes_every_days": 7,
    }
    settings = account(server, **removing)
    replicate(warehouse, settings, at=NOON, tables=ONLY)
    crowd.delete_profile("p050")
    later = NOON + 8 * DAY
    crowd.set_time(later)
    interrupt(server, warehouse, later, detect_deletes=True)
    assert len(positions(warehouse)) == 1

    continued = replicate(warehouse, settings, at=later + HOUR, tables=ONLY)
    assert of(continued, "profiles").continued_after > 0
    assert of(continued, "profiles").removed == 0
    assert len(names(warehouse)) == 60

    received = ReceivedRequests(server)
    whole = replicate(warehouse, settings, at=later + 2 * HOUR, tables=ONLY)

    assert lowest_offset(received) == of(whole, "profiles").continued_after == 0
    assert of(whole, "profiles").removed == 1
    assert names(warehouse) == sent(crowd)


@pytest.mark.parametrize("options", [{"full": True}, {"detect_deletes": True}], ids=str)
def test_a_full_read_that_is_asked_for_starts_over(
    options: dict[str, Any], crowd: Account, server: Server, warehouse: Path
) -> None:
    """``--full`` and ``--detect-deletes`` read everything; a later run needs no position."""
    interrupt(server, warehouse, NOON)

    crowd.set_time(NOON + HOUR)
    received = ReceivedRequests(server)
    report = replicate(warehouse, account(server), at=NOON + HOUR, tables=ONLY, **options)

    assert lowest_offset(received) == 0
    assert of(report, "profiles").continued_after == 0
    assert positions(warehouse) == []
    assert watermark_of(warehouse, "profiles", "full_read") > NOON


def test_an_incremental_read_ends_an_interrupted_full_read(
    crowd: Account, server: Server, warehouse: Path
) -> None:
    """After ``--full`` was interrupted, a plain sync reads from the watermark, as ever."""
    replicate(warehouse, account(server), at=NOON, tables=ONLY)
    interrupt(server, warehouse, NOON + HOUR, full=True)

    received = ReceivedRequests(server)
    replicate(warehouse, account(server), at=NOON + 2 * HOUR, tables=ONLY)

    assert None not in received.values("profiles", "updateSince")
    assert positions(warehouse) == []


def _nine_days(_: Path) -> datetime:
    return NOON + 9 * DAY


def _clock_back(_: Path) -> datetime:
    return NOON - DAY


def _rows_deleted(warehouse: Path) -> datetime:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DELETE FROM ometria.profiles WHERE profile_id < 'p003'")
    return NOON + HOUR


def _emptied(warehouse: Path) -> datetime:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DELETE FROM ometria.profiles")
    return NOON + HOUR


def _dropped(warehouse: Path) -> datetime:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DROP TABLE ometria.profiles")
    return NOON + HOUR


def _of_another_release(warehouse: Path) -> datetime:
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "UPDATE ometria_replica.watermarks SET kind = 'position x'"
            " WHERE starts_with(kind, 'position ')"
        )
    return NOON + HOUR


@pytest.mark.parametrize(
    "happen", [_nine_days, _clock_back, _rows_deleted, _emptied, _dropped, _of_another_release]
)
def test_a_position_that_cannot_be_believed_starts_over(
    happen: object, crowd: Account, server: Server, warehouse: Path
) -> None:
    """It is old, or from the future, or the rows that it says were loaded are gone."""
    interrupt(server, warehouse, NOON)
    assert callable(happen)
    at = happen(warehouse)

    received = ReceivedRequests(server)
    report = replicate(warehouse, account(server), at=at, tables=ONLY)

    assert lowest_offset(received) == of(report, "profiles").continued_after == 0
    assert names(warehouse) == sent(crowd)
    assert positions(warehouse) == []


def test_a_collection_in_another_order_starts_over(
    crowd: Account, server: Server, warehouse: Path
) -> None:
    """The report says so, and no profile is missed."""
    interrupt(server, warehouse, NOON)
    people = {profile.id: profile for profile in crowd.profiles}
    for name in list(people)[:30]:  # Deleted and added again, they come last.
        crowd.delete_profile(name)
    for name in list(people)[:30]:
        crowd.add_profile(name, email="x@example.com", firstname="again")

    report = replicate(warehouse, account(server), at=NOON + HOUR, tables=ONLY)
    replicate(warehouse, account(server), at=NOON + 2 * HOUR, tables=ONLY)

    assert STARTED_OVER in report.warnings
    assert {*names(warehouse)} == {*sent(crowd)}


def test_a_rewind_ends_an_interrupted_read(server: Server, warehouse: Path) -> None:
    """After a rewind the next run reads from the day on that was asked for, or all."""
    interrupt(server, warehouse, NOON)
    rewind(config(warehouse, account(server)), ["profiles"], (NOON - DAY).date())

    assert positions(warehouse) == []


def test_a_dry_run_notes_no_position(server: Server, warehouse: Path) -> None:
    """It shows what it would read, and writes nothing."""
    interrupt(server, warehouse, NOON)
    before = positions(warehouse)

    replicate(warehouse, account(server), at=NOON + HOUR, tables=ONLY, dry_run=True)

    assert positions(warehouse) == before
