"""The tables of a warehouse that dlt loads: find them, create them, name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ometria_replica import sql
from ometria_replica.comments import comments
from ometria_replica.schema import StateTable
from ometria_replica.warehouse.remotes.dlt_schemas import TYPES, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Destination
    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader


_Table = TypeVar("_Table", bound="Table | StateTable")


def by_schema(tables: Sequence[_Table]) -> Iterator[tuple[str, list[_Table]]]:
    """Part *tables* by their schemas."""
    for schema in dict.fromkeys(sql.schema_of(table) for table in tables):
        yield schema, [table for table in tables if sql.schema_of(table) == schema]


class DltTables:
    """
    The tables of *destination* behind *loader*.

    Without *is_there* nothing exists and nothing connects: a connection would create it.
    """

    def __init__(self, destination: Destination, loader: DltLoader, *, is_there: bool) -> None:
        self._destination = destination
        self._loader = loader
        self._is_there = is_there
        self._known: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def columns(self, table: Table | StateTable) -> list[tuple[str, str]]:
        """List the columns. Columns of an existing table are read once and kept."""
        if not self._is_there:
            return []
        schema = sql.schema_of(table)
        if not self._known.get((schema, table.name)):
            self._look_up(schema, [table.name])
        return self._known[schema, table.name]

    def look_up(self, tables: Sequence[Table | StateTable]) -> None:
        """Read the columns of those that are not known yet, by one query for each schema."""
        if not self._is_there:
            return
        for schema, of_schema in by_schema(tables):
            names = [table.name for table in of_schema]
            unknown = [name for name in names if not self._known.get((schema, name))]
            if unknown:
                self._look_up(schema, unknown)

    def create(self, tables: Sequence[Table | StateTable]) -> None:
        """Create those of *tables* that are missing; change those of an older release."""
        self.look_up(tables)
        missing = [table for table in tables if not self._known[sql.schema_of(table), table.name]]
        old = [t for t in tables if t not in missing and not isinstance(t, StateTable)]
        if old:
            self._destination.upgrade(self._loader, old)
        for schema, of_schema in by_schema(missing):
            self._loader.create(schema, [self.described(table) for table in of_schema])
            for table in of_schema:
                self._create_index(table)

    def create_statements(self, tables: Sequence[Table]) -> list[str]:
        """Write the statements of :meth:`create`, without a connection."""
        found: list[str] = []
        for schema, of_schema in by_schema(tables):
            described = [self.described(table) for table in of_schema]
            found += self._loader.create_statements(schema, described)
        return found

    def described(
        self, table: Table | StateTable, hints: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Describe a table for dlt, with *hints* beside those of its layout."""
        strategy, columns = self._destination.strategy, sql.columns_of(table)
        if isinstance(table, StateTable):
            return describe(table.name, columns, table.key, strategy)
        layout = self._destination.layout(table)
        return describe(
            table.name,
            columns,
            table.key,
            strategy,
            table_hints={**layout.table, **(hints or {})},
            column_hints=layout.columns,
            comments=comments(table),
        )

    def name(self, table: Table | StateTable) -> str:
        """Name a table in full, as the warehouse writes names."""
        return self._loader.qualified(sql.schema_of(table), table.name)

    def quoted(self, names: Iterable[str]) -> list[str]:
        """Write the names of columns."""
        return [self._loader.quoted(name) for name in names]

    def names(self, names: Iterable[str]) -> str:
        """Write a list of columns."""
        return ", ".join(self.quoted(names))

    def _look_up(self, schema: str, names: Sequence[str]) -> None:
        ours = {theirs: name for name, theirs in TYPES.items() if name != "json"}
        for name, columns in self._loader.columns(schema, names).items():
            self._known[schema, name] = [(c, ours.get(kind, kind)) for c, kind in columns]

    def _create_index(self, table: Table | StateTable) -> None:
        if isinstance(table, StateTable):
            return
        if unique := self.quoted(self._destination.layout(table).unique):
            self._loader.execute(f"CREATE UNIQUE INDEX ON {self.name(table)} ({', '.join(unique)})")
