"""
What an account's settings do to the columns of people's data.

``exclude`` and ``hash`` name columns. Here they become treatments of the catalog's columns, which
the mapping carries out, so that nothing behind it ever has the value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.config import EVERY_TABLE, sentence
from ometria_replica.errors import ConfigError
from ometria_replica.nearest import did_you_mean
from ometria_replica.pseudonyms import Pseudonyms
from ometria_replica.schema import ColumnTreatment, Md5
from ometria_replica.suppressions import secret_of
from ometria_replica.ways_to_read import Growing, Inside, PerParent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ometria_replica.config import AccountSettings
    from ometria_replica.schema import Column, Table, Treatment


def treated(table: Table, account: AccountSettings, others: Iterable[Table] = ()) -> Table:
    """
    Give the table the treatments that the account's settings name; it may have none.

    A text that quotes a record may hold the addresses of the *others*.
    """
    columns = tuple(
        replace(column, treatment=_treatment(table, column, account)) for column in table.columns
    )
    table = replace(table, follows_erasures=account.follow_erasures)
    if not any(column.person == "address" for column in columns) and any(
        column.person == "address" and _treatment(other, column, account)
        for other in others
        for column in other.columns
    ):
        table = replace(table, quotes_treated=any(column.quotes for column in columns))
    if columns == table.columns:
        return table
    return replace(table, columns=columns, pseudonyms=_pseudonyms(account))


def as_noted(table: Table, noted: Iterable[ColumnTreatment]) -> Table:
    """Give the table the treatments that were *noted*, without the secret of then."""
    treatments: dict[str, Treatment] = {
        each.column_name: "excluded" if each.treatment == "excluded" else "hashed"
        for each in noted
        if each.table_name == table.name
    }
    columns = (replace(each, treatment=treatments.get(each.name)) for each in table.columns)
    return replace(table, columns=tuple(columns), pseudonyms=None)


def secret_for(account: AccountSettings) -> bytes | None:
    """Make the secret of the account's suppressions; None if it has no ``hash_key``."""
    return None if account.hash_key is None else secret_of(account.hash_key.reveal())


def treatments_of(tables: Iterable[Table]) -> frozenset[ColumnTreatment]:
    """List the treatments of *tables*, which are those of an account."""
    return frozenset(
        _noted(table, column) for table in tables for column in table.columns if column.treatment
    )


def _noted(table: Table, column: Column) -> ColumnTreatment:
    words: str = column.treatment or ""
    pseudonyms = table.pseudonyms
    if column.treatment == "hashed" and column.person == "address" and pseudonyms:
        words += " as an address" if pseudonyms.normalises else ""
    needed = column.treatment and _needs_secret(table, column, column.treatment)
    check = pseudonyms.check if pseudonyms and needed else None
    return ColumnTreatment(table.name, column.name, words, check)


def problems(tables: Iterable[Table], account: AccountSettings) -> Iterator[str]:
    """Say what cannot be done of the settings ``exclude`` and ``hash`` of an account."""
    tables = tuple(tables)
    for setting, names in (("exclude", account.exclude), ("hash", account.hash)):
        for name in names:
            if not any(_is_named(table, column, name) for table, column in _columns(tables)):
                yield sentence(f"{setting}: there is no column '{name}'{_nearest(name, tables)}")
    for table, column in _columns(tables):
        treatment = _treatment(table, column, account)
        if treatment and (reason := _refusal(table, column, treatment)):
            yield f"{_words(treatment)} {table.name}.{column.name}: {reason}."
        elif treatment and not account.hash_key and _needs_secret(table, column, treatment):
            yield (
                f"{_words(treatment)} {table.name}.{column.name}: the account needs hash_key, a"
                " secret such as env:OMETRIA_HASH_KEY or file:/path"
                + (" (the key of the table is made from it)" if treatment == "excluded" else "")
                + "."
            )


