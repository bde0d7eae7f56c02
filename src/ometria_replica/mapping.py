"""
Raw records become typed rows here, and nowhere else.

Pages of the API and files of the feed alike become relations of nothing but text,
a column for each field. One SELECT, written from the table's description, turns
those into keys and typed columns, and puts beside them whatever would not convert.
It runs in DuckDB whatever the warehouse: never row by row.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from ometria_replica.records import Unreadable, encodable, field_text, json_text, parse
from ometria_replica.schema import Md5

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedFile, Page, Record, StagedFile
    from ometria_replica.schema import Column, Table

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 16 * 2**20  # By default DuckDB sets aside lines of more than two.
JSON_BATCH = 20_000  # Records held as Python objects at once: some 40 MB.
STAGED = "staged"
REJECTED = "rejected"
SWEPT = "swept"
_SPANS = "staged_spans"

SQL_TYPES: Mapping[str, str] = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
}

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
"""What is set aside: *column_name* None for a whole record, *position* from 1 in *origin*."""


@dataclass(frozen=True)
class Staged:
    """
    What a batch brought, now in the temporary tables ``staged`` and ``rejected``.

    *records* were read, *rows* are left to merge, one a key. *merged* counts the
    distinct events that a key made one row of, *values_rejected* the values that
    became null, *records_rejected* the records set aside whole, *nuls_removed* the
    texts that lost a NUL character. *unknown_fields* are names that Ometria does
    not document.
    """

    records: int
    rows: int
    merged: int
    values_rejected: int
    records_rejected: int
    nuls_removed: int
    unknown_fields: frozenset[str]


@dataclass
class Staging:
    """
    One batch of one table, filled record by record order: later replaces earlier.

    Needs a *connection* to itself, since its tables are temporary and have fixed names.
    """

    connection: DuckDBPyConnection
    table: Table
    account_id: str
    source_id: str
    _unknown: set[str] = field(default_factory=set)

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
        self._unknown |= _unknown_fields(self.table, records)
        return self._insert_records(records, synced_at)

    def add_file(self, file: FeedFile, synced_at: datetime) -> int | Unreadable:
        """
        Stage one file of the feed, whole or not at all; return its records, or why not.

        Lines that are no rows of the file's dialect are set aside, and not counted.
        """
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        first = self._next_row()  # Before BEGIN: rows not yet committed have other row ids.
        self.connection.execute("BEGIN")
        try:
            records = self._read_file(file, synced_at)
        except (duckdb.IOException, duckdb.OutOfMemoryException):
            raise  # Of this machine, and not of the file.
        except (duckdb.Error, ValueError, RecursionError) as error:
            self.connection.execute("ROLLBACK")
            logger.debug("cannot read %s: %s", file.origin.name, type(error).__name__)
            return Unreadable(file.origin, f"it cannot be read as {file.dialect.format}")
        if records:
            self._note_span(first, file.origin.name)
        self.connection.execute("COMMIT")
        self._unknown |= set(file.dialect.columns) - set(self.table.fields + self.table.unmapped)
        return records

    def save(self, rows: Path, lines: Path) -> frozenset[str]:
        """
        Write what files brought, before :meth:`finish`, as Parquet for :meth:`add_staged`.

        *lines* are those that were no rows. Neither is written where there are none.
        Returns the names of fields that Ometria does not document.
        """
        for name, path in ((STAGED, rows), (REJECTED, lines)):
            if self._count(name):
                self.connection.execute(
                    f"COPY {name} TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
                )
        return frozenset(self._unknown)

    def add_staged(self, file: StagedFile, synced_at: datetime) -> int:
        """Stage one file of the feed as another Staging saved it; return its records."""
        records, first = 0, self._next_row()
        if file.rows is not None:
            records = self._scalar(
                f"INSERT INTO {STAGED} BY NAME SELECT *"
                f" REPLACE (TIMESTAMPTZ '{synced_at.isoformat()}' AS __synced_at)"
                f" FROM read_parquet({literal(str(file.rows))})"
            )
            self._note_span(first, file.origin.name)
        if file.lines is not None:
            self.connection.execute(
                f"INSERT INTO {REJECTED} BY NAME FROM read_parquet({literal(str(file.lines))})"
            )
        self._unknown |= file.unknown_fields
        return records

    def add_files(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        """
        Stage files of the feed in their order, each as :meth:`add_file` would.

        Each comes with its ``__synced_at``, of which no two are the same. CSV files in a row
        that are written alike are read by one statement: on every core, and without the
        price of many.
        """
        return [found for group in _alike(files) for found in self._add_alike(group)]

    def finish(self) -> Staged:
        """Set aside what cannot be loaded, then leave the newest row of each key."""
        records = self._count(STAGED)
        nuls = self._scalar(f"SELECT coalesce(sum(_nuls), 0) FROM {STAGED}")
        whole = self._reject_whole_records()
        lines = self._count(REJECTED) - whole
        values = sum(self._reject_values(column) for column in _converted(self.table))
        merged = self._keep_newest()
        return Staged(
            records=records,
            rows=self._count(STAGED),
            merged=merged,
            values_rejected=values,
            records_rejected=whole + lines,
            nuls_removed=nuls,
            unknown_fields=frozenset(self._unknown),
        )

    def sweep(self, *, afresh: bool) -> None:
        """
        Remember the keys of this batch in the temporary table ``swept``; *afresh* forgets others.

        After the last batch of a whole read, a row without its key there is of a record
        that is gone.
        """
        if afresh:
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {SWEPT} (__sync_key VARCHAR)")
        self.connection.execute(f"INSERT INTO {SWEPT} SELECT __sync_key FROM {STAGED}")

    def _add_alike(self, files: Sequence[tuple[FeedFile, datetime]]) -> list[int | Unreadable]:
        import duckdb  # noqa: PLC0415 -- 130 ms, and only a sync needs it.

        if len(files) == 1:
            return [self.add_file(*files[0])]
        first = self._next_row()  # Before BEGIN, as in add_file.
        self.connection.execute("BEGIN")
        try:
            self._read_csv([file for file, _ in files], [synced_at for _, synced_at in files])
        except (duckdb.IOException, duckdb.OutOfMemoryException):
            raise  # Of this machine, and not of a file.
        except duckdb.Error as error:
            self.connection.execute("ROLLBACK")
            logger.info("reading %d files one by one: %s", len(files), type(error).__name__)
            return [self.add_file(*file) for file in files]  # Which one it was, each will tell.
        self.connection.execute("COMMIT")
        file = files[0][0]
        self._unknown |= set(file.dialect.columns) - set(self.table.fields + self.table.unmapped)
        return self._note_spans(first, files)

    def _note_spans(
        self, first: int, files: Sequence[tuple[FeedFile, datetime]]
    ) -> list[int | Unreadable]:
        """Note where the rows of each file begin, from row *first* on; give how many there are."""
        records: list[int | Unreadable] = [0] * len(files)
        spans = self.connection.execute(
            f"SELECT list_position({_moments(at for _, at in files)}, __synced_at) - 1,"
            f" min(rowid), count(*) FROM {STAGED} WHERE rowid >= {first} GROUP BY 1"
        ).fetchall()
        for place, _, count in spans:
            records[place] = count
        rows = [f"({row}, {literal(files[place][0].origin.name)})" for place, row, _ in spans]
        if rows:
            self.connection.execute(f"INSERT INTO {_SPANS} VALUES {', '.join(rows)}")
        return records

    def _read_file(self, file: FeedFile, synced_at: datetime) -> int:
        if not file.dialect.columns and file.dialect.format != "json":
            return 0  # A file without a header has no rows either.
        match file.dialect.format:
            case "csv":
                return self._read_csv([file], [synced_at])
            case "json":
                return self._read_json(file, synced_at)
            case "parquet":
                names = file.dialect.columns
                return self._insert(_parquet(file), names, _json_object(names), synced_at)

    def _read_csv(self, files: Sequence[FeedFile], synced_at: Sequence[datetime]) -> int:
        """Stage files of one dialect; set aside the lines that are no rows of it."""
        dialect = files[0].dialect
        inserted = self._insert(
            _csv(files),
            dialect.columns,
            _json_object(dialect.columns),
            *synced_at,
            nuls=dialect.nuls,
        )
        if self._count("reject_errors"):
            for file in files:
                self._set_aside_lines(
                    file.origin.name,
                    "SELECT line, csv_line, string_agg(DISTINCT lower(error_type::VARCHAR), ', ')"
                    " FROM reject_errors JOIN reject_scans USING (scan_id, file_id)"
                    f" WHERE file_path = {literal(str(file.path))} GROUP BY ALL",
                )
            self.connection.execute("DELETE FROM reject_errors")
        self.connection.execute("DELETE FROM reject_scans")
        return inserted

    def _read_json(self, file: FeedFile, synced_at: datetime) -> int:
        """
        Read JSON lines in Python, since DuckDB writes ``1.10`` as ``1.1``: another key.

        Slower than CSV, which nothing but the text ever touches.
        """
        bad: list[tuple[int, str]] = []
        inserted = 0
        for records in _json_batches(file.path, bad):
            self._unknown |= _unknown_fields(self.table, records)
            inserted += self._insert_records(records, synced_at)
        if bad:
            import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

            lines = pa.table({"line": [line for line, _ in bad], "raw": [raw for _, raw in bad]})
            self.connection.register("bad_lines", lines)
            self._set_aside_lines(file.origin.name, "SELECT line, raw, 'not JSON' FROM bad_lines")
            self.connection.unregister("bad_lines")
        return inserted

    def _set_aside_lines(self, origin: str, lines: str) -> None:
        table, source, place = (literal(text) for text in (self.table.name, self.source_id, origin))
        self.connection.execute(
            f"INSERT INTO {REJECTED}"
            f" SELECT md5(concat_ws('|', {source}, {table}, {place}, line, raw)),"
            f" {source}, {table}, NULL, NULL, raw, 'no row of its file: ' || reason, {place}, line"
            f" FROM ({lines}) lines (line, raw, reason)"
        )

    def _insert_records(self, records: Sequence[Record], synced_at: datetime) -> int:
        self.connection.register("incoming", _to_arrow(self.table, records))
        try:
            return self._insert("incoming", self.table.fields, '"_record"', synced_at)
        finally:
            self.connection.unregister("incoming")

    def _insert(
        self,
        relation: str,
        available: Sequence[str],
        whole: str,
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
            whole=whole,
            nuls=nuls,
        )
        return self._scalar(f"INSERT INTO {STAGED} {statement}")

    def _reject_whole_records(self) -> int:
        rejected = self._reject(
            key="NULL",
            column="NULL",
            raw="_whole",
            reason=f"'no {_identity_words(self.table)}'",
            where="_whole IS NOT NULL",
        )
        if rejected:
            self.connection.execute(f"DELETE FROM {STAGED} WHERE _whole IS NOT NULL")
        return rejected

    def _reject_values(self, column: Column) -> int:
        raw = quoted(_raw_name(column))
        return self._reject(
            key="__sync_key",
            column=literal(column.name),
            raw=raw,
            reason=literal(f"not a {_type_words(column)}"),
            where=f"{raw} IS NOT NULL",
            once="DISTINCT ON (reject_id)",  # Pages overlap, and bring some records twice.
            order="ORDER BY s.row_number DESC",  # Of the same value twice, the newest is named.
        )

    def _reject(
        self,
        *,
        key: str,
        column: str,
        raw: str,
        reason: str,
        where: str,
        once: str = "",
        order: str = "",
    ) -> int:
        table, source = literal(self.table.name), literal(self.source_id)
        return self._scalar(
            f"INSERT INTO {REJECTED} SELECT {once}"
            f" md5(concat_ws('|', {source}, {table}, {key}, {column}, {raw})) AS reject_id,"
            f" {source}, {table}, {key}, {column}, {raw}, {reason},"
            f" spans.origin, s.row_number - spans.first_row + 1"
            f" FROM (SELECT rowid AS row_number, * FROM {STAGED} WHERE {where}) s"
            f" ASOF LEFT JOIN {_SPANS} spans ON s.row_number >= spans.first_row {order}"
        )

    def _keep_newest(self) -> int:
        """
        Leave the last row of each key; return how many distinct events lost theirs.

        By row id on the few keys that repeat: `DISTINCT ON` or `row_number()` over all
        rows took half as long again (5 million events).
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

    def _scalar(self, statement: str) -> int:
        found = self.connection.execute(statement).fetchone()
        return int(found[0]) if found else 0


