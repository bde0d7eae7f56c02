# ruff: noqa: D401 -- A defect's docstring says what is wrong, and the documentation quotes it.
"""
The seeded defects: mistakes that a replica could make, and that others did make.

Each is switched on in a child only, to show that a checker sees it. What it gets wrong
is its docstring, which the documentation quotes.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

from ometria_replica import mapping, replication
from ometria_replica.batch import Batch, FileLogEntry
from ometria_replica.errors import AccessDenied, OmetriaError, ReplicaError, Unavailable
from ometria_replica.mapping import STAGED, SWEPT, Staging
from ometria_replica.ometria import (
    account_source,
    decompress,
    endpoint_behaviour,
    export,
    offset_pages,
    page_overlap,
    per_parent,
)
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.answer import Answer, Setback
from ometria_replica.ometria.client import Client
from ometria_replica.records import Unreadable
from ometria_replica.replication import _TableSync
from ometria_replica.warehouse import state_store
from ometria_replica.warehouse.engines import duckdb as duckdb_engine
from ometria_replica.warehouse.engines.duckdb import DuckDBEngine
from ometria_replica.warehouse.merge import Merge
from ometria_replica.warehouse.state_store import StateStore
from ometria_replica.warehouse.state_tables import FILES, WATERMARKS
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Defect:
    """A mistake: its name, what it gets wrong, and how to make it."""

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
    """Rows are inserted, and those that they replace are not deleted."""
    _execute_unless(_DELETE_ROWS)


@defect
def delete_committed_before_insert() -> None:
    """The old rows are deleted in a transaction of their own, before the new ones are inserted."""

    def commit(run: DuckDBEngine) -> None:
        run.execute("COMMIT")
        run.execute("BEGIN")

    _execute_unless(_DELETE_ROWS, commit)


@defect
def state_before_rows() -> None:
    """Watermark and ledger are committed by themselves, before the rows of their batch."""
    original = Merge.write

    def write(self: Merge, batch: Batch, loaded: Any) -> None:
        self.run.execute("COMMIT")
        self._write_files(batch)
        if batch.watermark is not None:
            row = [batch.source_id, batch.table.name, "watermark", batch.watermark, batch.run_id]
            self.run.replace(WATERMARKS, row)
        self.run.execute("BEGIN")
        original(self, replace(batch, watermark=None, files=()), loaded)

    _patch(Merge, "write", write)


@defect
def state_before_reading() -> None:
    """Watermark and ledger are written when a table begins, before anything is read."""
    original = _TableSync.go

    def go(self: _TableSync) -> None:
        opened, now = self.warehouse, self.run.started_at
        assert isinstance(opened, Warehouse)
        merge = Merge(opened._engine)
        batch = Batch(
            self.table,
            self.account.source_id,
            self.run.run_id,
            now,
        )
        opened.state.table_state(self.account.source_id, self.table.name)
        if self.table.name == "email_events":
            files = self._files_to_read(None)
            entries = tuple(FileLogEntry(file, now, 0) for file in files)
            merge._write_files(replace(batch, files=entries))
            _patch(self, "_files_to_read", lambda _start_after: files)
        else:
            row = [self.account.source_id, self.table.name, "watermark", now - timedelta(minutes=1)]
            opened._engine.replace(WATERMARKS, [*row, self.run.run_id])
        original(self)

    _patch(_TableSync, "go", go)


@defect
def watermark_with_first_batch() -> None:
    """The watermark moves with the first batch of a table, not with its last."""
    original = _TableSync._marks

    def marks(self: _TableSync, reading: Any, *, last: bool) -> Any:
        return replace(original(self, reading, last=last), watermark=self.inputs.read_until)

    _patch(_TableSync, "_marks", marks)


@defect
def errors_of_writing_swallowed() -> None:
    """An error while writing rolls back and is forgotten."""
    original = DuckDBEngine.transaction

    @contextmanager
    def transaction(self: DuckDBEngine) -> Iterator[None]:
        try:
            with original(self):
                yield
        except duckdb.Error:
            return

    _patch(DuckDBEngine, "transaction", transaction)


@defect
def nobody_is_named() -> None:
    """The message about a file that is open elsewhere does not say where."""
    _patch(duckdb_engine, "_holder", lambda _text: "")


@defect
def tables_made_once() -> None:
    """Schemas and tables are made as if none could be there already."""
    original = DuckDBEngine.execute

    def execute(self: DuckDBEngine, statement: str, parameters: Any = ()) -> None:
        original(self, statement.replace("IF NOT EXISTS ", ""), parameters)

    _patch(DuckDBEngine, "execute", execute)


@defect
def full_read_empties_first() -> None:
    """A full read deletes the table's rows, commits, and then begins to read."""
    original = _TableSync.go

    def go(self: _TableSync) -> None:
        assert isinstance(self.warehouse, Warehouse)
        if self.run.full:
            self.warehouse.state.table_state(self.account.source_id, self.table.name)
            self.warehouse._engine.execute(
                f"DELETE FROM {self.warehouse._engine.data(self.table.name)} WHERE __source_id = ?",
                [self.account.source_id],
            )
        original(self)

    _patch(_TableSync, "go", go)


