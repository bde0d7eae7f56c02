"""Loads a batch of a table: its records are staged, and merged into the warehouse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.batching import batch_loaded, parts_of
from ometria_replica.drift import Changes
from ometria_replica.errors import NotEnoughMemory
from ometria_replica.failpoints import step
from ometria_replica.following import forget_replaced
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import Staging
from ometria_replica.observer import BatchLoaded, Place, Watch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from ometria_replica.batch import Batch
    from ometria_replica.config import AccountSettings
    from ometria_replica.mapping import Staged
    from ometria_replica.schema import Table
    from ometria_replica.table_reads import Pending, TableRead


def load(read: TableRead, pending: Pending) -> None:
    """Stage and load a batch; in parts, if there is too little memory for the whole of it."""
    watch = Watch()
    try:
        batch, staged = stage(
            read.warehouse.connection, read.account, read.table, pending, read.inside
        )
        mapping_seconds = watch.seconds
        drift = read.drift_in(batch, staged) if read.table.keeps_records else Changes()
        batch = replace(batch, fields=drift.noted)
        forget_replaced(read, batch)
        with translating(f"loading {read.table.name}"):
            loaded = read.warehouse.load(batch)
    except Exception as error:
        place, kind = Place(read.account.source_id, read.table.name), type(error).__name__
        read.run.observe(BatchLoaded(watch.began_at, watch.seconds, place, error=kind))
        parts = pending.in_parts() if isinstance(error, NotEnoughMemory) else ()
        if not parts:
            raise
    else:
        read.run.observe(batch_loaded(watch, mapping_seconds, batch, staged, loaded))
        pending.finish()
        read.progress.add(staged, loaded)
        for name, inside in read.progress_inside.items():
            inside.add(staged.inside[name], loaded.parts[name])
        if read.table.keeps_records:
            read.note_drift(drift)
        return
    for part in parts:
        load(read, part)


def stage(
    connection: DuckDBPyConnection,
    account: AccountSettings,
    table: Table,
    pending: Pending,
    inside: tuple[Table, ...] = (),
) -> tuple[Batch, Staged]:
    """Map records, and the tables *inside* them, into the temporary tables of *connection*."""
    with translating(f"mapping {table.name}", connection):
        staging = Staging(connection, table, account.account_id, account.source_id, inside)
        batch = pending.stage(staging)
        with step("mapping"):
            staged = staging.finish()
            batch = replace(batch, joined_ids=staged.joined_ids, parts=parts_of(staging))
        if batch.is_full:
            staging.collect_keys(afresh=pending.is_first)
        return batch, staged