def staged_ddl(table: Table) -> str:
    """Write the staging table: the table's columns, then what would not convert."""
    columns = [f"{quoted(column.name)} {SQL_TYPES[column.type]}" for column in table.all_columns]
    raw = [f"{quoted(_raw_name(column))} VARCHAR" for column in _converted(table)]
    raw += [f"{quoted(stamped(column))} BOOLEAN" for column in table.columns if column.stamp]
    return (
        f"CREATE OR REPLACE TEMP TABLE {STAGED}"
        f" ({', '.join([*columns, *raw, '_whole VARCHAR', '_nuls UTINYINT'])})"
    )


def stamped(column: Column) -> str:
    """Name the staging column that tells whether *column* has its stamp, for want of a field."""
    return f"_stamped:{column.name}"


def mapping_sql(
    table: Table,
    relation: str,
    available: Iterable[str],
    *,
    account_id: str,
    source_id: str,
    synced_at: Sequence[datetime],
    whole: str,
    nuls: bool = True,
) -> str:
    """
    Write the SELECT that maps *relation*, whose columns *available* are all text.

    A field that is not available is null. *synced_at* is one moment, or one for each file
    that the relation reads. *whole* is an expression for the record itself, asked for only
    where the record cannot be identified. Without *nuls* no text is searched for NUL.
    """
    raw = _Raw(frozenset(available))
    key = _key(table.sync_key, source_id, raw)
    lineage = {
        "_account_id": literal(account_id),
        "__source_id": literal(source_id),
        "__sync_key": key,
        "__synced_at": _of_each_file(synced_at),
    }
    columns = [
        f"{lineage.get(column.name) or _value(column, source_id, raw, nuls=nuls)}"
        f" AS {quoted(column.name)}"
        for column in table.all_columns
    ]
    failed = [
        f"CASE WHEN {raw(column.source)} <> '' AND {_value(column, source_id, raw)} IS NULL"
        f" THEN {raw(column.source)} END AS {quoted(_raw_name(column))}"
        for column in _converted(table)
    ]
    failed += [
        f"{raw(column.source)} IS NULL AS {quoted(stamped(column))}"
        for column in table.columns
        if column.stamp
    ]
    rest = [
        f"CASE WHEN {_unidentified(table, raw)} THEN {whole} END AS _whole",
        f"{_nuls(table, raw) if nuls else 0} AS _nuls",
    ]
    select = ",\n  ".join([*columns, *failed, *rest])
    return f"SELECT\n  {select}\nFROM {relation}"


