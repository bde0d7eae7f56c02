"""
The arrays inside the records of a table become rows of another table.

Only the newest copy of a record in a batch counts, so its elements are finished after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica.local_duckdb import registered
from ometria_replica.mapping.finishing import Staged, finish
from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.readers import unknown_fields
from ometria_replica.mapping.select import PARENT_ROW
from ometria_replica.mapping.staged_tables import TEXT_NOT_KEPT, Relations, StagedTables
from ometria_replica.records import encodable, field_text, json_text
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import Record
    from ometria_replica.schema import Table

_ABSENT = object()
_ARRIVING = "arriving_arrays"


@dataclass
class _Arrays:
    """
    The arrays of some records. *texts* are those of the elements, by field.

    *rows* are the rows of the records that each element is inside, *records* what is kept of an
    element without an identity, None for others. *whole* are the rows of the records whose arrays
    were read, and *odd* what is no element, with its row and the reason. *unknown* are names of
    fields that Ometria does not document.
    """

    texts: dict[str, list[str | None]] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    records: list[str | None] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    odd: list[tuple[int, str, str]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)


@dataclass
class NestedStaging:
    """
    Stages the arrays inside the records of one batch: *table* is inside the table of *parent*.

    *number* tells the tables apart that are inside one. A record without the field leaves the
    rows inside it as they are, and so does one whose field is no array, which is rejected. The
    column of the temporary table *whole* has the ids of the others, in the form of the column
    ``table.parent_column``: what is staged of them is all that there is.
    """

    parent: StagedTables
    table: Table
    number: int
    whole: str = field(init=False)
    tables: StagedTables = field(init=False)
    _rows: str = field(init=False)
    _odd: str = field(init=False)

    def __post_init__(self) -> None:
        self.tables = StagedTables(
            self._connection,
            self.table,
            self.parent.account_id,
            self.parent.source_id,
            Relations.inside(self.number),
        )
        self.whole = f"whole_inside_{self.number}"
        self._rows = f"whole_rows_inside_{self.number}"
        self._odd = f"odd_inside_{self.number}"
        for name, columns in (
            (self._rows, f"{PARENT_ROW} BIGINT"),
            (self._odd, f"{PARENT_ROW} BIGINT, raw VARCHAR, reason VARCHAR"),
        ):
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")

    def add(self, records: Sequence[Record], first: int, synced_at: datetime) -> None:
        """Stage the arrays of *records*, which are staged from row *first* on."""
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a sync needs it.

        from ometria_replica.arrow_types import text_array  # noqa: PLC0415 -- It imports pyarrow.

        found = _read(self.table, records, first)
        self._insert(self._rows, {PARENT_ROW: pa.array(found.whole, pa.int64())})
        if found.odd:
            rows, raw, reasons = zip(*found.odd, strict=True)
            self._insert(
                self._odd,
                {
                    PARENT_ROW: pa.array(rows, pa.int64()),
                    "raw": text_array(raw),
                    "reason": text_array(reasons),
                },
            )
        if not found.rows:
            return
        self.tables.note_unknown(found.unknown)
        columns = {name: text_array(texts) for name, texts in found.texts.items()}
        columns["_record"] = text_array(found.records)
        columns[PARENT_ROW] = pa.array(found.rows, pa.int64())
        self.tables.insert_texts(pa.table(columns), synced_at)

    def finish(self) -> Staged:
        """Finish the rows, after those of the parent: of a record that is left out, none stays."""
        self._note_whole()
        return finish(self.tables, self._leave_out)

    def _leave_out(self) -> None:
        """Leave out what is inside older copies of a record, or in one that is not loaded."""
        is_loaded = f"IN (SELECT rowid FROM {self.parent.staged})"
        self._connection.execute(
            f"DELETE FROM {self.tables.staged} WHERE NOT ({PARENT_ROW} {is_loaded})"
        )
        self._connection.execute(f"DELETE FROM {self._odd} WHERE NOT ({PARENT_ROW} {is_loaded})")
        raw, reason = "raw", "reason"
        if self.table.is_treated:  # What it is made of is not known.
            raw, reason = "NULL::VARCHAR", f"reason || {literal(TEXT_NOT_KEPT)}"
        self.tables.reject_rows(self._odd, raw=raw, reason=reason)

    def _note_whole(self) -> None:
        parent = self.parent.table
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {self.whole} AS"
            f" SELECT {quoted(parent.record_id or '')} AS parent FROM {self.parent.staged}"
            f" WHERE rowid IN (SELECT {PARENT_ROW} FROM {self._rows})"
        )

    @property
    def _connection(self) -> DuckDBPyConnection:
        return self.parent.connection

    def _insert(self, name: str, columns: dict[str, Any]) -> None:
        import pyarrow as pa  # noqa: PLC0415 -- As above.

        with registered(self._connection, _ARRIVING, pa.table(columns)):
            self._connection.execute(f"INSERT INTO {name} BY NAME FROM {_ARRIVING}")


def _read(table: Table, records: Sequence[Record], first: int) -> _Arrays:
    """Read the arrays of *records*, which are staged from row *first* on."""
    inside = table.read
    if not isinstance(inside, Inside):
        raise TypeError(f"{table.name} is inside no other table")
    found = _Arrays()
    elements: list[tuple[int, Any]] = []  # Each with its position.
    for row, record in enumerate(records, first):
        name, array = _array(inside, record)
        if array is _ABSENT:
            continue
        if array is None or isinstance(array, list):
            found.whole.append(row)
        else:
            found.odd.append((row, _excerpt(inside, record, name, array), f"{name} is no array"))
            continue
        for position, element in enumerate(array or (), 1):
            if _is_element(inside, element):
                found.rows.append(row)
                elements.append((position, element))
            else:
                kind = "no text" if inside.text else "no object"
                raw = _excerpt(inside, record, name, [element])
                found.odd.append((row, raw, f"{kind} in {name}"))
    parents = [records[row - first] for row in found.rows]
    found.texts = {name: _texts(inside, name, elements, parents) for name in table.fields}
    found.records = [
        _excerpt(inside, parent, _array(inside, parent)[0], [element])
        if any(not any(found.texts[name][place] for name in group) for group in table.identity)
        else None
        for place, ((_, element), parent) in enumerate(zip(elements, parents, strict=True))
    ]
    if inside.text is None:
        found.unknown = unknown_fields(table, (element for _, element in elements))
    return found


def _array(inside: Inside, record: Record) -> tuple[str, Any]:
    """Find the array of *record*, under the first of its names that is there."""
    for name in (inside.field, *inside.also):
        if name in record:
            return name, record[name]
    return inside.field, _ABSENT


def _is_element(inside: Inside, element: Any) -> bool:
    return isinstance(element, dict if inside.text is None else str)  # A number is a text here.


def _texts(
    inside: Inside, name: str, elements: Sequence[tuple[int, Any]], parents: Sequence[Record]
) -> list[str | None]:
    """Return the texts of the field *name* of elements, each with its position and its parent."""
    prefix = f"{inside.parent}::"
    if name.startswith(prefix):
        above = name.removeprefix(prefix)
        return [field_text(parent, above) for parent in parents]
    if name == inside.position:
        return [str(position) for position, _ in elements]
    if name == inside.text:
        return [encodable(element) for _, element in elements]
    return [field_text(element, name) for _, element in elements]


def _excerpt(inside: Inside, record: Record, name: str, value: Any) -> str:
    """Write what is kept of a reject: the id of the record, by which a person is found, and it."""
    return json_text({inside.parent_id: record.get(inside.parent_id), name: value})
