"""Files that cannot be read yet: told once, tried again rarely, and never lost."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica.batch import WaitingFile
from ometria_replica.config import Config, FeedSettings, WarehouseSettings
from ometria_replica.errors import NotEnoughMemory
from ometria_replica.file_reads import _wait
from ometria_replica.ometria.export import ExportFiles
from ometria_replica.records import FeedObject, Unreadable
from ometria_replica.replication import sync
from ometria_replica.state_commands import replay, rewind
from ometria_replica.temp_files import is_out_of_memory
from tests.duck import read_file
from tests.incremental.shops import DAY, HOUR, MINUTE, NOON, config, state
from tests.replicas import account, of, replicate, write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.records import FetchedFile
    from ometria_replica.report import RunReport
    from ometria_replica.schema import Table

WEEK = 7 * DAY


class Feed:
    """A folder with a file that links to nothing, and a file that can be read."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.warehouse = tmp_path / "feed", tmp_path / "replica.duckdb"
        self.write("good.jsonl")
        self.bad = self.folder / "bad.jsonl"
        self.link("missing")
        self.settings = dataclasses.replace(account(), feed=FeedSettings(str(self.folder)))

    def link(self, target: str) -> None:
        """Make the bad file an old link to *target*."""
        self.bad.unlink(missing_ok=True)
        self.bad.symlink_to(target)
        os.utime(self.bad, (NOON.timestamp(),) * 2, follow_symlinks=False)

    def write(self, name: str, at: datetime = NOON - DAY) -> None:
        """Write a file with one event, whose address is its name."""
        event = {"to_address": name, "event_type": "open", "dt_occurred": "2026-01-01"}
        write_feed_file(self.folder, name, at, [event])

    def mend(self) -> None:
        """Put a file in the place of the link."""
        self.bad.unlink()
        self.write("bad.jsonl")

    def sync(self, at: datetime, *, full: bool = False) -> RunReport:
        """Sync the folder."""
        return replicate(self.warehouse, self.settings, at=at, full=full)

    def log(self) -> dict[str, str | None]:
        """Read from the file log why each file could not be read."""
        return {row["name"]: row["unreadable_because"] for row in state(self.warehouse, "files")}

    def emails(self) -> set[str]:
        """Read the addresses of the events."""
        return {row["email"] for row in read_file(self.warehouse, "ometria.email_events")}


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def told(report: RunReport) -> tuple[int, int]:
    """Count the warnings of a run, and its unreadable files."""
    return len(report.warnings), of(report, "email_events").files_unreadable


def marks(warehouse: Path) -> dict[str, datetime]:
    rows = state(warehouse, "watermarks")
    return {row["kind"]: row["reached_at"] for row in rows if row["kind"].startswith("retry_file")}


def test_a_file_that_cannot_be_read_is_told_once(feed: Feed) -> None:
    """The other file is loaded, and later runs succeed without a word, even if they try again."""
    first = feed.sync(NOON)
    later = [feed.sync(NOON + hours * HOUR) for hours in (0.5, 1, 30)]

    (warning,) = first.warnings
    assert warning == (
        "email_events: bad.jsonl: it cannot be opened (no such file or directory); it is tried"
        " again in an hour, and then ever more rarely"
    )
    assert [told(report) for report in (first, *later)] == [(1, 1), (0, 0), (0, 0), (0, 0)]
    assert feed.emails() == {"good.jsonl"}
    assert feed.log() == {
        "good.jsonl": None,
        "bad.jsonl": "it cannot be opened (no such file or directory)",
    }


def test_it_is_tried_again_when_it_is_due(feed: Feed) -> None:
    """A run before that leaves it alone, and one after that doubles the wait."""
    feed.sync(NOON)
    for run_at, due in ((59 * MINUTE, HOUR), (HOUR, 3 * HOUR), (3 * HOUR, 7 * HOUR)):
        feed.sync(NOON + run_at)

        assert marks(feed.warehouse) == {"retry_file bad.jsonl": NOON + due}


def test_the_waits_grow_from_an_hour_to_a_week() -> None:
    """Another version of the file begins again."""
    file = FeedObject("a.csv", "1", 1, NOON)
    waits = [_wait(None, file)]
    for _ in range(9):
        known = WaitingFile(file, NOON, "denied", NOON + waits[-1])
        waits.append(_wait(known, file))

    assert waits == [min(2**n * HOUR, WEEK) for n in range(10)]
    assert _wait(known, dataclasses.replace(file, etag="2")) == HOUR
    assert _wait(known, dataclasses.replace(file, modified_at=NOON + DAY)) == HOUR


