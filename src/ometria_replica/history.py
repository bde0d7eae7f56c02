"""The history of a table: every version of its rows, and when each held."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.config import sentence
from ometria_replica.nearest import did_you_mean
from ometria_replica.schema import HISTORY_SCHEMA, ROW_KEY, Column, computed
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ometria_replica.config import AccountSettings
    from ometria_replica.schema import Table

# fmt: off
VALIDITY = (
    Column("valid_from", "valid_from", "timestamptz", meaning=computed(
        "When the version began: the time of the request or load that first brought it.")),
    Column("valid_to", "valid_to", "timestamptz", meaning=computed(
        "When the next version began, and so the first moment at which this one did not hold.",
        null="the version holds")),
    Column("is_deleted", "is_deleted", "boolean", meaning=computed(
        "Whether the record was deleted in Ometria: then the version has its last values.")),
)
# fmt: on
"""The columns that a version has after those of its row."""


def history_table(table: Table) -> Table:
    """
    Make the table of the versions of *table*, as it is treated.

    Its time is that at which a version ended: a batch ends the versions that hold, which have
    none, so that older ones need not be read.
    """
    return replace(
        table,
        schema=HISTORY_SCHEMA,
        lineage=(*table.lineage, *VALIDITY),
        key=(*ROW_KEY, "valid_from"),
        time="valid_to",
        about=(
            f"One row for each version of a row of {table.full_name}: __source_id, __sync_key and"
            f" valid_from identify it. {table.about}"
        ),
        keeps_history=False,
        keeps_records=False,
    )


def stored(table: Table) -> tuple[Table, ...]:
    """List the tables that can hold values of *table*: itself, and the history that it can have."""
    return (table, history_table(table)) if _has_versions(table) else (table,)


def with_history(table: Table, account: AccountSettings) -> Table:
    """Let the table keep its history, if the account's settings name it."""
    return replace(table, keeps_history=True) if table.name in account.history else table


def problems(tables: Iterable[Table], account: AccountSettings) -> Iterator[str]:
    """Say what cannot be done of the setting ``history`` of an account."""
    known = {table.name: table for table in tables}
    changing = [name for name, table in known.items() if _has_versions(table)]
    for name in account.history:
        if name not in known:
            hint = did_you_mean(name, known) or f". It can name {', '.join(changing)}"
            yield sentence(f"history: there is no table '{name}'{hint}")
        elif isinstance(known[name].read, Inside):
            yield (
                f"history: {name} has no history of its own, since its rows are inside records of"
                f" another table. The tables that can have one are {', '.join(changing)}."
            )
        elif name not in changing:
            yield (
                f"history: {name} holds events, which never change, so that it is its own history."
                f" The tables whose rows change are {', '.join(changing)}."
            )


def _has_versions(table: Table) -> bool:
    return not table.events and not isinstance(table.read, Inside)
