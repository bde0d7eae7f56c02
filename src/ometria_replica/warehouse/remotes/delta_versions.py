"""
Remove the old versions of a Delta table: their files, and the entries of the log about them.

The log holds values too: the lowest and the highest of each column of a file, and the predicates
of commits. So a checkpoint takes its place.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, PyFileSystem

from ometria_replica.failpoints import step
from ometria_replica.warehouse.remotes.lake_format import ABANDONED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow.fs import FileInfo

COMMITS = 10  # After which it pays to shorten the log: a reader reads all since a checkpoint.

LOOKED_AT = 8  # Of old commits, and of files that they replaced: a request each.

_KEPT_NOTES = "delta.deletedFileRetentionDuration"
STATE_PROPERTIES = {_KEPT_NOTES: "interval 1 hours"}
"""
Properties of a table of the state: for how long its checkpoints note a file that was removed.

Afterwards a vacuum of all files finds one that is still there.
"""

_LOG = "_delta_log"
_UNFINISHED = re.compile(r"#\d+$")
_VERSION = re.compile(r"(\d{20})\.")
_CHECKPOINT = re.compile(r"\d{20}\.checkpoint\.")


def keep_small(place: str, options: dict[str, str] | None, older_than: timedelta) -> None:
    """
    Remove versions that were replaced that long ago, if there are COMMITS since the last time.

    See :func:`shorten`.
    """
    files = PyFileSystem(DeltaStorageHandler(place, options))
    table = DeltaTable(place, storage_options=options)
    if table.version() - _last_checkpoint(files) < COMMITS:
        return
    if _KEPT_NOTES not in table.metadata().configuration:  # Of an earlier release.
        table.alter.set_table_properties(STATE_PROPERTIES)
    shorten(place, options, older_than)


def shorten(place: str, options: dict[str, str] | None, older_than: timedelta) -> None:
    """
    Remove the files that were replaced that long ago, and the log of that time.

    A version that is younger can still be read: by the newest checkpoint before it, and the log
    since.
    """
    _vacuum(DeltaTable(place, storage_options=options), older_than)
    files = PyFileSystem(DeltaStorageHandler(place, options))
    if DeltaTable(place, storage_options=options).version() > _last_checkpoint(files):
        _checkpoint(place, options)
    entries = _log(files)
    before = datetime.now(UTC) - older_than
    ends = [_version(each) for each in entries if _is_checkpoint(each) and _is_before(each, before)]
    for each in entries:
        if _version(each) < max(ends, default=0):
            with step("log"):
                files.delete_file(each.path)


def unused_files(table: DeltaTable, older_than: timedelta) -> set[str]:
    """Name the files that a removal of versions which were replaced that long ago removes."""
    return {
        name
        for hours, full in _ages(older_than)
        for name in table.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=full)
    }


def old_commits(files: PyFileSystem, older_than: timedelta) -> int:
    """
    Count the commits of the log that are that old, if files that they replaced are still there.

    It lists the log, as each open of the table does, and looks at files of the last few.
    """
    before = datetime.now(UTC) - older_than
    old = [
        each
        for each in _log(files)
        if each.base_name.endswith(".json") and _is_before(each, before)
    ]
    replaced = [
        unquote(str(action["remove"]["path"]))
        for each in old[-LOOKED_AT:]
        for action in _actions(files, each)
        if "remove" in action
    ]
    there = files.get_file_info(replaced[-LOOKED_AT:]) if replaced else []
    return len(old) if any(each.is_file for each in there) else 0


def remove_old_versions(place: str, options: dict[str, str] | None) -> int:
    """
    Keep the newest version only; return how many younger files that belong to none were left.

    Readers of an older version fail from now on, and so does one that is just opening the table
    by the log: it succeeds when it tries again.
    """
    _vacuum(DeltaTable(place, storage_options=options), timedelta())
    files = PyFileSystem(DeltaStorageHandler(place, options))
    newest = _checkpoint(place, options)
    entries = _log(files)
    for name in _changed_rows(files, [each for each in entries if _version(each) <= newest]):
        files.delete_file(name)
    for each in entries:
        if _version(each) < newest:
            with step("log"):
                files.delete_file(each.path)
    young = 0 if options else _remove_unfinished(Path(place))
    table = DeltaTable(place, storage_options=options)  # The one above would read the log again.
    unused, removed = (
        set(table.vacuum(0, dry_run=True, enforce_retention_duration=False, full=full))
        for full in (True, False)  # Both name files that the log says were removed.
    )
    return len(unused - removed) + young


def _vacuum(table: DeltaTable, older_than: timedelta) -> None:
    """Remove files that were replaced that long ago, and those that killed writes have left."""
    with step("vacuum"):
        for hours, full in _ages(older_than):
            table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=full)


def _ages(older_than: timedelta) -> tuple[tuple[int, bool], ...]:
    """Return the hours after which a file that was replaced goes, and one that none knows."""
    hours, abandoned = (age // timedelta(hours=1) for age in (older_than, ABANDONED))
    return (hours, False), (max(hours, abandoned), True)


def _checkpoint(place: str, options: dict[str, str] | None) -> int:
    """Write a checkpoint of the newest version, and return its number."""
    table = DeltaTable(place, storage_options=options)
    with step("checkpoint"):
        table.create_checkpoint()
    return table.version()


def _last_checkpoint(files: PyFileSystem) -> int:
    """Return the version of the newest checkpoint; 0 if there is none."""
    try:
        with files.open_input_file(f"{_LOG}/_last_checkpoint") as file:
            return int(json.loads(file.read())["version"])
    except FileNotFoundError:
        return 0


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


def _log(files: PyFileSystem) -> list[FileInfo]:
    """List the files of the log, oldest first: deleted so, it never begins in a gap."""
    found = files.get_file_info(FileSelector(_LOG))
    return sorted(
        (each for each in found if _VERSION.match(each.base_name)), key=lambda each: each.path
    )


def _version(entry: FileInfo) -> int:
    return int(entry.base_name[:20])


def _is_checkpoint(entry: FileInfo) -> bool:
    return bool(_CHECKPOINT.match(entry.base_name))


def _is_before(entry: FileInfo, moment: datetime) -> bool:
    return entry.mtime is not None and entry.mtime <= moment


def _changed_rows(files: PyFileSystem, entries: list[FileInfo]) -> Iterator[str]:
    """Name the files of a change data feed, which hold deleted rows, if a user has enabled it."""
    for entry in entries:
        if entry.base_name.endswith(".json"):
            for action in _actions(files, entry):
                path = action.get("cdc", {}).get("path")
                if path and files.get_file_info(path).is_file:
                    yield path


def _actions(files: PyFileSystem, commit: FileInfo) -> list[dict[str, Any]]:
    with files.open_input_file(commit.path) as file:
        return [json.loads(line) for line in file.read().splitlines()]
