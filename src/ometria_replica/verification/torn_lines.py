"""Rows of lines of which a part was written when their file was read: find them again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.batching import discard
from ometria_replica.mapping import STAGED, Staging
from ometria_replica.records import FeedFile
from ometria_replica.temp_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ometria_replica.records import FeedObject
    from ometria_replica.table_reads import TableRead

TORN = "verify_torn"


def find_torn(read: TableRead, grown: list[tuple[FeedObject, int, datetime]]) -> None:
    """
    Fill the temporary table ``verify_torn`` with the keys and load times of rows of torn lines.

    *grown* has files that were loaded, the size in bytes of an earlier version of each that was
    loaded too, and the ``__synced_at`` of its rows. If the earlier version was a beginning of the
    file, it ended where the file is cut here, and so its last line gave the same key. A file that
    has to be decompressed or converted is passed over.
    """
    connection = read.warehouse.connection
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {TORN} (key VARCHAR, loaded_at TIMESTAMPTZ)")
    for file, at in _cut(read, grown):
        staging = Staging(connection, read.table, read.account.account_id, read.account.source_id)
        staging.add_file(file, at)
        staging.finish()
        connection.execute(f"INSERT INTO {TORN} SELECT __sync_key, __synced_at FROM {STAGED}")


def _cut(
    read: TableRead, grown: list[tuple[FeedObject, int, datetime]]
) -> Iterator[tuple[FeedFile, datetime]]:
    for origin, size, at in grown:
        with temp_folder(read.run.temp_directory) as folder:
            for file in read.source.export(read.table).fetch([origin], folder):
                if isinstance(file, FeedFile) and file.path.stat().st_size == origin.size:
                    os.truncate(file.path, size)
                    yield replace(file, lines=None), at
                discard([file])
