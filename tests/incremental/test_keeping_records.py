"""The records as they came, from the first sync to the erasure of a person."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.config import Retention, Secret
from ometria_replica.describe import describe
from ometria_replica.erasing import erase, find, ids_of, read_held
from ometria_replica.errors import ConfigError
from ometria_replica.fields import read_fields
from ometria_replica.rehashing import rehash
from tests.duck import read_file
from tests.incremental.shops import DAY, HOUR, IN_A_HURRY, NOON, account, config, replicate, state
from tests.ometria.listener import KEY, Asked, Reply, listening
from tests.replicas import write_feed_file
from tests.unit.test_kept_records import json_is_valid, json_objects

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server

ALL: dict[str, Any] = {"keep_records": ("*",)}


def kept(warehouse: Path, table: str = "profiles") -> list[Any]:
    """Read the records of a table, parsed, in the order of their texts."""
    rows = read_file(warehouse, f"ometria_raw.{table}")
    assert {row["__sync_key"] for row in rows} == {
        row["__sync_key"] for row in read_file(warehouse, f"ometria.{table}")
    }
    return [json.loads(text) for text in sorted(row["record"] for row in rows)]


def ids(warehouse: Path) -> list[str]:
    """Read the ids in the records of profiles."""
    rows = read_file(warehouse, "ometria_raw.profiles")
    return sorted(json.loads(row["record"])["id"] for row in rows)


@settings(deadline=None)
@given(st.lists(json_objects(depth=2), min_size=1, max_size=5))
def test_what_the_api_answers_is_kept_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, objects: list[str]
) -> None:
    """Numbers in any spelling, names that repeat, escapes and spaces."""
    texts = [f'{{"id": "{number}",{text[1:]}' for number, text in enumerate(objects)]
    texts = [text for text in texts if json_is_valid(text)]
    warehouse = tmp_path_factory.mktemp("kept") / "w.duckdb"

    def answer(asked: Asked) -> Reply:
        page = texts[asked.offset : asked.offset + asked.limit]
        return Reply(f"[{' , '.join(page)}]".encode())

    with listening(answer) as listener:
        own = replace(account(**ALL), api_key=Secret(KEY, "the test"), api_url=listener.url)
        replicate(warehouse, own, at=NOON, tables=["profiles"])

    found = [row["record"] for row in read_file(warehouse, "ometria_raw.profiles")]
    assert sorted(found) == sorted(texts)


def test_a_record_changes_without_its_row(warehouse: Path, shop: Account, server: Server) -> None:
    """Its `stats` have no column, and are written all the same."""
    replicate(warehouse, account(server, **ALL), at=NOON)
    shop.update_profile("ann", stats={"orders": 7})
    report = replicate(warehouse, account(server, **ALL), at=NOON + DAY)
    assert sum(each.inserted for each in report.tables) == 0
    assert [each.get("stats") for each in kept(warehouse) if each["id"] == "ann"] == [{"orders": 7}]


def test_records_are_kept_of_the_listed_tables_only(warehouse: Path, server: Server) -> None:
    replicate(warehouse, account(server, keep_records=("lists",)), at=NOON)
    assert len(kept(warehouse, "lists")) == 2
    with pytest.raises(duckdb.CatalogException):
        read_file(warehouse, "ometria_raw.profiles")


def test_records_that_were_not_kept_come_with_a_full_read(warehouse: Path, server: Server) -> None:
    replicate(warehouse, account(server), at=NOON)
    report = replicate(warehouse, account(server, **ALL), at=NOON + HOUR, full=True)
    assert sum(each.inserted for each in report.tables) == 0
    assert len(kept(warehouse)) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"keep_records": ("profile",)}, "there is no table 'profile'; did you mean profiles?"),
        (
            {
                "keep_records": ("*",),
                "hash": ("*.email",),
                "hash_key": Secret("a secret of the test", "the test"),
            },
            'Keep the records of other tables only: keep_records = ["lists"].',
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(
    setting: dict[str, Any], message: str, warehouse: Path, server: Server
) -> None:
    """An unknown table, and one whose records hold what is hashed."""
    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, account(server, **setting), at=NOON)
    assert message in str(refused.value)
    assert not warehouse.exists()


# --- fields ------------------------------------------------------------------------------------


def test_fields_that_appear_vanish_or_change_are_warned_of(
    warehouse: Path, shop: Account, server: Server
) -> None:
    for number in range(12):
        shop.add_profile(f"p{number}", stats={"orders": 1}, tags=["a"])
    own = account(server, **ALL)
    assert replicate(warehouse, own, at=NOON, full=True).warnings == ()
    assert replicate(warehouse, own, at=NOON + HOUR, full=True).warnings == ()

    for number in range(12):
        shop.update_profile(f"p{number}", stats={"orders": "one", "spent": 1.5})
    shop.update_profile("ann", **{"bob@example.com": 1})  # A name that must not be told.
    report = replicate(warehouse, own, at=NOON + 2 * HOUR, full=True)
    assert report.warnings == (
        "profiles: fields that no record had before: * (number), stats.spent (number).",
        "profiles: fields of another type than before: stats.orders (was number, and is string).",
    )

    for number in range(12):
        shop.update_profile(f"p{number}", stats=None)
    report = replicate(warehouse, own, at=NOON + 3 * HOUR, full=True)
    gone = "fields that most records had before, and none has now: stats.orders, stats.spent."
    assert report.warnings == (f"profiles: {gone}",)
    assert replicate(warehouse, own, at=NOON + 4 * HOUR, full=True).warnings == ()
    assert b"bob@example.com" not in json.dumps(state(warehouse, "fields"), default=str).encode()


def test_a_new_column_of_the_export_is_warned_of(warehouse: Path, tmp_path: Path) -> None:
    event = {"to_address": "a@b.example", "dt_occurred": NOON.isoformat(), "event_type": "open"}
    feed = tmp_path / "feed"
    feed.mkdir()
    write_feed_file(feed, "1.jsonl", NOON - DAY, [event])
    own = account(folder=feed, **ALL)
    assert replicate(warehouse, own, at=NOON).warnings == ()
    (feed / "2.csv").write_text(
        "to_address,dt_occurred,event_type,Wave\nb@c.example,2026-03-01,o,x\n"
    )
    report = replicate(warehouse, own, at=NOON + 2 * DAY)
    assert report.warnings == ("email_events: fields that no record had before: Wave (string).",)
    assert [each.get("Wave") for each in kept(warehouse, "email_events")] == [None, "x"]


def test_the_fields_are_listed_with_their_columns(
    warehouse: Path, shop: Account, server: Server
) -> None:
    shop.update_profile("ann", identities=[{"type": "email"}, {"type": 1}], dates={"acquired": "x"})
    own = account(server, **ALL)
    replicate(warehouse, own, at=NOON)
    (found,) = read_fields(config(warehouse, own), ["profiles"])
    assert (found.source_id, found.table, found.records) == ("uk", "profiles", 3)
    fields = {field.path: (field.records, sorted(field.types), c) for field, c in found.fields}
    assert fields["id"] == (3, ["string"], "profile_id")
    assert fields["identities[].type"] == (1, ["mixed"], None)
    assert fields["dates.acquired"] == (1, ["string"], None)
    assert {each.first_at for each, _ in found.fields} == {NOON}


def test_without_records_there_are_no_fields(warehouse: Path, server: Server) -> None:
    replicate(warehouse, account(server), at=NOON)
    assert read_fields(config(warehouse, account(server))) == []


# --- people ------------------------------------------------------------------------------------


def test_an_erasure_leaves_no_byte_of_the_records(
    warehouse: Path, shop: Account, server: Server
) -> None:
    """Neither of the person's own records, nor of one that quotes an address of the person."""
    shop.update_profile("ann", stats={"nickname": "canary of ann"})
    shop.update_profile("bob", properties={"friend": "ANN@example.com", "note": "of bob"})
    own = account(server, **ALL)
    replicate(warehouse, own, at=NOON)
    ann = ids_of(["ann@example.com"])
    (held,) = read_held(config(warehouse, own), ann).values()
    assert len(held["ometria_raw.profiles"]) == 2  # With the record that quotes the address.
    assert find(config(warehouse, own), ann)[0].rows["ometria_raw.member_lists"] == 1

    erase(config(warehouse, own), ann, clock=lambda: NOON + HOUR)

    assert ids(warehouse) == ["cat"]
    content = warehouse.read_bytes().lower()
    assert b"ann@example.com" not in content
    assert b"canary of ann" not in content
    report = replicate(warehouse, own, at=NOON + DAY, full=True)
    assert sum(each.inserted for each in report.tables) == 0
    assert "ann" not in ids(warehouse)


