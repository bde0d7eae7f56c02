"""A disk that is full: the real program on a file system of one megabyte."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.duck import read_file
from tests.e2e.program import run

if TYPE_CHECKING:
    from pathlib import Path

ON_A_FULL_DISK = """\
import os, sys
program = [sys.executable, "-m", "ometria_replica", *sys.argv[1:]]
mounted = 'mount -t tmpfs -o size=1m tmpfs "$TMPDIR"'
filled = 'head -c 900000 /dev/zero > "$TMPDIR/taken"'
script = f'{mounted} && {filled} && exec "$@"'
os.execvp("unshare", ["unshare", "-rm", "sh", "-c", script, "sh", *program])
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """Make a folder that can become a file system of its own, for one process."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = f"mount -t tmpfs tmpfs {folder}"
    try:
        tried = subprocess.run(
            ["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False
        )
    except OSError:
        pytest.skip("needs Linux")
    if tried.returncode:
        pytest.skip("this user may not mount a file system, even for one process")
    return folder


def test_a_full_folder_for_temporary_files_is_a_sentence(small_disk: Path, tmp_path: Path) -> None:
    """The run ends with 5, says what to do, and writes nothing of the export."""
    feed = tmp_path / "feed"
    feed.mkdir()
    line = f"a@example.com,open,2026-01-01,{'x' * 1_000_000}\n"
    (feed / "events.csv").write_text("to_address,event_type,dt_occurred,reason\n" + line)
    os.utime(feed / "events.csv", (0, 0))
    environ = {
        "OMETRIA_FEED_URL": str(feed),
        "OMETRIA_ACCOUNT_ID": "1042",
        "OMETRIA_WAREHOUSE_URL": f"duckdb:///{tmp_path}/x.duckdb",
        "TMPDIR": str(small_disk),
    }

    ended = run("sync", "email_events", env=environ, cwd=tmp_path, code=ON_A_FULL_DISK)

    assert ended.code == 5, ended
    assert ended.err.splitlines()[-1] == (
        "The disk for temporary files is full. Nothing of this batch was written. Free some space,"
        " or set warehouse.temp_directory (OMETRIA_TEMP_DIRECTORY) to a folder with free space,"
        " then run again."
    )
    assert read_file(tmp_path / "x.duckdb", "ometria.email_events") == []
