"""Statement text, and nothing that runs it. Pure, so that a snapshot can show all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping import SQL_TYPES, literal, quoted, stamped
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.warehouse.state_tables import STATE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.schema import Column, Table
    from ometria_replica.warehouse.state_tables import StateTable

__all__ = [
    "DUCKDB_TYPES",
    "create_state_table",
    "create_table",
    "literal",
    "names",
    "qualified",
    "quoted",
    "same_contents",
    "stamps",
    "state",
]

DUCKDB_TYPES: Mapping[str, str] = {**SQL_TYPES, "integer": "BIGINT"}


def create_table(
    table: Table, catalog: str | None = None, types: Mapping[str, str] = DUCKDB_TYPES
) -> str:
    """
    Write the CREATE TABLE of one of the five.

    Without a primary key: in DuckDB an upsert through an index took 8 s and more where
    stage, delete and insert takes 2 (500,000 rows into 5 million), and the merge keeps
    ``__sync_key`` unique without one.
    """
    columns = ",\n".join(
        f"    {quoted(column.name)} {types[column.type]}" for column in table.all_columns
    )
    return f"CREATE TABLE IF NOT EXISTS {qualified(table.name, catalog)} (\n{columns}\n)"


def create_state_table(
    table: StateTable, catalog: str | None = None, types: Mapping[str, str] = DUCKDB_TYPES
) -> str:
    """Write the CREATE TABLE of a table of the state schema."""
    columns = ", ".join(f"{quoted(name)} {types[kind]}" for name, kind in table.columns)
    return f"CREATE TABLE IF NOT EXISTS {state(table, catalog)} ({columns})"


def qualified(table_name: str, catalog: str | None = None) -> str:
    """Name one of the five in full."""
    return _in_catalog(catalog, DATA_SCHEMA, table_name)


def state(table: StateTable, catalog: str | None = None) -> str:
    """Name a state table in full."""
    return _in_catalog(catalog, STATE_SCHEMA, table.name)


def same_contents(table: Table, staged: str, row: str) -> str:
    """Compare a staged row with the one that is there, by what Ometria sent: without stamps."""
    return " AND ".join(
        f"({staged}.{quoted(column.name)} IS NOT DISTINCT FROM {row}.{quoted(column.name)}"
        + (f" OR {staged}.{quoted(stamped(column))})" if column.stamp else ")")
        for column in table.columns
    )


def stamps(table: Table) -> list[Column]:
    """List the columns that move only when the rest of their row does."""
    return [column for column in table.columns if column.stamp]


def names(table: Table) -> str:
    """List all the columns, quoted, in order."""
    return ", ".join(quoted(column.name) for column in table.all_columns)


def _in_catalog(catalog: str | None, schema: str, name: str) -> str:
    return ".".join(quoted(part) for part in (catalog, schema, name) if part)
