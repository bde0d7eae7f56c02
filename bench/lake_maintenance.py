"""
The peak of resident memory of `maintain`, for a lake with many small files of email events.

    python bench/lake_maintenance.py --kind delta --rows 250000 1000000 4000000

Each size is loaded into a lake of its own by another process, in files of 5,000 events. Then the
command is run twice: it writes small files together and, with `--retention 0`, removes the old
ones. It prints a line of JSON for each size; memory is in MB of 10^6.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from measure import run

URLS = {
    "delta": "delta:///{folder}/lake",
    "iceberg": "iceberg+sqlite:///{folder}/catalog.db?warehouse=file://{folder}/lake",
}
STEPS: dict[str, list[str]] = {"join": [], "remove": ["--retention", "0", "--force"]}


def main() -> None:
    """Measure each size; or be the process that loads one."""
    options = _options()
    if options.into:
        _load(options.into, options.rows[0], options.file_rows)
        return
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            url = URLS[options.kind].format(folder=folder)
            (Path(folder) / "lake").mkdir()
            sizes = ["--rows", str(rows), "--file-rows", str(options.file_rows)]
            run([sys.executable, __file__, "--into", url, *sizes])
            print(json.dumps({"kind": options.kind, "rows": rows} | _measured(url)), flush=True)


def _measured(url: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for step, how in STEPS.items():
        command = ["-m", "ometria_replica", "maintain", "email_events", "--json", "--quiet"]
        ran = run([sys.executable, *command, "--warehouse", url, *how])
        done = json.loads(ran.output[ran.output.index("{\n") :])
        found[step] = {
            "peak_mb": round(ran.peak_mb),
            "cpu_seconds": round(ran.cpu_seconds, 1),
            **{what: done[what] for what in ("joined", "written", "removed")},
        }
    return found


def _load(url: str, rows: int, file_rows: int) -> None:
    """Load events into a new lake, a file of the export after the other."""
    # Here, so that the process which measures stays small: see measure.run().
    from table_loads import BEGAN, PASSES, Load  # noqa: PLC0415 -- As above.

    from ometria_replica.batch import Owner  # noqa: PLC0415 -- As above.
    from ometria_replica.tables import EMAIL_EVENTS  # noqa: PLC0415 -- As above.
    from ometria_replica.warehouse import open_warehouse  # noqa: PLC0415 -- As above.

    with open_warehouse(url) as warehouse:
        warehouse.prepare(Owner("1042", "bench"), BEGAN)
        deadline = time.monotonic() + 3600
        load = Load(warehouse, EMAIL_EVENTS, rows, time.process_time, deadline, file_rows)
        load.run(0, PASSES["new rows"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--kind", choices=URLS, default="delta")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--file-rows", type=int, default=5_000)
    parser.add_argument("--into", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
