"""What is special about a warehouse that is a DuckDB file: its storage version and its mode."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica.batch import Owner
from ometria_replica.errors import WarehouseError
from ometria_replica.tables import LISTS
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.engines.duckdb_file import FileAttachment
from tests.faults.world import World
from tests.places import DuckDBPlace
from tests.warehouses.loads import NOON, Load, opened, rows

if TYPE_CHECKING:
    from pathlib import Path

VERSION_1_4 = 67
"""The number of the storage version v1.4.0 in the header: DuckDB 1.4 reads up to it."""


def number_of(path: Path) -> int:
    """Read the number of the storage version from the header, behind a checksum and ``DUCK``."""
    return int.from_bytes(path.read_bytes()[12:20], "little")


def version_of(path: Path) -> str:
    """Ask DuckDB for the storage version of a file."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS looked_at (READ_ONLY)")
        ((version,),) = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases()"
            " WHERE database_name = 'looked_at'"
        ).fetchall()
    return str(version)


def written_by_a_newer_duckdb(path: Path) -> None:
    """Give a file a storage version that no DuckDB knows, and the checksum that belongs to it."""
    contents = bytearray(path.read_bytes())
    contents[12:20] = (5000).to_bytes(8, "little")
    path.write_bytes(contents)
    with pytest.raises(duckdb.Error) as refused:
        duckdb.connect(str(path))
    due = re.search(r"computed checksum (\d+)", str(refused.value))
    assert due
    contents[0:8] = int(due[1]).to_bytes(8, "little")
    path.write_bytes(contents)


def test_a_new_file_can_be_opened_by_duckdb_1_4(tmp_path: Path) -> None:
    """A sync writes it in that storage version, and `check` says so."""
    with World(tmp_path, profiles=20, lists=2, email_events=20) as world:
        world.run()
        path = tmp_path / "replica.duckdb"
        assert number_of(path) == VERSION_1_4
        assert "can be opened (storage version v1.4.0)" in " ".join(world.run("check").out.split())


def test_a_setting_raises_the_version_of_a_new_file(tmp_path: Path) -> None:
    """And changes no file that exists."""
    for version, due in (("v2.0.0", "v2.0.0+"), ("v1.4.0", "v2.0.0+")):
        path = tmp_path / "replica.duckdb"
        with open_warehouse(str(path), storage_version=version) as warehouse:
            warehouse.prepare(Owner("account of uk", "uk"), NOON)
        assert version_of(path) == due


def test_a_file_that_exists_keeps_its_version(tmp_path: Path) -> None:
    """Rows are written to a file of any version that DuckDB here knows."""
    for version in ("v1.0.0", "v1.2.0", "latest"):
        place = DuckDBPlace(tmp_path / f"{version}.duckdb")
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{place.path}' AS new (STORAGE_VERSION '{version}')")
        before = number_of(place.path)
        with opened(place) as warehouse:
            Load(LISTS, ['{"id": "1"}']).into(warehouse)
        assert number_of(place.path) == before
        assert len(rows(place, "lists")) == 1


def row_groups(place: DuckDBPlace) -> int:
    """Count the row groups of the lists, of which a scan reads each by itself."""
    with place.looking() as connection:
        ((count,),) = connection.execute(
            "SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('ometria.lists')"
        ).fetchall()
    return int(count)


def test_row_groups_are_merged_after_many_rows_and_at_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after each batch: to merge them costs more than to load it."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    after: list[int] = []
    monkeypatch.setattr("ometria_replica.warehouse.engines.duckdb.ROW_GROUP", 3)
    with opened(place) as warehouse:
        for number in range(4):
            Load(LISTS, [f'{{"id": "{number}"}}']).into(warehouse)
            after.append(row_groups(place))
        warehouse.accounts.add(Owner("account of us", "us"), NOON)  # As a run ends: no rows.
    assert after == [1, 2, 1, 2]
    assert row_groups(place) == 1


