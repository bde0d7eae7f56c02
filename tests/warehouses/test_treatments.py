"""How columns were treated when rows were loaded: another treatment is refused."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.accounts import owner_of
from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, Secret
from ometria_replica.errors import ConfigError
from ometria_replica.warehouse import open_warehouse
from tests.warehouses.loads import NOON, Load, rows, state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

KEY = "a secret of sixteen characters"
PROFILE = '{"id": "p1", "email": "bob@example.com", "phone_number": "+44 7700 900123"}'


def account(**settings: Any) -> AccountSettings:
    """Give an account that hashes addresses, unless *settings* say otherwise."""
    given = {"hash": ("*.email",), "hash_key": Secret(KEY, "the test"), **settings}
    return AccountSettings(account_id="1042", source_id="uk", **given)


@contextmanager
def prepared(place: Place, *, dry_run: bool = False, **settings: Any) -> Iterator[Warehouse]:
    """Open a warehouse for the account with *settings*."""
    with open_warehouse(place.url, dry_run=dry_run) as warehouse:
        warehouse.prepare(owner_of(account(**settings), CATALOG), NOON)
        yield warehouse


def load(place: Place, **settings: Any) -> None:
    """Load a profile as the account's settings want it."""
    table = CATALOG.for_account(account(**settings)).table("profiles")
    with prepared(place, **settings) as warehouse:
        Load(table, [PROFILE]).into(warehouse)


def test_another_treatment_of_rows_that_are_there_is_refused(place: Place) -> None:
    """In each direction, and with another secret; the message names neither secret nor value."""
    load(place)
    noted, there = state(place, "column_treatments"), rows(place, "profiles")

    for settings, said in (
        ({"hash": ()}, "profiles.email: "),
        ({"exclude": ("profiles.email",)}, "holds it hashed as an address for 'uk', and the"),
        ({"exclude": ("profiles.phone_number",)}, "profiles.phone_number: "),
        ({"hash_key": Secret("another secret, as long", "the test")}, "with one hash_key for"),
        ({"normalise": False}, "hashed as an address for 'uk', and the settings say hashed."),
    ):
        for dry_run in (False, True):
            with (
                pytest.raises(ConfigError) as refused,
                prepared(place, dry_run=dry_run, **settings),
            ):
                pass
            assert said in str(refused.value)
            assert "ometria-replica rehash" in str(refused.value)
            assert "secret" not in str(refused.value)

    load(place)  # As before: it is allowed.
    assert state(place, "column_treatments") == noted
    assert rows(place, "profiles") == there
    assert "bob@" not in str(there)
    assert KEY not in str(noted)


def test_a_table_without_rows_may_be_treated_otherwise(place: Place) -> None:
    """The new treatment is noted; another account's rows do not count."""
    load(place)
    changed: dict[str, Any] = {
        "hash": ("profiles.email",),
        "exclude": ("email_events.campaign_title",),
    }
    with prepared(place, **changed):
        pass
    noted = {
        (each["table_name"], each["column_name"]): each
        for each in state(place, "column_treatments")
    }
    assert set(noted) == {("profiles", "email"), ("email_events", "campaign_title")}
    assert noted["email_events", "campaign_title"]["treatment"] == "excluded"
    assert noted["email_events", "campaign_title"]["secret_check"] is None

    other = AccountSettings(account_id="2001", source_id="fr")
    with open_warehouse(place.url) as warehouse:
        warehouse.prepare(owner_of(other, CATALOG), NOON)
        Load(CATALOG.table("profiles"), [PROFILE], source_id="fr").into(warehouse)
    assert {row["email"] for row in rows(place, "profiles", "fr")} == {"bob@example.com"}
    assert {each["source_id"] for each in state(place, "column_treatments")} == {"uk"}
