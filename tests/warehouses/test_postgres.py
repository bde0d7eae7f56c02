"""What only a server can do to a run: passwords, privileges, locks, lost connections."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from ometria_replica.errors import Busy, ConfigError, Unreachable, WarehouseError
from ometria_replica.tables import LISTS, PROFILES
from ometria_replica.warehouse import open_warehouse, postgres
from ometria_replica.warehouse.postgres import numbered
from ometria_replica.warehouse.state import Owner
from tests.places import PostgresPlace
from tests.pooler import pooled
from tests.postgres import GUARDED, PASSWORD
from tests.postgres import postgres as server
from tests.warehouses.loads import NOON, Load, a_lease, opened, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWNER = Owner("account of uk", "uk")


@pytest.fixture
def place() -> Iterator[PostgresPlace]:
    """Make a database."""
    made = PostgresPlace.new()
    yield made
    made.remove()


def refusal(url: str) -> WarehouseError:
    """Tell how a warehouse is refused."""
    with open_warehouse(url) as warehouse, pytest.raises(WarehouseError) as refused:
        warehouse.prepare(OWNER, NOON)
    return refused.value


# --- connections -------------------------------------------------------------------------------


def test_a_wrong_password_is_told_and_not_shown(place: PostgresPlace) -> None:
    """The message says whose it is and what to check, and holds no password."""
    wrong = refusal(server().url(place.database, GUARDED, f"not {PASSWORD}"))

    assert "refused the password" in str(wrong)
    assert PASSWORD not in str(wrong)
    assert f"{GUARDED}:***@" in str(wrong)
    assert wrong.exit_code == 5


# --- statements --------------------------------------------------------------------------------


def test_places_are_numbered_outside_of_quotes() -> None:
    """A question mark in a text or a name is none of ours."""
    written = """SELECT ? AS "what?", 'why''s that?', ? FROM "a""?b" WHERE c = ?"""

    assert numbered(written) == (
        """SELECT $1 AS "what?", 'why''s that?', $2 FROM "a""?b" WHERE c = $3"""
    )
