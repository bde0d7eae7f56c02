from __future__ import annotations

import dataclasses
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica import spark as on_spark
from ometria_replica.batch import BatchSize
from ometria_replica.config import FeedSettings, Limits, Secret
from ometria_replica.errors import ConfigError, OmetriaError, ReplicaError
from ometria_replica.run_context import NoProgress
from ometria_replica.spark import driver, executors, outcomes, staging_folder
from ometria_replica.tables import EMAIL_EVENTS
from ometria_replica.warehouse.warehouse import Warehouse
from ometria_simulator import Account, Dialect, Feed, S3Server
from tests.duck import read_file
from tests.e2e.oracle import expected
from tests.incremental.shops import account, config, state
from tests.replicas import everything, of, replicate
from tests.spark.cluster import Cluster, kill, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.report import RunReport

pytestmark = pytest.mark.slow  # A cluster takes a minute, and needs Java.

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY, SECRET = "CANARYKEYID4471", "canary-secret-key-8802"
API_KEY = "canary-api-key-5190"


def backfill(
    cluster: Cluster, warehouse: Path, ours: AccountSettings, staging: Any, **more: Any
) -> RunReport:
    """Run a backfill on the cluster, with a clock that stays at noon."""
    more = {"at_once": 3, "clock": lambda: NOON, **more}
    return on_spark.backfill(config(warehouse, ours), cluster.spark, staging, **more)


def contents_of(warehouse: Path) -> dict[str, Any]:
    """Return all rows and state of a warehouse, including load times, without the run ids."""
    found: dict[str, Any] = {"rows": everything(warehouse, load_time=True)["email_events"]}
    for name in ("files", "rejects", "watermarks", "accounts", "leases"):
        rows = [{**row, "run_id": None} for row in state(warehouse, name)]
        found[name] = sorted(rows, key=str)
    return found


def counts(report: RunReport) -> dict[str, Any]:
    return {**dataclasses.asdict(of(report, "email_events")), "seconds": None}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def troubled_feed(folder: Path) -> tuple[Account, Feed]:
    """Write CSV in gzip that overlaps, repeats, was edited or has bad values; and JSON lines."""
    shop = Account.create(profiles=60, lists=1, email_events=200, nul_characters=True)
    feed = Feed(shop, folder, dialect=Dialect(compression="gzip"), duplicate_share=0.05)
    names = feed.export_history(files_per_day=1 / 30)
    feed.rewrite(names[1])
    feed.rewrite(names[2], lambda cells: {**cells, "dt_occurred": "never", "to_address": "x\0y"})
    shop.advance(timedelta(days=2))
    feed.export_html()
    feed.export_empty()
    feed.poison(
        "short.csv", b"to_address,event_type,dt_occurred,news\nann,open\n,,,1\nann,open,0,1\n"
    )
    other = Feed(shop, folder, dialect=Dialect("jsonl", name="later/{number}.jsonl"))
    shop.advance(timedelta(days=2))
    other.export_events(shop.events[:80])
    feed.delivered += other.delivered
    return shop, feed


