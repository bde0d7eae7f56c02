"""Files of a run: nothing of them is on the disk under a name, where the system can do that."""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from ometria_replica import scratch_files
from ometria_replica.config import Limits
from ometria_replica.local_duckdb import open_duckdb, open_staging
from ometria_replica.temp_files import temp_folder

PERSON = b"canary.person@example.com"

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="this system has no /proc: files have names"
)


def named(folder: Path) -> bytes:
    """Read what a kill would leave below *folder*: the contents of files, and no links."""
    return b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )


@needs_proc
def test_a_scratch_file_has_no_name_and_can_be_used_by_its_path(tmp_path: Path) -> None:
    """It can be written, measured, replaced and read, also by DuckDB; a kill leaves nothing."""
    with temp_folder(str(tmp_path)) as folder, open_duckdb(folder / "spill") as connection:
        path = scratch_files.create_in(folder, "feed-")
        path.write_bytes(b"a,b\n1,old\n")
        fresh = scratch_files.create(path.with_name(f"{path.name}.new"))
        fresh.write_bytes(b"a,b\n1," + PERSON + b"\n2,3,4\n")
        scratch_files.replace(path, fresh)

        rows = connection.execute(
            f"FROM read_csv('{path}', header = true, auto_detect = false, delim = ',',"
            " columns = {a: 'VARCHAR', b: 'VARCHAR'}, store_rejects = true)"
        ).fetchall()
        ((rejected,),) = connection.execute("SELECT file_path FROM reject_scans").fetchall()

        assert rows == [("1", PERSON.decode())]
        assert rejected == str(path)
        assert path.stat().st_size == len(b"a,b\n1,\n2,3,4\n") + len(PERSON)
        assert named(tmp_path) == b""
        scratch_files.discard(path)
        scratch_files.discard(path)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []


@needs_proc
def test_the_end_of_a_folder_lets_go_of_its_files(tmp_path: Path) -> None:
    """A program that syncs again and again keeps no file open."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 -- no path of ours.
    with temp_folder(str(tmp_path)) as folder:
        for _ in range(20):
            scratch_files.create_in(folder, "feed-").write_bytes(PERSON)
    assert len(os.listdir("/proc/self/fd")) <= len(before)  # noqa: PTH208


def test_a_process_that_may_open_few_files_names_them(tmp_path: Path) -> None:
    """Files that a process needs otherwise are not taken from it; it then works as before."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[Path] = []
    with pytest.MonkeyPatch.context() as patch, temp_folder(str(tmp_path)) as folder:
        patch.setattr(resource, "getrlimit", lambda _: (12, 12))
        for _ in range(8):
            held.append(scratch_files.create_in(folder, "feed-"))
            held[-1].write_bytes(PERSON)
        assert all(path.read_bytes() == PERSON for path in held)
        assert [path.is_symlink() for path in held].count(False) >= 4
        assert {path.stat().st_mode & 0o777 for path in held} == {0o600}
        for path in held:
            fresh = scratch_files.create(path.with_name("fresh"))
            fresh.write_bytes(b"other")
            scratch_files.replace(path, fresh)
        assert all(path.read_bytes() == b"other" for path in held)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
    assert list(tmp_path.iterdir()) == []


def test_what_duckdb_spills_is_encrypted_and_comes_back_whole(tmp_path: Path) -> None:
    """Rows for which there is no room in memory are in files that nobody else can read."""
    with ExitStack() as opened:
        connection = open_staging(opened, Limits("100MB", 1, str(tmp_path)))
        connection.execute("SET memory_limit = '20MB'")
        connection.execute(
            "CREATE TEMP TABLE spilled AS SELECT i, sha256(i::VARCHAR) || 'canary' || i AS person"
            " FROM range(300_000) r(i)"
        )
        left = named(tmp_path)
        ((whole,),) = connection.execute(
            "SELECT count(*) FROM spilled WHERE person = sha256(i::VARCHAR) || 'canary' || i"
        ).fetchall()
    assert len(left) > 1_000_000
    assert b"canary" not in left
    assert whole == 300_000
