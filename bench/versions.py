"""
A year of daily syncs of profiles, with a history and without, into a DuckDB file each.

    python bench/versions.py --profiles 200000 --days 365 --share 0.01

Each day a share of the profiles changes, and one batch brings them: staged rows are loaded as a
sync loads them, without Ometria and without the mapping, which a history does not change. Days
with a history and without alternate, so that what else runs on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from sets import scratch

from ometria_replica import sql
from ometria_replica.batch import Batch, Owner
from ometria_replica.catalog import Catalog
from ometria_replica.mapping import STAGED, Staging
from ometria_replica.schema import Md5
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.schema import Column
    from ometria_replica.warehouse.warehouse import Warehouse

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
SOURCE = "uk"
_KEY = f"md5('{SOURCE}' || i)"
STRETCH = 30  # Days, at the beginning, in the middle and at the end, that are compared.


@dataclass
class Replica:
    """A warehouse in a file, and what each day of it took: seconds, and processor seconds."""

    path: Path
    warehouse: Warehouse
    keeps_history: bool
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def load(self, first: int, last: int, day: int) -> None:
        """Load the profiles from *first* to before *last*, changed on that day."""
        table = replace(PROFILES, keeps_history=self.keeps_history)
        at = FIRST + timedelta(days=day)
        Staging(self.warehouse.connection, table, SOURCE, SOURCE)
        values = ", ".join(_value(column, at, day) for column in table.all_columns)
        self.warehouse.connection.execute(
            f"INSERT INTO {STAGED} ({sql.names(table)}) SELECT {values}"
            f" FROM range({first}, {last}) t(i)"
        )
        batch = Batch(table, SOURCE, f"day {day}", at, watermark=at)
        began, used = time.perf_counter(), time.process_time()
        self.warehouse.load(batch)
        self.seconds.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - used)

    def result(self) -> dict[str, float]:
        """Tell what the days took, and how large the file is."""
        days, cpu = self.seconds[1:], self.processor[1:]
        return {
            "first_load_seconds": round(self.seconds[0], 2),
            "days_seconds": round(sum(days), 1),
            "day_seconds": round(median(days), 3),
            "day_processor_seconds": round(median(cpu), 3),
            "last_days_to_first_days": round(median(days[-STRETCH:]) / median(days[:STRETCH]), 2),
            "last_days_to_first_days_processor": round(
                median(cpu[-STRETCH:]) / median(cpu[:STRETCH]), 2
            ),
            "last_days_to_middle_days_processor": round(
                median(cpu[-STRETCH:]) / median(cpu[len(cpu) // 2 :][:STRETCH]), 2
            ),
            "megabytes": round(self.path.stat().st_size / 1e6, 1),
        }


def _value(column: Column, at: datetime, day: int) -> str:
    """Write a value of a profile: a city changes each day, the rest stays."""
    if isinstance(column.source, Md5):
        return _KEY
    named = {
        "__synced_at": f"TIMESTAMPTZ '{at.isoformat()}'",
        "_account_id": f"'{SOURCE}'",
        "__source_id": f"'{SOURCE}'",
        "__sync_key": _KEY,
        "profile_id": "i::VARCHAR",
        "city": f"'City {day} of ' || i % 1000",
    }
    typed = {
        "boolean": "i % 3 = 0",
        "date": "DATE '1970-01-01' + (i % 10000)::INTEGER",
        "timestamptz": "TIMESTAMPTZ '2020-01-01 10:00:00' + to_seconds(i * 37)",
        "text": f"'{column.name} ' || i % 5000",
    }
    return named.get(column.name) or typed[column.type]


def main() -> None:
    """Load the year, and print one JSON object."""
    options = _options()
    changed = int(options.profiles * options.share)
    with scratch() as folder:
        replicas = [
            _opened(folder / f"{name}.duckdb", keeps_history=keeps) for name, keeps in KINDS.items()
        ]
        for replica in replicas:
            replica.load(0, options.profiles, 0)
        for day in range(1, options.days + 1):
            first = day * changed % (options.profiles - changed)
            for replica in replicas:
                replica.load(first, first + changed, day)
        for replica in replicas:
            replica.warehouse.close()
        results = dict(zip(KINDS, (replica.result() for replica in replicas), strict=True))
    kept, plain = results.values()
    ratio = kept["day_processor_seconds"] / plain["day_processor_seconds"]
    versions = options.profiles + options.days * changed
    print(json.dumps({**vars(options), "versions": versions, **results,
                      "day_with_to_without_processor": round(ratio, 2)}, indent=2))  # fmt: skip


KINDS = {"with_history": True, "without": False}


def _opened(path: Path, *, keeps_history: bool) -> Replica:
    warehouse = open_warehouse(f"duckdb:///{path}", catalog=Catalog((PROFILES,)))
    names = frozenset([PROFILES.name] if keeps_history else [])
    warehouse.prepare(Owner(SOURCE, SOURCE, history=names), FIRST)
    return Replica(path, warehouse, keeps_history)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a year of a history.")
    parser.add_argument("--profiles", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--share", type=float, default=0.01, help="of profiles that change a day")
    return parser.parse_args()


if __name__ == "__main__":
    main()
