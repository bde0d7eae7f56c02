"""What the arrays inside records are as rows, in plain Python: an oracle that no SQL has seen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Element = tuple[tuple[str, ...], tuple[object, ...]]
"""What identifies an element within its array, and the values of its row."""


AMOUNTS = (
    "quantity", "quantity_refunded",
    "currency", "unit_price", "subtotal", "discount", "tax", "total", "refunded",
    "base_currency", "base_unit_price", "base_subtotal", "base_discount", "base_tax", "base_total",
    "base_refunded",
    "local_currency", "local_unit_price", "local_subtotal", "local_discount", "local_tax",
    "local_total", "local_refunded",
)  # fmt: skip
"""The fields of a line after its product, in the order of the columns."""


@dataclass(frozen=True)
class Arrays:
    """
    How one array is read.

    *row_of* makes a row of an element and its place, from 1; None of what is none, or has no
    identity.
    """

    field: str
    row_of: Callable[[Any, int], Element | None]


def _tag(element: Any, _: int) -> Element | None:
    text = _text(element) if not isinstance(element, dict | list | bool) else None
    return ((text,), (text,)) if text else None


def _identity(element: Any, _: int) -> Element | None:
    if not isinstance(element, dict) or not _text(element.get("id")):
        return None
    kind, name = _text(element.get("type")), _text(element["id"])
    return (kind or "", name or ""), (kind, name)


def _in_list(element: Any, _: int) -> Element | None:
    if not isinstance(element, dict) or not _text(element.get("id")):
        return None
    name, title = _text(element["id"]), _text(element.get("title"))
    return (name or "",), (name, title, _text(element.get("type")))


def _line(element: Any, place: int) -> Element | None:
    if not isinstance(element, dict):
        return None
    texts = [_text(element.get(name)) for name in ("product_id", "variant_id", "sku")]
    return (str(place),), (place, *texts, *(_amount(element.get(name)) for name in AMOUNTS))


def _amount(value: Any) -> Decimal | str | None:
    text = _text(value)
    return text if text is None or text.isalpha() else Decimal(text)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


TAGS = Arrays("tags", _tag)
IDENTITIES = Arrays("identities", _identity)
LISTS = Arrays("lists", _in_list)
LINES = Arrays("lineitems", _line)


@dataclass
class Expected:
    """
    The rows that a table holds after the batches that were read, by the ids of their records.

    *rejects* are what was rejected, as JSON, each with the id of its record.
    """

    arrays: Arrays
    source_id: str = "uk"
    rows: dict[str, dict[tuple[str, ...], tuple[object, ...]]] = field(default_factory=dict)
    rejects: set[tuple[str, str]] = field(default_factory=set)

    def read(self, records: Iterable[dict[str, Any]]) -> None:
        """Read the records of one batch, the newest last."""
        for name, record in {record["id"]: record for record in records}.items():
            if self.arrays.field in record:
                self._read(name, record[self.arrays.field])

    def _read(self, name: str, array: Any) -> None:
        if array is not None and not isinstance(array, list):
            self.rejects.add((name, json.dumps(array)))
            return
        self.rows[name] = {}
        for place, element in enumerate(array or [], 1):
            row = self.arrays.row_of(element, place)
            if row is None:
                self.rejects.add((name, json.dumps([element])))
            else:
                self.rows[name][row[0]] = row[1]

    def forget(self, *names: str) -> None:
        """Remove what is inside these records."""
        for name in names:
            self.rows.pop(name, None)

    def all(self) -> list[tuple[object, ...]]:
        """List the rows, each with the id of its record before it and its key after it."""
        return sorted(self._all(), key=repr)

    def _all(self) -> Iterator[tuple[object, ...]]:
        for name, rows in self.rows.items():
            for key, values in rows.items():
                text = self.source_id + "|".join((name, *key))
                yield (name, *values, hashlib.md5(text.encode()).hexdigest())
