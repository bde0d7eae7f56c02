from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.batch import BatchSize
from ometria_replica.warehouse.warehouse import Warehouse
from tests.duck import read_file
from tests.replicas import account, of, replicate, write_feed_file

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OCCURRED_AT = {"w": None, "x": "2026-02-01", "y": "2026-02-02 10:00:00+00", "z": "1772359200"}


@dataclass(frozen=True)
class Version:
    """One version of a file: *lines* are recipients, each with an event that names its position."""

    name: str
    minute: int
    lines: tuple[str, ...]

    @property
    def modified_at(self) -> datetime:
        """The time of this version."""
        return NOON + timedelta(minutes=self.minute)

    def records(self) -> list[dict[str, object]]:
        """Return an event per line; each recipient has its own time, and one has none."""
        return [
            {
                "to_address": who,
                "event_type": "open",
                "dt_occurred": OCCURRED_AT[who],
                "reason": self.place(line),
            }
            for line, who in enumerate(self.lines)
        ]

    def place(self, line: int) -> str:
        """Name the position of an event."""
        return f"{self.name} of {self.minute}, line {line}"


def newest(versions: list[Version]) -> dict[str, str]:
    """Return the newest copies by decision 3: by time of the file, its name, then the line."""
    copies = sorted(
        (version.modified_at, version.name, line, who, version.place(line))
        for version in versions
        for line, who in enumerate(version.lines)
    )
    return {who: place for *_, who, place in copies}


def standing(warehouse: Path) -> dict[str, str]:
    rows = read_file(warehouse, "ometria.email_events")
    assert len({row["__sync_key"] for row in rows}) == len(rows)
    return {row["email"]: row["bounce_reason"] for row in rows}


FILES = [Version("b", 0, ("x", "y")), Version("a", 1, ("y", "z")), Version("c", 1, ("z", "x"))]


@pytest.mark.parametrize(
    "order", list(permutations(FILES)), ids=lambda o: "".join(f.name for f in o)
)
def test_a_late_file_never_replaces_rows_of_a_newer_one(
    order: tuple[Version, ...], tmp_path: Path
) -> None:
    """For any order of files, one per run, the newest copy of each event is kept."""
    for version in order:
        write_feed_file(tmp_path / "feed", version.name, version.modified_at, version.records())
        replicate(tmp_path / "w.duckdb", account(folder=tmp_path / "feed"), at=NOON)

    assert standing(tmp_path / "w.duckdb") == newest(FILES)


def test_older_rows_that_were_skipped_are_counted(tmp_path: Path) -> None:
    """The report counts the rows of a late file that were older than those in the table."""
    feed, warehouse = tmp_path / "feed", tmp_path / "w.duckdb"
    write_feed_file(feed, "new", NOON, Version("new", 9, ("x", "y")).records())
    replicate(warehouse, account(folder=feed), at=NOON)
    late = Version("late", 0, ("x", "z"))
    write_feed_file(feed, late.name, NOON - timedelta(days=1), late.records())

    report = of(replicate(warehouse, account(folder=feed), at=NOON), "email_events")

    assert (report.older, report.inserted, report.unchanged, report.files) == (1, 1, 0, 1)


def test_a_file_is_read_once_and_again_when_rewritten(tmp_path: Path) -> None:
    """The file log has each version: it is read once, and another version of the name again."""
    feed, warehouse = tmp_path / "feed", tmp_path / "w.duckdb"
    first, second = Version("f", 0, ("x", "y")), Version("f", 1, ("y",))
    write_feed_file(feed, "f", first.modified_at, first.records())
    runs = [replicate(warehouse, account(folder=feed), at=NOON) for _ in range(2)]
    write_feed_file(feed, "f", second.modified_at, second.records())
    runs.append(replicate(warehouse, account(folder=feed), at=NOON))

    assert [of(run, "email_events").files for run in runs] == [1, 0, 1]
    assert standing(warehouse) == {"x": first.place(0), "y": second.place(0)}


versions = st.lists(
    st.builds(
        Version,
        name=st.sampled_from("abc"),
        minute=st.integers(0, 2),
        lines=st.lists(st.sampled_from("wxyz"), min_size=1, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda version: (version.name, version.minute),
)


@settings(max_examples=8, deadline=None)
@given(
    history=versions,
    full=st.lists(st.booleans(), min_size=5, max_size=5),
    files_a_batch=st.sampled_from([1, 2, 500]),
)
def test_rewritten_late_and_reread_files_leave_the_newest_copies(
    history: list[Version], full: list[bool], files_a_batch: int
) -> None:
    """Files arrive, change, arrive late and are read again: the newest copy is kept."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Warehouse, "batch_size", BatchSize(files=files_a_batch))
        feed, warehouse = Path(folder) / "feed", Path(folder) / "w.duckdb"
        for version, again in zip(history, full, strict=False):
            write_feed_file(feed, version.name, version.modified_at, version.records())
            replicate(warehouse, account(folder=feed), at=NOON, full=again)
            shutil.rmtree(feed) if again else None
        if feed.exists():
            replicate(warehouse, account(folder=feed), at=NOON, full=True)

        assert standing(warehouse) == newest(history)
