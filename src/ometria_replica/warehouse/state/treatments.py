"""
Which columns of each account are excluded or hashed: as they were at its first load.

Later loads must treat them alike, or the same value would be there in two forms and under two
keys, and what must not be in the warehouse would come into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError
from ometria_replica.failpoints import step
from ometria_replica.schema import ColumnTreatment
from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import COLUMN_TREATMENTS

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.batch import Owner
    from ometria_replica.catalog import Catalog


@dataclass(frozen=True)
class Treatments(Part):
    """The treatments of columns that were noted. Within a session of the caller."""

    def of(self, source_id: str) -> frozenset[ColumnTreatment]:
        """Read the treatments of a source."""
        return frozenset(
            ColumnTreatment(*row)
            for row in self._engine.rows(
                "SELECT table_name, column_name, treatment, secret_check"
                f" FROM {self._readable(COLUMN_TREATMENTS)} WHERE source_id = ?",
                [source_id],
            )
        )

    def refuse_changed(self, owner: Owner, tables: Catalog) -> bool:
        """
        Raise ConfigError if a table with rows of *owner* is now treated otherwise.

        Returns whether the treatments of other tables have to be noted.
        """
        known = {(each.table_name, each.column_name): each for each in self.of(owner.source_id)}
        wanted = {(each.table_name, each.column_name): each for each in owner.treatments}
        changed = [
            place
            for place in sorted(known.keys() | wanted.keys())
            if known.get(place) != wanted.get(place)
        ]
        names = {table_name for table_name, _ in changed}
        there = [table for table in tables if table.name in names and self._engine.exists(table)]
        holding = self._engine.holding(there, owner.source_id) if there else set()
        if problems := [
            self._changed(owner, place, known.get(place), wanted.get(place))
            for place in changed
            if place[0] in holding
        ]:
            raise ConfigError(problems)
        return bool(changed)

    def note(self, owner: Owner, now: datetime) -> None:
        """Note the treatments of a source in place of earlier ones. Within a transaction."""
        with step("treatments"):
            self._engine.execute(
                f"DELETE FROM {self._engine.name(COLUMN_TREATMENTS)} WHERE source_id = ?",
                [owner.source_id],
            )
            rows = [
                (
                    owner.source_id,
                    each.table_name,
                    each.column_name,
                    each.treatment,
                    each.check,
                    now,
                )
                for each in sorted(owner.treatments)
            ]
            if rows:
                self._engine.insert(COLUMN_TREATMENTS, *rows)

    def _changed(
        self,
        owner: Owner,
        place: tuple[str, str],
        known: ColumnTreatment | None,
        wanted: ColumnTreatment | None,
    ) -> str:
        column = ".".join(place)
        held, new = _words(known), _words(wanted)
        if known and wanted and known.treatment == wanted.treatment:
            held, new = f"{held} with one hash_key", "with another"
        return (
            f"{column}: {self._engine.place} holds it {held} for '{owner.source_id}', and the"
            f" settings say {new}. Restore the old setting, or run `ometria-replica rehash`, which"
            " rewrites what is there, as far as that is possible."
        )


def _words(treatment: ColumnTreatment | None) -> str:
    return treatment.treatment if treatment else "as it came"
