"""
Singer: a tap of singer-sdk piped into target-duckdb, `tap | target`, both with a config file.

From the readme of target-duckdb: default settings, except the name of the schema.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Run the tap and the target."""
    folder, database = sys.argv[1:]
    work, here = Path(database).parent, Path(__file__).parent
    tap, target = work / "tap.json", work / "target.json"
    tap.write_text(json.dumps({"folder": folder}))
    target.write_text(json.dumps({"path": database, "default_target_schema": "main"}))
    commands = (
        [sys.executable, str(here / "tap_events.py"), "--config", str(tap)],
        [str(Path(sys.executable).parent / "target-duckdb"), "--config", str(target)],
    )
    with (
        subprocess.Popen(commands[0], stdout=subprocess.PIPE) as extracting,
        subprocess.Popen(commands[1], stdin=extracting.stdout) as loading,
    ):
        if extracting.stdout:
            extracting.stdout.close()  # Only the target keeps it open.
    sys.exit(extracting.returncode or loading.returncode)


if __name__ == "__main__":
    main()
