"""Tables that are arrays inside the records of another table, in every kind of warehouse."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ometria_replica import failpoints
from ometria_replica.batch import DeleteDetection, Loaded
from ometria_replica.catalog import Catalog
from ometria_replica.nested_tables import PROFILE_IDENTITIES, PROFILE_LISTS, PROFILE_TAGS
from ometria_replica.selection import Selection
from ometria_replica.tables import PROFILES, TABLES
from tests.nested_arrays import IDENTITIES, LISTS, TAGS, Expected
from tests.places import DuckDBPlace
from tests.warehouses.loads import HOUR, NOON, Load, opened

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

INSIDE = (PROFILE_TAGS, PROFILE_IDENTITIES, PROFILE_LISTS)
EIGHT = Catalog((*TABLES, *INSIDE))
GONE = DeleteDetection(remove=True, max_share=1.0)

Record = dict[str, Any]
Step = tuple[list[Record], bool]
"""The records of a batch, and whether it is all there is."""

names = st.sampled_from(["1", "11", "a-1", "a-11"])
odd = st.sampled_from([None, True, {}, [], "", {"id": None}, {"id": ""}, ["x"]])
texts = st.sampled_from(["x", "1x", "11", "X", "é", "a b"]) | st.integers(0, 12)
things = st.fixed_dictionaries(
    {"id": texts}, optional={"type": st.none() | texts, "title": st.none() | texts}
)
no_arrays = st.none() | st.sampled_from(["x,y", 7, {}, True])
records = st.fixed_dictionaries(
    {"id": names},
    optional={
        "tags": st.lists(texts | odd, max_size=4) | no_arrays,
        "identities": st.lists(things | odd, max_size=4) | no_arrays,
        "lists": st.lists(things | odd, max_size=3) | no_arrays,
        "email": st.sampled_from(["a@example.com", "b@example.com"]),
    },
)
steps = st.lists(st.tuples(st.lists(records, max_size=6), st.booleans()), min_size=1, max_size=4)


_numbers = count(1000)
"""Of the sources: each example has one of its own in the same warehouse."""


@pytest.fixture(scope="module")
def in_duckdb(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Give a DuckDB file for all examples."""
    return DuckDBPlace(tmp_path_factory.mktemp("nested") / "replica.duckdb")


@settings(deadline=None)
@given(steps=steps)
def test_the_tables_hold_what_the_newest_records_have(in_duckdb: Place, steps: list[Step]) -> None:
    """Whatever came before: absent leaves them, null and [] mean none, odd ones are rejected."""
    _follow(in_duckdb, steps)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[*HealthCheck])
@given(steps=steps)
def test_the_tables_hold_the_same_everywhere(place: Place, steps: list[Step]) -> None:
    """In each kind of warehouse."""
    _follow(place, steps)


def _follow(place: Place, steps: list[Step]) -> None:
    """Load *steps* as a source of its own, and compare each table."""
    source_id = f"source-{next(_numbers)}"
    expected = [Expected(arrays, source_id) for arrays in (TAGS, IDENTITIES, LISTS)]
    known: set[str] = set()
    with opened(place, source_id, catalog=EIGHT) as warehouse:
        for hours, (batch, is_whole) in enumerate(steps):
            _load(warehouse, batch, source_id, hours, whole=is_whole)
            there = {record["id"] for record in batch}
            for each in expected:
                each.read(batch)
                each.forget(*(known - there if is_whole else ()))
            known = there if is_whole else known | there
        for table, each in zip(INSIDE, expected, strict=True):
            assert _rows(warehouse, table, source_id) == each.all()
            assert _rejects(warehouse, table, source_id) == each.rejects


def _load(
    warehouse: Warehouse, records: list[Record], source_id: str, hours: int, *, whole: bool = False
) -> Loaded:
    return Load(
        PROFILES,
        [json.dumps(record) for record in records],
        source_id,
        NOON + hours * HOUR,
        watermark=NOON + hours * HOUR,
        whole=GONE if whole else None,
        inside=INSIDE,
    ).into(warehouse)


def _rows(warehouse: Warehouse, table: Table, source_id: str) -> list[tuple[object, ...]]:
    """Read the rows as the oracle has them."""
    names = [column.name for column in table.columns]
    found = (
        (*(row[name] for name in names), row["__sync_key"])
        for batch in warehouse.read(table, Selection(source_id))
        for row in batch.to_pylist()
    )
    return sorted(found, key=repr)


def _rejects(warehouse: Warehouse, table: Table, source_id: str) -> set[tuple[str, str]]:
    found = warehouse.rejects.newest(1_000, {source_id})
    excerpts = [json.loads(each.raw or "") for each in found if each.table_name == table.name]
    return {(each.pop("id"), json.dumps(*each.values())) for each in excerpts}


@pytest.mark.slow
def test_a_batch_that_is_killed_between_two_tables_is_mended_by_the_next(place: Place) -> None:
    """Wherever it ends: rows of one table are written, of the other not, and the state not yet."""
    before: list[Record] = [{"id": "1", "tags": ["x", "y"]}, {"id": "2", "tags": ["x"]}]
    batch: list[Record] = [{"id": "1", "tags": ["y", "z"], "email": "a@example.com"}]
    for number in range(100):
        source_id = f"source-{next(_numbers)}"
        expected = Expected(TAGS, source_id)
        expected.read(batch)
        with opened(place, source_id, catalog=EIGHT) as warehouse:
            _load(warehouse, before, source_id, 0)
            was_killed = _is_killed(number, warehouse, batch, source_id)
        with opened(place, source_id, catalog=EIGHT) as warehouse:
            _load(warehouse, batch, source_id, 2, whole=True)
            assert _rows(warehouse, PROFILE_TAGS, source_id) == expected.all(), number
            assert warehouse.count(PROFILES, Selection(source_id)) == 1
        if not was_killed:
            break
    assert number > 2


def _is_killed(number: int, warehouse: Warehouse, batch: list[Record], source_id: str) -> bool:
    """End a load at the step that writes with this *number*; False if there is none."""
    seen = -1

    def end(step: str) -> None:
        nonlocal seen
        seen += step in _WRITES
        if seen == number:
            raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_listeners", [end])
        with suppress(MemoryError):
            _load(warehouse, batch, source_id, 1, whole=True)
            return False
    return True


_WRITES = {f"before {step}" for step in ("insert", "remote rows", "remote removal",
                                         "commit of the batch")}  # fmt: skip
