"""The Arrow type of each column type, and arrays of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", "UTC"),
    "integer": pa.int64(),
    "json": pa.string(),
    "decimal": pa.decimal128(38, 9),
}
_TEXTS = (pa.string(), pa.large_string(), pa.string_view())


def arrow_schema(
    columns: Iterable[tuple[str, str]], metadata: Mapping[str, dict[str, str]] | None = None
) -> pa.Schema:
    """Return the Arrow schema of *columns*: their names and column types; *metadata* by name."""
    return pa.schema(
        [
            pa.field(name, ARROW_TYPES[kind], metadata=(metadata or {}).get(name))
            for name, kind in columns
        ]
    )


def our_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """List the names and column types of an Arrow schema; any other type has its Arrow name."""
    return [(field.name, _our_type(field.type)) for field in schema]


def text_array(texts: Sequence[str | None]) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    """
    Make an array of texts; None is null.

    Without pandas, which `pa.array` imports wherever it is installed: a quarter of the CPU of a
    small sync.
    """
    builder = pa.lib.StringBuilder()
    builder.append_values(texts)
    array = builder.finish()
    if len(array) < len(texts):  # It takes no more than 2 GB, and leaves out the rest.
        return pa.array(texts, pa.string())
    return array


def _our_type(kind: pa.DataType) -> str:
    if kind in _TEXTS:
        return "text"
    return next((ours for ours, theirs in ARROW_TYPES.items() if theirs == kind), str(kind))
