"""
The ids of people that hang together: those that were asked for, and those that stand beside them.

Ids are compared in the DuckDB in which records are mapped, by the same expressions for every
warehouse: an address in any case and with any space around it. An id is written ``kind:text``, or
``kind#text`` if *text* is its pseudonym, since a column is hashed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ometria_replica import sql
from ometria_replica.pseudonyms import is_pseudonym, normalised
from ometria_replica.warehouse.erasure.disjoint_sets import DisjointSets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ometria_replica.schema import Column, Table
    from ometria_replica.suppressions import PersonId, Suppressions
    from ometria_replica.warehouse.engines.base import Engine
    from ometria_replica.warehouse.erasure.temporary_tables import TemporaryTables

KNOWN: Final = "known_ids"
"""The ids of the people that are looked for, as far as they are known."""

SOUGHT: Final = "sought_ids"
"""Those, and the hashes of suppressed ids."""

_LINKS = "linked_ids"


def id_parts(name: str) -> tuple[PersonId, str, bool]:
    """Take an id apart: its kind, its text, and whether that is a pseudonym."""
    kind, mark, text = re.split("([:#])", name, maxsplit=1)
    return kind, text, mark == "#"  # type: ignore[return-value]  # One of the three.


def id_columns(table: Table) -> list[Column]:
    """List the columns of *table* that hold ids of people."""
    return [c for c in table.columns if c.person and c.treatment != "excluded"]


def values_of(table: Table) -> str:
    """Name the temporary table with the distinct ids in *table*."""
    return sql.quoted(f"ids of {table.label}")


@dataclass(frozen=True)
class PersonIds:
    """The ids of people in *tables* of *engine*, in temporary tables."""

    engine: Engine
    temporary: TemporaryTables
    tables: Sequence[Table]
    source_id: str

    def start(self, given: Collection[tuple[PersonId, str]]) -> None:
        """Know the ids that were *given*, and no other."""
        self.temporary.make(_LINKS, "place BIGINT, id VARCHAR")
        self.temporary.make(KNOWN, "id VARCHAR")
        self._add_given(given)

    def find(self, also: Suppressions | None, *, follow: bool) -> None:
        """
        Read the ids in the tables, and know those of the people that are looked for.

        These are the people with a given id or one of the hashes *also*; without *follow*, only
        the ids themselves. Afterwards the ids are sought.
        """
        self.temporary.make(SOUGHT, "id VARCHAR")
        if also:
            self.temporary.connection.execute(
                f"INSERT INTO {SOUGHT} SELECT unnest($hashes::VARCHAR[])",
                {"hashes": sorted(also.hashes)},
            )
        for table in self.searched:
            self._read_values(table)
            self._add_links(table)
            if also:
                self._add_suppressed(table, also)
        if follow:
            self._follow()
        self.temporary.execute(f"INSERT INTO {SOUGHT} FROM {KNOWN}")

    def names(self) -> list[str]:
        """List the known ids."""
        return [*self.temporary.texts(f"SELECT id FROM {KNOWN} ORDER BY id")]

    def forget(self) -> None:
        """Drop the temporary tables."""
        self.temporary.drop(*map(values_of, self.searched), _LINKS, KNOWN, SOUGHT)

    @property
    def searched(self) -> list[Table]:
        """The tables with a column of ids."""
        return [table for table in self.tables if id_columns(table)]

    @property
    def hashed(self) -> frozenset[PersonId]:
        """The kinds of ids of which a column has pseudonyms."""
        return frozenset(
            column.person
            for table in self.tables
            for column in table.columns
            if column.person and column.treatment == "hashed"
        )

    def ids(self, column: Column) -> list[str]:
        """Write the ids that a value of *column* is, as expressions; null for none."""
        text = sql.quoted(column.name)
        return self.ids_of(column.person or "profile", text, is_hashed=bool(column.treatment))

    def ids_of(self, kind: PersonId, text: str, *, is_hashed: bool = False) -> list[str]:
        """Write the ids of *kind* that *text*, an expression, is; null for none."""
        plain = normalised(text) if kind == "address" else text
        found = [f"'{kind}#' || {text}" if is_hashed else f"'{kind}:' || {plain}"]
        if not is_hashed and kind in self.hashed and self.temporary.pseudonyms:
            hashed = self.temporary.pseudonyms.sql(text, is_address=kind == "address")
            found.append(f"'{kind}#' || {hashed}")
        return [f"CASE WHEN {normalised(text)} <> '' THEN {each} END" for each in found]

    def of_each_person(self) -> Iterator[frozenset[str]]:
        """Part the known ids into those of each person."""
        sets, beside = DisjointSets(), dict[int, str]()
        for place, name in self.temporary.rows(f"SELECT place, id FROM {_LINKS} SEMI JOIN {KNOWN}"
                                      " USING (id)"):  # fmt: skip
            sets.join(name, beside.setdefault(place, name))
        people: dict[str, set[str]] = {}
        for (name,) in self.temporary.rows(f"SELECT DISTINCT id FROM {KNOWN} ORDER BY id"):
            people.setdefault(sets.name(name), set()).add(name)
        yield from map(frozenset, people.values())

    def addresses(self) -> tuple[str, ...]:
        """Read the known addresses that are no pseudonyms."""
        return self.temporary.texts(
            f"SELECT substr(id, {len('address:') + 1}) FROM {KNOWN}"
            " WHERE starts_with(id, 'address:') ORDER BY ALL"
        )

    def _add_given(self, wanted: Collection[tuple[PersonId, str]]) -> None:
        """Note the ids that were given; one may be the pseudonym, copied from a hashed column."""
        self.temporary.make("given_ids", "kind VARCHAR, text VARCHAR")
        for kind, text in sorted(wanted):
            self.temporary.connection.execute("INSERT INTO given_ids VALUES (?, ?)", [kind, text])
        for kind in sorted({kind for kind, _ in wanted}):
            texts = ["text", normalised("text")] if kind == "address" else ["text"]
            ids = [each for text in texts for each in self.ids_of(kind, text)]
            given = f"given_ids WHERE kind = '{kind}'"
            if kind in self.hashed:
                is_one = is_pseudonym("text")
                self._link([f"'{kind}#' || text"], f"{given} AND {is_one}")
                given += f" AND NOT {is_one}"
            self._link(ids, given)
        self.temporary.execute(f"INSERT INTO {KNOWN} SELECT DISTINCT id FROM {_LINKS}")
        self.temporary.drop("given_ids")

    def _read_values(self, table: Table) -> None:
        names = [column.name for column in id_columns(table)]
        columns = ", ".join(map(sql.quoted, names))
        self.temporary.make(values_of(table), ", ".join(f"{sql.quoted(n)} VARCHAR" for n in names))
        for rows in self.engine.distinct(table, self.source_id, names):
            self.temporary.insert(f"INSERT INTO {values_of(table)} SELECT DISTINCT {columns}", rows)

    def _add_links(self, table: Table) -> None:
        """Note which ids stand in one row, or are the same."""
        ids = [each for column in id_columns(table) for each in self.ids(column)]
        if len(ids) > 1:
            self._link(ids, values_of(table))

    def _link(self, ids: Sequence[str], relation: str) -> None:
        self.temporary.execute(
            f"INSERT INTO {_LINKS} SELECT place + (SELECT coalesce(max(place), 0) FROM {_LINKS}),"
            f" id FROM (SELECT row_number() OVER () AS place, unnest([{', '.join(ids)}]) AS id"
            f" FROM (SELECT DISTINCT * FROM {relation})) WHERE id IS NOT NULL"
        )

    def _add_suppressed(self, table: Table, suppressions: Suppressions) -> None:
        for column in id_columns(table):
            hashes = suppressions.sql(column.person or "profile", sql.quoted(column.name))
            self.temporary.execute(
                f"INSERT INTO {KNOWN} SELECT DISTINCT id FROM"
                f" (SELECT unnest([{', '.join(self.ids(column))}]) AS id FROM"
                f" (SELECT *, unnest([{', '.join(hashes)}]) AS hash FROM {values_of(table)})"
                f" WHERE hash IN (SELECT id FROM {SOUGHT})) WHERE id IS NOT NULL",
                suppressions,
            )

    def _follow(self) -> None:
        """Add the ids that stand in a row with a known one, until there is none."""
        before = -1
        while (now := self.temporary.count(KNOWN)) != before:
            before = now
            self.temporary.execute(
                f"INSERT INTO {KNOWN} SELECT DISTINCT beside.id FROM {_LINKS} beside"
                f" SEMI JOIN (FROM {_LINKS} SEMI JOIN {KNOWN} USING (id)) USING (place)"
                f" ANTI JOIN {KNOWN} USING (id)"
            )