def _of_each_file(moments: Sequence[datetime]) -> str:
    return f"{_moments(moments)}[{'file_index::BIGINT + 1' if len(moments) > 1 else 1}]"


def _moments(moments: Iterable[datetime]) -> str:
    literals = (f"TIMESTAMPTZ '{moment.isoformat()}'" for moment in moments)
    return f"[{', '.join(literals)}]"


def conversion(text: str, column: Column) -> str:
    """Write the expression that turns *text*, itself an expression, into the column's type."""
    return _CONVERSIONS[column.type].format(text=text)


@dataclass(frozen=True)
class _Raw:
    """Names a field of the relation, or null where it has none."""

    available: frozenset[str]

    def __call__(self, source: str | Md5) -> str:
        return quoted(str(source)) if source in self.available else "NULL::VARCHAR"


def _key(md5: Md5, source_id: str, raw: _Raw) -> str:
    parts = [literal(source_id) if part == "source_id" else raw(part) for part in md5.parts]
    return f"md5(concat({', '.join(parts)}))"  # concat reads null as the empty text.


def _value(column: Column, source_id: str, raw: _Raw, *, nuls: bool = True) -> str:
    if isinstance(column.source, Md5):
        return _key(column.source, source_id, raw)
    if column.type == "text" and not column.stamp and not nuls:
        return raw(column.source)
    if column.stamp:
        return conversion(f"coalesce({raw(column.source)}, {raw(column.stamp)})", column)
    return conversion(raw(column.source), column)


