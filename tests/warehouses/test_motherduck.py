"""MotherDuck, as far as it can be tried without an account: its address, and no way out."""

from __future__ import annotations

import pytest

from ometria_replica.batch import Owner
from ometria_replica.errors import ConfigError, Unreachable
from ometria_replica.warehouse import open_warehouse, scheme_of
from tests.warehouses.loads import NOON


def test_without_a_way_out_the_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension cannot be fetched: the message says what to check, and shows no token."""
    url = "md:shop?motherduck_token=canary-token"
    with open_warehouse(url) as warehouse:
        warehouse.connection.execute("SET custom_extension_repository = 'http://127.0.0.1:1'")
        with pytest.raises(Unreachable, match="extension for MotherDuck") as refused:
            warehouse.prepare(Owner("1042", "uk"), NOON)

    assert "canary" not in str(refused.value)


def test_its_scheme_has_no_slashes() -> None:
    """As MotherDuck writes it."""
    assert scheme_of("md:shop") == "md"


def test_a_name_that_no_database_has_is_refused() -> None:
    """Before anything is contacted."""
    with pytest.raises(ConfigError, match="md:DATABASE"):
        open_warehouse("md:sh op")