def test_it_is_loaded_once_it_can_be_read(feed: Feed) -> None:
    """Another version is read at once, and nothing of the wait remains."""
    feed.sync(NOON)
    feed.mend()

    report = feed.sync(NOON + MINUTE)

    assert (of(report, "email_events").files, report.warnings) == (1, ())
    assert feed.emails() == {"good.jsonl", "bad.jsonl"}
    assert feed.log() == {"good.jsonl": None, "bad.jsonl": None}
    assert marks(feed.warehouse) == {}
    assert state(feed.warehouse, "rejects") == []


@pytest.mark.parametrize("how", ["replay", "rewind", "full"])
def test_a_user_can_have_it_tried_at_once(how: str, feed: Feed) -> None:
    """By a replay of rejects, a rewind and a full sync: its next wait begins then."""
    feed.sync(NOON)
    settings = config(feed.warehouse, feed.settings)
    if how == "replay":
        replay(settings)
    elif how == "rewind":
        rewind(settings, ["email_events"], None)

    feed.sync(NOON + MINUTE, full=how == "full")

    assert marks(feed.warehouse)["retry_file bad.jsonl"] > NOON + HOUR


def test_a_file_that_is_gone_is_forgotten(feed: Feed) -> None:
    """The next listing of all files finds that; neither state nor rejects speak of it."""
    feed.sync(NOON)
    feed.bad.unlink()

    feed.sync(NOON + DAY)

    assert feed.log() == {"good.jsonl": None}
    assert marks(feed.warehouse) == {}
    assert state(feed.warehouse, "rejects") == []


def test_another_reason_is_told_again(feed: Feed) -> None:
    """A user who mends one thing learns of the next."""
    feed.sync(NOON)
    feed.link("bad.jsonl")

    assert "too many levels" in feed.sync(NOON + HOUR).warnings[0]


def test_a_clock_that_was_ahead_does_not_make_it_wait_for_ever(feed: Feed) -> None:
    """No wait is longer than a week from now."""
    feed.sync(NOON + 1000 * DAY)
    feed.sync(NOON)

    assert marks(feed.warehouse)["retry_file bad.jsonl"] <= NOON + WEEK


def test_a_file_that_waits_does_not_make_every_run_list_all(tmp_path: Path) -> None:
    """With names that sort by time, runs list only the newest, whatever old file waits."""
    feed = Feed(tmp_path)
    feed.bad.rename(feed.folder / "events-000")
    os.utime(feed.folder / "events-000", (0, 0), follow_symlinks=False)
    for day in range(1, 70):
        feed.write(f"events-{day:03}", NOON + (day - 70) * DAY)
    feed.sync(NOON)
    feed.write("events-000-old-name", NOON - MINUTE)

    assert of(feed.sync(NOON + HOUR), "email_events").files == 0
    assert of(feed.sync(NOON + DAY), "email_events").files == 1


# --- Files that are still being written ---------------------------------------------------------


def test_a_young_file_is_told_and_read_by_the_next_run(feed: Feed) -> None:
    """A run does not wait for it, and a file from the future waits for nothing."""
    feed.bad.unlink()
    now = datetime.now(UTC)
    feed.write("young-1.jsonl", now)
    feed.write("young-2.jsonl", now)
    feed.write("ahead.jsonl", now + HOUR)

    report = feed.sync(now)

    assert of(report, "email_events").files == 2
    assert report.warnings == ()
    assert (
        "email_events: 2 files are younger than 60 s and wait for the next run." in report.to_text()
    )
    for name in ("young-1.jsonl", "young-2.jsonl"):
        os.utime(feed.folder / name, (now.timestamp() - 61,) * 2)
    report = feed.sync(now + MINUTE)
    assert of(report, "email_events").files == 2
    assert "younger" not in report.to_text()


def test_a_feed_with_young_files_only_is_no_mistake(feed: Feed) -> None:
    """It is not empty, so no address needs a check."""
    feed.bad.unlink()
    os.utime(feed.folder / "good.jsonl")

    report = feed.sync(datetime.now(UTC))

    assert report.warnings == ()
    assert "1 file is younger than 60 s and waits for the next run." in report.to_text()