# What text becomes is frozen as the keys are: rows are found by their time, so that another
# outcome for the same text needs a new look at all rows once. See docs/decisions.
# 'infinity', 'epoch', years before 1 and '05/01/26' convert in DuckDB, the last to the
# year 5, but are no moment that anybody meant. Hence the four digits and the bounds.
# Ten or thirteen digits are seconds or milliseconds since 1970: nobody documents the
# feed's form of time, and no other reading of them is a year between 2001 and 2286.
_CONVERSIONS: Mapping[str, str] = {
    "text": "CASE WHEN contains({text}, chr(0)) THEN replace({text}, chr(0), '') ELSE {text} END",
    "boolean": "try_cast({text} AS BOOLEAN)",
    "date": (
        "CASE WHEN regexp_matches({text}, '^\\s*0000') THEN NULL"
        " WHEN regexp_full_match({text}, '\\s*\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}\\s*')"
        " THEN try_cast({text} AS DATE)"
        " WHEN regexp_matches({text}, '^\\s*\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}[T ]\\d')"
        " AND try_cast({text} AS TIMESTAMPTZ) IS NOT NULL"
        " THEN try_cast(regexp_extract({text}, '\\d+-\\d+-\\d+') AS DATE) END"
    ),
    "timestamptz": (
        "CASE WHEN substr(ltrim({text}), 5, 1) IN ('-', '/')"
        " AND try_cast({text} AS TIMESTAMPTZ)"
        " BETWEEN TIMESTAMPTZ '0001-01-01' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999'"
        " THEN try_cast({text} AS TIMESTAMPTZ)"
        " WHEN regexp_full_match({text}, '\\d{{10}}(\\.\\d{{1,6}})?')"
        " THEN to_timestamp(try_cast({text} AS DOUBLE))"
        " WHEN regexp_full_match({text}, '\\d{{13}}')"
        " THEN to_timestamp(try_cast({text} AS DOUBLE) / 1000) END"
    ),
}


