"""Verify one table of the API: read it, or parts of it, and explain what differs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_replica import retention
from ometria_replica.batch import TableState
from ometria_replica.batching import page_batches, parts_of, stage_pages
from ometria_replica.following import forget_replaced
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import STAGED, Staging
from ometria_replica.ometria.samples import read_offsets, read_parents, read_stretches
from ometria_replica.ometria.start_times import LOOK_BACK, due_since
from ometria_replica.privacy import secret_for
from ometria_replica.records import Page, field_text
from ometria_replica.selection import Selection, Span, Times, Values
from ometria_replica.verification.extra import ExtraRows, pages_of, profiles_of
from ometria_replica.verification.findings import GONE, MOST_ASKED, NEWER, REPAIRED, Findings
from ometria_replica.verification.nested import ReadInside
from ometria_replica.ways_to_read import Growing, Newest, Pages, PerParent, Windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from ometria_replica.batch import Batch
    from ometria_replica.mapping import Staged
    from ometria_replica.ometria.per_parent import Parent
    from ometria_replica.schema import Table
    from ometria_replica.table_reads import TableRead
    from ometria_replica.verification.sample import Budget, Plan, Sample
    from ometria_replica.warehouse.verification import Verification


@dataclass
class TableVerification:
    """One table of one account that is being verified by a *plan*."""

    read: TableRead
    plan: Plan
    sample: Sample
    budget: Budget
    repairs: bool
    verification: Verification
    findings: Findings = field(init=False)
    remarks: list[str] = field(default_factory=list)
    parts: int = 0
    parts_total: int = 0
    unreadable: list[str] = field(default_factory=list)
    waiting: int = 0
    inside: tuple[ReadInside, ...] = ()
    repaired_inside: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.inside = tuple(
            ReadInside(self.read.warehouse.connection, table, number)
            for number, table in enumerate(self.read.inside)
        )
        for each in self.inside:
            each.begin()
        self.findings = Findings(self.read.warehouse.connection, self.read.table)
        self.parts, self.parts_total = self.plan.parts, self.plan.total

    # --- one batch ---

    def _stage(
        self, pages: Sequence[Page], batch: Batch, inside: tuple[Table, ...] = ()
    ) -> Staging:
        read = self.read
        account = read.account
        staging = Staging(
            read.warehouse.connection, read.table, account.account_id, account.source_id, inside
        )
        stage_pages(staging, pages, batch.synced_at)
        return staging

    def _finish(self, staging: Staging) -> Staged:
        self.findings.records.note_staged()
        staged = staging.finish()
        self.findings.records.note_finished()
        return staged

    def compare_pages(self, pages: Sequence[Page]) -> None:
        """Compare the records of *pages*; load what differs, if it is to be repaired."""
        with translating(f"mapping {self.read.table.name}", self.read.warehouse.connection):
            batch = self.read.batch(self.read.run.clock())
            staging = self._stage(pages, batch, self.read.inside)
            staged = self._finish(staging)
            for inside, nested in zip(self.inside, staging.nested, strict=True):
                inside.add(nested)
            self.findings.add(self.verification.compare(batch, from_files=False))
            self._forget_merged()
        if self.repairs:
            self.load(replace(batch, parts=parts_of(staging)), staged)

    def load(self, batch: Batch, staged: Staged) -> None:
        """Load the staged rows that differ, and what is inside all of the records."""
        if not self.findings.keep_differing() and not self.inside:
            return
        forget_replaced(self.read, batch)
        with translating(f"loading {self.read.table.name}"):
            batch = replace(batch, joined_ids=staged.joined_ids, any_time=True)
            loaded = self.read.warehouse.load(batch)
        self.read.progress.add(replace(staged, records=0, merged=0, values_rejected=0), loaded)
        for each in self.read.inside:
            part = loaded.parts[each.full_name]
            self.repaired_inside[each.name] += part.inserted + part.updated + part.removed
        self.findings.forget_staged(REPAIRED)

    def _forget_merged(self) -> None:
        """Of an event whose key several have, the row may be any of them."""
        if not self.read.table.events:
            return
        keys = self.findings.suspects("stale", MOST_ASKED * 10)
        if keys:
            self.findings.forget_merged(self._rows(Values("__sync_key", tuple(keys))))

    def _rows(
        self, values: Values | None = None, times: Times | None = None
    ) -> Iterator[pa.RecordBatch]:
        selection = Selection(self.read.account.source_id, values, times)
        return self.verification.rows(self.read.table, selection)

    # --- the whole table ---

    def verify(self) -> None:
        """Read what is planned and compare it; then explain what is no fault of the replica."""
        whole = self._read()
        self._forget_merged()
        self._explain_newer()
        self._ask_again()
        if whole is not None:
            ExtraRows(self).find(whole)
        self._explain_gone()
        if self.read.table.record_id is not None:
            ExtraRows(self).find_removed()

    def _read(self) -> Selection | None:
        """
        Read and compare what is planned.

        Returns the rows whose records were all read, so that others are extra; None if it is not
        known of any.
        """
        match self.read.table.read:
            case _ if self.plan.is_whole:
                return self._read_whole()
            case Pages() as collection:
                offsets = self._affordable(self.plan.offsets)
                self._compare(read_offsets(self.read.source.client, collection, offsets))
            case Windows() as windows:
                return self._read_stretches(windows)
            case PerParent() as per_parent:
                return self._read_parents(per_parent)
        return None

    def _compare(self, pages: Iterable[Page]) -> bool:
        """Compare *pages* in batches, as far as the budget allows; whether it did."""
        read, records, before = self.read, 0, self.read.source.requests

        def watched() -> Iterator[Page]:
            nonlocal records
            for page in pages:
                records += len(page.records)
                requests = read.source.requests - before
                read.advance(records, requests, records)
                yield page
                if not self.budget.allows(read.source.requests):
                    return

        for some, _ in page_batches(watched(), read.warehouse.batch_size):
            self.compare_pages(some)
        read.progress.count(records=records)
        return not self.budget.stopped

    def _affordable(self, parts: Iterable[int]) -> Iterator[int]:
        self.parts = 0
        for part in parts:
            if not self.budget.allows(self.read.source.requests):
                return
            self.parts += 1
            yield part

    def _read_whole(self) -> Selection | None:
        read = self.read
        reading = read.source.read(read.table, TableState())
        is_whole = self._compare(reading.pages())
        if reading.failure is not None:
            raise reading.failure
        if isinstance(read.table.read, PerParent):
            self.parts = self.parts_total = reading.total or 0
            self.findings.records.forget_parents(reading.retry)
        if not is_whole:
            self.parts = 0
            self.remarks.append("not read to its end, since --requests were used up")
        doubtful = reading.is_doubtful and not reading.retry
        if isinstance(read.table.read, Newest):
            return None
        return Selection(read.account.source_id) if is_whole and not doubtful else None

    def _read_stretches(self, windows: Windows) -> Selection | None:
        read, spans = self.read, []
        client, self.parts = read.source.client, 0
        for stretch, pages in read_stretches(client, windows, self.plan.stretches):
            self._compare(pages)
            spans.append(Span(stretch.first, stretch.last))
            self.parts += 1
            if self.budget.stopped:
                break
        if client.behaviour(windows.endpoint).is_doubtful or read.table.time is None:
            return None
        return Selection(read.account.source_id, times=Times(read.table.time, tuple(spans)))

    def _read_parents(self, per_parent: PerParent) -> Selection | None:
        read, failed = self.read, []

        def passed_over(parent: Parent, _: Exception) -> None:
            failed.append(parent.id)

        ids = [field_text(record, "id") for record in read.source.parents(read.table)]
        known = [each for each in ids if each]
        chosen = self.sample.choose(known, read.account.source_id, read.table.name)
        self.parts, self.parts_total = len(chosen), len(known)
        client = read.source.client
        is_whole = self._compare(
            read_parents(
                client, per_parent, chosen,
                since_parameter=read.account.changes_parameter, passed_over=passed_over,
            )
        )  # fmt: skip
        self.findings.records.forget_parents(failed)
        if not is_whole:
            self.remarks.append("not all of these were read, since --requests were used up")
        parents, column = self.findings.records.parents(), self.findings.row.parent
        if not is_whole or column is None or client.behaviour(per_parent.endpoint).is_doubtful:
            return None
        return Selection(read.account.source_id, Values(column, tuple(parents)))

    # --- what may have changed since the last sync ---

    def _explain_newer(self) -> None:
        """Explain what the next sync reads again: it may have changed since the last one."""
        findings, state, now = self.findings, self.plan.state, self.read.run.started_at
        if not findings.suspects("stale", 1) and not findings.suspects("missing", 1):
            return
        match self.read.table.read:
            case Pages(since=None) | Growing() | Newest():  # Each read of all mends it.
                findings.explain(NEWER, "true")
            case Pages():
                self._explain_updated()
            case Windows():
                since = min(state.watermark or now, now) - LOOK_BACK
                findings.explain_since(NEWER, since)
            case PerParent():
                until = self.read.source.read_until
                findings.explain_due(
                    NEWER,
                    {
                        list_id: due_since(state, until, record)
                        for record in self.read.source.parents(self.read.table)
                        if (list_id := field_text(record, "id"))
                    },
                )

    def _explain_updated(self) -> None:
        """
        Read what the next sync reads, after all else: what has changed is among it.

        Records have no time of update, so what changed before the last sync, and not long
        before, is among it too.
        """
        read = self.read
        if not self.budget.allows(read.source.requests):
            self.findings.explain(NEWER, "true")
            self.remarks.append("what changed since the last sync is not known: raise --requests")
            return
        reading = read.source.read(read.table, self.plan.state)
        for pages, _ in page_batches(reading.pages(), read.warehouse.batch_size):
            self._stage(pages, read.batch(read.run.clock())).finish()
            self.findings.explain(NEWER, f"key IN (SELECT __sync_key FROM {STAGED})")

    def _ask_again(self) -> None:
        """Ask for records that differ once more: they may have changed, or be gone by now."""
        read = self.read
        profiles = profiles_of(read.table)
        if profiles is None or self.repairs:
            return
        asked: dict[str, str] = {}
        for kind in ("missing", "stale"):
            asked |= self.findings.people(kind, MOST_ASKED)
        if not asked:
            return
        found, ids = pages_of(read, profiles, asked.values(), self.budget)
        keys = list(asked)[: len(ids)]
        batch = read.batch(read.run.clock())
        self._stage(found, batch).finish()
        self.findings.confirm(self.verification.compare(batch, from_files=False), keys)

    def _explain_gone(self) -> None:
        """Explain rows that have grown too old, and those of people who were erased, meanwhile."""
        read, findings = self.read, self.findings
        table = retention.retained(read.table, read.account, read.run.clock())
        if table.oldest is not None and table.time is not None:
            findings.explain(GONE, f"moment < TIMESTAMPTZ '{table.oldest.isoformat()}'")
        secret = secret_for(read.account)
        now = read.warehouse.suppressions.of(read.account.source_id, secret)
        if now != read.table.suppressions:
            findings.explain(NEWER, "true", "true")
            self.remarks.append("people were erased meanwhile; verify the table again")
