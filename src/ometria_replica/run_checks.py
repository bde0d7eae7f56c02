"""What a run can do of what it is asked to do, before anything is contacted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date
from typing import TYPE_CHECKING

from ometria_replica import history, privacy, retention
from ometria_replica.errors import ConfigError
from ometria_replica.ometria.account_source import setting_missing
from ometria_replica.text import names_of
from ometria_replica.ways_to_read import Feed, Inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.run_context import Window
    from ometria_replica.schema import Table


@dataclass(frozen=True)
class Scope:
    """
    What a run reads: the tables *chosen* of *catalog*, those in *window*, at the time *now*.

    The catalog holds every table that an account has switched on.
    """

    catalog: Catalog
    chosen: Catalog
    window: Window
    now: datetime

    def of(self, account: AccountSettings) -> Catalog:
        """Give the tables of an account in the order of reading, each with what it keeps."""
        of_account = self.chosen.for_account(account)
        return replace(
            of_account,
            tables=tuple(
                retention.retained(table, account, self.now)
                for table in of_account.in_reading_order
            ),
        )

    def readable(
        self, account: AccountSettings, tables: Catalog
    ) -> Iterator[tuple[Table, str | None]]:
        """Give those to read, each with why the account cannot; without those that are inside."""
        for table in tables:
            if not isinstance(table.read, Inside):  # It is read with its parent.
                reason = setting_missing(account, table) or not_kept(table, self.window)
                yield table, reason


def scope_of(
    config: Config, tables: Sequence[str], window: Window, catalog: Catalog, now: datetime
) -> Scope:
    """
    Find what a run reads that is asked for *tables*, none for all, within *window*.

    Raises ConfigError, before anything is contacted, for what cannot be done.
    """
    catalog, tables = catalog.of(config.accounts).with_records(config.accounts), names_of(tables)
    chosen = catalog.read_with(tables)
    refuse_contradictions(window)
    refuse_what_is_not_set(config, catalog, tables)
    since = window.since
    window = replace(window, since=reachable(since), until=reachable(window.until))
    refuse_future(since, now)
    refuse_what_is_not_kept(config, chosen, window, now)
    return Scope(catalog, chosen, window, now)


def refuse_contradictions(window: Window) -> None:
    """Raise ConfigError for a window whose parts contradict each other."""
    if window.is_partial and (window.full or window.detect_deletes):
        raise ConfigError(
            "--since and --until read a part of a table, --full and --detect-deletes all of it."
            " Leave out one or the other."
        )
    if window.since and window.until and window.since > window.until:
        raise ConfigError(f"The first day, {window.since}, is after the last one, {window.until}.")


def problems_of(account: AccountSettings, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Say what cannot be done of the settings of an account, each with what it is about."""
    found = {
        "the columns": (
            *privacy.problems(catalog.every, account),
            *privacy.problems_inside(catalog.for_account(account)),
        ),
        "the tables": tuple(catalog.of([account]).problems()),
        "what is kept": tuple(retention.problems(catalog.every, account)),
        "the history": tuple(history.problems(catalog.every, account)),
        "the records": tuple(catalog.record_problems(account)),
    }
    for what, problems in found.items():
        for problem in problems:
            yield what, problem


def refuse_what_is_not_set(config: Config, catalog: Catalog, named: Sequence[str]) -> None:
    """Raise ConfigError if no account can read a named table, or one lacks what it requires."""
    missing = {
        (account.source_id, table.name): setting_missing(account, table)
        for account in config.accounts
        for table in catalog
    }
    problems = [
        f"{name}: cannot be read: {missing[config.accounts[0].source_id, name]}."
        for name in named
        if all(missing[account.source_id, name] for account in config.accounts)
    ]
    problems += [
        f"{table.name}: required for '{account.source_id}', but {reason}."
        for account in config.accounts
        for table in (catalog.of([account]).only(account.require) if account.require else ())
        if (reason := missing[account.source_id, table.name])
    ]
    problems += [
        f"{account.source_id}: {problem}"
        for account in config.accounts
        for _, problem in problems_of(account, catalog)
    ]
    if problems:
        raise ConfigError(problems)


def refuse_what_is_not_kept(config: Config, tables: Catalog, window: Window, now: datetime) -> None:
    """
    Raise ConfigError if *window* begins before anything that is kept of any table.

    If others of the tables keep rows for longer, what is asked for can be done of these, and the
    read of the rest begins with what is kept: to refuse it would lose the others too.
    """
    first = window.since or window.until
    if first is None:
        return
    kept = {
        (account.source_id, table.name): retention.oldest_day(
            retention.retained(table, account, now), first
        )
        for account in config.accounts
        for table in tables
        if setting_missing(account, table) is None
    }
    if kept and all(first < day for day in kept.values()):
        raise ConfigError(
            f"{first} is before what retain keeps of {name} of '{source_id}': it keeps rows from"
            f" {day} on, and would remove older ones. Begin on that day, or change the setting."
            for (source_id, name), day in kept.items()
        )


def refuse_future(since: date | None, now: datetime) -> None:
    """Raise ConfigError for a day from which on nothing can have happened yet."""
    today = now.astimezone(UTC).date()
    if since is not None and since > today:
        raise ConfigError(f"{since} is in the future: today is {today} in UTC. Check the year.")


def reachable(day: date | None) -> date | None:
    """Limit a day to times before and after which there is a margin for look-backs."""
    return None if day is None else min(max(day, date(1970, 1, 1)), date(9000, 1, 1))


def has_both(account: AccountSettings, tables: Catalog) -> bool:
    """Whether an account has tables of the API and of the feed to read."""
    of_account = tables.for_account(account)
    readable = [table for table in of_account if setting_missing(account, table) is None]
    return len({isinstance(table.read, Feed) for table in readable}) > 1


def not_kept(table: Table, window: Window) -> str | None:
    """Say that none of the days that are asked for is kept; None if one is."""
    if window.until is None or window.until >= retention.oldest_day(table, window.until):
        return None
    return "retain keeps none of these days"
