"""What of a table is due: all records or the new ones, and which export files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from ometria_replica.batch import TableState
from ometria_replica.failpoints import step
from ometria_replica.observer import FeedListed, Watch, current_place
from ometria_replica.ways_to_read import Growing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ometria_replica.batch import WaitingFile
    from ometria_replica.ometria.read_strategies import Reading
    from ometria_replica.read_position import InterruptedRead, ReadPosition
    from ometria_replica.records import FeedObject
    from ometria_replica.report import Due
    from ometria_replica.run_context import Window
    from ometria_replica.table_reads import TableRead

LIST_ALL = timedelta(days=1)
"""A file whose name sorts before those of a week ago is found this late at the latest."""

LONGEST_WAIT = timedelta(days=7)
"""Between two attempts to read a file that the store does not give."""

WhyWhole = Literal["full", "deletes asked", "deletes due", "inside", "no watermark"]
"""
Why all records of a table are due: ``--full``; ``--detect-deletes``; the last full read is so old
that another is due; a table inside it needs it; or the table was never read to its end.
"""


@dataclass(frozen=True)
class ApiDue:
    """
    What is due of a table of the API, as *known* tells the source: from its watermark on.

    *whole* are the reasons why all records are due, the first one decides; none if only the new
    ones are. *inside* names the tables inside it that need them all. *starts_over* says that an
    interrupted full read cannot be continued.
    """

    known: TableState
    whole: tuple[WhyWhole, ...] = ()
    inside: tuple[str, ...] = ()
    starts_over: bool = False

    def kind(self, window: Window, reading: Reading) -> Due:
        """Say which records a *reading* of what is due requests."""
        if window.is_partial:
            return "period"
        return "all" if self.whole or reading.is_full else "new"


def api_due(read: TableRead) -> ApiDue:
    """Decide what is due of a table of the API. Only reads the warehouse."""
    window = read.window
    state, unread = _with_inside(read)
    whole: list[WhyWhole] = ["full"] if window.full else []
    if _is_due_in_full(read, state):
        whole.append("deletes asked" if window.detect_deletes else "deletes due")
    if unread and not window.is_partial:
        whole.append("inside")
    known = TableState() if whole else state
    starts_over = False
    if known.watermark is None:
        interrupted, starts_over = _to_continue(read, state)
        known = replace(known, interrupted=interrupted)
    if known.ends:
        known = replace(known, ends=_credible_ends(read, known))
    if state.watermark is None and not window.is_partial:
        whole.append("no watermark")
    return ApiDue(known, tuple(whole), tuple(unread), starts_over)


def _with_inside(read: TableRead) -> tuple[TableState, list[str]]:
    """
    Read the state of a table and of those that are inside it, as if they were one.

    Also name those for which all of its records have to be read: they were never read with them;
    or a full read was without them, which may have removed records; or any read, where no
    watermark tells from when on to read. An interrupted full read is continued only if it was one
    of them all.
    """
    state = read.state
    inside = {table.name: read.state_of(table) for table in read.inside}
    if any(each.interrupted != state.interrupted for each in inside.values()):
        state = replace(state, interrupted=None)
    if state.watermark is None:
        return state, []
    needed = state.full_read_at
    if isinstance(read.table.read, Growing):
        needed = state.watermark
    unread = [
        name
        for name, each in inside.items()
        if each.watermark is None or (needed is not None and each.watermark < needed)
    ]
    known = [each.watermark for each in inside.values() if each.watermark is not None]
    return replace(state, watermark=min([state.watermark, *known])), unread


def _is_due_in_full(read: TableRead, state: TableState) -> bool:
    if read.table.record_id is None:
        return False
    grows = isinstance(read.table.read, Growing)
    account = read.account
    days = account.full_read_every_days if grows else account.detect_deletes_every_days
    if read.run.window.detect_deletes or days is None:
        return read.run.window.detect_deletes
    if state.full_read_at is None:  # So far a full read was only continued.
        return not read.run.window.is_partial
    return read.run.started_at - state.full_read_at >= timedelta(days=days)


def _to_continue(read: TableRead, state: TableState) -> tuple[InterruptedRead | None, bool]:
    """
    Find the full read that this run can continue; a full read that is asked for is a new one.

    Also say whether there is one that cannot be continued.
    """
    window, found = read.run.window, state.interrupted
    if found is None or window.full or window.detect_deletes or window.is_partial:
        return None, False
    if found.is_credible(read.run.started_at, _rows(read, state)):
        return found, False
    return None, True


def _credible_ends(read: TableRead, state: TableState) -> tuple[ReadPosition, ...]:
    """Give the known ends of collections, unless the warehouse lacks rows before them."""
    rows = _rows(read, state)
    return state.ends if rows >= sum(end.offset for end in state.ends) else ()


def _rows(read: TableRead, state: TableState) -> int:
    """Count the records that were read, as far as the warehouse knows."""
    rows = read.count_rows() + state.rejects
    return rows + (len(read.table.suppressions.hashes) if read.table.suppressions else 0)


@dataclass(frozen=True)
class FilesDue:
    """
    The export *files* that are due, in the order of reading, of those *listed*.

    *is_whole* says that the whole feed was listed. *waiting* are the files, by name, that could
    not be read before. *young* ones may still grow, and are left for the next run.
    """

    state: TableState
    listed: Sequence[FeedObject]
    files: Sequence[FeedObject]
    waiting: Mapping[str, WaitingFile]
    is_whole: bool
    young: int = 0

    def kind(self, read: TableRead) -> Due:
        """Say which files are due."""
        if read.window.is_partial:
            return "period"
        is_every = self.is_whole and len(self.listed) == len(self.files)
        is_every = is_every and bool(self.listed or not self.state.files)
        return "all" if is_every or is_every_file_due(read) else "new"


def is_every_file_due(read: TableRead) -> bool:
    """Whether all files of a table are due, whatever the file log says."""
    return read.window.full or read.table.name in read.lost


def files_due(read: TableRead) -> FilesDue:
    """List the export files of a table, and decide which of them are due."""
    state, export = read.state, read.source.export(read.table)
    waiting = waiting_files(read, state)
    start_after = _list_after(read, state, len(waiting))
    watch = Watch()
    with step("listing"):
        listed = list(export.list(start_after))
        if start_after is not None and not listed and not export.waiting:
            start_after = None  # Files of the last week were there, and are gone.
            listed = list(export.list())
    read.run.observe(FeedListed(watch.began_at, watch.seconds, current_place(), len(listed)))
    files = _files_to_read(read, listed, waiting)
    return FilesDue(state, listed, files, waiting, start_after is None, export.waiting)


def waiting_files(read: TableRead, state: TableState) -> Mapping[str, WaitingFile]:
    """Find the files, by name, that could not be read before and are tried again."""
    source_id, name = read.account.source_id, read.table.name
    return read.ask(
        lambda warehouse: warehouse.file_log.waiting_files(source_id, name, state.retry_files)
    )


def _list_after(read: TableRead, state: TableState, waiting: int) -> str | None:
    """Find the name after which to list; None for all, which is due each day."""
    if is_every_file_due(read) or read.run.window.is_partial:
        return None
    listed_at = state.listed.get(read.source.feed_name(read.table))
    if listed_at is None or not timedelta() <= read.run.started_at - listed_at < LIST_ALL:
        return None
    source_id, name = read.account.source_id, read.table.name
    return read.ask(lambda warehouse: warehouse.file_log.list_after(source_id, name, waiting))


def _files_to_read(
    read: TableRead, listed: Sequence[FeedObject], waiting: Mapping[str, WaitingFile]
) -> list[FeedObject]:
    """Choose files by the file log, or by the days on which they were written."""
    window = read.window
    if window.is_partial:
        first, last = window.since or date.min, window.until or date.max
        return sorted(file for file in listed if first <= file.modified_at.date() <= last)
    if is_every_file_due(read):
        return sorted(listed)
    source_id, name = read.account.source_id, read.table.name
    files = read.ask(lambda warehouse: warehouse.file_log.new_files(source_id, name, listed))
    now = read.run.started_at
    return sorted(file for file in files if not has_to_wait(waiting.get(file.name), file, now))


def has_to_wait(known: WaitingFile | None, file: FeedObject, now: datetime) -> bool:
    """
    Whether this version of a file could not be read, and is not due again.

    After a clock that was ahead, no wait is longer than the longest.
    """
    return known is not None and known.file == file and now < known.retry_at <= now + LONGEST_WAIT
