"""Rows of the warehouse whose records were not read: find them, explain them, repair them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from ometria_replica.batch import DeleteDetection
from ometria_replica.batching import parts_of
from ometria_replica.errors import NotFound
from ometria_replica.mapping import SEEN_KEYS, Staging
from ometria_replica.records import Page
from ometria_replica.selection import Selection, Values
from ometria_replica.text import counted
from ometria_replica.verification.findings import GONE, MOST_ASKED, NEWER, REPAIRED
from ometria_replica.ways_to_read import Pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ometria_replica.schema import Table
    from ometria_replica.table_reads import TableRead
    from ometria_replica.verification.findings import Findings
    from ometria_replica.verification.sample import Budget, Plan
    from ometria_replica.warehouse.verification import Verification

AT_WORK = timedelta(minutes=10)
"""A row that was loaded so long before the verification began may be of a run that is at work."""

_MOST_REMOVED = 100_000


class Verified(Protocol):
    """The verification of a table, as far as it concerns rows whose records were not read."""

    read: TableRead
    plan: Plan
    budget: Budget
    repairs: bool
    verification: Verification
    findings: Findings
    remarks: list[str]


@dataclass(frozen=True)
class ExtraRows:
    """The extra rows of the table that *work* verifies."""

    work: Verified

    def find(self, selection: Selection) -> None:
        """Find rows of *selection*, whose records were all read, that are of none of them."""
        work, findings = self.work, self.work.findings
        source_id, table = work.read.account.source_id, work.read.table
        findings.add_rows(work.verification.rows(table, selection))
        findings.add_extra(may_be_blank=self.were_blanked())
        if table.events:
            self._explain_events()
        else:
            findings.explain_extra_keys(GONE, work.verification.noted(source_id, table.name))
            self._explain_deleted()
        if work.repairs:
            self.repair()

    def find_removed(self) -> None:
        """Find rows that a run has removed against its settings, by the run history."""
        work, read = self.work, self.work.read
        source_id = read.account.source_id
        for run in work.verification.removed_too_many(source_id, read.table.name):
            selection = Selection(source_id, Values("__sync_key", run.keys))
            there = {
                key
                for some in work.verification.rows(read.table, selection)
                for key in some.column("__sync_key").to_pylist()
            }
            lost = [key for key in run.keys if key not in there]
            if lost:
                work.findings.add_missing(lost)
                work.remarks.append(
                    f"run {run.run_id} has removed {counted(len(lost), 'row')} although its"
                    f" settings let it remove {run.most:,} at most; Ometria no longer has the"
                    " records, so only a backup has them"
                )

    def were_blanked(self) -> bool:
        """Whether an erasure has left events without the person."""
        read = self.work.read
        receipts = read.warehouse.receipts.of(read.account.source_id)
        return any(receipt.outcome == "blanked" for receipt in receipts)

    def explain_recent(self) -> None:
        """Explain rows that a run which is at work may have written."""
        since = (self.work.read.run.started_at - AT_WORK).isoformat()
        self.work.findings.explain_extra(NEWER, f"loaded_at >= TIMESTAMPTZ '{since}'")

    def _explain_events(self) -> None:
        """Explain events that Ometria no longer shows: the old, and those of deleted profiles."""
        read, findings = self.work.read, self.work.findings
        findings.explain_unshown(GONE)
        self.explain_recent()
        profiles = next((each for each in map(profiles_of, read.tables) if each), None)
        are_hidden = any(each.person == "profile" and each.treatment for each in read.table.columns)
        if profiles is None or are_hidden:
            findings.explain_extra(GONE, "true")  # Who they are is not known.
            return
        people = findings.suspects("extra", MOST_ASKED, "person")
        gone = [each for each in people if not self._is_there(profiles, each)]
        findings.explain_people(GONE, gone)
        if len(gone) == MOST_ASKED:  # Of the others, too, it is not shown that they are there.
            findings.explain_extra(GONE, "true")

    def _is_there(self, collection: Pages, record_id: str) -> bool:
        """Whether Ometria has a record; False too if it cannot be asked."""
        source = self.work.read.source
        if not self.work.budget.allows(source.requests):
            return False
        try:
            source.client.get(f"{collection.endpoint}/{quote(record_id, safe='')}")
        except NotFound:
            return False
        return True

    def _explain_deleted(self) -> None:
        """
        Explain rows whose records were deleted since the last full read: no sync knows of them.

        A full read gives each row that it finds a new load time, where rows are written again.
        """
        work = self.work
        full_read_at, is_noted = work.plan.state.full_read_at, work.read.table.record_id is not None
        if full_read_at is None or not is_noted or not work.verification.restamps:
            work.findings.explain_extra(GONE, "true")
            return
        at = full_read_at.isoformat()
        work.findings.explain_extra(GONE, f"loaded_at >= TIMESTAMPTZ '{at}'")

    def repair(self) -> None:
        """Note the rows whose records are gone, and remove them, if the settings say so."""
        if not self.work.findings.has_extra():
            return
        if self.work.read.table.record_id is not None:
            self._note_gone()
        elif self.work.read.account.deletes == "remove":
            self._remove()

    def _note_gone(self) -> None:
        """Do as the last batch of a full read does, which has found the records that are there."""
        read, findings, account = self.work.read, self.work.findings, self.work.read.account
        staging = Staging(
            read.warehouse.connection,
            read.table,
            account.account_id,
            account.source_id,
            read.inside,
        )
        staging.finish()  # Of no record: what was there has been loaded.
        findings.records.seen_keys(SEEN_KEYS)
        deletes = DeleteDetection(account.deletes == "remove", account.max_deleted_share)
        batch = replace(read.batch(read.run.clock()), deletes=deletes, is_full=True)
        loaded = read.warehouse.load(replace(batch, parts=parts_of(staging)))
        findings.explain_extra(REPAIRED if loaded.removed else GONE, "true")
        read.progress.count(
            deleted_upstream=loaded.deleted_upstream,
            removed=loaded.removed,
            removable=loaded.removable,
        )

    def _remove(self) -> None:
        read, findings, account = self.work.read, self.work.findings, self.work.read.account
        keys = findings.suspects("extra", _MOST_REMOVED)
        rows = read.warehouse.count(read.table, Selection(account.source_id))
        if not keys or len(keys) > account.max_deleted_share * rows:
            return
        lease = read.run.lease(account.source_id)
        removed = self.work.verification.remove(read.table, keys, lease)
        findings.explain_extra(REPAIRED, "true")
        read.progress.count(removed=removed)


def pages_of(
    read: TableRead, profiles: Pages, ids: Iterable[str], budget: Budget
) -> tuple[list[Page], list[str]]:
    """
    Ask for the profiles with these *ids*, as far as the budget allows.

    Returns the records of those that are there, and the ids that were asked for.
    """
    found: list[Page] = []
    asked: list[str] = []
    for profile_id in ids:
        if not budget.allows(read.source.requests):
            break
        asked.append(profile_id)
        try:
            answer = read.source.client.get(f"{profiles.endpoint}/{quote(profile_id, safe='')}")
        except NotFound:
            continue
        found.append(Page(answer.records, answer.requested_at, answer.origin))
    return found, asked


def profiles_of(table: Table) -> Pages | None:
    """Give the collection of a table of profiles; None for another table."""
    is_theirs = any(
        column.name == table.record_id and column.person == "profile" for column in table.columns
    )
    return table.read if is_theirs and isinstance(table.read, Pages) else None