@pytest.mark.parametrize("how", ["young", "changed"])
def test_a_file_that_was_left_is_found_by_the_next_run_whatever_its_name(
    how: str, tmp_path: Path
) -> None:
    """Though a file of the same run, with a time in the future, moves the start of the listing."""
    feed, now = Feed(tmp_path), datetime.now(UTC)
    feed.bad.unlink()
    (feed.folder / "good.jsonl").unlink()
    for day in range(60):
        feed.write(f"events-{day:03}", now + (day - 61) * DAY)
    feed.sync(now)
    late = feed.folder / "events-055-late"
    feed.write(late.name, now)
    feed.write("events-060", now + 30 * DAY)

    def left(
        account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[FetchedFile]:
        with ExportFiles(at_once, table) as export:
            yield Unreadable(files[0], "changed since it was listed", again=True)
            yield from export.fetch(files[1:], folder)

    at_once = FeedSettings(str(feed.folder), settle_seconds=0)
    if how == "changed":
        settings = dataclasses.replace(feed.settings, feed=at_once)
        run = Config(accounts=(settings,), warehouse=WarehouseSettings(str(feed.warehouse)))
        report = sync(run, clock=lambda: now + MINUTE, fetch=left)
    else:
        report = feed.sync(now + MINUTE)
    assert of(report, "email_events").files == 1
    os.utime(late, ((now - HOUR).timestamp(),) * 2)

    assert of(feed.sync(now + 2 * MINUTE), "email_events").files == 1


@pytest.mark.slow
def test_older_files_do_not_replace_rows_of_a_file_that_can_no_longer_be_read(feed: Feed) -> None:
    """Nor once that file is gone: it was loaded, and its rows know it by the time of that load."""
    for name, at in (("old.jsonl", NOON - 2 * DAY), ("new.jsonl", NOON - DAY)):
        event = {"to_address": "a", "event_type": "open", "dt_occurred": "2026-01-01"}
        write_feed_file(feed.folder, name, at, [event | {"reason": name}])
    feed.sync(NOON)

    def denied(
        account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[FetchedFile]:
        with ExportFiles(FeedSettings(str(feed.folder)), table, settle_seconds=0) as export:
            for file in files:
                if file.name == "new.jsonl":
                    yield Unreadable(file, "the store denies access", later=True)
                else:
                    yield from export.fetch([file], folder)

    run = Config(accounts=(feed.settings,), warehouse=WarehouseSettings(str(feed.warehouse)))
    for _ in range(2):
        sync(run, full=True, clock=lambda: NOON + HOUR, fetch=denied)
        assert feed.log()["new.jsonl"] == "the store denies access"
    (feed.folder / "new.jsonl").unlink()
    feed.sync(NOON + 3 * DAY)
    feed.sync(NOON + 4 * DAY, full=True)

    rows = read_file(feed.warehouse, "ometria.email_events")
    assert [row["bounce_reason"] for row in rows if row["email"] == "a"] == ["new.jsonl"]
    assert feed.log()["new.jsonl"] is None


def with_memory(feed: Feed, memory: str) -> Config:
    """Give settings with which DuckDB may use so much memory, less than is documented."""
    warehouse = WarehouseSettings(f"duckdb:///{feed.warehouse}", memory_limit=memory, threads=1)
    return Config(accounts=(feed.settings,), warehouse=warehouse)


def write_long_texts(path: Path) -> None:
    """Write events that do not fit into 20 MB together."""
    days = (f"2026-01-01T00:00:{second}Z" for second in range(10, 22))
    rows = [f"long,open,{day},{'x' * 2_000_000}\n" for day in days]
    path.write_text("to_address,event_type,dt_occurred,campaign_title\n" + "".join(rows))
    os.utime(path, (NOON.timestamp() - 100,) * 2)


def test_a_file_that_needs_too_much_memory_holds_nothing_back(feed: Feed) -> None:
    """The other files of its batch are loaded, and it is tried again when it is due."""
    feed.bad.unlink()
    feed.write("last.jsonl", NOON - MINUTE)
    write_long_texts(feed.folder / "bad.csv")
    times = (NOON, NOON + MINUTE)
    reports = [sync(with_memory(feed, "20MB"), clock=repeat(at).__next__) for at in times]

    (warning,) = reports[0].warnings
    assert warning.startswith("email_events: bad.csv: DuckDB has not enough memory for it; raise")
    assert [told(report) for report in reports] == [(1, 1), (0, 0)]
    assert feed.emails() == {"good.jsonl", "last.jsonl"}
    assert marks(feed.warehouse) == {"retry_file bad.csv": NOON + HOUR}


def test_too_little_memory_for_every_file_fails_the_run(feed: Feed) -> None:
    """Then the setting is to blame: a run that loads nothing does not succeed."""
    feed.bad.unlink()
    for name in ("good.jsonl", "other.csv"):
        write_long_texts(feed.folder / name)

    with pytest.raises(NotEnoughMemory, match="for any file of email_events") as caught:
        sync(with_memory(feed, "20MB"), clock=lambda: NOON)

    assert caught.value.exit_code == 5
    assert feed.emails() == set()


def test_a_commit_without_memory_is_not_the_fault_of_the_file() -> None:
    """DuckDB then raises the error of a transaction, whose text alone names the cause."""
    failed = "TransactionContext Error: Failed to commit: failed to pin block of size 492.0 KiB"
    assert is_out_of_memory(duckdb.TransactionException(failed))
    assert not is_out_of_memory(duckdb.TransactionException("write-write conflict"))