def test_a_backfill_on_spark_leaves_the_same_warehouse_as_one_machine(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, file log, rejects, counts and warnings are the same, in several waves and batches."""
    troubled_feed(tmp_path / "feed")
    monkeypatch.setattr(driver, "WAVE_FILES", 4)
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(files=3))
    ours = account(folder=tmp_path / "feed")
    one, many, staging = (tmp_path / name for name in ("one.duckdb", "many.duckdb", "staging"))

    here = replicate(one, ours, at=NOON, tables=["email_events"])
    there = backfill(cluster, many, ours, str(staging))

    assert contents_of(many) == contents_of(one)
    assert counts(there) == counts(here)
    assert there.warnings == here.warnings
    events = of(there, "email_events")
    assert events.files > 4
    assert events.files_unreadable > 0
    assert events.merged > 0
    assert events.records_rejected > 0
    assert events.values_rejected > 0
    assert events.unknown_fields == ("news",)
    assert [json.loads(row["report"])["outcome"] for row in state(many, "runs")] == ["succeeded"]
    assert files_below(staging) == []


def test_killing_an_executor_during_a_task_changes_no_result(
    cluster: Cluster, tmp_path: Path
) -> None:
    """
    SIGKILL hits a task that maps a file after it staged others: the rows are the account's.

    Another executor stages these files again, and the staging folder is empty at the end.
    """
    shop = Account.create(profiles=100, lists=1, email_events=6_000)
    feed = Feed(shop, tmp_path / "feed", dialect=Dialect(compression="gzip"))
    feed.export_history(files_per_day=1 / 14)
    ours, staging = account(folder=tmp_path / "feed"), tmp_path / "staging"
    before = cluster.executors()
    killed: list[int] = []

    def kill_one_at_work() -> None:
        wait_until(lambda: files_below(staging), 60)
        killed.append(wait_until(cluster.executor_at_work, 30))
        kill(killed[0])

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    report = backfill(cluster, tmp_path / "w.duckdb", ours, str(staging), at_once=2)
    killer.join()

    assert killed[0] in before
    assert killed[0] not in cluster.executors()
    assert any(b"ExecutorLostFailure" in log for log in cluster.logs().values())
    assert (
        everything(tmp_path / "w.duckdb")["email_events"]
        == expected(shop, feed, "1042", "uk")["email_events"]
    )
    assert of(report, "email_events").records == len(feed.delivered)
    assert files_below(staging) == []


class FailsAfterABatch(NoProgress):
    """Interrupts the driver at the first file that arrives once the file log has entries."""

    def __init__(self, warehouse: Path) -> None:
        self.warehouse = warehouse

    def advance(self, *_: object) -> None:
        """Read the warehouse, which no process locks between two batches."""
        if state(self.warehouse, "files"):
            raise KeyboardInterrupt


def test_the_next_run_continues_after_a_driver_that_ended_between_two_batches(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded rows stay, the next run reads the rest, and a third run reads only the new file."""
    shop = Account.create(profiles=60, lists=1, email_events=300)
    feed = Feed(shop, tmp_path / "feed")
    names = feed.export_history(files_per_day=1 / 30)
    ours = account(folder=tmp_path / "feed")
    warehouse, staging = tmp_path / "w.duckdb", tmp_path / "staging"
    monkeypatch.setattr(Warehouse, "batch_size", BatchSize(files=3))
    left_by_a_killed_run = staging / folder_of(warehouse, "uk") / "dead" / "0.rows.parquet"
    of_another = staging / folder_of(tmp_path / "other.duckdb", "uk") / "run" / "0.rows.parquet"
    for path in (left_by_a_killed_run, of_another):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"people's data")

    with pytest.raises(KeyboardInterrupt):
        backfill(cluster, warehouse, ours, str(staging), progress=FailsAfterABatch(warehouse))
    assert len(state(warehouse, "files")) == 3 < len(names)
    assert files_below(staging) == [of_another]

    second = backfill(cluster, warehouse, ours, str(staging))
    assert of(second, "email_events").files == len(names) - 3

    shop.advance(timedelta(days=2))
    new = feed.export()
    third = backfill(cluster, warehouse, ours, str(staging))
    assert of(third, "email_events").files == len(new) == 1
    assert (
        everything(warehouse)["email_events"] == expected(shop, feed, "1042", "uk")["email_events"]
    )


def folder_of(warehouse: Path, source_id: str) -> str:
    return staging_folder.StagingFolder(FeedSettings(url=""), f"duckdb:///{warehouse}").folder_of(
        source_id
    )


def test_a_backfill_reads_and_stages_in_a_bucket_and_no_log_contains_its_key(
    cluster: Cluster, s3: S3Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Keys are in the tasks' closures only, and in no log of driver, executors or events."""
    shop = Account.create(profiles=60, lists=1, email_events=200)
    feed = Feed(shop, f"{s3.url}/exports", s3=s3.access)
    feed.export_history(files_per_day=1 / 60)
    feed_settings = FeedSettings(
        url=f"{s3.url}/exports",
        endpoint_url=s3.endpoint_url,
        region=s3.region,
        access_key_id=Secret(KEY, "the test"),
        secret_access_key=Secret(SECRET, "the test"),
    )
    ours = account(feed=feed_settings, api_key=Secret(API_KEY, "the test"))
    staging = dataclasses.replace(feed_settings, url=f"{s3.url}/staging/here")

    backfill(cluster, tmp_path / "w.duckdb", ours, staging)

    assert (
        everything(tmp_path / "w.duckdb")["email_events"]
        == expected(shop, feed, "1042", "uk")["email_events"]
    )
    assert s3.client().list_objects_v2(Bucket=s3.bucket, Prefix="staging/").get("KeyCount") == 0
    logs = cluster.logs() | {"output": "".join(capfd.readouterr()).encode()}
    assert {name.partition("/")[0] for name in logs} >= {"logs", "events", "home", "output"}
    assert any(b"mapInArrow" in log or b"MapInArrow" in log for log in logs.values())
    for canary in (KEY, SECRET, API_KEY):
        assert [name for name, log in logs.items() if canary.encode() in log] == []


def test_files_that_the_store_denies_are_reported_as_on_one_machine(
    cluster: Cluster, s3: S3Server, tmp_path: Path
) -> None:
    """An archived file is set aside with its reason, and waits; the others are loaded."""
    feed_settings = FeedSettings(
        url=f"{s3.url}/archive",
        endpoint_url=s3.endpoint_url,
        access_key_id=Secret(KEY, "the test"),
        secret_access_key=Secret(SECRET, "the test"),
    )
    ours, staging = account(feed=feed_settings), str(tmp_path / "staging")
    one, many = tmp_path / "one.duckdb", tmp_path / "many.duckdb"
    csv = b"to_address,event_type,dt_occurred\na@x.test,open,2026-01-01\n"
    for name, storage in (("1", "GLACIER"), ("2", "GLACIER"), ("3", "STANDARD")):
        key = f"archive/{name}"
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=csv, StorageClass=storage)

    here, there = replicate(one, ours, at=NOON), backfill(cluster, many, ours, staging)
    assert contents_of(many)["rows"] == contents_of(one)["rows"]
    assert (counts(there), there.warnings) == (counts(here), here.warnings)

    here, there = replicate(one, ours, at=NOON), backfill(cluster, many, ours, staging)
    assert counts(there) == counts(here)
    assert here.warnings == there.warnings == ()


