"""If the names of export files sort by time, a run lists only the newest and misses none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.records import Unreadable
from ometria_replica.replication import sync as run
from tests.incremental.shops import DAY, HOUR, NOON
from tests.replicas import account, everything, of, replicate, write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.report import TableReport
    from ometria_replica.schema import Table

WEEKS = 70
"""Files, a day apart."""


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Write an export with names that sort by time."""
    folder = tmp_path / "feed"
    for day in range(WEEKS):
        write(folder, f"events-{day:03}", NOON + day * DAY)
    return folder


def write(folder: Path, name: str, at: object) -> None:
    write_feed_file(folder, name, at, [{"to_address": name, "dt_occurred": "2026-03-01"}])  # type: ignore[arg-type]


def sync(tmp_path: Path, at: object, *, full: bool = False) -> TableReport:
    settings = account(folder=tmp_path / "feed")
    report = replicate(tmp_path / "replica.duckdb", settings, at=at, full=full)  # type: ignore[arg-type]
    return of(report, "email_events")


def test_a_name_before_those_of_a_week_ago_is_found_within_a_day(
    feed: Path, tmp_path: Path
) -> None:
    """Runs list from a week before the newest name; the first run of a day lists all."""
    now = NOON + WEEKS * DAY
    assert sync(tmp_path, now).files == WEEKS
    write(feed, "events-000-late", now + HOUR)
    write(feed, f"events-{WEEKS:03}", now + HOUR)

    assert sync(tmp_path, now + HOUR).files == 1
    assert sync(tmp_path, now + 23 * HOUR).files == 0
    assert sync(tmp_path, now + DAY).files == 1
    assert len(everything(tmp_path / "replica.duckdb")["email_events"]) == WEEKS + 2

    write(feed, "events-000-later", now + DAY)
    assert sync(tmp_path, now + DAY + HOUR).files == 1  # A name is out of order: all are listed.


def test_a_name_of_the_last_week_is_found_at_once(feed: Path, tmp_path: Path) -> None:
    """Files can be a week late by their names, or be rewritten."""
    now = NOON + WEEKS * DAY
    sync(tmp_path, now)
    write(feed, f"events-{WEEKS - 6:03}-late", now + HOUR)
    write(feed, f"events-{WEEKS - 3:03}", now + HOUR)

    assert sync(tmp_path, now + HOUR).files == 2


def test_the_next_run_finds_an_old_file_that_needs_a_retry(feed: Path, tmp_path: Path) -> None:
    """While a file is due for a retry, the next run lists all names."""
    now = NOON + WEEKS * DAY
    settings = account(folder=feed)
    warehouse = WarehouseSettings(str(tmp_path / "replica.duckdb"))

    def denied_once(
        account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[FetchedFile]:
        assert table.time is not None  # True for events.
        yield Unreadable(files[0], "the store denies it", again=True)
        with AccountSource(account, now) as inputs:
            yield from inputs.export(table).fetch(files[1:], folder)

    config = Config(accounts=(settings,), warehouse=warehouse)
    report = run(config, clock=lambda: now, fetch=denied_once)
    assert of(report, "email_events").files == WEEKS - 1
    assert sync(tmp_path, now + HOUR).files == 1


def test_a_full_sync_lists_all(feed: Path, tmp_path: Path) -> None:
    """A full sync does not rely on the order of names."""
    now = NOON + WEEKS * DAY
    sync(tmp_path, now)
    write(feed, "events-000-late", now + HOUR)

    assert sync(tmp_path, now + HOUR, full=True).files == WEEKS + 1


def test_a_feed_that_is_empty_now_is_warned_of(feed: Path, tmp_path: Path) -> None:
    """Each run says where it looked, and how many files there were, whatever it lists."""
    now = NOON + WEEKS * DAY
    settings, warehouse = account(folder=feed), tmp_path / "replica.duckdb"
    assert replicate(warehouse, settings, at=now).warnings == ()
    assert replicate(warehouse, settings, at=now + HOUR).warnings == ()
    for file in feed.iterdir():
        file.rename(file.with_suffix(".tmp"))

    for at in (now + HOUR, now + DAY):
        (warning,) = replicate(warehouse, settings, at=at).warnings
        assert f"{feed}: no file has a name that matches '*', although earlier runs" in warning
        assert "have read 70 files." in warning


def test_another_folder_is_listed_from_its_first_name(feed: Path, tmp_path: Path) -> None:
    """The listing time of one export does not apply to another."""
    now = NOON + WEEKS * DAY
    sync(tmp_path, now)
    write(feed, f"events-{WEEKS:03}", now)
    feed.rename(tmp_path / "moved")
    write(tmp_path / "moved", "a-first", now + HOUR)
    settings = account(folder=tmp_path / "moved")

    report = replicate(tmp_path / "replica.duckdb", settings, at=now + timedelta(minutes=90))

    assert of(report, "email_events").files == 2
