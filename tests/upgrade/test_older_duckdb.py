"""DuckDB 1.4 reads the file that a sync writes: it is in the tools that people have for years."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.faults.all_tables import check_states
from tests.faults.checks import EVERYTHING
from tests.faults.scenarios import live
from tests.faults.world import World

OLDER = Path(f"{sys.prefix}-duckdb") / "bin" / "python"
READ = """
import json, sys, duckdb

connection = duckdb.connect(sys.argv[1])
connection.execute("SET TimeZone = 'UTC'")
tables = connection.sql(
    "FROM duckdb_tables() SELECT schema_name, table_name"
    " WHERE schema_name <> 'main' ORDER BY ALL"
)
found = {}
for schema, table in tables.fetchall():
    name = f'"{schema}"."{table}"'
    rows = connection.sql(f"FROM {name} SELECT COLUMNS(*)::VARCHAR ORDER BY ALL").fetchall()
    found[name] = [list(row) for row in rows]
connection.execute("CREATE OR REPLACE TABLE main.own AS FROM ometria.profiles")
connection.execute("CHECKPOINT")
print(json.dumps([duckdb.__version__, found]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not OLDER.exists(), reason="make test-all installs DuckDB 1.4 beside .venv")
def test_duckdb_1_4_reads_all_that_syncs_write_and_they_go_on(tmp_path: Path) -> None:
    """All tables, kept records, nested tables and histories; then it writes a table of its own."""
    with World(tmp_path, profiles=70, lists=3, email_events=40, settings=EVERYTHING) as world:
        for _ in range(2):
            world.sync_here()
            version, older = _read(OLDER, tmp_path)
            assert version.startswith("1.4.")
            assert older['"ometria"."email_events"']
            assert (duckdb.__version__, older) == _read(Path(sys.executable), tmp_path)
            world.replica.check()
            live(world)
        check_states(world)


def _read(python: Path, folder: Path) -> tuple[str, dict[str, list[list[str | None]]]]:
    read = subprocess.run(
        [python, "-c", READ, folder / "replica.duckdb"], capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    version, found = json.loads(read.stdout)
    return version, found
