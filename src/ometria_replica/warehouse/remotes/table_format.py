"""
Lakes: tables that are folders of files, of which a stretch is replaced in one commit.

No lake's own upsert is used. That of delta-rs 1.6 refuses good batches of more than a few
thousand rows ("matched a target row with multiple source rows", delta-rs issues 4471 and
4572), and ended the process at 50,000. So DuckDB works out what a stretch is to hold: the
rows of it that stay, and those of the batch. A commit succeeds only if nobody else made
one since the table was read, so a repeated or a late one doubles nothing.
"""

from __future__ import annotations

import logging
import os
import random
import time
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa

from ometria_replica.batch import BatchSize
from ometria_replica.errors import Busy, WarehouseError
from ometria_replica.local_duckdb import open_staging
from ometria_replica.mapping import STAGED
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.local_merge import LocalMergeEngine
from ometria_replica.warehouse.state_tables import RUNS, STATE_SCHEMA, STATE_TABLES
from ometria_replica.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch, Loaded
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.local_merge import Wanted
    from ometria_replica.warehouse.state_tables import StateTable

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 16_384
MOST_SPANS = 32  # Of one stretch: each is a condition, and conditions are looked at row by row.
KEPT = timedelta(days=7)  # Old versions of the state tables: longer than a reader takes.
WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # Seconds. Commits of other accounts take less than one.

_SOUGHT, _FAR = "sought", "far_rows"
_T = TypeVar("_T")


class CommitConflict(Busy):
    """Somebody else's commit came in between. Nothing was written, and it can be tried again."""


@dataclass(frozen=True)
class Stretch:
    """
    A part of a table, told without its keys: a source's rows, in some spans of time.

    *source_id* None means every source's. *spans* are first and last moments, both
    within; None means whenever, and with none the rows without a time belong too.
    *untimed* adds those to spans. *time* names the column.
    """

    source_id: str | None = None
    time: str | None = None
    spans: tuple[tuple[datetime, datetime], ...] | None = None
    untimed: bool = False


ALL = Stretch()


class LakeTable(Protocol):
    """A table as it was when it was opened."""

    def columns(self) -> list[tuple[str, str]]:
        """Name the columns and their types as DuckDB names them, in order."""

    def rows(self, stretch: Stretch) -> pa.RecordBatchReader:
        """Read a stretch."""

    def count(self, stretch: Stretch) -> int:
        """Count the rows of a stretch."""

    def append(self, rows: pa.RecordBatchReader) -> None:
        """Add rows. Raises CommitConflict if the table has changed since it was opened."""

    def overwrite(self, stretch: Stretch, rows: pa.RecordBatchReader) -> None:
        """Put *rows*, all of which lie in it, in the place of a stretch. Raises as append."""


class Lake(Protocol):
    """Where the tables are. Its *place* stands in messages, and holds no password."""

    @property
    def place(self) -> str:
        """Name it."""

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Turn the driver's errors into ours, without what they quote."""

    def open(self, schema: str, name: str) -> LakeTable | None:
        """Open a table as it is now; None if it is not there."""

    def make(self, schema: str, name: str, columns: Sequence[tuple[str, str]]) -> None:
        """Make a table with *columns*, of our types. Nothing happens if it is there by now."""

    def tidy(self, schema: str, name: str, older_than: timedelta) -> None:
        """Let go of the versions of a table that were replaced that long ago."""

    def try_access(self) -> None:
        """Raise WarehouseError if this user could not write here. Changes nothing."""


class LakeWarehouse(Warehouse):
    """A lake as a warehouse. Batches are large, since a lake pays for each commit, not row."""

    batch_size = BatchSize(records=50_000)

    def __init__(self, lake: Lake, *, dry_run: bool = False) -> None:
        closing = ExitStack()
        staging = open_staging(closing)
        super().__init__(
            staging, LakeEngine(staging, lake, read_only=dry_run), closing, dry_run=dry_run
        )

    def load(self, batch: Batch) -> Loaded:
        """See the protocol. A batch that was overtaken is compared again, then written."""
        rows = self._staged_rows()
        loaded = _tried(lambda: super(LakeWarehouse, self).load(batch))
        # Of several comparisons each left out what it found older, and told of its own.
        return replace(loaded, older=rows - self._staged_rows())

    def _staged_rows(self) -> int:
        with self.guarded("counting the batch"):
            return int(self.staging.execute(f"SELECT count(*) FROM {STAGED}").fetchall()[0][0])


