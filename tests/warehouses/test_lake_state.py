"""The tables of the state in a lake stay small, however many runs there were."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import deltalake
import pytest
from pyiceberg.catalog import load_catalog

from ometria_replica import failpoints
from ometria_replica.batch import Run
from ometria_replica.selection import ALL
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.remotes import delta_versions, iceberg_versions, lake_state
from ometria_replica.warehouse.remotes.lake_state import MOST_FILES
from tests.forked import forkserver
from tests.places import KINDS, DeltaPlace, IcebergPlace
from tests.warehouses.loads import HOUR, NOON, Load, a_lease, opened, state, table_state_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

KINDS_OF_LAKES = ("delta", "iceberg")


@pytest.fixture(params=KINDS_OF_LAKES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Create an empty lake, and remove it afterwards."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()


@pytest.fixture
def without_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let versions go as soon as they are replaced: hours of a test take no time."""
    monkeypatch.setattr(lake_state, "GRACE", timedelta())


def a_run(warehouse: Warehouse, number: int) -> None:
    """Do to the state what a run with one new page and one new file does."""
    at = NOON + number * HOUR
    lease = a_lease(run_id=f"run-{number}", until=at + HOUR)
    warehouse.leases.acquire(lease, at)
    one = f'{{"id": "{number}"}}'
    Load(PROFILES, [one], at=at, watermark=at, file=(f"{number}.csv", at), lease=lease).into(
        warehouse
    )
    warehouse.leases.release(lease)
    warehouse.runs.record(Run(f"run-{number}", at, at, "succeeded", "1", "{}"))


def files_of_state(place: Place) -> dict[str, int]:
    """Count the files of each table of the state, of old versions too."""
    folder: Path = place.folder  # type: ignore[attr-defined]  # Of lakes.
    tables = [*folder.glob("ometria_replica/*"), *folder.glob("ometria_replica.db/*")]
    return {each.name: sum(file.is_file() for file in each.rglob("*")) for each in tables}


def most_manifests(place: IcebergPlace) -> int:
    """Count the manifests of the newest version of the table that has the most."""
    catalog = load_catalog("default", uri=f"sqlite:///{place.folder}/catalog.db")
    tables = [
        catalog.load_table(name)
        for namespace in catalog.list_namespaces()
        for name in catalog.list_tables(namespace)
    ]
    newest = [(each.current_snapshot(), each.io) for each in tables]
    return max(len(version.manifests(io)) for version, io in newest if version is not None)


# --- few files, few commits --------------------------------------------------------------------


@pytest.mark.slow
def test_the_state_of_thirty_six_runs_has_as_many_files_as_that_of_twenty(
    lake: Any, without_grace: None
) -> None:
    """What each run adds is written together now and then, and old versions go."""
    counts: list[int] = []
    most: dict[str, int] = {}
    for number in range(36):
        with opened(lake) as warehouse:
            a_run(warehouse, number)
        counts.append(sum(files_of_state(lake).values()))
        most = {name: max(files, most.get(name, 0)) for name, files in files_of_state(lake).items()}

    assert max(counts[20:]) <= 1.2 * max(counts[:20])  # If they only grew: 1.8.
    assert max(most.values()) <= 160
    assert not isinstance(lake, IcebergPlace) or most_manifests(lake) < 16  # Each is read.
    assert len(state(lake, "runs")) == len(state(lake, "files")) == 36
    assert table_state_of(lake, "profiles").watermark == NOON + 35 * HOUR


@pytest.mark.parametrize(
    "lake", ["delta", pytest.param("iceberg", marks=pytest.mark.slow)], indirect=True
)
def test_rows_that_are_added_one_by_one_are_written_together(lake: Any) -> None:
    """In the commit of the next one, so that a table never has more files than a few."""
    with opened(lake) as warehouse:
        far: Any = warehouse._engine._remote  # type: ignore[attr-defined]  # Of lakes.
        for number in range(2 * MOST_FILES + 1):
            at = NOON + number * HOUR
            warehouse.runs.record(Run(f"run-{number}", at, at, "succeeded", "1", "{}"))
            with far.explaining("a test"):
                assert far._lake.open("ometria_replica", "runs").data_files().count <= MOST_FILES

    assert {row["run_id"] for row in state(lake, "runs")} == {
        f"run-{number}" for number in range(2 * MOST_FILES + 1)
    }
    assert len(state(lake, "runs")) == 2 * MOST_FILES + 1


@pytest.mark.slow
def test_a_run_commits_its_lease_twice(lake: Any) -> None:
    """It takes and releases it; in between it only reads it, until it has to be renewed."""
    with opened(lake) as warehouse:
        a_run(warehouse, 0)
        before = versions(lake, "leases")
        at = NOON + HOUR
        lease = a_lease(run_id="long", until=at + HOUR)
        warehouse.leases.acquire(lease, at)
        for number in range(3):
            Load(PROFILES, [f'{{"id": "new {number}"}}'], at=at, watermark=at, lease=lease).into(
                warehouse
            )
        warehouse.leases.release(lease)

    assert versions(lake, "leases") - before == 2


