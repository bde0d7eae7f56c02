"""Verify a table whose rows are in arrays inside the records of another, as part of these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_replica.batching import page_batches, stage_pages
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import STAGED, Staging, quoted
from ometria_replica.selection import Selection, Values
from ometria_replica.verification.extra import pages_of, profiles_of
from ometria_replica.verification.findings import MOST_ASKED, NEWER, Findings
from ometria_replica.ways_to_read import Inside, Pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import TableState
    from ometria_replica.mapping.nested_arrays import NestedStaging
    from ometria_replica.records import Page
    from ometria_replica.schema import Table
    from ometria_replica.table_reads import TableRead
    from ometria_replica.verification.sample import Budget, Plan
    from ometria_replica.warehouse.verification import Verification

_MOST_PARENTS = 20_000  # In one condition; the rows of more are read with all others.


@dataclass(frozen=True)
class ReadInside:
    """
    The rows of *table* that the records of a verification have inside, in temporary tables.

    *number* tells the tables apart that are inside one. Of each record the last copy counts, and
    of one without the array nothing is known.
    """

    connection: DuckDBPyConnection
    table: Table
    number: int

    @property
    def rows(self) -> str:
        """The temporary table with the rows."""
        return f"verify_inside_{self.number}"

    @property
    def whole(self) -> str:
        """The temporary table with the ids of the records whose arrays were read."""
        return f"verify_whole_inside_{self.number}"

    @property
    def parent(self) -> str:
        """The column of a row with the id of its record."""
        column = self.table.parent_column
        return quoted(column.name if column else "__sync_key")

    def begin(self) -> None:
        """Forget what was read before."""
        for name in (self.rows, self.whole):
            self.connection.execute(f"DROP TABLE IF EXISTS {name}")

    def add(self, staged: NestedStaging) -> None:
        """Take what is inside the records of a batch that is staged and finished."""
        run = self.connection.execute
        for name, like in ((self.rows, staged.tables.staged), (self.whole, staged.whole)):
            run(f"CREATE TEMP TABLE IF NOT EXISTS {name} AS FROM {like} LIMIT 0")
        again = f"IN (SELECT parent FROM {staged.whole})"
        run(f"DELETE FROM {self.rows} WHERE {self.parent} {again}")
        run(f"DELETE FROM {self.whole} WHERE parent {again}")
        run(f"INSERT INTO {self.rows} BY NAME FROM {staged.tables.staged}")
        run(f"INSERT INTO {self.whole} FROM {staged.whole}")

    def count(self, name: str) -> int:
        """Count the rows of one of the temporary tables."""
        ((number,),) = self.connection.execute(f"SELECT count(*) FROM {name}").fetchall()
        return int(number)

    def stage(self, condition: str = "true") -> None:
        """Put the rows for which a condition of SQL holds in place of what is staged."""
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {STAGED} AS FROM {self.rows} WHERE {condition}"
        )


@dataclass
class InsideVerification:
    """
    A table that is verified by what was read of it *inside* the records of another.

    *parent* is the read of that other table, and *plan* what of it was read. *state* is that
    of the other table before anything was read, as far as both were read.
    """

    parent: TableRead
    inside: ReadInside
    plan: Plan
    state: TableState
    parts: int
    parts_total: int
    budget: Budget
    verification: Verification
    read: TableRead = field(init=False)
    findings: Findings = field(init=False)
    remarks: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    waiting: int = 0

    def __post_init__(self) -> None:
        self.read = replace(self.parent, table=self.inside.table, inside=())
        self.findings = Findings(self.inside.connection, self.inside.table)

    def verify(self) -> None:
        """Compare the rows; then explain what is no fault of the replica."""
        with translating(f"comparing {self.read.table.name}", self.inside.connection):
            self._compare()
            self._find_extra()
        self._explain_newer()
        self._ask_again()

    def _compare(self) -> None:
        inside, size = self.inside, self.parent.warehouse.batch_size.records
        for start in range(0, inside.count(inside.rows), size):
            among = f"rowid IN (SELECT rowid FROM {inside.rows} LIMIT {size} OFFSET {start})"
            inside.stage(among)
            self.findings.records.note_staged()
            self.findings.records.note_finished()
            batch = self.read.batch(self.read.run.clock())
            self.findings.add(self.verification.compare(batch, from_files=False))

    # --- rows that the records do not have ---

    def _find_extra(self) -> None:
        """Find the rows of the records that were read that these do not have."""
        inside, source_id = self.inside, self.read.account.source_id
        number, column = inside.count(inside.whole), inside.table.parent_column
        if not number or column is None:
            return
        selection = Selection(source_id)
        if number <= _MOST_PARENTS:
            found = inside.connection.execute(f"SELECT DISTINCT parent FROM {inside.whole}")
            parents = tuple(parent for (parent,) in found.fetchall())
            selection = replace(selection, values=Values(column.name, parents))
        rows = self.verification.rows(inside.table, selection)
        self.findings.add_rows(rows, inside=inside.whole)
        self.findings.add_extra(may_be_blank=False)

    # --- what may have changed since the last sync ---

    @property
    def _differs(self) -> bool:
        return any(self.findings.suspects(kind, 1) for kind in ("missing", "stale", "extra"))

    def _explain_newer(self) -> None:
        """Explain what the next sync reads again, with the records."""
        if not self._differs:
            return
        read, collection = self.parent, self.parent.table.read
        own = self.inside.table.read
        reads_updates = isinstance(collection, Pages) and collection.since is not None
        if not reads_updates or not isinstance(own, Inside) or not own.is_update:
            self.findings.explain(NEWER, "true", "true")
            return
        if not self.budget.allows(read.source.requests):
            self.findings.explain(NEWER, "true", "true")
            self.remarks.append("what changed since the last sync is not known: raise --requests")
            return
        reading = read.source.read(read.table, self.state)
        self.inside.begin()
        for pages, _ in page_batches(reading.pages(), read.warehouse.batch_size):
            self._take(pages)
        self._explain_records(self.inside.whole)

    def _take(self, pages: Sequence[Page]) -> None:
        """Stage records, and take what is inside them."""
        read = self.parent
        staging = Staging(
            read.warehouse.connection,
            read.table,
            read.account.account_id,
            read.account.source_id,
            (self.inside.table,),
        )
        stage_pages(staging, pages, read.run.clock())
        staging.finish()
        self.inside.add(staging.nested[0])

    def _explain_records(self, ids: str) -> None:
        self.findings.explain(NEWER, f"outer_id IN (SELECT parent FROM {ids})", "true")

    def _ask_again(self) -> None:
        """Ask for the records that differ once more: they may have changed, or be gone by now."""
        read, profiles, findings = self.parent, profiles_of(self.parent.table), self.findings
        if profiles is None or not self._differs:
            return
        asked: dict[str, str] = {}
        for kind in ("missing", "stale", "extra"):
            asked |= findings.people(kind, MOST_ASKED)
        ids = sorted(set(asked.values()))[:MOST_ASKED]
        found, ids = pages_of(read, profiles, ids, self.budget)
        self.inside.begin()
        self._take(found)
        self.inside.stage()
        batch = self.read.batch(read.run.clock())
        seen = set(ids)
        keys = [key for key, profile_id in asked.items() if profile_id in seen]
        findings.confirm(self.verification.compare(batch, from_files=False), keys)
        findings.confirm_extra(self.inside.whole, ids)
