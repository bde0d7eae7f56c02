"""Tables and schemas as dlt describes and names them."""

from __future__ import annotations

from hashlib import md5
from typing import TYPE_CHECKING, Any, cast

from dlt.common.schema import Schema

from ometria_replica.schema import DATA_SCHEMA, STATE_SCHEMA
from ometria_replica.warehouse.remotes.dlt_patches import STAGING_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TYPES: Mapping[str, str] = {
    "text": "text",
    "boolean": "bool",
    "date": "date",
    "timestamptz": "timestamp",
    "integer": "bigint",
    "json": "text",
    "decimal": "decimal",
}
"""dlt's names of our column types."""

_NUMERIC = {"precision": 38, "scale": 9}

NAMING = "ometria_replica.naming"
_JSON = "dlt.common.normalizers.json.relational"


def describe(
    name: str,
    columns: Iterable[tuple[str, str]],
    key: Sequence[str],
    strategy: str,
    *,
    table_hints: Mapping[str, Any] | None = None,
    column_hints: Mapping[str, Mapping[str, Any]] | None = None,
    comments: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Describe a table for dlt: *columns* with our types, in order, and the *key* of its rows.

    *comments* are those of columns by name, and that of the table under ``""``. dlt writes them
    to BigQuery, Databricks and Snowflake when it creates a table.
    """
    described = {column: {"description": text} for column, text in (comments or {}).items()}
    return {
        "name": name,
        **described.get("", {}),
        "write_disposition": {"disposition": "merge", "strategy": strategy},
        "columns": {
            column: {
                "name": column,
                "data_type": TYPES[kind],
                "nullable": column not in key,
                **(_NUMERIC if kind == "decimal" else {}),
                **({"primary_key": True} if column in key else {}),
                **described.get(column, {}),
                **(column_hints or {}).get(column, {}),
            }
            for column, kind in columns
        },
        **(table_hints or {}),
    }


def schema_of(name: str, tables: Sequence[Mapping[str, Any]]) -> Schema:
    """Describe *tables*, as :func:`describe` gives them, to dlt under *name*."""
    schema = Schema(name, normalizers={"names": NAMING, "json": {"module": _JSON}})
    for table in tables:
        columns = {name: dict(column) for name, column in table["columns"].items()}
        schema.update_table(
            cast("Any", {**table, "write_disposition": "merge", "columns": columns})
        )
    return schema


def staging_schema(source_id: str, schema: str = DATA_SCHEMA) -> str:
    """
    Name dlt's staging schema: one for each source, since runs load sources side by side.

    Tables of other schemas than ours can have the names of ours.
    """
    name = source_id if schema in {DATA_SCHEMA, STATE_SCHEMA} else f"{schema} of {source_id}"
    return STAGING_PREFIX + md5(name.encode()).hexdigest()[:8]  # noqa: S324 -- no secret.
