"""Receipts of erasures: what was erased, without personal data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import ERASURES

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

Outcome = Literal["removed", "blanked"]

_NAMES = ("erasure_id", "source_id", "erased_at", "finished_at", "outcome")


@dataclass(frozen=True)
class Receipt:
    """
    An erasure of a source, without personal data.

    *rows* counts by table. *quoted* texts of other people's rows lost an address. *emptied* are the
    tables that have no row of the source left. *finished_at* None: it did not end. *remains* is a
    sentence about deleted data that the storage may still hold: empty if it holds none, and None
    while the storage was not cleaned yet.
    """

    erasure_id: str
    source_id: str
    erased_at: datetime
    finished_at: datetime | None
    outcome: Outcome
    people: int
    profiles: int
    addresses: int
    customers: int
    rejects: int
    quoted: int
    rows: dict[str, int]
    emptied: tuple[str, ...]
    remains: str | None


@dataclass(frozen=True)
class Receipts(Part):
    """The receipts in one warehouse."""

    @reads("reading the receipts")
    def of(self, source_id: str) -> list[Receipt]:
        """Read the receipts of a source, newest first."""
        return self._read("source_id = ?", source_id)

    @reads("reading the receipts")
    def one(self, source_id: str, erasure_id: str) -> Receipt:
        """Read the receipt of an erasure, which has one."""
        return self._read("source_id = ? AND erasure_id = ?", source_id, erasure_id)[0]

    @writes("writing the receipt", "the receipt")
    def note_remains(self, source_id: str, remains: str) -> None:
        """Add to the receipts of a source that lack it what the storage may still hold."""
        self._engine.execute(
            f"UPDATE {self._engine.name(ERASURES)} SET remains = ?"
            " WHERE source_id = ? AND remains IS NULL AND finished_at IS NOT NULL",
            [remains, source_id],
        )

    # --- within a session, or a transaction, of the caller ---

    def unended(self, source_id: str) -> list[str]:
        """List the ids of the erasures of a source that did not end."""
        return [
            erasure_id
            for (erasure_id,) in self._engine.rows(
                f"SELECT erasure_id FROM {self._readable(ERASURES)}"
                " WHERE source_id = ? AND finished_at IS NULL",
                [source_id],
            )
        ]

    def write(self, receipt: Receipt) -> None:
        """Write the receipt of an erasure that begins."""
        self._engine.replace(ERASURES, _row(receipt))

    def finish(self, receipt: Receipt, emptied: Collection[str], now: datetime) -> None:
        """End this erasure, which *emptied* tables, and those of the source that did not end."""
        erasures = self._engine.name(ERASURES)
        self._engine.execute(
            f"UPDATE {erasures} SET counts = ? WHERE source_id = ? AND erasure_id = ?",
            [_counts(receipt, emptied), receipt.source_id, receipt.erasure_id],
        )
        self._engine.execute(
            f"UPDATE {erasures} SET finished_at = ? WHERE source_id = ? AND finished_at IS NULL",
            [now, receipt.source_id],
        )

    def _read(self, condition: str, *parameters: str) -> list[Receipt]:
        found = self._engine.rows(
            f"SELECT {', '.join(_NAMES)}, counts, remains FROM {self._readable(ERASURES)}"
            f" WHERE {condition} ORDER BY erasure_id DESC",
            parameters,
        )
        return [
            Receipt(**dict(zip(_NAMES, start, strict=True)), **_numbers(counts), remains=remains)
            for *start, counts, remains in found
        ]


def _row(receipt: Receipt) -> list[object]:
    """Return the row of a receipt, its values in the order of the columns."""
    start = [receipt.erasure_id, receipt.source_id, receipt.erased_at, receipt.finished_at]
    return [*start, receipt.outcome, _counts(receipt, receipt.emptied), receipt.remains]


def _counts(receipt: Receipt, emptied: Collection[str]) -> str:
    numbers = ("people", "profiles", "addresses", "customers", "rejects", "quoted", "rows")
    return json.dumps({**{n: getattr(receipt, n) for n in numbers}, "emptied": [*emptied]})


def _numbers(counts: str) -> dict[str, Any]:
    found: dict[str, Any] = {"quoted": 0, **json.loads(counts)}  # Older ones did not look for them.
    return {**found, "emptied": tuple(found["emptied"])}
