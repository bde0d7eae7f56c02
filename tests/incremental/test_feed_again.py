from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.mapping.json_lines import plain_file
from ometria_replica.state_commands import replay, rewind
from tests.duck import read_file
from tests.incremental.shops import DAY, HOUR, NOON, account, config, replicate, state
from tests.replicas import of, write_feed_file

FIRST = datetime(2026, 2, 1, tzinfo=UTC)


def write(feed: Path, day: int, *who: str, seconds: int = 0) -> None:
    """Write a file of that day in February; each event names its file."""
    records = [
        {
            "to_address": name,
            "event_type": "open",
            "dt_occurred": "2026-01-01T00:00:00Z",
            "reason": f"day {day}",
        }
        for name in who
    ]
    at = FIRST + (day - 1) * DAY + timedelta(seconds=seconds)
    write_feed_file(feed, f"{day:02}.jsonl", at, records)


def standing(warehouse: Path) -> dict[str, str]:
    rows = read_file(warehouse, "ometria.email_events")
    return {row["email"]: row["bounce_reason"] for row in rows}


def test_a_file_of_which_a_record_was_lost_waits_for_a_replay(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seeded reader loses a record: its file is a reject with the numbers, and no other is."""
    everyone = account(folder=(feed := tmp_path / "feed"))
    write(feed, 1, "ann", "bob")
    write(feed, 2, "cat")
    with monkeypatch.context() as seeded:
        seeded.setattr(
            "ometria_replica.mapping.file_staging.plain_file",
            lambda *file: (
                (plain := plain_file(*file))
                and replace(plain, relation=f"(FROM {plain.relation} LIMIT 1)")
            ),
        )
        events = of(replicate(warehouse, everyone, at=NOON), "email_events")

    assert (events.files, events.files_unreadable) == (1, 1)
    assert standing(warehouse) == {"cat": "day 2"}
    (reject,) = state(warehouse, "rejects")
    assert reject["reason"] == "2 records became 1 row and 0 rejected lines; please report this"

    replay(config(warehouse, everyone))
    replicate(warehouse, everyone, at=NOON + HOUR)

    assert standing(warehouse) == {"ann": "day 1", "bob": "day 1", "cat": "day 2"}
    assert state(warehouse, "rejects") == []


def test_a_backfill_reads_the_files_of_its_days(warehouse: Path, tmp_path: Path) -> None:
    """From midnight of the first day to the end of the last, by the times of the files."""
    feed = tmp_path / "feed"
    for day in range(1, 6):
        write(feed, day, f"p{day}", seconds=86_399 if day == 4 else 0)
    everyone = account(folder=feed)
    assert of(replicate(warehouse, everyone, at=NOON), "email_events").files == 5
    log = [(row["name"], row["etag"]) for row in state(warehouse, "files")]

    report = replicate(
        warehouse, everyone, at=NOON + HOUR, since=date(2026, 2, 2), until=date(2026, 2, 4)
    )

    events = of(report, "email_events")
    assert (events.files, events.unchanged, events.inserted) == (3, 3, 0)
    assert [(row["name"], row["etag"]) for row in state(warehouse, "files")] == log
    loaded = {
        row["email"]: row["__synced_at"] for row in read_file(warehouse, "ometria.email_events")
    }
    assert sorted(name for name, at in loaded.items() if at >= NOON + HOUR) == ["p2", "p3", "p4"]
    assert of(replicate(warehouse, everyone, at=NOON + 2 * HOUR), "email_events").files == 0


def test_a_backfill_never_replaces_newer_rows_by_older_ones(
    warehouse: Path, tmp_path: Path
) -> None:
    """A file that is read again does not replace the event of a later file."""
    feed = tmp_path / "feed"
    write(feed, 1, "ann", "bob")
    write(feed, 3, "bob", "cat")
    replicate(warehouse, account(folder=feed), at=NOON)

    report = replicate(warehouse, account(folder=feed), at=NOON, until=date(2026, 2, 1))

    assert of(report, "email_events").older == 1
    assert standing(warehouse) == {"ann": "day 1", "bob": "day 3", "cat": "day 3"}
    assert "email_events: 1 row of an older file was skipped;" in report.to_text()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("file"), st.integers(1, 5), st.sets(st.sampled_from("abc"), min_size=1)),
        st.tuples(st.just("sync"), st.booleans(), st.none()),
        st.tuples(st.just("backfill"), st.integers(1, 5), st.integers(0, 2)),
        st.tuples(st.just("rewind"), st.integers(0, 5), st.none()),
        st.tuples(st.just("replay"), st.none(), st.none()),
    ),
    min_size=2,
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(steps=steps)
def test_any_order_of_rereads_leaves_the_newest_copies(
    steps: list[tuple[str, int, object]],
) -> None:
    """Files, syncs, backfills, rewinds and replays in any order leave the newest events."""
    with TemporaryDirectory() as folder:
        feed, warehouse = Path(folder) / "feed", Path(folder) / "w.duckdb"
        feed.mkdir()
        all_of_it, newest = account(folder=feed), dict[str, int]()
        replicate(warehouse, all_of_it, at=NOON)
        for step, number, more in steps:
            if (
                step == "file"
                and isinstance(more, set)
                and not (feed / f"{number:02}.jsonl").exists()
            ):
                write(feed, number, *sorted(more))
                newest |= {name: max(number, newest.get(name, 0)) for name in more}
            elif step == "sync":
                replicate(warehouse, all_of_it, at=NOON, full=bool(number))
            elif step == "backfill" and isinstance(more, int):
                first = date(2026, 2, number)
                replicate(
                    warehouse, all_of_it, at=NOON, since=first, until=first + timedelta(days=more)
                )
            elif step == "rewind":
                day = date(2026, 2, number) if number else None
                rewind(config(warehouse, all_of_it), ["email_events"], day)
            elif step == "replay":
                replay(config(warehouse, all_of_it))
        replicate(warehouse, all_of_it, at=NOON)

        assert standing(warehouse) == {name: f"day {day}" for name, day in newest.items()}
