from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.doctor import rights as asking
from ometria_replica.doctor.clock import Heard, ahead_of
from ometria_replica.doctor.rights import rights
from tests.replicas import account

if TYPE_CHECKING:
    import pytest

    from ometria_simulator import Account, Server

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FIVE = {
    "profiles": ("profiles",),
    "lists": ("member_lists", "lists"),
    "lists/{id}/changes": ("member_lists",),
    "unsubscribes": ("unsubscribes",),
}
"""The endpoints of the five tables, with the tables that need each."""


# --- the rights of a key -------------------------------------------------------------------------


def test_each_endpoint_that_the_tables_need_is_asked_once(server: Server) -> None:
    """The changes of a list are asked of the first one; what is granted says so."""
    found = list(rights(account(server)))

    assert {right.endpoint: right.tables for right in found} == FIVE
    assert all(right.is_granted for right in found)
    assert len(server.requests) == len(FIVE)


def test_a_right_that_one_endpoint_lacks_is_told_of_that_one(server: Server) -> None:
    """The others are read; and a sync can do without what only optional tables need."""
    server.no_rights = frozenset({"changes", "orders"})
    found = list(rights(replace(account(server), tables=("member_lists", "orders"))))

    refused = {right.endpoint: right.can_lack for right in found if right.is_refused}
    assert refused == {"lists/{id}/changes": False, "orders": True}
    assert [right.endpoint for right in found if right.is_granted] == ["lists"]


def test_without_a_list_its_changes_are_not_asked(server: Server, shop: Account) -> None:
    """Nor if the lists cannot be read."""
    server.no_rights = frozenset({"lists"})
    *_, changes = rights(replace(account(server), tables=("member_lists",)))
    assert changes.untried == "lists could not be read"

    server.no_rights = frozenset()
    for each in list(shop.lists):
        shop.delete_list(each.id)
    *_, changes = rights(replace(account(server), tables=("member_lists",)))
    assert changes.untried == asking.NOTHING_TO_ASK


def test_an_endless_429_ends_the_questions_in_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync would wait without a limit."""
    monkeypatch.setattr(asking, "ALL_WITHIN", 0.2)
    server.faults.storm(100_000)
    first, *others = rights(account(server))

    assert "another integration uses up the account's rate limit" in str(first.error)
    assert {right.untried for right in others} == {"another endpoint did not answer"}


# --- the clock -----------------------------------------------------------------------------------


@given(
    st.timedeltas(timedelta(days=-9), timedelta(days=9)),
    st.lists(st.floats(0, 30), min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_a_clock_is_never_said_to_be_further_off_than_it_is(
    off: timedelta, latencies: list[float], where: float
) -> None:
    """However long an answer takes, and wherever in that time the server wrote its date."""
    answers = []
    for latency in latencies:
        served_at = (NOON + timedelta(seconds=latency * where)).replace(microsecond=0)
        end = NOON + timedelta(seconds=latency)
        answers.append(Heard(NOON + off, end + off, served_at))
    ahead = ahead_of(answers)

    assert ahead is not None
    assert ahead == timedelta() or (ahead > timedelta()) == (off > timedelta())
    assert abs(ahead) <= abs(off)
    assert abs(ahead) >= abs(off) - timedelta(seconds=min(latencies) + 1)


def test_an_answer_without_a_date_tells_nothing() -> None:
    """Some proxies drop the header."""
    assert ahead_of([Heard(NOON, NOON, None)]) is None