def versions(place: Any, table: str) -> int:
    """Count the commits to a table of the state."""
    if isinstance(place, DeltaPlace):
        return deltalake.DeltaTable(place.folder / "ometria_replica" / table).version()
    return int(place.versions("ometria_replica", table))


# --- old versions ------------------------------------------------------------------------------


def old_versions(place: Any) -> tuple[int, list[Any]]:
    """Return the number of versions of the leases, and a look at each, as it could be read."""
    if isinstance(place, DeltaPlace):
        folder = place.folder / "ometria_replica" / "leases"
        newest = deltalake.DeltaTable(folder).version()
        found = []
        for version in range(newest + 1):
            try:
                found.append(deltalake.DeltaTable(folder, version=version).to_pyarrow_table())
            except Exception:  # noqa: BLE001 -- whatever is said of a file that is gone.
                continue
        return newest + 1, found
    catalog = place._catalog()
    table = catalog.load_table("ometria_replica.leases")
    read = [table.scan(snapshot_id=each.snapshot_id).to_arrow() for each in table.snapshots()]
    catalog.close()
    return len(read), read


@pytest.mark.slow
def test_a_version_that_was_replaced_a_moment_ago_can_be_read(lake: Any) -> None:
    """A reader has an hour, so that the runs of an hour remove nothing that it needs."""
    with opened(lake) as warehouse:
        for number in range(6):
            a_run(warehouse, number)
        far: Any = warehouse._engine._remote._lake  # type: ignore[attr-defined]  # Of lakes.
        with far.explaining("a test"):
            table = far.open("ometria_replica", "leases")
            before = table.rows(ALL).read_all()
            for number in range(6, 12):
                a_run(warehouse, number)
            assert table.rows(ALL).read_all() == before
    commits, found = old_versions(lake)
    assert len(found) == commits >= 24


@pytest.mark.slow
def test_old_versions_go_some_at_a_time(
    lake: Any, monkeypatch: pytest.MonkeyPatch, without_grace: None
) -> None:
    """A lake with many, as of an earlier release, is made small by several runs."""
    monkeypatch.setattr(lake_state, "GRACE", timedelta(days=1))
    with opened(lake) as warehouse:
        for number in range(8):
            a_run(warehouse, number)
    monkeypatch.setattr(lake_state, "GRACE", timedelta())
    monkeypatch.setattr(iceberg_versions, "AT_ONCE", 6)
    monkeypatch.setattr(iceberg_versions, "COMMITS", 4)
    monkeypatch.setattr(delta_versions, "COMMITS", 4)
    counts = [files_of_state(lake)["leases"]]
    with opened(lake) as warehouse:
        for number in range(8, 16):
            a_run(warehouse, number)
            counts.append(files_of_state(lake)["leases"])

    assert counts[-1] < counts[0] / 2
    assert len(state(lake, "runs")) == 16


# --- kills -------------------------------------------------------------------------------------

STEPS = {
    "delta": ("old versions", "vacuum", "checkpoint", "log"),
    "iceberg": ("old versions", "expire", "unused file"),
}


def a_killed_run(url: str, number: int, step: str) -> None:
    """Run in a process that kills itself at *step*."""

    def kill(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    lake_state.GRACE = timedelta()
    delta_versions.COMMITS = iceberg_versions.COMMITS = 1
    with open_warehouse(url) as warehouse:
        failpoints.listen(kill)
        a_run(warehouse, number)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS_OF_LAKES)
def test_a_kill_while_old_versions_go_loses_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_grace: None
) -> None:
    """At each step: the tables can be read, the next run works, and the state is exact."""
    monkeypatch.setattr(iceberg_versions, "COMMITS", 1)
    monkeypatch.setattr(delta_versions, "COMMITS", 1)
    place: Any = {"delta": DeltaPlace, "iceberg": IcebergPlace}[kind](tmp_path)
    with opened(place) as warehouse:
        for number in range(6):
            a_run(warehouse, number)
    number = 6
    for step in STEPS[kind]:
        for when in ("before", "after"):
            process = forkserver().Process(
                target=a_killed_run, args=(place.url, number, f"{when} {step}")
            )
            process.start()
            process.join()
            assert process.exitcode == -signal.SIGKILL, f"{when} {step}"
            assert len(state(place, "runs")) == number + 1
            assert state(place, "leases") == []
            assert table_state_of(place, "profiles").watermark == NOON + number * HOUR
            with opened(place) as warehouse:
                a_run(warehouse, number + 1)
            assert table_state_of(place, "profiles").watermark == NOON + (number + 1) * HOUR
            assert len(state(place, "files")) == len(state(place, "runs")) == number + 2
            number += 2
