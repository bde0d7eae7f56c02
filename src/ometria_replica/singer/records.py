"""Rows and rejects of a staged batch as Singer records, and the JSON Schema of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ometria_replica.comments import comments
from ometria_replica.extraction.reading import NEVER_NULL
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import REJECT_COLUMNS, REJECTED, STAGED, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ometria_replica.extraction.batches import StagedBatch
    from ometria_replica.schema import ColumnType, Table

Record = dict[str, Any]
"""A record in the types of JSON, and Decimal, whose digits are written as they are."""

REJECTS = "rejects"
REJECT_KEY = ("reject_id",)
REJECTED_AT = "rejected_at"
ROWS = 10_000
"""Records that are in memory at the same time, as Python values."""

_SCHEMAS: Mapping[ColumnType, Mapping[str, str]] = {
    "text": {"type": "string"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "timestamptz": {"type": "string", "format": "date-time"},
    "integer": {"type": "integer"},
    "decimal": {"type": "number"},
}
_TEXTS: Mapping[ColumnType, str] = {
    "date": "strftime({}, '%Y-%m-%d')",
    "timestamptz": "strftime({} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f+00:00')",
}
"""DuckDB writes times faster than Python."""

_REJECT_TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(REJECT_COLUMNS, "text"),
    REJECT_COLUMNS[-1]: "integer",
    REJECTED_AT: "timestamptz",
}


def table_schema(table: Table) -> dict[str, Any]:
    """Describe the records of a table: its columns in order, with their meanings."""
    about = comments(table)
    types = {column.name: column.type for column in table.all_columns}
    schema = _schema(types, NEVER_NULL, table.key)
    for name, each in schema["properties"].items():
        if name in about:
            each["description"] = about[name]
    return schema


def rejects_schema() -> dict[str, Any]:
    """Describe rejected values, records and files."""
    return _schema(_REJECT_TYPES, (*REJECT_KEY, REJECTED_AT), REJECT_KEY)


def rows_of(batch: StagedBatch, names: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of a batch, with the columns called *names*."""
    columns = [column for column in batch.table.all_columns if column.name in names]
    texts = (_text(column.name, column.type) for column in columns)
    return _records(batch, f"SELECT {', '.join(texts)} FROM {STAGED}")


def rejects_of(batch: StagedBatch) -> Iterator[Record]:
    """Yield the rejects of a batch, each once."""
    columns = ", ".join(_text(name, _REJECT_TYPES[name]) for name in REJECT_COLUMNS)
    at = batch.staged_at.isoformat(timespec="microseconds")
    query = f"SELECT DISTINCT ON (reject_id) {columns}, '{at}' AS {REJECTED_AT} FROM {REJECTED}"
    return _records(batch, query)


def _records(batch: StagedBatch, query: str) -> Iterator[Record]:
    connection = batch.connection
    with translating(f"reading staged rows of {batch.table.name}", connection):
        connection.execute("SELECT 1").fetchall()  # Ends the previous query, as DuckDB 2 requires.
        found = connection.sql(query).to_arrow_reader(ROWS)
    for rows in found:
        yield from rows.to_pylist()


def _text(name: str, kind: ColumnType) -> str:
    """Select a column as JSON has it."""
    return f"{_TEXTS.get(kind, '{}').format(quoted(name))} AS {quoted(name)}"


def _schema(
    types: Mapping[str, ColumnType], never_null: Sequence[str], key: Sequence[str]
) -> dict[str, Any]:
    """Require the key alone: a catalog may leave out any other column."""
    return {
        "type": "object",
        "properties": {
            name: {**_SCHEMAS[kind], "type": _type(kind, can_be_null=name not in never_null)}
            for name, kind in types.items()
        },
        "required": list(key),
    }


def _type(kind: ColumnType, *, can_be_null: bool) -> str | list[str]:
    name = _SCHEMAS[kind]["type"]
    return [name, "null"] if can_be_null else name
