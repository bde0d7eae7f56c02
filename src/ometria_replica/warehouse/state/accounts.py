"""The accounts whose rows are in a warehouse, and how their keys are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.batch import Owner
from ometria_replica.errors import ConfigError
from ometria_replica.failpoints import step
from ometria_replica.source_ids import keys_may_meet
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import ACCOUNTS

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Accounts(Part):
    """The accounts of one warehouse."""

    @reads("reading the accounts")
    def owners(self) -> list[Owner]:
        """List the accounts whose rows are here."""
        return self._owners()

    def _owners(self) -> list[Owner]:
        return [
            Owner(*row)
            for row in self._engine.rows(
                "SELECT account_id, source_id, wide_keys"
                f" FROM {self._readable(ACCOUNTS)} ORDER BY account_id"
            )
        ]

    def is_known(self, owner: Owner) -> bool:
        """Return whether an account is on the list. Raises ConfigError if its keys have changed."""
        for known in self._owners():
            if known == owner:
                return True
            _refuse_to_mix(owner, known, self._engine.place)
        return False

    @writes("noting the account")
    def add(self, owner: Owner, now: datetime) -> None:
        """Put an account on the list, unless a run that began at the same time has done it."""
        self._engine.lock(ACCOUNTS)
        if self.is_known(owner):
            return
        with step("account"):
            row = [owner.account_id, owner.source_id, owner.wide_keys, now]
            self._engine.insert(ACCOUNTS, row)


def _refuse_to_mix(owner: Owner, known: Owner, place: str) -> None:
    """Raise ConfigError where the keys of two accounts could not be told apart."""
    if known.account_id == owner.account_id and known.source_id == owner.source_id:
        raise ConfigError(
            f"wide_keys: {place} holds account '{owner.account_id}' with wide_keys ="
            f" {str(known.wide_keys).lower()}. Other keys would load every event a second"
            " time. Restore the old value, or use a new warehouse."
        )
    if owner.account_id == known.account_id or owner.source_id == known.source_id:
        raise ConfigError(
            f"source_id: account '{owner.account_id}' with source '{owner.source_id}' does"
            f" not fit {place}, which holds account '{known.account_id}' as source"
            f" '{known.source_id}'. Every key contains the source id, so another would"
            " load every row a second time. Restore the old value, or use a new warehouse."
        )
    if keys_may_meet(owner.source_id, known.source_id):
        raise ConfigError(
            f"source_id: '{owner.source_id}' and '{known.source_id}', which {place}"
            " holds, begin alike. Keys join the source id with an id and nothing between,"
            " so that two keys could be equal. Use another source_id, or a new warehouse."
        )