def problems_inside(tables: Iterable[Table]) -> Iterator[str]:
    """
    Say where a table and one that is inside it are treated otherwise; *tables* are an account's.

    By the id of its record a row is found, and an address that is hidden in one table must not
    stand in the other.
    """
    names = {table.name: table for table in tables}
    for table in names.values():
        parent = names.get(table.read.parent) if isinstance(table.read, Inside) else None
        if parent is None or table.parent_column is None:
            continue
        ids = next(column for column in parent.columns if column.name == parent.record_id)
        one, other = f"{parent.name}.{ids.name}", f"{table.name}.{table.parent_column.name}"
        if ids.treatment != table.parent_column.treatment:
            treatment = ids.treatment or table.parent_column.treatment or "hashed"
            named, missing = (one, other) if ids.treatment else (other, one)
            yield (
                f"{_words(treatment)} {named}: name {missing} too, since rows are found by this id."
            )
        hidden = next((c for c in parent.columns if c.person == "address" and c.treatment), None)
        for column in table.columns:
            if hidden and hidden.treatment and column.person == "address" and not column.treatment:
                yield (
                    f"{_words(hidden.treatment)} {parent.name}.{hidden.name}: name"
                    f" {table.name}.{column.name} too, which holds addresses of the same people."
                )


def refuse_problems(tables: Iterable[Table], accounts: Iterable[AccountSettings]) -> None:
    """Raise ConfigError for what cannot be done of ``exclude`` and ``hash`` of *accounts*."""
    tables = tuple(tables)
    if found := [
        f"{account.source_id}: {problem}"
        for account in accounts
        for problem in problems(tables, account)
    ]:
        raise ConfigError(found)


def _words(treatment: Treatment) -> str:
    return {"excluded": "exclude", "hashed": "hash"}[treatment]


def _pseudonyms(account: AccountSettings) -> Pseudonyms | None:
    if account.hash_key is None:
        return None
    return Pseudonyms(account.hash_key.reveal().encode(), account.normalise)


def _treatment(table: Table, column: Column, account: AccountSettings) -> Treatment | None:
    """Return the treatment of a column; one that is named in both settings is excluded."""
    if any(_is_named(table, column, name) for name in account.exclude):
        return "excluded"
    return "hashed" if any(_is_named(table, column, name) for name in account.hash) else None


def _is_named(table: Table, column: Column, name: str) -> bool:
    of, _, column_name = name.partition(".")
    return of in {EVERY_TABLE, table.name} and column_name == column.name


def _columns(tables: Sequence[Table]) -> Iterator[tuple[Table, Column]]:
    return ((table, column) for table in tables for column in table.columns)


def _needs_secret(table: Table, column: Column, treatment: Treatment) -> bool:
    return treatment == "hashed" or column.source in table.identifying_fields


def _refusal(table: Table, column: Column, treatment: Treatment) -> str | None:
    """Say why a column cannot have a treatment; None if it can."""
    if isinstance(column.source, Md5):
        return "it is the key, which is made from the treated values by itself"
    if column.name == table.time:
        return "rows are found by this time"
    if _names_parent(table, column) or (column.name == table.record_id and not column.is_personal):
        return "the id is no person's, and requests and the state name it"
    if treatment == "excluded" and (
        column.name == table.record_id or column == table.parent_column
    ):
        return "without this id rows cannot be told apart; hash it instead"
    if treatment == "hashed" and column.type != "text":
        return f"only text can be hashed, and this is a {column.type}; exclude it instead"
    return None


def _names_parent(table: Table, column: Column) -> bool:
    if isinstance(table.read, Growing):
        return column.source == table.read.parent_field
    return isinstance(table.read, PerParent) and column.source == "id"


def _nearest(name: str, tables: Sequence[Table]) -> str:
    known = [f"{table.name}.{column.name}" for table, column in _columns(tables)]
    return did_you_mean(name, [*known, *(f"*.{each.partition('.')[2]}" for each in known)])
