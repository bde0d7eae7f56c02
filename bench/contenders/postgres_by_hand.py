"""
The same table in PostgreSQL by hand-written SQL, by the fastest way that we found.

DuckDB reads and maps all files and removes repeated keys, ADBC copies its Arrow data into an
unlogged staging table, and one INSERT ... ON CONFLICT merges it by the primary key. It writes
the same nineteen columns as we do, without file log, rejects and bad files.
"""

from __future__ import annotations

import sys

import duckdb
from adbc_driver_postgresql import dbapi
from columns import KEY, MAPPED, READ, RENAMED, SOURCE_ID

LINEAGE = (
    f"'{SOURCE_ID}' AS _account_id, '{SOURCE_ID}' AS __source_id, {KEY} AS __sync_key,"
    " now() AS __synced_at"
)
TIMES = ("event_at", "__synced_at")
NAMES = (
    *("email_event_id", *RENAMED.values()),
    *("_account_id", "__source_id", "__sync_key", "__synced_at"),
)


def main() -> None:
    """Load the files of a folder."""
    folder, url = sys.argv[1:]
    columns = ", ".join(f"{name} {'timestamptz' if name in TIMES else 'text'}" for name in NAMES)
    keyed = columns.replace("__sync_key text", "__sync_key text PRIMARY KEY")
    moved = ", ".join(f"{name} = EXCLUDED.{name}" for name in NAMES if name != "__sync_key")
    with duckdb.connect() as source, dbapi.connect(url) as target, target.cursor() as cursor:
        source.execute("SET TimeZone = 'UTC'")
        source.execute(f"CREATE TEMP TABLE staged AS SELECT {MAPPED}, {LINEAGE}"
                       f" FROM {READ.format(folder)}")  # fmt: skip
        source.execute(
            "DELETE FROM staged USING (SELECT __sync_key AS key, max(rowid) AS newest FROM staged"
            " GROUP BY 1 HAVING count(*) > 1) repeated WHERE __sync_key = key"
            " AND staged.rowid < newest"
        )
        cursor.execute(f"CREATE TABLE IF NOT EXISTS email_events ({keyed})")
        cursor.execute(f"CREATE UNLOGGED TABLE staging ({columns})")
        rows = source.sql(f"SELECT {', '.join(NAMES)} FROM staged").to_arrow_reader()
        cursor.adbc_ingest("staging", rows, mode="append")
        cursor.execute(
            f"INSERT INTO email_events SELECT * FROM staging"
            f" ON CONFLICT (__sync_key) DO UPDATE SET {moved}"
        )
        cursor.execute("DROP TABLE staging")
        target.commit()


if __name__ == "__main__":
    main()
