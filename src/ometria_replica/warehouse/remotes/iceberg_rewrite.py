"""Replace data files of an Iceberg table by new ones in one version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.io.pyarrow import _dataframe_to_data_files  # The public ways take a filter.

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table


def replace_files(table: Table, files: Iterable[DataFile], rows: pa.RecordBatchReader) -> None:
    """
    Write *rows* in place of *files*, which are of the version of *table* that was loaded.

    Raises CommitFailedException if the table has changed since.
    """
    with table.transaction() as transaction:
        new = list(_dataframe_to_data_files(table.metadata, rows, table.io))
        with transaction.update_snapshot().overwrite() as version:
            for file in files:
                version.delete_data_file(file)
            for file in new:
                version.append_data_file(file)
