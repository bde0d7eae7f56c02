"""What a lake still holds of a person whose rows were deleted: every byte is searched."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import boto3
import deltalake
import pytest

from ometria_replica.errors import CommitConflict
from ometria_replica.selection import ALL
from ometria_replica.tables import PROFILES
from tests.places import KINDS, BucketPlace, DeltaPlace, IcebergPlace
from tests.warehouses.forgetting import (
    ANN,
    BOB,
    PLACES,
    delete_ann,
    emails,
    files_with,
    forget_elsewhere,
    forgotten,
    loaded,
    profile,
)
from tests.warehouses.loads import Load, opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_no_byte_of_a_deleted_row_stays_in_a_lake(kind: str, tmp_path: Path) -> None:
    """Neither in old versions, nor in statistics and predicates of the log, nor in rejects."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    with opened(place) as warehouse:  # A second version of her, and a log of several entries.
        for name in ("Ann", "Anna"):
            again = json.dumps({"id": "p1", "email": ANN, "firstname": name})
            Load(PROFILES, [again]).into(warehouse)
    found = files_with(ANN, tmp_path)
    assert any("_delta_log" in name or name.endswith(".avro") for name in found)
    assert any("rejects" in name for name in found)

    assert forgotten(place) == ""
    assert files_with(ANN, tmp_path) == []
    assert emails(place) == [BOB]
    with opened(place) as warehouse:  # The tables go on.
        Load(PROFILES, [profile(3, ANN)]).into(warehouse)
        assert warehouse.forget_deleted() == ""
    assert sorted(map(str, emails(place))) == [ANN, BOB]


KILLED = {"delta": ("vacuum", "checkpoint", "log"), "iceberg": ("expire", "unused file")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_forgetting_in_a_lake_that_is_killed_is_done_by_the_next(kind: str, tmp_path: Path) -> None:
    """The tables can be read meanwhile, and what Iceberg no longer names goes when it is old."""
    steps = [f"{when} {step}" for step in KILLED[kind] for when in ("before", "after")]
    places = [PLACES[kind](tmp_path / step / "lake") for step in steps]
    for place in places:
        place.folder.mkdir(parents=True)
        loaded(place)
    done = forget_elsewhere(
        *((kind, place.folder, step, 0) for place, step in zip(places, steps, strict=True))
    )
    assert done == [str(signal.SIGKILL)] * len(steps)
    for place in places:
        assert emails(place) == [BOB]
        told = forgotten(place)
        if told:
            assert kind == "iceberg"
            assert "left when it was killed less than 24 hours ago" in told
            let_age(place.folder)
            assert forgotten(place) == ""
        assert files_with(ANN, place.folder) == []
        assert emails(place) == [BOB]


def let_age(folder: Path) -> None:
    """Make the files below a folder two days older."""
    for file in folder.rglob("*"):
        os.utime(file, (file.stat().st_mtime - 2 * 86_400,) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_files_of_a_killed_write_are_removed_after_a_day(kind: str, tmp_path: Path) -> None:
    """A younger one may be that of a run at work, so that it stays, and the user is told."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    orphan = next(tmp_path.glob("**/profiles/**/*.parquet"))
    orphan = orphan.with_name("abandoned.parquet")
    orphan.write_text(ANN)
    if kind == "delta":  # As the driver names it while it writes.
        orphan = orphan.rename(orphan.with_name("abandoned.parquet#1"))

    assert "ometria.profiles keeps 1 file that a run may be writing" in forgotten(place)
    assert orphan.exists()
    let_age(orphan.parent)
    assert forgotten(place) == ""
    assert files_with(ANN, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_batch_that_meets_a_removal_of_old_versions_is_compared_again(
    kind: str, tmp_path: Path
) -> None:
    """The files that it has found are gone: a commit conflict, and no failure."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    with opened(place) as warehouse:
        lake = warehouse._engine._remote._lake  # type: ignore[attr-defined]  # Of lakes.
        table = lake.open("ometria", "profiles")
        rows_before = table.rows(ALL).read_all()
        assert forgotten(place) == ""
        with pytest.raises(CommitConflict), lake.explaining("a test"):
            table.overwrite(ALL, rows_before.to_reader())
        with pytest.raises(CommitConflict), lake.explaining("a test"):
            table.rows(ALL).read_all()
    assert emails(place) == [BOB]


@pytest.mark.slow
def test_a_change_data_feed_of_delta_forgets_too(tmp_path: Path) -> None:
    """It holds the rows that were deleted, in files of their own."""
    place = DeltaPlace(tmp_path / "lake")
    loaded(place)
    table = deltalake.DeltaTable(f"{place.folder}/ometria/profiles")
    table.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    with opened(place) as warehouse:
        delete_ann(warehouse)
        assert any("_change_data" in name for name in files_with(ANN, tmp_path))
        assert warehouse.forget_deleted() == ""
    assert files_with(ANN, tmp_path) == []


@pytest.mark.slow
def test_a_tag_of_iceberg_keeps_its_version_and_is_named(tmp_path: Path) -> None:
    """The user has asked to keep it."""
    place = IcebergPlace(tmp_path)
    loaded(place)
    catalog = place._catalog()
    table = catalog.load_table("ometria.profiles")
    table.manage_snapshots().create_tag(table.snapshots()[-1].snapshot_id, "audit").commit()
    catalog.close()

    assert "the versions of its branches and tags (audit)" in forgotten(place)
    assert files_with(ANN, tmp_path)


@pytest.mark.slow
def test_what_another_program_deletes_from_iceberg_is_forgotten_too(tmp_path: Path) -> None:
    """Its newest version may note the bounds of the files that it has removed."""
    place = IcebergPlace(tmp_path)
    loaded(place)
    catalog = place._catalog()
    for table in ("profiles", "email_events"):
        catalog.load_table(("ometria", table)).delete(f"email = '{ANN}'")
    catalog.close()

    assert forgotten(place) == ""
    assert files_with(ANN, tmp_path) == []
    assert emails(place) == [BOB]


@pytest.mark.slow
def test_a_lake_in_a_bucket_forgets_too(bucket: str, tmp_path: Path) -> None:
    """But for what the bucket's versioning may keep, as the user is told."""
    place = BucketPlace(bucket, "lake")
    loaded(place)
    assert files_with(ANN, downloaded(bucket, tmp_path / "before"))
    assert forgotten(place).startswith(f"If the bucket of s3://{bucket}/lake has versioning")
    assert files_with(ANN, downloaded(bucket, tmp_path / "after")) == []
    assert emails(place) == [BOB]


def downloaded(bucket: str, folder: Path) -> Path:
    """Download all objects of a bucket."""
    client = boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page["Contents"]:
            file = folder / item["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, item["Key"], str(file))
    return folder
