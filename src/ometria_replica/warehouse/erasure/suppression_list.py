"""The list of suppressed people: which ids no run may load again, by keyed hashes of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.schema import STATE_SCHEMA
from ometria_replica.selection import in_parts
from ometria_replica.suppressions import Suppressions
from ometria_replica.text import counted
from ometria_replica.warehouse.erasure.disjoint_sets import DisjointSets
from ometria_replica.warehouse.erasure.person_ids import id_parts
from ometria_replica.warehouse.sessions import Part, reads
from ometria_replica.warehouse.state_tables import SUPPRESSION_SECRETS, SUPPRESSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch

_ALONE = "address alone"
"""The kind of an address that Ometria has replaced: only it is suppressed, and not its profile."""

_BY_STATE = "state"
_BY_HASH_KEY = "hash_key "
_AT_ONCE = 2_000


@dataclass(frozen=True)
class SuppressionList(Part):
    """The suppressed people of each source. Hashes are computed in *mapping*, a DuckDB."""

    mapping: DuckDBPyConnection

    @reads("reading the suppressed people")
    def of(self, source_id: str, secret: bytes | None) -> Suppressions | None:
        """
        Read the people of a source; None if there is none. *secret* is that of the account.

        Raises ConfigError if some can only be recognised with another ``hash_key``.
        """
        return self.named(source_id, secret, None)

    def named(
        self, source_id: str, secret: bytes | None, erasure_ids: Sequence[str] | None
    ) -> Suppressions | None:
        """Read as :meth:`of`, of these erasures only. Within a session of the caller."""
        there = self._readable(SUPPRESSIONS)
        condition, values = "", list(erasure_ids or ())
        if erasure_ids is not None:
            condition = f" AND {sql.among('erasure_id', values)}"
        found = self._engine.rows(
            f"SELECT hash, keyed_by, kind FROM {there} WHERE source_id = ?{condition}",
            [source_id, *values],
        )
        if not found:
            return None
        return Suppressions.of_secrets(
            [self._secret(source_id, keyed_by, secret)
             for keyed_by in sorted({keyed_by for _, keyed_by, _ in found})],
            frozenset(each for each, *_ in found),
            frozenset(each for each, _, kind in found if kind == _ALONE),
        )  # fmt: skip

    @reads("counting the suppressed people")
    def people(self, source_id: str) -> int:
        """Count the suppressed people of a source."""
        there = self._readable(SUPPRESSIONS)
        return self._engine.scalar(
            f"SELECT count(DISTINCT person) FROM {there} WHERE source_id = ?", [source_id]
        )

    # --- within a transaction of the caller ---

    def add(
        self,
        source_id: str,
        people: Iterable[Iterable[str]],
        secret: bytes | None,
        erasure_id: str,
        now: datetime,
        *,
        alone: bool = False,
    ) -> None:
        """
        Put *people*, the ids of each, on the list. A person who is there is the same person.

        *alone* says that their addresses are all that is known, and that no other id joins them.
        """
        own = secret or self._random_secret(source_id, now)
        keyed_by = f"{_BY_HASH_KEY}{_check(own)}" if secret else _BY_STATE
        hasher = Suppressions.of_secrets([own])
        person_of = {name: number for number, names in enumerate(people) for name in sorted(names)}
        numbers = [secrets.token_hex(8) for _ in range(max(person_of.values(), default=-1) + 1)]
        rows: dict[str, list[Any]] = {
            one: [
                *(source_id, one, _ALONE if alone else kind, keyed_by),
                *(numbers[person_of[name]], erasure_id, now),
            ]
            for kind in ("profile", "customer", "address")
            for name, one in self._hashed(hasher, kind, list(person_of))
        }
        if alone:  # A person who was erased as such stays so.
            for one in {one for _, one in self._people_of(source_id, list(rows))}:
                del rows[one]
        self._join_known(source_id, rows)
        if rows:
            self._engine.replace(SUPPRESSIONS, *rows.values())

    def join(self, batch: Batch) -> None:
        """Suppress the ids that stood in records of suppressed people: they are these people's."""
        if not batch.joined_ids:
            return
        there = self._readable(SUPPRESSIONS)
        known = {
            one: (person, erasure_id)
            for one, person, erasure_id in self._engine.rows(
                f"SELECT hash, person, erasure_id FROM {there} WHERE source_id = ?",
                [batch.source_id],
            )
        }
        ((first,),) = self._engine.rows(
            f"SELECT min(keyed_by) FROM {there} WHERE source_id = ?", [batch.source_id]
        )
        rows = []
        for each in batch.joined_ids:
            known[each.hash] = person, erasure_id = known[each.known]
            key = [batch.source_id, each.hash, each.kind, first]
            rows.append([*key, person, erasure_id, batch.synced_at])
        self._engine.replace(SUPPRESSIONS, *rows)

    def remove(self, source_id: str, names: Sequence[str], secret: bytes | None) -> int:
        """Take the people with one of these ids from the list; return how many there were."""
        every = self.named(source_id, secret, None)
        if every is None:
            return 0
        hashes = sorted({
            one for kind in ("profile", "customer", "address")
            for _, one in self._hashed(every, kind, names)
        } & every.hashes)  # fmt: skip
        people = sorted({person for person, _ in self._people_of(source_id, hashes)})
        for some in in_parts(people, _AT_ONCE):
            self._engine.execute(
                f"DELETE FROM {self._engine.name(SUPPRESSIONS)} WHERE source_id = ?"
                f" AND {sql.among('person', some)}",
                [source_id, *some],
            )
        return len(people)

    # --- helpers ---

    def _hashed(
        self, hasher: Suppressions, kind: str, names: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Pair the names of a kind with their hashes, with each secret."""
        of_kind = [(name, id_parts(name)) for name in names]
        chosen = [(name, parts) for name, parts in of_kind if parts[0] == kind]
        if not chosen:
            return []
        hashes = hasher.of(self.mapping, chosen[0][1][0], [text for _, (_, text, _) in chosen])
        return [
            (name, one) for (name, _), every in zip(chosen, hashes, strict=True) for one in every
        ]

    def _join_known(self, source_id: str, rows: dict[str, list[Any]]) -> None:
        """Make one person of those, new or on the list already, who share one of these ids."""
        sets, known = DisjointSets(), self._people_of(source_id, list(rows))
        for person, one in known:
            sets.join(rows[one][4], person)
        for person in sorted({person for person, _ in known}):
            if sets.name(person) != person:
                self._engine.execute(
                    f"UPDATE {self._engine.name(SUPPRESSIONS)} SET person = ?"
                    " WHERE source_id = ? AND person = ?",
                    [sets.name(person), source_id, person],
                )
        for row in rows.values():
            row[4] = sets.name(row[4])

    def _people_of(self, source_id: str, hashes: Sequence[str]) -> list[tuple[str, str]]:
        """List the people with one of *hashes*, each with each of theirs."""
        found: list[tuple[str, str]] = []
        for some in in_parts(hashes, _AT_ONCE):
            found += self._engine.rows(
                f"SELECT person, hash FROM {self._readable(SUPPRESSIONS)} WHERE source_id = ?"
                f" AND {sql.among('hash', some)}",
                [source_id, *some],
            )
        return found

    def _secret(self, source_id: str, keyed_by: str, secret: bytes | None) -> bytes:
        if keyed_by == _BY_STATE:
            kept = self._kept(source_id)
            if not kept:
                raise WarehouseError(
                    f"People of '{source_id}' were erased, and the secret by which they are"
                    f" recognised is gone from {STATE_SCHEMA}.{SUPPRESSION_SECRETS.name} in"
                    f" {self._engine.place}. Restore it from a backup, or a sync would load them"
                    " again. Nothing was changed."
                )
            return bytes.fromhex(kept[0][0])
        if secret is None or keyed_by != f"{_BY_HASH_KEY}{_check(secret)}":
            number = self.people(source_id)
            raise ConfigError(
                f"hash_key: {counted(number, 'person', 'people')} of '{source_id}' were erased,"
                " and are recognised with the hash_key that the account had then. Restore it, or"
                " a sync would load them again."
            )
        return secret

    def _random_secret(self, source_id: str, now: datetime) -> bytes:
        """Return the secret that is kept for a source, made when it is first needed."""
        if kept := self._kept(source_id):
            return bytes.fromhex(kept[0][0])
        made = secrets.token_bytes(32)
        self._engine.insert(SUPPRESSION_SECRETS, [source_id, made.hex(), now])
        return made

    def _kept(self, source_id: str) -> list[tuple[str]]:
        found: list[tuple[str]] = self._engine.rows(
            f"SELECT secret FROM {self._readable(SUPPRESSION_SECRETS)} WHERE source_id = ?",
            [source_id],
        )
        return found


def _check(secret: bytes) -> str:
    return Suppressions.of_secrets([secret]).secrets[0].check
