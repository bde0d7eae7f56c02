"""Memory, threads and temporary files: every DuckDB keeps to the settings and the container."""

from __future__ import annotations

import ast
import errno
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

import ometria_replica
from ometria_replica import local_duckdb
from ometria_replica.available_memory import available_memory
from ometria_replica.config import Limits, load_config
from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.local_duckdb import open_duckdb, open_staging, translating
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = {"OMETRIA_API_KEY": "an-invented-key"}
MB = 1_000_000
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup rw\n"
V1 = "31 23 0:27 {root} /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"
NOT_MEMORY = "32 23 0:28 / /sys/fs/cgroup/cpu rw shared:6 - cgroup cgroup rw,cpu\n"


def system(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files in which a Linux system tells of control groups."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            {
                "proc/self/mountinfo": V2.format(root="/"),
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": f"{512 * MB}\n",
            },
            id="version 2, in a container that sees its own group only",
        ),
        pytest.param(
            {
                "proc/self/mountinfo": V2.format(root="/"),
                "proc/self/cgroup": "0::/kubepods/pod7/box\n",
                "sys/fs/cgroup/kubepods/pod7/box/memory.max": "max\n",
                "sys/fs/cgroup/kubepods/pod7/memory.max": f"{512 * MB}\n",
                "sys/fs/cgroup/kubepods/memory.max": f"{900 * MB}\n",
            },
            id="version 2, with the lowest limit in a group above",
        ),
        pytest.param(
            {
                "proc/self/mountinfo": NOT_MEMORY + V1.format(root="/docker/box"),
                "proc/self/cgroup": "4:memory:/docker/box\n1:cpu:/docker/box\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{512 * MB}\n",
            },
            id="version 1, whose tree shows the full path and is mounted from there",
        ),
        pytest.param(
            {
                "proc/self/mountinfo": V1.format(root="/") + V2.format(root="/"),
                "proc/self/cgroup": "4:cpu,memory:/a/b\n0::/a\n",
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{512 * MB}\n",
            },
            id="version 1 beside version 2, with the limit in a group above",
        ),
        pytest.param(
            {
                "proc/self/mountinfo": V2.format(root="/"),
                "proc/self/cgroup": "0::/../../elsewhere\n",
                "sys/fs/cgroup/memory.max": f"{512 * MB}\n",
            },
            id="a group outside of what the container sees",
        ),
    ],
)
def test_the_limit_of_a_container_is_found(tmp_path: Path, files: Mapping[str, str]) -> None:
    """The lowest limit of the process's own group and of those above it counts."""
    assert available_memory(system(tmp_path, files)) == 512 * MB


@pytest.mark.parametrize("text", ["max\n", "", "half\n", f"{10**19}\n"])
def test_without_a_limit_the_memory_of_the_machine_counts(tmp_path: Path, text: str) -> None:
    """A group without a limit, and files that do not say one, change nothing."""
    files = {
        "proc/self/mountinfo": V2.format(root="/") + "damaged\n",
        "proc/self/cgroup": "damaged\n0::/\n",
        "sys/fs/cgroup/memory.max": text,
    }
    assert available_memory(system(tmp_path, files)) == available_memory(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("available", "memory"),
    [(100_000 * MB, 550), (1_000 * MB, 550), (512 * MB, 281), (100 * MB, 100), (None, 550)],
)
def test_the_default_leaves_room_for_the_rest_of_the_program(
    tmp_path: Path, available: int | None, memory: int
) -> None:
    """A large machine changes nothing, and a small container lowers the limit."""
    with (
        patch.object(local_duckdb, "available_memory", return_value=available),
        open_duckdb(tmp_path) as connection,
    ):
        ((shown,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
    assert shown.endswith(" MiB")
    assert float(shown.removesuffix(" MiB")) * 2**20 == pytest.approx(memory * MB, rel=0.01)


def test_the_settings_reach_each_duckdb(tmp_path: Path) -> None:
    """DuckDB's memory, threads and temporary files; `test_dlt.py` has that of dlt."""
    limits = Limits("210MB", 3, str(tmp_path / "made" / "for it"))
    shown = (
        "SELECT current_setting('memory_limit'), current_setting('threads'),"
        " current_setting('temp_directory')"
    )
    with open_warehouse(f"duckdb:///{tmp_path}/a.duckdb", limits=limits) as warehouse:
        ((memory, threads, folder),) = warehouse.connection.execute(shown).fetchall()
        (used,) = (tmp_path / "made" / "for it").iterdir()
    assert (memory, threads) == ("200.2 MiB", 3)
    assert folder.startswith(f"{used}")
    assert not used.exists()


def test_no_duckdb_is_opened_but_with_limits() -> None:
    """Only one function of the program connects to DuckDB."""
    package = Path(ometria_replica.__file__).parent
    opening = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "duckdb.connect" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "duckdb.connect"
    }
    assert opening == {"local_duckdb.py"}


@pytest.mark.parametrize(
    ("name", "good", "value"),
    [
        ("OMETRIA_MEMORY_LIMIT", "512MB", "512MB"),
        ("OMETRIA_MEMORY_LIMIT", " 1.5 GiB ", "1.5GiB"),
        ("OMETRIA_THREADS", "2", 2),
        ("OMETRIA_TEMP_DIRECTORY", "/mnt/large", "/mnt/large"),
    ],
)
def test_the_limits_can_be_set_in_the_environment(name: str, good: str, value: object) -> None:
    """A container sets variables more easily than a file."""
    limits = load_config(environ=KEY | {name: good}).warehouse.limits
    assert value in (limits.memory_limit, limits.threads, limits.temp_directory)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("OMETRIA_MEMORY_LIMIT", "80%"),
        ("OMETRIA_MEMORY_LIMIT", "99MB"),
        ("OMETRIA_MEMORY_LIMIT", "512"),
        ("OMETRIA_MEMORY_LIMIT", "-1GB"),
        ("OMETRIA_MEMORY_LIMIT", "1GB'; DROP TABLE x"),
        ("OMETRIA_THREADS", "0"),
        ("OMETRIA_THREADS", "many"),
        ("OMETRIA_THREADS", "1025"),
        ("OMETRIA_TEMP_DIRECTORY", " "),
    ],
)
def test_other_limits_are_refused(name: str, bad: str) -> None:
    """What DuckDB would read differently, or not at all, is an error of the settings."""
    with pytest.raises(ConfigError, match=name):
        load_config(environ=KEY | {name: bad})


def test_a_temporary_directory_that_cannot_be_made_is_an_error_of_the_settings(
    tmp_path: Path,
) -> None:
    """The message names the folder and the setting."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"warehouse\.temp_directory: .*file/inside cannot be us"),
        temp_folder(str(tmp_path / "file" / "inside")),
    ):
        pass


def test_too_little_room_or_memory_is_an_error_of_the_warehouse(tmp_path: Path) -> None:
    """The message says which setting to change."""
    numbers = "CREATE TEMP TABLE t AS SELECT hash(i), hash(i + 1) FROM range(9000000) r(i)"
    for change, message in (
        ("SET max_temp_directory_size = '1MB'", r"disk .* is full.*temp_directory"),
        ("SET temp_directory = ''", r"not enough memory.*warehouse\.memory_limit"),
    ):
        with ExitStack() as opened:
            connection = open_staging(opened, Limits("100MB", 1, str(tmp_path)))
            connection.execute(change)
            with pytest.raises(WarehouseError, match=message), translating("mapping"):
                connection.execute(numbers)
    with pytest.raises(WarehouseError, match="is full"), translating("mapping"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
