"""Descriptions of the tables of a catalog: text, Markdown, SQL, Mermaid and JSON."""

from __future__ import annotations

from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG, Catalog
from ometria_replica.comments import column_comment, null_when
from ometria_replica.ddl import DEFAULT, create_statements, warehouses
from ometria_replica.errors import ConfigError
from ometria_replica.json_documents import document
from ometria_replica.nearest import did_you_mean
from ometria_replica.schema import HISTORY_SCHEMA, LINEAGE, RAW_SCHEMA
from ometria_replica.text import aligned, counted, names_of
from ometria_replica.ways_to_read import Feed, Inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ometria_replica.schema import Column, Table
    from ometria_replica.ways_to_read import Read

_LINEAGE_WORDS = {
    "_account_id": "the account that owns the connection",
    "__source_id": "the connection",
    "__sync_key": "the table's key",
    "__synced_at": "when the row was loaded",
}
_WIDTH = 88  # Characters of a line of text.


def describe(
    names: Sequence[str],
    form: str,
    *,
    catalog: Catalog = CATALOG,
    warehouse: str | None = None,
    every: bool = False,
) -> str:
    """
    Describe the named tables, or all that are on by default without names; *form* is in FORMATS.

    A name may include the schema, and be that of a history, of the kept records, or of all tables
    of these. *every* table is one that is off by default too, as a name may be. SQL is that of
    *warehouse*; None means DuckDB. Raises ConfigError for a table that is not in *catalog*, and for
    a warehouse that has no SQL.
    """
    names = names_of(names)
    chosen = _chosen(dict.fromkeys(names), catalog, every=every)
    if warehouse is None:
        if form == "text" and len(names) > 1:
            return "\n\n".join("\n".join(_one_table(table)) for table in chosen)
        return FORMATS[form](chosen)
    if form != "sql":
        raise ConfigError("--for names the warehouse of --format sql. Leave out one of them.")
    if warehouse not in warehouses():
        listed = f". The warehouses are {', '.join(warehouses())}."
        hint = did_you_mean(warehouse, warehouses()) or listed
        raise ConfigError(f"There is no SQL for '{warehouse}'{hint}")
    return as_sql(chosen, warehouse)


def _chosen(names: Iterable[str], catalog: Catalog, *, every: bool) -> Catalog:
    """Return the tables that are described, as a catalog of their own where they are named."""
    found = [table for name in names for table in _called(name, catalog, every=every)]
    if not found:
        return catalog.every if every else catalog
    tables = {table.name: table for table in reversed(found)}
    if other := next((each for each in found if each != tables[each.name]), None):
        raise ConfigError(
            f"{tables[other.name].full_name} and {other.full_name} have one name. Describe them"
            " one at a time."
        )
    return replace(catalog, tables=tuple(reversed(tables.values())), further=())


def _called(name: str, catalog: Catalog, *, every: bool) -> Iterable[Table]:
    """Return the table that is called *name*, or all of the schema that is."""
    if name == RAW_SCHEMA:
        return (catalog.every if every else replace(catalog, further=())).records
    everything = catalog.every
    others = {t.full_name: t for t in everything.stored if t.schema == HISTORY_SCHEMA}
    others |= {t.full_name: t for t in everything.records}
    if other := others.get(name):
        return [other]
    bare = {table.full_name: table.name for table in everything}
    return everything.only([bare.get(name, name)])


def as_text(catalog: Catalog) -> str:
    """List the tables; a single one with its columns and their sources."""
    if len(catalog.tables) == 1:
        return "\n".join(_one_table(catalog.tables[0]))
    lines = [
        [table.full_name, f"{len(table.all_columns)} columns", _read(table.read)]
        for table in catalog
    ]
    closing = ["", "ometria-replica tables TABLE shows the columns of one."]
    if catalog.further:
        number = counted(len(catalog.further), "further table is", "further tables are")
        closing.append(f"{number} off by default: ometria-replica tables --all shows them too.")
    return "\n".join([*aligned(lines, left=3), *closing])


def as_markdown(catalog: Catalog) -> str:
    """Write a section with a table for each."""
    return "\n\n".join("\n".join(_markdown(table)) for table in catalog)


