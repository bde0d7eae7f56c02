"""A file mapped in one DuckDB and loaded by another gives the same result as in one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.mapping import Staging
from ometria_replica.records import Dialect, FeedFile, StagedFile, Unreadable
from ometria_replica.tables import EMAIL_EVENTS
from tests.unit.staged import NOON, Outcome, file_of, finish

NAMES = ("to_address", "event_type", "dt_occurred", "reason", "news")
CSV = Dialect("csv", columns=NAMES)

line = st.one_of(
    st.tuples(
        st.sampled_from(["ann", "bob", "", "x\0y"]),
        st.sampled_from(["open", "click"]),
        st.sampled_from(["2026-03-01 10:00:00", "1772359200", "never", "9999-12-31", ""]),
        st.sampled_from(["", "why", '"a, ""b"""', "é\U0001f600"]),
        st.just("1"),
    ).map(",".join),
    st.sampled_from(["short,line", "ann,open,2026-03-01,,,long", ""]),
)
contents = st.lists(line, max_size=6).map(lambda lines: "\n".join([",".join(NAMES), *lines, ""]))


def staged_here(files: list[FeedFile]) -> Outcome:
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        for number, file in enumerate(files):
            assert not isinstance(staging.add_file(file, at(number)), Unreadable)
        return finish(staging)


def staged_elsewhere(files: list[FeedFile], folder: Path) -> Outcome:
    saved = [save(file, folder / f"{number}") for number, file in enumerate(files)]
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        for number, file in enumerate(saved):
            staging.add_staged(file, at(number))
        return finish(staging)


def save(file: FeedFile, path: Path) -> StagedFile:
    rows, lines = path.with_suffix(".rows"), path.with_suffix(".lines")
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        assert not isinstance(staging.add_file(file, NOON), Unreadable)
        counts, unknown = staging.save(rows, lines)
    return StagedFile(
        file.origin,
        rows if rows.exists() else None,
        lines if lines.exists() else None,
        counts,
        unknown,
    )


def at(number: int) -> datetime:
    return NOON + timedelta(seconds=number)


@settings(deadline=None)
@given(texts=st.lists(contents, min_size=1, max_size=3))
def test_staging_elsewhere_gives_the_same_result_as_here(texts: list[str]) -> None:
    """Rows, load times, counts and rejects with their positions are the same."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = [
            file_of(folder, text.encode(), CSV, name=f"{number}.csv")
            for number, text in enumerate(texts)
        ]

        here, elsewhere = staged_here(files), staged_elsewhere(files, folder)

    assert elsewhere.counts == here.counts
    assert elsewhere.rows == here.rows
    assert ordered(elsewhere) == ordered(here)


def ordered(outcome: Outcome) -> list[str]:
    return sorted(map(str, outcome.rejects))


@pytest.mark.parametrize("counts", [(2, 1), (1, 2), (0, 0)])
def test_rows_that_did_not_arrive_leave_the_file_for_the_next_run(
    counts: tuple[int, int], tmp_path: Path
) -> None:
    """As many rows and rejects are loaded as the other machine counted, or none."""
    text = "\n".join([",".join(NAMES), "ann,open,2026-03-01 10:00:00,,1", "short,line", ""])
    saved = save(file_of(tmp_path, text.encode(), CSV), tmp_path / "saved")
    assert saved.counts == (1, 1)
    with duckdb.connect() as connection:
        staging = Staging(connection, EMAIL_EVENTS, "1042", "uk")
        found = staging.add_staged(replace(saved, counts=counts), NOON)
        left = finish(staging)

    assert isinstance(found, Unreadable)
    assert found.again
    assert (left.rows, left.rejects) == ([], [])
