"""Try everything that a sync will need, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.errors import ReplicaError, Unavailable, WarehouseError
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.replication import owner_of, utc_now
from ometria_replica.schema import Feed
from ometria_replica.settings import masked
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_replica.settings import AccountSettings, Config

_LISTED = 1000  # Files counted at the most: one page of a bucket's listing.
_FEED_TABLE = next(table for table in CATALOG if isinstance(table.read, Feed))


@dataclass(frozen=True)
class Finding:
    """One thing that was tried. *error* is None where it went well."""

    what: str
    error: ReplicaError | None = None


def check(config: Config) -> Iterator[Finding]:
    """Try each account's key and bucket, then the warehouse; one finding at a time."""
    for account in config.accounts:
        with AccountSource(account, utc_now()) as inputs:
            if account.api_key is not None:
                yield from _check_api(account, inputs)
            if account.feed is not None:
                yield _tried(
                    f"{account.source_id}: the feed {account.feed.url}", lambda: _list(inputs)
                )
    yield _tried(f"the warehouse {masked(config.warehouse.url)}", lambda: _open(config))


def _check_api(account: AccountSettings, inputs: AccountSource) -> Iterator[Finding]:
    for endpoint in ("profiles", "lists", "unsubscribes"):
        finding = _tried(
            f"{account.source_id}: GET {account.api_url}/{endpoint}",
            lambda endpoint=endpoint: _get(inputs, endpoint),  # type: ignore[misc] # mypy cannot infer a lambda's default.
        )
        yield finding
        if isinstance(finding.error, Unavailable):
            return  # The others would be waited for as long.


def _get(inputs: AccountSource, endpoint: str) -> str:
    inputs.client.get(endpoint, {"limit": "1"})
    return "answers"


def _list(inputs: AccountSource) -> str:
    found = len(list(islice(inputs.export(_FEED_TABLE).list(), _LISTED)))
    if found == 0:
        return "is empty; the next export will be the first"
    return f"holds {found:,} files" if found < _LISTED else f"holds {found:,} files or more"


def _open(config: Config) -> str:
    with open_warehouse(config.warehouse.url, dry_run=True) as warehouse:
        warehouse.try_access()
        for account in config.accounts:
            warehouse.prepare(owner_of(account), utc_now())
    return "can be opened"


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(f"{what} {attempt()}")
    except ReplicaError as error:
        return Finding(what, error)
    except OSError as error:
        return Finding(what, WarehouseError(f"{type(error).__name__}: {error.strerror}"))
