"""
Accounts of the settings: chosen by name, and as a warehouse knows them.

The name is the ``source_id`` of their rows, or their ``account_id``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ometria_replica import privacy
from ometria_replica.batch import Owner
from ometria_replica.errors import ConfigError
from ometria_replica.nearest import did_you_mean
from ometria_replica.text import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config


class Named(Protocol):
    """An account of the settings, or the owner of rows in a warehouse."""

    @property
    def account_id(self) -> str:
        """Ometria's name of the account."""

    @property
    def source_id(self) -> str:
        """The name that its rows have."""


def only_accounts(config: Config, names: Sequence[str]) -> Config:
    """Keep the named accounts, in the order of the settings; no name keeps all."""
    names = names_of(names)
    chosen = source_ids(config.accounts, names) if names else None
    if chosen is None:
        return config
    accounts = (account for account in config.accounts if account.source_id in chosen)
    return replace(config, accounts=tuple(accounts))


def source_ids(known: Iterable[Named], names: Sequence[str]) -> set[str]:
    """
    Return the ``source_id`` of each named account.

    A name that is one account's ``source_id`` and another's ``account_id`` means the first.
    Raises ConfigError for names that no account has.
    """
    known, names = list(known), names_of(names)
    by_name = {each.account_id: each.source_id for each in known}
    by_name |= {each.source_id: each.source_id for each in known}
    if unknown := [name for name in names if name not in by_name]:
        there = ", ".join(dict.fromkeys(each.source_id for each in known))
        accounts = f". The accounts are {there}." if there else ". No account is known here."
        raise ConfigError(
            f"There is no account {name!r}{did_you_mean(name, by_name) or accounts}"
            for name in unknown
        )
    return {by_name[name] for name in names}


def owner_of(account: AccountSettings, catalog: Catalog) -> Owner:
    """Return the account as the warehouse knows it: its source, its keys, its columns."""
    return Owner(
        account.account_id,
        account.source_id,
        account.wide_keys,
        privacy.treatments_of(catalog.every.as_set(account)),
        frozenset(table.name for table in catalog.for_account(account) if table.keeps_history),
    )
