"""The history of profiles and lists, through syncs, erasures and changed settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.config import Config, Secret, WarehouseSettings
from ometria_replica.describe import describe
from ometria_replica.doctor.run import check
from ometria_replica.erasing import erase, find, ids_of, read_held
from ometria_replica.errors import ConfigError
from ometria_replica.rehashing import rehash
from ometria_replica.state_commands import replay, rewind
from tests.docs.pages import DOCS, blocks
from tests.duck import opened, read_file
from tests.incremental.shops import DAY, NOON, account, config, replicate, state
from tests.postgres import postgres
from tests.replicas import everything, of
from tests.warehouses.histories import refute

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_simulator import Account, Server
    from tests.duck import Row

BOTH = ("profiles", "lists")
TABLES: dict[str, Any] = {"tables": BOTH}


def keeping(server: Server, **more: Any) -> AccountSettings:
    """Give the settings of an account that keeps the history of both tables."""
    return account(server, history=BOTH, **more)


def versions(warehouse: Path, table: str = "profiles", **wanted: object) -> list[Row]:
    """Read the versions with *wanted* values, the oldest first."""
    found = read_file(warehouse, f"ometria_history.{table}", order="valid_from, __sync_key")
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def wrong(warehouse: Path) -> list[str]:
    """List what is wrong with the histories beside their tables."""
    deleted = [row["sync_key"] for row in state(warehouse, "deleted_upstream")]
    tables = everything(warehouse, load_time=True)
    return [
        each for name in BOTH for each in refute(versions(warehouse, name), tables[name], deleted)
    ]


def test_a_sync_keeps_every_version(shop: Account, server: Server, warehouse: Path) -> None:
    """Of what has changed, was deleted and came back; a repetition makes none."""
    settings = keeping(server)
    replicate(warehouse, settings, at=NOON, **TABLES)
    shop.set_time(NOON + DAY)
    shop.update_profile("ann", firstname="Anna")
    report = replicate(warehouse, settings, at=NOON + DAY, **TABLES)
    assert (of(report, "profiles").versions_opened, of(report, "profiles").versions_closed) == (
        1,
        1,
    )
    assert "profiles: 1 version began in the history, and 1 ended." in report.to_text()
    shop.set_time(NOON + 2 * DAY)
    shop.delete_profile("bob")
    replicate(warehouse, settings, at=NOON + 2 * DAY, detect_deletes=True, **TABLES)
    replicate(warehouse, settings, at=NOON + 3 * DAY, full=True, **TABLES)
    rewind(config(warehouse, settings), ["profiles"], None)
    last = replicate(warehouse, settings, at=NOON + 4 * DAY, since=NOON.date(), **TABLES)

    first, second = versions(warehouse, profile_id="ann")
    assert (first["valid_from"], first["valid_to"]) == (NOON, NOON + DAY)
    assert (second["first_name"], second["valid_to"]) == ("Anna", None)
    bob = versions(warehouse, profile_id="bob")
    assert [(row["is_deleted"], row["valid_from"], row["valid_to"]) for row in bob] == [
        (False, NOON, NOON + 2 * DAY), (True, NOON + 2 * DAY, None),
    ]  # fmt: skip
    assert of(last, "profiles").versions_opened == 0
    assert wrong(warehouse) == []


def test_a_history_that_is_switched_on_begins_with_the_rows(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Each since its load; a dry run begins none."""
    replicate(warehouse, account(server), at=NOON, **TABLES)
    shop.set_time(NOON + DAY)
    shop.update_profile("ann", firstname="Anna")
    replicate(warehouse, keeping(server), at=NOON + DAY, dry_run=True, **TABLES)
    report = replicate(warehouse, keeping(server), at=NOON + DAY, **TABLES)

    assert of(report, "profiles").versions_opened == 4
    assert {row["valid_from"] for row in versions(warehouse)} == {NOON, NOON + DAY}
    assert [row["valid_to"] for row in versions(warehouse, profile_id="ann")] == [NOON + DAY, None]
    assert wrong(warehouse) == []


