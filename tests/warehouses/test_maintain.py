"""The maintenance of a lake: fewer files, the same rows, and time travel as far as promised."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import deltalake
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica import failpoints, maintain, status
from ometria_replica.batch import Lease
from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.doctor.findings import Finding
from ometria_replica.doctor.warehouse import check_warehouse
from ometria_replica.errors import Busy, ConfigError
from ometria_replica.selection import ALL, Selection, Values
from ometria_replica.tables import EMAIL_EVENTS, PROFILES
from ometria_replica.warehouse import upkeep
from ometria_replica.warehouse.remotes import delta_upkeep, iceberg_upkeep
from ometria_replica.warehouse.upkeep import (
    OVERDUE,
    Due,
    Files,
    Upkeep,
    joinable,
    surplus,
)
from tests.forked import ROOT, forkserver
from tests.places import BucketPlace, DeltaPlace, DuckDBPlace, IcebergPlace
from tests.schemas import faults
from tests.warehouses.forgetting import ANN, BOB, emails, files_with, loaded, profile
from tests.warehouses.loads import HOUR, NOON, Load, opened, rows

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica import Maintenance
    from tests.places import Place

KINDS = ["delta", pytest.param("iceberg", marks=pytest.mark.slow)]
BATCHES = 4


def a_lake(kind: str, folder: Path) -> Any:
    """Make a lake with a file of profiles and one of events for each of a few batches."""
    folder.mkdir(parents=True, exist_ok=True)
    place: Any = {"delta": DeltaPlace, "iceberg": IcebergPlace}[kind](folder)
    fill(place)
    return place


def fill(place: Place) -> None:
    """Load a few batches."""
    with opened(place) as warehouse:
        for number in range(BATCHES):
            at = NOON + number * HOUR
            event = {"to_address": f"p{number}@example.com", "event_type": "open"}
            Load(PROFILES, [profile(number, f"p{number}@example.com")], at=at).into(warehouse)
            Load(EMAIL_EVENTS, [json.dumps(event | {"dt_occurred": at.isoformat()})]).into(
                warehouse
            )


def settings(url: str) -> Config:
    """Return settings of a warehouse, which are all that maintenance needs."""
    return Config((), WarehouseSettings(url=url))


def maintained(place: Place, *names: str, **how: Any) -> Maintenance:
    """Maintain a place; its document is as its schema says."""
    done = maintain(settings(place.url), names, **how)
    schema = json.loads((ROOT / "docs/reference/schemas/maintain.json").read_text())
    jsonschema.validate(json.loads(done.to_json()), schema)
    return done


def by_table(done: Maintenance, what: str) -> dict[str, int]:
    """Count *what* was done to each of the tables with data, if anything."""
    found = {each.table: getattr(each, what).count for each in done.tables}
    return {name: n for name, n in found.items() if n and name.startswith("ometria.")}


@pytest.mark.parametrize("kind", KINDS)
def test_small_files_become_one_and_no_row_changes(kind: str, tmp_path: Path) -> None:
    """As the dry run says. A version of before can be read, and a second time nothing is left."""
    place = a_lake(kind, tmp_path / "lake")
    before = {name: rows(place, name) for name in ("profiles", "email_events")}
    versions = old_counts(place, "profiles")

    told = maintained(place, *before, dry_run=True)
    assert {name: rows(place, name) for name in before} == before
    assert len(place.files("profiles")) == BATCHES
    done = maintained(place, *before)

    small = {"ometria.profiles": BATCHES, "ometria.email_events": BATCHES}
    assert by_table(told, "joined") == by_table(done, "joined") == small
    assert by_table(done, "written") == dict.fromkeys(small, 1)
    assert told.joined.bytes >= done.joined.bytes > done.written.bytes > 0
    assert done.removed == Files()  # A week has not passed.
    assert {name: rows(place, name) for name in before} == before
    assert len(place.files("profiles")) == len(place.files("email_events")) == 1
    assert old_counts(place, "profiles")[: len(versions)] == versions
    assert "no file joined, no file removed" in maintained(place, *before).to_text()


def old_counts(place: Any, table: str) -> list[int]:
    """Count the rows of each version of a table, by the driver of the format itself."""
    if isinstance(place, DeltaPlace):
        folder = place.folder / "ometria" / table
        newest = deltalake.DeltaTable(folder).version()
        return [
            deltalake.DeltaTable(folder, version=version).to_pyarrow_table().num_rows
            for version in range(newest + 1)
        ]
    catalog = place._catalog()
    there = catalog.load_table(("ometria", table))
    found = [there.scan(snapshot_id=each.snapshot_id).to_arrow() for each in there.snapshots()]
    catalog.close()
    return [each.num_rows for each in found]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_without_a_retention_no_byte_of_a_row_that_was_deleted_stays(
    kind: str, tmp_path: Path
) -> None:
    """Not after the default, which keeps versions of a week, but after `--retention 0`."""
    place: Any = {"delta": DeltaPlace, "iceberg": IcebergPlace}[kind](tmp_path)
    loaded(place)
    with opened(place) as warehouse:
        for table in (PROFILES, EMAIL_EVENTS):
            warehouse.delete(table, Selection("uk", Values("email", (ANN,))))
        warehouse.delete(PROFILES, Selection("uk", Values("profile_id", ("p1",))))
    maintained(place)
    assert files_with(ANN, tmp_path / "ometria") or files_with(ANN, tmp_path)

    told = maintained(place, "profiles", "email_events", retention=timedelta(), force=True,
                      dry_run=True)  # fmt: skip
    assert told.removed.count > 0
    done = maintained(place, "profiles", "email_events", retention=timedelta(), force=True)
    assert done.removed.count >= told.removed.count
    assert [name for name in files_with(ANN, tmp_path) if "/rejects/" not in name] == []
    assert emails(place) == [BOB]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_reader_at_work_goes_on(kind: str, tmp_path: Path) -> None:
    """It has opened the table before, and reads it to its end afterwards."""
    place = a_lake(kind, tmp_path)
    with opened(place) as warehouse:
        lake: Any = warehouse._engine._remote._lake  # type: ignore[attr-defined]  # Of lakes.
        table = lake.open("ometria", "profiles")
        before = table.rows(ALL).read_all()
        maintained(place)
        assert table.rows(ALL).read_all().num_rows == before.num_rows


STEPS = {
    "delta": ("optimize", "vacuum", "checkpoint", "log"),
    "iceberg": ("optimize", "empty version", "expire", "unused file"),
}


def maintain_and_die(url: str, step: str) -> None:
    """Maintain in a process that kills itself at *step*."""

    def kill(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.listen(kill)
    maintain(settings(url), "profiles", retention=timedelta(), force=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_maintenance_that_is_killed_is_done_by_the_next(kind: str, tmp_path: Path) -> None:
    """At each step all rows are there, a sync works, and a second maintenance ends."""
    place = a_lake(kind, tmp_path)
    number = BATCHES
    # What comes after one step and before the next one does nothing that could be lost.
    moments = [*(f"before {step}" for step in STEPS[kind]), f"after {STEPS[kind][-1]}"]
    for moment in moments:
        process = forkserver().Process(target=maintain_and_die, args=(place.url, moment))
        process.start()
        process.join()
        assert process.exitcode in ({-signal.SIGKILL} if "empty version" not in moment else
                                    {-signal.SIGKILL, 0})  # fmt: skip
        assert len(rows(place, "profiles")) == number, moment
        with opened(place) as warehouse:
            for _ in range(2):
                one = profile(number, f"p{number}@example.com")
                Load(PROFILES, [one], at=NOON + number * HOUR).into(warehouse)
                number += 1
        assert len(rows(place, "profiles")) == number
    maintained(place, retention=timedelta(), force=True)
    assert len(rows(place, "profiles")) == number
    assert len(place.files("profiles")) == 1


def test_no_sync_runs_meanwhile(tmp_path: Path) -> None:
    """While a run holds the lease of an account the maintenance is refused, and changes nothing."""
    place = a_lake("delta", tmp_path / "lake")
    with opened(place) as warehouse:
        until = utc_now() + HOUR
        warehouse.leases.acquire(Lease.of_this_process("uk", "a-run", until), utc_now())
    with pytest.raises(Busy):
        maintained(place, "profiles")
    assert len(place.files("profiles")) == BATCHES
    assert maintained(place, "profiles", dry_run=True).joined.count > 0  # It only looks.


@pytest.mark.slow
def test_a_lake_in_a_bucket_is_maintained_too(bucket: str) -> None:
    """Files are measured and removed there as in a folder."""
    place = BucketPlace(bucket, "lake")
    fill(place)
    before = rows(place, "profiles")
    done = maintained(place, "profiles", retention=timedelta(), force=True)

    assert by_table(done, "joined") == {"ometria.profiles": BATCHES}
    told = maintained(place, "email_events", retention=timedelta(), force=True, dry_run=True)
    assert by_table(told, "removed") == {"ometria.email_events": BATCHES}
    assert rows(place, "profiles") == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_table_may_ask_for_a_longer_retention(kind: str, tmp_path: Path) -> None:
    """By the property of its format; what the user says goes first."""
    place = a_lake(kind, tmp_path)
    month = timedelta(days=30)
    retention_of: Any = {"delta": delta_upkeep, "iceberg": iceberg_upkeep}[kind].retention_of
    if kind == "delta":
        table: Any = deltalake.DeltaTable(place.folder / "ometria/profiles")
        assert retention_of(table, Upkeep()) == timedelta(days=7)
        table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 30 days"})
    else:
        table = place._catalog().load_table("ometria.profiles")
        assert retention_of(table, Upkeep()) == timedelta(days=7)
        with table.transaction() as change:
            millis = str(int(month.total_seconds() * 1000))
            change.set_properties({"history.expire.max-snapshot-age-ms": millis})
    assert retention_of(table, Upkeep()) == month
    assert retention_of(table, Upkeep(timedelta(days=2))) == timedelta(days=2)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    """A retention that breaks readers, a name that is no table, and an empty place."""
    place = DeltaPlace(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="--force"):
        maintained(place, retention=timedelta(hours=23))
    for odd in (timedelta(minutes=90), timedelta(hours=-1)):
        with pytest.raises(ConfigError, match="whole hours"):
            maintained(place, retention=odd, force=True)
    with pytest.raises(ConfigError, match="no table"):
        maintained(place, "profile")
    with pytest.raises(ConfigError, match="holds no account"):
        maintained(place)
    assert not place.folder.exists()


def test_a_duckdb_file_needs_no_maintenance(tmp_path: Path) -> None:
    """And the user is told so."""
    place = DuckDBPlace(tmp_path / "w.duckdb")
    with opened(place):
        pass
    assert "DuckDB writes checkpoints itself" in maintained(place).to_text()
    assert not told_of(place)


def test_files_that_lie_together_are_grouped_up_to_a_size() -> None:
    """A large one is left out, and so is a group of one."""
    assert list(joinable([5, 4, 20, 1, 9, 2, 3], int, 10)) == [[5, 4, 1], [2, 3]]


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 30))
def test_the_bound_of_what_can_be_joined_is_never_too_high(sizes: list[int], most: int) -> None:
    """Whatever the order of the files: a status promises no more than maintenance does."""
    joins = sum(len(group) - 1 for group in joinable(sizes, int, most))
    assert surplus(Files.of(sizes), most) <= joins


def told_of(place: Place) -> list[str]:
    """Return the findings of a check about maintenance: what status says too, in text and JSON."""
    config = settings(place.url)
    found = status(config, max_age=timedelta(days=9_999))
    codes = {
        each.code: each
        for each in check_warehouse(config, CATALOG, (), utc_now())
        if isinstance(each, Finding)
    }
    finding = codes.get("warehouse.maintenance")
    warned = finding is not None and finding.level == "warn"
    notes = [note for note in found.to_dict()["notes"] if "maintenance is due" in note]
    assert faults("status", found.to_dict()) == []
    assert warned == bool(found.maintenance_due) == bool(notes)
    assert ("Run `ometria-replica maintain`." in found.to_text()) == warned
    return [each.table for each in found.maintenance_due]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_lake_says_when_it_needs_maintenance(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For many small files, and for old versions long after their time; and no more afterwards."""
    place = a_lake(kind, tmp_path / "lake")
    assert told_of(place) == []
    monkeypatch.setattr(upkeep, "MANY_FILES", BATCHES - 1)
    monkeypatch.setattr(upkeep, "MANY_VERSIONS", 2)
    assert told_of(place) == ["ometria.profiles", "ometria.email_events"]
    maintained(place, "profiles", "email_events")
    with opened(place) as warehouse:
        for turn in range(3):
            one = profile(1, f"again{turn}@example.com")
            Load(PROFILES, [one], at=NOON + (10 + turn) * HOUR).into(warehouse)
    assert told_of(place) == []  # The old versions are young.

    if kind == "delta":
        long_ago = time.time() - (timedelta(days=7) + OVERDUE + HOUR).total_seconds()
        for entry in (tmp_path / "lake/ometria/profiles/_delta_log").iterdir():
            os.utime(entry, (long_ago, long_ago))
    else:
        monkeypatch.setattr(iceberg_upkeep, "OVERDUE", -timedelta(days=7))
    assert told_of(place)[0] == "ometria.profiles"
    if kind == "delta":  # Files went otherwise, as by a vacuum of Spark, which leaves the log.
        folder = tmp_path / "lake/ometria/profiles"
        deltalake.DeltaTable(folder).vacuum(0, dry_run=False, enforce_retention_duration=False)
    else:
        maintained(place, "profiles", "email_events", retention=timedelta(), force=True)
    assert told_of(place) == []


def test_a_table_is_due_from_the_limits_on() -> None:
    """Hourly runs of a week write 168 files, so that weekly maintenance is never late."""
    name = "ometria.profiles"
    assert Due.found(name, 500, 199, 9) is None
    assert Due.found(name, 500, 200, 9) == Due(name, 500, 200, 0)
    assert Due.found(name, 500, 199, 10) == Due(name, 500, 0, 10)


@pytest.mark.slow
def test_files_of_two_partitions_are_never_counted_as_one(tmp_path: Path) -> None:
    """A Delta table with partitions of your own: the dry run says what is done."""
    place = a_lake("delta", tmp_path / "lake")
    folder = tmp_path / "lake/ometria/profiles"
    rows_there = deltalake.DeltaTable(folder).to_pyarrow_table()
    deltalake.write_deltalake(
        folder, rows_there, mode="overwrite", schema_mode="overwrite", partition_by="profile_id"
    )
    assert len(place.files("profiles")) == BATCHES

    told = maintained(place, "profiles", dry_run=True)
    assert by_table(told, "joined") == by_table(maintained(place, "profiles"), "joined") == {}
