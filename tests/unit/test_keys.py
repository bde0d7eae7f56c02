"""
Frozen keys: a changed hash would orphan every row that is already loaded.

The hashes come from ``md5sum`` over the text beside them, not from our code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet

from ometria_replica.records import Dialect
from ometria_replica.tables import EMAIL_EVENTS, LISTS, MEMBER_LISTS, PROFILES, UNSUBSCRIBES
from tests.unit.staged import file_of, stage_file, stage_records

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.schema import Table

# fmt: off
PROFILE_KEYS = [
    # source_id, the id as JSON, md5 of the two texts without a separator
    ("ometria-uk", '"2695-c473e2-4aaf58"', "f91ae95567feb8ab048dcb5b1a9b3b42"),
    ("uk", "12345678901234567890", "290a14ee1ee063b0ab77ca17530ec3c4"),
    ("uk", '"12345678901234567890"', "290a14ee1ee063b0ab77ca17530ec3c4"),
    ("uk", "1.10", "5f3a9aeaa06b614c3eb9897d45d555ff"),
    ("uk", "1e5", "22a7ee27dad123d152d9908b00015343"),
    ("uk", "-0.0", "db4155d0f1d60ea32f05e74e012942c0"),
    ("uk", "true", "c2898057e7d1aa89cc886aa562ef59b7"),
    ("uk", '{"b": 1.10, "a": [1, 2]}', "b0f8a9e3c77d69484b1e9701e4f7ad29"),
    ("o'neil & s\u00f8n", '" 19e53"', "b66dfc75f4a72c5c547028b820315a8b"),
    ("uk", '"  42 "', "5a2e3f1334f3a478df738374ea30d21e"),
    ("uk", '"m\\u00fcller-\u20ac-\\ud83d\\uded2"', "2beb62bc0e30512fe4fb67da38620cda"),
    ("uk", r'"a\u0000b"', "bbf297d46b15794802c0397c293ce2a9"),
    ("uk", r'"\ud83d"', "5a5701cf229779a9ee4e358338896db2"),  # A lone surrogate: U+FFFD.
]
CHANGE_KEYS = [
    # id of the list, the time or None where it is absent
    ('"1234"', '"2026-03-01T10:00:00+00:00"', "2ef5917dd7549dfb274be96cbb332192"),
    ("1234", '"2026-03-01T10:00:00+00:00"', "2ef5917dd7549dfb274be96cbb332192"),
    ("1234", None, "2b03d80a6f0cae062ebeea8e47ba49f3"),
    ("1234", "null", "2b03d80a6f0cae062ebeea8e47ba49f3"),
    ("1234", '""', "2b03d80a6f0cae062ebeea8e47ba49f3"),
    ("1234", "1.10", "55c43437b320a2c6aceef544009232bd"),
    ("1234", "1e5", "edff219c68744d04d6dde98474365c0f"),
    ("1234", "false", "3473fe24129f5bdb8ac08233272631d8"),
    ("9007199254740993", '"2026-03-01T10:00:00+00:00"', "d855097b94173eada97e9720db2c60e0"),
]
UNSUBSCRIBE_KEYS = [
    ('{"profile_id":"19e53-b37265-160","timestamp":"2017-05-17 22:08:07+00"}',
     "7866db747221c61ceedb78809791d040"),
    ('{"profile_id":null,"timestamp":"2017-05-17 22:08:07+00"}',
     "bebbd14b022571783f37c26c38029a24"),
    ('{"timestamp":"2017-05-17 22:08:07+00"}', "bebbd14b022571783f37c26c38029a24"),
    ('{"profile_id":"19e53-b37265-160"}', "e27bd3721fee448bcd914218fe263ba0"),
    ('{"profile_id":"19e53-b37265-160","timestamp":1495058887}',
     "3ba1039b6f4dddf2efd1ea518b15765b"),
]
EVENT_KEYS = [
    # to_address, event_type and dt_occurred as texts, None for a null
    (("ann@example.com", "open", "2026-03-01 10:00:00.123456+00"),
     "e5e929e879c9c9064a86a2e77efa51e4"),
    ((None, "open", "2026-03-01 10:00:00"), "99af52cad658896f685cb08d566e0314"),
    (("ann@example.com", None, None), "4cc4ca40a6cbc0610b12a971df848585"),
    ((" ann@example.com ", "click", "1772359200"), "81d9c4d8a20ba12049206e185d8d2c49"),
    (("m\u00fcller@example.com", "open", "2026-03-01"), "307fcf029f0eba443fe749f2da800ae5"),
    (('ann@example.com,"x"\n', "open", "2026-03-01"), "120289538c31b44bea4c8fc7f4fd9923"),
    (("a\0b@example.com", "open", "2026-03-01"), "76cf7448fecca6db0da0a3ab6a261234"),
    (("1.10", "open", "2026-03-01"), "d3f071177051069a74286155620c0ebb"),
]
# fmt: on
NAMES = ("to_address", "event_type", "dt_occurred")

Cells = tuple[str | None, str | None, str | None]
each_event = pytest.mark.parametrize(("cells", "expected"), EVENT_KEYS)


@pytest.mark.parametrize(("source_id", "profile_id", "expected"), PROFILE_KEYS)
@pytest.mark.parametrize("table", [PROFILES, LISTS], ids=lambda table: table.name)
def test_the_key_of_a_profile_or_list_is_source_and_id(
    table: Table, source_id: str, profile_id: str, expected: str
) -> None:
    """The key is the MD5 of the source id and the id with its exact text in the JSON."""
    staged = stage_records(table, f'{{"id": {profile_id}}}', source_id=source_id)

    assert staged.row["__sync_key"] == expected
    assert staged.row["__source_id"] == source_id


@pytest.mark.parametrize(("list_id", "timestamp", "expected"), CHANGE_KEYS)
def test_the_key_of_a_change_is_list_profile_and_time(
    list_id: str, timestamp: str | None, expected: str
) -> None:
    """The key is in two columns; a null, absent or empty time adds nothing to it."""
    time = "" if timestamp is None else f', "timestamp": {timestamp}'
    record = f'{{"id": {list_id}, "profile_id": "p-1", "event": "list_enter"{time}}}'

    staged = stage_records(MEMBER_LISTS, record)

    assert staged.row["__sync_key"] == expected
    assert staged.row["member_list_id"] == expected


@pytest.mark.parametrize(("record", "expected"), UNSUBSCRIBE_KEYS)
def test_the_key_of_an_unsubscribe_is_profile_and_time(record: str, expected: str) -> None:
    """The key is in two columns; either part can be missing."""
    staged = stage_records(UNSUBSCRIBES, record)

    assert staged.row["__sync_key"] == expected
    assert staged.row["unsubscribe_id"] == expected


@each_event
def test_the_key_of_an_event_from_csv_is_address_type_and_time(
    cells: Cells, expected: str, tmp_path: Path
) -> None:
    """The key contains the text of a CSV cell without its quoting."""
    lines = [",".join(NAMES), ",".join(_quoted(cell) for cell in cells)]
    content = "\n".join([*lines, ""]).encode()

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, Dialect("csv", columns=NAMES)))

    assert staged.row["__sync_key"] == expected
    assert staged.row["email_event_id"] == expected


@each_event
def test_an_event_from_json_has_the_same_key(cells: Cells, expected: str, tmp_path: Path) -> None:
    """The same texts in JSON Lines give the same key."""
    content = json.dumps(dict(zip(NAMES, cells, strict=True))).encode() + b"\n"

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, Dialect("json")))

    assert staged.row["__sync_key"] == expected
    assert staged.row["email_event_id"] == expected


@each_event
def test_an_event_from_parquet_has_the_same_key(
    cells: Cells, expected: str, tmp_path: Path
) -> None:
    """The same texts in Parquet give the same key."""
    columns = {name: pa.array([cell], pa.string()) for name, cell in zip(NAMES, cells, strict=True)}
    parquet.write_table(pa.table(columns), tmp_path / "made")
    content = (tmp_path / "made").read_bytes()

    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, content, Dialect("parquet", columns=NAMES)))

    assert staged.row["__sync_key"] == expected
    assert staged.row["email_event_id"] == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ('{"to_address":1.10,"event_type":"open","dt_occurred":"2026-03-01"}',
         "d3f071177051069a74286155620c0ebb"),
        ('{"to_address":12345678901234567890,"event_type":1e5,"dt_occurred":"2026-03-01"}',
         "b7baa30dd4a0f06c2d75b83c3857b1d1"),
        ('{"to_address":true,"event_type":"open","dt_occurred":"2026-03-01"}',
         "81a0af34e57c9549ba3769f3cf70b452"),
    ],
)  # fmt: skip
def test_a_json_number_enters_the_key_with_its_original_text(
    record: str, expected: str, tmp_path: Path
) -> None:
    """JSON numbers in a file keep their digits too: ``1.10`` is not ``1.1``."""
    staged = stage_file(EMAIL_EVENTS, file_of(tmp_path, f"{record}\n".encode(), Dialect("json")))

    assert staged.row["__sync_key"] == expected


def _quoted(cell: str | None) -> str:
    return "" if cell is None else '"' + cell.replace('"', '""') + '"'
