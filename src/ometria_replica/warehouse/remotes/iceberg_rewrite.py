"""Replace data files of an Iceberg table by new ones in one version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import (
    ArrowScan,
    _dataframe_to_data_files,  # The public ways take a filter.
    schema_to_pyarrow,
)
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _OverwriteFiles  # The public way makes one of it.
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyiceberg.manifest import DataFile, ManifestFile
    from pyiceberg.table import FileScanTask, Table

_FILE_BYTES = "write.target-file-size-bytes"


def replace_files(
    table: Table, files: Iterable[DataFile], rows: pa.RecordBatchReader, *, as_one: bool = False
) -> list[DataFile]:
    """
    Write *rows* in place of *files*, which are of the version of *table* that was loaded.

    Rows are in memory until they are a file: with *as_one* all of them. Returns the new files.
    Raises CommitFailedException if the table has changed since.
    """
    metadata = table.metadata
    if as_one:
        properties = metadata.properties | {_FILE_BYTES: str(2**62)}
        metadata = metadata.model_copy(update={"properties": properties})
    with table.transaction() as transaction:
        new = list(_dataframe_to_data_files(metadata, rows, table.io))
        with _Replacement(Operation.OVERWRITE, transaction, table.io) as version:
            for file in files:
                version.delete_data_file(file)
            for file in new:
                version.append_data_file(file)
    return new


class _Replacement(_OverwriteFiles):
    """
    A version without the manifests that only note which files older versions have removed.

    pyiceberg (0.12) leaves them out when it appends, and keeps them all when it overwrites: a
    table that is overwritten in each run would have one more with each, and read them all.
    """

    @override
    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        kept = [
            each
            for each in manifests
            if each.has_added_files()
            or each.has_existing_files()
            or each.added_snapshot_id == self.snapshot_id
        ]
        return super()._process_manifests(kept)


def join_files(table: Table, tasks: Sequence[FileScanTask]) -> list[DataFile]:
    """Write the rows of some files as one. Raises as replace_files()."""
    schema = schema_to_pyarrow(table.schema())
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    rows = pa.RecordBatchReader.from_batches(schema, scan.to_record_batches(tasks)).cast(schema)
    return replace_files(table, [task.file for task in tasks], rows, as_one=True)
