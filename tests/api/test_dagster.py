"""Assets of Dagster, materialised by its own helpers from a simulated account."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from ometria_replica import ConfigError, load_config, sync
from ometria_replica.dagster import (
    OmetriaReplica,
    SyncOptions,
    ometria_assets,
    ometria_definitions,
    ometria_schedule,
    ometria_sensor,
    ometria_sources,
)
from ometria_replica.warehouse import open_warehouse
from tests.duck import read_file
from tests.forked import ROOT
from tests.warehouses.loads import a_lease

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Server

pytestmark = pytest.mark.slow

FIVE = ("profiles", "member_lists", "lists", "email_events", "unsubscribes")
LISTS = dg.AssetKey(["ometria", "lists"])


@pytest.fixture
def here(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process the variables of the account; return the warehouse's file."""
    for name in [each for each in os.environ if each.startswith("OMETRIA_")]:
        monkeypatch.delenv(name)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "w.duckdb"


def materialized(
    assets: dg.AssetsDefinition,
    selection: list[str] | None = None,
    *,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    """Materialise *assets* with the settings of this process; what fails raises nothing."""
    return dg.materialize(
        [*ometria_sources(), assets],
        resources={"ometria": OmetriaReplica()},
        selection=[dg.AssetKey(["ometria", each]) for each in selection] if selection else None,
        run_config={"ops": {"ometria_sync": {"config": config or {}}}},
        raise_on_error=False,
        **options,
    )


def values(result: dg.ExecuteInProcessResult, table: str) -> dict[str, Any]:
    """Return the metadata of the one materialisation of *table*."""
    key = dg.AssetKey(["ometria", table])
    (event,) = [
        each.event_specific_data.materialization  # type: ignore[union-attr]  # Of such events.
        for each in result.get_asset_materialization_events()
        if each.asset_key == key
    ]
    return {
        name: [record.data for record in each.records]
        if isinstance(each, dg.TableMetadataValue)
        else each.value
        for name, each in event.metadata.items()
    }


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {each.asset_key.path[-1] for each in events if each.asset_key}


def test_definitions_load_without_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI, say, where nothing is set."""
    for name in [each for each in os.environ if each.startswith("OMETRIA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    for definitions in (
        ometria_definitions(),
        ometria_definitions(tables="orders", max_age=timedelta(hours=3), owners=["team:crm"]),
        ometria_definitions(partitions=dg.DailyPartitionsDefinition("2026-01-01")),
    ):
        dg.Definitions.validate_loadable(definitions)


def test_each_table_is_an_asset_with_its_columns(here: Path) -> None:
    """As the warehouse has them, with their meanings; and with what it is read from."""
    assets = ometria_assets(load_config())
    specs = {each.key.path[-1]: each for each in assets.specs}
    schema = specs["profiles"].metadata["dagster/column_schema"]

    assert set(specs) == set(FIVE)
    assert specs["lists"].key == LISTS
    assert specs["profiles"].kinds == {"ometria", "duckdb"}
    assert {name: [str(each.asset_key.path[0]) for each in spec.deps] for name, spec in
            specs.items()} == {name: ["ometria_export" if name == "email_events" else
                                      "ometria_api"] for name in FIVE}  # fmt: skip
    sync(load_config(), "profiles")
    columns = [
        row["column_name"]
        for row in read_file(here, "information_schema.columns", order="ordinal_position")
        if (row["table_schema"], row["table_name"]) == ("ometria", "profiles")
    ]
    assert [each.name for each in schema.columns] == columns
    assert all(each.description for each in schema.columns)
    (key,) = [each for each in schema.columns if each.name == "__sync_key"]
    assert schema.constraints.other == ["primary key (__source_id, __sync_key)"]
    assert not key.constraints.nullable


def test_one_sync_materialises_all_tables(here: Path) -> None:
    """With the counts of the run and the rows of the warehouse; again, with nothing new."""
    assets = ometria_assets(max_age=timedelta(hours=3))

    first = materialized(assets)
    again = materialized(assets)

    assert first.success
    assert again.success
    assert made(first) == set(FIVE)
    assert values(first, "profiles")["inserted"] == 25
    assert values(again, "profiles")["inserted"] == 0
    for table in FIVE:
        rows = len(read_file(here, f"ometria.{table}", order="__sync_key"))
        assert values(again, table)["dagster/row_count"] == rows, table
    assert values(first, "lists")["run"] == values(first, "profiles")["run"]
    assert values(first, "lists")["complete_until"] <= datetime.now(UTC).timestamp()
    checks = {(each.asset_key.path[-1], each.check_name): each.passed
              for each in first.get_asset_check_evaluations()}  # fmt: skip
    assert checks == {(t, c): True for t in FIVE for c in ("complete", "nothing_rejected")}
    assert len(read_file(here, "ometria_replica.runs", order="run_id")) == 2


def test_a_selection_reads_no_other_table(here: Path, server: Server) -> None:
    """Not even a request is sent for one."""
    before = len(server.requests)

    result = materialized(ometria_assets(), ["lists"])

    assert result.success
    assert made(result) == {"lists"}
    assert {each.path for each in server.requests[before:]} == {"/v2/lists"}


def test_a_table_that_settings_do_not_allow_is_skipped(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an export, the others are materialised."""
    monkeypatch.delenv("OMETRIA_FEED_URL")

    result = materialized(ometria_assets(), ["lists", "email_events"])

    assert result.success
    assert made(result) == {"lists"}


def test_rejects_are_a_warning_of_their_table(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with ``strict`` they fail the run, after everything else was materialised."""
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "bad.csv.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip file at all" * 9)
    os.utime(bad / "bad.csv.gz", (0, 0))
    monkeypatch.setenv("OMETRIA_FEED_URL", str(bad))

    result = materialized(ometria_assets(), ["lists", "email_events"])
    strict = materialized(ometria_assets(), ["lists", "email_events"], config={"strict": True})

    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert result.success
    assert [(each.asset_key.path[-1], each.check_name) for each in failed] == [
        ("email_events", "nothing_rejected")
    ]
    assert failed[0].severity == dg.AssetCheckSeverity.WARN
    assert not strict.success
    assert made(strict) == {"lists", "email_events"}


def failure(result: dg.ExecuteInProcessResult) -> Any:
    (failed,) = [each for each in result.all_events if each.event_type_value == "STEP_FAILURE"]
    return failed.step_failure_data


def test_a_wrong_key_fails_without_a_retry(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the export gave before is materialised; the failure says what to do."""
    monkeypatch.setenv("OMETRIA_API_KEY", "another-key")

    result = materialized(ometria_assets(), ["lists", "email_events"])

    assert not result.success
    assert made(result) == {"email_events"}
    data = failure(result).user_failure_data
    assert "refused the API key" in data.description
    assert "another-key" not in str(result.all_events)
    assert {name: each.value for name, each in data.metadata.items()} == {
        "error": "AccessDenied",
        "exit_code": 3,
    }
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]


def test_settings_that_are_wrong_fail_without_a_retry(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so do options that contradict each other."""
    wrong = materialized(ometria_assets(), ["lists"], config={"since": "soon"})
    monkeypatch.setenv("OMETRIA_REQUESTS_PER_SECOND", "many")

    for result in (wrong, materialized(ometria_assets(), ["lists"])):
        assert not result.success
        assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]


def test_what_passes_by_itself_is_tried_again(here: Path) -> None:
    """Another run holds the lease: the run waits, and then fails."""
    sync(load_config(), "lists")
    with open_warehouse(f"duckdb:///{here}") as warehouse:
        lease = a_lease("shop", until=datetime(2100, 1, 1, tzinfo=UTC))
        warehouse.leases.acquire(lease, datetime.now(UTC))

    result = materialized(ometria_assets(max_retries=1, seconds_to_wait=0), ["lists"])

    assert not result.success
    assert [e.event_type_value for e in result.all_events].count("STEP_UP_FOR_RETRY") == 1


def test_partitions_are_days_that_are_read_again(here: Path, server: Server) -> None:
    """A range is one run without moving a watermark; the newest day alone reads what is new."""
    days = dg.DailyPartitionsDefinition("2026-01-01")
    assets = ometria_assets(partitions=days)
    newest = days.get_last_partition_key()
    assert newest
    first = materialized(assets, ["unsubscribes", "email_events"], partition_key=newest)
    marks = read_file(here, "ometria_replica.watermarks", order="ALL")

    again = materialized(
        assets,
        ["unsubscribes", "email_events"],
        tags={
            "dagster/asset_partition_range_start": "2026-01-01",
            "dagster/asset_partition_range_end": "2026-01-31",
        },
    )

    assert first.success
    assert again.success
    assert marks
    assert read_file(here, "ometria_replica.watermarks", order="ALL") == marks
    reports = [each["report"] for each in read_file(here, "ometria_replica.runs", order="run_id")]
    assert '"due": "period"' in reports[1]
    assert '"due": "period"' not in reports[0]
    both = materialized(
        assets, ["unsubscribes"], partition_key="2026-01-05", config={"since": "2026-01-01"}
    )
    assert not both.success


def test_the_schedule_asks_for_what_is_new(here: Path) -> None:
    """Of assets in days, for the newest of them."""
    plain = ometria_schedule(ometria_assets())
    days = dg.DailyPartitionsDefinition("2026-01-01")
    daily = ometria_schedule(ometria_assets(partitions=days), "10 0 * * *")

    def ticked(schedule: dg.ScheduleDefinition) -> Any:
        repository = dg.Definitions(
            schedules=[schedule], resources={"ometria": OmetriaReplica()}
        ).get_repository_def()
        return schedule.evaluate_tick(dg.build_schedule_context(repository_def=repository))

    asked, of_days = ticked(plain), ticked(daily)

    assert [each.partition_key for each in asked.run_requests or ()] == [None]
    assert [each.partition_key for each in of_days.run_requests or ()] == [
        days.get_last_partition_key()
    ]


def test_the_sensor_looks_for_new_files_and_for_what_is_old(here: Path, server: Server) -> None:
    """It asks once, until a run has ended; it sends no request to the API."""
    assets = ometria_assets()
    sensor = ometria_sensor(assets)

    def looks(cursor: str | None = None, of: dg.SensorDefinition = sensor) -> Any:
        context = dg.build_sensor_context(cursor=cursor, resources={"ometria": OmetriaReplica()})
        return of.evaluate_tick(context)

    before = len(server.requests)
    new = looks()
    asked_again = looks(new.cursor)

    assert [each.tags["ometria/because"].split(":")[0] for each in new.run_requests] == ["too old"]
    assert "new files" in new.run_requests[0].tags["ometria/because"]
    assert asked_again.skip_message.startswith("Requested already")
    assert len(server.requests) == before
    sync(load_config())
    assert looks(new.cursor).skip_message == "No new files, and nothing is too old."
    assert looks(new.cursor, ometria_sensor(assets, max_age=timedelta(), name="old")).run_requests
    with open_warehouse(f"duckdb:///{here}") as warehouse:
        lease = a_lease("shop", until=datetime(2100, 1, 1, tzinfo=UTC))
        warehouse.leases.acquire(lease, datetime.now(UTC))
    assert looks().skip_message == "A run is active."


def test_a_sensor_that_cannot_look_skips(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With settings that are wrong, it says why."""
    monkeypatch.setenv("OMETRIA_REQUESTS_PER_SECOND", "many")
    context = dg.build_sensor_context(resources={"ometria": OmetriaReplica()})

    found = ometria_sensor(ometria_assets()).evaluate_tick(context)

    assert (found.skip_message or "").startswith("Not known: ")


def test_two_accounts_are_one_asset_for_each_table(
    here: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    """Counts are summed, and there is a table of accounts; a wrong key of one fails the asset."""
    account = (
        '[[accounts]]\naccount_id = "{id}"\nsource_id = "{id}"\napi_key = "env:{key}"\n'
        f'api_url = "{environ["OMETRIA_API_URL"]}"\nrequests_per_second = 1000\n'
    )
    path = tmp_path / "two.toml"
    path.write_text(account.format(id="uk", key="OMETRIA_API_KEY")
                    + account.format(id="us", key="OTHER_KEY"))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMETRIA_ACCOUNT_ID", "OMETRIA_API_KEY", "OMETRIA_API_URL",
                     "OMETRIA_FEED_URL", "OMETRIA_REQUESTS_PER_SECOND"):  # fmt: skip
            patch.delenv(name, raising=False)
        patch.setenv("OMETRIA_API_KEY", environ["OMETRIA_API_KEY"])
        patch.setenv("OTHER_KEY", environ["OMETRIA_API_KEY"])

        def run(**options: Any) -> dg.ExecuteInProcessResult:
            resource = OmetriaReplica(config_path=str(path), **options)
            return dg.materialize(
                [ometria_assets(tables="lists")],
                resources={"ometria": resource},
                raise_on_error=False,
            )

        both, one = run(), run(accounts=["us"])
        patch.setenv("OTHER_KEY", "another-key")
        refused = run()

    found = values(both, "lists")
    assert found["dagster/row_count"] == 4
    assert [record["account"] for record in found["accounts"]] == ["uk", "us"]
    assert values(one, "lists")["dagster/row_count"] == 2
    assert not refused.success
    assert made(refused) == set()


def test_a_table_that_is_not_there_is_refused() -> None:
    """When the definitions load."""
    with pytest.raises(ConfigError, match="no table 'profile'"):
        ometria_assets(tables="profile")
    assert SyncOptions().since is None


def test_dagster_itself_takes_the_example(tmp_path: Path) -> None:
    """``dagster definitions validate``, and a home that sends nothing to anybody."""
    example = ROOT / "examples" / "dagster"
    environ = {name: text for name, text in os.environ.items() if not name.startswith("OMETRIA_")}
    ended = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-f", "definitions.py"],
        cwd=example, env={**environ, "DAGSTER_HOME": str(tmp_path),
                          "DAGSTER_DISABLE_TELEMETRY": "yes"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert "telemetry:\n  enabled: false" in (example / "dagster.yaml").read_text()
