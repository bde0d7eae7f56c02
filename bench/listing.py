"""
A folder of very many small files, all of them in the file log except the newest.

    python bench/listing.py FOLDER --files 100000 --known
    python bench/listing.py FOLDER --files 100000 --new 10

SQL writes the entries of the file log, with the names, versions and sizes of our own listing
of the folder: to load the files would take an hour and measure nothing here.
"""

from __future__ import annotations

import argparse
import gzip
import os
from pathlib import Path

import duckdb
import pyarrow as pa
from contenders.columns import RENAMED, SOURCE_ID

from ometria_replica.config import AccountSettings, Config, FeedSettings, WarehouseSettings
from ometria_replica.ometria.export import Feed
from ometria_replica.replication import sync

WRITTEN = 1_577_836_800  # 2020-01-01 in UTC.


def main() -> None:
    """Create the files and their entries in the file log, or a few more files."""
    parser = argparse.ArgumentParser(description="Make a folder of many files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--known", action="store_true", help="write them into the file log")
    parser.add_argument("--new", type=int, default=0, help="number of further files to create")
    options = parser.parse_args()
    feed = options.folder / "feed"
    if options.known:
        _make(feed, 0, options.files)
        _remember(feed, options.folder / "bench.duckdb")
    _make(feed, options.files, options.files + options.new)


def _make(folder: Path, first: int, last: int) -> None:
    for number in range(first, last):
        # Ten per day, in a folder for each month, as an export over 25 years.
        path = folder / f"{number // 300:04d}" / f"email_events-{number:06d}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = [
            f"{number}" if field != "dt_occurred" else "2026-01-01T00:00:00Z" for field in RENAMED
        ]
        path.write_bytes(gzip.compress(f"{','.join(RENAMED)}\n{','.join(row)}\n".encode(), 1))
        # An old time: the program waits for files that were written just now.
        os.utime(path, (WRITTEN + number, WRITTEN + number))


def _remember(folder: Path, database: Path) -> None:
    settings = FeedSettings(str(folder))
    account = AccountSettings(account_id=SOURCE_ID, source_id=SOURCE_ID, feed=settings)
    empty = folder.parent / "empty"
    empty.mkdir()
    first = AccountSettings(
        account_id=SOURCE_ID, source_id=SOURCE_ID, feed=FeedSettings(str(empty))
    )
    sync(Config((first,), WarehouseSettings(f"duckdb:///{database}")), ["email_events"])
    with Feed(account.feed or settings, tuple(RENAMED)) as feed:
        files = list(feed.list())
    with duckdb.connect(str(database)) as connection:
        listed = pa.table(
            {
                "name": [file.name for file in files],
                "etag": [file.etag for file in files],
                "size": [file.size for file in files],
                "modified_at": [file.modified_at for file in files],
            }
        )
        connection.register("listed", listed)
        connection.execute(
            "INSERT INTO ometria_replica.files BY NAME SELECT *, 1 AS records,"
            " modified_at AS loaded_at, false AS read_again, 'earlier' AS run_id,"
            f" '{SOURCE_ID}' AS source_id, 'email_events' AS table_name FROM listed"
        )


if __name__ == "__main__":
    main()
