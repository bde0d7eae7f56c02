"""Tests everything that a sync needs, without changing anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ometria_replica import privacy, raw_records, retention
from ometria_replica.catalog import CATALOG
from ometria_replica.config import masked
from ometria_replica.duckdb_files import file_name_warning
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    ReplicaError,
    Unavailable,
    WarehouseError,
)
from ometria_replica.ometria.account_source import AccountSource, setting_missing
from ometria_replica.replication import owner_of, utc_now
from ometria_replica.schema import Feed, PerParent
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
    catalog = catalog.with_records(config.accounts)
    for account in config.accounts:
        for problem in privacy.problems(catalog, account):
            yield Finding(f"{account.source_id}: the columns", ConfigError(problem))
        for problem in retention.problems(catalog, account):
            yield Finding(f"{account.source_id}: what is kept", ConfigError(problem))
        for problem in raw_records.problems(catalog.for_account(account), account):
            yield Finding(f"{account.source_id}: the records", ConfigError(problem))
        with AccountSource(account, utc_now(), catalog) as source:
            if account.api_key is not None:
                yield from _check_api(account, source, _endpoints(catalog))
            if account.feed is not None:
                yield from _check_feed(account, source, catalog)
            for table in catalog:
                if missing := setting_missing(account, table):
                    needed = f"{account.source_id}: {table.name} is not read: {missing}"
                    is_required = table.name in account.require
                    yield Finding(needed, ConfigError(needed) if is_required else None)
    warning = file_name_warning(config.warehouse.url, catalog)
    where = f"the warehouse {masked(config.warehouse.url)}"
    lost: dict[str, None] = {}
    yield _tested(where, lambda: _open(config, catalog, lost), warning)
    yield from (Finding(f"the rows in {where}", warning=each) for each in lost)


def _endpoints(catalog: Catalog) -> list[str]:
    """List the endpoints that the tables are read from, each once; of a parent, its own."""
    reads = (t.read.parent if isinstance(t.read, PerParent) else t.read for t in catalog)
    return list(dict.fromkeys(read.endpoint for read in reads if not isinstance(read, Feed)))


def _check_api(
    account: AccountSettings, source: AccountSource, endpoints: list[str]
) -> Iterator[Finding]:
    refused: list[Finding] = []
    for endpoint in endpoints:
        finding = _tested(
            f"{account.source_id}: GET {account.api_url}/{endpoint}",
            lambda endpoint=endpoint: _get(source, endpoint),  # type: ignore[misc] # mypy cannot infer a lambda's default.
        )
        if isinstance(finding.error, AccessDenied):
            refused.append(finding)
            continue
        yield finding
        if isinstance(finding.error, Unavailable):
            break  # Each other endpoint would take as long to fail.
    if refused and len(refused) == len(endpoints):  # The key is wrong: once is enough.
        what = f"{account.source_id}: GET {account.api_url}/{', '.join(endpoints)}"
        refused = [Finding(what, refused[0].error)]
    yield from refused


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
        try_sync(warehouse, catalog, utc_now())
        for account in config.accounts:
            lost |= dict.fromkeys(warehouse.prepare(owner_of(account, catalog), utc_now()))
        remark = warehouse.remark()
    return f"can be opened ({remark})" if remark else "can be opened"


def _tested(what: str, test: Callable[[], str], warning: str | None = None) -> Finding:
    try:
        return Finding(f"{what} {test()}", warning=warning)
    except ReplicaError as error:
        return Finding(what, error, warning)
    except OSError as error:
        return Finding(what, WarehouseError(f"{type(error).__name__}: {error.strerror}"), warning)
