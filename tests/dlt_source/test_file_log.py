"""The file log stays small; no file is read twice, and none is skipped without a warning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.extraction import file_log as module
from ometria_replica.extraction.file_log import FileLog
from ometria_replica.records import FeedObject

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FEW = 5


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", FEW)


def file(minute: int, name: str = "", etag: str = "e") -> FeedObject:
    """Return a file that was modified *minute* minutes after noon."""
    return FeedObject(name or f"{minute:04}.csv", etag, 10, NOON + timedelta(minutes=minute))


def through_json(log: FileLog) -> FileLog:
    """Write the log as JSON and read it, as between two loads."""
    return FileLog.from_state(log.to_state())


@given(st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=6))
def test_files_that_arrive_in_order_are_read_once(loads: list[list[int]]) -> None:
    """Any number of files at any distance in time, if none is older than an earlier one."""
    listed: list[FeedObject] = []
    read: list[FeedObject] = []
    log, minute = FileLog(), 0
    for load in loads:
        minute += 1  # Later than all files before.
        for step in load:
            minute += step
            listed.append(file(minute, f"{len(listed)}.csv"))
        new = log.new_files(listed)
        read += new
        log = through_json(log.after(listed, new))
        assert log.late(listed) == 0
        assert len(log.files) <= FEW

    assert read == listed
    assert log.new_files(listed) == []


def test_a_new_version_is_read_again() -> None:
    """The same name with another ETag is a new version, even of a file below the horizon."""
    listed = [file(minute) for minute in range(8)]
    log = through_json(FileLog().after(listed, listed))
    rewritten = file(20, "0000.csv", "other")

    assert log.new_files([rewritten, *listed[1:]]) == [rewritten]


def test_a_version_that_comes_back_is_read_again() -> None:
    """An object has one content, another, and the first again, each time as a new file."""
    log, read = FileLog(), []
    for minute, etag in enumerate(("a", "b", "a", "a")):
        listed = [*(file(at) for at in range(8)), file(20 + minute, "x.csv", etag)]
        new = log.new_files(listed)
        read += [each.etag for each in new if each.name == "x.csv"]
        log = through_json(log.after(listed, new))

    assert read == ["a", "b", "a"]


def test_a_new_file_below_the_horizon_counts_as_late() -> None:
    """It is not read, and each load counts it as long as it is listed."""
    listed = [file(minute) for minute in range(8)]
    log = through_json(FileLog().after(listed, listed))
    late = file(1, "late.csv")

    for _ in range(2):
        assert log.new_files([*listed, late]) == []
        assert log.late([*listed, late]) == 1
        log = through_json(log.after([*listed, late], []))


def test_a_late_file_above_the_horizon_is_read() -> None:
    """Fingerprints distinguish it from the files that were read."""
    listed = [file(minute) for minute in range(8)]
    log = through_json(FileLog().after(listed, listed))
    late = file(6, "late.csv")

    assert log.new_files([*listed, late]) == [late]
    assert log.late([*listed, late]) == 0


def test_removed_files_do_not_hide_late_ones() -> None:
    """Old files that expire cause no warning, and a late file after that still causes one."""
    listed = [file(minute) for minute in range(8)]
    log = through_json(FileLog().after(listed, listed))
    left = listed[4:]

    assert log.late(left) == 0
    log = through_json(log.after(left, []))
    assert log.late([*left, file(0, "late.csv")]) == 1


def test_an_unreadable_file_is_retried_at_any_age() -> None:
    """It stays due when the horizon passes it."""
    denied, others = file(0, "denied.csv"), [file(minute) for minute in range(1, 20)]
    log = through_json(FileLog().after([denied, *others], others))

    assert log.new_files([denied, *others]) == [denied]
    assert log.late([denied, *others]) == 0
    again = through_json(log.after([denied, *others], []))
    assert again.new_files([denied, *others]) == [denied]
    done = through_json(again.after([denied, *others], [denied]))
    assert done.new_files([denied, *others]) == []
    assert done.late([denied, *others]) == 0
