"""
Values of an answer as Python values, and these as text and as JSON.

Times are ISO 8601 in UTC, and numbers have all of their digits.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ometria_replica.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# DuckDB's, and those of PostgreSQL, to which its driver adds 30 years, beyond the range.
_FAR = {2**63 - 1: "infinity", -(2**63 - 1): "-infinity"} | {
    -(2**63) - 1 + 946_684_800_000_000: "infinity",
    -(2**63) + 946_684_800_000_000: "-infinity",
}
_FAR_DAYS = {2**31 - 1: "infinity", -(2**31 - 1): "-infinity"} | {
    -(2**31) - 1 + 10_957: "infinity",
    -(2**31) + 10_957: "-infinity",
}
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # As Decimal has them.
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """
    List the rows of a batch as Python values: None, bool, int, float, Decimal, str, or nested.

    Raises QueryError for a value that Python cannot hold, such as a time in the year 20,000.
    """
    return zip(*(_values(column) for column in batch.columns), strict=True)


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column has numbers, which tables align to the right."""
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or _is_numeric(kind)
    )


def as_text(value: Any) -> str:
    """Write a value, which is not None, for a table or CSV; nested ones as JSON."""
    text = value if type(value) is str else None  # First, since most are.
    if text is None:
        match value:
            case bool():
                text = "true" if value else "false"
            case float():
                text = _NOT_FINITE.get(repr(value)) or repr(value)
            case Decimal():
                text = format(value, "f")
            case date() | time():
                text = value.isoformat()
            case bytes():
                text = "\\x" + value.hex()
            case list() | tuple() | dict():
                text = as_json(value)
            case _:
                text = str(value)
    return text


def as_json(value: Any) -> str:
    """Write a value as JSON. A number that JSON does not have, such as NaN, becomes a text."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return as_object((as_text(key), each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_json, value))}]"
    text = as_text(value)
    is_exact = isinstance(value, int) or (
        isinstance(value, (float, Decimal)) and math.isfinite(value)
    )
    return text if is_exact else json.dumps(text, ensure_ascii=False)


def as_object(fields: Iterable[tuple[str, Any]]) -> str:
    """Write a JSON object."""
    written = (f"{json.dumps(name, ensure_ascii=False)}: {as_json(each)}" for name, each in fields)
    return f"{{{', '.join(written)}}}"


def _values(column: pa.Array[Any]) -> list[Any]:
    kind: Any = column.type
    if _is_numeric(kind):
        texts = _storage(column).to_pylist()
        return [None if text is None else Decimal(text) for text in texts]
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name != "arrow.uuid":
        return _values(_storage(column))
    if pa.types.is_timestamp(kind) and kind.unit in _MICROSECONDS:
        factor, zone = _MICROSECONDS[kind.unit], UTC if kind.tz else None
        return [_moment(count, factor, zone) for count in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date32(kind):
        return [_day(count) for count in column.cast(pa.int32()).to_pylist()]
    try:
        return column.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError) as error:
        raise _out_of_range() from error


def _is_numeric(kind: Any) -> bool:
    """Recognise PostgreSQL's numeric, which its driver gives as text."""
    return getattr(kind, "type_name", "") == "numeric"


def _storage(column: Any) -> Any:
    return column.storage


def _moment(count: int | None, factor: int, zone: Any) -> datetime | str | None:
    if count is None:
        return None
    if far := _FAR.get(count):
        return far
    try:
        return (_EPOCH + timedelta(microseconds=count * factor)).replace(tzinfo=zone)
    except OverflowError as error:
        raise _out_of_range() from error


def _day(count: int | None) -> date | str | None:
    if count is None:
        return None
    if far := _FAR_DAYS.get(count):
        return far
    try:
        return _EPOCH.date() + timedelta(days=count)
    except OverflowError as error:
        raise _out_of_range() from error


def _out_of_range() -> QueryError:
    return QueryError("A column has values that are out of range. Cast it to text.")
