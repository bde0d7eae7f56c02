"""
The share of the account's request budget that a sync of profiles uses.

The simulator responds after --latency seconds and allows --rate requests in any second.
100 % means --rate requests in every second of the run.

    python bench/api_budget.py --profiles 60000 --latency 0.8 --rate 4
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ometria_simulator import Account, Quirks, serve


def main() -> None:
    """Run one sync and print one JSON object."""
    options = _options()
    account = Account.create(
        profiles=options.profiles, lists=1, email_events=0, now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(
            account,
            requests_per_second=options.rate,
            quirks=Quirks(latency_seconds=options.latency),
        ) as server,
    ):
        # In a separate process, so that the simulator does not delay the requests.
        run = subprocess.run(
            [sys.executable, "-m", "ometria_replica", "sync", "profiles", "--json"],
            env=os.environ
            | {
                "OMETRIA_API_KEY": server.key,
                "OMETRIA_API_URL": server.url,
                "OMETRIA_REQUESTS_PER_SECOND": str(options.rate),
                "OMETRIA_WAREHOUSE_URL": f"duckdb:///{Path(folder) / 'bench.duckdb'}",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        table = json.loads(run.stdout)["tables"][0]
        seconds = table["seconds"]
        requests = len(server.requests)
        refused = sum(request.status == 429 for request in server.requests)
    answer = {
        "profiles": table["inserted"],
        "latency_seconds": options.latency,
        "requests_per_second_allowed": options.rate,
        "requests": requests,
        "answered_429": refused,
        "seconds": round(seconds, 1),
        "budget_used": round((requests - refused) / (seconds * options.rate), 3),
    }
    print(json.dumps(answer, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--profiles", type=int, default=150_000)
    parser.add_argument("--latency", type=float, default=0.8, help="seconds")
    parser.add_argument("--rate", type=float, default=4.0, help="requests per second")
    return parser.parse_args()


if __name__ == "__main__":
    main()
