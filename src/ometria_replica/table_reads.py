"""A table that is read in batches, each with the state to commit with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from ometria_replica.batch import Batch, TableState
from ometria_replica.drift import Drift
from ometria_replica.retention import clipped
from ometria_replica.run_context import TableProgress
from ometria_replica.selection import Selection
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ometria_replica.config import AccountSettings
    from ometria_replica.drift import Changes
    from ometria_replica.mapping import Staged, Staging
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.run_context import RunContext, Window
    from ometria_replica.run_results import Results
    from ometria_replica.schema import Table
    from ometria_replica.suppressions import Suppressions
    from ometria_replica.warehouse.warehouse import Warehouse

Answer = TypeVar("Answer")


def lost_tables(warehouse: Warehouse, source_id: str) -> frozenset[str]:
    """
    Name the tables of a source that are read as if they were rewound: rows of them are gone.

    None but in a dry run, or for a plan: any other run has rewound them when it began.
    """
    return warehouse.lost_tables(source_id) if warehouse.sessions.dry_run else frozenset()


class Pending(Protocol):
    """Records that were read and are not staged yet. *is_first* marks a read's first batch."""

    @property
    def is_first(self) -> bool:
        """Whether this is the first batch of a read."""

    def stage(self, staging: Staging) -> Batch:
        """Stage them; return the state to commit with them."""

    def finish(self) -> None:
        """Count them, once they are loaded."""

    def in_parts(self) -> Sequence[Pending]:
        """Divide what needs too much memory as a whole; none if that is not possible."""


@dataclass
class TableRead:
    """
    One table of one account, about to be read.

    *tables* are all of the account: what an erased person leaves may be in any of them. *inside*
    are those of which rows are inside the records of *table*: they are read with it. The thread
    that reads may be another than the one that uses the *warehouse*: it has to :meth:`ask`. Of the
    tables named in *lost*, rows are gone that the state says were loaded: it counts for nothing.
    """

    run: RunContext
    results: Results
    warehouse: Warehouse
    account: AccountSettings
    source: AccountSource
    table: Table
    tables: tuple[Table, ...] = ()
    inside: tuple[Table, ...] = ()
    lost: frozenset[str] = frozenset()

    def without(self, people: Suppressions | None) -> TableRead:
        """Leave out the records of *people*; None if nobody was erased."""
        table = replace(self.table, suppressions=people)
        inside = tuple(replace(each, suppressions=people) for each in self.inside)
        return replace(self, table=table, inside=inside)

    @cached_property
    def progress(self) -> TableProgress:
        """The counts of the table."""
        return TableProgress(self.run, self.results, self.account, self.table.name)

    def ask(self, question: Callable[[Warehouse], Answer]) -> Answer:
        """Ask the warehouse, in the thread that uses it."""
        return self.run.threads.call(lambda: question(self.warehouse))

    def start(self, total: int | None, unit: str) -> None:
        """Report that the table begins."""
        self.run.progress.start(self.account.source_id, self.table.name, total, unit)

    def advance(self, records: int, requests: int, done: int) -> None:
        """Report how far the table is."""
        name = self.table.name
        self.run.progress.advance(self.account.source_id, name, records, requests, done)

    @property
    def requests(self) -> int:
        """Requests sent to the API so far; none for a feed, beside which others may be sent."""
        return 0 if isinstance(self.table.read, Feed) else self.source.requests

    @property
    def rate_limited(self) -> int:
        """Those of the requests that Ometria answered with 429."""
        return 0 if isinstance(self.table.read, Feed) else self.source.rate_limited

    @cached_property
    def progress_inside(self) -> dict[str, TableProgress]:
        """The counts of the tables that are inside, by the full name of each."""
        return {
            each.full_name: TableProgress(self.run, self.results, self.account, each.name)
            for each in self.inside
        }

    @cached_property
    def drift(self) -> Drift:
        """What is known of the fields of the table's records, with what this run has seen."""
        return Drift(self.warehouse.fields.of(self.account.source_id, self.table.name))

    def drift_in(self, batch: Batch, staged: Staged) -> Changes:
        """Compare the fields of a batch's records with what is known of the table's."""
        is_full = batch.is_full and not self.progress.report.continued_after
        return self.drift.changes(
            staged.structures,
            batch.synced_at,
            is_full=is_full,
            is_last=batch.full_read_at is not None,
            of_files=bool(batch.files),
        )

    def note_drift(self, changes: Changes) -> None:
        """Take over what a batch has changed, now that it is committed, and warn of it."""
        self.drift.committed(changes)
        for warning in changes.warnings:
            self.progress.warn(warning)

    @property
    def window(self) -> Window:
        """The window of the run, from the first day on of which the table keeps rows."""
        window = self.run.window
        return replace(window, since=clipped(self.table, window.since))

    @property
    def can_be_left_out(self) -> bool:
        """Whether a run goes on if Ometria refuses the table, and with it those inside."""
        names = {each.name for each in (self.table, *self.inside)}
        return self.table.optional and names.isdisjoint(self.account.require)

    @property
    def state(self) -> TableState:
        """The table's state in the warehouse, read now."""
        return self.state_of(self.table)

    def state_of(self, table: Table) -> TableState:
        """Read the state of this table, or of one that is inside it."""
        source_id, name = self.account.source_id, table.name
        state = self.ask(lambda warehouse: warehouse.state.table_state(source_id, name))
        if name in self.lost:
            return TableState(loaded_at=state.loaded_at, files=state.files, rejects=state.rejects)
        return state

    def count_rows(self) -> int:
        """Count the rows of the account in the table, now."""
        selection = Selection(self.account.source_id)
        return self.ask(lambda warehouse: warehouse.count(self.table, selection))

    def batch(self, synced_at: datetime) -> Batch:
        """Make a batch that moves no state."""
        source_id = self.account.source_id
        lease = self.run.lease(source_id)
        return Batch(self.table, source_id, self.run.run_id, synced_at, lease=lease)
