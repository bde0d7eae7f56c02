"""
Follows Ometria where it has erased a person: it replaces the address of the profile.

What is held of the old address goes, as in any erasure, and the address is suppressed. The
profile stays as Ometria has it. All that happens before the new row replaces the old one, which
alone knows the address: a run that ends in between does it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.failpoints import step
from ometria_replica.history import history_table
from ometria_replica.mapping import ANONYMISED, MASKED, RECORD, STAGED, is_anonymous, mask_addresses
from ometria_replica.pseudonyms import normalised
from ometria_replica.raw_records import raw_table
from ometria_replica.selection import Selection, Values, chunks
from ometria_replica.warehouse.erasure.people import held
from ometria_replica.warehouse.erasure.person_ids import id_parts
from ometria_replica.warehouse.sessions import Part

if TYPE_CHECKING:
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.suppressions import PersonId
    from ometria_replica.warehouse.erasure.erasures import Erasures, NewLease, Wanted
    from ometria_replica.warehouse.erasure.people import Found

_REPLACED = "replaced_addresses"
_AT_ONCE = 5_000


@dataclass(frozen=True)
class ReplacedAddresses(Part):
    """The addresses that Ometria replaces. Records are staged in *mapping*, a DuckDB."""

    mapping: DuckDBPyConnection
    erasures: Erasures

    def forget(
        self,
        batch: Batch,
        wanted: Wanted,
        now: datetime,
        erasure_id: str,
        lease: NewLease | None = None,
    ) -> int:
        """
        Erase what is held of the addresses that the staged rows of *batch* replace.

        *wanted* has the tables of the account; its ids are not looked at. An address that another
        profile has stays. *lease* is as for any erasure. Returns the number of rows that go; a dry
        run only counts them.
        """
        if batch.table.address is None or not self._are_staged():
            return 0
        with self.sessions.open("looking for addresses that Ometria replaced"):
            replaced, keys = self._replaced(batch)
            found = self._found(batch.table, wanted, replaced, keys) if keys else None
            if found is None:
                return 0
            if not self.sessions.dry_run:
                with step("replaced addresses"):
                    self.erasures.carry_out(
                        wanted, found, "removed", now, erasure_id, lease=lease, alone=True
                    )
            self._leave_out(batch, found)
            return sum(found.rows.values())

    def _are_staged(self) -> bool:
        found = self.mapping.execute(f"SELECT 1 FROM {STAGED} WHERE {ANONYMISED} LIMIT 1")
        return found.fetchone() is not None

    def _replaced(self, batch: Batch) -> tuple[frozenset[tuple[PersonId, str]], tuple[str, ...]]:
        """
        Find the addresses, or their pseudonyms, of the rows that are about to be replaced.

        Their keys are returned too.
        """
        engine, table = self._engine, batch.table
        if not engine.exists(table) or table.address is None:
            return frozenset(), ()
        engine.stage(batch)
        name = sql.quoted(table.address.name)
        engine.temporary(
            _REPLACED,
            f"SELECT t.{name} AS address, t.__sync_key FROM {STAGED} s JOIN {engine.name(table)} t"
            " ON s.__sync_key = t.__sync_key AND s.__source_id = t.__source_id"
            f" WHERE s.{ANONYMISED} AND t.{name} <> s.{name}",
            by_index=True,
        )
        found = engine.rows(f"SELECT address, __sync_key FROM {_REPLACED}")
        mine = [(address, key) for address, key in found if not is_anonymous(address)]
        return frozenset(("address", address) for address, _ in mine), tuple(k for _, k in mine)

    def _found(
        self,
        table: Table,
        wanted: Wanted,
        replaced: frozenset[tuple[PersonId, str]],
        keys: tuple[str, ...],
    ) -> Found | None:
        """
        Find rows of *replaced* addresses that no other profile has, and all versions of *keys*.

        Versions of other profiles are found by such an address too. None if there is nothing.
        """
        people = self.erasures.people(wanted)
        try:
            found = people.find(replaced, follow=False)
            if used := self._used_by_others(table, replaced):
                replaced -= used
                found = people.find(replaced, follow=False)
            past = self._past_of(table, wanted.source_id, keys) if replaced or used else {}
            addresses = self._past_addresses(table) if past else ()
        finally:
            people.forget()
        own = {each.label for each in (table, history_table(table), raw_table(table))}
        kept = {name: keys for name, keys in found.keys.items() if name not in own}
        if not replaced and not any(past.values()):
            return None
        return replace(found, keys={**kept, **past}, past_addresses=addresses)

    def _past_of(
        self, table: Table, source_id: str, keys: tuple[str, ...]
    ) -> dict[str, tuple[str, ...]]:
        """Find the versions of the rows with *keys*, by the label of their table, if it exists."""
        history = history_table(table)
        if not self._engine.exists(history):
            return {}
        selection = Selection(source_id, Values("__sync_key", keys))
        return {
            history.label: tuple(
                str(key)
                for part in chunks(selection, _AT_ONCE, _AT_ONCE)
                for rows in self._engine.read(history, part)
                for key in rows.column("__sync_key").to_pylist()
            )
        }

    def _past_addresses(self, table: Table) -> tuple[str, ...]:
        """Read the addresses that were found in versions, as they are written there."""
        name = sql.quoted(table.address.name if table.address else "")
        found = self.mapping.execute(f"SELECT DISTINCT {name} FROM {held(history_table(table))}")
        return tuple(text for (text,) in found.fetchall() if text is not None)

    def _leave_out(self, batch: Batch, found: Found) -> None:
        """Leave out the addresses that still stand inside the staged records."""
        ids = [id_parts(name) for names in found.people for name in sorted(names)]
        addresses = [text for kind, text, _ in ids if kind == "address"]
        records = f"(SELECT DISTINCT {RECORD} AS text FROM {STAGED})"
        if batch.table.keeps_records and mask_addresses(self.mapping, records, addresses):
            self.mapping.execute(
                f"UPDATE {STAGED} SET {RECORD} = masked FROM {MASKED} WHERE {RECORD} = text"
            )
        for part in batch.parts:
            for column in part.table.columns if part.parent else ():
                if column.person == "address":
                    self.mapping.execute(
                        f"DELETE FROM {part.staged} WHERE {normalised(sql.quoted(column.name))}"
                        " IN (SELECT unnest($addresses::VARCHAR[]))",
                        {"addresses": addresses},
                    )

    def _used_by_others(
        self, table: Table, replaced: frozenset[tuple[PersonId, str]]
    ) -> set[tuple[PersonId, str]]:
        """Find the *replaced* addresses that a profile has after the batch, in any form."""
        name = sql.quoted(table.address.name if table.address else "")
        found = self.mapping.execute(
            "SELECT DISTINCT old FROM (SELECT unnest($replaced::VARCHAR[]) AS old)"
            f" SEMI JOIN (SELECT {name} AS used FROM {STAGED} WHERE NOT {ANONYMISED}"
            f" UNION ALL SELECT {name} FROM {held(table)} WHERE __sync_key NOT IN"
            f" (SELECT __sync_key FROM {STAGED}))"
            f" ON {normalised('old')} = {normalised('used')}",
            {"replaced": sorted(address for _, address in replaced)},
        )
        return {("address", old) for (old,) in found.fetchall()}
