"""Structures of records become paths, whose names are shown only if they are plain words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ometria_replica.field_paths import MOST_NAMES, MOST_PATHS, FieldPaths, is_shown
from ometria_replica.warehouse.engines.postgres_json import storable
from tests.duck import connected

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def paths(*records: str) -> dict[str, tuple[int, list[str]]]:
    """Give the fields of *records* as DuckDB sees them: how many have each, and its types."""
    found = FieldPaths()
    with connected() as connection:
        for record in records:
            ((structure,),) = connection.execute(
                "SELECT json_structure($1)::VARCHAR", [record]
            ).fetchall()
            found.add(structure)
    return {each.path: (each.records, sorted(each.types)) for each in found}


def test_a_path_names_objects_and_arrays_on_the_way() -> None:
    assert paths(
        '{"id": "1", "stats": {"orders": 1}, "identities": [{"type": "a"}, {"type": 1}]}',
        '{"id": 2, "stats": {}, "identities": [], "tags": [["x"], null], "none": null}',
    ) == {
        "id": (2, ["number", "string"]),
        "stats": (2, ["object"]),
        "stats.orders": (1, ["number"]),
        "identities": (2, ["array"]),
        "identities[]": (1, ["object"]),
        "identities[].type": (1, ["mixed"]),
        "tags": (1, ["array"]),
        "tags[]": (1, ["array"]),
        "tags[][]": (1, ["string"]),
        "none": (1, []),
    }


def test_names_that_may_be_ids_or_addresses_are_not_shown() -> None:
    """All of an object are one path, which counts each record once."""
    record = json.dumps({"ann@example.com": 1, "20260302": {"a": 1}, "é": 1, "f0e1d2c3b4a59687": 2})
    assert [*paths(record).items()] == [
        ("*", (1, ["number", "object"])),
        ("*.a", (1, ["number"])),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        *((name, True) for name in ("stats", "@type", "first name", "event.id", "loyalty_v2")),
        *((name, False) for name in ("", "a@b.example", "x" * 41, "order 12345", "1", "a\nb")),
    ],
)
def test_a_name_is_shown_if_it_is_a_short_plain_word(name: str, shown: bool) -> None:
    assert is_shown(name) is shown


def test_a_dictionary_has_no_more_names_than_an_object() -> None:
    """Also if they come in several batches, or runs."""
    first = FieldPaths()
    for number in range(3 * MOST_NAMES):
        first.add(json.dumps({"by_shop": {f"shop_{number % 997}x": "VARCHAR"}}))
    again = FieldPaths.knowing(each.path for each in first)
    again.add('{"by_shop": {"another": "VARCHAR"}}')

    assert first.is_cut
    assert sum(each.path.startswith("by_shop.") for each in first) == MOST_NAMES + 1
    assert [each.path for each in again] == ["by_shop", "by_shop.*"]


def test_a_table_has_no_more_paths_than_can_be_read() -> None:
    found = FieldPaths()
    for number in range(MOST_PATHS):
        found.add(json.dumps({f"a{number % 30}": {f"b{number}x": "BOOLEAN"}}))
    assert found.is_cut
    assert len(list(found)) == MOST_PATHS


def test_a_record_that_is_nested_too_deeply_is_counted_all_the_same() -> None:
    found = FieldPaths()
    found.add('{"a":' * 5_000 + '"VARCHAR"' + "}" * 5_000)
    assert (found.records, found.is_cut, list(found)) == (1, True, [])


def test_a_name_with_a_full_stop_is_quoted() -> None:
    assert [*paths('{"a.b": {"c": 1}}')] == ['"a.b"', '"a.b".c']
    known = FieldPaths.knowing(['"a.b"', '"a.b".c', "x.y"])
    assert known._names == {"": {"a.b"}, '"a.b"': {"c"}, "x": {"y"}}


def test_the_first_and_the_last_time_are_kept() -> None:
    found = FieldPaths()
    for hours in (2, 0, 1):
        found.add(
            '{"a": "VARCHAR"}', 2, NOON + timedelta(hours=hours), NOON + timedelta(hours=hours)
        )
    (only,) = found
    assert (only.records, only.first_at, only.last_at) == (6, NOON, NOON + timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"a": 1.10, "b": 1e400, "c": -0.0}', None),
        ('{"a": 1e131071, "b": 1e-16383}', None),
        ('{"a": 1e131072}', '{"a": "1e131072"}'),
        ('{"a": [-1E-16384, 1e9999999999]}', '{"a": ["-1E-16384", "1e9999999999"]}'),
        ('{"a": NaN, "b": -Infinity}', '{"a": "NaN", "b": "-Infinity"}'),
        (
            r'{"a\u0000": "\\u0000 \u0000 1e999999 NaN"}',
            r'{"a\u2400": "\\u0000 \u2400 1e999999 NaN"}',
        ),
    ],
)
def test_what_a_jsonb_cannot_hold_is_written_as_a_text(text: str, fits: str | None) -> None:
    assert storable(text) == (fits or text)
