"""Schema drift: fields that appear in the records of a table, vanish, or change their types."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_replica.field_paths import FieldPaths, NotedField

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from ometria_replica.field_paths import Field, Structures

MOST_SHOWN = 20  # Fields of a warning.
FEWEST_RECORDS = 10  # Of a whole read, from which a field can be said to be gone.
ENOUGH_OF_FILES = 1_000  # Records of a batch of files, which then count as a whole read.


@dataclass(frozen=True)
class Changes:
    """What a batch changes of the fields that are known: *noted* to write, and *warnings*."""

    noted: tuple[NotedField, ...] = ()
    warnings: tuple[str, ...] = ()
    known: Mapping[str, NotedField] = field(default_factory=dict)
    whole: FieldPaths | None = None


@dataclass
class Drift:
    """
    The fields of the records of one table in one run; *known* are those of earlier runs.

    A run for which no field is known warns of none: all are new.
    """

    known: Mapping[str, NotedField]
    whole: FieldPaths | None = None
    _is_first: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_first = not self.known

    def changes(
        self, structures: Structures, now: datetime, *, is_full: bool, is_last: bool, of_files: bool
    ) -> Changes:
        """
        Compare the records of a batch with what is known, which stays as it is until committed.

        *is_full* says that the batch belongs to a read of all records, and *is_last* that it is
        the last one of it.
        """
        seen = FieldPaths.knowing(self.known)
        seen.add_all(structures)
        noted = {each.path: each for each in self._noted(seen, now)}
        warnings = [] if self._is_first else [*self._appeared(noted), *self._retyped(noted)]
        whole, is_complete = self._whole(structures, is_full=is_full, is_last=is_last,
                                         of_files=of_files, seen=seen)  # fmt: skip
        known = {**self.known, **noted}
        if is_complete and whole is not None and whole.records >= FEWEST_RECORDS:
            counts = {each.path: each.records for each in whole}
            names = {each.path for each in seen} if of_files else set()
            warnings += _vanished(known.values(), counts.keys() | names)
            noted = {
                path: replace(each, records=counts.get(path, 0), of_records=whole.records)
                for path, each in known.items()
            }
            known = noted
        return Changes(tuple(noted.values()), tuple(warnings), known, whole)

    def committed(self, changes: Changes) -> None:
        """Take over what a batch has changed."""
        self.known, self.whole = changes.known, changes.whole

    def _whole(
        self, structures: Structures, *, is_full: bool, is_last: bool, of_files: bool,
        seen: FieldPaths,
    ) -> tuple[FieldPaths | None, bool]:  # fmt: skip
        """Return the fields of the whole read so far, and whether it is complete."""
        if of_files:  # Once in a run is enough.
            is_enough = self.whole is None and seen.records >= ENOUGH_OF_FILES
            return (seen, True) if is_enough else (self.whole, False)
        if not is_full:
            return self.whole, False
        whole = FieldPaths.knowing(self.known)
        if self.whole is not None:
            whole.add_fields(self.whole)
        whole.add_all(structures)
        return whole, is_last

    def _noted(self, seen: FieldPaths, now: datetime) -> Iterator[NotedField]:
        for each in seen:
            there = self.known.get(each.path)
            if there is None:
                yield NotedField(each.path, each.types, now)
            elif each.types - there.types:
                yield replace(there, types=there.types | each.types)

    def _appeared(self, noted: Mapping[str, NotedField]) -> Iterator[str]:
        new = [f"{path} ({_types(each)})" for path, each in noted.items() if path not in self.known]
        if new:
            yield f"fields that no record had before: {_listed(new)}."

    def _retyped(self, noted: Mapping[str, NotedField]) -> Iterator[str]:
        changed = [
            f"{path} (was {_types(there)}, and is {', '.join(sorted(each.types - there.types))})"
            for path, each in noted.items()
            if (there := self.known.get(path)) and there.types
        ]
        if changed:
            yield f"fields of another type than before: {_listed(changed)}."


def _vanished(known: Iterable[NotedField], seen: Iterable[str]) -> Iterator[str]:
    there = set(seen)
    gone = [each.path for each in known if each.was_in_most and each.path not in there]
    if gone:
        yield f"fields that most records had before, and none has now: {_listed(sorted(gone))}."


def _types(noted: NotedField | Field) -> str:
    return ", ".join(sorted(noted.types)) or "null"


def _listed(fields: list[str]) -> str:
    more = f" and {len(fields) - MOST_SHOWN} more" if len(fields) > MOST_SHOWN else ""
    return ", ".join(fields[:MOST_SHOWN]) + more
