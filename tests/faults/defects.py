# ruff: noqa: D401 -- A defect's docstring describes it, and the documentation quotes it.
"""
The seeded defects: mistakes that a replica could make, and that others have made.

Each is switched on in a child only, to show that the checks see it. Its docstring describes
the mistake, and the documentation quotes it.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

from ometria_replica import api_reads, batching, due, loading, replication
from ometria_replica.batch import FileLogEntry
from ometria_replica.errors import (
    AccessDenied,
    OmetriaError,
    ReplicaError,
    Unavailable,
    WarehouseError,
)
from ometria_replica.mapping import SEEN_KEYS, STAGED, Staging, finishing
from ometria_replica.ometria import (
    collection,
    decompress,
    endpoint_behaviour,
    export,
    folder,
    offset_pages,
    page_overlap,
    per_parent,
    planned_pages,
    read_strategies,
    start_times,
)
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.client import Client
from ometria_replica.ometria.response import Answer, Setback
from ometria_replica.ometria.retries import RetryPolicy
from ometria_replica.read_position import ReadPosition
from ometria_replica.records import Unreadable
from ometria_replica.warehouse.comparison import _Comparison
from ometria_replica.warehouse.engines import duckdb_file
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.state import leases
from ometria_replica.warehouse.state.file_log import FileLog
from ometria_replica.warehouse.state.leases import Leases
from ometria_replica.warehouse.state.rejects import Rejects
from ometria_replica.warehouse.state_tables import FILES, WATERMARKS
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_replica.batch import Batch
    from ometria_replica.mapping.staged_tables import StagedTables
    from ometria_replica.table_reads import TableRead


@dataclass(frozen=True)
class Defect:
    """A mistake: its name, a description, and a function that makes it."""

    name: str
    what: str
    install: Callable[[], None]


DEFECTS: dict[str, Defect] = {}


def defect(function: Callable[[], None]) -> Callable[[], None]:
    """Register a defect under its function's name."""
    name = function.__name__.replace("_", " ")
    DEFECTS[name] = Defect(name, " ".join((function.__doc__ or "").split()), function)
    return function


def _patch(owner: Any, name: str, value: object) -> None:
    setattr(owner, name, value)


def _execute_unless(start: str, instead: Callable[[DuckDBEngine], None] | None = None) -> None:
    original = DuckDBEngine.execute

    def execute(self: DuckDBEngine, statement: str, parameters: Any = ()) -> None:
        if statement.startswith(start):
            if instead is None:
                return
            original(self, statement, parameters)
            instead(self)
            return
        original(self, statement, parameters)

    _patch(DuckDBEngine, "execute", execute)


_DELETE_ROWS = 'DELETE FROM "warehouse"."ometria".'


# --- Writing -----------------------------------------------------------------------------------


@defect
def merge_without_delete() -> None:
    """Rows are inserted, and the rows that they replace are not deleted."""
    _execute_unless(_DELETE_ROWS)


@defect
def delete_committed_before_insert() -> None:
    """The old rows are deleted in a separate transaction, before the new ones are inserted."""

    def commit(run: DuckDBEngine) -> None:
        run.execute("COMMIT")
        run.execute("BEGIN")

    _execute_unless(_DELETE_ROWS, commit)


@defect
def state_before_rows() -> None:
    """Watermark and file log are committed before the rows of their batch."""
    original = Warehouse._write

    def write(self: Warehouse, changes: Any, batch: Any) -> None:
        engine = self._engine
        engine.execute("COMMIT")
        self.file_log.write(batch)
        if batch.watermark is not None:
            row = [batch.source_id, batch.table.name, "watermark", batch.watermark, batch.run_id]
            engine.replace(WATERMARKS, row)
        engine.execute("BEGIN")
        original(self, changes, replace(batch, watermark=None, files=()))

    _patch(Warehouse, "_write", write)


@defect
def state_before_reading() -> None:
    """Watermark and file log are written when a table's sync starts, before anything is read."""
    original = replication.sync_table

    def sync_table(read: TableRead) -> None:
        batch, now = read.batch(read.run.started_at), read.run.started_at
        files = None

        def note(warehouse: Warehouse, entries: tuple[FileLogEntry, ...]) -> None:
            with warehouse._engine.session("a defect"):
                warehouse.file_log.write(replace(batch, files=entries))

        def note_watermark(warehouse: Warehouse) -> None:
            row = [batch.source_id, read.table.name, "watermark", now - timedelta(minutes=1)]
            with warehouse._engine.session("a defect"):
                warehouse._engine.replace(WATERMARKS, [*row, batch.run_id])

        if read.table.name == "email_events":
            listed = list(read.source.export(read.table).list())
            files = due._files_to_read(read, listed, {})
            entries = tuple(FileLogEntry(file, now, 0) for file in files)
            read.ask(lambda warehouse: note(warehouse, entries))
            _patch(due, "_files_to_read", lambda _read, _listed, _waiting: files)
        else:
            read.ask(note_watermark)
        original(read)

    _patch(replication, "sync_table", sync_table)


