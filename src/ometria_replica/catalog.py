"""The catalog: which tables a run replicates, as a value that can be handed on and extended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.config import ALL, AccountSettings
from ometria_replica.errors import ConfigError
from ometria_replica.history import stored, with_history
from ometria_replica.more_tables import MORE_JOINS, MORE_TABLES
from ometria_replica.nearest import did_you_mean
from ometria_replica.nested_tables import NESTED_JOINS, NESTED_TABLES
from ometria_replica.privacy import treated
from ometria_replica.raw_records import kept, problems, records_of
from ometria_replica.tables import JOINS, TABLES
from ometria_replica.text import names_of
from ometria_replica.ways_to_read import Feed, Growing, Inside, PerParent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ometria_replica.schema import Join, Table


@dataclass(frozen=True)
class Catalog:
    """
    The *tables* of a replica, in the order in which pages and diagrams show them.

    Names are unique, in any schema; raises ConfigError for a repeated one, and for a table whose
    rows cannot be inside the table that it names. *joins* connect columns of these tables, and of
    *further* ones, which the setting ``tables`` switches on.
    """

    tables: tuple[Table, ...]
    joins: tuple[Join, ...] = ()
    further: tuple[Table, ...] = ()

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __post_init__(self) -> None:
        names = [table.name for table in self._all]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(
                f"Two tables are named '{repeated[0]}'. Rename one of them, also if their schemas"
                " differ: the state identifies a table by its name."
            )
        if found := [each for table in self._all if (each := self._misplaced(table))]:
            raise ConfigError(found)

    def __add__(self, table: Table) -> Catalog:
        """Add a table, in place of a further one of its name and of those inside that."""
        further = tuple(
            each for each in self.further if each.name != table.name and not each.is_inside(table)
        )
        return replace(self, tables=(*self.tables, table), further=further)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(table.name for table in self.tables)

    @property
    def _all(self) -> tuple[Table, ...]:
        """The tables that are switched on, and the others."""
        return (*self.tables, *self.further)

    @property
    def every(self) -> Catalog:
        """The catalog with all of its tables switched on."""
        return replace(self, tables=self._all, further=())

    def of(self, accounts: Iterable[AccountSettings]) -> Catalog:
        """
        Keep the tables that the settings of one of *accounts* switch on, and know the others.

        Without accounts, those that are on by default.

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
        on = tuple(
            each
            for each in every
            if any(_is_on(each, account) for account in accounts or (AccountSettings(),))
        )
        return replace(self, tables=on, further=tuple(each for each in every if each not in on))

    def table(self, name: str) -> Table:
        """Find a table by its name. Raises ConfigError for one that is not there, or not on."""
        for table in self.tables:
            if table.name == name:
                return table
        raise ConfigError(self._no_table(name))

    def only(self, names: Sequence[str]) -> Catalog:
        """Keep the tables with these names; without names, all of them. Raises as table()."""
        names = names_of(names)
        if not names:
            return self
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ConfigError(self._no_table(name) for name in unknown)
        return replace(self, tables=tuple(table for table in self.tables if table.name in names))

    def read_with(self, names: Sequence[str]) -> Catalog:
        """
        Keep what is read to read the tables with these names; without names, all tables.

        Where one table is inside another, both are read at once, with all that is inside it.
        Raises as table().
        """
        chosen = {_requested(table) for table in self.only(names)}
        return self.only([table.name for table in self.tables if _requested(table) in chosen])

    def inside(self, table: Table) -> tuple[Table, ...]:
        """List the tables of which rows are in arrays inside the records of *table*."""
        return tuple(each for each in self.tables if each.is_inside(table))

    def problems(self) -> Iterator[str]:
        """Say which tables are inside one that is not there, and so cannot be read."""
        for table in self.tables:
            if isinstance(table.read, Inside) and table.read.parent not in self.names:
                yield (
                    f"{table.name}: its rows are inside the records of {table.read.parent}, which"
                    f" is not replicated. Replicate {table.read.parent} too."
                )

    def _no_table(self, name: str) -> str:
        if any(table.name == name for table in self.further):
            return (
                f"The table '{name}' is switched off. Name it in the setting tables"
                f' (OMETRIA_TABLES) beside the others, or set tables = "{ALL}".'
            )
        near = did_you_mean(name.rpartition(".")[2], self.every.names)
        return f"There is no table '{name}'" + (
            near or f". The tables are {', '.join(self.names)}."
        )

    def for_account(self, account: AccountSettings) -> Catalog:
        """Return the tables that the account's settings switch on, as these want them."""
        on = tuple(table for table in self.tables if _is_on(table, account))
        return replace(self, tables=on).as_set(account)

    def as_set(self, account: AccountSettings) -> Catalog:
        """Return the tables as the account's settings want them: keys, and treated columns."""
        keyed = (table.with_wide_keys() if account.wide_keys else table for table in self.tables)
        treat = (treated(kept(table, account), account, self.every) for table in keyed)
        return replace(self, tables=tuple(with_history(table, account) for table in treat))

    def with_records(self, accounts: Iterable[AccountSettings]) -> Catalog:
        """Note on each table whether one of *accounts* keeps its records."""
        accounts = tuple(accounts)
        tables = tuple(
            replace(table, keeps_records=any(kept(table, each).keeps_records for each in accounts))
            for table in self.tables
        )
        return replace(self, tables=tables)

    def record_problems(self, account: AccountSettings) -> Iterator[str]:
        """Say what cannot be done of the setting ``keep_records`` of an account."""
        return problems(self.for_account(account), account, self.every.as_set(account).tables)

    def refuse_records(self, accounts: Iterable[AccountSettings]) -> None:
        """Raise ConfigError for what record_problems() says of any of *accounts*."""
        if found := [
            f"{account.source_id}: {each}"
            for account in accounts
            for each in self.record_problems(account)
        ]:
            raise ConfigError(found)

    @property
    def stored(self) -> tuple[Table, ...]:
        """The tables, and those that hold more of their values: they may not be there."""
        return tuple(each for table in self.tables for each in stored(table))

    @property
    def records(self) -> tuple[Table, ...]:
        """The tables of records, also of a setting that is switched off: they may not be there."""
        return tuple(each for table in self._all for each in records_of(table))

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
        match table.read:
            case PerParent(parent=collection) | Growing(parent=collection):
                return next((each for each in self.tables if each.read == collection), None)
            case Inside(parent=name):
                return next((each for each in self.tables if each.name == name), None)
        return None

    def _misplaced(self, table: Table) -> str | None:
        """Say why rows of *table* cannot be inside those of its parent; None if they can."""
        if not isinstance(table.read, Inside):
            return None
        name = table.read.parent
        parent = next((each for each in self._all if each.name == name), None)
        if parent is None:
            return None
        record_id = next((c.source for c in parent.columns if c.name == parent.record_id), None)
        source = f"{parent.name}::{table.read.parent_id}"
        reason = None
        if isinstance(parent.read, Feed | Inside):
            reason = f"{parent.name} is not read from the API"
        elif record_id != table.read.parent_id:
            reason = f"the column record_id of {parent.name} is not {table.read.parent_id}"
        elif table.parent_column is None or source not in table.sync_key.sources:
            reason = f"a column and the key need {source}"
        return f"{table.name} cannot be inside {parent.name}: {reason}." if reason else None


def _requested(table: Table) -> str:
    """Name the table that is requested to read *table*."""
    return table.read.parent if isinstance(table.read, Inside) else table.name


def _is_on(table: Table, account: AccountSettings) -> bool:
    if account.tables is None:
        return not table.optional
    return ALL in account.tables or table.name in account.tables


CATALOG = Catalog(TABLES, (*JOINS, *MORE_JOINS, *NESTED_JOINS), (*MORE_TABLES, *NESTED_TABLES))
"""The tables of the program: the five, and those that the setting ``tables`` switches on."""