def test_blanked_events_lose_their_records(warehouse: Path, shop: Account, server: Server) -> None:
    own = account(server, **ALL)
    replicate(warehouse, own, at=NOON)
    bob = ids_of(["bob@example.com"])
    erase(config(warehouse, own), bob, blank=True, clock=lambda: NOON + HOUR)
    assert len(read_file(warehouse, "ometria.unsubscribes")) == 1
    assert read_file(warehouse, "ometria_raw.unsubscribes") == []


def test_records_go_with_events_that_are_too_old(warehouse: Path, server: Server) -> None:
    own = account(server, **ALL)
    replicate(warehouse, own, at=NOON)
    assert len(kept(warehouse, "unsubscribes")) == 1
    short = replace(own, retain=(Retention("unsubscribes", 1, "day"),))
    replicate(warehouse, short, at=NOON + DAY)
    assert read_file(warehouse, "ometria_raw.unsubscribes") == []


def test_the_records_of_an_address_that_ometria_has_replaced_go(
    warehouse: Path, shop: Account, server: Server
) -> None:
    own = account(server, follow_erasures=True, keep_records=("profiles", "unsubscribes"))
    replicate(warehouse, own, at=NOON, catalog=IN_A_HURRY)
    shop.anonymise_profile("bob")
    replicate(warehouse, own, at=NOON + DAY, full=True, catalog=IN_A_HURRY)
    assert read_file(warehouse, "ometria_raw.unsubscribes") == []
    assert not any("bob@example.com" in json.dumps(each) for each in kept(warehouse))