def test_the_profile_as_of_a_day_is_one_statement(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """That of the documentation, with another day."""
    (block,) = [b for b in blocks("sql") if b.page == DOCS / "how-to" / "history.md"
                and "WHERE valid_from <=" in b.text]  # fmt: skip
    settings = keeping(server)
    replicate(warehouse, settings, at=NOON, **TABLES)
    shop.set_time(NOON + DAY)
    shop.update_profile("ann", country="FR")
    shop.delete_profile("bob")
    replicate(warehouse, settings, at=NOON + DAY, full=True, **TABLES)

    countries = []
    for moment in (NOON, NOON + DAY - timedelta(microseconds=1), NOON + DAY):
        with opened(warehouse) as connection:
            statement = block.text.replace("2026-07-01 00:00:00+00", moment.isoformat())
            found = connection.execute(statement).fetchall()
        countries.append({row[0]: row[2] for row in found})
    assert countries[0] == countries[1]
    assert countries[0].keys() == {"ann", "bob", "cat"}
    assert countries[2].keys() == {"ann", "cat"}
    assert countries[2]["ann"] == "FR"
    assert countries[0]["ann"] != "FR"


def test_an_event_table_has_no_history(server: Server, warehouse: Path) -> None:
    """It is refused before anything is contacted, as a name that is none."""
    with pytest.raises(ConfigError, match="email_events holds events, which never change"):
        replicate(warehouse, account(server, history=("email_events",)), at=NOON)
    with pytest.raises(ConfigError, match=r"no table 'profile'.*profiles"):
        replicate(warehouse, account(server, history=("profile",)), at=NOON)
    on = account(server, tables=("profiles", "profile_tags"), history=("profile_tags",))
    with pytest.raises(ConfigError, match="profile_tags has no history of its own"):
        replicate(warehouse, on, at=NOON)
    assert not warehouse.exists()


def test_a_history_is_described_by_its_full_name() -> None:
    """Its SQL has the key of a version, and each of its columns a meaning."""
    text = describe(["ometria_history.lists"], "text")
    assert "Null: the version holds." in text
    statements = describe(["ometria_history.lists"], "sql", warehouse="postgresql")
    assert 'PRIMARY KEY ("__source_id", "__sync_key", "valid_from")' in statements
    with pytest.raises(ConfigError, match="no table"):
        describe(["ometria_history.email_events"], "text")


@pytest.mark.slow
def test_a_check_tries_the_history_too(tmp_path: Path, server: Server) -> None:
    """In a transaction that is rolled back: nothing is left, and a refusal would be found."""
    database = postgres().new_database()
    settings = Config((keeping(server),), WarehouseSettings(url=postgres().url(database)))

    assert [finding.error for finding in check(settings) if finding.error] == []
    assert postgres().rows("SELECT 1 FROM pg_tables WHERE schemaname LIKE 'ometria%'",
                           database=database) == []  # fmt: skip
    postgres().run(
        "CREATE SCHEMA ometria_history",
        describe(["ometria_history.lists"], "sql", warehouse="postgresql").split(";")[1],
        "CREATE FUNCTION no() RETURNS trigger AS 'BEGIN RETURN NULL; END' LANGUAGE plpgsql",
        "CREATE TRIGGER no BEFORE INSERT ON ometria_history.lists"
        " FOR EACH ROW EXECUTE FUNCTION no()",
        database=database,
    )
    (error,) = [finding.error for finding in check(settings) if finding.error]
    assert "ometria_history.lists" in str(error)
    postgres().drop(database)


def test_an_erasure_removes_all_versions_of_a_person(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Found by an address of the past, counted and exported; the history of others stays."""
    settings = keeping(server)
    replicate(warehouse, settings, at=NOON, **TABLES)
    shop.set_time(NOON + DAY)
    shop.update_profile("ann", email="new@example.com")
    replicate(warehouse, settings, at=NOON + DAY, **TABLES)
    ids, settings_of = ids_of(["ANN@example.com"]), config(warehouse, account(server))

    (found,) = find(settings_of, ids)
    assert found.rows["ometria_history.profiles"] == 2
    held = read_held(settings_of, ids)["uk"]
    assert [row["email"] for row in held["ometria_history.profiles"]] == [
        "ann@example.com", "new@example.com",
    ]  # fmt: skip
    (receipt,) = erase(settings_of, ids, blank=True, clock=lambda: NOON + DAY)

    assert receipt.rows["ometria_history.profiles"] == 2
    assert {row["profile_id"] for row in versions(warehouse)} == {"bob", "cat"}
    replicate(warehouse, settings, at=NOON + 2 * DAY, full=True, **TABLES)
    assert wrong(warehouse) == []


@pytest.mark.slow
def test_versions_of_a_replaced_address_go(shop: Account, server: Server, warehouse: Path) -> None:
    """All of the profile that Ometria has erased, and those of others that had the address."""
    settings = keeping(server, follow_erasures=True)
    shop.update_profile("cat", email="ann@example.com")
    replicate(warehouse, settings, at=NOON, **TABLES)
    shop.set_time(NOON + DAY)
    shop.update_profile("cat", email="cat@example.com")
    replicate(warehouse, settings, at=NOON + DAY, **TABLES)
    shop.set_time(NOON + 2 * DAY)
    shop.anonymise_profile("ann")
    report = replicate(warehouse, settings, at=NOON + 2 * DAY, **TABLES)

    assert of(report, "profiles").erased == 1
    assert "ann@example.com" not in str(versions(warehouse))
    assert [row["valid_from"] for row in versions(warehouse, profile_id="ann")] == [NOON + 2 * DAY]
    assert [row["valid_from"] for row in versions(warehouse, profile_id="cat")] == [NOON + DAY]
    assert wrong(warehouse) == []


def test_versions_are_rewritten_as_rows_are(shop: Account, server: Server, warehouse: Path) -> None:
    """With the keys of the rows; two that differed in an excluded value only are one."""
    settings = keeping(server)
    changes: list[dict[str, Any]] = [{}, {"phone_number": "1"}, {"firstname": "Anna"}]
    for days, changed in enumerate(changes):
        shop.set_time(NOON + days * DAY)
        shop.update_profile("ann", **changed)
        replicate(warehouse, settings, at=NOON + days * DAY, **TABLES)
    assert len(versions(warehouse, profile_id="ann")) == 3

    private = replace(
        settings,
        exclude=("profiles.phone_number",),
        hash=("*.profile_id", "*.email"),
        hash_key=Secret("a secret that is long enough", "the test"),
    )
    rehash(config(warehouse, private), clock=lambda: NOON + 3 * DAY)

    assert wrong(warehouse) == []
    (ann,) = [row for row in everything(warehouse)["profiles"] if row["first_name"] == "Anna"]
    mine = versions(warehouse, profile_id=ann["profile_id"])
    assert [(row["valid_from"], row["valid_to"]) for row in mine] == [
        (NOON, NOON + 2 * DAY), (NOON + 2 * DAY, None),
    ]  # fmt: skip
    assert "example.com" not in str(versions(warehouse))
    report = replicate(warehouse, private, at=NOON + 3 * DAY, full=True, **TABLES)
    assert of(report, "profiles").versions_opened == 0
    assert wrong(warehouse) == []


def test_a_value_that_converts_later_is_filled_into_the_version_too(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """So that the next read makes no version of it."""
    settings = keeping(server)
    shop.update_profile("ann", date_of_birth="1984-02-29")
    replicate(warehouse, settings, at=NOON, **TABLES)
    with opened(warehouse, read_only=False) as connection:
        for schema in ("ometria", "ometria_history"):
            connection.execute(f"UPDATE {schema}.profiles SET date_of_birth = NULL")
        connection.execute(
            "INSERT INTO ometria_replica.rejects SELECT 'r', __source_id, 'profiles', __sync_key,"
            " 'date_of_birth', '1984-02-29', 'not a date', 'GET /profiles', 1, __synced_at, 'x'"
            " FROM ometria.profiles WHERE profile_id = 'ann'"
        )

    replay(config(warehouse, settings))

    assert versions(warehouse, profile_id="ann")[0]["date_of_birth"] is not None
    assert wrong(warehouse) == []
