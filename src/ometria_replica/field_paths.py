"""
The fields of JSON records, as paths such as ``stats.orders`` and ``identities[].type``.

Paths are made of the structures that DuckDB gives of records. Names can be anything, also an
address of a person: what is no plain name is written ``*``, and so are the names of an object that
has too many of them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

MOST_NAMES = 200  # Of one object: with more, its names are keys of a dictionary.
MOST_PATHS = 1_000  # Of one table.
DEEPEST = 8  # Names in a path.
STRUCTURE = (
    "CASE WHEN strlen(record) - strlen(replace(replace(record::VARCHAR, '{', ''), '[', '')) < 128"
    " THEN json_structure(record)::VARCHAR END"
)
"""
The structure of a *record*, as an expression of DuckDB; null if it may be nested too deeply.

`json_structure` (2.0.0) fails beyond 128 levels, and takes the connection along: so no record with
as many brackets gets there.
"""
OTHERS = "*"
"""In place of names that are not shown."""

PLAIN_NAME = re.compile(r"@?[A-Za-z_][A-Za-z0-9_ .:-]{0,39}")
_ID = re.compile(r"[0-9a-fA-F]{12,}|.*\d{4,}.*")
_TYPES = {
    "VARCHAR": "string",
    "BOOLEAN": "boolean",
    "NULL": None,
    **dict.fromkeys(("UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"), "number"),
}
"""The JSON types, by DuckDB's names."""


@dataclass(frozen=True)
class Field:
    """
    A field: in how many *records* it was, of which JSON *types*, first and last when.

    A null is no type. *first_at* and *last_at* are times of loading.
    """

    path: str
    records: int
    types: frozenset[str]
    first_at: datetime | None = None
    last_at: datetime | None = None

    def joined(self, other: Field) -> Field:
        """Add what was seen of the same field elsewhere."""
        return replace(
            self,
            records=self.records + other.records,
            types=self.types | other.types,
            first_at=_least(self.first_at, other.first_at),
            last_at=_greatest(self.last_at, other.last_at),
        )


@dataclass(frozen=True)
class NotedField:
    """
    A field of a table's records, as the state notes it.

    *types* are all that it ever had. In the last whole read it was in *records* of *of_records*.
    """

    path: str
    types: frozenset[str]
    first_at: datetime
    records: int = 0
    of_records: int = 0

    @property
    def was_in_most(self) -> bool:
        """Whether more than half of the records of the last whole read had it."""
        return 2 * self.records > self.of_records


@dataclass(frozen=True)
class Structures:
    """
    The structures of a batch's records: *groups* of each with its number of records.

    Of a large batch they are those of a sample. *names* are the columns of its files.
    """

    groups: tuple[tuple[str | None, int], ...] = ()
    names: frozenset[str] = frozenset()


@dataclass
class FieldPaths:
    """
    The fields of records that are added in groups of one structure.

    *records* counts all. *is_cut* says that some paths are not told apart: there were too many,
    or too deep.
    """

    records: int = 0
    is_cut: bool = False
    _fields: dict[str, Field] = field(default_factory=dict)
    _names: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def knowing(cls, paths: Iterable[str]) -> FieldPaths:
        """Begin with the names in *paths*, so that an object has no more of them in all."""
        found = cls()
        for path in paths:
            parent, name = _parted(path)
            if name != OTHERS:
                found._names.setdefault(parent, set()).add(name)
        return found

    def __iter__(self) -> Iterator[Field]:
        return iter(sorted(self._fields.values(), key=lambda each: each.path))

    def add(
        self,
        structure: str | None,
        records: int = 1,
        first_at: datetime | None = None,
        last_at: datetime | None = None,
    ) -> None:
        """Add so many *records* of a *structure*, as :data:`STRUCTURE` gives it."""
        self.records += records
        if structure is None:
            self.is_cut = True
            return
        found: dict[str, set[str]] = {}
        try:
            self._walk(json.loads(structure), "", 0, found, is_inside=False)
        except RecursionError:  # Nested deeper than Python's parser goes.
            self.is_cut = True
        for path, types in found.items():
            self._note(Field(path, records, frozenset(types), first_at, last_at))

    def add_all(self, structures: Structures) -> None:
        """Add the structures of a batch."""
        for structure, records in structures.groups:
            self.add(structure, records)
        self.add_names(structures.names)

    def add_fields(self, others: FieldPaths) -> None:
        """Add the fields that were found elsewhere."""
        self.records += others.records
        self.is_cut = self.is_cut or others.is_cut
        for each in others:
            self._note(each)

    def add_names(self, names: Iterable[str]) -> None:
        """Add the columns of a file whose cells are texts, without a count of records."""
        for name in names:
            self._note(Field(self._child("", name), 0, frozenset({"string"})))

    def _note(self, seen: Field) -> None:
        there = self._fields.get(seen.path)
        if there is None and len(self._fields) >= MOST_PATHS:
            self.is_cut = True
            return
        self._fields[seen.path] = there.joined(seen) if there else seen

    def _walk(
        self, part: Any, path: str, depth: int, found: dict[str, set[str]], *, is_inside: bool
    ) -> None:
        """Note the *part* of a structure at *path*; *is_inside* an array, whose types are mixed."""
        if path:
            types = found.setdefault(path, set())
            if (kind := _type_of(part, is_inside=is_inside)) is not None:
                types.add(kind)
        if not isinstance(part, dict | list):
            return
        if depth >= DEEPEST:
            self.is_cut = True
        elif isinstance(part, dict):
            for name, member in part.items():
                self._walk(member, self._child(path, name), depth + 1, found, is_inside=is_inside)
        elif part and part != ["NULL"]:
            self._walk(part[0], f"{path}[]", depth + 1, found, is_inside=True)

    def _child(self, path: str, name: str) -> str:
        """Write the path of a member, whose name is hidden if it may be an id or an address."""
        known = self._names.setdefault(path, set())
        if not is_shown(name) or (name not in known and len(known) >= MOST_NAMES):
            self.is_cut = True
            name = OTHERS
        else:
            known.add(name)
        name = f'"{name}"' if "." in name else name
        return f"{path}.{name}" if path else name


def is_shown(name: str) -> bool:
    """Whether a name may be shown: a short plain word, and not what looks like an id."""
    return bool(PLAIN_NAME.fullmatch(name)) and not _ID.fullmatch(name)


def _parted(path: str) -> tuple[str, str]:
    """Part a path into that of the parent and the last name."""
    if path.endswith('"'):
        parent, _, name = path[:-1].rpartition('"')
        return parent.removesuffix("."), name
    parent, _, name = path.rpartition(".")
    return parent, name


def _type_of(part: Any, *, is_inside: bool) -> str | None:
    """Name the JSON type of a part of a structure; None for a null."""
    if isinstance(part, dict):
        return "object"
    if isinstance(part, list):
        return "array"
    if (
        part == "JSON"
    ):  # Of one value that is an object without members; of several, different ones.
        return "mixed" if is_inside else "object"
    return _TYPES.get(part, str(part).lower())


def _least(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other


def _greatest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other
