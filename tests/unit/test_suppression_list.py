"""The list of suppressed people: ids that were ever given together are one person."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.batch import Owner
from ometria_replica.warehouse import open_warehouse
from tests.warehouses.loads import NOON

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ometria_replica.warehouse.warehouse import Warehouse

NAMES = [f"customer:{letter}" for letter in "abcdef"]
PEOPLE = st.lists(st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3), max_size=4)
SOURCES = count()


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Give one for all examples: each has a source of its own."""
    file = tmp_path_factory.mktemp("list") / "list.duckdb"
    with open_warehouse(f"duckdb:///{file}") as opened:
        opened.prepare(Owner("account", "uk"), NOON)
        yield opened


def apart(people: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Keep of *people* those who share no id with an earlier one, as an erasure finds them."""
    found: list[frozenset[str]] = []
    for each in people:
        if not any(each & other for other in found):
            found.append(each)
    return found


def connected(people: Sequence[frozenset[str]]) -> set[frozenset[str]]:
    """Join those who share an id."""
    found: set[frozenset[str]] = set()
    for each in people:
        sharing = {other for other in found if other & each}
        found = (found - sharing) | {frozenset(each.union(*sharing))}
    return found


@settings(deadline=None)  # An example is up to four erasures.
@given(erasures=st.lists(PEOPLE, max_size=4))
def test_people_who_share_an_id_are_one(
    erasures: list[list[frozenset[str]]], warehouse: Warehouse
) -> None:
    """Whichever erasures named them: to allow one id allows all of them, and nobody else."""
    source_id, suppressions = f"source {next(SOURCES)}", warehouse.suppressions
    with warehouse.sessions.writing("suppressing", "the suppressions"):
        for number, people in enumerate(erasures):
            suppressions.add(source_id, apart(people), None, f"erasure-{number}", NOON)
        expected = connected([each for people in erasures for each in apart(people)])
        assert suppressions.people(source_id) == len(expected)
        for person in expected:
            assert suppressions.remove(source_id, sorted(person)[:1], None) == 1
    assert suppressions.people(source_id) == 0
