"""The catalog: which tables a run replicates, as a value that can be handed on and extended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError
from ometria_replica.privacy import treated
from ometria_replica.raw_records import kept
from ometria_replica.schema import Feed, PerParent
from ometria_replica.tables import JOINS, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ometria_replica.config import AccountSettings
    from ometria_replica.schema import Join, Table


@dataclass(frozen=True)
class Catalog:
    """
    The *tables* of a replica, in the order in which pages and diagrams show them.

    Names are unique, in any schema; raises ConfigError for a repeated one. *joins* connect
    columns of these tables.
    """

    tables: tuple[Table, ...]
    joins: tuple[Join, ...] = ()

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __post_init__(self) -> None:
        names = [table.name for table in self.tables]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(
                f"Two tables are named '{repeated[0]}'. Rename one of them, also if their schemas"
                " differ: the state identifies a table by its name."
            )

    def __add__(self, table: Table) -> Catalog:
        """Add a table."""
        return replace(self, tables=(*self.tables, table))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(table.name for table in self.tables)

    def table(self, name: str) -> Table:
        """Find a table by its name. Raises ConfigError for a name that is not there."""
        for table in self.tables:
            if table.name == name:
                return table
        raise ConfigError(f"There is no table '{name}'. The tables are {', '.join(self.names)}.")

    def only(self, names: Sequence[str]) -> Catalog:
        """Keep the tables with these names; without names, all of them. Raises as table()."""
        if not names:
            return self
        unknown = [name for name in names if name not in self.names]
        if unknown:
            tables = ", ".join(self.names)
            raise ConfigError(
                f"There is no table '{name}'. The tables are {tables}." for name in unknown
            )
        return replace(self, tables=tuple(table for table in self.tables if table.name in names))

    def for_account(self, account: AccountSettings) -> Catalog:
        """Return the tables as the account's settings want them: keys, and treated columns."""
        keyed = (table.with_wide_keys() if account.wide_keys else table for table in self.tables)
        return replace(self, tables=tuple(treated(kept(each, account), account) for each in keyed))

    def with_records(self, accounts: Iterable[AccountSettings]) -> Catalog:
        """Note on each table whether one of *accounts* keeps its records."""
        accounts = tuple(accounts)
        tables = tuple(
            replace(table, keeps_records=any(kept(table, each).keeps_records for each in accounts))
            for table in self.tables
        )
        return replace(self, tables=tables)

    @property
    def in_reading_order(self) -> tuple[Table, ...]:
        """
        The tables in the order of reading: the API before the export, a parent before its children.

        Then a parent that appears during the run has its row before its children have theirs.
        """
        children = [table for table in self.tables if self._parent(table)]
        firsts = [table for table in self.tables if table not in children]
        return tuple(
            table
            for first in sorted(firsts, key=lambda table: isinstance(table.read, Feed))
            for table in (first, *(each for each in children if self._parent(each) == first))
        )

    def _parent(self, table: Table) -> Table | None:
        if not isinstance(table.read, PerParent):
            return None
        return next((each for each in self.tables if each.read == table.read.parent), None)


CATALOG = Catalog(TABLES, JOINS)
"""The tables of the program."""
