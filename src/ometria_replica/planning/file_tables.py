"""Plans the read of a table of the export: which files, and what they hold as far as is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_replica.due import files_due, has_to_wait, is_every_file_due, waiting_files
from ometria_replica.planning.figures import NOTHING, Figure, estimated, known, unknown
from ometria_replica.planning.last_runs import FEW, files_in, share_there
from ometria_replica.planning.table_plan import TablePlan, Why
from ometria_replica.text import counted
from ometria_replica.warehouse.verification import Verification

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ometria_replica.batch import TableState
    from ometria_replica.due import FilesDue
    from ometria_replica.planning.last_runs import LastRuns, PastRead
    from ometria_replica.records import FeedObject
    from ometria_replica.report import Due
    from ometria_replica.table_reads import TableRead
    from ometria_replica.warehouse.verification import LoadedFile

MOST_LOADS = 100  # By which the records of a new file are estimated.


@dataclass(frozen=True)
class FilePlanner:
    """Plans one table of the export. If *is_offline*, nothing is listed."""

    read: TableRead
    runs: LastRuns
    is_offline: bool = False

    def plan(self) -> TablePlan:
        """Plan the table. Raises OmetriaError as the read would."""
        state, rows = self.read.state, self.read.count_rows()
        due: Due = "all" if not state.files or is_every_file_due(self.read) else "new"
        due = "period" if self.read.window.is_partial else due
        plan = TablePlan(self.read.account.source_id, self.read.table.name, due, rows=rows)
        plan = replace(plan, why=tuple(self._why(state)))
        return self._offline(plan, state) if self.is_offline else self._listed(plan)

    def _why(self, state: TableState) -> Iterator[Why]:
        if self.read.window.full:
            yield Why("--full", "--full asks for it")
        if self.read.table.name in self.read.lost:
            yield Why("rows lost", "rows that were loaded are gone from the warehouse")
        if not state.files and not self.read.window.is_partial:
            yield Why("first run", "no file was read yet")

    def _listed(self, plan: TablePlan) -> TablePlan:
        due = files_due(self.read)
        log = self._log()
        there = {version: each for version, each in log.items() if not each.unreadable}
        old = [file for file in due.files if _version(file) in there]
        new = [file for file in due.files if _version(file) not in there]
        old_records = sum(there[_version(file)].records for file in old)
        new_records = self._records_of(new, there)
        plan = replace(
            plan,
            due=due.kind(self.read),
            files=known(len(due.files)),
            bytes=known(sum(file.size for file in due.files)),
            records=known(old_records) + new_records,
            rewritten=self._rewritten(old_records, new_records, plan.rows),
            tried_again=sum(1 for file in due.files if file.name in due.waiting),
        )
        return plan.noting(*self._notes(due, old))

    def _notes(self, due: FilesDue, old: Sequence[FeedObject]) -> Iterator[str]:
        is_asked = self.read.window.is_partial or is_every_file_due(self.read)
        if old and not is_asked:
            files = counted(len(old), "file that was", "files that were")
            yield f"{files} read before would be read again, since the state was rewound"
        now = self.read.run.started_at
        later = sum(1 for each in due.waiting.values() if has_to_wait(each, each.file, now))
        if later and not is_asked:
            files = counted(
                later, "file that could not be read is", "files that could not be read are"
            )
            yield f"{files} not due to be tried again yet"
        if due.young:
            files = counted(
                due.young, "file may still grow, and is", "files may still grow, and are"
            )
            yield f"{files} left for the next run"
        if not due.listed and not due.young:
            known_files = due.state.files - due.state.unreadable
            yield self.read.source.export(self.read.table).nothing_found(known_files).rstrip(".")

    def _offline(self, plan: TablePlan, state: TableState) -> TablePlan:
        """Estimate by the file log and the last runs, since the listing is not known."""
        now = self.read.run.started_at
        again = [
            each.file
            for each in waiting_files(self.read, state).values()
            if not has_to_wait(each, each.file, now)
        ]
        files = Figure(None, "unknown", len(again), None)
        if plan.due == "all" and state.files:
            files = estimated(state.files, 0)
        elif plan.due == "new" and (past := self._past) and past[0].started_at <= now:
            files = files_in(past, max(timedelta(), now - past[0].started_at))
        plan = replace(plan, files=files, bytes=unknown(), records=unknown(), rewritten=unknown())
        plan = replace(plan, tried_again=len(again))
        return plan.noting("the export was not listed (--offline)")

    # --- what earlier runs tell ---

    @property
    def _past(self) -> Sequence[PastRead]:
        return self.runs.reads(self.read.account.source_id, self.read.table.name, "new")

    def _log(self) -> Mapping[tuple[str, str, int], LoadedFile]:
        warehouse = self.read.warehouse
        verification = Verification(warehouse.sessions, warehouse.leases)
        return verification.files(self.read.account.source_id, self.read.table.name)

    def _records_of(
        self, files: Sequence[FeedObject], log: Mapping[tuple[str, str, int], LoadedFile]
    ) -> Figure:
        """Estimate the records of files that were not loaded yet, by records for each byte."""
        if not files:
            return NOTHING
        newest = sorted(log.items(), key=lambda item: item[1].loaded_at)[-MOST_LOADS:]
        loads = [(size, each.records) for (_, _, size), each in newest if size]
        size = sum(file.size for file in files)
        whole = sum(size for size, _ in loads)
        if not whole:
            return unknown()
        shares = [records / size for size, records in loads]
        value = round(size * sum(records for _, records in loads) / whole)
        return estimated(value, int(size * min(shares) / 2), round(2 * size * max(shares)) + FEW)

    def _rewritten(self, old: int, new: Figure, rows: int) -> Figure:
        """Estimate the rows that are written again: those of files that were read before."""
        if not rows or (not old and new.value == 0):
            return NOTHING
        share = share_there(self._past, unchanged=True)
        if new.value == 0:
            return estimated(min(old, rows), 0, min(old, rows))
        if new.value is None or share is None:
            return replace(unknown(), high=rows)
        return estimated(min(rows, old + round(new.value * share)), 0, rows)


def _version(file: FeedObject) -> tuple[str, str, int]:
    return file.name, file.etag, file.size