# --- Which copy stands -------------------------------------------------------------------------


@defect
def first_copy_stands() -> None:
    """Of several copies in one batch the first stands."""

    def keep(self: Staging) -> int:
        self.connection.execute(
            f"DELETE FROM {STAGED} WHERE rowid NOT IN"
            f" (SELECT min(rowid) FROM {STAGED} GROUP BY __sync_key)"
        )
        return 0

    _patch(Staging, "_keep_newest", keep)


@defect
def last_file_wins() -> None:
    """Whatever file is read last wins, however old it is."""
    _patch(Merge, "_leave_out_older", lambda _self, _batch: 0)


@defect
def ledger_by_name() -> None:
    """A file whose name is known is not read again."""

    def new_files(self: StateStore, source_id: str, table_name: str, files: Any) -> Any:
        rows = self.run.rows(f"SELECT name FROM {self.run.state(FILES)}")
        return [file for file in files if (file.name,) not in rows]

    _patch(StateStore, "new_files", new_files)


@defect
def ledger_by_time() -> None:
    """Only files newer than the newest known one are read."""

    def new_files(self: StateStore, source_id: str, table_name: str, files: Any) -> Any:
        ((newest,),) = self.run.rows(f"SELECT max(modified_at) FROM {self.run.state(FILES)}")
        return [file for file in files if newest is None or file.modified_at > newest]

    _patch(StateStore, "new_files", new_files)


@defect
def listed_version_not_checked() -> None:
    """A file that changed between listing and download is taken for the version listed."""

    def get(self: export.ExportFiles, origin: Any) -> Any:
        return self.bucket.store.get(origin.name)

    _patch(export.ExportFiles, "_get", get)
    original = export._write

    def write(found: Any, path: Any) -> int:
        original(found, path)
        return _AnySize(0)

    _patch(export, "_write", write)


class _AnySize(int):
    def __eq__(self, _other: object) -> bool:
        return True

    def __ne__(self, _other: object) -> bool:
        return False

    __hash__ = int.__hash__


# --- Reading -----------------------------------------------------------------------------------


@defect
def offsets_trusted() -> None:
    """Pages do not overlap, and nobody looks whether they join."""
    original = page_overlap.OverlapCheck.join

    def join(self: Any, offset: int, found: Any, requested_at: datetime) -> Any:
        if not found:
            return page_overlap.Joined([], 0, offset)
        first = self._identity(found[0])
        never = datetime(1970, 1, 1, tzinfo=UTC)
        self._seen.setdefault(first, page_overlap._Seen(offset, never, self._count))
        joined = original(self, offset, found, requested_at)
        assert joined is not None
        return replace(joined, next_offset=self._end)

    _patch(page_overlap.OverlapCheck, "join", join)
    _patch(offset_pages.OffsetReader, "_is_end", _short_is_the_end)
    for module in (page_overlap, offset_pages):
        _patch(module, "overlap_of", lambda _size: 0)


