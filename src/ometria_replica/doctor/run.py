"""Runs the tests of ``check``, in the order in which their results are read."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import Config
from ometria_replica.doctor.api import check_api
from ometria_replica.doctor.areas import started
from ometria_replica.doctor.feed import FeedFacts, check_feed
from ometria_replica.doctor.findings import Finding, failed, tested
from ometria_replica.doctor.machine import Load, check_disks, check_memory, places
from ometria_replica.doctor.program import check_extra, check_observers, check_program
from ometria_replica.doctor.settings import check_settings, doubts, problems
from ometria_replica.doctor.warehouse import check_warehouse, folder_of
from ometria_replica.errors import ConfigError, Unavailable
from ometria_replica.log_context import logging_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, WarehouseSettings

SOURCES_WITHIN = 120.0
"""Seconds for the APIs and the feeds of all accounts, which are tested at once."""

AT_ONCE = 8
"""APIs and feeds. Those of more accounts wait."""

UNFINISHED: Final = "check.unfinished"


def check(
    config: Config,
    *,
    warnings: Iterable[str] = (),
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> Iterator[Finding]:
    """
    Test the program, the settings, the accounts, the warehouse and the machine.

    What fails does not keep the others from being tested. Nothing is written anywhere, but for
    temporary files. *warnings* are those of loading the settings.
    """
    yield from check_program()
    yield from check_extra(config.warehouse.url)
    yield from check_observers(config)
    try:
        catalog = catalog.of(config.accounts).with_records(config.accounts)
    except ConfigError as error:
        yield from problems(error)
        catalog = catalog.every.with_records(config.accounts)
        config = replace(
            config, accounts=tuple(replace(each, tables=None) for each in config.accounts)
        )
    yield from check_settings(config, catalog)
    yield from doubts(warnings)
    facts: list[FeedFacts] = []
    for result in _sources(config, catalog, clock):
        if isinstance(result, FeedFacts):
            facts.append(result)
        else:
            yield result
    yield from _warehouse(config.warehouse, check_warehouse(config, catalog, facts, clock()))


def check_without(
    error: ConfigError, warehouse: WarehouseSettings | None, warnings: Iterable[str] = ()
) -> Iterator[Finding]:
    """
    Tell every problem of settings that are wrong, and test what does not need them.

    *warehouse* is None if its own settings are wrong.
    """
    yield from check_program()
    yield from check_extra(warehouse.url) if warehouse else ()
    yield from problems(error)
    yield from doubts(warnings)
    if warehouse is not None:
        config, catalog = Config((), warehouse), CATALOG.of(())
        yield from _warehouse(warehouse, check_warehouse(config, catalog, (), utc_now()))


def _warehouse(settings: WarehouseSettings, results: Iterable[Finding | Load]) -> Iterator[Finding]:
    """Test the warehouse, and then the disks against what it still has to load."""
    loads: list[Load] = []
    for result in results:
        if isinstance(result, Load):
            loads.append(result)
        else:
            yield result
    yield from tested("machine.memory", "The memory is not known.",
                      lambda: check_memory(settings.limits))  # fmt: skip
    folders = partial(places, folder_of(settings.url), settings.limits, loads)
    yield from tested("machine.disk", "What is free on the disk is not known.",
                      lambda: check_disks(folders()))  # fmt: skip


def _sources(
    config: Config, catalog: Catalog, clock: Callable[[], datetime]
) -> Iterator[Finding | FeedFacts]:
    """Test the API and the feed of each account, all at once, and give the results in order."""
    named: list[tuple[AccountSettings, str]] = []
    tests: list[Callable[[], Iterable[Finding | FeedFacts]]] = []
    for account in config.accounts:
        on = catalog.for_account(account)
        if account.api_key is not None:
            named.append((account, "the API"))
            tests.append(partial(check_api, account, on, clock))
        if account.feed is not None:
            named.append((account, "the feed"))
            tests.append(partial(check_feed, account, on, config.warehouse.limits, clock))
    ends_at = time.monotonic() + SOURCES_WITHIN
    safe = [
        partial(_safely, account, what, test)
        for (account, what), test in zip(named, tests, strict=True)
    ]
    for (account, what), area in zip(named, started(safe, AT_ONCE), strict=True):
        unfinished = failed(
            UNFINISHED, f"The tests of {what} did not end within {SOURCES_WITHIN:.0f} seconds.",
            Unavailable(f"{what} of {account.source_id} is slow, or does not answer."),
            "Try again later. If it happens again, check the address and the network.",
        )  # fmt: skip
        for result in area.results(ends_at, unfinished):
            is_finding = isinstance(result, Finding)
            yield replace(result, source_id=account.source_id) if is_finding else result


def _safely(
    account: AccountSettings, what: str, test: Callable[[], Iterable[Finding | FeedFacts]]
) -> Iterator[Finding | FeedFacts]:
    """Turn an error that ends *test* into a finding, so that its area ends."""
    facts: list[FeedFacts] = []

    def findings() -> Iterator[Finding]:
        for result in test():
            if isinstance(result, Finding):
                yield result
            else:
                facts.append(result)

    with logging_for(account=account.source_id):
        yield from tested("check.failed", f"The tests of {what} ended early.", findings)
        yield from facts
