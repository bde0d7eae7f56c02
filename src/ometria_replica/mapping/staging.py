"""
Raw records become typed rows here, and nowhere else.

Pages of the API and export files alike become relations of texts, a column for each field. One
SELECT, written from the table's description, turns those into keys and typed columns, and puts
beside them the texts that did not convert. It runs in DuckDB whatever the warehouse: never row
by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_replica.mapping.file_staging import FileStaging
from ometria_replica.mapping.finishing import Staged, finish
from ometria_replica.mapping.nested_arrays import NestedStaging
from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.readers import to_arrow, unknown_fields
from ometria_replica.mapping.reconciliation import DifferenceError, difference
from ometria_replica.mapping.select import REJECTED, STAGED
from ometria_replica.mapping.staged_tables import StagedTables
from ometria_replica.records import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedFile, FeedObject, Page, StagedFile
    from ometria_replica.schema import Table

SEEN_KEYS = "seen_keys"


@dataclass
class Staging:
    """
    Stages one batch of one table, in the order of its records: later ones replace earlier ones.

    One batch at a time uses a *connection*, since the temporary tables have fixed names. *inside*
    are the tables of which rows are in arrays inside the records; they are staged in *nested*.
    """

    connection: DuckDBPyConnection
    table: Table
    account_id: str
    source_id: str
    inside: tuple[Table, ...] = ()
    nested: tuple[NestedStaging, ...] = field(init=False)
    _tables: StagedTables = field(init=False)
    _files: FileStaging = field(init=False)

    def __post_init__(self) -> None:
        self._tables = StagedTables(self.connection, self.table, self.account_id, self.source_id)
        self._files = FileStaging(self._tables)
        self.nested = tuple(
            NestedStaging(self._tables, table, number) for number, table in enumerate(self.inside)
        )

    def add_pages(self, pages: Sequence[Page], synced_at: datetime) -> int:
        """Stage the records of *pages* in their order; return how many."""
        records = [record for page in pages for record in page.records]
        if not records:
            return 0
        first = begins = self._tables.next_row()
        for page in (page for page in pages if page.records):  # No two spans begin alike.
            self._tables.note_span(first, page.origin)
            first += len(page.records)
        self._tables.note_unknown(unknown_fields(self.table, records))
        for nested in self.nested:
            nested.add(records, begins, synced_at)
        return self._tables.insert_texts(to_arrow(self.table, records), synced_at)

    def add_file(self, file: FeedFile, synced_at: datetime) -> int | Unreadable:
        """
        Stage one export file, whole or not at all; return its records, or why it is unreadable.

        Lines that are no rows of the file's dialect are rejected, and not counted. A file whose
        records are not all in its rows and rejects is unreadable.
        """
        return self._files.add_file(file, synced_at)

    def add_files(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        """
        Stage export files in their order, each as :meth:`add_file` does.

        Each has its own ``__synced_at``. One statement reads consecutive CSV files of one
        dialect: on every core, and without the cost of a statement for each.
        """
        return self._files.add_files(files)

    def save(self, rows: Path, lines: Path) -> tuple[tuple[int, int], frozenset[str]]:
        """
        Write the staged rows, before :meth:`finish`, as Parquet for :meth:`add_staged`.

        *lines* takes the rejected lines. A file without content is not written.
        Returns the numbers of both, and the names of fields that Ometria does not document.
        """
        counts = self._tables.count(STAGED), self._tables.count(REJECTED)
        for name, path, count in zip((STAGED, REJECTED), (rows, lines), counts, strict=True):
            if count:
                self.connection.execute(
                    f"COPY {name} TO {literal(str(path))}"
                    " (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
                )
        return counts, frozenset(self._tables.unknown_fields)

    def add_staged(self, file: StagedFile, synced_at: datetime) -> int | Unreadable:
        """
        Stage one export file as another Staging saved it; return its records.

        A file of which rows or rejects are missing is left for the next run.
        """
        records, lines, first = 0, 0, self._tables.next_row()  # Before BEGIN, as in add_file.
        self._tables.note_age(file.origin)
        try:
            with self._tables.all_or_nothing():
                if file.rows is not None:
                    records = self._tables.scalar(
                        f"INSERT INTO {STAGED} BY NAME SELECT *"
                        f" REPLACE (TIMESTAMPTZ '{synced_at.isoformat()}' AS __synced_at)"
                        f" FROM read_parquet({literal(str(file.rows))})"
                    )
                if file.lines is not None:
                    lines = self._tables.scalar(
                        f"INSERT INTO {REJECTED} BY NAME"
                        f" FROM read_parquet({literal(str(file.lines))})"
                    )
                if (records, lines) != file.counts:
                    raise difference(sum(file.counts), records, lines)
        except DifferenceError as error:
            return Unreadable(file.origin, str(error), again=True)
        if records:
            self._tables.note_span(first, file.origin.name)
        self._tables.note_unknown(file.unknown_fields)
        return records

    def reject_file(self, file: FeedObject, reason: str) -> None:
        """Reject a file that cannot be read at all."""
        self._tables.reject_file(file, reason)

    def finish(self) -> Staged:
        """Reject records without an identity, keep the newest rows by key, reject their values."""
        staged = finish(self._tables)
        if not self.nested:
            return staged
        inside = {nested.table.full_name: nested.finish() for nested in self.nested}
        joined = {each.hash: each for one in (staged, *inside.values()) for each in one.joined_ids}
        return replace(staged, joined_ids=tuple(joined.values()), inside=inside)

    def collect_keys(self, *, afresh: bool) -> None:
        """
        Add the batch's keys to those of its read, and let the view ``seen_keys`` be these.

        *afresh* drops those of an earlier read. The batches of other tables and sources may come
        between. After the last batch of a full read, a row whose key is not there has lost its
        record.
        """
        keys = _keys_of_read(self.source_id, self.table.name)
        if afresh:
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {keys} (__sync_key VARCHAR)")
        self.connection.execute(f"INSERT INTO {keys} SELECT __sync_key FROM {STAGED}")
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {SEEN_KEYS} AS FROM {keys}")


def forget_keys(connection: DuckDBPyConnection, source_id: str, table_name: str) -> None:
    """Drop the keys that a full read of a table has collected, if it was one."""
    connection.execute(f"DROP TABLE IF EXISTS {_keys_of_read(source_id, table_name)}")


def _keys_of_read(source_id: str, table_name: str) -> str:
    """Name a table for each source and table; DuckDB's names do not distinguish cases."""
    return quoted(f"{SEEN_KEYS} of {source_id.encode().hex()} {table_name}")