@defect
def watermark_with_first_batch() -> None:
    """The watermark moves with the first batch of a table, not with its last."""
    original: Any = api_reads.api_batches

    def api_batches(read: TableRead) -> Iterator[Any]:
        for pending in original(read):
            batch = replace(pending.batch, watermark=read.source.read_until)
            yield replace(pending, batch=batch)

    _patch(replication, "api_batches", api_batches)


@defect
def continued_read_with_its_own_time() -> None:
    """A read that continues an interrupted one sets the watermark of its own beginning."""
    _patch(api_reads, "_began_at", lambda read, _reading: read.source.read_until)


@defect
def position_not_checked() -> None:
    """A read that continues an interrupted one trusts its offset."""
    _patch(ReadPosition, "is_joined_by", lambda _self, _names: True)


@defect
def errors_of_writing_swallowed() -> None:
    """An error while writing rolls back, and is not raised."""
    original = DuckDBEngine.transaction

    @contextmanager
    def transaction(self: DuckDBEngine, name: str = "state") -> Iterator[None]:
        try:
            with original(self, name):
                yield
        except duckdb.Error:
            return

    detach = DuckDBEngine.detach

    def quietly(self: DuckDBEngine) -> None:
        with suppress(WarehouseError):  # It would raise the error once more.
            detach(self)

    _patch(DuckDBEngine, "transaction", transaction)
    _patch(DuckDBEngine, "detach", quietly)


@defect
def holder_not_named() -> None:
    """The error about a locked file does not name the process that holds the lock."""
    _patch(duckdb_file, "_holder", lambda _text: "")


@defect
def tables_made_once() -> None:
    """Schemas and tables are created without IF NOT EXISTS."""
    original = DuckDBEngine.execute

    def execute(self: DuckDBEngine, statement: str, parameters: Any = ()) -> None:
        original(self, statement.replace("IF NOT EXISTS ", ""), parameters)

    _patch(DuckDBEngine, "execute", execute)


@defect
def full_read_empties_first() -> None:
    """A full read deletes the rows of the table, commits, and then starts to read."""
    original = replication.sync_table

    def sync_table(read: TableRead) -> None:
        def empty(warehouse: Warehouse) -> None:
            engine = warehouse._engine
            with engine.session("a defect"):
                engine.execute(
                    f"DELETE FROM {engine.name(read.table)} WHERE __source_id = ?",
                    [read.account.source_id],
                )

        if read.run.window.full:
            read.ask(empty)
        original(read)

    _patch(replication, "sync_table", sync_table)


# --- Which copy wins --------------------------------------------------------------------------


@defect
def first_copy_wins() -> None:
    """Of several copies in one batch, the first is kept."""

    def keep(tables: StagedTables) -> int:
        tables.connection.execute(
            f"DELETE FROM {STAGED} WHERE rowid NOT IN"
            f" (SELECT min(rowid) FROM {STAGED} GROUP BY __sync_key)"
        )
        return 0

    _patch(finishing, "_keep_newest", keep)


@defect
def last_file_wins() -> None:
    """The file that is read last wins, even if it is older."""
    _patch(_Comparison, "_leave_out_older", lambda _self: 0)


@defect
def file_log_by_name() -> None:
    """A file with a known name is never read again."""

    def new_files(self: FileLog, source_id: str, table_name: str, files: Any) -> Any:
        with self.sessions.open("a defect"):
            rows = self._engine.rows(f"SELECT name FROM {self._engine.name(FILES)}")
        return [file for file in files if (file.name,) not in rows]

    _patch(FileLog, "new_files", new_files)


@defect
def file_log_by_time() -> None:
    """Only files newer than the newest known file are read."""

    def new_files(self: FileLog, source_id: str, table_name: str, files: Any) -> Any:
        query = f"SELECT max(modified_at) FROM {self._engine.name(FILES)}"
        with self.sessions.open("a defect"):
            ((newest,),) = self._engine.rows(query)
        return [file for file in files if newest is None or file.modified_at > newest]

    _patch(FileLog, "new_files", new_files)


