"""Export files become staged rows and rejected lines: each file whole, or not at all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.mapping.joined_parts import AnotherHeaderError, is_of_another_header, parts
from ometria_replica.mapping.json_lines import json_texts, plain_file
from ometria_replica.mapping.quoting import literal
from ometria_replica.mapping.readers import (
    MAX_LINE_BYTES,
    alike,
    csv_object,
    csv_relation,
    json_object_sql,
    parquet_relation,
)
from ometria_replica.mapping.reconciliation import (
    DifferenceError,
    reconcile,
    written_in,
    written_lines,
)
from ometria_replica.mapping.torn_lines import record_at, take_out_torn_lines
from ometria_replica.records import Unreadable
from ometria_replica.temp_files import is_full, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ometria_replica.mapping.staged_tables import StagedTables
    from ometria_replica.records import FeedFile

logger = logging.getLogger(__name__)

# After a line that ends in \r\n, what DuckDB keeps of the next may begin with the \n.
_LINE = "ltrim(csv_line, chr(10))"
_TORN = f"error_type::VARCHAR = 'UNQUOTED VALUE' OR contains({_LINE}, chr(10))"

KEPT_OF_A_LINE = 9_990  # Bytes: DuckDB keeps 10,000 of a line that it cannot parse, or few less.


class _TornError(Exception):
    """A quote that is not closed has taken in lines after it."""


@dataclass(frozen=True)
class FileStaging:
    """Stages export files in the tables of a batch, in the order of the files."""

    tables: StagedTables

    def add_files(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        """Stage files as :meth:`Staging.add_files`, and note those that are old."""
        for file, _ in files:
            self.tables.note_age(file.origin)
        return [found for group in alike(files) for found in self._add_alike(group)]

    def _add_alike(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        if len(files) == 1:
            return [self.add_file(*files[0])]
        first = self.tables.next_row()  # Before BEGIN, as in add_file.
        try:
            with self.tables.all_or_nothing():
                self._read_csv([file for file, _ in files], [synced_at for _, synced_at in files])
        except (duckdb.Error, _TornError, AnotherHeaderError, DifferenceError) as error:
            if _is_of_the_machine(error):
                raise
            logger.info("reading %d files one by one: %s", len(files), type(error).__name__)
            return [self.add_file(*file) for file in files]  # The unreadable one is among them.
        self._note_columns(files[0][0])
        return [*self.tables.note_spans(first, files)]

    def add_file(self, file: FeedFile, synced_at: datetime) -> int | Unreadable:
        """Stage one file as :meth:`Staging.add_file`, by the quickest reader that can read it."""
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        first = self.tables.next_row()  # Before BEGIN: rows not yet committed have other row ids.
        try:
            try:
                records = self._add_plain(file, synced_at)
                if records is None:
                    with self.tables.all_or_nothing():
                        records = self._read_file(file, synced_at)
            except (_TornError, AnotherHeaderError, DifferenceError):
                if file.dialect.format != "csv":
                    raise
                with self.tables.all_or_nothing():
                    records = self._read_parts(file, synced_at)
            if records:
                self.tables.note_span(first, file.origin.name)
        except (duckdb.Error, ValueError, RecursionError) as error:
            if _is_of_the_machine(error):
                raise
            logger.debug("cannot read %s: %s", file.origin.name, type(error).__name__)
            differs = isinstance(error, DifferenceError)
            reason = str(error) if differs else f"it cannot be read as {file.dialect.format}"
            return Unreadable(file.origin, reason)
        self._note_columns(file)
        return records

    def _add_plain(self, file: FeedFile, synced_at: datetime) -> int | None:
        """Stage a file of plain JSON lines by one statement; None if a line is not plain."""
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        if file.dialect.format != "json":
            return None
        # Before BEGIN: a line that DuckDB cannot read would end the transaction.
        plain = plain_file(self.tables.connection, self.tables.table, file.path)
        if plain is None:
            return None
        names = self.tables.table.fields
        record = json_object_sql(names) if self.tables.table.is_treated else "error('no identity')"
        try:
            with self.tables.all_or_nothing():
                records = self.tables.insert(
                    plain.relation, names, record, synced_at, nuls=plain.nuls
                )
                reconcile([file], records, 0)
        except duckdb.InvalidInputException:  # A record without an identity: its text is needed.
            return None
        self.tables.note_unknown(plain.unknown)
        return records

    def _read_file(self, file: FeedFile, synced_at: datetime, *, is_whole: bool = False) -> int:
        if not file.dialect.columns and file.dialect.format != "json":
            return 0  # A file without a header has no rows either.
        match file.dialect.format:
            case "csv":
                return self._read_csv([file], [synced_at], are_whole=is_whole)
            case "json":
                return self._read_json(file, synced_at)
            case "parquet":
                names = file.dialect.columns
                keeps = self.tables.table.keeps_records
                relation = parquet_relation(self.tables.connection, file, keeps=keeps)
                record = json_object_sql(self._kept(names))
                records = self.tables.insert(relation, names, record, synced_at)
                reconcile([file], records, 0)
                return records

    def _read_parts(self, file: FeedFile, synced_at: datetime) -> int:
        """Stage a CSV file part by part, without lines whose quote is not closed."""
        records, left = 0, written_lines(file.path)
        for part in parts(file, self.tables.table):
            torn = take_out_torn_lines(part.path, part.dialect)
            left -= written_lines(part.path) + sum(written_in(text) for _, text, _ in torn)
            records += self._read_file(part, synced_at, is_whole=True)
            lines = [(part.lines_before + number, text, reason) for number, text, reason in torn]
            self.tables.reject_texts(file.origin.name, lines)
            self._note_columns(part)
        if left:
            raise DifferenceError("some of its lines are in none of its parts; please report this")
        return records

    def _read_csv(
        self, files: Sequence[FeedFile], synced_at: Sequence[datetime], *, are_whole: bool = False
    ) -> int:
        """
        Stage files of one dialect; reject the lines that are no rows of it.

        Raises _TornError if a rejected text spans lines, unless the files *are_whole*,
        AnotherHeaderError if the columns change their order, and DifferenceError.
        """
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        dialect = files[0].dialect
        try:
            inserted = self.tables.insert(
                csv_relation(files, self.tables.table),
                dialect.columns,
                json_object_sql(self._kept(dialect.columns)),
                *synced_at,
                kept=csv_object(dialect),
                nuls=dialect.nuls,
            )
        except duckdb.InvalidInputException as error:
            if is_of_another_header(error):
                raise AnotherHeaderError from error
            raise
        rejected = 0
        if self.tables.count("reject_errors"):
            if not are_whole and self.tables.scalar(
                f"SELECT count(*) FROM reject_errors WHERE {_TORN}"
            ):
                raise _TornError
            rejected = sum(self._reject_csv_lines(file) for file in files)
            self.tables.connection.execute("DELETE FROM reject_errors")
        self.tables.connection.execute("DELETE FROM reject_scans")
        reconcile(files, inserted, rejected, may_be_more=are_whole)
        return inserted

    def _reject_csv_lines(self, file: FeedFile) -> int:
        """
        Reject the lines that DuckDB could not parse; return how many.

        A line of which DuckDB kept a part is rejected whole.
        """
        lines = (
            f"(SELECT line + {file.lines_before} AS line, line_byte_position AS place,"
            f" {_LINE} AS raw,"
            " string_agg(DISTINCT lower(error_type::VARCHAR), ', ') AS reason"
            " FROM reject_errors JOIN reject_scans USING (scan_id, file_id)"
            f" WHERE file_path = {literal(str(file.path))} GROUP BY ALL)"
        )
        name, is_cut = file.origin.name, f"strlen(raw) >= {KEPT_OF_A_LINE}"
        rejected = self.tables.reject_lines(
            name, f"SELECT line, raw, reason FROM {lines} WHERE NOT {is_cut}"
        )
        cut = self.tables.connection.execute(
            f"SELECT line, place, reason FROM {lines} WHERE {is_cut}"
        )
        whole: list[tuple[int, str, str]] = []
        for line, place, reason in cut.fetchall():
            whole.append((line, record_at(file.path, place - 1, file.dialect), reason))
            if sum(len(text) for _, text, _ in whole) > MAX_LINE_BYTES:
                rejected += self.tables.reject_texts(name, whole)
                whole = []
        return rejected + self.tables.reject_texts(name, whole)

    def _read_json(self, file: FeedFile, synced_at: datetime) -> int:
        bad: list[tuple[int, str, str]] = []
        inserted = 0
        for found in json_texts(self.tables.connection, self.tables.table, file.path, bad):
            self.tables.note_unknown(found.unknown)
            inserted += self.tables.insert_texts(found.texts, synced_at)
            del found  # Before the next lines are read: its memory is used again.
        reconcile([file], inserted, self.tables.reject_texts(file.origin.name, bad))
        return inserted

    def _kept(self, names: Sequence[str]) -> Sequence[str]:
        """
        Return the columns of a file that a rejected record keeps: all, or only known ones.

        Of a table with a treatment, an unknown column could repeat what is hashed or excluded.
        """
        if not self.tables.table.is_treated:
            return names
        return [name for name in names if name in self.tables.table.fields]

    def _note_columns(self, file: FeedFile) -> None:
        self.tables.file_columns.update(file.dialect.names or file.dialect.columns)
        known = self.tables.table.fields + self.tables.table.unmapped
        self.tables.note_unknown(set(file.dialect.columns).difference(known))


def _is_of_the_machine(error: Exception) -> bool:
    """Whether this machine failed, which has no memory or no disk left, and not the file."""
    import duckdb  # noqa: PLC0415 -- As above.

    return isinstance(error, duckdb.IOException) or is_out_of_memory(error) or is_full(error)
