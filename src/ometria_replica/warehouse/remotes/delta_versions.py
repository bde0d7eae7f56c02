"""
Remove the old versions of a Delta table: their files, and the entries of the log about them.

The log holds values too: the lowest and the highest of each column of a file, and the predicates
of commits. So a checkpoint takes its place.
"""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, PyFileSystem

from ometria_replica.failpoints import step
from ometria_replica.warehouse.remotes.lake import ABANDONED

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = "_delta_log"
_UNFINISHED = re.compile(r"#\d+$")
_VERSION = re.compile(r"(\d{20})\.")


def remove_old_versions(place: str, options: dict[str, str] | None) -> int:
    """
    Keep the newest version only; return how many younger files that belong to none were left.

    Readers of an older version fail from now on, and so does one that is just opening the table
    by the log: it succeeds when it tries again.
    """
    table = DeltaTable(place, storage_options=options)
    with step("vacuum"):
        for hours, full in ((0, False), (ABANDONED // timedelta(hours=1), True)):
            table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full)
    table = DeltaTable(place, storage_options=options)
    with step("checkpoint"):
        table.create_checkpoint()
    files = PyFileSystem(DeltaStorageHandler(place, options))
    newest = table.version()
    for name in _changed_rows(files, newest):
        files.delete_file(name)
    for name in _entries(files, below=newest):  # Oldest first: the log never begins in a gap.
        with step("log"):
            files.delete_file(name)
    young = 0 if options else _remove_unfinished(Path(place))
    table = DeltaTable(place, storage_options=options)  # The one above would read the log again.
    unused, removed = (
        set(table.vacuum(0, dry_run=True, enforce_retention_duration=False, full=full))
        for full in (True, False)  # Both name files that the log says were removed.
    )
    return len(unused - removed) + young


def _remove_unfinished(folder: Path) -> int:
    """
    Remove what killed writes have left in a folder; return how many younger files there are.

    The driver writes a file as ``NAME#1`` and renames it, and does not list such files.
    """
    unfinished = [file for file in folder.rglob("*#*") if _UNFINISHED.search(file.name)]
    old = [
        file
        for file in unfinished
        if file.stat().st_mtime < time.time() - ABANDONED.total_seconds()
    ]
    for file in old:
        file.unlink()
    return len(unfinished) - len(old)


def _entries(files: PyFileSystem, below: int) -> list[str]:
    """List the files of the log that are about versions *below* one, in their order."""
    found = files.get_file_info(FileSelector(_LOG))
    return sorted(
        each.path
        for each in found
        if (version := _VERSION.match(each.base_name)) and int(version[1]) < below
    )


def _changed_rows(files: PyFileSystem, newest: int) -> Iterator[str]:
    """Name the files of a change data feed, which hold deleted rows, if a user has enabled it."""
    for name in _entries(files, below=newest + 1):
        if name.endswith(".json"):
            with files.open_input_file(name) as file:
                actions = [json.loads(line) for line in file.read().splitlines()]
            for action in actions:
                path = action.get("cdc", {}).get("path")
                if path and files.get_file_info(path).is_file:
                    yield path
