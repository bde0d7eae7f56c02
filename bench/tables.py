"""
The cost of loading each of the five tables, at two sizes, in each warehouse that runs here.

    nice python bench/tables.py --rows 250000 --times 4 --warehouses duckdb postgresql

Each table is loaded in batches of the warehouse's own size, in four passes: new rows; all again,
unchanged; one in a hundred, changed; all again, of which one in a hundred changed. It prints the
CPU time of a load at the larger size, and how much more that is than at the smaller, divided by
how many times as many rows there are: 1 means that the cost grows as the rows do. CPU time is
that of the program and of PostgreSQL; the mapping of records is not part of it. Memory is the
peak of the program, without PostgreSQL. Each measurement is a process: see table_loads.py.

The results of each warehouse are in bench/results/tables; --docs writes the newest into the page.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from report import markdown
from run import machine
from table_loads import PASSES, WAREHOUSES

from ometria_replica.tables import TABLES

BENCH = Path(__file__).parent
PAGE = BENCH.parent / "docs" / "explanation" / "performance.md"
RESULTS = BENCH / "results" / "tables"
NAMES = tuple(table.name for table in TABLES)


def main() -> None:
    """Measure and write the results, or write the newest into the page."""
    options = _options()
    if options.check or options.docs:
        _write_page(check=options.check)
        return
    for kind in options.warehouses:
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        result: dict[str, Any] = {
            "made_at": made_at,
            "command": f"python bench/tables.py --rows {options.rows} --times {options.times}",
            "machine": machine(),
            "rows": [options.rows, options.rows * options.times],
            "tables": {},
        }
        for table in options.tables:
            found = [_measure(kind, table, rows, options.seconds) for rows in result["rows"]]
            result["tables"][table] = found
            print(f"{kind} {table}: {found}", file=sys.stderr)
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"{made_at[:10]}-{kind}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(table_of({kind: result}))


def table_of(results: dict[str, dict[str, Any]]) -> str:
    """Return the figures of each warehouse and table: seconds, growth and peaks."""
    lines = [
        (kind, f"`{table}`", *(_cell(small, large, what, result["rows"]) for what in PASSES),
         _peaks(small, large))
        for kind, result in results.items()
        for table, (small, large) in result["tables"].items()
    ]  # fmt: skip
    return markdown(("", "", *PASSES, "peak memory"), lines)


def _cell(small: dict[str, Any], large: dict[str, Any], what: str, rows: tuple[int, int]) -> str:
    if "loading" not in small.get(what, {}) or "loading" not in large.get(what, {}):
        return "not measured"
    seconds, before = large[what]["loading"], small[what]["loading"]
    return f"{seconds:.1f} s, {seconds / before / (rows[1] / rows[0]):.2f}"


def _peaks(small: dict[str, Any], large: dict[str, Any]) -> str:
    peaks = (max(each.get("peak_mb", 0) for each in found.values()) for found in (small, large))
    return " → ".join(f"{peak:,}" for peak in peaks) + " MB"


def _measure(kind: str, table: str, rows: int, seconds: float) -> dict[str, Any]:
    """Measure one table in a process of its own."""
    command = [sys.executable, BENCH / "table_loads.py", kind, table, str(rows), str(seconds)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _write_page(*, check: bool) -> None:
    """Write the newest results of each warehouse into the page, or compare."""
    newest: dict[str, Any] = {}
    for kind in WAREHOUSES:
        for path in sorted(RESULTS.glob(f"*-{kind}.json")):
            newest[kind] = json.loads(path.read_text(encoding="utf-8"))
    text = f"{table_of(newest)}\n\n{_told(newest)}" if newest else "Not measured yet."
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- tables -->\n).*?(<!-- /tables -->)", re.DOTALL)
    fresh = marked.sub(lambda place: f"{place[1]}{text}\n{place[2]}", page)
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")
    elif page != fresh:
        sys.exit(f"{PAGE.name} does not match the newest results. Run `make bench-docs`.")


def _told(results: dict[str, Any]) -> str:
    last = max(results.values(), key=lambda result: str(result["made_at"]))
    days = sorted({result["made_at"][:10] for result in results.values()})
    return (
        f"Measured on {' and '.join(days)} on {last['machine']['cores']} cores"
        f" ({last['machine']['processor']}) with {last['machine']['memory_gb']} GB of memory,"
        f" {last['machine']['system']}, which other programs used too.\n"
        f"Command: `{last['command']}`."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure each table at two sizes.")
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--tables", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--warehouses", nargs="+", choices=WAREHOUSES, default=WAREHOUSES)
    parser.add_argument(
        "--seconds", type=float, default=600, help="of one table at one size; then it is stopped"
    )
    parser.add_argument("--docs", action="store_true", help="write the newest results")
    parser.add_argument(
        "--check", action="store_true", help="check that the page has the newest results"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
