"""What is removed for good from the tables is removed from the marts that dbt made of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ometria_replica.config import Secret
from ometria_replica.erasing import erase, ids_of
from ometria_replica.rehashing import rehash
from ometria_simulator import serve
from tests.duck import opened
from tests.incremental.shops import HOUR, NOON, config, replicate
from tests.pages_shown import settings_of, shop_with_everything, write_events

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import Config

MARTS = """
CREATE SCHEMA ometria_marts;
CREATE TABLE ometria_marts.profile_current AS
  SELECT __source_id AS source_id, profile_id, lower(email) AS email, first_name
  FROM ometria.profiles;
CREATE TABLE ometria_marts.email_sends AS
  SELECT __source_id AS source_id, send_id, ' ' || upper(email) || ' ' AS first_email,
    bounce_reason, event_type FROM ometria.email_events;
CREATE TABLE ometria_marts.of_my_own AS
  SELECT profile_id AS best_profile_id, 1 AS points FROM ometria.profiles;
CREATE TABLE ometria_marts.campaign_performance AS
  SELECT __source_id AS source_id, campaign_title, count(*) AS sends
  FROM ometria.email_events GROUP BY ALL;
CREATE VIEW ometria_marts.stg_ometria__profiles AS SELECT profile_id, email FROM ometria.profiles;
"""
TABLES = ("profile_current", "email_sends", "of_my_own", "campaign_performance")


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Replicate two accounts of one shop, and make marts as dbt does."""
    folder = tmp_path_factory.mktemp("replica")
    file = folder / "warehouse.duckdb"
    write_events(folder / "feed")
    with serve(shop_with_everything(), requests_per_second=None) as server:
        accounts = settings_of(server, folder / "feed")
        replicate(file, *accounts, at=NOON - HOUR)
    with opened(file, read_only=False) as connection:
        connection.execute(MARTS)
    return config(file, *accounts)


@pytest.fixture
def settings(replica: Config, tmp_path: Path) -> Config:
    """Give each test a copy of the file."""
    there = replica.warehouse.url.removeprefix("duckdb:///")
    shutil.copy(there, tmp_path / "warehouse.duckdb")
    return config(tmp_path / "warehouse.duckdb", *replica.accounts)


def counts(file: Path) -> dict[str, int]:
    """Count the rows of each mart."""
    with opened(file) as connection:
        return {
            name: connection.execute(f"SELECT count(*) FROM ometria_marts.{name}").fetchall()[0][0]
            for name in TABLES
        }


def test_who_is_erased_is_erased_from_the_marts(settings: Config, tmp_path: Path) -> None:
    """By each id, in the marts of one account alone, and no byte is left in the file."""
    file = tmp_path / "warehouse.duckdb"
    one = replace(settings, accounts=settings.accounts[:1])
    before = counts(file)

    (receipt,) = erase(one, ids_of(["planted3@example.com"]), clock=lambda: NOON)

    after = counts(file)
    assert {name: before[name] - after[name] for name in TABLES} == {
        "profile_current": 1,
        "email_sends": 1,  # Of event 3, whose address has another case and space around it.
        "of_my_own": 2,  # It does not say of which account a row is.
        "campaign_performance": 0,
    }
    assert receipt.rows["ometria_marts.profile_current"] == 1
    assert receipt.rows["ometria_marts.email_sends"] == 1
    assert "ometria_marts.campaign_performance" not in receipt.rows
    with opened(file) as connection:
        found = connection.execute(
            "SELECT source_id FROM ometria_marts.profile_current"
            " WHERE email = 'planted3@example.com'"
        ).fetchall()
    assert found == [("us",)]


def test_no_byte_of_a_mart_of_an_erased_person_is_left(settings: Config, tmp_path: Path) -> None:
    """Erased from both accounts, the address is nowhere in the file."""
    file = tmp_path / "warehouse.duckdb"
    assert b"PLANTED3@EXAMPLE.COM" in file.read_bytes().upper()

    erase(settings, ids_of(["planted3@example.com"]), clock=lambda: NOON)

    assert b"PLANTED3@EXAMPLE.COM" not in file.read_bytes().upper()


def test_an_address_in_a_text_of_another_person_is_masked_in_the_marts(
    settings: Config, tmp_path: Path
) -> None:
    """The reason of a bounce quotes an address, in the table and in its copy."""
    erase(settings, ids_of(["planted@example.com"]), clock=lambda: NOON)

    with opened(tmp_path / "warehouse.duckdb") as connection:
        reasons = connection.execute(
            "SELECT DISTINCT bounce_reason FROM ometria_marts.email_sends"
            " WHERE bounce_reason IS NOT NULL"
        ).fetchall()
    assert reasons == [("[address] is unknown",)]


def test_marts_hold_no_value_that_is_hashed_since(settings: Config, tmp_path: Path) -> None:
    """A rewrite of the rows empties the marts that may tell of people, of that account alone."""
    file = tmp_path / "warehouse.duckdb"
    secret = Secret("0123456789abcdef0123", "the test")
    first, second = settings.accounts
    hashed = replace(first, hash=("*.email",), hash_key=secret)
    before = counts(file)

    rehash(replace(settings, accounts=(hashed,)), clock=lambda: NOON)

    after = counts(file)
    assert after["profile_current"] == before["profile_current"] / 2
    assert after["email_sends"] == 0
    assert after["of_my_own"] == 0
    assert after["campaign_performance"] == before["campaign_performance"]
    assert second.source_id == "us"


def test_a_warehouse_without_marts_is_left_as_it_is(settings: Config, tmp_path: Path) -> None:
    """An erasure makes no schema for them, and its receipt does not name them."""
    file = tmp_path / "warehouse.duckdb"
    with opened(file, read_only=False) as connection:
        connection.execute("DROP SCHEMA ometria_marts CASCADE")

    receipts = erase(settings, ids_of(["planted3@example.com"]), clock=lambda: NOON)

    assert not [each for r in receipts for each in r.rows if each.startswith("ometria_marts")]
    with opened(file) as connection:
        schemas = connection.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()
    assert ("ometria_marts",) not in schemas
