"""
`ometria-replica sync email_events` on the command line, from a folder into a warehouse.

It includes everything that a sync does, such as rejects, the file log and the history of runs,
and the start of the program.
"""

from __future__ import annotations

import os
import sys

from columns import SOURCE_ID


def main() -> None:
    """Replace this process by the program."""
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
