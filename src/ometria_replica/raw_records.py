"""Records as they came: the tables that hold them, and of which tables the settings keep them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.config import EVERY_TABLE, sentence
from ometria_replica.nearest import did_you_mean
from ometria_replica.schema import LINEAGE, RAW_SCHEMA, Column, Table, computed
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ometria_replica.config import AccountSettings

_RECORD = Column(
    "record",
    "record",
    "json",
    meaning=computed(
        "The record as Ometria sent it, or a line or row of an export file as a JSON object.",
        null="never",
    ),
)
_BY_NAME = {column.name: column for column in LINEAGE}


def kept(table: Table, account: AccountSettings) -> Table:
    """Note on the table whether the account's settings keep its records."""
    return replace(table, keeps_records=_is_kept(table, account))


def raw_table(table: Table) -> Table:
    """Describe the table that holds the records of the rows of *table*."""
    return Table(
        name=table.name,
        read=table.read,
        sync_key=table.sync_key,
        columns=(_BY_NAME["__source_id"], _BY_NAME["__sync_key"], _RECORD),
        identity=(),
        schema=RAW_SCHEMA,
        about=(
            f"One row is the record of the row of {table.full_name} with the same __source_id and"
            " __sync_key, as it came."
        ),
        lineage=(_BY_NAME["__synced_at"],),
    )


def records_of(table: Table) -> tuple[Table, ...]:
    """List the table that can hold the records of *table*; none if these are of another table."""
    return (raw_table(table),) if _has_records(table) else ()


def problems(
    tables: Iterable[Table], account: AccountSettings, every: Collection[Table]
) -> Iterator[str]:
    """
    Say what cannot be done of the setting ``keep_records`` of an account.

    *tables* are those that it has switched on, and *every* those that there are, as it treats them.
    """
    known = {table.name: table for table in tables}
    inside = {table.name: table.read.parent for table in every if isinstance(table.read, Inside)}
    names = [table.name for table in every]
    for name in account.keep_records:
        if name in inside:
            yield (
                f"keep_records: {name} has no records of its own, since its rows are inside the"
                f" records of {inside[name]}. Name {inside[name]}."
            )
        elif name not in names and name != EVERY_TABLE:
            hint = did_you_mean(name, names) or f". The tables are {', '.join(names)}"
            yield sentence(f"keep_records: there is no table '{name}'{hint}")
    held = [*known.values(), *(table for table in every if table.name in inside)]
    hiding = [table for table in known.values() if hides_values(table, held)]
    plain = [name for name, each in known.items() if each not in hiding and _is_kept(each, account)]
    for table in hiding:
        if _is_kept(table, account):
            others = ", ".join(f'"{name}"' for name in plain)
            yield (
                f"keep_records: the records of {table.name} may hold values that the settings"
                " exclude or hash. Keep the records of other tables only:"
                f" keep_records = [{others}]."
            )


def hides_values(table: Table, tables: Collection[Table]) -> bool:
    """
    Whether a record of *table* may hold a value that is excluded or hashed in one of *tables*.

    An id of a person may be in any record of a person, in a field that has no column.
    """
    hides_people = any(
        column.person and column.treatment for each in tables for column in each.columns
    )
    is_of_people = bool(table.people) or table.quotes_treated
    hides_inside = any(each.is_treated and each.is_inside(table) for each in tables)
    return table.is_treated or hides_inside or (hides_people and is_of_people)


def _is_kept(table: Table, account: AccountSettings) -> bool:
    is_named = table.name in account.keep_records or EVERY_TABLE in account.keep_records
    return is_named and _has_records(table)


def _has_records(table: Table) -> bool:
    return table.label == table.name and not isinstance(table.read, Inside)
