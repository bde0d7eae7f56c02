"""State tables that are gone: what they said is lost, and a run reads again what they said of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.schema import STATE_SCHEMA
from ometria_replica.warehouse import state_upgrades
from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import (
    ACCOUNTS,
    COLUMN_TREATMENTS,
    DELETED_UPSTREAM,
    DELETION_REQUESTS,
    ERASURES,
    FIELDS,
    FILES,
    FOLLOWED,
    LEASES,
    LISTED,
    REJECTS,
    RETRY_FILE,
    RUNS,
    STATE_TABLES,
    SUPPRESSION_SECRETS,
    SUPPRESSIONS,
    WATERMARKS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ometria_replica.schema import StateTable

_WHAT_FOLLOWS = {
    ACCOUNTS: "each account is noted again when it is synced, with its source_id and wide_keys of"
    " then",
    COLUMN_TREATMENTS: "which columns were excluded or hashed is forgotten; keep these settings as"
    " they were",
    SUPPRESSIONS: "people who were erased are loaded again; erase them again",
    SUPPRESSION_SECRETS: "people who were erased cannot be recognised; restore it from a backup",
    ERASURES: "the receipts of erasures are forgotten",
    WATERMARKS: "the tables that are read from the API are read again from the beginning",
    FILES: "all export files are read again",
    REJECTS: "what was rejected before is forgotten; `ometria-replica sync --full` finds it again",
    DELETED_UPSTREAM: "deletions that were recorded before are forgotten; the next full read"
    " records those whose rows are still here",
    DELETION_REQUESTS: "the deletion requests of Ometria are read again",
    FIELDS: "which fields the kept records had is noted anew",
    RUNS: "the run history begins anew",
    LEASES: "if another run is at work at this moment, it ends with an error",
}
"""What the loss of each table means. Of the version nothing is lost: it is written anew."""


@dataclass(frozen=True)
class LostTables(Part):
    """Finds state tables that are missing. Within a session of the caller."""

    def tables(self) -> Sequence[StateTable]:
        """List the state tables that are missing, although all were there once."""
        if state_upgrades.version_of(self._engine) != state_upgrades.STATE_VERSION:
            return ()
        return self._engine.missing(STATE_TABLES)

    def forget(self, tables: Sequence[StateTable]) -> None:
        """Drop what the others say of the content of *tables*, which were created again."""
        if FILES in tables:
            self._engine.execute(
                f"DELETE FROM {self._engine.name(WATERMARKS)}"
                " WHERE starts_with(kind, ?) OR starts_with(kind, ?)",
                [LISTED, RETRY_FILE],
            )
        if DELETION_REQUESTS in tables:
            self._engine.execute(
                f"DELETE FROM {self._engine.name(WATERMARKS)} WHERE kind = ?", [FOLLOWED]
            )


def warnings(tables: Sequence[StateTable], *, dry_run: bool) -> Iterator[str]:
    """Say of each missing table what is lost with it."""
    verb = "is" if dry_run else "was"
    for table in tables:
        yield f"The state table {STATE_SCHEMA}.{table.name} {verb} missing: {_WHAT_FOLLOWS[table]}."
