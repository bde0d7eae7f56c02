"""How long an account's settings keep the rows of each table: ``retain``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING

from ometria_replica.config import sentence
from ometria_replica.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, datetime

    from ometria_replica.config import AccountSettings
    from ometria_replica.schema import Table


def retained(table: Table, account: AccountSettings, now: datetime) -> Table:
    """Give the table the oldest time that the account's settings keep at *now*, if they do."""
    for retention in account.retain:
        if retention.table_name == table.name and table.time:
            return replace(table, oldest=retention.oldest(now))
    return table


def problems(tables: Iterable[Table], account: AccountSettings) -> Iterator[str]:
    """Say what cannot be done of the setting ``retain`` of an account."""
    times = {table.name: table.time for table in tables}
    timed = [name for name, time in times.items() if time]
    for name in (retention.table_name for retention in account.retain):
        if name not in times:
            hint = did_you_mean(name, times) or f". The tables with a time are {', '.join(timed)}"
            yield sentence(f"retain: there is no table '{name}'{hint}")
        elif name not in timed:
            yield (
                f"retain: {name} has no column with the time of an event, by which rows grow old."
                f" The tables that have one are {', '.join(timed)}."
            )


def clipped(table: Table, since: date | None) -> date | None:
    """
    Return the day from which on a read that begins on *since* can bring rows that are kept.

    None for a read without a first day: then what is too old is left out where it is mapped.
    """
    if since is None or table.oldest is None:
        return since
    return max(since, oldest_day(table, since))


def oldest_day(table: Table, otherwise: date) -> date:
    """Return the first day of which rows are kept; *otherwise* if all are."""
    return table.oldest.astimezone(UTC).date() if table.oldest else otherwise
