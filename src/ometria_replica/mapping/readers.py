"""How pages and files become relations of texts, which DuckDB reads."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from ometria_replica.mapping.joined_parts import without_headers
from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.records import field_text, json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedFile, Record
    from ometria_replica.schema import Table

MAX_LINE_BYTES = 16 * 2**20  # By default DuckDB rejects lines of more than two.
BUFFER_BYTES = 2 * MAX_LINE_BYTES  # Of a CSV file; by default DuckDB takes 16 of the longest lines.


def alike(
    files: Sequence[tuple[FeedFile, datetime]],
) -> Iterator[Sequence[tuple[FeedFile, datetime]]]:
    """Group *files*, in their order, into those that one statement can read."""
    for dialect, group in groupby(files, key=lambda file: file[0].dialect):
        together = list(group)
        # A column of that name would hide DuckDB's own, which numbers the files.
        hidden = "file_index" in map(str.lower, dialect.columns)
        if dialect.format == "csv" and dialect.columns and not hidden:
            yield together
        else:
            yield from ([file] for file in together)


def csv_relation(files: Sequence[FeedFile], table: Table) -> str:
    """
    Read CSV files of one dialect; DuckDB keeps the lines that it cannot parse.

    A header in the middle of a file, as of parts that were joined, is no record. One in another
    order is an error.
    """
    dialect = files[0].dialect
    paths = ", ".join(literal(str(file.path)) for file in files)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in dialect.columns)
    return (
        f"read_csv([{paths}], auto_detect = false, columns = {{{columns}}},"
        f" header = {str(dialect.header).lower()}, delim = {literal(dialect.delimiter)},"
        f" quote = {literal(dialect.quote)}, escape = {literal(dialect.escape)},"
        f" nullstr = [{', '.join(literal(null) for null in dict.fromkeys(['', dialect.null]))}],"
        f" allow_quoted_nulls = {str(dialect.quotes_nulls).lower()},"
        f" max_line_size = {MAX_LINE_BYTES}, buffer_size = {BUFFER_BYTES}, skip = {dialect.skip:d},"
        f" store_rejects = true, rejects_limit = 0){without_headers(dialect, table)}"
    )


def parquet_relation(connection: DuckDBPyConnection, file: FeedFile) -> str:
    """Read a Parquet file as text; bytes without a type are text in UTF-8."""
    relation = f"read_parquet({literal(str(file.path))})"
    described = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
    columns = ", ".join(
        f"{_as_text(quoted(name), kind)} AS {quoted(ours)}"
        for (name, kind, *_), ours in zip(described, file.dialect.columns, strict=True)
    )
    return f"(SELECT {columns} FROM {relation})"


def _as_text(column: str, kind: str) -> str:
    if kind == "BLOB":
        return f"coalesce(try(decode({column})), {column}::VARCHAR)"
    return f"{column}::VARCHAR"


def to_arrow(table: Table, records: Sequence[Record]) -> pa.Table:
    """Make a column of texts of each field, and ``_record`` of records without an identity."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

    from ometria_replica.arrow_types import text_array  # noqa: PLC0415 -- It imports pyarrow.

    texts = {source: [field_text(record, source) for record in records] for source in table.fields}
    columns = {source: text_array(values) for source, values in texts.items()}
    # Only for records without an identity: the text of all would cost as much as the rest.
    columns["_record"] = text_array(
        [
            json_text(record)
            if any(not any(texts[source][place] for source in group) for group in table.identity)
            else None
            for place, record in enumerate(records)
        ]
    )
    return pa.table(columns)


def has_nuls(texts: pa.Table) -> bool:
    """Return whether any text of a table of texts contains a NUL character."""
    return any(
        b"\0" in contents.to_pybytes()
        for column in texts.columns
        for chunk in column.chunks
        if (contents := chunk.buffers()[-1]) is not None
    )


def documented_names(table: Table, unknown: Iterable[str]) -> dict[str, str]:
    """Map the *unknown* names that are the table's in another case to the documented ones."""
    spelled = {name.lower(): name for name in table.fields}
    return {name: spelled[name.lower()] for name in unknown if name.lower() in spelled}


def unknown_fields(table: Table, records: Iterable[Iterable[str]]) -> set[str]:
    """Name the fields of *records*, or of names alone, that Ometria does not document."""
    known = {source.split("::")[0] for source in table.fields} | set(table.unmapped)
    return {name for record in records for name in record if name not in known}


def json_object_sql(names: Iterable[str]) -> str:
    """Write the expression for a row of texts as a JSON object."""
    members = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in names)
    return f"to_json(struct_pack({members}))::VARCHAR"