def test_rehash_removes_records_that_were_kept_before(warehouse: Path, server: Server) -> None:
    replicate(warehouse, account(server, **ALL), at=NOON)
    secret = Secret("a secret of the test", "the test")
    hashed = account(server, hash=("*.email",), hash_key=secret)
    rehash(config(warehouse, hashed), clock=lambda: NOON + HOUR)
    assert read_file(warehouse, "ometria_raw.profiles") == []
    assert b"ann@example.com" not in warehouse.read_bytes()


def test_the_record_of_a_deleted_profile_goes_with_its_row(
    warehouse: Path, shop: Account, server: Server
) -> None:
    own = account(server, deletes="remove", max_deleted_share=1.0, **ALL)
    replicate(warehouse, own, at=NOON)
    shop.delete_profile("cat")
    replicate(warehouse, own, at=NOON + DAY, full=True)
    assert [each["id"] for each in kept(warehouse)] == ["ann", "bob"]


def test_a_dropped_table_of_records_is_made_again(warehouse: Path, server: Server) -> None:
    """With a warning: the rows are there, so that nothing is read again by itself."""
    own = account(server, **ALL)
    replicate(warehouse, own, at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("DROP TABLE ometria_raw.profiles")
    (warning,) = replicate(warehouse, own, at=NOON + HOUR).warnings
    assert warning.startswith("ometria_raw.profiles was missing, although records of uk were kept")
    replicate(warehouse, own, at=NOON + 2 * HOUR, full=True)
    assert len(kept(warehouse)) == 3


def test_the_tables_of_records_are_described() -> None:
    columns = {"__source_id", "__sync_key", "record", "__synced_at"}
    text = describe(["ometria_raw.profiles"], "text")
    words = [line.split() for line in text.splitlines() if not line.startswith(" ")]
    assert {line[0] for line in words if line} >= columns
    assert "jsonb" in describe(["ometria_raw"], "sql", warehouse="postgresql")
