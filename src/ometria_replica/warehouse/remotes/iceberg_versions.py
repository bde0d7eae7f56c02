"""
Remove the old versions of an Iceberg table, with the files that no version needs any more.

Manifests hold values too: the lowest and the highest of each column of a file.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyarrow.fs import FileSelector
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntryStatus

from ometria_replica.failpoints import step
from ometria_replica.warehouse.remotes.lake import ABANDONED, abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow.fs import FileInfo
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table

_OURS = {"data": (".parquet",), "metadata": (".avro", ".metadata.json")}
"""The files that Iceberg writes, by the folder below a table's location."""


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
    inside = f"{table.location().rstrip('/')}/"
    elsewhere = 0
    for file in sorted(before - now):
        if not file.startswith(inside):
            elsewhere += 1
            continue
        with step("unused file"), suppress(FileNotFoundError):
            table.io.delete(file)
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
    found |= {each.statistics_path for each in metadata.statistics}
    found |= {each.statistics_path for each in metadata.partition_statistics}
    manifests: dict[str, ManifestFile] = {}
    for version in metadata.snapshots:
        found.add(version.manifest_list)
        manifests |= {each.manifest_path: each for each in version.manifests(table.io)}
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
