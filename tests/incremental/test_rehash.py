"""Rows that were loaded before a column was excluded or hashed are rewritten by `rehash`."""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Literal

import pytest

from ometria_replica import failpoints
from ometria_replica.config import Config, Secret, WarehouseSettings
from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.rehashing import rehash
from tests.duck import read_file
from tests.incremental.shops import DAY, NOON, account, replicate
from tests.replicas import everything, write_feed_file

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_simulator import Account, Server

AT = NOON - DAY
FORMS = (
    "2026-02-27T08:00:00Z",
    "2026-02-27 08:00:01.250000+00:00",
    "2026-02-27T09:00:02+01:00",
    "2026/02/27 08:00:03 UTC",
    "1772179204",
    "2026-02-27 08:00:05.5",
    "2026-02-27",
)
"""Forms of times, each in the key of an event."""


def shop_of_everything(shop: Account, feed: Path) -> None:
    """Add a row to each table, with addresses in several places, also where none belongs."""
    shop.update_profile("cat", date_of_birth="cat@example.com")
    shop.add_change("20", "ann", "list_enter", at=AT)
    shop.add_unsubscribe("cat", "link_unsubscribe", email_address="Cat@example.com ", at=AT)
    events: list[dict[str, object]] = [
        {
            "to_address": "Ann@example.com",
            "event_type": "click",
            "dt_occurred": form,
            "target_url": "https://example.com/?to=ann%40example.com&page=1",
            "reason": "ann@example.com is full",
        }
        for form in FORMS
    ]
    odd: list[dict[str, object]] = [
        {"event_type": "open", "target_url": "?ann@example.com"},
        {**events[0], "uuid": 7},
    ]
    write_feed_file(feed, "f.jsonl", AT, [*events, *odd])
    same = {**events[0], "to_address": " ANN@example.com"}  # With a key of its own before.
    write_feed_file(feed, "g.jsonl", AT + timedelta(minutes=1), [same])


def private(
    settings: AccountSettings, *hashed: str, exclude: tuple[str, ...] = ()
) -> AccountSettings:
    """Let the account hash and exclude columns."""
    secret = Secret("a secret that is long enough", "the test")
    return replace(settings, hash=hashed, exclude=exclude, hash_key=secret)


def rehashed(warehouse: Path, settings: AccountSettings, *, reload: bool = False) -> dict[str, int]:
    """Rehash the file *warehouse*; return the number of rows by table."""
    url = WarehouseSettings(url=f"duckdb:///{warehouse}")
    found = rehash(Config((settings,), url), clock=lambda: NOON, reload=reload)
    return {each.table: each.rows for each in found}