def _short_is_the_end(_self: Any, *_page: object, short: bool) -> bool:
    return short


@defect
def short_page_is_the_last() -> None:
    """A page shorter than was asked for is taken for the last."""
    behaviour = endpoint_behaviour.EndpointBehaviour
    _patch(behaviour, "is_last", lambda _self, size: size < offset_pages.PAGE_SIZE)
    _patch(offset_pages.OffsetReader, "_is_end", _short_is_the_end)


@defect
def failed_request_is_empty() -> None:
    """A request that fails counts as one that was answered with nothing."""
    original = Client._attempt

    def attempt(self: Client, path: str, query: Any, origin: str) -> Answer:
        try:
            return original(self, path, query, origin)
        except (Setback, OmetriaError):
            return Answer([], self._now(), None, origin)

    _patch(Client, "_attempt", attempt)


@defect
def no_second_try() -> None:
    """A request that fails once fails for good."""

    def give_up(_self: Client, setback: Exception, *_: object) -> float:
        raise Unavailable("no second try") from setback

    _patch(Client, "_wait_or_give_up", give_up)


@defect
def one_refusal_ends_the_run() -> None:
    """A table that is refused ends the run, and the tables after it are not read."""
    original = _TableSync.go

    def go(self: _TableSync) -> None:
        try:
            original(self)
        except AccessDenied as error:
            raise OmetriaError("refused") from error

    _patch(_TableSync, "go", go)


class _Never(Exception):
    pass


@defect
def vanished_list_ends_the_table() -> None:
    """A list that is gone before its changes are read is an error."""
    _patch(per_parent, "NotFound", _Never)


@defect
def gzip_endings_not_checked() -> None:
    """What expands of a gzip file counts, whether it ends or not."""
    import zlib  # noqa: PLC0415 -- used here only.

    def gunzip(path: Any) -> Any:
        yield zlib.decompressobj(wbits=31).decompress(path.read_bytes())

    _patch(decompress, "_gunzip", gunzip)
    decompress._EXPAND["gzip"] = gunzip


@defect
def poison_ends_the_run() -> None:
    """A file that cannot be read is an error, and the files after it are not read."""
    original = export.ExportFiles._bring

    def bring(self: export.ExportFiles, origin: Any, folder: Any) -> Any:
        found = original(self, origin, folder)
        if isinstance(found, Unreadable):
            raise OmetriaError(found.reason)
        return found

    _patch(export.ExportFiles, "_bring", bring)


@defect
def rejects_dropped() -> None:
    """What will not convert and what no key identifies leaves no trace."""
    _patch(Merge, "_write_rejects", lambda _self, _batch: None)


# --- Time --------------------------------------------------------------------------------------


@defect
def watermark_from_records() -> None:
    """The watermark is the newest time in the records, not the start of the run."""
    original = _TableSync._load

    def load(self: _TableSync, staging: Staging, now: datetime, marks: Any, **more: bool) -> None:
        if self.table.time and marks.watermark:
            found = staging.connection.execute(
                f"SELECT epoch_us(max({self.table.time})) FROM {STAGED}"
            ).fetchall()[0][0]
            if found:
                newest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found)
                marks = replace(marks, watermark=newest)
        original(self, staging, now, marks, **more)

    _patch(_TableSync, "_load", load)


@defect
def watermark_from_the_end() -> None:
    """The watermark is the time when the table was done, not when the run began."""
    original = _TableSync._marks

    def marks(self: _TableSync, reading: Any, *, last: bool) -> Any:
        found = original(self, reading, last=last)
        return replace(found, watermark=self.run.clock()) if last else found

    _patch(_TableSync, "_marks", marks)


