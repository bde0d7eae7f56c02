"""Maintain an Iceberg table: write small files together, and remove old versions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pyiceberg.conversions import from_bytes
from pyiceberg.types import PrimitiveType

from ometria_replica.failpoints import step
from ometria_replica.warehouse.remotes.iceberg_rewrite import join_files
from ometria_replica.warehouse.remotes.iceberg_versions import (
    AT_ONCE,
    expire,
    remove_files,
    remove_old_versions,
    remove_unnamed,
    replaced_before,
    unneeded,
)
from ometria_replica.warehouse.remotes.lake_format import RETENTION, abandoned
from ometria_replica.warehouse.upkeep import (
    OVERDUE,
    Due,
    Files,
    Maintained,
    Upkeep,
    joinable,
    surplus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyiceberg.table import FileScanTask, Table
    from pyiceberg.table.snapshots import Snapshot

JOINED_BYTES = 16 * 2**20
"""Of small files that become one, whose rows are several times as many bytes in memory."""

_MOST_AGE = "history.expire.max-snapshot-age-ms"
_LEAST_KEPT = "history.expire.min-snapshots-to-keep"


def maintain(table: Table, name: str, upkeep: Upkeep, by: str | None) -> Maintained:
    """
    Do what *upkeep* orders to a table. It is done whole, or goes on the next time.

    *by* is the column of time by which files lie one after the other; None for their order.
    """
    done = Maintained(name, before=Files.of(_size(task) for task in table.scan().plan_files()))
    if upkeep.optimize and not table.spec().is_unpartitioned():
        stays = "small files, since it is partitioned: Spark's rewrite_data_files joins them"
        done = replace(done, stays=(stays,))
    elif upkeep.optimize:
        done = _foreseen(done, table, by) if upkeep.dry_run else _joined(done, table, by)
    retention = retention_of(table, upkeep)
    if upkeep.dry_run:
        old = {each.snapshot_id for each in _old(table, retention)}
        removed = _measured(table, unneeded(table, old))
        return replace(done, removed=removed if retention else removed + done.joined)
    if not retention:
        before = _measured(table, unneeded(table, _unneeded_now(table)))
        stays_too = remove_old_versions(table)
        return replace(done, removed=before, stays=(*done.stays, *stays_too))
    removed = Files()
    while old_versions := _old(table, retention)[:AT_ONCE]:
        names = expire(table, {each.snapshot_id for each in old_versions})
        removed += _measured(table, names)
        remove_files(table, names)
    young = remove_unnamed(table)
    return replace(
        done, removed=removed, stays=(*done.stays, *([abandoned(young)] if young else []))
    )


def due(table: Table, name: str, files: Files) -> Due | None:
    """Return whether maintenance of a table with *files* is due, by its metadata alone."""
    newest = table.current_snapshot()
    summary = newest.summary if newest is not None else None
    can_join = table.spec().is_unpartitioned() and (
        summary is None or summary["total-delete-files"] in {None, "0"}
    )
    old = _old(table, retention_of(table, Upkeep()) + OVERDUE)
    small = surplus(files, JOINED_BYTES) if can_join else 0
    return Due.found(name, files.count, small, len(old))


def retention_of(table: Table, upkeep: Upkeep) -> timedelta:
    """Return for how long versions stay: a property of the table may ask for more than a week."""
    if upkeep.retention is not None:
        return upkeep.retention
    asked = table.properties.get(_MOST_AGE, "0")
    return max(RETENTION, timedelta(milliseconds=int(asked) if asked.isdigit() else 0))


def _old(table: Table, retention: timedelta) -> list[Snapshot]:
    """Return the versions that were replaced so long ago, oldest first, but for the last few."""
    least = table.properties.get(_LEAST_KEPT, "1")
    kept = int(least) if retention and least.isdigit() else 1
    newest = sorted(each.timestamp_ms for each in table.snapshots())[-max(kept, 1) :]
    before = datetime.now(UTC) - retention
    return [each for each in replaced_before(table, before) if each.timestamp_ms not in newest]


def _unneeded_now(table: Table) -> set[int]:
    return {each.snapshot_id for each in replaced_before(table, datetime.now(UTC))}


def _groups(table: Table, by: str | None) -> Iterator[list[FileScanTask]]:
    """Group small files that lie one after the other; those with deletes by file are left out."""
    tasks = [task for task in table.scan().plan_files() if not task.delete_files]
    if by is not None and by in table.schema().column_names:
        tasks.sort(key=lambda task: _lowest(table, task, by))
    yield from joinable(tasks, _size, JOINED_BYTES)


def _lowest(table: Table, task: FileScanTask, by: str) -> int:
    """Return the lowest time in a file, in microseconds; -1 for one without times."""
    field = table.schema().find_field(by)
    bound = (task.file.lower_bounds or {}).get(field.field_id)
    if bound is None or not isinstance(field.field_type, PrimitiveType):
        return -1
    return int(from_bytes(field.field_type, bound))


def _size(task: FileScanTask) -> int:
    return int(task.file.file_size_in_bytes)


def _foreseen(done: Maintained, table: Table, by: str | None) -> Maintained:
    for group in _groups(table, by):
        done = done.adding(Files.of(map(_size, group)), Files(1))
    return done


def _joined(done: Maintained, table: Table, by: str | None) -> Maintained:
    """Write each group in a commit of its own, so that an interrupted run has lost no more."""
    while group := next(_groups(table, by), None):
        with step("optimize"):
            new = join_files(table, group)
        done = done.adding(
            Files.of(map(_size, group)), Files.of(int(file.file_size_in_bytes) for file in new)
        )
    return done


def _measured(table: Table, names: Iterable[str]) -> Files:
    """Measure the files that are there."""
    sizes = []
    for name in names:
        try:
            sizes.append(len(table.io.new_input(name)))
        except FileNotFoundError:
            continue
    return Files.of(sizes)
