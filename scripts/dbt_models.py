"""
The sources and the staging models of the dbt package, written from the catalog.

A source is a table of the replica; its staging model has the same columns in the order of the
table, with addresses in lower case and without space around them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.comments import NEVER, column_comment, null_when
from ometria_replica.schema import ROW_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ometria_replica.schema import Column, Table

PREFIX = "stg_ometria__"

_BY = "Written by `make docs` from the catalog of ometria-replica."
_LINEAGE = {
    "_account_id": "account_id",
    "__source_id": "source_id",
    "__sync_key": "sync_key",
    "__synced_at": "synced_at",
}
"""The names of the last four columns in the models."""

_TYPES = {
    "text": "text",
    "boolean": "boolean",
    "date": "date",
    "timestamptz": "timestamp with time zone",
    "integer": "integer",
    "decimal": "decimal(38, 9)",
    "json": "json",
}
_RESERVED = {"tag"}
"""Names that some warehouse reserves: Redshift."""

_VALUES = {("member_lists", "event"): ("list_enter", "list_exit")}
"""Columns of which Ometria documents the values."""


def files() -> dict[str, str]:
    """Make each file, by its path inside the folder ``dbt``."""
    tables = CATALOG.every.tables
    found = {
        "models/staging/_sources.yml": _sources(tables),
        "models/staging/_staging.yml": _properties(tables),
    }
    for table in tables:
        found[f"models/staging/{PREFIX}{table.name}.sql"] = _model(table)
    return found


def model_columns(table: Table) -> dict[str, Column]:
    """Give the columns of the staging model of *table*, by their names there."""
    return {_LINEAGE.get(each.name, each.name): each for each in table.all_columns}


_SOURCES = f"""\
# {_BY}
version: 2

sources:
  - name: ometria
    description: "The replica of an Ometria account, as ometria-replica writes it."
    database: "{{{{ var('ometria_database', none) or target.database }}}}"
    schema: "{{{{ var('ometria_schema', 'ometria') }}}}"
    config:
      loaded_at_query: "{{{{ ometria.reached_at() }}}}"
      freshness:
        warn_after:
          count: "{{{{ var('ometria_warn_after_hours', 36) }}}}"
          period: hour
        error_after:
          count: "{{{{ var('ometria_error_after_hours', 168) }}}}"
          period: hour
    tables:
"""


def _sources(tables: Iterable[Table]) -> str:
    return _SOURCES + "".join(f"{line}\n" for table in tables for line in _source(table))


def _source(table: Table) -> Iterator[str]:
    yield f"      - name: {table.name}"
    yield f"        description: {_text(table.about)}"
    yield f"        config: {{enabled: {_enabled(table)}}}"
    yield "        data_tests:"
    yield from _test(table, "ometria.unique_together", {"columns": ROW_KEY}, 10)
    yield from _test(table, "ometria.never_null", {"columns": _required(table)}, 10)
    yield "        columns:"
    for column in table.all_columns:
        yield f"          - name: {column.name}"
        yield f"            description: {_text(column_comment(table, column))}"
        yield f"            data_type: {_TYPES[column.type]}"
        if values := _VALUES.get((table.name, column.name)):
            yield "            data_tests:"
            yield from _test(table, "accepted_values", {"values": values}, 14, ", severity: warn")


def _required(table: Table) -> list[str]:
    """List the columns that are never null; one of people may be excluded, or blanked."""
    return [
        column.name
        for column in table.all_columns
        if null_when(table, column) == NEVER and not column.is_personal
    ]


def _test(
    table: Table, name: str, arguments: Mapping[str, Iterable[str]], indent: int, config: str = ""
) -> Iterator[str]:
    space = " " * indent
    given = ", ".join(f"{key}: [{', '.join(values)}]" for key, values in arguments.items())
    yield f"{space}- {name}:"
    yield f"{space}    arguments: {{{given}}}"
    yield f"{space}    config: {{enabled: {_enabled(table)}{config}}}"


def _properties(tables: Iterable[Table]) -> str:
    lines = [f"# {_BY}", "version: 2", "", "models:"]
    for table in tables:
        lines += [
            f"  - name: {PREFIX}{table.name}",
            f"    description: {_text(table.about + ' ' + _STAGED)}",
            f"    config: {{enabled: {_enabled(table)}}}",
            "    columns:",
        ]
        for name, column in model_columns(table).items():
            lines += [
                f"      - name: {name}",
                f"        description: {_text(_described(table, column))}",
            ]
    return "\n".join(lines) + "\n"


_STAGED = (
    "The columns of the table, with addresses in lower case and without space around them, and"
    " __source_id as source_id."
)


def _described(table: Table, column: Column) -> str:
    text = column_comment(table, column)
    return f"In lower case and without space around it. {text}" if _is_address(column) else text


def _is_address(column: Column) -> bool:
    return column.person == "address"


def _model(table: Table) -> str:
    lines = [f"-- {_BY}", "", "select"]
    columns = [f"    {_expression(name, column)}" for name, column in model_columns(table).items()]
    lines.append(",\n".join(columns))
    lines.append(f"from {{{{ source('ometria', '{table.name}') }}}}")
    return "\n".join(lines) + "\n"


def _expression(name: str, column: Column) -> str:
    if _is_address(column):
        return f"{{{{ ometria.address('{column.name}') }}}} as {name}"
    if name in _RESERVED:
        return f"{{{{ ometria.reserved('{name}') }}}} as {{{{ ometria.reserved('{name}') }}}}"
    return column.name if name == column.name else f"{column.name} as {name}"


def _enabled(table: Table) -> str:
    known = "var('ometria_tables')"
    return f"\"{{{{ '{table.name}' in {known} or {known} == 'all' }}}}\""


def _text(text: str) -> str:
    """Write a text as a scalar of YAML, which JSON's texts are too."""
    return json.dumps(text, ensure_ascii=False)
