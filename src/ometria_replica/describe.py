"""The tables, told to a person, a page, a database or a diagram. All of it follows from TABLES."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.report import aligned
from ometria_replica.schema import DATA_SCHEMA, LINEAGE, Feed, Pages, PerParent, Windows
from ometria_replica.tables import JOINS, TABLES
from ometria_replica.warehouse.sql import create_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ometria_replica.schema import Column, Read, Table

_LINEAGE_WORDS = {
    "_account_id": "the account that owns the connection",
    "__source_id": "the connection",
    "__sync_key": "the table's key",
    "__synced_at": "when the row was loaded",
}


def as_text(tables: Sequence[Table]) -> str:
    """List the tables; a single one with its columns and where each comes from."""
    if len(tables) == 1:
        return "\n".join(_one_table(tables[0]))
    lines = [
        [f"{DATA_SCHEMA}.{table.name}", f"{len(table.all_columns)} columns", _read(table.read)]
        for table in tables
    ]
    return "\n".join(
        [*aligned(lines, left=3), "", "ometria-replica tables TABLE shows the columns of one."]
    )


def as_markdown(tables: Iterable[Table]) -> str:
    """Write a section with a table for each."""
    return "\n\n".join("\n".join(_markdown(table)) for table in tables)


def as_sql(tables: Iterable[Table]) -> str:
    """Write the statements that make the tables in DuckDB or Postgres."""
    return "\n\n".join(
        [f"CREATE SCHEMA IF NOT EXISTS {DATA_SCHEMA};", *(f"{create_table(t)};" for t in tables)]
    )


def as_mermaid(tables: Sequence[Table]) -> str:
    """Draw the entities and how they join, in Mermaid's words."""
    names = {table.name for table in tables}
    lines = ["erDiagram"]
    for join in JOINS:
        (one, column), (many, other) = join.one.split("."), join.many.split(".")
        if {one, many} <= names:
            word = column if column == other else f"{column} = {other}"
            arrow = "}o..o{" if join.best_effort else "||--o{"
            lines.append(f'    {one} {arrow} {many} : "{word}"')
    for table in tables:
        lines.append(f"    {table.name} {{")
        lines += [f"        {c.type} {c.name}{_mark(table, c)}" for c in table.all_columns]
        lines.append("    }")
    return "\n".join(lines)


def _mark(table: Table, column: Column) -> str:
    if column.name == "__sync_key":
        return " PK"
    if any(join.many == f"{table.name}.{column.name}" for join in JOINS):
        return " FK"
    return ""


def _one_table(table: Table) -> list[str]:
    lines = [[column.name, column.type, _source(table, column)] for column in table.all_columns]
    return [
        f"{DATA_SCHEMA}.{table.name}, from {_read(table.read)}",
        f"key: {table.sync_key}",
        "",
        *aligned([["column", "type", "source"], *lines], left=3),
    ]


def _markdown(table: Table) -> list[str]:
    return [
        f"## {DATA_SCHEMA}.{table.name}",
        "",
        f"From {_read(table.read)}. Key: `{table.sync_key}`.",
        "",
        "| source | column | type |",
        "| --- | --- | --- |",
        *(f"| {_source(table, c)} | `{c.name}` | {c.type} |" for c in table.all_columns),
    ]


def _source(table: Table, column: Column) -> str:
    if column in LINEAGE:
        words = _LINEAGE_WORDS[column.name]
        return f"{words}, {table.sync_key}" if column.name == "__sync_key" else words
    return str(column.source)


def _read(read: Read) -> str:
    match read:
        case Pages(endpoint=endpoint) | Windows(endpoint=endpoint) | PerParent(endpoint=endpoint):
            return f"GET /{endpoint}"
        case Feed(dataset=dataset):
            return f"the feed's {dataset.replace('_', ' ')}"


FORMATS = {"text": as_text, "markdown": as_markdown, "sql": as_sql, "mermaid": as_mermaid}


def describe(name: str | None, form: str) -> str:
    """Describe one table, or all where *name* is None; raises KeyError for another name."""
    known = {table.name: table for table in TABLES}
    tables = TABLES if name is None else (known[name.removeprefix(f"{DATA_SCHEMA}.")],)
    return FORMATS[form](tables)