def test_an_error_on_an_executor_has_the_message_of_a_sync(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other versions on the executor, a job that Spark fails, and wrong arguments."""
    feed = Feed(Account.create(profiles=5, email_events=9), tmp_path / "feed")
    feed.export_history()
    ours, staging = account(folder=tmp_path / "feed"), str(tmp_path / "staging")
    warehouse = tmp_path / "w.duckdb"

    with pytest.raises(ConfigError, match="No account has a feed"):
        backfill(cluster, warehouse, account(api_key=Secret(API_KEY, "the test")), staging)
    with pytest.raises(ConfigError, match="1 or more"):
        backfill(cluster, warehouse, ours, staging, at_once=0)
    with pytest.raises(ReplicaError, match=r"Spark failed to stage .* See the executors' logs"):
        backfill(cluster, warehouse, ours, staging, memory="a lot")
    monkeypatch.setattr(executors, "__version__", "0.0.1")
    with pytest.raises(ConfigError, match=r"On an executor: .* Install the same versions on both"):
        backfill(cluster, warehouse, ours, staging)

    assert read_file(warehouse, "ometria.email_events") == []
    assert state(warehouse, "leases") == []


def test_a_staging_folder_that_is_not_shared_is_an_error(tmp_path: Path) -> None:
    """Either the executor has no such folder, or it has one that the driver cannot see."""
    staging, ours = FeedSettings(url=str(tmp_path / "staging")), account(folder=tmp_path)
    work = executors.Work(ours, EMAIL_EVENTS, staging, "here/", Limits(), executors.versions())

    (outcome,) = executors.outcomes_of(work, [0])
    assert isinstance(outcome, outcomes.Failed)
    assert outcome.error == "ConfigError"
    assert outcome.message.endswith(f"staging: this folder does not exist. {staging_folder.SHARED}")

    folder = staging_folder.StagingFolder(staging, "duckdb:///w")
    with pytest.raises(
        ConfigError, match=r"cannot find a file that an executor wrote\. Use a staging folder"
    ):
        folder.download("ometria-replica/here/1.rows.parquet", tmp_path)


def test_a_staging_bucket_that_does_not_exist_is_an_error(s3: S3Server) -> None:
    """The message names the staging folder, not the feed."""
    nowhere = FeedSettings(
        url="s3://nowhere/staging",
        endpoint_url=s3.endpoint_url,
        access_key_id=Secret(KEY, "the test"),
        secret_access_key=Secret(SECRET, "the test"),
    )
    folder = staging_folder.StagingFolder(nowhere, "duckdb:///w")

    with pytest.raises(OmetriaError, match=r"no such bucket\. Check the staging folder's url\."):
        folder.begin(account(feed=nowhere))


@pytest.mark.parametrize(
    "outcome",
    [
        outcomes.Staged(3, "a/3.rows.parquet", None, (7, 0), ("news",)),
        outcomes.Unreadable(4, "it cannot be read as csv", again=False, later=True),
        outcomes.Failed("ConfigError", "no"),
    ],
)
def test_an_outcome_survives_json(outcome: outcomes.Outcome) -> None:
    """The driver gets the outcome that the executor returned, with all its types."""
    assert outcomes.outcome_from_json(outcome.to_json()) == outcome