@defect
def listed_version_not_checked() -> None:
    """A file that changed between listing and download is recorded as the listed version."""
    _patch(folder.FolderFiles, "_compare", lambda _self, _origin, _found: None)


@defect
def offsets_trusted() -> None:
    """Pages do not overlap, and no check tells whether they join."""
    original = page_overlap.OverlapCheck.join

    def join(self: Any, offset: int, found: Any, requested_at: datetime) -> Any:
        if not found:
            return page_overlap.Joined([], 0, offset)
        first = self._identity(found[0])
        never = datetime(1970, 1, 1, tzinfo=UTC)
        self._seen.setdefault(first, page_overlap._Seen(offset, never, self._count))
        joined = original(self, offset, found, requested_at)
        assert joined is not None
        return replace(joined, next_offset=self.end)

    _patch(page_overlap.OverlapCheck, "join", join)
    _patch(offset_pages.OffsetReader, "_is_end", _short_is_the_end)
    for module in (page_overlap, planned_pages):
        _patch(module, "overlap_of", lambda _size: 0)


def _short_is_the_end(_self: Any, *_page: object, short: bool) -> bool:
    return short


@defect
def short_page_is_the_last() -> None:
    """A page that is shorter than requested counts as the last."""
    behaviour = endpoint_behaviour.EndpointBehaviour
    _patch(behaviour, "is_last", lambda _self, size: size < collection.PAGE_SIZE)
    _patch(offset_pages.OffsetReader, "_is_end", _short_is_the_end)


@defect
def failed_request_is_empty() -> None:
    """A failed request counts as an empty answer."""
    original = Client._attempt

    def attempt(self: Client, path: str, query: Any, origin: str, exchange: Any) -> Answer:
        try:
            return original(self, path, query, origin, exchange)
        except (Setback, OmetriaError):
            return Answer([], self._now(), None, origin)

    _patch(Client, "_attempt", attempt)


@defect
def no_second_try() -> None:
    """A failed request is not retried."""

    def give_up(_self: RetryPolicy, setback: Exception, *_: object, **__: object) -> float:
        raise Unavailable("no second try") from setback

    _patch(RetryPolicy, "wait_seconds", give_up)


@defect
def one_refusal_ends_the_run() -> None:
    """A table to which access is denied ends the run, and the tables after it are not read."""
    original = replication.sync_table

    def sync_table(read: TableRead) -> None:
        try:
            original(read)
        except AccessDenied as error:
            raise _EndsTheRun("refused") from error

    _patch(replication, "sync_table", sync_table)


class _EndsTheRun(ReplicaError):
    exit_code = OmetriaError.exit_code


class _Never(Exception):
    pass


@defect
def vanished_list_ends_the_table() -> None:
    """A list that is deleted before its changes are read is an error."""
    _patch(per_parent, "NotFound", _Never)
    _patch(read_strategies, "NotFound", _Never)


@defect
def gzip_endings_not_checked() -> None:
    """A truncated gzip file is read as far as it decompresses."""
    import zlib  # noqa: PLC0415 -- used here only.

    def gunzip(path: Any) -> Any:
        yield zlib.decompressobj(wbits=31).decompress(path.read_bytes())

    _patch(decompress, "_gunzip", gunzip)
    decompress._EXPAND["gzip"] = gunzip


@defect
def unreadable_file_ends_the_run() -> None:
    """An unreadable file is an error, and the files after it are not read."""
    original = export.ExportFiles._bring

    def bring(self: export.ExportFiles, origin: Any, folder: Any) -> Any:
        found = original(self, origin, folder)
        if isinstance(found, Unreadable):
            raise OmetriaError(found.reason)
        return found

    _patch(export.ExportFiles, "_bring", bring)


@defect
def rejects_dropped() -> None:
    """Values that do not convert and records without a key are dropped silently."""
    _patch(Rejects, "write", lambda _self, _changes, _batch: None)


# --- Time --------------------------------------------------------------------------------------


@defect
def watermark_from_records() -> None:
    """The watermark is the newest time in the records, not the start of the run."""
    original = loading.stage

    def stage(
        connection: Any, account: Any, table: Any, pending: Any, inside: Any
    ) -> tuple[Batch, Any]:
        batch, staged = original(connection, account, table, pending, inside)
        if table.time and batch.watermark:
            found = connection.execute(f"SELECT epoch_us(max({table.time})) FROM {STAGED}")
            ((newest,),) = found.fetchall()
            if newest:
                at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=newest)
                batch = replace(batch, watermark=at)
        return batch, staged

    _patch(loading, "stage", stage)


