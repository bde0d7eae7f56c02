"""
Other ways to write the same table by hand, each of them an obvious first choice.

    python bench/contenders/ways.py merge FOLDER DATABASE

All give the same rows. handwritten.py has the fastest way; the cost of these shows why.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from columns import KEY, MAPPED, READ, SOURCE_ID

if TYPE_CHECKING:
    from collections.abc import Callable

LINEAGE = (
    f"'{SOURCE_ID}' AS _account_id, '{SOURCE_ID}' AS __source_id, {KEY} AS __sync_key,"
    " now() AS __synced_at"
)
STAGED_TWICE = (
    (
        "CREATE OR REPLACE TEMP TABLE repeated AS SELECT __sync_key, max(rowid) AS newest"
        " FROM staged GROUP BY __sync_key HAVING count(*) > 1"
    ),
    (
        "DELETE FROM staged USING repeated"
        " WHERE staged.__sync_key = repeated.__sync_key AND staged.rowid < newest"
    ),
)
REPLACE = (
    "DELETE FROM email_events USING staged WHERE email_events.__sync_key = staged.__sync_key",
    "INSERT INTO email_events SELECT * FROM staged",
)


def stage(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Stage, remove repeats by row id, delete and insert."""
    _all(connection, f"CREATE OR REPLACE TEMP TABLE staged AS {rows}", *STAGED_TWICE, *REPLACE)


def distinct_on(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Remove repeats with DISTINCT ON while staging."""
    newest = f"SELECT DISTINCT ON (__sync_key) * FROM ({rows})"
    _all(connection, f"CREATE OR REPLACE TEMP TABLE staged AS {newest}", *REPLACE)


def row_number(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Keep the first of each key by its number while staging."""
    one = "row_number() OVER (PARTITION BY __sync_key) = 1"
    newest = f"SELECT * FROM ({rows}) QUALIFY {one}"
    _all(connection, f"CREATE OR REPLACE TEMP TABLE staged AS {newest}", *REPLACE)


def merge(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Stage, remove repeats by row id, then MERGE instead of delete and insert."""
    _all(connection, f"CREATE OR REPLACE TEMP TABLE staged AS {rows}", *STAGED_TWICE)
    connection.execute(
        "MERGE INTO email_events USING staged ON email_events.__sync_key = staged.__sync_key"
        " WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"
    )


def primary_key(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Find existing rows by the index of a primary key: INSERT OR REPLACE."""
    _all(connection, f"CREATE OR REPLACE TEMP TABLE staged AS {rows}", *STAGED_TWICE)
    connection.execute("INSERT OR REPLACE INTO email_events SELECT * FROM staged")


def files(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Stage, delete and insert, in one transaction per file."""
    stage(connection, rows)


WAYS: dict[str, Callable[[duckdb.DuckDBPyConnection, str], None]] = {
    "stage": stage,
    "files": files,
    "distinct-on": distinct_on,
    "row-number": row_number,
    "merge": merge,
    "primary-key": primary_key,
}


def _all(connection: duckdb.DuckDBPyConnection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement)


def main() -> None:
    """Load the files of a folder in one of the ways."""
    way, folder, database = sys.argv[1:]
    sources = [READ.format(folder)]
    if way == "files":
        sources = [
            READ.replace("{}/*.csv.gz", str(path)) for path in sorted(Path(folder).iterdir())
        ]
    with duckdb.connect(database) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = f"SELECT {MAPPED}, {LINEAGE} FROM {sources[0]}"
        connection.execute(f"CREATE TABLE IF NOT EXISTS email_events AS {rows} LIMIT 0")
        keys = connection.execute("SELECT count(*) FROM duckdb_constraints()").fetchall()[0][0]
        if way == "primary-key" and not keys:
            connection.execute("ALTER TABLE email_events ADD PRIMARY KEY (__sync_key)")
        for source in sources:
            connection.execute("BEGIN")
            WAYS[way](connection, f"SELECT {MAPPED}, {LINEAGE} FROM {source}")
            connection.execute("COMMIT")


if __name__ == "__main__":
    main()