def as_sql(catalog: Catalog, warehouse: str | None = None) -> str:
    """Write the statements that create the tables in *warehouse*; None means DuckDB."""
    statements = create_statements(catalog, warehouse or DEFAULT)
    return "\n".join(
        f"\n{statement};" if statement.startswith("CREATE TABLE") else f"{statement};"
        for statement in statements
    )


def as_mermaid(catalog: Catalog) -> str:
    """Draw the tables and how they join, as a Mermaid diagram."""
    names = set(catalog.names)
    lines = ["erDiagram"]
    for join in catalog.joins:
        (one, column), (many, other) = join.one.split("."), join.many.split(".")
        if {one, many} <= names:
            word = column if column == other else f"{column} = {other}"
            arrow = "}o..o{" if join.best_effort else "||--o{"
            lines.append(f'    {one} {arrow} {many} : "{word}"')
    for table in catalog:
        lines.append(f"    {table.name} {{")
        lines += [f"        {c.type} {c.name}{_mark(catalog, table, c)}" for c in table.all_columns]
        lines.append("    }")
    return "\n".join(lines)


def as_json(catalog: Catalog) -> str:
    """Write an object for each table, with one for each column."""
    tables = [
        {
            "schema": table.schema,
            "name": table.name,
            "source": _read(table.read),
            "key": str(table.sync_key),
            "about": table.about,
            "columns": [_json_column(table, column) for column in table.all_columns],
        }
        for table in catalog
    ]
    return document("tables", {"tables": tables})


FORMATS = {
    "text": as_text,
    "markdown": as_markdown,
    "sql": as_sql,
    "mermaid": as_mermaid,
    "json": as_json,
}


def _json_column(table: Table, column: Column) -> dict[str, str | None]:
    meaning = column.meaning
    return {
        "name": column.name,
        "type": column.type,
        "source": _source(table, column),
        "meaning": meaning.text if meaning else None,
        "null": null_when(table, column),
        "certainty": meaning.certainty if meaning else None,
    }


def _mark(catalog: Catalog, table: Table, column: Column) -> str:
    if column.name == "__sync_key":
        return " PK"
    if any(join.many == f"{table.name}.{column.name}" for join in catalog.joins):
        return " FK"
    return ""


def _one_table(table: Table) -> list[str]:
    cells = [[column.name, column.type, _source(table, column)] for column in table.all_columns]
    header, *lines = aligned([["column", "type", "source"], *cells], left=3)
    meanings = [column_comment(table, column) for column in table.all_columns]
    return [
        f"{table.full_name}, from {_read(table.read)}",
        f"key: {table.sync_key}",
        *(["", *wrap(table.about, _WIDTH)] if table.about else []),
        "",
        header,
        *(
            text
            for line, meaning in zip(lines, meanings, strict=True)
            for text in (line, *_indented(meaning))
        ),
    ]


def _indented(text: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _markdown(table: Table) -> list[str]:
    return [
        f"## {table.full_name}",
        "",
        *([table.about.replace(". ", ".\n"), ""] if table.about else []),
        f"From {_read(table.read)}. Key: `{table.sync_key}`.",
        "",
        "| source | column | type | meaning | null | certainty |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_markdown_row(table, column) for column in table.all_columns),
    ]


def _markdown_row(table: Table, column: Column) -> str:
    meaning = column.meaning
    cells = [
        _source(table, column),
        f"`{column.name}`",
        column.type,
        meaning.text if meaning else "",
        null_when(table, column),
        meaning.certainty if meaning else "",
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _source(table: Table, column: Column) -> str:
    if column in LINEAGE:
        words = _LINEAGE_WORDS[column.name]
        return f"{words}, {table.sync_key}" if column.name == "__sync_key" else words
    return str(column.source)


def _read(read: Read) -> str:
    match read:
        case Feed(dataset=dataset):
            return f"the feed's {dataset.replace('_', ' ')}"
        case Inside(parent=parent, field=field):
            return f"the array {field} inside each record of {parent}"
        case _:
            return f"GET /{read.endpoint}"
