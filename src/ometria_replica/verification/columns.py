"""What a verification keeps of a row, as expressions of SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.mapping import quoted
from ometria_replica.ways_to_read import PerParent

if TYPE_CHECKING:
    from ometria_replica.schema import Column, Table


@dataclass(frozen=True)
class RowExpressions:
    """Expressions of the columns of *table*, in a row of a given name."""

    table: Table

    @property
    def record_id(self) -> Column | None:
        """
        The column with an id that tells of no person; None if there is none.

        That is the id of a list, or of the list that a change is of.
        """
        every = self.table.columns
        tells = isinstance(self.table.read, PerParent) or not any(c.is_personal for c in every)
        own = (each for each in every if each.source == "id" and not each.is_personal)
        return next(own, None) if tells else None

    @property
    def parent(self) -> str | None:
        """The column with the id of the parent; None if the table has none."""
        column = self.record_id if isinstance(self.table.read, PerParent) else None
        return column.name if column else None

    @property
    def contents(self) -> str:
        """A hash of all columns, without stamps."""
        names = [quoted(column.name) for column in self.table.contents if not column.stamp]
        return f"hash({', '.join(names)})"

    def id_of(self, row: str) -> str:
        """Write the id that tells of no person."""
        column = self.record_id
        return f"{row}.{quoted(column.name)}" if column else "NULL::VARCHAR"

    def parent_of(self, row: str) -> str:
        """Write the id of the parent."""
        return f"{row}.{quoted(self.parent)}" if self.parent else "NULL::VARCHAR"

    def outer_of(self, row: str) -> str:
        """Write the id of the record that a row is inside, as its column holds it."""
        column = self.table.parent_column
        return f"{row}.{quoted(column.name)}" if column else "NULL::VARCHAR"

    def time_of(self, row: str) -> str:
        """Write the time of an event."""
        return f"{row}.{quoted(self.table.time)}" if self.table.time else "NULL::TIMESTAMPTZ"

    def person_of(self, row: str) -> str:
        """Write the id of the profile of a row, to ask Ometria for it; null if it is hashed."""
        for column in self.table.columns:
            if column.person == "profile" and column.treatment is None:
                return f"{row}.{quoted(column.name)}"
        return "NULL::VARCHAR"

    def is_blank(self, row: str) -> str:
        """Write whether an event has nothing in any column that tells of a person."""
        personal = [each for each in self.table.columns if each.is_personal]
        if not personal or not self.table.events:
            return "false"
        return " AND ".join(f"{row}.{quoted(each.name)} IS NULL" for each in personal)
