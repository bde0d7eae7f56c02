"""Maintain a Delta table: write small files together, and remove old versions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable, WriterProperties
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileType, PyFileSystem

from ometria_replica.failpoints import step
from ometria_replica.warehouse.remotes.delta_versions import (
    old_commits,
    remove_old_versions,
    shorten,
    unused_files,
)
from ometria_replica.warehouse.remotes.lake_format import RETENTION, abandoned
from ometria_replica.warehouse.upkeep import OVERDUE, Due, Files, Maintained, Upkeep, joinable

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE_BYTES = 32 * 2**20
"""Of a new file: about a day of 100,000 events. A touched file is written anew, whole."""
WRITER = WriterProperties(compression="ZSTD", max_row_group_size=65_536)
"""A group of rows is read into memory whole; by default it has a million."""

_AT_ONCE = timedelta(minutes=1)  # Work that is committed: an interrupted run has lost no more.
_INTERVAL = re.compile(r"interval\s+(\d+)\s+(second|minute|hour|day|week)s?", re.IGNORECASE)
_KEPT = "delta.deletedFileRetentionDuration"

_Sizes = dict[tuple[Any, ...], list[int]]
"""The sizes of files by the values of their partition, which has none in a table without."""


def maintain(place: str, options: dict[str, str] | None, name: str, upkeep: Upkeep) -> Maintained:
    """Do what *upkeep* orders to the table *name*. It is done whole, or goes on the next time."""
    table = DeltaTable(place, storage_options=options)
    files = PyFileSystem(DeltaStorageHandler(place, options))
    retention = retention_of(table, upkeep)
    sizes = _sizes(table)
    done = _before(name, sizes)
    if upkeep.optimize:
        done = _foreseen(done, sizes) if upkeep.dry_run else _joined(done, table)
    table = DeltaTable(place, storage_options=options)
    removed = _existing(files, place, unused_files(table, retention))
    if upkeep.dry_run:
        if not retention:
            removed += done.joined
        return replace(done, removed=removed)
    if not retention:
        young = remove_old_versions(place, options)
        return replace(done, removed=removed, stays=(abandoned(young),) if young else ())
    shorten(place, options, retention)
    return replace(done, removed=removed)


def due(table: DeltaTable, place: str, options: dict[str, str] | None, name: str) -> Due | None:
    """Return whether maintenance of a table is due, by its log, and few of its files."""
    files = PyFileSystem(DeltaStorageHandler(place, options))
    sizes = _sizes(table)
    done = _foreseen(_before(name, sizes), sizes)
    old = old_commits(files, retention_of(table, Upkeep()) + OVERDUE)
    return Due.found(name, done.before.count, done.joined.count - done.written.count, old)


def retention_of(table: DeltaTable, upkeep: Upkeep) -> timedelta:
    """Return for how long versions stay: a property of the table may ask for more than a week."""
    if upkeep.retention is not None:
        return upkeep.retention
    found = _INTERVAL.fullmatch(str(table.metadata().configuration.get(_KEPT, "")).strip())
    asked = timedelta(**{f"{found[2].lower()}s": int(found[1])}) if found else timedelta()
    return max(RETENTION, asked)


def _before(name: str, sizes: _Sizes) -> Maintained:
    return Maintained(name, before=Files.of(chain.from_iterable(sizes.values())))


def _sizes(table: DeltaTable) -> _Sizes:
    actions = table.get_add_actions(flatten=True)
    of_partition = [name for name in actions.schema.names if name.startswith("partition.")]
    sizes: _Sizes = {}
    for size, *values in zip(
        *(actions[name].to_pylist() for name in ("size_bytes", *of_partition)), strict=True
    ):
        sizes.setdefault(tuple(values), []).append(int(size))
    return sizes


def _foreseen(done: Maintained, sizes: _Sizes) -> Maintained:
    for of_partition in sizes.values():
        for group in joinable(of_partition, int, FILE_BYTES):
            done = done.adding(Files.of(group), Files(1))
    return done


def _joined(done: Maintained, table: DeltaTable) -> Maintained:
    """Write small files together, one after the other: memory holds parts of one."""
    while True:
        with step("optimize"):
            found = table.optimize.compact(
                target_size=FILE_BYTES,
                max_concurrent_tasks=1,
                min_commit_interval=_AT_ONCE,
                writer_properties=WRITER,
            )
        old, new = (
            Files(found[f"numFiles{what}"], _total(found[f"files{what}"]))
            for what in ("Removed", "Added")
        )
        if not old.count:  # Files that were apart may now lie one after the other.
            return done
        done = done.adding(old, new)


def _total(metrics: str | dict[str, Any]) -> int:
    """Return the bytes of files, of which delta-rs writes JSON within JSON."""
    found = json.loads(metrics) if isinstance(metrics, str) else metrics
    return int(found["totalSize"])


def _existing(files: PyFileSystem, place: str, names: Iterable[str]) -> Files:
    """Measure the files that are there: the log names them also after a vacuum."""
    inside = [name.removeprefix(place).lstrip("/") for name in names]
    found = files.get_file_info(inside) if inside else []
    return Files.of(each.size or 0 for each in found if each.type == FileType.File)
