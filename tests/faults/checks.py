"""What a checker holds against what: rows, records, arrays inside records, and histories."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.e2e.oracle import row_of
from tests.nested_arrays import AMOUNTS, IDENTITIES, LINES, LISTS, TAGS, Arrays, Expected
from tests.spec import oracle
from tests.spec.further import further_tables
from tests.warehouses.histories import Observer, as_of, refute

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tests.duck import Row

Rows = dict[str, "list[Row]"]
Records = dict[str, dict[str, Any]]
Insides = dict[str, set[tuple[object, ...]]]
"""The rows that are inside each record, by its id."""

FIVE = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")
FURTHER = tuple(table.name for table in further_tables())
NESTED: Mapping[str, tuple[str, Arrays]] = {
    "profile_tags": ("profiles", TAGS),
    "profile_identities": ("profiles", IDENTITIES),
    "profile_lists": ("profiles", LISTS),
    "order_lines": ("orders", LINES),
}
"""The nested tables: the table that each is inside, and how its array is read."""

VERSIONED = ("profiles", "lists", *(name for name in FURTHER if name != "push_errors"))
"""The tables that can have a history."""

EVERYTHING = f'tables = "all"\nkeep_records = true\nhistory = {json.dumps(VERSIONED)}\n'
"""The settings of an account that replicates all tables, and keeps all records and histories."""

LAGGING = ("products", "custom_events")
"""The tables of which the simulator selects no changes by a date: they show after a whole read."""

MOMENTS = 20
"""How many moments are looked back to: each look compares all of them."""

GROWING = ("contacts", "orders", *LAGGING)

_DECIMALS = {
    column for table in further_tables() for column, kind in table.columns if kind == "decimal"
} | {name for name in AMOUNTS if "currency" not in name}
_LINEAGE = ("_account_id", "__source_id", "__synced_at")


class Finding(AssertionError):
    """Something that a checker saw, and that must not be."""


def plain(row: Row) -> Row:
    """Give numbers as numbers: PostgreSQL's driver gives them as texts."""
    return {
        name: Decimal(value) if name in _DECIMALS and isinstance(value, str) else value
        for name, value in row.items()
    }


def by_key(rows: Iterable[Row]) -> dict[str, Row]:
    """Give rows by their keys."""
    return {row["__sync_key"]: row for row in rows}


def only(rows: Iterable[Row], sent: Iterable[Row]) -> list[Row]:
    """Keep the rows whose keys are among those of *sent*."""
    keys = {row["__sync_key"] for row in sent}
    return [row for row in rows if row["__sync_key"] in keys]


def compare(found: Mapping[str, list[Row]], due: Mapping[str, list[Row]]) -> None:
    """Hold what is there against what should be; a Finding says what is wrong, in numbers."""
    for name in due:
        check_unique(name, found[name])
        have, want = by_key(found[name]), by_key(due[name])
        if lost := want.keys() - have.keys():
            raise Finding(f"{name}: {len(lost)} rows are lost")
        if extra := have.keys() - want.keys():
            raise Finding(f"{name}: {len(extra)} rows should not be there")
        differing = {
            column
            for key, row in want.items()
            for column in row
            if row[column] != have[key][column]
        }
        if differing:
            raise Finding(
                f"{name}: rows are not as they should be, in {', '.join(sorted(differing))}"
            )


def check_unique(name: str, rows: Sequence[Row]) -> None:
    """Find no key twice."""
    duplicated = len(rows) - len({row["__sync_key"] for row in rows})
    if duplicated:
        raise Finding(f"{name}: {duplicated} rows are duplicated")


# --- records as they came ----------------------------------------------------------------------


def check_records(name: str, rows: Sequence[Row], records: Mapping[str, Any]) -> None:
    """Each row has a record, and is what that record becomes."""
    have = by_key(rows)
    if records.keys() != have.keys():
        raise Finding(f"{name}: the records are not those of the rows")
    for key, record in records.items():
        row = have[key]
        joined = {"id": row["list_id"]} if name == "member_lists" else {}
        due = row_of(name, {**record, **joined}, row["_account_id"], row["__source_id"])
        stamp = {"updated_at": row["updated_at"]} if name == "profiles" else {}
        if due is None or not _is_same({**due, **stamp}, row):
            raise Finding(f"{name}: a record is not that of its row")


def _is_same(due: Row, row: Row) -> bool:
    """Compare rows; a `jsonb` of PostgreSQL keeps no order of the fields in an object."""
    return due.keys() == row.keys() and all(
        value == row[name] or _json(value) == _json(row[name]) for name, value in due.items()
    )


