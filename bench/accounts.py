"""
The time of a sync of several accounts, against that of one of them alone.

Each account is simulated: it responds after --latency seconds. The program sends it --rate requests
a second; the simulators refuse none, since one process plays them all, and would refuse what its
own delays bring too close together. All accounts are alike, so that each is the slowest, and a
ratio of 1 means that they take as long together as one alone.

    python bench/accounts.py --accounts 1 5 10 --profiles 5000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ometria_simulator import Account, Quirks, serve

if TYPE_CHECKING:
    import resource
    from collections.abc import Sequence

    from ometria_simulator import Server

ACCOUNT = """\
[[accounts]]
account_id = "{name}"
api_key = "env:SIMULATED_KEY"
api_url = "{url}"
requests_per_second = {rate}
"""


def main() -> None:
    """Sync each number of accounts into a new warehouse, and print one JSON array."""
    options = _options()
    found: list[dict[str, Any]] = []
    for number in options.accounts:
        found.append(_measured(number, options))
        found[-1]["ratio"] = round(found[-1]["seconds"] / found[0]["seconds"], 2)
    print(json.dumps(found, indent=2))


def _measured(number: int, options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        quirks = Quirks(latency_seconds=options.latency)
        servers = [
            stack.enter_context(
                serve(_account(options.profiles), requests_per_second=None, quirks=quirks)
            )
            for _ in range(number)
        ]
        seconds, usage = _sync(folder, servers, options)
        requests = [len(server.requests) for server in servers]
    return {
        "accounts": number,
        "parallel_accounts": options.at_once or number,
        "profiles_each": options.profiles,
        "requests_each": max(requests),
        "seconds": seconds,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def _account(profiles: int) -> Account:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Account.create(profiles=profiles, lists=1, email_events=0, now=now)


def _sync(
    folder: Path, servers: Sequence[Server], options: argparse.Namespace
) -> tuple[float, resource.struct_rusage]:
    """Sync in a process of its own; return the seconds of the run, and what it has used."""
    settings = folder / "ometria.toml"
    accounts = [
        ACCOUNT.format(name=f"account-{place:03}", url=server.url, rate=options.rate)
        for place, server in enumerate(servers)
    ]
    at_once = options.at_once or len(servers)
    settings.write_text("\n".join([f"parallel_accounts = {at_once}", *accounts]))
    report = folder / "report.json"
    with report.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "ometria_replica", "sync", "profiles", "--json"],
            env=os.environ
            | {
                "OMETRIA_CONFIG": str(settings),
                "OMETRIA_WAREHOUSE_URL": f"duckdb:///{folder / 'bench.duckdb'}",
                "SIMULATED_KEY": servers[0].key,
            },
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the sync failed with {process.returncode}")
    done = json.loads(report.read_text())
    began, ended = (datetime.fromisoformat(done[name]) for name in ("started_at", "finished_at"))
    return round((ended - began).total_seconds(), 1), usage


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--at-once", type=int, help="parallel_accounts; by default all")
    parser.add_argument("--profiles", type=int, default=5_000, help="of each account")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--rate", type=float, default=4.0, help="requests per second")
    return parser.parse_args()


if __name__ == "__main__":
    main()
