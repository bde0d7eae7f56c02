"""
The same table by hand-written SQL, as a DuckDB expert would write it.

It reads all files at once into a temporary table, keeps the last row of each key, deletes the
rows that these replace and inserts them, in one transaction: the fastest of the measured
ways. It writes the same nineteen columns as we do, without file log, rejects and bad files.
"""

from __future__ import annotations

import sys

import duckdb
from columns import KEY, MAPPED, READ, SOURCE_ID

LINEAGE = (
    f"'{SOURCE_ID}' AS _account_id, '{SOURCE_ID}' AS __source_id, {KEY} AS __sync_key,"
    " now() AS __synced_at"
)


def main() -> None:
    """Load the files of a folder."""
    folder, database = sys.argv[1:]
    with duckdb.connect(database) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = f"SELECT {MAPPED}, {LINEAGE} FROM {READ.format(folder)}"
        connection.execute(f"CREATE TABLE IF NOT EXISTS email_events AS {rows} LIMIT 0")
        connection.execute(f"CREATE TEMP TABLE staged AS {rows}")
        connection.execute(
            "CREATE TEMP TABLE repeated AS SELECT __sync_key, max(rowid) AS newest FROM staged"
            " GROUP BY __sync_key HAVING count(*) > 1"
        )
        connection.execute(
            "DELETE FROM staged USING repeated"
            " WHERE staged.__sync_key = repeated.__sync_key AND staged.rowid < newest"
        )
        first, last = connection.execute(
            "SELECT min(event_at)::VARCHAR, max(event_at)::VARCHAR FROM staged"
        ).fetchall()[0]
        connection.execute("BEGIN")
        connection.execute(
            "DELETE FROM email_events USING staged"
            " WHERE email_events.__sync_key = staged.__sync_key"
            f" AND email_events.event_at BETWEEN '{first}' AND '{last}'"
        )
        connection.execute("INSERT INTO email_events SELECT * FROM staged")
        connection.execute("COMMIT")


if __name__ == "__main__":
    main()