class LakeEngine(LocalMergeEngine):
    """Keeps the five tables and the state in *lake*."""

    def __init__(self, staging: DuckDBPyConnection, lake: Lake, *, read_only: bool = False) -> None:
        super().__init__(staging, lake.place, read_only=read_only)
        self._lake = lake
        self._columns: dict[str, list[tuple[str, str]]] = {}

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """See the base."""
        return self._lake.explaining(doing)

    def try_access(self) -> None:
        """See the base."""
        self._lake.try_access()

    def far_columns(self, table: Table) -> list[tuple[str, str]]:
        """See the base. Asked for often, so what is there is remembered."""
        if table.name not in self._columns:
            there = self._lake.open(DATA_SCHEMA, table.name)
            if there is None:
                return []
            self._columns[table.name] = there.columns()
        return self._columns[table.name]

    def make_far_table(self, table: Table) -> None:
        """See the base."""
        columns = [(column.name, column.type) for column in table.all_columns]
        self._lake.make(DATA_SCHEMA, table.name, columns)

    def make_far_state(self) -> None:
        """See the base."""
        for table in STATE_TABLES:
            if self._lake.open(STATE_SCHEMA, table.name) is None:
                self._lake.make(STATE_SCHEMA, table.name, table.columns)

    def read_state(self, table: StateTable) -> pa.Table | None:
        """See the base."""
        there = self._lake.open(STATE_SCHEMA, table.name)
        return None if there is None else there.rows(ALL).read_all()

    def write_state(self, table: StateTable, gone: pa.Table, new: pa.Table) -> None:
        """
        See the base. Other runs write other rows of it meanwhile, so it is tried again.

        Then in the place of *new* too: a store may do what it says that it did not.
        """
        try:
            self._write_state(table, gone, new)
        except CommitConflict:
            both = pa.concat_tables([gone, new.select(table.key)])
            _tried(lambda: self._write_state(table, both, new))
        if table is RUNS:  # Once a run, and nothing waits for it any more.
            self._tidy()

    def fetch(self, table: Table, wanted: Wanted) -> Iterable[pa.Table | pa.RecordBatch]:
        """See the base. What has no time today may have had one, and lie anywhere."""
        there = self._there(DATA_SCHEMA, table.name)
        stretch = Stretch(wanted.source_id or None)
        if wanted.days is not None and not wanted.keys:
            stretch = replace(stretch, time=table.time, spans=_spans_of(wanted.days), untimed=True)
        rows = there.rows(stretch)
        if wanted.keys is None:
            yield from rows
        elif wanted.days is not None:
            yield self._with_keys(rows, STAGED)
        else:
            with self._registered(_SOUGHT, _one_column("__sync_key", wanted.keys)):
                yield self._with_keys(rows, _SOUGHT)

    def send(self, table: Table, rows: pa.RecordBatchReader) -> None:
        """See the base. What is staged is read here anew, beside what stays of the stretch."""
        rows.close()
        names = sql.names(table)
        there = self._there(DATA_SCHEMA, table.name)
        touched = self._touched(table)
        if touched is None:
            self._stream(f"SELECT {names} FROM {STAGED}", there.append)
            return
        with self._registered(_FAR, there.rows(touched)):
            self._stream(
                f"SELECT {names} FROM {_FAR} ANTI JOIN {STAGED} USING (__sync_key)"
                f" UNION ALL SELECT {names} FROM {STAGED}",
                lambda merged: there.overwrite(touched, merged),
            )

    def remove(self, table: Table, keys: Sequence[str]) -> None:
        """See the base."""
        there = self._there(DATA_SCHEMA, table.name)
        sought = _one_column("__sync_key", keys)
        with self._registered(_SOUGHT, sought), self._registered(_FAR, there.rows(ALL)):
            self._stream(
                f"SELECT {sql.names(table)} FROM {_FAR} ANTI JOIN {_SOUGHT} USING (__sync_key)",
                lambda kept: there.overwrite(ALL, kept),
            )

    def count_rows(self, table_name: str, source_id: str) -> int:
        """See the base."""
        there = self._lake.open(DATA_SCHEMA, table_name)
        return 0 if there is None else there.count(Stretch(source_id))

    # --- helpers ---

    def _there(self, schema: str, name: str) -> LakeTable:
        there = self._lake.open(schema, name)
        if there is None:
            raise CommitConflict(
                f"The table {schema}.{name} in {self.place} is gone, though it was there a moment"
                " ago. Nothing of this batch was written. Run again."
            )
        return there

    def _write_state(self, table: StateTable, gone: pa.Table, new: pa.Table) -> None:
        names = ", ".join(sql.quoted(name) for name in table.column_names)
        with self._lake.explaining("writing the state"), self._registered("new_state", new):
            there = self._there(STATE_SCHEMA, table.name)
            if not gone.num_rows:
                self._stream(f"SELECT {names} FROM new_state", there.append)
                return
            with self._registered("gone_state", gone), self._registered(_FAR, there.rows(ALL)):
                self._stream(
                    f"SELECT {names} FROM {_FAR} f WHERE NOT EXISTS"
                    f" (SELECT 1 FROM gone_state g WHERE {_same_key(table)})"
                    f" UNION ALL SELECT {names} FROM new_state",
                    lambda rows: there.overwrite(ALL, rows),
                )

    def _tidy(self) -> None:
        """Tidy the state tables: each run makes a dozen versions, and nobody reads the old."""
        for table in STATE_TABLES:
            try:
                with self._lake.explaining("tidying up"):
                    self._lake.tidy(STATE_SCHEMA, table.name, KEPT)
            except WarehouseError as error:
                logger.info("%s", error)  # The next run does it.

    def _touched(self, table: Table) -> Stretch | None:
        """Tell in which stretch the staged rows and those they replace are; None: all are new."""
        here, time = self.data(table.name), table.time and sql.quoted(table.time)
        found = f"FROM {here} SEMI JOIN {STAGED} USING (__sync_key)"
        if not self.scalar(f"SELECT count(*) {found}"):
            return None
        stretch = Stretch(self.rows(f"SELECT DISTINCT __source_id FROM {STAGED}")[0][0])
        if time is None:
            return stretch
        times = f"(SELECT {time} AS moment FROM {STAGED} UNION ALL SELECT {time} {found})"
        bounds = self.rows(
            f"SELECT min(moment), max(moment) FROM {times} WHERE moment IS NOT NULL"
            " GROUP BY (moment AT TIME ZONE 'UTC')::DATE ORDER BY ALL"
        )
        untimed = self.scalar(f"SELECT count(*) FROM {times} WHERE moment IS NULL") > 0
        return replace(stretch, time=table.time, spans=joined(bounds), untimed=untimed)

    def _with_keys(self, rows: pa.RecordBatchReader, keys: str) -> pa.Table:
        with self._registered(_FAR, rows), self._far_rows_streaming():
            query = f"FROM {_FAR} SEMI JOIN {keys} USING (__sync_key)"
            found: pa.Table = self._connection.sql(query).to_arrow_table()
            return found

    def _stream(self, query: str, take: Callable[[pa.RecordBatchReader], None]) -> None:
        with (
            self._far_rows_streaming(),
            closing(self._connection.sql(query).to_arrow_reader(ROWS_AT_ONCE)) as rows,
        ):
            take(rows)

    @contextmanager
    def _far_rows_streaming(self) -> Iterator[None]:
        """
        Have joins keep the right side in memory: a batch, and not the rows that stream by.

        DuckDB cannot know how many those are, and would keep them: 2 GB for 3 million profiles.
        """
        self.execute("SET disabled_optimizers = 'build_side_probe_side'")
        try:
            yield
        finally:
            self.execute("RESET disabled_optimizers")

    @contextmanager
    def _registered(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> Iterator[None]:
        self._connection.register(name, rows)
        try:
            yield
        finally:
            self._connection.unregister(name)


def _same_key(table: StateTable) -> str:
    names = [sql.quoted(name) for name in table.key]
    return " AND ".join(f"f.{name} IS NOT DISTINCT FROM g.{name}" for name in names)


def joined(
    bounds: Sequence[tuple[datetime, datetime]],
) -> tuple[tuple[datetime, datetime], ...]:
    """Join spans, given in order and apart, until MOST_SPANS are left: the closest first."""
    gaps = sorted(range(1, len(bounds)), key=lambda after: bounds[after][0] - bounds[after - 1][1])
    kept = sorted(gaps[max(0, len(bounds) - MOST_SPANS) :])
    edges = [0, *kept, len(bounds)] if bounds else []
    return tuple((bounds[first][0], bounds[end - 1][1]) for first, end in pairwise(edges))


def ensure_writable(place: Path) -> None:
    """Raise WarehouseError unless *place* is there and this user may write to it."""
    if not os.access(place, os.W_OK) or not (place.is_dir() or place.suffix):
        raise WarehouseError(
            f"{place} cannot be written, or is not there. Make a folder, or change warehouse.url."
        )


def _spans_of(days: Sequence[date]) -> tuple[tuple[datetime, datetime], ...]:
    midnights = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
    return joined([(start, start + _A_DAY) for start in midnights])


_A_DAY = timedelta(days=1, microseconds=-1)


def _one_column(name: str, values: Sequence[str]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string())})


def _tried(attempt: Callable[[], _T]) -> _T:
    """Try again what was overtaken, after a wait of its own length, so that two do not meet."""
    for seconds in WAITS:
        try:
            return attempt()
        except CommitConflict:
            time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 -- no secret.
    return attempt()
