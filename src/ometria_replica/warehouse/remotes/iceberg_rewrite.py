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

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyiceberg.manifest import DataFile
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
        with transaction.update_snapshot().overwrite() as version:
            for file in files:
                version.delete_data_file(file)
            for file in new:
                version.append_data_file(file)
    return new


def join_files(table: Table, tasks: Sequence[FileScanTask]) -> list[DataFile]:
    """Write the rows of some files as one. Raises as replace_files()."""
    schema = schema_to_pyarrow(table.schema())
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    rows = pa.RecordBatchReader.from_batches(schema, scan.to_record_batches(tasks)).cast(schema)
    return replace_files(table, [task.file for task in tasks], rows, as_one=True)