def _converted(table: Table) -> list[Column]:
    return [column for column in table.columns if column.type != "text"]


def _raw_name(column: Column) -> str:
    return f"_raw:{column.name}"


def _unidentified(table: Table, raw: _Raw) -> str:
    groups = (
        " AND ".join(f"coalesce({raw(source)}, '') = ''" for source in group)
        for group in table.identity
    )
    return " OR ".join(f"({group})" for group in groups)


def _nuls(table: Table, raw: _Raw) -> str:
    return " + ".join(
        f"coalesce(contains({raw(column.source)}, chr(0)), false)::UTINYINT"
        for column in table.columns
        if column.type == "text" and column.source in raw.available
    )


def _identity_words(table: Table) -> str:
    return ", or no ".join(" and no ".join(group) for group in table.identity)


def _type_words(column: Column) -> str:
    return {"boolean": "boolean", "date": "date", "timestamptz": "time"}[column.type]


def _rejected_columns() -> str:
    return ", ".join(
        f"{name} {'BIGINT' if name == 'position' else 'VARCHAR'}" for name in REJECT_COLUMNS
    )


def _alike(
    files: Sequence[tuple[FeedFile, datetime]],
) -> Iterator[Sequence[tuple[FeedFile, datetime]]]:
    """Part *files*, in their order, into those that one statement can read."""
    for dialect, group in groupby(files, key=lambda file: file[0].dialect):
        together = list(group)
        # A column of that name would hide DuckDB's own, which tells the files apart.
        hidden = "file_index" in map(str.lower, dialect.columns)
        if dialect.format == "csv" and dialect.columns and not hidden:
            yield together
        else:
            yield from ([file] for file in together)


def _csv(files: Sequence[FeedFile]) -> str:
    dialect = files[0].dialect
    paths = ", ".join(literal(str(file.path)) for file in files)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in dialect.columns)
    return (
        f"read_csv([{paths}], auto_detect = false, columns = {{{columns}}},"
        f" header = {str(dialect.header).lower()}, delim = {literal(dialect.delimiter)},"
        f" quote = {literal(dialect.quote)}, escape = {literal(dialect.escape)},"
        f" nullstr = [{', '.join(literal(null) for null in dict.fromkeys(['', dialect.null]))}],"
        f" allow_quoted_nulls = {str(dialect.quotes_nulls).lower()},"
        f" max_line_size = {MAX_LINE_BYTES}, store_rejects = true, rejects_limit = 0)"
    )


def _parquet(file: FeedFile) -> str:
    columns = ", ".join(
        f"{quoted(name)}::VARCHAR AS {quoted(name)}" for name in file.dialect.columns
    )
    return f"(SELECT {columns} FROM read_parquet({literal(str(file.path))}))"


def _json_batches(path: Path, bad: list[tuple[int, str]]) -> Iterator[list[Record]]:
    """Yield the objects of a file of JSON lines; add other lines to *bad*, with their numbers."""
    batch: list[Record] = []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            record = _json_object_or_none(line)
            if record is not None:
                batch.append(record)
            elif line.strip():
                bad.append((number, encodable(line.rstrip("\n"))))
            if len(batch) == JSON_BATCH:
                yield batch
                batch = []
    yield batch


def _json_object_or_none(line: str) -> Record | None:
    try:
        value = parse(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _to_arrow(table: Table, records: Sequence[Record]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

    texts = {source: [field_text(record, source) for record in records] for source in table.fields}
    columns = {source: pa.array(values, pa.string()) for source, values in texts.items()}
    # Whole records are wanted only where nothing identifies them, and cost as much as the rest.
    columns["_record"] = pa.array(
        [
            json_text(record)
            if any(not any(texts[source][place] for source in group) for group in table.identity)
            else None
            for place, record in enumerate(records)
        ],
        pa.string(),
    )
    return pa.table(columns)


def _unknown_fields(table: Table, records: Iterable[Record]) -> set[str]:
    known = {source.split("::")[0] for source in table.fields} | set(table.unmapped)
    return {name for record in records for name in record if name not in known}


def _json_object(names: Iterable[str]) -> str:
    members = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in names)
    return f"to_json(struct_pack({members}))::VARCHAR"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text."""
    return "'" + text.replace("'", "''") + "'"
