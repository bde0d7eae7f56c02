"""Tests everything that a sync needs, without changing anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from ometria_replica import history
from ometria_replica.catalog import CATALOG
from ometria_replica.config import masked
from ometria_replica.duckdb_files import file_name_warning
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    NotFound,
    ReplicaError,
    Unavailable,
    WarehouseError,
)
from ometria_replica.ometria.account_source import AccountSource, setting_missing
from ometria_replica.replication import owner_of, utc_now
from ometria_replica.run_checks import problems_of
from ometria_replica.schema import Feed, Growing, Inside, PerParent
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.trial import try_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.schema import Table

_MOST_FILES = 1000  # Files to count: one page of a bucket's listing.


@dataclass(frozen=True)
class Finding:
    """The result of one test. *error* is None if it passed; *warning* says what to change."""

    what: str
    error: ReplicaError | None = None
    warning: str | None = None


def check(config: Config, *, catalog: Catalog = CATALOG) -> Iterator[Finding]:
    """Test the API key and the bucket of each account, then the warehouse."""
    catalog = catalog.of(config.accounts).with_records(config.accounts)
    for account in config.accounts:
        for what, problem in problems_of(account, catalog):
            yield Finding(f"{account.source_id}: {what}", ConfigError(problem))
        on = catalog.for_account(account)
        for name in account.require:
            if name not in on.names:
                yield Finding(f"{account.source_id}: require", _refusal(catalog, account, name))
        with AccountSource(account, utc_now(), catalog) as source:
            if account.api_key is not None:
                yield from _check_api(account, source, on)
            if account.feed is not None:
                yield from _check_feed(account, source, on)
            for table in on:
                if missing := setting_missing(account, table):
                    needed = f"{account.source_id}: {table.name} is not read: {missing}"
                    is_required = table.name in account.require
                    yield Finding(needed, ConfigError(needed) if is_required else None)
    warning = file_name_warning(config.warehouse.url, catalog)
    where = f"the warehouse {masked(config.warehouse.url)}"
    lost: dict[str, None] = {}
    yield _tested(where, lambda: _open(config, catalog, lost), warning)
    yield from (Finding(f"the rows in {where}", warning=each) for each in lost)


def _refusal(catalog: Catalog, account: AccountSettings, name: str) -> ConfigError | None:
    """Say why a required table cannot be replicated; None if it can."""
    try:
        catalog.of([account]).table(name)
    except ConfigError as error:
        return error
    return None


def _endpoints(account: AccountSettings, catalog: Catalog) -> dict[str, bool]:
    """
    List the endpoints that the tables are read from, each once; of a parent, its own.

    Each with whether a run goes on without it.
    """
    found: dict[str, bool] = {}
    for table in catalog:
        read = table.read
        if isinstance(read, PerParent | Growing) and read.parent:
            read = read.parent
        if not isinstance(read, Feed | Inside):
            can_lack = table.optional and table.name not in account.require
            found[read.endpoint] = found.get(read.endpoint, True) and can_lack
    return found


def _check_api(
    account: AccountSettings, source: AccountSource, catalog: Catalog
) -> Iterator[Finding]:
    refused: list[tuple[bool, Finding]] = []
    endpoints = _endpoints(account, catalog)
    for endpoint, can_lack in endpoints.items():
        finding = _tested(
            f"{account.source_id}: GET {account.api_url}/{endpoint}",
            lambda endpoint=endpoint: _get(source, endpoint),  # type: ignore[misc] # mypy cannot infer a lambda's default.
        )
        if isinstance(finding.error, AccessDenied):
            refused.append((can_lack, finding))
            continue
        if isinstance(finding.error, NotFound) and can_lack:
            finding = _as_warning(finding)
        yield finding
        if isinstance(finding.error, Unavailable):
            break  # Each other endpoint would take as long to fail.
    if refused and len(refused) == len(endpoints):  # The key is wrong: once is enough.
        what = f"{account.source_id}: GET {account.api_url}/{', '.join(endpoints)}"
        refused = [(False, Finding(what, refused[0][1].error))]
    yield from (_as_warning(each) if can_lack else each for can_lack, each in refused)


def _as_warning(finding: Finding) -> Finding:
    """Warn of an optional table that cannot be read, as a sync does."""
    return replace(finding, error=None, warning=f"nothing is read from it: {finding.error}")


def _get(source: AccountSource, endpoint: str) -> str:
    source.client.get(endpoint, {"limit": "1"})
    return "answers"


def _check_feed(
    account: AccountSettings, source: AccountSource, catalog: Catalog
) -> Iterator[Finding]:
    for table in catalog:
        if isinstance(table.read, Feed):
            warnings: list[str] = []
            feed = f"{account.source_id}: the feed {source.feed_name(table)}"
            yield _tested(feed, lambda table=table, found=warnings: _list(source, table, found))  # type: ignore[misc] # As above.
            yield from (Finding(feed, warning=each) for each in warnings)


def _list(source: AccountSource, table: Table, warnings: list[str]) -> str:
    """Add to *warnings* what a sync would warn of."""
    export = source.export(table)
    if export.warning:
        warnings.append(export.warning)
    found = len(list(islice(export.list(), _MOST_FILES)))
    if found == 0:
        if not export.waiting:
            warnings.append(export.nothing_found())
        return "is empty; the next export will be the first"
    return f"holds {found:,} files" if found < _MOST_FILES else f"holds {found:,} files or more"


def _open(config: Config, catalog: Catalog, lost: dict[str, None]) -> str:
    """Add a warning to *lost* for each table whose rows are gone."""
    with open_warehouse(
        config.warehouse.url, catalog=catalog, dry_run=True, limits=config.warehouse.limits
    ) as warehouse:
        warehouse.check_access()
        try_sync(warehouse, _with_histories(config, catalog), utc_now())
        for account in config.accounts:
            lost |= dict.fromkeys(warehouse.prepare(owner_of(account, catalog), utc_now()))
        remark = warehouse.remark()
    return f"can be opened ({remark})" if remark else "can be opened"


def _with_histories(config: Config, catalog: Catalog) -> Catalog:
    """Let each table keep its history, if it does for any account."""
    tables = list(catalog)
    for account in config.accounts:
        tables = [history.with_history(table, account) for table in tables]
    return replace(catalog, tables=tuple(tables))


def _tested(what: str, test: Callable[[], str], warning: str | None = None) -> Finding:
    try:
        return Finding(f"{what} {test()}", warning=warning)
    except ReplicaError as error:
        return Finding(what, error, warning)
    except OSError as error:
        return Finding(what, WarehouseError(f"{type(error).__name__}: {error.strerror}"), warning)