@pytest.mark.parametrize(
    "treatments",
    [
        (("*.email",), ()),
        pytest.param(
            (("*.profile_id", "profiles.customer_id"), ("*.email", "profiles.date_of_birth")),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_rewritten_rows_are_those_that_a_new_load_makes(
    shop: Account,
    server: Server,
    warehouse: Path,
    tmp_path: Path,
    treatments: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    """Keys too, whatever the form of a time in them; and later syncs go on from there."""
    feed = tmp_path / "feed"
    shop_of_everything(shop, feed)
    plain = account(server, feed)
    hashed, excluded = treatments
    settings = private(plain, *hashed, exclude=excluded)
    replicate(warehouse, plain, at=NOON)

    with pytest.raises(ConfigError, match="ometria-replica rehash"):
        replicate(warehouse, settings, at=NOON)
    rehashed(warehouse, settings)

    fresh = tmp_path / "fresh.duckdb"
    replicate(fresh, settings, at=NOON)
    assert everything(warehouse) == everything(fresh)
    report = replicate(warehouse, settings, at=NOON + timedelta(minutes=5), full=True)
    assert report.changed == 0
    assert everything(warehouse) == everything(fresh)
    for file in (warehouse, fresh):
        rejects = read_file(file, "ometria_replica.rejects", order="reject_id")
        assert "example.com" not in str(rejects)


def test_a_column_that_needs_no_secret_is_rewritten_in_an_account_that_has_one(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """Its values go, and keys stay as they were."""
    shop.update_profile("ann", date_of_birth="1990-05-01")
    plain = account(server)
    replicate(warehouse, plain, at=NOON, tables=["profiles"])
    before = everything(warehouse)["profiles"]

    rehashed(warehouse, private(plain, exclude=("profiles.date_of_birth",)))

    after = everything(warehouse)["profiles"]
    assert any(row["date_of_birth"] for row in before)
    assert after == [{**row, "date_of_birth": None} for row in before]


def test_what_cannot_be_rewritten_is_refused_or_read_again(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """A pseudonym does not become an address: nothing changes, unless the rows may be removed."""
    feed = tmp_path / "feed"
    shop_of_everything(shop, feed)
    plain = account(server, feed)
    replicate(warehouse, private(plain, "*.email"), at=NOON)
    before = everything(warehouse)

    with pytest.raises(ConfigError, match=r"profiles of 'uk' cannot be rewritten.*--reload"):
        rehashed(warehouse, plain)
    assert everything(warehouse) == before
    rehashed(warehouse, plain, reload=True)
    replicate(warehouse, plain, at=NOON + timedelta(minutes=5))

    fresh = tmp_path / "fresh.duckdb"
    replicate(fresh, plain, at=NOON)
    assert everything(warehouse) == everything(fresh)


def test_a_key_of_texts_that_are_not_stored_is_told(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """A row whose time did not convert has a key that nobody can make again."""
    feed = tmp_path / "feed"
    event = {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "at noon"}
    write_feed_file(feed, "f.jsonl", AT, [event])
    plain = account(server, feed)
    replicate(warehouse, plain, at=NOON, tables=["email_events"])

    with pytest.raises(ConfigError, match="the keys of 1 of 1 rows are made of texts that are not"):
        rehashed(warehouse, private(plain, "*.email"))


@pytest.mark.parametrize(
    ("deletes", "reload"), [("report", False), pytest.param("remove", True, marks=pytest.mark.slow)]
)
def test_ids_of_deleted_profiles_are_hashed_too(
    shop: Account,
    server: Server,
    warehouse: Path,
    deletes: Literal["report", "remove"],
    reload: bool,
) -> None:
    """As a sync with the settings notes them: a profile that comes back is not deleted."""
    plain = replace(account(server), deletes=deletes, max_deleted_share=1)
    replicate(warehouse, plain, at=NOON, tables=["profiles"])
    shop.delete_profile("ann")
    replicate(warehouse, plain, at=NOON + DAY, detect_deletes=True, tables=["profiles"])
    settings = private(plain, "profiles.profile_id")

    if reload:  # Another secret cannot be had otherwise.
        rehashed(warehouse, private(plain, "profiles.customer_id"))
        other = Secret("another secret, as long as that", "the test")
        settings = replace(settings, hash_key=other)
    rehashed(warehouse, settings, reload=reload)

    (deleted,) = read_file(warehouse, "ometria_replica.deleted_upstream")
    assert settings.hash_key is not None
    key = settings.hash_key.reveal().encode()
    pseudonym = hmac.digest(key, b"ann", "sha256").hex()
    assert deleted["record_id"] == pseudonym
    assert deleted["sync_key"] == md5(f"uk{pseudonym}".encode(), usedforsecurity=False).hexdigest()
    shop.add_profile(id="ann")
    replicate(warehouse, settings, at=NOON + 2 * DAY, full=True, tables=["profiles"])
    assert read_file(warehouse, "ometria_replica.deleted_upstream") == []


def test_what_an_interrupted_rehash_left_in_the_file_is_removed_by_the_next(
    shop: Account, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows were committed, so that none has to be rewritten."""
    shop.add_profile(id="dora", email="dora@example.com")
    plain = account(server)
    replicate(warehouse, plain, at=NOON, tables=["profiles"])
    settings = private(plain, "*.email")

    def fail(name: str) -> None:
        if name == "before rewrite":
            raise WarehouseError("the test ends it here")

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "_listeners", [fail])
        with pytest.raises(WarehouseError):
            rehashed(warehouse, settings)
    assert b"dora@example.com" in warehouse.read_bytes()

    assert rehashed(warehouse, settings) == {}
    assert b"dora@example.com" not in warehouse.read_bytes()