@defect
def own_clock_trusted() -> None:
    """The watermark is this machine's time, whatever Ometria's clock says."""
    _patch(AccountSource, "read_until", property(lambda self: self._started_at))


@defect
def no_look_back() -> None:
    """Each run asks for what came after the watermark, and not a moment earlier."""
    _patch(account_source, "OVERLAP", timedelta())
    _patch(account_source, "LOOK_BACK", timedelta())


@defect
def no_full_round() -> None:
    """Only lists that say they were refreshed since are asked for their changes, for ever."""
    _patch(account_source, "FULL_ROUND", timedelta(days=100_000))


@defect
def local_time() -> None:
    """A time without a zone is taken for this machine's, not for UTC."""
    original = Staging.__post_init__

    def prepare(self: Staging) -> None:
        original(self)
        self.connection.execute(f"SET TimeZone = '{os.environ['TZ']}'")

    _patch(Staging, "__post_init__", prepare)


# --- Who may write -----------------------------------------------------------------------------


@defect
def lease_ignored() -> None:
    """A run takes the lease, whoever holds it."""
    _patch(state_store, "_is_alive", lambda _lease: False)


@defect
def dead_runs_hold_on() -> None:
    """The lease of a run that was killed is waited for until it ends by itself."""
    _patch(state_store, "_is_alive", lambda _lease: True)


@defect
def no_fence() -> None:
    """Nobody looks, before writing, whether the lease is still ours."""
    _patch(Merge, "_renew", lambda _self, _lease: None)


# --- Deletes -----------------------------------------------------------------------------------


@defect
def sweep_with_every_batch() -> None:
    """Each batch of a whole read is taken for the whole."""
    original = _TableSync._marks

    def marks(self: _TableSync, reading: Any, *, last: bool) -> Any:
        found = original(self, reading, last=True)
        return found if last else replace(found, watermark=None, whole_at=None)

    _patch(_TableSync, "_marks", marks)


@defect
def no_limit_to_deletes() -> None:
    """However many rows a sweep did not find, they are removed."""
    _patch(Merge, "_may_remove", lambda _self, batch, _missing: batch.sweep.remove)


@defect
def missing_for_ever() -> None:
    """A profile that comes back is still noted as missing."""
    _execute_unless('DELETE FROM "warehouse"."ometria_replica"."missing"')


@defect
def always_removes() -> None:
    """Rows that a sweep did not find are removed, whatever the settings say."""
    _patch(Merge, "_may_remove", lambda _self, _batch, missing: missing > 0)


@defect
def sweep_over_all_sources() -> None:
    """A sweep looks at the rows of all accounts, not of its own."""

    def find(self: Merge, batch: Batch) -> int:
        self.run.execute(
            "CREATE OR REPLACE TEMP TABLE gone AS SELECT __sync_key, __sync_key AS record_id"
            f" FROM {self.run.data(batch.table.name)}"
            f" WHERE __sync_key NOT IN (SELECT __sync_key FROM {SWEPT})"
        )
        return self.run.scalar("SELECT count(*) FROM gone")

    _patch(Merge, "_find_missing", find)


# --- Secrets -----------------------------------------------------------------------------------


@defect
def records_logged() -> None:
    """A record is logged as it came."""
    original = Staging.add_pages

    def add(self: Staging, found: Any, synced_at: datetime) -> int:
        for page in found:
            logging.getLogger("ometria_replica").warning("read %s", page.records)
        return original(self, found, synced_at)

    _patch(Staging, "add_pages", add)


@defect
def keys_in_errors() -> None:
    """Errors quote the settings, and the settings their secrets."""
    original = replication._TableSync.go

    def go(self: _TableSync) -> None:
        try:
            original(self)
        except ReplicaError as error:
            key = self.account.api_key
            raise type(error)(f"{error} with {key.reveal() if key else ''}") from error

    _patch(_TableSync, "go", go)


_ = mapping
