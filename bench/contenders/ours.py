"""
`ometria-replica sync email_events`, as a person would type it, from a folder into a warehouse.

Twelve temporary tables, rejects, the ledger of files, the run's history: all that a sync
does is in it, and its start as well.
"""

from __future__ import annotations

import os
import sys

from columns import SOURCE_ID


def main() -> None:
    """Become the program."""
    program, folder, database = sys.argv[1:]
    url = database if "://" in database else f"duckdb:///{database}"
    ours = {
        "OMETRIA_ACCOUNT_ID": SOURCE_ID,
        "OMETRIA_FEED_URL": folder,
        "OMETRIA_WAREHOUSE_URL": url,
    }
    os.execve(program, [program, "sync", "email_events", "--json"], {**os.environ, **ours})


if __name__ == "__main__":
    main()
