"""
The marts: tables that dbt has made of the tables of the replica, in a schema beside theirs.

They are copies, so what is removed from the tables for good is removed there too. The tables of the
schema are looked up, since a user can leave out models and add others: a column is known by its
name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.failpoints import step
from ometria_replica.history import history_table
from ometria_replica.schema import MARTS_SCHEMA, StateTable
from ometria_replica.selection import in_parts
from ometria_replica.warehouse.erasure.person_ids import id_parts
from ometria_replica.warehouse.sessions import Part, reads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ometria_replica.catalog import Catalog
    from ometria_replica.suppressions import PersonId
    from ometria_replica.warehouse.erasure.people import Found

_SOURCES = ("source_id", "__source_id")
"""Names of the column with the source of a row."""

_IDS: Mapping[str, PersonId] = {
    "profile_id": "profile",
    "customer_id": "customer",
    "email": "address",
    "address": "address",
}
"""The last words of the names of columns that hold an id of a person."""

_QUOTING = ("url", "reason", "text", "comment", "record")
"""The last words of the names of columns whose texts may quote an address."""

_AT_ONCE = 500  # Texts of a condition, each a parameter.


@dataclass(frozen=True)
class _Condition:
    """A condition on the rows of a mart, with its parameters."""

    table: StateTable
    text: str
    parameters: list[str]


@dataclass(frozen=True)
class Marts(Part):
    """The marts in one warehouse, where the engine runs SQL in the database that holds them."""

    @reads("looking at the tables")
    def sources(self, catalog: Catalog) -> tuple[str, ...]:
        """Name the tables of *catalog* that exist, of which models can be built."""
        self._engine.look_up(catalog.tables)
        return tuple(table.name for table in catalog if self._engine.exists(table))

    @reads("looking at the histories")
    def histories(self, catalog: Catalog) -> tuple[str, ...]:
        """Name the tables of *catalog* of which there are versions."""
        return tuple(table.name for table in catalog if self._engine.exists(history_table(table)))

    # --- within a session of the caller ---

    def all_tables(self) -> list[StateTable]:
        """List the tables, to remove what deleted rows have left of them in the storage."""
        return [table for table, may_delete in self._tables() if may_delete]

    def remark(self) -> str:
        """Say which tables may hold erased people, since this role may not delete from them."""
        left = [
            f"{table.schema}.{table.name}"
            for table, may_delete in self._tables()
            if not may_delete and _ids(table)
        ]
        if not left:
            return ""
        return (
            f"Not deleted from, since this role may not: {', '.join(left)}. They keep what was"
            " removed until their owner runs `ometria-replica models build`."
        )

    def remove(self, found: Found) -> dict[str, int]:
        """
        Remove the rows of the people who were *found*, and mask quotations of their addresses.

        Returns how many rows were removed, by table; tables without any are left out.
        """
        removed: dict[str, int] = {}
        for each in self._of_people(found):
            name = self._engine.name(each.table)
            query = f"SELECT count(*) FROM {name} WHERE {each.text}"
            if count := self._engine.scalar(query, each.parameters):
                with step("erasure of marts"):
                    self._engine.execute(f"DELETE FROM {name} WHERE {each.text}", each.parameters)
                label = f"{each.table.schema}.{each.table.name}"
                removed[label] = removed.get(label, 0) + count
        masked = {text: new for quoted in found.quotations for _, text, new in quoted.texts}
        for some in in_parts(sorted(masked), _AT_ONCE):
            for table in self.all_tables():
                for column in _quoting(table):
                    self._mask(table, column, {text: masked[text] for text in some})
        return removed

    def clear(self, source_id: str) -> None:
        """Remove the rows of a source from the tables that may tell of people."""
        for table in self.all_tables():
            if not _ids(table) and not _quoting(table):
                continue
            name = self._engine.name(table)
            with step("clearing of marts"):
                if (source := _source(table)) is not None:
                    self._engine.execute(f"DELETE FROM {name} WHERE {source} = ?", [source_id])
                else:
                    self._engine.execute(f"DELETE FROM {name}")

    # --- helpers ---

    def _tables(self) -> list[tuple[StateTable, bool]]:
        return self._engine.tables_in(MARTS_SCHEMA)

    def _of_people(self, found: Found) -> Iterator[_Condition]:
        """Write the conditions for the rows of people, in parts of a bounded length."""
        texts: dict[str, list[str]] = {}
        for name in sorted({each for ids in found.people for each in ids}):
            kind, text, is_pseudonym = id_parts(name)
            is_written = kind != "address" or is_pseudonym
            texts.setdefault(kind, []).append(text if is_written else text.strip().lower())
        for table in self.all_tables():
            of_source, source = "", []
            if (named := _source(table)) is not None:
                of_source, source = f"{named} = ? AND ", [found.source_id]
            for column, kind in _ids(table).items():
                name = sql.quoted(column)
                value = f"lower(trim({name}))" if kind == "address" else name
                for some in in_parts(texts.get(kind, []), _AT_ONCE):
                    among = sql.among(value, some)
                    yield _Condition(table, f"{of_source}{among}", [*source, *some])

    def _mask(self, table: StateTable, column: str, masked: Mapping[str, str]) -> None:
        name = sql.quoted(column)
        cases = " ".join("WHEN ?::VARCHAR THEN ?::VARCHAR" for _ in masked)
        among = ", ".join("?::VARCHAR" for _ in masked)
        with step("erasure of marts"):
            self._engine.execute(
                f"UPDATE {self._engine.name(table)} SET {name} = CASE {name} {cases} END"
                f" WHERE {name} IN ({among})",
                [*(text for pair in masked.items() for text in pair), *masked],
            )


def _ids(table: StateTable) -> dict[str, PersonId]:
    """Name the columns that hold an id of a person, with its kind."""
    return {
        column: kind
        for column, _ in table.columns
        for ending, kind in _IDS.items()
        if column.lower() == ending or column.lower().endswith(f"_{ending}")
    }


def _source(table: StateTable) -> str | None:
    return next((name for name, _ in table.columns if name in _SOURCES), None)


def _quoting(table: StateTable) -> list[str]:
    return [name for name, _ in table.columns if name.lower().endswith(_QUOTING)]
