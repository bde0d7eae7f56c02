"""A part of Ometria that fails for long does not keep a run from the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from ometria_replica.errors import OmetriaError, Unavailable, UnexpectedResponse
from ometria_replica.ometria.client import Client
from ometria_simulator import Account, Fault, Server
from tests.duck import read_file
from tests.incremental.shops import HOUR, NOON, ReceivedRequests, account, replicate, watermark_of

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.report import RunReport

EVENT = '{"to_address": "a@example.com", "event_type": "open", "dt_occurred": "2026-01-01"}\n'
LISTS = ("10", "20", "30", "40", "50")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a request after half a second instead of five minutes."""
    monkeypatch.setattr(
        "ometria_replica.ometria.account_source.Client", partial(Client, give_up_after_seconds=0.5)
    )


@pytest.fixture
def shop() -> Account:
    """Return a shop of one profile that has entered each of five lists."""
    shop = Account(now=NOON - 2 * HOUR)
    shop.add_profile("ann", email="ann@example.com")
    for number in LISTS:
        shop.add_list(number, type="STATIC")
        shop.refresh_list(number, enter=["ann"], leave=[])
    shop.add_unsubscribe("ann", email_address="ann@example.com")
    shop.set_time(NOON)
    return shop


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Return a folder with one export file."""
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "events.jsonl").write_text(EVENT)
    return folder


def failed_run(warehouse: Path, server: Server, feed: Path) -> tuple[OmetriaError, RunReport]:
    with pytest.raises(OmetriaError) as caught:
        replicate(warehouse, account(server, feed), at=NOON)
    assert caught.value.report is not None
    return caught.value, caught.value.report


def lists_with_changes(warehouse: Path) -> list[str]:
    return sorted(row["list_id"] for row in read_file(warehouse, "ometria.member_lists"))


FAULTS = {
    "500": (Fault(status=500), 75),
    "503": (Fault(status=503, retry_after="0"), 75),
    "resets": (Fault.reset(), 75),
    "HTML": (Fault.html_200(), 3),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(
    "failing", ["30", *(pytest.param(name, marks=pytest.mark.slow) for name in ("10", "50"))]
)
def test_one_failing_list_does_not_starve_the_others(
    failing: str, fault: tuple[Fault, int], server: Server, feed: Path, tmp_path: Path
) -> None:
    """The other lists, tables and files are read, and the next run reads that list again."""
    warehouse = tmp_path / "w.duckdb"
    server.faults.sometimes(f"/v2/lists/{failing}/changes", fault[0], 1.0)
    error, report = failed_run(warehouse, server, feed)

    assert error.exit_code == fault[1]
    assert lists_with_changes(warehouse) == [each for each in LISTS if each != failing]
    assert len(read_file(warehouse, "ometria.unsubscribes")) == 1
    assert len(read_file(warehouse, "ometria.email_events")) == 1
    assert [each.table for each in report.tables if each.error] == ["member_lists"]
    assert watermark_of(warehouse, "member_lists", f"retry {failing}") < NOON

    server.faults.clear()
    replicate(warehouse, account(server, feed), at=NOON + HOUR)

    assert lists_with_changes(warehouse) == list(LISTS)


def test_lists_that_all_fail_end_the_read_of_their_changes(
    server: Server, feed: Path, tmp_path: Path
) -> None:
    """Several failures in a row are no matter of single lists; the other tables are read."""
    warehouse = tmp_path / "w.duckdb"
    for number in LISTS:
        server.faults.sometimes(f"/v2/lists/{number}/changes", Fault(status=500), 1.0)
    error, _ = failed_run(warehouse, server, feed)

    assert isinstance(error, Unavailable)
    assert lists_with_changes(warehouse) == []
    assert len(read_file(warehouse, "ometria.unsubscribes")) == 1

    server.faults.clear()
    replicate(warehouse, account(server, feed), at=NOON + HOUR)

    assert lists_with_changes(warehouse) == list(LISTS)


@pytest.mark.parametrize("table", ["profiles", "lists", "unsubscribes"])
def test_an_outage_of_one_endpoint_leaves_the_other_tables_and_the_export(
    table: str, server: Server, feed: Path, tmp_path: Path
) -> None:
    """Tables that need nothing from the failed one are read in the same run."""
    warehouse = tmp_path / "w.duckdb"
    server.faults.sometimes(f"/v2/{table}", Fault(status=503), 1.0)
    error, _ = failed_run(warehouse, server, feed)

    assert error.exit_code == 75
    needed = {table, "member_lists"} if table == "lists" else {table}
    for other in {"profiles", "lists", "member_lists", "unsubscribes", "email_events"} - needed:
        assert read_file(warehouse, f"ometria.{other}"), other


def test_an_outage_of_the_whole_api_leaves_the_export(
    server: Server, feed: Path, tmp_path: Path
) -> None:
    """The export is on another host; each further table is tried for a short time only."""
    warehouse = tmp_path / "w.duckdb"
    server.faults.sometimes("/v2", Fault(status=503), 1.0)
    asked = ReceivedRequests(server)
    error, _ = failed_run(warehouse, server, feed)

    assert error.exit_code == 75
    assert len(read_file(warehouse, "ometria.email_events")) == 1
    assert len(asked) <= 12


def test_the_worst_of_several_failures_is_raised(
    server: Server, feed: Path, tmp_path: Path
) -> None:
    """A failure that another run would not mend is worse than one that may pass."""
    server.faults.sometimes("/v2/profiles", Fault(status=503), 1.0)
    server.faults.sometimes("/v2/unsubscribes", Fault.html_200(), 1.0)
    error, report = failed_run(tmp_path / "w.duckdb", server, feed)

    assert isinstance(error, UnexpectedResponse)
    assert [each.table for each in report.tables if each.error] == ["profiles", "unsubscribes"]
