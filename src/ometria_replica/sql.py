"""Statement text, and no code that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping import SQL_TYPES, stamped
from ometria_replica.mapping import literal as literal  # noqa: PLC0414 -- passed on.
from ometria_replica.mapping import quoted as quoted  # noqa: PLC0414 -- passed on.
from ometria_replica.schema import StateTable
from ometria_replica.selection import Dialect, to_sql

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ometria_replica.schema import Column, Table
    from ometria_replica.selection import Selection

DUCKDB_TYPES: Mapping[str, str] = {**SQL_TYPES, "json": "JSON"}
POSTGRES_TYPES: Mapping[str, str] = {
    "text": "text",
    "boolean": "boolean",
    "date": "date",
    "timestamptz": "timestamp with time zone",
    "integer": "bigint",
    "json": "jsonb",
    "decimal": "numeric(38,9)",
}

DIALECT = Dialect(name=quoted, moment=lambda at: f"TIMESTAMPTZ '{at.isoformat()}'", text=literal)
"""How DuckDB and PostgreSQL write names and values."""


NO_TIME = "CAST(NULL AS TIMESTAMPTZ)"


def condition(selection: Selection) -> str:
    """Write a selection for DuckDB and PostgreSQL, which need no parameters for it."""
    return to_sql(selection, DIALECT).text


def among(expression: str, values: Collection[object]) -> str:
    """Write the condition that an expression is one of *values*, each a parameter."""
    return f"{expression} IN ({', '.join('?' for _ in values)})"


def create_table(
    table: Table | StateTable,
    catalog: str | None = None,
    types: Mapping[str, str] = DUCKDB_TYPES,
    *,
    has_key: bool = False,
) -> str:
    """
    Write the CREATE TABLE, with a primary key if it *has_key*.

    Not in DuckDB: an upsert through an index took 8 s and more where stage, delete and insert
    takes 2 (500,000 rows into 5 million), and the merge keeps keys unique without one.
    """
    lines = [f"{quoted(name)} {types[kind]}" for name, kind in columns_of(table)]
    if has_key:
        lines.append(f"PRIMARY KEY ({', '.join(quoted(name) for name in key_of(table))})")
    columns = ",\n".join(f"    {line}" for line in lines)
    return f"CREATE TABLE IF NOT EXISTS {qualified(table, catalog)} (\n{columns}\n)"


def comment(table: Table, column: str, text: str, catalog: str | None = None) -> str:
    """Write the statement that comments a column, or the table itself if *column* is empty."""
    name = qualified(table, catalog)
    what = f"COLUMN {name}.{quoted(column)}" if column else f"TABLE {name}"
    return f"COMMENT ON {what} IS {literal(text)}"


def key_of(table: Table | StateTable) -> tuple[str, ...]:
    """Name the columns that identify a row."""
    return table.key


def columns_of(table: Table | StateTable) -> list[tuple[str, str]]:
    """List the names of the columns and their types, in order."""
    if isinstance(table, StateTable):
        return list(table.columns)
    return [(column.name, column.type) for column in table.all_columns]


def schema_of(table: Table | StateTable) -> str:
    """Name the schema of a table."""
    return table.schema


def qualified(table: Table | StateTable, catalog: str | None = None) -> str:
    """Name a table in full."""
    return ".".join(quoted(part) for part in (catalog, schema_of(table), table.name) if part)


def same_contents(table: Table, staged: str, row: str, *, has_stamps: bool = True) -> str:
    """
    Compare a staged row with a row of the table by their fields, without the stamps.

    A staged row knows which of its values are stamps. Without *has_stamps* it is no staged row, and
    columns that can hold a stamp are left out.
    """
    return " AND ".join(
        f"({same_column(column, staged, row)})"
        for column in table.contents
        if has_stamps or not column.stamp
    )


def same_column(column: Column, staged: str, row: str) -> str:
    """Compare one column of a staged row and a row of the table; a stamp is always the same."""
    name = quoted(column.name)
    same = f"{staged}.{name} IS NOT DISTINCT FROM {row}.{name}"
    return same + (f" OR {staged}.{quoted(stamped(column))}" if column.stamp else "")


def stamps(table: Table) -> list[Column]:
    """List the columns that change only when another column of their row does."""
    return [column for column in table.columns if column.stamp]


def names(table: Table) -> str:
    """List all the columns, quoted, in order."""
    return ", ".join(quoted(column.name) for column in table.all_columns)
