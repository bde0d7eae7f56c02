"""The streams: one for each table, and the rejects of all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from typing_extensions import override

from ometria_replica.batch import BatchSize
from ometria_replica.errors import AccessDenied, NotFound
from ometria_replica.extraction.batches import read_batches
from ometria_replica.ometria.account_source import setting_missing
from ometria_replica.singer.bookmarks import bookmark, state_in
from ometria_replica.singer.records import (
    REJECT_KEY,
    REJECTED_AT,
    REJECTS,
    rejects_of,
    rejects_schema,
    rows_of,
    table_schema,
)
from ometria_replica.singer.settings import ACTIVATE_VERSION
from ometria_replica.ways_to_read import Pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ometria_replica.extraction.batches import StagedBatch
    from ometria_replica.schema import Table
    from ometria_replica.singer.records import Record
    from ometria_replica.singer.tap import OmetriaTap

SYNCED_AT = "__synced_at"


class _Ours(Stream):
    """A stream whose records have the types of their schema as they are."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    @property
    def names(self) -> Sequence[str]:
        """The properties that the catalog selects, of those that it has."""
        known = self.effective_schema["properties"]
        selected = (self.mask.get(("properties", name), True) for name in known)
        return [name for name, is_on in zip(known, selected, strict=True) if is_on]


class RejectsStream(_Ours):
    """
    Rejected values, records, lines and files of the other streams.

    It has no read of its own: the other streams write its records, each before the state that
    covers it. So its schema has to come before theirs.
    """

    def __init__(self, tap: OmetriaTap) -> None:
        super().__init__(tap, rejects_schema(), REJECTS)
        self.primary_keys = REJECT_KEY
        self.replication_key = REJECTED_AT

    @override
    def get_records(self, context: Mapping[str, Any] | None) -> Iterator[Record]:
        return iter(())

    def write(self, batch: StagedBatch) -> None:
        """Write the rejects of a batch, if the catalog selects them."""
        if self.selected:
            for record in rejects_of(batch):
                self._write_record_message(record)


class TableStream(_Ours):
    """The rows of a table that a sync would load, in batches, each before the state after it."""

    STATE_MSG_FREQUENCY = sys.maxsize  # States come after batches, and nowhere else.

    def __init__(self, tap: OmetriaTap, table: Table) -> None:
        self.selected_by_default = not table.optional
        super().__init__(tap, table_schema(table), table.name)
        self.primary_keys = table.key
        if not (isinstance(table.read, Pages) and table.read.since is None):  # Read whole.
            self.replication_key = SYNCED_AT
        self._ometria = tap
        self._table = table

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        """False: the SDK would have the target remove rows before the new ones are there."""
        return False

    @override
    def get_records(self, context: Mapping[str, Any] | None) -> Iterator[Record]:
        account, table = self._ometria.account, self._table
        if not self.stream_maps[0].raw_schema["properties"]:
            return  # The catalog does not select the stream; `--test` does, but none of its fields.
        if missing := setting_missing(account, table):
            self.logger.warning("%s is left out: %s", table.name, missing)
            return
        state = state_in(table.name, self.stream_state, account)
        is_test = self.ABORT_AT_RECORD_COUNT is not None
        size = BatchSize(records=1, files=1) if is_test else BatchSize()
        catalog = self._ometria.tables_selected
        try:
            for batch in read_batches(
                account, table, state, catalog, limits=self._ometria.limits, size=size
            ):
                self._stream_version = self._version(batch)
                yield from rows_of(batch, self.names)
                self._ometria.rejects.write(batch)
                self._write_end(batch)
        except (AccessDenied, NotFound) as error:
            if not table.optional or table.name in account.require:
                raise
            self.logger.warning("%s is left out: %s", table.name, error)

    def _version(self, batch: StagedBatch) -> int | None:
        """Give the rows of a full read a version of their own, which later rows share."""
        if not self.config.get(ACTIVATE_VERSION) or self._table.record_id is None:
            return None
        begun = self._initialized_at // 1000  # Seconds, as the SDK counts versions.
        if batch.is_full:
            return begun
        return int(batch.state.get("version", begun))

    def _write_end(self, batch: StagedBatch) -> None:
        """Write what follows the records of a batch."""
        state = batch.state
        if self._stream_version is not None:
            state["version"] = self._stream_version
            if batch.is_complete:
                self._write_activate_version_message(self._stream_version)
        kept = self.stream_state
        kept.clear()
        kept.update(bookmark(state, self._ometria.account))
        self.state_manager.is_flushed = False
        self._write_state_message()

    @override
    def _increment_stream_state(self, *_: Any, **__: Any) -> None:
        """Leave the bookmark: it moves with whole batches."""

    @override
    def get_replication_key_signpost(self, context: Any = None) -> None:
        """Have none: a bookmark is no value of a column."""

    @override
    def _write_starting_replication_value(self, context: Any) -> None:
        """Have none, as above."""
