"""
Duration of a sync without new data, apart from its requests.

The simulator responds immediately and without a limit, so requests take almost no time. The
program reads all five tables in a process of its own, as on a schedule.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from ometria_simulator import Account, Feed, serve

SYNCS = 5


def main() -> None:
    """Sync once, then repeatedly; print one JSON object."""
    account = Account.create(
        profiles=200, lists=5, email_events=1_000, now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(account, requests_per_second=None) as server,
    ):
        Feed(account, str(Path(folder) / "export")).export_history()
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("OMETRIA_")},
            "OMETRIA_API_KEY": server.key,
            "OMETRIA_API_URL": server.url,
            "OMETRIA_FEED_URL": f"{folder}/export",
            "OMETRIA_REQUESTS_PER_SECOND": "1000",
            "OMETRIA_WAREHOUSE_URL": f"duckdb:///{folder}/bench.duckdb",
        }
        times = []
        for _ in range(SYNCS + 1):
            before, began = len(server.requests), time.perf_counter()
            subprocess.run([sys.argv[1], "sync"], env=environment, check=True, capture_output=True)
            times.append(time.perf_counter() - began)
            requests = len(server.requests) - before
    answer = {
        "empty_sync_seconds": round(statistics.median(times[1:]), 3),
        "empty_sync_requests": requests,
    }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
