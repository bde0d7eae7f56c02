"""Verify a table of the export: stage files again, and compare their rows with the table's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ometria_replica.batching import discard, file_batches, parts_of, stage_files
from ometria_replica.errors import NotEnoughMemory
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import Staging
from ometria_replica.records import Unreadable
from ometria_replica.selection import Selection, Span, Times
from ometria_replica.temp_files import temp_folder
from ometria_replica.verification.extra import AT_WORK, ExtraRows
from ometria_replica.verification.findings import GONE, NEWER
from ometria_replica.verification.tables import TableVerification
from ometria_replica.verification.torn_lines import TORN, find_torn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ometria_replica.batch import FileLogEntry, TableState
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.table_reads import TableRead
    from ometria_replica.warehouse.verification import LoadedFile, Verification

_MOST_TIMES = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ, _LOGGED = "verify_read_files", "verify_logged_files"


@dataclass(frozen=True)
class ListedFiles:
    """
    The files of a table in the export: those that were *loaded*, and whether others wait.

    *log* has each version that was ever read, and *waiting* counts the files that were not.
    """

    loaded: tuple[FeedObject, ...]
    log: Mapping[tuple[str, str, int], LoadedFile]
    waiting: int

    def loaded_at(self, file: FeedObject) -> datetime:
        """Return the ``__synced_at`` of the file's rows."""
        return self.log[_version(file)].loaded_at


def list_files(read: TableRead, verification: Verification, state: TableState) -> ListedFiles:
    """List the files of the export, and tell those that were loaded."""
    source_id, name = read.account.source_id, read.table.name
    listed = list(read.source.export(read.table).list())
    log = verification.files(source_id, name)
    new = (
        set(read.warehouse.file_log.new_files(source_id, name, listed))
        if state.files
        else set(listed)
    )
    loaded = [
        file
        for file in sorted(listed)
        if file not in new and (known := log.get(_version(file))) and not known.unreadable
    ]
    return ListedFiles(tuple(loaded), log, len(new))


@dataclass
class FilesVerification(TableVerification):
    """Some files of the export, or all, that are being verified."""

    listed: ListedFiles = field(kw_only=True)
    times: list[datetime] = field(default_factory=list)

    def verify(self) -> None:
        """Stage the files, and compare their rows; then explain what is no fault."""
        read, files, self.waiting = self.read, self.plan.files, self.listed.waiting
        with temp_folder(read.run.temp_directory) as folder:
            fetched = read.source.export(read.table).fetch(files, folder)
            done = size = 0
            for some in file_batches(fetched, read.warehouse.batch_size):
                self._compare_files(some)
                done += len(some)
                size += sum(file.origin.size for file in some)
                read.progress.count(files=len(some))
                read.advance(self.findings.records.checked(), 0, size)
        self._explain_unlogged()
        self._look_for_extra_rows()
        self._explain_gone()

    def _compare_files(self, files: Sequence[FetchedFile]) -> None:
        """Compare files; in halves, if there is too little memory for them at once."""
        try:
            self._compare_at_once(files)
        except NotEnoughMemory:
            if len(files) == 1:
                raise
            middle = len(files) // 2
            self._compare_files(files[:middle])
            self._compare_files(files[middle:])
            return
        discard(files)

    def _compare_at_once(self, files: Sequence[FetchedFile]) -> None:
        read = self.read
        times = [self.listed.loaded_at(file.origin) for file in files]
        with translating(f"mapping {read.table.name}", read.warehouse.connection):
            staging = Staging(
                read.warehouse.connection,
                read.table,
                read.account.account_id,
                read.account.source_id,
            )
            outcomes = stage_files(staging, files, times)
            staged = self._finish(staging)
            batch = read.batch(read.run.clock())
            self.findings.add(self.verification.compare(batch, from_files=True))
        if self.repairs:
            self._explain_unlogged()
            self.load(replace(batch, parts=parts_of(staging)), staged)
        for outcome, at in zip(outcomes, times, strict=True):
            self._note(outcome, at)
        read.progress.count(records=staged.records)

    def _note(self, outcome: FileLogEntry | Unreadable, at: datetime) -> None:
        """Note whether a file could be read, as it could when it was loaded."""
        if isinstance(outcome, Unreadable):  # The store does not give it now.
            self.remarks.append(f"{outcome.origin.name}: {outcome.reason}")
        elif outcome.unreadable_because is not None:
            self.unreadable.append(outcome.file.name)
        else:
            self.times.append(at)

    def _explain_unlogged(self) -> None:
        """Explain rows of a file that is not in the log yet: a run is at work, or was killed."""
        condition = "NOT logged"
        if not self.listed.waiting:
            at = (self.read.run.started_at - AT_WORK).isoformat()
            condition += f" AND loaded_at >= TIMESTAMPTZ '{at}'"
        self.findings.explain(NEWER, condition)

    def _look_for_extra_rows(self) -> None:
        """
        Find rows of the files that were read that no file has.

        A row's file is known by its load time. Rows of no file of the log are extra too, but only
        a look at all rows finds them.
        """
        read, findings = self.read, self.findings
        selection = Selection(read.account.source_id)
        if self.sample.share is not None:
            spans = tuple(Span(at, at) for at in self.times)
            selection = replace(selection, times=Times("__synced_at", spans))
        findings.add_rows(self.verification.rows(read.table, selection))
        findings.add_extra(may_be_blank=ExtraRows(self).were_blanked())
        log = self.listed.log
        findings.note_times(_READ, self.times)
        findings.note_times(_LOGGED, [known.loaded_at for known in log.values()])
        started = (read.run.started_at - AT_WORK).isoformat()
        at_work = f"loaded_at >= TIMESTAMPTZ '{started}'" if not self.listed.waiting else "true"
        findings.explain_extra(NEWER, f"loaded_at NOT IN (FROM {_LOGGED}) AND {at_work}")
        find_torn(read, self._grown())
        findings.explain_extra(
            GONE,
            f"loaded_at IN (FROM {_LOGGED}) AND loaded_at NOT IN (FROM {_READ})"
            f" AND (key, loaded_at) NOT IN (FROM {TORN})",
        )
        if self.repairs:
            ExtraRows(self).repair()

    def _grown(self) -> list[tuple[FeedObject, int, datetime]]:
        """List the files that were loaded when they were smaller, and have rows of then."""
        if self.sample.share is not None:  # The row may be of a file that was not read.
            return []
        files = {file.name: file for file in self.listed.loaded}
        texts = self.findings.suspects("extra", _MOST_TIMES, "epoch_us(loaded_at)::VARCHAR")
        times = {_EPOCH + timedelta(microseconds=int(text)) for text in texts}
        return [
            (files[name], size, known.loaded_at)
            for (name, _, size), known in self.listed.log.items()
            if name in files and size < files[name].size and not known.unreadable
            if known.loaded_at in times
        ]


def _version(file: FeedObject) -> tuple[str, str, int]:
    return file.name, file.etag, file.size
