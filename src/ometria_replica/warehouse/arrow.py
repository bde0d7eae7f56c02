"""Arrow's names of our column types, for all that rows travel through as Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", "UTC"),
    "integer": pa.int64(),
}
