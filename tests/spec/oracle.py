"""
The mapping of a record by the specification page, in plain Python without the replica.

It is slow and obvious, and follows the page and its decisions, so that it is an
independent check of the product.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.spec.page import PageTable

Row = dict[str, Any]
LINEAGE_OF_RUN = "__synced_at"
"""The only column that depends on the load time; the oracle's rows do not have it."""

IDENTITY = {
    "profiles": (("id",),),
    "member_lists": (("id",), ("profile_id",)),
    "lists": (("id",),),
    "email_events": (("to_address", "dt_occurred"),),
    "unsubscribes": (("profile_id", "timestamp"),),
    "collections": (("collection",),),
    "contacts": (("collection",), ("id",)),
    "orders": (("id",),),
    "products": (("id",),),
    "custom_events": (("id",),),
    "push_errors": (("request_id", "record_id", "timestamp"),),
    "data_deletion_requests": (("id",),),
}
"""Decision 5: a record without any field of one of these groups has no identity."""

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AsWritten(str):
    """A JSON number with its original text."""

    __slots__ = ()


def read_json(text: str) -> Any:
    """Parse JSON, with the original text of its numbers."""
    return json.loads(text, parse_int=AsWritten, parse_float=AsWritten)


def raw_text(value: Any) -> str | None:
    """Decision 1: the raw text of a value; null is None."""
    if value is None:
        return None
    text = value if isinstance(value, str) else _compact(value)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)  # A lone surrogate has no UTF-8.


def row(table: PageTable, record: Mapping[str, Any], account_id: str, source_id: str) -> Row | None:
    """Map *record* as the page says, without the load time; None if it has no identity."""
    if not identified(table, record):
        return None
    key = md5(table.key, record, source_id)
    values = {
        column: key if source == table.key else convert(kind, raw_text(_find(record, source)))
        for source, column, kind in table.lines
    }
    return {**values, "_account_id": account_id, "__source_id": source_id, "__sync_key": key}


def rows_by_key(
    table: PageTable, records: Iterable[Mapping[str, Any]], account_id: str, source_id: str
) -> dict[str, Row]:
    """Map *records*, oldest first; the newest of equal keys is kept."""
    rows: dict[str, Row] = {}
    for record in records:
        found = row(table, record, account_id, source_id)
        if found:
            rows[found["__sync_key"]] = found
    return rows


def identified(table: PageTable, record: Mapping[str, Any]) -> bool:
    """Return True if the record has an identity."""
    return all(
        any(raw_text(_find(record, source)) for source in group) for group in IDENTITY[table.name]
    )


def md5(key: str, record: Mapping[str, Any], source_id: str) -> str:
    """Hash the fields that *key* names, as in ``MD5(source_id + id)``."""
    names = key.removeprefix("MD5(").removesuffix(")").split(" + ")
    parts = [
        source_id if name == "source_id" else raw_text(_find(record, name)) or "" for name in names
    ]
    return hashlib.md5("".join(parts).encode()).hexdigest()


def convert(kind: str, text: str | None) -> Any:
    """Convert raw text to the value of a column; None if it does not convert."""
    if text is None:
        return None
    match kind:
        case "text":
            return text.replace("\0", "")
        case "boolean":
            return {"true": True, "false": False}.get(text)
        case "date":
            found = re.match(r"(\d{4}-\d\d-\d\d)([T ]|$)", text)
            moment = _moment(found.group(1)) if found else None
            return moment.date() if moment else None
        case "integer" | "decimal":
            return _number(kind, text)
        case _:
            return _moment(text)


def unconverted(table: PageTable, record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the columns that are null because their text does not convert, with that text."""
    return {
        (column, text)
        for source, column, kind in table.lines
        if kind != "text"
        and (text := raw_text(_find(record, source)))
        and convert(kind, text) is None
    }


def nul_texts(table: PageTable, record: Mapping[str, Any]) -> int:
    """Count the text columns that lose a NUL character."""
    return sum(
        "\0" in (raw_text(_find(record, source)) or "")
        for source, _, kind in table.lines
        if kind == "text" and source != table.key
    )


def _find(record: Mapping[str, Any], source: str) -> Any:
    value: Any = record
    for name in source.split("::"):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _compact(value: Any) -> str:
    match value:
        case AsWritten():
            return str(value)
        case dict():
            return "{" + ",".join(f"{_compact(k)}:{_compact(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _number(kind: str, text: str) -> Decimal | int | None:
    """Read a whole number of 64 bits, or one of at most 29 digits before the point and 9 after."""
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*", text, re.ASCII):
        return None
    with localcontext(prec=2000):
        number = Decimal(text)
        if kind == "integer":
            fits = number == int(number) and -(2**63) <= number < 2**63
            return int(number) if fits else None
        fits = number == round(number, 9) and abs(number) < Decimal(10) ** 29
        return number if fits else None


def _moment(text: str) -> datetime | None:
    """Read all known time forms, and seconds or milliseconds since 1970."""
    if re.fullmatch(r"[0-9]{10}", text):
        return _EPOCH + timedelta(seconds=int(text))
    if re.fullmatch(r"[0-9]{13}", text):
        return _EPOCH + timedelta(milliseconds=int(text))
    found = _TIME.fullmatch(text)
    if found is None or not text.isascii():
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "").ljust(6, "0")),
            _zone(zone),
        )
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(text: str | None) -> timezone:
    if text in {None, "Z"}:
        return UTC
    digits = str(text)[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if str(text).startswith("-") else offset)
