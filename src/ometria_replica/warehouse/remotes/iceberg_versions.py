"""
Remove the old versions of an Iceberg table, with the files that no version needs any more.

Manifests hold values too: the lowest and the highest of each column of a file.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from pyarrow.fs import FileSelector
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntryStatus

from ometria_replica.failpoints import step
from ometria_replica.warehouse.remotes.lake_format import ABANDONED, abandoned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from pyarrow.fs import FileInfo
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

COMMITS = 10  # Old versions of a table of the state that it pays to remove.
AT_ONCE = 50  # Versions. Each takes some reads of its manifests.

_KEPT_METADATA = "write.metadata.previous-versions-max"
STATE_PROPERTIES = {"write.metadata.delete-after-commit.enabled": "true", _KEPT_METADATA: "20"}
"""Properties of a table of the state: each commit writes a file of metadata, and removes one."""

_OURS = {"data": (".parquet",), "metadata": (".avro", ".metadata.json")}
"""The files that Iceberg writes, by the folder below a table's location."""


def keep_small(table: Table, older_than: timedelta) -> None:
    """Remove AT_ONCE of the versions that were replaced that long ago, if there are so many."""
    old = replaced_before(table, datetime.now(UTC) - older_than)
    if len(old) < COMMITS:
        return
    if table.properties.get(_KEPT_METADATA) is None:  # Of an earlier release.
        with table.transaction() as transaction:
            transaction.set_properties(STATE_PROPERTIES)
    remove_files(table, expire(table, {each.snapshot_id for each in old[:AT_ONCE]}))


def replaced_before(table: Table, moment: datetime) -> list[Snapshot]:
    """Return versions that were replaced before *moment*, oldest first; none that has a name."""
    named = {reference.snapshot_id for reference in table.metadata.refs.values()}
    versions = sorted(table.metadata.snapshots, key=lambda each: each.timestamp_ms)
    return [
        each
        for each, following in pairwise(versions)
        if following.timestamp_ms < moment.timestamp() * 1_000 and each.snapshot_id not in named
    ]


def expire(table: Table, versions: set[int]) -> set[str]:
    """
    Remove versions, and name the files that no other needs.

    The versions go first: a crash leaves files, and never a version without them.
    """
    names = unneeded(table, versions)
    with step("expire"):
        table.maintenance.expire_snapshots().by_ids(sorted(versions)).commit()
    return names


def unneeded(table: Table, versions: set[int]) -> set[str]:
    """Name the files that only these versions need."""
    gone = [each for each in table.metadata.snapshots if each.snapshot_id in versions]
    kept = [each for each in table.metadata.snapshots if each.snapshot_id not in versions]
    return _files_of(table, gone) - _files_of(table, _oldest(gone, kept, table))


def remove_files(table: Table, names: set[str]) -> int:
    """Remove files below the location of *table*; return how many are elsewhere, and stay."""
    inside = f"{table.location().rstrip('/')}/"
    for name in sorted(names):
        if name.startswith(inside):
            with step("unused file"), suppress(FileNotFoundError):
                table.io.delete(name)
    return sum(not name.startswith(inside) for name in names)


def remove_unnamed(table: Table) -> int:
    """Remove old files that no version needs; return how many younger ones there are."""
    return _remove_abandoned(table, _files(table))


def _oldest(gone: list[Snapshot], kept: list[Snapshot], table: Table) -> list[Snapshot]:
    """
    Return those of the versions *kept* of which the files are all that any of *gone* shares.

    A file that a version has removed is in none that follows. So if all versions are a line, of
    which the beginning goes, the next one alone tells; else all are asked.
    """
    in_order = sorted(table.metadata.snapshots, key=lambda each: each.sequence_number or 0)
    beginning = {each.snapshot_id for each in in_order[: len(gone)]}
    is_line = all(
        later.parent_snapshot_id == earlier.snapshot_id for earlier, later in pairwise(in_order)
    )
    if not is_line or beginning != {each.snapshot_id for each in gone}:
        return kept
    return in_order[len(gone) : len(gone) + 1]


def remove_old_versions(table: Table) -> list[str]:
    """
    Keep the newest version only, and those that a branch or a tag names.

    Files elsewhere than below the table's location stay. Returns what stays, as parts of a
    sentence. Readers of an older version fail from now on.
    """
    if _notes_removed_files(table):
        with step("empty version"):  # It leaves out manifests that only note removed files.
            table.append(table.schema().as_arrow().empty_table())
    before = _files(table)
    named = {reference.snapshot_id for reference in table.metadata.refs.values()}
    old = [each.snapshot_id for each in table.snapshots() if each.snapshot_id not in named]
    if old:
        with step("expire"):
            table.maintenance.expire_snapshots().by_ids(old).commit()
    now = _files(table.refresh())
    elsewhere = remove_files(table, before - now)
    return list(_what_stays(table, now, elsewhere))


def _what_stays(table: Table, named: set[str], elsewhere: int) -> Iterator[str]:
    if young := _remove_abandoned(table, named):
        yield abandoned(young)
    if elsewhere:
        yield f"{elsewhere} old files that are not below its location {table.location()}"
    if _notes_removed_files(table):
        yield "the bounds of removed files in its manifests, until Spark's rewrite_manifests"
    names = sorted({name for name in table.metadata.refs if name != "main"})
    if names:
        yield f"the versions of its branches and tags ({', '.join(names)})"
    if not isinstance(table.io, PyArrowFileIO):
        yield "what killed runs may have left, since its FileIO cannot list files"


def _notes_removed_files(table: Table) -> bool:
    """Return whether the newest version notes the bounds of files that it has removed."""
    newest = table.current_snapshot()
    return newest is not None and any(
        entry.status == ManifestEntryStatus.DELETED
        for manifest in newest.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    )


def _files(table: Table) -> set[str]:
    """Name all files that the metadata names: the log of the metadata, lists, manifests, data."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    return found | _files_of(table, metadata.snapshots)


def _files_of(table: Table, versions: Iterable[Snapshot]) -> set[str]:
    """Name the files of versions: statistics, lists, manifests, data."""
    found: set[str] = set()
    manifests: dict[str, ManifestFile] = {}
    numbers = set()
    for version in versions:
        numbers.add(version.snapshot_id)
        found.add(version.manifest_list)
        manifests |= {each.manifest_path: each for each in version.manifests(table.io)}
    for statistics in (*table.metadata.statistics, *table.metadata.partition_statistics):
        if statistics.snapshot_id in numbers:
            found.add(statistics.statistics_path)
    for name, manifest in manifests.items():
        found.add(name)
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        found |= {entry.data_file.file_path for entry in entries}
    return found


def _remove_abandoned(table: Table, named: set[str]) -> int:
    """Remove old files that no metadata names; return how many younger ones there are."""
    io = table.io
    if not isinstance(io, PyArrowFileIO):
        return 0
    scheme, host, folder = io.parse_location(table.location(), io.properties)
    files = io.fs_by_scheme(scheme, host)
    kept = {io.parse_location(name, io.properties)[2] for name in named}
    young = 0
    for kind, ends in _OURS.items():
        below = FileSelector(f"{folder.rstrip('/')}/{kind}", allow_not_found=True, recursive=True)
        for file in files.get_file_info(below):
            if file.is_file and file.path not in kept and file.path.endswith(ends):
                if _is_young(file):
                    young += 1
                else:
                    files.delete_file(file.path)
    return young


def _is_young(file: FileInfo) -> bool:
    return file.mtime is None or file.mtime > datetime.now(UTC) - ABANDONED
