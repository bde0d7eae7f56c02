"""How Ometria writes times, and what they mean."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ometria_replica.ometria.times import time_of

TWO = datetime(2026, 5, 1, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["2026-05-01T02:30:00Z", "2026-05-01 02:30:00+00", "2026-05-01T04:30:00+02:00",
     "2026-05-01T02:30:00", " 2026-05-01 02:30:00 ", "20260501T023000"],
)  # fmt: skip
def test_a_time_is_read_from_many_spellings(text: str) -> None:
    """With a time zone or without one (then it is UTC), and with spaces around it."""
    assert time_of({"at": text}, "at") == TWO


@pytest.mark.parametrize("value", [None, "", "soon", "2026-13-01", ["x"], {}])
def test_a_value_that_is_not_a_time_is_none(value: object) -> None:
    """An odd value is no error here: the caller decides what to do."""
    assert time_of({"at": value}, "at") is None
    assert time_of({}, "at") is None
