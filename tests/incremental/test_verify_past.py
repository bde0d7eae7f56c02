"""`verify` judges rows by what was: the run history, and earlier versions of a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ometria_simulator import serve
from tests.duck import opened
from tests.incremental.shops import DAY, HOUR, NOON, account, replicate
from tests.incremental.verifications import differing, quiet_shop, verified

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "event_type,campaign_title,to_address,dt_occurred\n"
LINES = [f"open,Spring,{name}@example.com,2026-02-01T10:00:0{name}\n" for name in "123456"]
"""Lines of which the last cell is in the key."""

BEGINNING = HEADER + "".join(LINES[:2])


@pytest.mark.parametrize(
    ("first", "then", "blamed"),
    [
        (BEGINNING + LINES[2][:-4], HEADER + "".join(LINES), 1),
        (BEGINNING, HEADER + "".join(LINES), 0),
        (BEGINNING, HEADER + "".join(LINES[2:]), 0),
        (BEGINNING + LINES[2][:-4], HEADER + "".join(LINES[2:]), 0),
    ],
    ids=["half a line", "whole lines", "other lines", "half a line, then other lines"],
)
def test_the_row_of_half_a_line_is_blamed_and_no_other(
    first: str, then: str, blamed: int, tmp_path: Path, warehouse: Path
) -> None:
    """Rows of an earlier version stay, unless the present one shows that a line was cut there."""
    file, feed = tmp_path / "feed" / "events.csv", account(None, tmp_path / "feed")
    file.parent.mkdir()
    for text, at in ((first, NOON - 9 * DAY), (then, NOON - 8 * DAY)):
        file.write_text(text)
        os.utime(file, (at.timestamp(), at.timestamp()))
        replicate(warehouse, feed, at=at + HOUR)

    report = verified(warehouse, feed)

    assert [kind for _, kind, _ in differing(report)] == ["extra"] * blamed
    assert not differing(verified(warehouse, feed, share=0.5))  # The row may be of another file.


def test_rows_that_a_run_removed_against_its_settings_are_missing(warehouse: Path) -> None:
    """The history says how many it might remove; rows that it might are not blamed."""
    shop = quiet_shop()
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, tables=("profiles",), deletes="remove", max_deleted_share=0.5)
        replicate(warehouse, settings, at=NOON)
        shop.delete_profile("p03")
        shop.delete_profile("p05")
        replicate(warehouse, settings, at=NOON + HOUR, detect_deletes=True)
        sound = verified(warehouse, settings, clock=lambda: NOON + 2 * HOUR)
        change = "replace(report, '\"removable\": 20', '\"removable\": 1')"
        with opened(warehouse, read_only=False) as connection:
            connection.execute(f"UPDATE ometria_replica.runs SET report = {change}")
        report = verified(warehouse, settings, clock=lambda: NOON + 2 * HOUR)

    assert not differing(sound)
    assert [kind for _, kind, _ in differing(report)] == ["missing", "missing"]
    assert "has removed 2 rows although its settings let it remove 1 at most" in report.to_text()
