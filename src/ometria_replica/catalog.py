"""The catalog: which tables a run replicates, as a value that can be handed on and extended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.config import ALL, did_you_mean
from ometria_replica.errors import ConfigError
from ometria_replica.more_tables import MORE_JOINS, MORE_TABLES
from ometria_replica.privacy import treated
from ometria_replica.raw_records import kept
from ometria_replica.schema import Feed, Growing, PerParent
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
    columns of these tables, and of *further* ones, which the setting ``tables`` switches on.
    """

    tables: tuple[Table, ...]
    joins: tuple[Join, ...] = ()
    further: tuple[Table, ...] = ()

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __post_init__(self) -> None:
        names = [table.name for table in (*self.tables, *self.further)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(
                f"Two tables are named '{repeated[0]}'. Rename one of them, also if their schemas"
                " differ: the state identifies a table by its name."
            )

    def __add__(self, table: Table) -> Catalog:
        """Add a table, in place of a further one of its name."""
        further = tuple(each for each in self.further if each.name != table.name)
        return replace(self, tables=(*self.tables, table), further=further)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(table.name for table in self.tables)

    @property
    def every(self) -> Catalog:
        """The catalog with all of its tables switched on."""
        return replace(self, tables=(*self.tables, *self.further), further=())

    def of(self, accounts: Iterable[AccountSettings]) -> Catalog:
        """
        Keep the tables that the settings of one of *accounts* switch on, and know the others.

        Raises ConfigError for a name in them that is no table.
        """
        accounts, every = tuple(accounts), self.every.tables
        if problems := [
            f"tables of '{account.source_id}': {self._no_table(name)}"
            for account in accounts
            for name in account.tables or ()
            if name not in {*self.every.names, ALL}
        ]:
            raise ConfigError(problems)
        on = tuple(each for each in every if any(_is_on(each, account) for account in accounts))
        return replace(self, tables=on, further=tuple(each for each in every if each not in on))

    def table(self, name: str) -> Table:
        """Find a table by its name. Raises ConfigError for one that is not there, or not on."""
        for table in self.tables:
            if table.name == name:
                return table
        raise ConfigError(self._no_table(name))

    def only(self, names: Sequence[str]) -> Catalog:
        """Keep the tables with these names; without names, all of them. Raises as table()."""
        if not names:
            return self
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ConfigError(self._no_table(name) for name in unknown)
        return replace(self, tables=tuple(table for table in self.tables if table.name in names))

    def _no_table(self, name: str) -> str:
        if any(table.name == name for table in self.further):
            return (
                f"The table '{name}' is switched off. Name it in the setting tables"
                f' (OMETRIA_TABLES) beside the others, or set tables = "{ALL}".'
            )
        hint = did_you_mean(name, self.every.names)
        return f"There is no table '{name}'" + (
            hint or f". The tables are {', '.join(self.names)}."
        )

    def for_account(self, account: AccountSettings) -> Catalog:
        """Return the tables that the account's settings switch on, as these want them."""
        on = tuple(table for table in self.tables if _is_on(table, account))
        return replace(self, tables=on).as_set(account)

    def as_set(self, account: AccountSettings) -> Catalog:
        """Return the tables as the account's settings want them: keys, and treated columns."""
        keyed = (table.with_wide_keys() if account.wide_keys else table for table in self.tables)
        tables = (treated(kept(table, account), account, self.every) for table in keyed)
        return replace(self, tables=tuple(tables))

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
        if not isinstance(table.read, PerParent | Growing) or table.read.parent is None:
            return None
        return next((each for each in self.tables if each.read == table.read.parent), None)


def _is_on(table: Table, account: AccountSettings) -> bool:
    if account.tables is None:
        return not table.optional
    return ALL in account.tables or table.name in account.tables


CATALOG = Catalog(TABLES, (*JOINS, *MORE_JOINS), MORE_TABLES)
"""The tables of the program: the five, and those that the setting ``tables`` switches on."""
