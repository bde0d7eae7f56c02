"""
Erasures: the rows of people are removed or blanked, and their ids suppressed.

Where rows and state are one transaction, so is an erasure. Elsewhere the ids are suppressed
first, and the receipt has no end until the rows are gone: the next erasure takes up one that did
not end, by its suppressed ids.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.failpoints import step
from ometria_replica.history import stored
from ometria_replica.raw_records import records_of
from ometria_replica.schema import Md5
from ometria_replica.selection import Selection, Values, in_parts
from ometria_replica.warehouse.erasure.people import Found, People
from ometria_replica.warehouse.erasure.person_ids import id_parts
from ometria_replica.warehouse.erasure.receipts import Receipt
from ometria_replica.warehouse.sessions import Part, reads
from ometria_replica.warehouse.state_tables import (
    DELETED_UPSTREAM,
    END,
    POSITION,
    REJECTS,
    WRITTEN,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Lease
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.suppressions import PersonId
    from ometria_replica.warehouse.erasure.marts import Marts
    from ometria_replica.warehouse.erasure.receipts import Outcome, Receipts
    from ometria_replica.warehouse.erasure.suppression_list import SuppressionList
    from ometria_replica.warehouse.state.leases import Leases
    from ometria_replica.warehouse.state.watermarks import Watermarks

    NewLease = Callable[[], Lease]

_AT_ONCE = 2_000


@dataclass(frozen=True)
class Wanted:
    """
    People of a source: *ids* are those that the user gave, of a kind each.

    *tables* are those of the account, with its treatments. *secret* is made of its ``hash_key``;
    None if it has none. With *again*, all that is held of suppressed people is wanted.
    """

    source_id: str
    tables: tuple[Table, ...]
    ids: frozenset[tuple[PersonId, str]]
    secret: bytes | None = None
    again: bool = False

    @property
    def stored(self) -> tuple[Table, ...]:
        """The tables that may hold something of the people: histories, too, if they are there."""
        return tuple(each for table in self.tables for each in stored(table))

    @property
    def records(self) -> tuple[Table, ...]:
        """The tables of the records of these people, if they are there."""
        return tuple(each for table in self.tables for each in records_of(table))


@dataclass(frozen=True)
class Erasures(Part):
    """
    The erasures of one warehouse. Ids are compared in *mapping*, a DuckDB.

    Where an erasure is given a *lease*, which gives that of the source, from now on, it renews the
    lease that the caller holds, and raises Busy if another run has taken it over.
    """

    mapping: DuckDBPyConnection
    suppressions: SuppressionList
    receipts: Receipts
    leases: Leases
    watermarks: Watermarks
    marts: Marts

    @reads("looking for a person")
    def find(self, wanted: Wanted) -> Found:
        """Find what is held of people. Nothing is changed."""
        people = self.people(wanted)
        try:
            return self._find(wanted, people)
        finally:
            people.forget()

    @reads("reading what is held of a person")
    def held(self, wanted: Wanted) -> dict[str, list[dict[str, object]]]:
        """Read the rows that are held of people, by table, and their rejects."""
        people = self.people(wanted)
        try:
            found = self._find(wanted, people)
            rows = {name: people.rows_of(name) for name in found.keys}
            return {**rows, "rejects": self._rejects_of(found)}
        finally:
            people.forget()

    def erase(
        self,
        wanted: Wanted,
        outcome: Outcome,
        now: datetime,
        erasure_id: str,
        lease: NewLease | None = None,
    ) -> Receipt:
        """Remove people from all tables, or blank their events, and suppress their ids."""
        with self.sessions.open("erasing a person"):
            people = self.people(wanted)
            try:
                found = self._find(wanted, people)
            finally:
                people.forget()
            return self.carry_out(wanted, found, outcome, now, erasure_id, lease=lease)

    def carry_out(
        self,
        wanted: Wanted,
        found: Found,
        outcome: Outcome,
        now: datetime,
        erasure_id: str,
        *,
        lease: NewLease | None = None,
        alone: bool = False,
    ) -> Receipt:
        """
        Erase what was *found* and suppress its ids; the ids of *wanted* are not looked at.

        *alone* says that the ids are addresses which no longer belong to any profile.
        """
        with self.sessions.open("erasing a person"):
            receipt = _receipt(found, erasure_id, outcome, now)
            if self._engine.commits_rows_with_state:
                with self._engine.transaction("the erasure"):
                    self._renew(lease)
                    self._write_state(wanted, found, receipt, now, alone=alone)
                    for removal in self._removals(wanted, found, outcome):
                        removal()
                    rows = receipt.rows | self.marts.remove(found)
                    self._finish(wanted, replace(receipt, rows=rows), now)
                    self._renew(lease)  # Now: it may have taken long.
            else:
                with self._engine.transaction("the suppressions"):
                    self._renew(lease)
                    self._write_state(wanted, found, receipt, now, alone=alone)
                for removal in self._removals(wanted, found, outcome):
                    if lease and self.leases.is_due(lease()):
                        with self._engine.transaction("the lease"):
                            self._renew(lease)
                    removal()
                with self._engine.transaction("the erasure"):
                    self._renew(lease)
                    self._finish(wanted, receipt, now)
        return self.receipts.one(wanted.source_id, erasure_id)

    def allow(self, wanted: Wanted) -> int:
        """Take people from the list of the suppressed; return how many there were."""
        with self.sessions.writing("allowing a person", "the suppressions"):
            people = self.people(wanted)
            try:
                names = people.names(wanted.ids)
            finally:
                people.forget()
            return self.suppressions.remove(wanted.source_id, names, wanted.secret)

    def people(self, wanted: Wanted) -> People:
        """Make what finds people in the tables of an account. Within a session of the caller."""
        there = tuple(table for table in wanted.stored if self._engine.exists(table))
        return People(self._engine, self.mapping, there, wanted.source_id)

    # --- helpers ---

    def _find(self, wanted: Wanted, people: People) -> Found:
        unended = self.receipts.unended(wanted.source_id)
        also = None
        if wanted.again or unended:
            of_these = None if wanted.again else unended
            also = self.suppressions.named(wanted.source_id, wanted.secret, of_these)
        with step("search"):
            return people.find(wanted.ids, also)

    def _rejects_of(self, found: Found) -> list[dict[str, object]]:
        names = [name for name, _ in REJECTS.columns if name != "reject_id"]
        return [
            dict(zip(names, row, strict=True))
            for some in in_parts(found.rejects, _AT_ONCE)
            for row in self._engine.rows(
                f"SELECT {', '.join(names)} FROM {self._readable(REJECTS)}"
                f" WHERE {sql.among('reject_id', some)}",
                some,
            )
        ]

    def _write_state(
        self, wanted: Wanted, found: Found, receipt: Receipt, now: datetime, *, alone: bool
    ) -> None:
        """Suppress the ids, write the receipt, and remove what the state holds of the people."""
        with step("suppressions"):
            self.suppressions.add(
                wanted.source_id, found.people, wanted.secret, receipt.erasure_id, now, alone=alone
            )
        with step("receipt"):
            self.receipts.write(receipt)
        with step("state of the erased"):
            self._delete(REJECTS, "reject_id", found.rejects, [])
            texts = [text for ids in found.people for _, text, _ in map(id_parts, ids)]
            for table in wanted.stored:
                keys, key = found.keys.get(table.label, ()), [wanted.source_id, table.name]
                of_table = " AND source_id = ? AND table_name = ?"
                self._delete(DELETED_UPSTREAM, "sync_key", keys, key, of_table)
                if any(c.person and c.name == table.record_id for c in table.columns):
                    self._delete(DELETED_UPSTREAM, "record_id", texts, key, of_table)
                for some in in_parts(keys, _AT_ONCE):
                    self.watermarks.forget(*key, *(f"{WRITTEN}{each}" for each in some))
                if keys:  # It would be continued after rows that are gone, and names some.
                    self.watermarks.forget_starting(*key, POSITION, END)

    def _delete(
        self,
        table: StateTable,
        column: str,
        texts: Sequence[str],
        key: Sequence[str],
        condition: str = "",
    ) -> None:
        for some in in_parts(texts, _AT_ONCE):
            self._engine.execute(
                f"DELETE FROM {self._engine.name(table)}"
                f" WHERE {sql.among(column, some)}{condition}",
                [*some, *key],
            )

    def _renew(self, lease: NewLease | None) -> None:
        if lease:
            self.leases.renew(lease())

    def _removals(
        self, wanted: Wanted, found: Found, outcome: Outcome
    ) -> Iterator[Callable[[], None]]:
        """Give the changes of the tables one by one."""
        for raw in wanted.records:  # First: their rows tell whose they are.
            if keys := found.keys.get(raw.label):
                selection = Selection(wanted.source_id, Values("__sync_key", keys))
                yield partial(self._remove, raw, selection, outcome)
        for table in sorted(wanted.stored, key=lambda table: len(table.people)):
            if found.past_addresses and table.label in found.keys and table.address:
                by_address = Values(table.address.name, found.past_addresses)
                selection = Selection(wanted.source_id, by_address)
                yield partial(self._remove, table, selection, outcome)
            if keys := found.keys.get(table.label):
                selection = Selection(wanted.source_id, Values("__sync_key", keys))
                yield partial(self._remove, table, selection, outcome)
        for quotations in found.quotations:
            for keys, value, parameters in quotations.updates():
                selection = Selection(wanted.source_id, Values("__sync_key", keys))
                values = {quotations.column: value}
                yield partial(self._mask, quotations.table, selection, values, parameters)

    def _remove(self, table: Table, selection: Selection, outcome: Outcome) -> None:
        with step(f"erasure of {table.label}"):
            if outcome == "blanked" and table.events:
                self._blank(table, selection)
            else:
                self._engine.delete(table, selection)

    def _mask(
        self, table: Table, selection: Selection, values: dict[str, str], parameters: list[str]
    ) -> None:
        with step("quotations"):
            self._engine.update(table, selection, values, parameters)

    def _blank(self, table: Table, selection: Selection) -> None:
        """Remove what is personal, and make the key random: an MD5 of an address can be guessed."""
        new_key = "md5(?::VARCHAR || __sync_key)"
        keys = [c.name for c in table.all_columns if isinstance(c.source, Md5)]
        blanks = {column.name: "NULL" for column in table.columns if column.is_personal}
        values = blanks | dict.fromkeys([*keys, "__sync_key"], new_key)
        secret = secrets.token_hex(32)
        self._engine.update(table, selection, values, [secret] * (len(keys) + 1))

    def _finish(self, wanted: Wanted, receipt: Receipt, now: datetime) -> None:
        """End this erasure, and those that did not end; note which tables are empty."""
        there = [table for table in wanted.tables if receipt.rows.get(table.name)]
        with step("end of the erasure"):
            emptied = self.watermarks.note_emptied(wanted.source_id, there, now, receipt.erasure_id)
            self.receipts.finish(receipt, emptied, now)


def _receipt(found: Found, erasure_id: str, outcome: Outcome, now: datetime) -> Receipt:
    return Receipt(
        erasure_id,
        found.source_id,
        now,
        None,
        outcome,
        people=len(found.people),
        profiles=found.ids("profile"),
        addresses=found.ids("address"),
        customers=found.ids("customer"),
        rejects=len(found.rejects),
        quoted=found.quoted,
        rows=found.rows,
        emptied=(),
        remains=None,
    )
