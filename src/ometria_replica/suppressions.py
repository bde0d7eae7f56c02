"""People who were erased, and whom no read may load again: as keyed hashes of their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ometria_replica.pseudonyms import Pseudonyms, normalised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from duckdb import DuckDBPyConnection


PersonId = Literal["profile", "customer", "address"]
"""The kinds of ids of a person: of a profile, of a customer, and an email address."""


@dataclass(frozen=True)
class Suppressions:
    """
    The *hashes* of the ids of erased people: HMAC-SHA256 with a secret, in hex.

    The id is hashed with its kind, and an address in lower case and without space around it.
    """

    pseudonyms: Pseudonyms
    hashes: frozenset[str]

    @classmethod
    def of_secret(cls, secret: bytes, hashes: frozenset[str] = frozenset()) -> Suppressions:
        """Make the suppressions whose hashes were made with *secret*."""
        return cls(Pseudonyms(secret, name="suppressed"), hashes)

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The named parameters of a statement with :meth:`sql` in it."""
        return self.pseudonyms.parameters

    def sql(self, person: PersonId, text: str) -> str:
        """Write the hash of *text*, an expression of an id of this kind; null for null."""
        text = normalised(text) if person == "address" else text
        return self.pseudonyms.sql(f"('{person}:' || {text})")

    def of(self, connection: DuckDBPyConnection, person: PersonId, ids: Sequence[str]) -> list[str]:
        """Hash *ids* of one kind, in their order."""
        found = connection.execute(
            f"SELECT {self.sql(person, 'id')} FROM (SELECT unnest($ids::VARCHAR[]) AS id)",
            {**self.parameters, "ids": list(ids)},
        )
        return [found_hash for (found_hash,) in found.fetchall()]
