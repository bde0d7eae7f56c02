"""A batch that carries rows of other tables beside its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import DeleteDetection, Loaded, Owner, Part
from ometria_replica.catalog import CATALOG
from ometria_replica.schema import Column, Table, md5
from ometria_replica.selection import ALL
from ometria_replica.tables import LISTS
from ometria_replica.warehouse import open_warehouse
from ometria_replica.ways_to_read import Pages
from tests.places import DuckDBPlace
from tests.warehouses.loads import HOUR, NOON, Load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ometria_replica.batch import Batch
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

TAGS = Table(
    "list_tags",
    Pages("lists"),
    md5("source_id", "list_id", "'|'", "tag"),
    (
        Column("list_id", "list_id"),
        Column("tag", "tag"),
        Column("colour", "colour"),
    ),
    (("list_id",),),
)
NOTES = replace(TAGS, name="list_notes")
WHOLE = DeleteDetection(remove=True, max_share=1.0)


@pytest.fixture
def in_duckdb(tmp_path: Path) -> Place:
    """Give a DuckDB file in which nothing was written."""
    return DuckDBPlace(tmp_path / "replica.duckdb")


def test_a_batch_carries_rows_of_other_tables(in_duckdb: Place) -> None:
    """Each is compared with its own table; what a record no longer has is gone."""
    _the_whole_story(in_duckdb)


@pytest.mark.slow
def test_a_batch_carries_rows_of_other_tables_everywhere(place: Place) -> None:
    """In each kind of warehouse as in DuckDB."""
    _the_whole_story(place)


def _the_whole_story(place: Place) -> None:
    with open_warehouse(place.url, catalog=CATALOG + TAGS + NOTES) as warehouse:
        warehouse.prepare(_owner(), NOON)
        first = _load(warehouse, {"1": ["a red", "b red"], "2": ["a red"], "3": []})
        assert first.parts == {
            "ometria.list_tags": Loaded(inserted=3),
            "ometria.list_notes": Loaded(inserted=3),
        }

        second = _load(warehouse, {"1": ["b blue", "c red"], "3": ["a red"]})
        assert second.unchanged == 2
        assert second.parts == {
            "ometria.list_tags": Loaded(inserted=2, updated=1, removed=1),
            "ometria.list_notes": Loaded(inserted=2, updated=1),
        }
        assert _tags(warehouse, TAGS) == ["1b blue", "1c red", "2a red", "3a red"]
        assert _tags(warehouse, NOTES) == ["1a red", "1b blue", "1c red", "2a red", "3a red"]

        third = _load(warehouse, {"1": [], "3": ["a red"]}, whole=WHOLE)
        assert third.removed == 1
        assert third.parts["ometria.list_tags"] == Loaded(unchanged=1, removed=3)
        assert _tags(warehouse, TAGS) == ["3a red"]


def test_a_repeated_batch_changes_nothing(in_duckdb: Place) -> None:
    """Its parts are unchanged as its rows are."""
    with open_warehouse(in_duckdb.url, catalog=CATALOG + TAGS + NOTES) as warehouse:
        warehouse.prepare(_owner(), NOON)
        _load(warehouse, {"1": ["a red"]})

        again = _load(warehouse, {"1": ["a red"]})

    assert (again.unchanged, {part.unchanged for part in again.parts.values()}) == (1, {1})


def test_rows_inside_a_record_of_an_older_file_are_left_out(in_duckdb: Place) -> None:
    """Also those whose key the newer file does not have."""
    with open_warehouse(in_duckdb.url, catalog=CATALOG + TAGS + NOTES) as warehouse:
        warehouse.prepare(_owner(), NOON)
        _load(warehouse, {"1": ["a red"]}, file=("new", NOON))

        late = _load(
            warehouse, {"1": ["b red"], "2": ["c red"]}, file=("old", NOON - HOUR), at=NOON + HOUR
        )

        assert (late.older, late.inserted) == (1, 1)
        assert _tags(warehouse, TAGS) == ["1a red", "2c red"]


def _owner() -> Owner:
    return Owner("account of uk", "uk")


def _load(warehouse: Warehouse, lists: Mapping[str, Sequence[str]], **more: Any) -> Loaded:
    load = Load(LISTS, [json.dumps({"id": name}) for name in lists], **more)
    return warehouse.load(_with_parts(warehouse, load.staged(warehouse), lists))


def _with_parts(warehouse: Warehouse, batch: Batch, lists: Mapping[str, Sequence[str]]) -> Batch:
    """Stage the tags of each list as two parts: one in which others are gone, one in which not."""
    warehouse.connection.execute(
        "CREATE OR REPLACE TEMP TABLE staged_tags AS SELECT l.list_id,"
        " split_part(tag, ' ', 1) AS tag, split_part(tag, ' ', 2) AS colour, _account_id,"
        " __source_id, md5(concat_ws('|', __source_id, l.list_id, split_part(tag, ' ', 1)))"
        " AS __sync_key,"
        " __synced_at FROM (SELECT unnest($ids::VARCHAR[]) AS id, unnest($tags::VARCHAR[]) AS tag)"
        " JOIN staged l ON l.list_id = id",
        {
            "ids": [name for name, tags in lists.items() for _ in tags],
            "tags": [tag for tags in lists.values() for tag in tags],
        },
    )
    warehouse.connection.execute("CREATE OR REPLACE TEMP TABLE staged_notes AS FROM staged_tags")
    warehouse.connection.execute(
        "CREATE OR REPLACE TEMP TABLE whole_lists AS SELECT list_id AS parent FROM staged"
    )
    tags = Part(TAGS, "staged_tags", parent="list_id", whole="whole_lists")
    return replace(batch, parts=(tags, Part(NOTES, "staged_notes")))


def _tags(warehouse: Warehouse, table: Table) -> list[str]:
    """Read a table's rows as the id of the list, the tag and its colour."""
    found = _rows(warehouse, table)
    return sorted(f"{row['list_id']}{row['tag']} {row['colour']}" for row in found)


def _rows(warehouse: Warehouse, table: Table) -> list[dict[str, str]]:
    return [row for batch in warehouse.read(table, ALL) for row in batch.to_pylist()]
