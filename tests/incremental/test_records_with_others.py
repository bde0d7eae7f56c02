"""Kept records beside nested tables, histories, masked quotations, threads, and `verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.config import Secret
from ometria_replica.erasing import erase, ids_of
from ometria_replica.errors import ConfigError
from tests.duck import opened, read_file
from tests.incremental.shops import DAY, HOUR, IN_A_HURRY, NOON, account, config, replicate
from tests.incremental.test_keeping_records import ALL, kept
from tests.incremental.verifications import verified

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Account, Server

NESTED = ("profiles", "lists", "member_lists", "unsubscribes", "profile_tags")
SECRET = Secret("a secret of the test", "the test")


@pytest.fixture
def friends(shop: Account) -> Account:
    """Let the record of bob quote the address of ann in several ways, and that of joann."""
    link = "https://acme.example/?friend=ann%40example.com"
    text = "from\nann@example.com, joann@example.com"
    shop.update_profile("bob", properties={"friend": "ANN@example.com", "link": link, "note": text})
    shop.update_profile("ann", tags=["all", "vip"])
    return shop


def records(warehouse: Path) -> dict[str, Any]:
    return {each["id"]: each for each in kept(warehouse)}


@pytest.mark.usefixtures("friends")
def test_records_stand_beside_nested_tables_and_histories(warehouse: Path, server: Server) -> None:
    """The record of a table that is inside another is that of this one, which has the array."""
    own = account(server, tables=NESTED, history=("profiles",), **ALL)
    assert replicate(warehouse, own, at=NOON).warnings == ()
    with opened(warehouse) as connection:
        names = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_schema IN ('ometria_raw', 'ometria_history') ORDER BY ALL"
        ).fetchall()
    plain = sorted({*NESTED} - {"profile_tags"})
    assert names == [("ometria_history", "profiles"), *(("ometria_raw", name) for name in plain)]
    assert records(warehouse)["ann"]["tags"] == ["all", "vip"]
    assert len(read_file(warehouse, "ometria.profile_tags")) == 2
    assert len(read_file(warehouse, "ometria_history.profiles")) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"keep_records": ("profile_tags",)}, "inside the records of profiles. Name profiles."),
        (
            {"keep_records": ("profiles",), "hash": ("profile_tags.tag",), "hash_key": SECRET},
            "the records of profiles may hold values that the settings exclude or hash",
        ),
    ],
)
def test_records_that_another_table_has_are_refused(
    setting: dict[str, Any], message: str, warehouse: Path, server: Server
) -> None:
    """A nested table has none, and the record of its parent would hold what is hashed in it."""
    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, account(server, tables=NESTED, **setting), at=NOON)
    assert message in str(refused.value)


@pytest.mark.usefixtures("friends")
def test_a_record_that_is_loaded_later_has_no_address_of_an_erased_person(
    warehouse: Path, server: Server
) -> None:
    """However it is written within JSON. The address of another, which ends alike, stays."""
    own = account(server, tables=NESTED, history=("profiles",), **ALL)
    replicate(warehouse, own, at=NOON)
    ann = ids_of(["ann@example.com"])
    (receipt,) = erase(config(warehouse, own), ann, clock=lambda: NOON + HOUR)
    assert receipt.rows["ometria_raw.profiles"] == 2
    assert receipt.rows["ometria_history.profiles"] == 1

    replicate(warehouse, own, at=NOON + DAY, full=True)

    assert sorted(records(warehouse)) == ["bob", "cat"]
    assert records(warehouse)["bob"]["properties"] == {
        "friend": "[address]",
        "link": "https://acme.example/?friend=[address]",
        "note": "from\n[address], joann@example.com",
    }


@pytest.mark.usefixtures("friends")
def test_an_interrupted_erasure_is_taken_up_for_records(warehouse: Path, server: Server) -> None:
    """Then the addresses are known by their hashes only, and are found in the records."""
    own = account(server, tables=NESTED, hash_key=SECRET, **ALL)
    replicate(warehouse, own, at=NOON)
    erase(config(warehouse, own), ids_of(["ann@example.com"]), clock=lambda: NOON + HOUR)
    replicate(warehouse, own, at=NOON + DAY, full=True)
    bob = {**records(warehouse)["bob"], "properties": {"note": "x\nAnn@example.com"}}
    with opened(warehouse, read_only=False) as connection:
        connection.execute(
            "UPDATE ometria_raw.profiles SET record = ? WHERE record ->> '$.id' = 'bob'",
            [json.dumps(bob)],
        )
        connection.execute("UPDATE ometria_replica.erasures SET finished_at = NULL")

    erase(config(warehouse, own), ids_of(["cat@example.com"]), clock=lambda: NOON + 2 * DAY)

    assert read_file(warehouse, "ometria_raw.profiles") == []
    assert [row["profile_id"] for row in read_file(warehouse, "ometria.profiles")] == ["bob"]


@pytest.mark.slow
@pytest.mark.usefixtures("friends")
def test_a_repair_brings_the_record_with_the_row(warehouse: Path, server: Server) -> None:
    """And removes it with a row whose record is gone in Ometria; without it nothing is written."""
    own = account(server, tables=NESTED, deletes="remove", max_deleted_share=1.0, **ALL)
    replicate(warehouse, own, at=NOON)
    before = records(warehouse)
    with opened(warehouse, read_only=False) as connection:
        connection.execute("DELETE FROM ometria.profiles WHERE profile_id = 'ann'")
        connection.execute("DELETE FROM ometria_raw.profiles WHERE record ->> '$.id' = 'ann'")
        for schema in ("ometria", "ometria_raw"):  # A row of no record.
            connection.execute(
                f"INSERT INTO {schema}.profiles SELECT * REPLACE ('x' AS __sync_key)"
                f" FROM {schema}.profiles ORDER BY __sync_key LIMIT 1"
            )
    verified(warehouse, own)
    assert len(read_file(warehouse, "ometria_raw.profiles")) == 3

    verified(warehouse, own, repair=True)

    assert records(warehouse) == before
    assert len(read_file(warehouse, "ometria.profile_tags")) == 2


def test_a_repair_keeps_no_record_of_what_is_hashed(warehouse: Path, server: Server) -> None:
    hashing: dict[str, Any] = {"hash": ("*.email",), "hash_key": SECRET}
    replicate(warehouse, account(server, **hashing), at=NOON)
    with pytest.raises(ConfigError, match="the records of profiles may hold values"):
        verified(warehouse, account(server, **hashing, **ALL), repair=True)


def test_accounts_that_are_read_at_once_keep_their_own_records(
    warehouse: Path, server: Server
) -> None:
    """What is known of their fields is read and written by the thread that uses the warehouse."""
    both = [
        account(server, source_id="uk", **ALL),
        account(server, account_id="1043", source_id="de", keep_records=("profiles",)),
    ]
    for at in (NOON, NOON + DAY):
        report = replicate(warehouse, *both, at=at, full=True)
        assert report.warnings == ()
    rows = read_file(warehouse, "ometria_raw.profiles")
    assert sorted(row["__source_id"] for row in rows) == ["de"] * 3 + ["uk"] * 3
    fields = read_file(warehouse, "ometria_replica.fields")
    assert {(row["source_id"], row["table_name"]) for row in fields} >= {
        ("uk", "lists"), ("uk", "profiles"), ("de", "profiles"),
    }  # fmt: skip
    assert ("de", "lists") not in {(row["source_id"], row["table_name"]) for row in fields}


@pytest.mark.slow
def test_a_replaced_address_is_masked_where_the_new_record_still_has_it(
    warehouse: Path, shop: Account, server: Server
) -> None:
    """Ometria may leave it in a field that is not the address of the profile."""
    tables = (*NESTED, "hurry")
    own = account(server, tables=tables, follow_erasures=True, hash_key=SECRET, **ALL)
    replicate(warehouse, own, at=NOON, catalog=IN_A_HURRY)
    shop.anonymise_profile("bob")
    shop.update_profile("bob", properties={"contact": "Bob@example.com"})

    replicate(warehouse, own, at=NOON + DAY, full=True, catalog=IN_A_HURRY)

    assert records(warehouse)["bob"]["properties"] == {"contact": "[address]"}
    assert b"bob@example.com" not in warehouse.read_bytes().lower()
