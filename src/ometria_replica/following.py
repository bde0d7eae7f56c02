"""Follows the erasures of Ometria: its deletion requests, and the addresses that it replaced."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from ometria_replica.errors import AccessDenied, UnexpectedResponse
from ometria_replica.more_tables import DELETION_REQUESTS_ENDPOINT
from ometria_replica.privacy import secret_for
from ometria_replica.run_context import TableProgress, new_id
from ometria_replica.warehouse.erasure.erasures import Wanted
from ometria_replica.warehouse.state_tables import DELETION_REQUESTS
from ometria_replica.ways_to_read import Pages

if TYPE_CHECKING:
    from ometria_replica.batch import Batch, DeletionRequest
    from ometria_replica.config import AccountSettings
    from ometria_replica.errors import OmetriaError
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.run_context import RunContext
    from ometria_replica.run_results import Results
    from ometria_replica.schema import Table
    from ometria_replica.table_reads import TableRead
    from ometria_replica.warehouse.warehouse import Warehouse


READ_EVERY = timedelta(days=1)
"""Ometria allows six requests a minute, and takes up to 14 days for a deletion request."""


def note_deletion_requests(
    run: RunContext,
    results: Results,
    warehouse: Warehouse,
    account: AccountSettings,
    source: AccountSource,
    *,
    refusal: OmetriaError | None = None,
) -> None:
    """
    Read and note the deletion requests of an account that follows erasures, once a day.

    Where a table has read them in this run, the source has them, or *refusal* says why not: then
    no request is sent. Not in a dry run, which could note nothing. If the key may not read them,
    or Ometria answers otherwise than it documents, the report warns of it: nothing else depends
    on them.
    """
    source_id, call = account.source_id, run.threads.call
    if warehouse.sessions.dry_run or not call(partial(requests_are_due, run, warehouse, account)):
        return
    progress = TableProgress(run, results, account, DELETION_REQUESTS.name)
    requests: list[DeletionRequest] = []
    with progress.reported(lambda: source.requests, lambda: source.rate_limited):
        try:
            if refusal is not None:
                raise refusal
            requests = source.deletion_requests()
        except (AccessDenied, UnexpectedResponse) as error:
            progress.warn(f"they could not be read: {error}")
        progress.count(records=len(requests))
        note = warehouse.deletion_requests.note
        call(partial(note, source_id, requests, run.started_at, run.run_id))


def reads_deletion_requests(table: Table) -> bool:
    """Whether the records of *table* are the deletion requests."""
    read = table.read
    return isinstance(read, Pages) and read.endpoint == DELETION_REQUESTS_ENDPOINT.endpoint


def requests_are_due(run: RunContext, warehouse: Warehouse, account: AccountSettings) -> bool:
    """Whether the run reads the deletion requests of an account."""
    if not account.follow_erasures or account.api_key is None:
        return False
    read_at = warehouse.deletion_requests.read_at(account.source_id)
    return read_at is None or not timedelta() <= run.started_at - read_at < READ_EVERY


def forget_replaced(read: TableRead, batch: Batch) -> None:
    """
    Erase what is held of the addresses that Ometria has replaced in the staged profiles.

    Before the batch is loaded: then the old address would be gone. For tables that are read
    later in the run, the address is suppressed.
    """
    now, account = read.run.clock(), read.account
    wanted = Wanted(account.source_id, read.tables, frozenset(), secret_for(account))
    lease = partial(read.run.lease, account.source_id)
    rows = read.warehouse.replaced_addresses.forget(batch, wanted, now, new_id(now), lease)
    read.progress.count(erased=rows)


def forget_what_is_left(warehouse: Warehouse, account: AccountSettings) -> None:
    """Remove what erased rows have left in the storage, if that was not done yet."""
    if not account.follow_erasures or warehouse.sessions.dry_run:
        return
    receipts = warehouse.receipts.of(account.source_id)
    if not any(receipt.finished_at and receipt.remains is None for receipt in receipts):
        return
    warehouse.forget_erased([account.source_id])
