"""
What the arrays inside records cost: loads of profiles with their tags as rows, and without.

    nice python bench/nested.py --profiles 250000 --tags 3

It maps pages of the API and loads them into a new DuckDB file, twice, in new processes that
alternate: everything is new, and then one profile of a hundred has another tag. It prints the CPU
time of each, and as a ratio to that without the table in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sets import scratch

from ometria_replica.batch import Batch, Owner
from ometria_replica.batching import parts_inside
from ometria_replica.catalog import Catalog
from ometria_replica.mapping import Staging
from ometria_replica.nested_tables import PROFILE_TAGS
from ometria_replica.records import Page, parse
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.schema import Table

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAGE, PAGES_AT_ONCE = 250, 20


def main() -> None:
    """Measure, and print the seconds of CPU and their ratios as JSON."""
    options = _options()
    if options.into:
        print(json.dumps(list(_loads(options))))
        return
    found: dict[str, list[list[float]]] = {"profiles": [], "profiles and tags": []}
    for _ in range(options.repeat):
        for name, each in found.items():
            with scratch() as work:
                command = [sys.executable, __file__, "--into", str(work / "bench.duckdb")]
                command += ["--profiles", str(options.profiles), "--tags", str(options.tags)]
                command += ["--nested"] if name != "profiles" else []
                each.append(json.loads(subprocess.check_output(command)))
    pairs = list(zip(found["profiles and tags"], found["profiles"], strict=True))
    ratios = [statistics.median(one[n] / other[n] for one, other in pairs) for n in (0, 1)]
    print(json.dumps({**found, "ratios": [round(ratio, 2) for ratio in ratios]}, indent=2))


def _loads(options: argparse.Namespace) -> Iterator[float]:
    """Load all profiles twice; yield the seconds of CPU of each load, without making the pages."""
    inside = (PROFILE_TAGS,) if options.nested else ()
    catalog = Catalog((PROFILES, *inside))
    with open_warehouse(f"duckdb:///{options.into}", catalog=catalog) as warehouse:
        warehouse.prepare(Owner("bench", "bench"), NOON)
        for day in (0, 1):
            seconds = 0.0
            for pages in _pages(options, day):
                began = time.process_time()
                staging = Staging(warehouse.connection, PROFILES, "bench", "bench", inside)
                staging.add_pages(pages, NOON + timedelta(days=day))
                staging.finish()
                warehouse.load(_batch(PROFILES, staging, day))
                seconds += time.process_time() - began
            yield round(seconds, 2)


def _batch(table: Table, staging: Staging, day: int) -> Batch:
    at = NOON + timedelta(days=day)
    return Batch(table, "bench", "bench", at, parts=parts_inside(staging))


def _pages(options: argparse.Namespace, day: int) -> Iterator[list[Page]]:
    """Make the pages of one batch after the other."""
    size = PAGE * PAGES_AT_ONCE
    for start in range(0, options.profiles, size):
        numbers = range(start, min(start + size, options.profiles))
        records = [parse(_record(number, options.tags, day)) for number in numbers]
        yield [
            Page(records[place : place + PAGE], NOON, f"GET /profiles offset={start + place}")
            for place in range(0, len(records), PAGE)
        ]


def _record(number: int, tags: int, day: int) -> str:
    return json.dumps(
        {
            "@type": "profile",
            "id": f"2695-{number:06x}-4aaf58",
            "email": f"person.{number}@example.com",
            "customer_id": str(number),
            "firstname": "Ann",
            "lastname": f"Name {number % 1000}",
            "country": "GB",
            "marketing_optin": True,
            "seen": True,
            "dates": {"account_created": "2014-11-01T15:34:35+00:00"},
            "properties": {"zip": "N1 1AA", "city": "London"},
            "tags": [
                f"tag {(number * 7 + place) % 50}{' new' * (day and number % 100 == 0)}"
                for place in range(tags)
            ],
        }
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", type=int, default=250_000)
    parser.add_argument("--tags", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--nested", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
