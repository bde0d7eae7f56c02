"""People who were erased, and whom no read may load again: as keyed hashes of their ids."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ometria_replica.pseudonyms import Pseudonyms, normalised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from duckdb import DuckDBPyConnection


PersonId = Literal["profile", "customer", "address"]
"""The kinds of ids of a person: of a profile, of a customer, and an email address."""

_PURPOSE = b"ometria-replica: people who were erased"


def secret_of(hash_key: str) -> bytes:
    """Derive the secret of an account's suppressions from its ``hash_key``."""
    return hmac.digest(hash_key.encode(), _PURPOSE, "sha256")


@dataclass(frozen=True)
class JoinedId:
    """
    An id of a *kind*, as its *hash*, that stood in a record with one that is suppressed.

    *known* is the hash of the latter. The id is of the same person, so it is suppressed too.
    """

    known: str
    hash: str
    kind: PersonId


@dataclass(frozen=True)
class Suppressions:
    """
    The *hashes* of the ids of erased people: HMAC-SHA256 in hex, with one of several *secrets*.

    The id is hashed with its kind, and an address in lower case and without space around it. Of
    an id that is only known by its pseudonym, that is hashed. The ids that stand beside those
    *alone* are not the person's: Ometria keeps the profile, and has taken the address from it.
    """

    secrets: tuple[Pseudonyms, ...]
    hashes: frozenset[str]
    alone: frozenset[str] = frozenset()

    @classmethod
    def of_secrets(
        cls,
        secrets: Sequence[bytes],
        hashes: frozenset[str] = frozenset(),
        alone: frozenset[str] = frozenset(),
    ) -> Suppressions:
        """Make the suppressions whose hashes were made with one of *secrets*."""
        named = (Pseudonyms(each, name=f"suppressed{n}") for n, each in enumerate(secrets))
        return cls(tuple(named), hashes, alone)

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The named parameters of a statement with :meth:`sql` in it."""
        return {name: value for each in self.secrets for name, value in each.parameters.items()}

    def sql(self, person: PersonId, text: str) -> list[str]:
        """
        Write the hash of *text*, an expression of an id of this kind, with each secret.

        It is null for null, and for a text without an id: many have that. A NUL counts as
        removed, as it is in the tables.
        """
        text = f"replace({text}, chr(0), '')"
        there, text = normalised(text), normalised(text) if person == "address" else text
        hashes = (each.sql(f"('{person}:' || {text})") for each in self.secrets)
        return [f"CASE WHEN {there} <> '' THEN {each} END" for each in hashes]

    def of(
        self, connection: DuckDBPyConnection, person: PersonId, ids: Sequence[str]
    ) -> list[list[str]]:
        """Hash *ids* of one kind, in their order, each with every secret."""
        found = connection.execute(
            f"SELECT {', '.join(self.sql(person, 'id'))}"
            " FROM (SELECT unnest($ids::VARCHAR[]) AS id)",
            {**self.parameters, "ids": list(ids)},
        )
        return [list(hashes) for hashes in found.fetchall()]
