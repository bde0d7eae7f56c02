"""What a history must hold, from the loads alone: shares no code with the program."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from tests.duck import Row

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Seen:
    """A load at a time: the contents of each record that it brought, and whether these are all."""

    at: datetime
    records: Mapping[str, Hashable]
    is_whole: bool = False


@dataclass
class Version:
    """A state of a record: *end* None while it holds."""

    begin: datetime
    contents: Hashable
    is_deleted: bool
    end: datetime | None = None

    @property
    def state(self) -> tuple[Hashable, bool]:
        """What tells two versions apart."""
        return self.contents, self.is_deleted


@dataclass
class Histories:
    """The versions of each record by its id, oldest first."""

    of: dict[str, list[Version]] = field(default_factory=dict)

    def see(self, load: Seen) -> None:
        """Take note of a load."""
        for name, contents in load.records.items():
            self._become(name, (contents, False), load.at)
        if load.is_whole:
            for name in self.of.keys() - load.records.keys():
                last = self.of[name][-1]
                self._become(name, (last.contents, True), load.at)

    def _become(self, name: str, state: tuple[Hashable, bool], at: datetime) -> None:
        versions = self.of.setdefault(name, [])
        if not versions:
            versions.append(Version(at, *state))
            return
        last = versions[-1]
        if last.state == state:
            return
        begin = at if at >= last.begin else last.begin + MICROSECOND
        if begin == last.begin:
            if len(versions) == 1 or versions[-2].state != state:
                last.contents, last.is_deleted = state
                return
            begin += MICROSECOND
        last.end = begin
        versions.append(Version(begin, *state))


def expected(loads: Iterable[Seen]) -> dict[str, list[Version]]:
    """Tell what the history holds after *loads*, in their order."""
    histories = Histories()
    for load in loads:
        histories.see(load)
    return histories.of


def found(rows: Iterable[Row], name: str, contents: Sequence[str]) -> dict[str, list[Version]]:
    """Read the versions from the rows of a history, by the column *name*."""
    versions: dict[str, list[Version]] = {}
    for row in sorted(rows, key=lambda row: row["valid_from"]):
        values = tuple(row[column] for column in contents)
        version = Version(row["valid_from"], values, row["is_deleted"], row["valid_to"])
        versions.setdefault(row[name], []).append(version)
    return versions


@dataclass
class Observer:
    """What the rows of a table were, look by look: the states of each by its key."""

    states: dict[str, list[tuple[Hashable, bool]]] = field(default_factory=dict)

    def look(self, table: Iterable[Row], deleted: Iterable[str]) -> None:
        """Take note of a table as it is, of which rows with keys are *deleted*."""
        gone = {*deleted}
        for row in table:
            if row["__sync_key"] not in gone & self.states.keys():
                self._become(row["__sync_key"], _contents(row))
        for key in gone & self.states.keys():
            self._become(key, self.states[key][-1][0], is_deleted=True)

    def _become(self, key: str, contents: Hashable, *, is_deleted: bool = False) -> None:
        states = self.states.setdefault(key, [])
        if is_deleted or not states or states[-1][0] != contents or states[-1][1]:
            states.append((contents, is_deleted))
        if len(states) > 1 and states[-1] == states[-2]:
            states.pop()

    def refute(self, history: Iterable[Row]) -> list[str]:
        """List the keys of which the history tells of other states, or in another order."""
        told: dict[str, list[tuple[Hashable, bool]]] = {}
        for row in sorted(history, key=lambda row: row["valid_from"]):
            told.setdefault(row["__sync_key"], []).append((_contents(row), row["is_deleted"]))
        return [
            f"{key}: {len(told.get(key, ()))} versions of {len(self.states.get(key, ()))}"
            for key in told.keys() | self.states.keys()
            if told.get(key) != self.states.get(key)
        ]


def as_of(history: Iterable[Row], at: datetime | None) -> dict[str, Hashable]:
    """
    Give the contents of the rows that a history tells of a moment, by their keys.

    None gives the versions that hold. Of deleted records it tells that they are gone.
    """
    return {
        row["__sync_key"]: _contents(row)
        for row in history
        if not row["is_deleted"] and _holds(row, at)
    }


def _holds(row: Row, at: datetime | None) -> bool:
    if at is None:
        return row["valid_to"] is None
    return row["valid_from"] <= at and (row["valid_to"] is None or at < row["valid_to"])


def _contents(row: Row) -> Hashable:
    return tuple((name, str(row[name])) for name in sorted(_compared(row)))


def _compared(row: Row) -> list[str]:
    """Name the columns of which a change makes a version."""
    return [name for name in row if name not in _NOT_COMPARED and name not in _stamps(row)]


def _stamps(row: Row) -> tuple[str, ...]:
    return ("updated_at",) if "customer_name" in row else ()  # A profile's is by the request.


def refute(history: Sequence[Row], table: Sequence[Row], deleted: Iterable[Any] = ()) -> list[str]:
    """List what is wrong with a history beside its table, of which rows with keys are *deleted*."""
    problems = []
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in history:
        by_key.setdefault((row["__source_id"], row["__sync_key"]), []).append(row)
    mine = _compared(history[0]) if history else []
    for key, versions in by_key.items():
        versions.sort(key=lambda row: row["valid_from"])
        for one, other in pairwise(versions):
            if one["valid_to"] != other["valid_from"]:
                problems.append(f"{key}: a gap or an overlap at {one['valid_to']}")
            if all(one[name] == other[name] for name in (*mine, "is_deleted")):
                problems.append(f"{key}: two alike in a row at {one['valid_to']}")
        if any(row["valid_to"] and row["valid_from"] >= row["valid_to"] for row in versions):
            problems.append(f"{key}: a version that never held")
        if versions[-1]["valid_to"] is not None:
            problems.append(f"{key}: no version holds")
    holding = {
        key: versions[-1] for key, versions in by_key.items() if not versions[-1]["is_deleted"]
    }
    gone = {*deleted}
    rows = {
        (row["__source_id"], row["__sync_key"]): row
        for row in table
        if row["__sync_key"] not in gone
    }
    problems += [f"{key}: not in both" for key in rows.keys() ^ holding.keys()]
    problems += [
        f"{key}: the table has another {name}"
        for key in rows.keys() & holding.keys()
        for name in mine
        if rows[key][name] != holding[key][name]
    ]
    return problems


_NOT_COMPARED = ("__synced_at", "valid_from", "valid_to", "is_deleted")