def test_a_file_of_a_newer_duckdb_is_told_of(tmp_path: Path) -> None:
    """The message says which DuckDB is installed, and what to do."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    with opened(place):
        pass
    written_by_a_newer_duckdb(place.path)

    told = rf"newer DuckDB than {re.escape(duckdb.__version__)}.*pip install --upgrade duckdb"
    with pytest.raises(WarehouseError, match=told), opened(place):
        pass


def test_a_damaged_file_is_told_as_such(tmp_path: Path) -> None:
    """One that was cut off, one with other bytes in its header, and one with a damaged log."""
    place, log = DuckDBPlace(tmp_path / "replica.duckdb"), tmp_path / "replica.duckdb.wal"
    with opened(place):
        pass
    whole = place.path.read_bytes()

    for damaged in (whole[:100], whole[:-1], whole[:20000], whole[:100] + b"!" * 9 + whole[109:]):
        place.path.write_bytes(damaged)
        with pytest.raises(WarehouseError, match="is damaged: a part of it is missing"):
            place_is_opened(place)
        assert place.path.read_bytes() == damaged

    place.path.write_bytes(whole)
    with duckdb.connect(str(place.path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
        written = log.read_bytes()
    log.write_bytes(written[:60] + b"!" * 9 + written[69:])
    with pytest.raises(WarehouseError, match=r"replica.duckdb.wal, DuckDB's log .* is damaged"):
        place_is_opened(place)


def place_is_opened(place: DuckDBPlace) -> None:
    """Begin a run."""
    with opened(place):
        pass


def modes_while_open(place: DuckDBPlace) -> dict[str, str]:
    """Load a batch, and give the modes of all files while they are open."""
    with opened(place) as warehouse, warehouse.sessions.open("a test"):
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
        return {file.name: oct(file.stat().st_mode & 0o777) for file in place.path.parent.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_a_new_file_is_for_its_owner_alone(umask: int, tmp_path: Path) -> None:
    """And so is DuckDB's log, whatever the umask, which stays what it was."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    before = os.umask(umask)
    try:
        modes = modes_while_open(place)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)

    assert modes == {"replica.duckdb": "0o600", "replica.duckdb.wal": "0o600"}
    assert oct(place.path.stat().st_mode & 0o777) == "0o600"


def test_a_file_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    """A log is for those who may read the file."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    with opened(place):
        pass
    place.path.chmod(0o640)

    assert modes_while_open(place) == {"replica.duckdb": "0o640", "replica.duckdb.wal": "0o640"}


def test_a_file_that_cannot_be_opened_leaves_the_umask(tmp_path: Path) -> None:
    """The program may go on, and make other files."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    place.path.write_text("a letter")
    before = os.umask(0o022)
    try:
        with pytest.raises(WarehouseError, match="not a DuckDB file"), opened(place):
            pass
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_files_that_are_open_side_by_side_leave_the_umask(tmp_path: Path) -> None:
    """In whatever order two threads open and close them."""
    before = os.umask(0o022)
    try:
        first, second = (FileAttachment(f"{tmp_path / name}") for name in ("a.db", "b.db"))
        with duckdb.connect() as one, duckdb.connect() as other:
            first.attach(one)
            second.attach(other)
            first.detach(one)
            assert _umask() == 0o077
            second.detach(other)
        assert _umask() == 0o022
    finally:
        os.umask(before)


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


@pytest.mark.parametrize("read_only", [False, True])
def test_a_connection_of_this_process_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    """A notebook that has the file open is not another program, and nobody closes it later."""
    monkeypatch.setattr("ometria_replica.warehouse.engines.duckdb_file.WAIT_SECONDS", 0.0)
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    with opened(place):
        pass
    with (
        duckdb.connect(str(place.path), read_only=read_only),
        open_warehouse(place.url) as warehouse,
        pytest.raises(WarehouseError, match=r"open in this process: .*close\(\)") as refused,
    ):
        warehouse.accounts.owners()
    assert refused.value.exit_code == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "block", ["warehouse._engine.session('a test')", "translating('a test', warehouse.connection)"]
)
def test_a_signal_interrupts_a_long_statement(
    block: str, number: signal.Signals, tmp_path: Path
) -> None:
    """In the file as well as where records are mapped: the program ends as a stopped one."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from ometria_replica.cli import program\n"
        "from ometria_replica.local_duckdb import translating\n"
        "from ometria_replica.warehouse import open_warehouse\n"
        "def app(**_: object) -> None:\n"
        "    with open_warehouse(sys.argv[1]) as warehouse:\n"
        f"        with {block}:\n"
        "            print('running', flush=True)\n"
        "            warehouse.connection.execute("
        "'SELECT sum(hash(range)) FROM range(1000000000000)')  # Without memory or disk.\n"
        "program.app = app\n"
        "program.main()\n"
    )
    command = [sys.executable, str(program), str(tmp_path / "replica.duckdb")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(0.3)  # Until the statement runs.
        process.send_signal(number)
        _, said = process.communicate(timeout=30)

    assert process.returncode == 128 + number
    assert said == "Stopped. Committed data is safe; the next run continues from there.\n"


def test_a_folder_that_takes_no_log_is_told_by_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can be written is not enough: DuckDB writes a log beside it."""
    place = DuckDBPlace(tmp_path / "closed" / "replica.duckdb")
    place.path.parent.mkdir()
    with opened(place):
        pass
    if os.geteuid():
        place.path.parent.chmod(0o555)
    else:  # Nothing is closed to this user.
        access = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: path != place.path.parent and access(path, mode)
        )

    with (
        open_warehouse(place.url, dry_run=True) as warehouse,
        pytest.raises(WarehouseError, match=r"closed does not exist, or cannot be written"),
    ):
        warehouse.check_access()