def _json(value: Any) -> Any:
    is_json = isinstance(value, str) and value.startswith(("{", "["))
    return json.loads(value) if is_json else value


def by_value(value: Any) -> Any:
    """Give the numbers of a record by their values: a `jsonb` of PostgreSQL writes 1e2 as 100."""
    match value:
        case oracle.AsWritten():
            return Decimal(value)
        case dict():
            return {name: by_value(each) for name, each in value.items()}
        case list():
            return [by_value(each) for each in value]
    return value


def check_sent(
    name: str,
    records: Mapping[str, Any],
    sent: Mapping[str, Any],
    before: Mapping[str, Any] | None,
) -> None:
    """
    Each record is the one that was *sent*; of what was not sent it is the one of *before*.

    Without *before*, a record that shows late, or is gone, may be of any time.
    """
    wrong = [
        key
        for key, record in records.items()
        if record != sent.get(key, (before or {}).get(key, record))
        and not _lags(name, record, sent.get(key), (before or records).get(key))
    ]
    if wrong:
        raise Finding(f"{name}: {len(wrong)} records are not as they were sent")


def _lags(name: str, record: Any, sent: Any, before: Any) -> bool:
    """Whether a record may be the one that was known before, in whole or in its lists."""
    if name == "profiles" and sent and before:
        return bool(record == {**sent, "lists": before.get("lists")})
    return name in LAGGING and bool(record == before)


# --- arrays inside records ---------------------------------------------------------------------


def insides(name: str, rows: Sequence[Row]) -> Insides:
    """Give the rows of a nested table by the id of the record that they are inside, the first."""
    check_unique(name, rows)
    found: Insides = {}
    for row in rows:
        values = tuple(value for name, value in row.items() if name not in _LINEAGE)
        found.setdefault(values[0], set()).add(values)
    return found


def check_insides(
    name: str, found: Insides, records: Iterable[Any], before: Insides, source_id: str
) -> None:
    """
    Compare rows with the arrays of *records*, which are those of the parent table.

    Of a record without the array they are those of *before*.
    """
    arrays = NESTED[name][1]
    expected = Expected(arrays, source_id)
    there = set()
    for record in records:
        there.add(record["id"])
        if arrays.field in record:
            expected.read([record])
        elif found.get(record["id"]) != before.get(record["id"]):
            raise Finding(f"{name}: rows changed that no record told of")
    if found.keys() - there:
        raise Finding(f"{name}: rows are left of records that are gone")
    due: Insides = {}
    for row in expected.all():
        due.setdefault(str(row[0]), set()).add(row)
    for parent in expected.rows:
        have, want = found.get(parent, set()), due.get(parent, set())
        if want - have:
            raise Finding(f"{name}: {len(want - have)} rows are lost")
        if have - want:
            raise Finding(f"{name}: {len(have - want)} rows are left that are no longer inside")


# --- histories ---------------------------------------------------------------------------------


@dataclass
class Past:
    """
    What a table held at the *moments* at which it was looked at, oldest first.

    A later version must not change what the history tells of a moment. *observer* has the states
    of each row in their order, for those who look after each run.
    """

    moments: list[tuple[datetime, dict[str, Hashable]]] = field(default_factory=list)
    observer: Observer = field(default_factory=Observer)

    def look(self, rows: Sequence[Row], deleted: Iterable[str], history: Sequence[Row]) -> None:
        """Take note of a table as it is, and of the time of the newest version."""
        gone = {*deleted} | (self.observer.states.keys() - by_key(rows).keys())
        self.observer.look(rows, gone)
        if history:
            now = max(row["valid_from"] for row in history)
            self.moments = [*self.moments[-MOMENTS:], (now, as_of(history, None))]

    def begin_run(self, at: datetime) -> None:
        """Forget the moments that a run whose clock begins at *at* may still change."""
        self.moments = [moment for moment in self.moments if moment[0] < at]

    def refute(
        self, name: str, rows: Sequence[Row], deleted: Collection[str], history: Sequence[Row]
    ) -> Iterator[str]:
        """Say what is wrong with the history of a table that is there now."""
        yield from refute(history, rows, deleted)
        for at, held in self.moments:
            told = as_of(history, at)
            if told != held:
                keys = {key for key in told.keys() | held.keys() if told.get(key) != held.get(key)}
                yield f"{name}: {len(keys)} rows are not as they were at {at:%Y-%m-%d %H:%M:%S}"