@defect
def watermark_from_the_end() -> None:
    """The watermark is the end of the sync of the table, not the start of the run."""
    original = api_reads._with_state

    def with_state(read: TableRead, reading: Any, batch: Batch) -> Batch:
        return replace(original(read, reading, batch), watermark=read.run.clock())

    _patch(api_reads, "_with_state", with_state)


@defect
def own_clock_trusted() -> None:
    """The watermark is the time of this machine, even if Ometria's clock differs."""
    _patch(AccountSource, "read_until", property(lambda self: self._started_at))


@defect
def no_look_back() -> None:
    """Each run requests what is newer than the watermark, without a look-back."""
    _patch(start_times, "OVERLAP", timedelta())
    _patch(start_times, "LOOK_BACK", timedelta())


@defect
def no_full_round() -> None:
    """Changes are requested only of lists with a new refresh time, and never of the others."""
    _patch(start_times, "FULL_ROUND", timedelta(days=100_000))


@defect
def local_time() -> None:
    """A time without a zone is read in the time zone of this machine, not in UTC."""
    original = Staging.__post_init__

    def prepare(self: Staging) -> None:
        original(self)
        self.connection.execute(f"SET TimeZone = '{os.environ['TZ']}'")

    _patch(Staging, "__post_init__", prepare)


# --- Who may write -----------------------------------------------------------------------------


@defect
def lease_ignored() -> None:
    """A run acquires the lease even if another run holds it."""
    _patch(leases, "_is_alive", lambda _lease: False)


@defect
def dead_runs_hold_on() -> None:
    """The lease of a killed run stays in force until it expires."""
    _patch(leases, "_is_alive", lambda _lease: True)


@defect
def no_fence() -> None:
    """A run writes without checking that it still holds the lease."""
    _patch(Leases, "renew", lambda _self, _lease: None)


# --- Deletes -----------------------------------------------------------------------------------


@defect
def delete_detection_with_every_batch() -> None:
    """Each batch of a full read counts as the full read."""
    batches, with_state = batching.page_batches, api_reads._with_state
    is_last = True

    def page_batches(*arguments: Any) -> Iterator[tuple[Any, bool]]:
        nonlocal is_last
        for batch, last in batches(*arguments):
            is_last = last
            yield batch, True

    def as_if_last(read: TableRead, reading: Any, batch: Batch) -> Batch:
        found = with_state(read, reading, batch)
        return found if is_last else replace(found, watermark=None, full_read_at=None)

    _patch(api_reads, "page_batches", page_batches)
    _patch(api_reads, "_with_state", as_if_last)


@defect
def no_limit_to_deletes() -> None:
    """Delete detection removes rows without a limit."""
    _patch(_Comparison, "_may_remove", lambda _self, deletes, _gone: deletes.remove)


@defect
def deleted_for_ever() -> None:
    """A profile that exists again is still recorded as deleted upstream."""
    _execute_unless('DELETE FROM "warehouse"."ometria_replica"."deleted_upstream"')


@defect
def always_removes() -> None:
    """Delete detection removes rows even if the settings say to keep them."""
    _patch(_Comparison, "_may_remove", lambda _self, _deletes, gone: gone > 0)


@defect
def delete_detection_over_all_sources() -> None:
    """Delete detection compares the rows of all accounts, not only of its own."""

    def find(self: _Comparison) -> int:
        self.engine.temporary(
            "gone",
            "SELECT __sync_key, __sync_key AS record_id"
            f" FROM {self.engine.name(self.batch.table)}"
            f" WHERE __sync_key NOT IN (SELECT __sync_key FROM {SEEN_KEYS})",
        )
        return self.engine.count_of("gone")

    _patch(_Comparison, "_find_gone", find)


# --- Secrets -----------------------------------------------------------------------------------


@defect
def records_logged() -> None:
    """Records are logged."""
    original = Staging.add_pages

    def add(self: Staging, found: Any, synced_at: datetime) -> int:
        for page in found:
            logging.getLogger("ometria_replica").warning("read %s", page.records)
        return original(self, found, synced_at)

    _patch(Staging, "add_pages", add)


@defect
def keys_in_errors() -> None:
    """Errors quote the API key."""
    original = replication.sync_table

    def sync_table(read: TableRead) -> None:
        try:
            original(read)
        except ReplicaError as error:
            key = read.account.api_key
            raise type(error)(f"{error} with {key.reveal() if key else ''}") from error

    _patch(replication, "sync_table", sync_table)
