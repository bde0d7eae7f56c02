"""
Sling: `sling run` from CSV files into DuckDB, incremental by primary key, as its docs show.

From docs.slingdata.io, "File to Database" and "DuckDB". Sling cannot compute the MD5 of
several columns, so its key is the three columns themselves, which saves it that work. Its
program and the DuckDB command line that it runs come in wheels; neither is downloaded.
`csv_files`, because its default needs an extension of DuckDB that would be downloaded.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import duckdb_cli
import sling_linux_amd64
from columns import RENAMED


def main() -> None:
    """Replace this process by the program."""
    folder, database = sys.argv[1:]
    program = Path(sling_linux_amd64.__file__).parent / "bin" / "sling-linux-amd64"
    settings = {
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_HOME_DIR": str(Path(database).parent / "sling"),
        "DUCKDB_USE_INSTALLED_EXTENSIONS": "true",
        "DUCKDB_PATH": str(Path(duckdb_cli.__file__).parent / "duckdb"),
        "BENCH": json.dumps({"type": "duckdb", "instance": database, "copy_method": "csv_files"}),
    }
    types = {field: "timestampz" if field == "dt_occurred" else "text" for field in RENAMED}
    command = [
        str(program),
        "run",
        *("--src-stream", f"file://{folder}/*.csv.gz"),
        *("--src-options", json.dumps({"columns": types})),
        *("--tgt-conn", "BENCH", "--tgt-object", "main.email_events"),
        *("--mode", "incremental", "--primary-key", "to_address,event_type,dt_occurred"),
    ]
    os.execve(command[0], command, {**os.environ, **settings})


if __name__ == "__main__":
    main()
