"""
Raw records become typed rows here, and nowhere else.

Pages of the API and export files alike become relations of texts, a column for each field. One
SELECT, written from the table's description, turns those into keys and typed columns, and puts
beside them the texts that did not convert. It runs in DuckDB whatever the warehouse: never row
by row.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica.mapping.joined_parts import (
    AnotherHeaderError,
    is_of_another_header,
    parts,
)
from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.readers import (
    MAX_LINE_BYTES,
    alike,
    csv_relation,
    documented_names,
    has_nuls,
    json_batches,
    json_object_sql,
    parquet_relation,
    to_arrow,
    unknown_fields,
)
from ometria_replica.mapping.reconciliation import (
    DifferenceError,
    difference,
    reconcile,
    written_in,
    written_lines,
)
from ometria_replica.mapping.retaining import drop_too_old
from ometria_replica.mapping.select import (
    REJECTED,
    STAGED,
    converted_columns,
    identity_words,
    mapping_sql,
    moments_sql,
    raw_name,
    staged_ddl,
    type_words,
)
from ometria_replica.mapping.suppressing import drop_rejects, drop_suppressed
from ometria_replica.mapping.torn_lines import record_at, take_out_torn_lines
from ometria_replica.mapping.treatments import parameters
from ometria_replica.records import Unreadable
from ometria_replica.temp_files import is_full, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedFile, FeedObject, Page, Record, StagedFile
    from ometria_replica.schema import Table
    from ometria_replica.suppressions import JoinedId

logger = logging.getLogger(__name__)

# After a line that ends in \r\n, what DuckDB keeps of the next may begin with the \n.
_LINE = "ltrim(csv_line, chr(10))"
_TORN = f"error_type::VARCHAR = 'UNQUOTED VALUE' OR contains({_LINE}, chr(10))"

KEPT_OF_A_LINE = 9_990  # Bytes: DuckDB keeps 10,000 of a line that it cannot parse, or few less.


class _TornError(Exception):
    """A quote that is not closed has taken in lines after it."""


_TEXT_NOT_KEPT = " (its text is not kept, since columns of the table are hashed or excluded)"

UNNAMED = "names not kept"
"""In place of the undocumented names in a table of which columns are hashed or excluded."""

SEEN_KEYS = "seen_keys"
_SPANS = "staged_spans"

REJECT_COLUMNS = (
    "reject_id",
    "source_id",
    "table_name",
    "sync_key",
    "column_name",
    "raw",
    "reason",
    "origin",
    "position",
)
"""The columns of a reject: *column_name* None for a whole record, *position* from 1 in *origin*."""


def file_reject(source_id: str, table_name: str, file: FeedObject, reason: str) -> dict[str, Any]:
    """Return the reject of an unreadable file, by the names of REJECT_COLUMNS."""
    known = {
        "reject_id": f"{source_id}|{table_name}|{file.name}|{file.etag}",
        "source_id": source_id,
        "table_name": table_name,
        "reason": reason,
        "origin": file.name,
    }
    return dict.fromkeys(REJECT_COLUMNS) | known


_NOBODY: tuple[JoinedId, ...] = ()


@dataclass(frozen=True)
class Staged:
    """
    A staged batch, in the temporary tables ``staged`` and ``rejected``.

    *records* were read, *rows* remain, one for each key. *merged* counts the distinct events
    that share a key with a newer one, *values_rejected* the values that became null,
    *records_rejected* the records without a row, *nuls_removed* the texts that lost a NUL
    character. *unknown_fields* are names that Ometria does not document, or UNNAMED. *suppressed*
    records are of people who were erased, and *too_old* ones are older than what the table keeps:
    these count as neither. *joined_ids* are other ids in records of people who were erased.
    """

    records: int
    rows: int
    merged: int
    values_rejected: int
    records_rejected: int
    nuls_removed: int
    unknown_fields: frozenset[str]
    suppressed: int = 0
    too_old: int = 0
    joined_ids: tuple[JoinedId, ...] = ()


@dataclass
class Staging:
    """
    Stages one batch of one table, in the order of its records: later ones replace earlier ones.

    One batch at a time uses a *connection*, since the temporary tables have fixed names.
    """

    connection: DuckDBPyConnection
    table: Table
    account_id: str
    source_id: str
    _unknown: set[str] = field(default_factory=set)
    _old_files: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection.execute("SET TimeZone = 'UTC'")  # A time without a zone is UTC.
        self.connection.execute("SET preserve_insertion_order = true")  # Later rows are newer.
        self.connection.execute(staged_ddl(self.table))
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {REJECTED} ({_rejected_columns()})")
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_SPANS} (first_row BIGINT, origin VARCHAR)"
        )

    def add_pages(self, pages: Sequence[Page], synced_at: datetime) -> int:
        """Stage the records of *pages* in their order; return how many."""
        records = [record for page in pages for record in page.records]
        if not records:
            return 0
        first = self._next_row()
        for page in (page for page in pages if page.records):  # No two spans begin alike.
            self._note_span(first, page.origin)
            first += len(page.records)
        self._note_unknown(unknown_fields(self.table, records))
        return self._insert_records(records, synced_at)

    def add_file(self, file: FeedFile, synced_at: datetime) -> int | Unreadable:
        """
        Stage one export file, whole or not at all; return its records, or why it is unreadable.

        Lines that are no rows of the file's dialect are rejected, and not counted. A file whose
        records are not all in its rows and rejects is unreadable.
        """
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        first = self._next_row()  # Before BEGIN: rows not yet committed have other row ids.
        try:
            try:
                with self._all_or_nothing():
                    records = self._read_file(file, synced_at)
            except (_TornError, AnotherHeaderError, DifferenceError):
                if file.dialect.format != "csv":
                    raise
                with self._all_or_nothing():
                    records = self._read_parts(file, synced_at)
            if records:
                self._note_span(first, file.origin.name)
        except (duckdb.Error, ValueError, RecursionError) as error:
            if _is_of_the_machine(error):
                raise
            logger.debug("cannot read %s: %s", file.origin.name, type(error).__name__)
            differs = isinstance(error, DifferenceError)
            reason = str(error) if differs else f"it cannot be read as {file.dialect.format}"
            return Unreadable(file.origin, reason)
        self._note_columns(file)
        return records

    def save(self, rows: Path, lines: Path) -> tuple[tuple[int, int], frozenset[str]]:
        """
        Write the staged rows, before :meth:`finish`, as Parquet for :meth:`add_staged`.

        *lines* takes the rejected lines. A file without content is not written.
        Returns the numbers of both, and the names of fields that Ometria does not document.
        """
        counts = self._count(STAGED), self._count(REJECTED)
        for name, path, count in zip((STAGED, REJECTED), (rows, lines), counts, strict=True):
            if count:
                self.connection.execute(
                    f"COPY {name} TO {literal(str(path))}"
                    " (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
                )
        return counts, frozenset(self._unknown)

    def add_staged(self, file: StagedFile, synced_at: datetime) -> int | Unreadable:
        """
        Stage one export file as another Staging saved it; return its records.

        A file of which rows or rejects are missing is left for the next run.
        """
        records, lines, first = 0, 0, self._next_row()  # Before BEGIN, as in add_file.
        self._note_age(file.origin)
        try:
            with self._all_or_nothing():
                if file.rows is not None:
                    records = self._scalar(
                        f"INSERT INTO {STAGED} BY NAME SELECT *"
                        f" REPLACE (TIMESTAMPTZ '{synced_at.isoformat()}' AS __synced_at)"
                        f" FROM read_parquet({literal(str(file.rows))})"
                    )
                if file.lines is not None:
                    lines = self._scalar(
                        f"INSERT INTO {REJECTED} BY NAME"
                        f" FROM read_parquet({literal(str(file.lines))})"
                    )
                if (records, lines) != file.counts:
                    raise difference(sum(file.counts), records, lines)
        except DifferenceError as error:
            return Unreadable(file.origin, str(error), again=True)
        if records:
            self._note_span(first, file.origin.name)
        self._note_unknown(file.unknown_fields)
        return records

    def add_files(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        """
        Stage export files in their order, each as :meth:`add_file` does.

        Each has its own ``__synced_at``. One statement reads consecutive CSV files of one
        dialect: on every core, and without the cost of a statement for each.
        """
        for file, _ in files:
            self._note_age(file.origin)
        return [found for group in alike(files) for found in self._add_alike(group)]

    def reject_file(self, file: FeedObject, reason: str) -> None:
        """Reject a file that cannot be read at all."""
        row = file_reject(self.source_id, self.table.name, file, reason)
        parameters = ", ".join("?" for _ in row)
        self.connection.execute(
            f"INSERT INTO {REJECTED} ({', '.join(row)}) VALUES ({parameters})", list(row.values())
        )

    def finish(self) -> Staged:
        """Reject records without an identity, keep the newest rows by key, reject their values."""
        suppressed, joined = 0, _NOBODY
        if self.table.suppressions:
            suppressed, joined = drop_suppressed(
                self.connection, self.table, self.table.suppressions
            )
        too_old = drop_too_old(self.connection, self.table, sorted(self._old_files))
        records, nuls, unidentified = self._row(
            f"SELECT count(*), coalesce(sum(_nuls), 0), count(_record) FROM {STAGED}"
        )
        lines = self._count(REJECTED)
        merged = rows = values = 0
        if unidentified:
            self._reject_records()
            named = self._drop_rejects()
            records, unidentified = records - named, unidentified - named
            suppressed += named
        if records > unidentified:
            merged = self._keep_newest()
            rows, values = self._reject_values()
            values -= self._drop_rejects() if values else 0
        return Staged(
            records=records,
            rows=rows,
            merged=merged,
            values_rejected=values,
            records_rejected=unidentified + lines,
            nuls_removed=nuls,
            unknown_fields=frozenset(self._unknown),
            suppressed=suppressed,
            too_old=too_old,
            joined_ids=joined,
        )

    def collect_keys(self, *, afresh: bool) -> None:
        """
        Add the batch's keys to the temporary table ``seen_keys``; *afresh* drops earlier ones.

        After the last batch of a full read, a row whose key is not there has lost its record.
        """
        if afresh:
            self.connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {SEEN_KEYS} (__sync_key VARCHAR)"
            )
        self.connection.execute(f"INSERT INTO {SEEN_KEYS} SELECT __sync_key FROM {STAGED}")

    def _add_alike(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        if len(files) == 1:
            return [self.add_file(*files[0])]
        first = self._next_row()  # Before BEGIN, as in add_file.
        try:
            with self._all_or_nothing():
                self._read_csv([file for file, _ in files], [synced_at for _, synced_at in files])
        except (duckdb.Error, _TornError, AnotherHeaderError, DifferenceError) as error:
            if _is_of_the_machine(error):
                raise
            logger.info("reading %d files one by one: %s", len(files), type(error).__name__)
            return [self.add_file(*file) for file in files]  # The unreadable one is among them.
        self._note_columns(files[0][0])
        return self._note_spans(first, files)

    def _note_age(self, file: FeedObject) -> None:
        """Note a file that was written before what the table keeps, so that all in it is older."""
        if self.table.oldest and file.modified_at < self.table.oldest:
            self._old_files.add(file.name)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Keep all that the block stages, or nothing."""
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _note_columns(self, file: FeedFile) -> None:
        known = self.table.fields + self.table.unmapped
        self._note_unknown(set(file.dialect.columns).difference(known))

    def _note_unknown(self, names: Collection[str]) -> None:
        """
        Note undocumented names; of a table with a treatment only that there are some.

        Where a writer has confused names and values, such a name could be what is hashed.
        """
        self._unknown |= {UNNAMED} if names and self.table.is_treated else set(names)

    def _note_spans(
        self, first: int, files: Sequence[tuple[FeedFile, datetime]]
    ) -> list[int | Unreadable]:
        """Note where the rows of each file begin, from row *first* on; return their numbers."""
        records: list[int | Unreadable] = [0] * len(files)
        spans = self.connection.execute(
            f"SELECT list_position({moments_sql(at for _, at in files)}, __synced_at) - 1,"
            f" min(rowid), count(*) FROM {STAGED} WHERE rowid >= {first} GROUP BY 1"
        ).fetchall()
        for place, _, count in spans:
            records[place] = count
        rows = [f"({row}, {literal(files[place][0].origin.name)})" for place, row, _ in spans]
        if rows:
            self.connection.execute(f"INSERT INTO {_SPANS} VALUES {', '.join(rows)}")
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
                relation = parquet_relation(self.connection, file)
                record = json_object_sql(self._kept(names))
                records = self._insert(relation, names, record, synced_at)
                reconcile([file], records, 0)
                return records

    def _read_parts(self, file: FeedFile, synced_at: datetime) -> int:
        """Stage a CSV file part by part, without lines whose quote is not closed."""
        records, left = 0, written_lines(file.path)
        for part in parts(file, self.table):
            torn = take_out_torn_lines(part.path, part.dialect)
            left -= written_lines(part.path) + sum(written_in(text) for _, text, _ in torn)
            records += self._read_file(part, synced_at, is_whole=True)
            lines = [(part.lines_before + number, text, reason) for number, text, reason in torn]
            self._reject_texts(file.origin.name, lines)
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
            inserted = self._insert(
                csv_relation(files, self.table),
                dialect.columns,
                json_object_sql(self._kept(dialect.columns)),
                *synced_at,
                nuls=dialect.nuls,
            )
        except duckdb.InvalidInputException as error:
            if is_of_another_header(error):
                raise AnotherHeaderError from error
            raise
        rejected = 0
        if self._count("reject_errors"):
            if not are_whole and self._scalar(f"SELECT count(*) FROM reject_errors WHERE {_TORN}"):
                raise _TornError
            rejected = sum(self._reject_csv_lines(file) for file in files)
            self.connection.execute("DELETE FROM reject_errors")
        self.connection.execute("DELETE FROM reject_scans")
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
        rejected = self._reject_lines(
            name, f"SELECT line, raw, reason FROM {lines} WHERE NOT {is_cut}"
        )
        cut = self.connection.execute(f"SELECT line, place, reason FROM {lines} WHERE {is_cut}")
        whole: list[tuple[int, str, str]] = []
        for line, place, reason in cut.fetchall():
            whole.append((line, record_at(file.path, place - 1, file.dialect), reason))
            if sum(len(text) for _, text, _ in whole) > MAX_LINE_BYTES:
                rejected += self._reject_texts(name, whole)
                whole = []
        return rejected + self._reject_texts(name, whole)

    def _read_json(self, file: FeedFile, synced_at: datetime) -> int:
        """
        Read JSON lines in Python, since DuckDB writes ``1.10`` as ``1.1``: another key.

        Slower than CSV, whose texts Python never touches.
        """
        bad: list[tuple[int, str, str]] = []
        inserted = 0
        for records in json_batches(file.path, bad):
            unknown = unknown_fields(self.table, records)
            if names := documented_names(self.table, unknown):
                records = [  # noqa: PLW2901 -- The same records, with documented names.
                    {names.get(name, name): value for name, value in record.items()}
                    for record in records
                ]
            self._note_unknown(unknown - names.keys())
            inserted += self._insert_records(records, synced_at)
        reconcile([file], inserted, self._reject_texts(file.origin.name, bad))
        return inserted

    def _reject_texts(self, origin: str, lines: Sequence[tuple[int, str, str]]) -> int:
        """Reject *lines*: the number, the text and the reason of each; return how many."""
        if not lines:
            return 0
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

        names = ("line", "raw", "reason")
        columns = dict(zip(names, zip(*lines, strict=True), strict=True))
        self.connection.register("bad_lines", pa.table(columns))
        rejected = self._reject_lines(origin, "SELECT line, raw, reason FROM bad_lines")
        self.connection.unregister("bad_lines")
        return rejected

    def _reject_lines(self, origin: str, lines: str) -> int:
        table, source, place = (literal(text) for text in (self.table.name, self.source_id, origin))
        raw, reason = "raw", "'line cannot be parsed: ' || reason"
        if self.table.is_treated:  # Where in the line the values are is not known.
            raw, reason = "NULL::VARCHAR", f"{reason} || {literal(_TEXT_NOT_KEPT)}"
        return self._scalar(
            f"INSERT INTO {REJECTED}"
            f" SELECT md5(concat_ws('|', {source}, {table}, {place}, line, {raw})),"
            f" {source}, {table}, NULL, NULL, {raw}, {reason},"
            f" {place}, line"
            f" FROM ({lines}) lines (line, raw, reason)"
        )

    def _insert_records(self, records: Sequence[Record], synced_at: datetime) -> int:
        incoming = to_arrow(self.table, records)
        self.connection.register("incoming", incoming)
        try:
            names = self.table.fields
            record = json_object_sql(names) if self.table.is_treated else '"_record"'
            return self._insert("incoming", names, record, synced_at, nuls=has_nuls(incoming))
        finally:
            self.connection.unregister("incoming")

    def _insert(
        self,
        relation: str,
        available: Sequence[str],
        record: str,
        *synced_at: datetime,
        nuls: bool = True,
    ) -> int:
        statement = mapping_sql(
            self.table,
            relation,
            available,
            account_id=self.account_id,
            source_id=self.source_id,
            synced_at=synced_at,
            record=record,
            nuls=nuls,
        )
        return self._scalar(f"INSERT INTO {STAGED} {statement}", parameters(self.table, statement))

    def _kept(self, names: Sequence[str]) -> Sequence[str]:
        """
        Return the columns of a file that a rejected record keeps: all, or only known ones.

        Of a table with a treatment, an unknown column could repeat what is hashed or excluded.
        """
        if not self.table.is_treated:
            return names
        return [name for name in names if name in self.table.fields]

    def _drop_rejects(self) -> int:
        """Drop the rejects that name erased people; return how many."""
        if self.table.suppressions is None:
            return 0
        return drop_rejects(self.connection, self.table, self.table.suppressions)

    def _reject_records(self) -> None:
        self._reject(
            key="NULL",
            column="NULL",
            raw="_record",
            reason=f"'no {identity_words(self.table)}'",
            where="_record IS NOT NULL",
        )
        self.connection.execute(f"DELETE FROM {STAGED} WHERE _record IS NOT NULL")

    def _reject_values(self) -> tuple[int, int]:
        """Reject the texts that did not convert; return the numbers of rows and of these texts."""
        columns = converted_columns(self.table)
        counts = ["count(*)", *(f"count({quoted(raw_name(column))})" for column in columns)]
        rows, *failed = self._row(f"SELECT {', '.join(counts)} FROM {STAGED}")
        for column, number in zip(columns, failed, strict=True):
            if number:
                raw = quoted(raw_name(column))
                self._reject(
                    key="__sync_key",
                    column=literal(column.name),
                    raw=raw,
                    reason=literal(f"not a {type_words(column)}"),
                    where=f"{raw} IS NOT NULL",
                )
        return rows, sum(failed)

    def _reject(self, *, key: str, column: str, raw: str, reason: str, where: str) -> None:
        table, source = literal(self.table.name), literal(self.source_id)
        self.connection.execute(
            f"INSERT INTO {REJECTED}"
            f" SELECT md5(concat_ws('|', {source}, {table}, {key}, {column}, {raw})) AS reject_id,"
            f" {source}, {table}, {key}, {column}, {raw}, {reason},"
            f" spans.origin, s.row_number - spans.first_row + 1"
            f" FROM (SELECT rowid AS row_number, * FROM {STAGED} WHERE {where}) s"
            f" ASOF LEFT JOIN {_SPANS} spans ON s.row_number >= spans.first_row"
        )

    def _keep_newest(self) -> int:
        """
        Keep the last row of each key; return how many distinct events lost their row.

        By row id for the few keys that repeat: `DISTINCT ON` or `row_number()` over all rows
        took half as long again (5 million events).
        """
        self.connection.execute(
            "CREATE OR REPLACE TEMP TABLE repeated AS"
            f" SELECT __sync_key, max(rowid) AS newest FROM {STAGED}"
            " GROUP BY __sync_key HAVING count(*) > 1"
        )
        merged = 0
        if self._count("repeated"):
            if self.table.events:
                merged = self._distinct_events_lost()
            self.connection.execute(
                f"DELETE FROM {STAGED} USING repeated"
                f" WHERE {STAGED}.__sync_key = repeated.__sync_key AND {STAGED}.rowid < newest"
            )
        self.connection.execute("DROP TABLE repeated")
        return merged

    def _distinct_events_lost(self) -> int:
        contents = ", ".join(quoted(column.name) for column in self.table.columns)
        return self._scalar(
            "SELECT coalesce(sum(differing - 1), 0) FROM"
            f" (SELECT count(DISTINCT hash({contents})) AS differing"
            f" FROM {STAGED} JOIN repeated USING (__sync_key) GROUP BY __sync_key)"
        )

    def _next_row(self) -> int:
        return self._scalar(f"SELECT coalesce(max(rowid) + 1, 0) FROM {STAGED}")

    def _note_span(self, first: int, origin: str) -> None:
        self.connection.execute(f"INSERT INTO {_SPANS} VALUES (?, ?)", [first, origin])

    def _count(self, name: str) -> int:
        return self._scalar(f"SELECT count(*) FROM {name}")

    def _scalar(self, statement: str, parameters: Mapping[str, object] | None = None) -> int:
        return self._row(statement, parameters)[0]

    def _row(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[int]:
        found = self.connection.execute(statement, dict(parameters or {})).fetchone()
        return [int(number) for number in found or (0,)]


def _is_of_the_machine(error: Exception) -> bool:
    """Whether this machine failed, which has no memory or no disk left, and not the file."""
    import duckdb  # noqa: PLC0415 -- As above.

    return isinstance(error, duckdb.IOException) or is_out_of_memory(error) or is_full(error)


def _rejected_columns() -> str:
    return ", ".join(
        f"{name} {'BIGINT' if name == 'position' else 'VARCHAR'}" for name in REJECT_COLUMNS
    )
