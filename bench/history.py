"""
Fill a warehouse that a sync created with years of history, without files.

    python bench/history.py bench.duckdb 50000000

The rows go directly into the table that the sync reads and writes, in the order that years
of runs would give, with the same nineteen columns; every 250,000 rows have an entry in the
file log. This omits only the reading of files. The row groups are fuller than after many
small loads, which favours both sizes equally.
"""

from __future__ import annotations

import sys

import duckdb
import events
from contenders.columns import KEY, MAPPED, SOURCE_ID

FILE_ROWS = 250_000
STRETCH = 1_000_000


def main() -> None:
    """Fill one file."""
    database, count = sys.argv[1], int(sys.argv[2])
    with duckdb.connect(database) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for first in range(0, count, STRETCH):
            last = min(first + STRETCH, count)
            connection.execute(
                f"INSERT INTO ometria.email_events SELECT {MAPPED}, '{SOURCE_ID}', '{SOURCE_ID}',"
                f" {KEY}, TIMESTAMPTZ '2020-01-01' + to_seconds((event_id::BIGINT"
                f" - {events.FIRST_ID}) // {FILE_ROWS})"
                f" FROM ({events.select(first, last, repeats=False)})"
            )
        connection.execute(
            "INSERT INTO ometria_replica.files BY NAME SELECT"
            f" '{SOURCE_ID}' AS source_id, 'email_events' AS table_name,"
            " concat('earlier-', i, '.csv.gz') AS name, i::VARCHAR AS etag, 12000000 AS size,"
            " TIMESTAMPTZ '2020-01-01' + to_seconds(i) AS modified_at,"
            " TIMESTAMPTZ '2020-01-01' + to_seconds(i) AS loaded_at,"
            f" {FILE_ROWS} AS records, false AS read_again, 'earlier' AS run_id"
            f" FROM range({max(1, count // FILE_ROWS)}) t(i)"
        )


if __name__ == "__main__":
    main()
