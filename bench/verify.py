"""
Print the rows, the keys and a checksum of all contents of a warehouse, for comparison.

    python bench/verify.py bench.duckdb "SELECT * FROM email_events"
"""

from __future__ import annotations

import json
import sys

import duckdb
from data import summary


def main() -> None:
    """Print the checksum of one relation in a file."""
    database, relation = sys.argv[1:]
    with duckdb.connect(database, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        print(json.dumps(summary(connection, f"({relation})")))


if __name__ == "__main__":
    main()
