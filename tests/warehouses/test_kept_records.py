"""Records that are kept as they came, in each kind of warehouse."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import DeleteDetection
from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.erasing import ids_of
from ometria_replica.selection import Selection
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse.erasure.erasures import Wanted
from tests.duck import read
from tests.places import DuckDBPlace
from tests.warehouses.loads import HOUR, NOON, Load, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.places import Place

KEPT = Catalog(tuple(replace(table, keeps_records=True) for table in CATALOG))
PROFILE = KEPT.table("profiles")
EVENTS = KEPT.table("email_events")
WHOLE = DeleteDetection(remove=True, max_share=1.0)

ODD = {
    "1": r'{"id": "1", "price": 1.10, "big": 123456789012345678901234567890, "e": 1e400}',
    "2": r'{"id":"2","z":1,"a":[{"b":"\u00e9é"},[],{}],"stats":{"orders":1.50}}',
    "3": r'{"id": "3", "nul": "a\u0000b", "backslash": "\\u0000", "n\u0000": 1}',
    "4": r'{"id": "4", "huge": 1e99999999, "tiny": 1.5e-20000, "not": NaN, "text": "1e99999 NaN"}',
}


@pytest.fixture
def in_duckdb(tmp_path: Path) -> Place:
    """Give a DuckDB file in which nothing was written."""
    return DuckDBPlace(tmp_path / "replica.duckdb")


def kept(place: Place, table: str = "profiles") -> dict[str, Any]:
    """Read what is kept, by the ids in it; each as text, and each once."""
    with place.looking() as connection:
        rows = read(connection, f"ometria_raw.{table}", "__sync_key")
        keys = [row["__sync_key"] for row in read(connection, f"ometria.{table}", "__sync_key")]
    assert [row["__sync_key"] for row in rows] == keys
    texts = [text_of(row["record"]) for row in rows]
    return {json.loads(text)["id"]: text for text in texts}


def values(place: Place) -> dict[str, Any]:
    """Read what is kept, parsed."""
    return {name: json.loads(text) for name, text in kept(place).items()}


def text_of(record: object) -> str:
    return record if isinstance(record, str) else json.dumps(record)


def test_records_are_kept_to_the_letter_in_duckdb(in_duckdb: Place) -> None:
    with opened(in_duckdb, catalog=KEPT) as warehouse:
        Load(PROFILE, list(ODD.values())).into(warehouse)
    assert kept(in_duckdb) == ODD
    with in_duckdb.looking() as connection:
        found = connection.execute(
            "SELECT record ->> '$.price', typeof(record) FROM ometria_raw.profiles"
            " WHERE record ->> '$.id' = '1'"
        ).fetchall()
    assert found == [("1.1", "JSON")]  # The text keeps its digits; DuckDB's own reader does not.


@pytest.mark.slow
def test_records_are_kept_everywhere(place: Place) -> None:
    """With all digits. PostgreSQL writes what its numbers or texts cannot hold as texts."""
    with opened(place, catalog=KEPT) as warehouse:
        Load(PROFILE, list(ODD.values())).into(warehouse)
    found = kept(place)
    if place.url.startswith("postgresql"):
        expected = {
            **{name: _value(text) for name, text in ODD.items()},
            "3": {"id": "3", "nul": "a\u2400b", "backslash": r"\u0000", "n\u2400": Decimal(1)},
            "4": {
                "id": "4", "huge": "1e99999999", "tiny": "1.5e-20000", "not": "NaN",
                "text": "1e99999 NaN",
            },
        }  # fmt: skip
        assert {name: _value(text) for name, text in found.items()} == expected
    else:
        assert found == ODD


def _value(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def test_a_record_that_is_nested_deeply_stops_no_batch(in_duckdb: Place) -> None:
    """It is kept; only its fields are not looked at."""
    deep = '{"id": "1", "a": ' + "[" * 400 + "]" * 400 + "}"
    with opened(in_duckdb, catalog=KEPT) as warehouse:
        Load(PROFILE, [deep, '{"id": "2"}']).into(warehouse)
        fields = warehouse.records.fields(PROFILE, "uk")
    assert kept(in_duckdb) == {"1": deep, "2": '{"id": "2"}'}
    assert fields is not None
    assert (fields.records, fields.is_cut, [each.path for each in fields]) == (2, True, ["id"])


def test_the_record_is_that_of_the_row_which_is_there(in_duckdb: Place) -> None:
    _newest_wins(in_duckdb)


@pytest.mark.slow
def test_the_record_is_that_of_the_row_everywhere(place: Place) -> None:
    """In each kind of warehouse as in DuckDB."""
    _newest_wins(place)


def _newest_wins(place: Place) -> None:
    with opened(place, catalog=KEPT) as warehouse:
        Load(PROFILE, ['{"id": "1", "n": 1}', '{"id": "2"}', '{"id": "1", "n": 2}']).into(warehouse)
        assert values(place) == {"1": {"id": "1", "n": 2}, "2": {"id": "2"}}

        # No column has changed, and the record has.
        same = Load(PROFILE, ['{"id": "1", "n": 3}'], at=NOON + HOUR).into(warehouse)
        assert same.unchanged == 1
        assert values(place) == {"1": {"id": "1", "n": 3}, "2": {"id": "2"}}

        whole = Load(PROFILE, ['{"id": "1", "n": 3}'], at=NOON + 2 * HOUR, whole=WHOLE)
        assert whole.into(warehouse).removed == 1
        assert [*kept(place)] == ["1"]


def test_a_late_file_brings_no_record_of_a_row_that_is_newer(in_duckdb: Place) -> None:
    """Also where the record of the newer row was not kept."""
    event = '{{"to_address": "a@b.example", "dt_occurred": "2026-03-01", "id": {}}}'
    with opened(in_duckdb, catalog=KEPT) as warehouse:
        plain = CATALOG.table("email_events")
        Load(plain, [event.format(1)], file=("new", NOON)).into(warehouse)
        late = Load(EVENTS, [event.format(2)], file=("old", NOON - HOUR), at=NOON + HOUR)
        assert late.into(warehouse).older == 1
        assert warehouse.count(replace(EVENTS, schema="ometria_raw"), Selection("uk")) == 0


def test_only_accounts_that_keep_records_have_tables_for_them(in_duckdb: Place) -> None:
    with opened(in_duckdb) as warehouse:
        Load(PROFILES, ['{"id": "1"}']).into(warehouse)
    with in_duckdb.looking() as connection:
        schemas = connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()
    assert "ometria_raw" not in {name for (name,) in schemas}


@pytest.mark.slow
def test_an_erased_person_leaves_no_record_anywhere(place: Place) -> None:
    """Neither the person's own, nor one that quotes an address of the person in any case."""
    texts = [
        '{"id": "1", "email": "Ann@example.com", "price": 1.10}',
        '{"id": "2", "note": "a friend of ANN@EXAMPLE.COM"}',
        '{"id": "3", "email": "bob@example.com"}',
    ]
    ann = ids_of(["ann@example.com"])
    with opened(place, catalog=KEPT) as warehouse:
        Load(PROFILE, texts).into(warehouse)
        wanted = Wanted("uk", KEPT.tables, ann)
        held = warehouse.erasures.held(wanted)["ometria_raw.profiles"]
        assert sorted(json.loads(str(row["record"]))["id"] for row in held) == ["1", "2"]
        receipt = warehouse.erasures.erase(wanted, "removed", NOON, "an-erasure")
        assert (receipt.rows["profiles"], receipt.rows["ometria_raw.profiles"]) == (1, 2)
    with place.looking() as connection:
        left = [text_of(row["record"]) for row in read(connection, "ometria_raw.profiles", "ALL")]
    assert [json.loads(text)["id"] for text in left] == ["3"]


@pytest.mark.slow
def test_the_fields_are_found_everywhere(place: Place) -> None:
    """In each kind of warehouse as in DuckDB."""
    with opened(place, catalog=KEPT) as warehouse:
        Load(PROFILE, ['{"id": "1", "stats": {"orders": 1.50}}', '{"id": "2"}']).into(warehouse)
        found = warehouse.records.fields(PROFILE, "uk")
    assert found is not None
    assert {each.path: (each.records, *each.types) for each in found} == {
        "id": (2, "string"),
        "stats": (1, "object"),
        "stats.orders": (1, "number"),
    }
    assert {each.first_at for each in found} == {NOON}
