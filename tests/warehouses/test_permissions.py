"""Who may read the files of a warehouse: its owner alone, unless they were there before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ometria_replica.tables import LISTS
from tests.places import KINDS
from tests.warehouses.loads import Load, opened, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["duckdb", "delta", "iceberg", "dlt+duckdb"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a kind of warehouse in files, while all may read new files."""
    before = os.umask(0)
    yield request.param
    os.umask(before)


def modes_after_a_load(kind: str, folder: Path) -> set[str]:
    """Load twice, and give the modes of all below *folder*, while it is in use and after."""
    place = KINDS[kind](folder)
    for made in folder.iterdir():
        made.chmod(folder.stat().st_mode)
    found = set()
    for title in ("a", "b"):
        with opened(place) as warehouse, warehouse.sessions.open("a test"):
            Load(LISTS, [f'{{"id": "1", "title": "{title}"}}']).into(warehouse)
            found |= modes(folder)
        found |= modes(folder)
    assert rows(place, "lists")
    return found


def modes(folder: Path) -> set[str]:
    """Give what others than the owner may do with what is below *folder*."""
    return {oct(path.stat().st_mode & 0o077) for path in folder.rglob("*")}


def test_new_files_are_for_their_owner_alone(kind: str, tmp_path: Path) -> None:
    """Also those that libraries make: tables, logs, catalogs, and their folders."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    assert modes_after_a_load(kind, folder) == {"0o0"}


def test_in_a_folder_for_others_a_lake_is_for_them_too(kind: str, tmp_path: Path) -> None:
    """Who may read the folder may read what a sync adds, and may write what they may write."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o750)
    if kind == "delta":
        (folder / "lake").mkdir(mode=0o750)
    given = modes_after_a_load(kind, folder)
    assert given <= {"0o0", "0o40", "0o50"}
