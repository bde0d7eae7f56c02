"""The five tables that dlt loads contain the account."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import dlt
import pytest
from deltalake import DeltaTable
from dlt.pipeline.exceptions import PipelineStepFailed

from ometria_replica.comments import comments
from ometria_replica.config import Config
from ometria_replica.dlt import ometria, ometria_accounts
from ometria_replica.errors import ConfigError
from ometria_replica.extraction import file_log
from ometria_replica.extraction.reading import read
from ometria_replica.mapping import REJECT_COLUMNS
from ometria_replica.tables import EMAIL_EVENTS, LISTS
from ometria_simulator import Account, Fault, Feed, Quirks, Server, serve
from tests.dlt_source.destinations import TABLES, Destination, DuckDB, everything
from tests.e2e.oracle import expected, expected_further
from tests.e2e.program import run
from tests.incremental.shops import small_shop
from tests.replicas import account as settings_of
from tests.replicas import write_feed_file
from tests.spec.page import page_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.duck import Row


def source(server: Server | None, feed: Feed | None, **given: Any) -> Any:
    """Return the source of an account, as in a user's script."""
    return ometria(
        account_id=given.pop("account_id", "1042"),
        source_id=given.pop("source_id", "uk"),
        api_key=server.key if server else None,
        api_url=server.url if server else None,
        requests_per_second=1000,
        feed_url=str(feed.target) if feed else None,
        feed={"settle_seconds": 0} if feed else None,  # Its newest file is of now.
        **given,
    )


def without_request_times(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Drop the request time of profiles, which dlt cannot keep for unchanged rows."""
    return {
        name: [
            {k: v for k, v in row.items() if (name, k) != ("profiles", "updated_at")}
            for row in found
        ]
        for name, found in rows.items()
    }


def test_dlt_loads_the_account(
    shop: Account, server: Server, feed: Feed, destination: Destination, alone: list[str]
) -> None:
    """Names, types, order and rows are those of the specification page, and stay so over time."""
    began = datetime.now(UTC)
    destination.pipeline().run(source(server, feed))

    rows = everything(destination)
    assert rows == expected(shop, feed, "1042", "uk")
    assert all(rows.values())
    assert [destination.columns(table.name) for table in page_tables()] == [
        table.columns for table in page_tables()
    ]
    for found in everything(destination, load_time=True).values():
        assert all(began <= row["__synced_at"] <= datetime.now(UTC) for row in found)

    # A second load duplicates nothing and reads no file twice.
    destination.pipeline().run(source(server, feed))
    assert without_request_times(everything(destination)) == without_request_times(rows)
    times = {row["__synced_at"] for row in destination.rows("email_events")}
    assert len(times) == 1

    # Two days later: profiles change, merge and disappear, lists refresh, mails are sent.
    shop.advance(timedelta(days=2))
    feed.export()
    feed.rewrite(min(record.file for record in feed.delivered))
    gone = shop.profiles[0].id
    shop.delete_profile(gone)
    asked = len(server.requests)
    destination.pipeline().run(source(server, feed))

    now, then = everything(destination), expected(shop, feed, "1042", "uk")
    for name in TABLES:  # Deleted rows stay: the dlt source detects no deletes.
        known = {row["__sync_key"]: row for row in rows[name]}
        known |= {row["__sync_key"]: row for row in then[name]}
        then[name] = [known[key] for key in sorted(known)]
    assert without_request_times(now) == without_request_times(then)
    assert gone in {row["profile_id"] for row in now["profiles"]}
    since = {
        request.query["updateSince"]
        for request in server.requests[asked:]
        if "updateSince" in request.query
    }
    assert len(since) == 1
    assert alone == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # Used by dlt.
def test_the_next_load_continues_after_one_that_failed_halfway(
    shop: Account, server: Server, feed: Feed, destination: Destination
) -> None:
    """The next run completes the failed load, and the one after that loads the news since."""
    destination.pipeline().run(source(server, feed))
    shop.advance(timedelta(days=2))
    feed.export()
    fail_halfway(destination, server, feed)
    assert destination.pipeline().has_pending_data

    destination.pipeline().run(source(server, feed))
    destination.pipeline().run(source(server, feed))

    assert events(everything(destination)) == events(expected(shop, feed, "1042", "uk"))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("the folder is deleted", marks=pytest.mark.slow),
        pytest.param("the packages are aborted", marks=pytest.mark.slow),
    ],
)
def test_a_lost_load_is_read_again(
    shop: Account, server: Server, feed: Feed, destination: Destination, how: str
) -> None:
    """Dlt restores the state that was loaded with the last rows."""
    destination.pipeline().run(source(server, feed))
    shop.advance(timedelta(days=2))
    feed.export()
    fail_halfway(destination, server, feed)
    if how == "the folder is deleted":
        shutil.rmtree(destination.pipelines)
    else:
        destination.pipeline().abort_packages()

    destination.pipeline().run(source(server, feed))

    assert events(everything(destination)) == events(expected(shop, feed, "1042", "uk"))


def fail_halfway(destination: Destination, server: Server, feed: Feed) -> None:
    """Run a load that fails for email_events only; then repair that table."""
    destination.execute("ALTER TABLE ometria.email_events RENAME COLUMN bounce_reason TO other")
    with pytest.raises(PipelineStepFailed, match="bounce_reason"):
        destination.pipeline().run(source(server, feed))
    destination.execute("ALTER TABLE ometria.email_events RENAME COLUMN other TO bounce_reason")


def events(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the tables whose rows are never deleted and never change."""
    return {name: rows[name] for name in ("member_lists", "unsubscribes", "email_events")}


@pytest.mark.slow
def test_a_table_that_ometria_refuses_fails_the_whole_load(
    shop: Account, server: Server, feed: Feed, duck: DuckDB
) -> None:
    """No row is loaded and no state advances, so the next run reads everything."""
    server.faults.sometimes("/v2/unsubscribes", Fault(status=403), 1.0)
    with pytest.raises(PipelineStepFailed, match="Ometria refused the API key"):
        duck.pipeline().run(source(server, feed))
    server.faults.clear()

    duck.pipeline().run(source(server, feed))

    assert everything(duck) == expected(shop, feed, "1042", "uk")


@pytest.mark.slow
def test_two_accounts_share_a_dataset(
    shop: Account, server: Server, feed: Feed, destination: Destination, tmp_path: Path
) -> None:
    """Each account continues from its own state and changes its own rows only."""
    other = Account.create(profiles=40, lists=2, email_events=50, seed=8, now=shop.now)
    other_feed = Feed(other, tmp_path / "other")
    other_feed.export_history()
    with serve(other, requests_per_second=None) as other_server:
        accounts = (
            settings_of(server, Path(feed.target), account_id="1042", source_id="uk"),
            settings_of(other_server, tmp_path / "other", account_id="1043", source_id="de"),
        )
        for _ in range(2):
            destination.pipeline().run(ometria_accounts(Config(accounts)))

    uk, de = expected(shop, feed, "1042", "uk"), expected(other, other_feed, "1043", "de")
    both = {
        name: sorted(uk[name] + de[name], key=lambda row: str(row["__sync_key"])) for name in TABLES
    }
    assert without_request_times(everything(destination)) == without_request_times(both)


def test_the_newest_row_of_a_repeated_key_is_loaded(
    destination: Destination, tmp_path: Path
) -> None:
    """The later line of one file, and the later of two files, independent of dlt's merge."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    folder = tmp_path / "feed"

    def event(device: str) -> dict[str, object]:
        when = "2026-03-01 10:00:00"
        return {
            "to_address": "ann@example.com",
            "event_type": "open",
            "dt_occurred": when,
            "device_type": device,
        }

    write_feed_file(folder, "b.jsonl", noon, [event("oldest"), event("old")])
    write_feed_file(folder, "a.jsonl", noon + timedelta(hours=1), [event("new"), event("newest")])
    destination.pipeline().run(ometria(feed_url=str(folder)))
    assert [row["device_type"] for row in destination.rows("email_events")] == ["newest"]

    write_feed_file(folder, "c.jsonl", noon + timedelta(hours=2), [event("latest")])
    destination.pipeline().run(ometria(feed_url=str(folder)))
    assert [row["device_type"] for row in destination.rows("email_events")] == ["latest"]


def test_wide_keys_separate_rows_that_the_specified_keys_merge(
    duck: DuckDB, tmp_path: Path
) -> None:
    """The argument has the effect of the setting for ``sync``."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    click = {"to_address": "ann@example.com", "event_type": "click", "dt_occurred": "2026-03-01"}
    clicks = [{**click, "uuid": "1"}, {**click, "uuid": "2"}]
    write_feed_file(tmp_path / "feed", "a.jsonl", noon, clicks)

    duck.pipeline().run(ometria(feed_url=str(tmp_path / "feed"), wide_keys=True))

    assert {row["send_id"] for row in duck.rows("email_events")} == {"1", "2"}


def test_a_feed_that_is_empty_now_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If its files come back, the log still knows them."""
    folder, state = tmp_path / "feed", dict[str, Any]()
    record = {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "2026-03-01"}
    write_feed_file(folder, "a.jsonl", datetime(2026, 3, 2, 12, tzinfo=UTC), [record])
    settings = settings_of(folder=folder)
    assert len(list(read(settings, EMAIL_EVENTS, state))) == 1
    (folder / "a.jsonl").rename(tmp_path / "a.jsonl")

    assert list(read(settings, EMAIL_EVENTS, state)) == []
    assert "although earlier runs have read 1 file." in caplog.text
    (tmp_path / "a.jsonl").rename(folder / "a.jsonl")
    assert list(read(settings, EMAIL_EVENTS, state)) == []


def test_a_file_that_arrives_too_late_causes_a_warning(
    duck: DuckDB,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A new file below the horizon is not read; a load from the start reads it."""
    monkeypatch.setattr(file_log, "MOST_FILES", 2)
    noon, folder = datetime(2026, 3, 2, 12, tzinfo=UTC), tmp_path / "feed"

    def write(hour: int) -> None:
        record = {"to_address": f"{hour}@example.com", "event_type": "open", "dt_occurred": "1"}
        write_feed_file(folder, f"{hour}.jsonl", noon + timedelta(hours=hour), [record])

    for hour in (2, 3, 4, 5):
        write(hour)
    duck.pipeline().run(ometria(feed_url=str(folder)))
    assert "not read" not in caplog.text
    write(1)

    duck.pipeline().run(ometria(feed_url=str(folder)))
    assert "email_events: late files that were not read: 1. " in caplog.text
    assert len(duck.rows("email_events")) == 4

    duck.pipeline().run(ometria(feed_url=str(folder)), refresh="drop_data")
    assert len(duck.rows("email_events")) == 5


def test_rejects_have_a_table_of_their_own(destination: Destination, tmp_path: Path) -> None:
    """A value, a record and a file are rejected with a reason; the row of the value is loaded."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    folder = tmp_path / "feed"
    write_feed_file(
        folder,
        "a.jsonl",
        noon,
        [
            {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "whenever"},
            {"event_type": "open"},
        ],
    )
    (folder / "b.csv.gz").write_bytes(b"\x1f\x8b no gzip")

    for _ in range(2):
        source = ometria(feed_url=str(folder), feed={"settle_seconds": 0})
        destination.pipeline().run(source)

    assert [row["event_at"] for row in destination.rows("email_events")] == [None]
    found: dict[str, list[Any]] = {"a.jsonl": [], "b.csv.gz": []}
    for row in destination.rows("rejects"):
        found[row["origin"]].append((row["position"], row["column_name"], row["raw"]))
        assert row["reason"]
        assert row["source_id"] == "default"
    assert sorted(found["a.jsonl"]) == [(1, "event_at", "whenever"), (2, None, ANY)]
    assert found["b.csv.gz"] == [(None, None, None)]
    assert {name for name, _ in destination.columns("rejects")} == {*REJECT_COLUMNS, "rejected_at"}


def test_the_table_of_rejects_is_optional(
    duck: DuckDB, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rejects contain personal data; without their table, the log still has their number."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    record = {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "whenever"}
    write_feed_file(tmp_path / "feed", "a.jsonl", noon, [record])

    duck.pipeline().run(ometria(feed_url=str(tmp_path / "feed"), rejects=False))

    assert {name for name in duck.tables() if not name.startswith("_dlt")} == {"email_events"}
    assert "email_events: 1 records or values were rejected" in caplog.text
    assert "whenever" not in caplog.text


def test_the_dataset_has_no_other_tables_than_ours_and_dlts_own(
    server: Server, feed: Feed, duck: DuckDB
) -> None:
    """The dataset has the five tables, the rejects and dlt's three tables, and no others."""
    duck.pipeline().run(source(server, feed))

    assert duck.tables() == {
        *TABLES,
        "rejects",
        "_dlt_loads",
        "_dlt_version",
        "_dlt_pipeline_state",
    }


def test_a_list_that_failed_is_retried(duck: DuckDB) -> None:
    """The state records the list and its start time, and the next load reads it from there."""
    shop = small_shop()
    with serve(shop, requests_per_second=None) as server:
        server.quirks = Quirks(archived_changes="not_found")
        shop.archive_list("10")
        duck.pipeline().run(source(server, None))
        assert {row["list_id"] for row in duck.rows("member_lists")} == {"20"}

        server.quirks = Quirks()
        duck.pipeline().run(source(server, None))

    assert {row["list_id"] for row in duck.rows("member_lists")} == {"10", "20"}


@pytest.mark.slow
def test_delta_tables_are_merged_by_key(
    shop: Account, server: Server, feed: Feed, tmp_path: Path
) -> None:
    """For Delta, dlt uses upsert instead of delete-insert, and it requires unique keys."""
    destination = dlt.destinations.filesystem(str(tmp_path / "lake"))
    for _ in range(2):
        pipeline = dlt.pipeline(
            "lake",
            destination=destination,
            dataset_name="ometria",
            pipelines_dir=str(tmp_path / "pipelines"),
        )
        pipeline.run(source(server, feed, rejects=False), table_format="delta")

    for name, rows in expected(shop, feed, "1042", "uk").items():
        found = DeltaTable(str(tmp_path / "lake" / "ometria" / name)).to_pyarrow_table()
        assert sorted(map(str, found["__sync_key"].to_pylist())) == [
            row["__sync_key"] for row in rows
        ]


@pytest.mark.slow
def test_a_load_can_select_tables(server: Server, feed: Feed, duck: DuckDB) -> None:
    """By the argument ``tables``, or with dlt's own ``with_resources``."""
    duck.pipeline().run(source(server, feed, tables=["lists", "email_events"]))
    assert {"lists", "email_events"} == duck.tables() & set(TABLES)

    duck.pipeline().run(source(server, feed).with_resources("unsubscribes"))
    assert {"lists", "email_events", "unsubscribes"} == duck.tables() & set(TABLES)


def test_the_source_has_only_tables_that_the_settings_can_read(server: Server, feed: Feed) -> None:
    """Email events need a feed, and the other tables need an API key."""
    assert set(source(server, None).resources) == {*TABLES} - {"email_events"}
    assert set(source(None, feed).resources) == {"email_events"}


def test_dlt_knows_each_column_before_the_first_row(server: Server, feed: Feed) -> None:
    """Names in order, the key, the columns that are never null, and BigQuery's partitions."""
    schema = source(server, feed).discover_schema()

    for page in page_tables():
        table = schema.tables[page.name]
        columns = table["columns"]
        assert list(columns) == [name for name, _ in page.columns]
        never = {"_account_id", "__source_id", "__sync_key", "__synced_at"}
        assert {name for name in columns if not columns[name]["nullable"]} == never
        assert [name for name in columns if columns[name].get("primary_key")] == [
            "__source_id", "__sync_key",
        ]  # fmt: skip
        parted = {"event_at": "TIMESTAMP_TRUNC({column_name}, MONTH)"}
        assert table.get("x-bigquery-partition") == (parted if "event_at" in columns else None)


def test_a_resource_can_be_read_without_a_pipeline(server: Server) -> None:
    """A resource is an iterable of Arrow tables with the columns in the page's order."""
    (table,) = source(server, None).lists

    assert len(table) == 5
    (page,) = [page for page in page_tables() if page.name == "lists"]
    assert table.column_names == [name for name, _ in page.columns]


@pytest.mark.slow
def test_a_load_from_the_start_removes_deleted_rows(
    shop: Account, server: Server, feed: Feed, duck: DuckDB
) -> None:
    """``refresh="drop_data"`` empties the tables and resets their state."""
    duck.pipeline().run(source(server, feed))
    shop.delete_profile(shop.profiles[0].id)

    duck.pipeline().run(source(server, feed), refresh="drop_data")

    assert everything(duck) == expected(shop, feed, "1042", "uk")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source_id": "de"}, "the source_id 'uk'"),
        ({"account_id": "1043", "source_id": "uk1"}, "could meet those of 'uk1'"),
        ({"wide_keys": True}, "other wide_keys"),
        ({"account_id": "1043"}, "another account_id"),
    ],
)
def test_changed_keys_are_refused(
    server: Server, duck: DuckDB, changed: dict[str, Any], words: str
) -> None:
    """Changed keys would duplicate every row."""
    duck.pipeline().run(source(server, None, tables=["lists"]))
    before = duck.rows("lists")

    with pytest.raises(PipelineStepFailed, match=words):
        duck.pipeline().run(source(server, None, tables=["lists"], **changed))

    assert duck.rows("lists") == before


def test_the_settings_come_from_the_configuration_of_dlt(
    server: Server, feed: Feed, duck: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The section is ``sources.ometria``, as for any dlt source."""
    given = {
        "ACCOUNT_ID": "1042",
        "API_KEY": server.key,
        "API_URL": server.url,
        "REQUESTS_PER_SECOND": "1000",
        "FEED_URL": str(feed.target),
        "FEED": json.dumps({"pattern": "*.csv"}),
        "TABLES": '["lists", "email_events"]',
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SOURCES__OMETRIA__{name}", value)

    duck.pipeline().run(ometria())

    assert {row["_account_id"] for row in duck.rows("lists")} == {"1042"}
    assert {row["__source_id"] for row in duck.rows("email_events")} == {"1042"}


def test_all_problems_are_reported_at_once() -> None:
    """The error comes before any request and uses the names of dlt's configuration."""
    with pytest.raises(ConfigError) as refused:
        ometria(
            api_url="ftp://nowhere",
            requests_per_second=0,
            feed={"patern": "*", "delimiter": "long"},
        )

    assert [problem.partition(": ")[0] for problem in refused.value.problems] == [
        "sources.ometria.api_url",
        "sources.ometria.requests_per_second",
        "sources.ometria.feed.patern",
        "sources.ometria.feed.delimiter",
        "sources.ometria.feed_url",
    ]
    with pytest.raises(ConfigError, match="neither an API key nor a feed"):
        ometria()
    with pytest.raises(ConfigError, match=r"there is no table 'receipts'.*\n.*email_events needs"):
        ometria(api_key="key", tables=["receipts", "email_events"])


def test_tables_that_are_inside_others_are_left_out(server: Server) -> None:
    """What an array no longer has would stay: dlt's merge replaces rows by key."""
    with pytest.raises(ConfigError, match="profile_tags is an array inside other records"):
        ometria(api_key="key", tables=["profiles", "profile_tags"])
    account = replace(settings_of(server), tables=("all",))
    (made,) = ometria_accounts(Config(accounts=(account,)))
    assert "orders" in made.resources
    assert not {"profile_tags", "order_lines"} & set(made.resources)


def test_columns_that_cannot_be_hashed_are_reported(server: Server) -> None:
    """The accounts of a settings file may hash columns: without a secret they would be null."""
    account = replace(settings_of(server), hash=("profiles.email",))
    with pytest.raises(ConfigError, match=r"hash profiles\.email: the account needs hash_key"):
        ometria_accounts(Config(accounts=(account,)))


def test_no_message_contains_a_key(server: Server) -> None:
    """Neither the error of a wrong setting nor the repr of the source contains it."""
    with pytest.raises(ConfigError) as refused:
        ometria(api_key="se cret\n")
    assert "cret" not in str(refused.value)
    assert server.key not in repr(source(server, None))
    assert server.key not in str(source(server, None))


def test_without_dlt_the_error_names_the_package_to_install(tmp_path: Path) -> None:
    """The rest of the package works without dlt."""
    code = """
import sys
sys.modules["dlt"] = None
import ometria_replica, ometria_replica.replication
try:
    import ometria_replica.dlt
except ModuleNotFoundError as error:
    print(error)
"""
    said = run(code=code, cwd=tmp_path, check=True).out

    assert "pip install 'ometria-replica[dlt]'" in said


def test_replication_does_not_import_dlt(tmp_path: Path) -> None:
    """Only the dlt source imports dlt."""
    code = """
import sys, ometria_replica.cli, ometria_replica.replication, ometria_replica.doctor.run
print([name for name in sys.modules if name.split(".")[0] == "dlt"])
"""
    assert run(code=code, cwd=tmp_path, check=True).out.strip() == "[]"


def test_a_table_has_the_meanings_of_its_columns() -> None:
    """Where dlt keeps descriptions; destinations that can, write them as comments."""
    (lists,) = ometria(api_key="a-key", tables=["lists"]).resources.values()
    schema: Any = lists.compute_table_schema()

    there = {name: column["description"] for name, column in schema["columns"].items()}
    assert there | {"": f"{schema['description']} [ometria-replica]"} == comments(LISTS)


@pytest.mark.slow
def test_further_tables_are_loaded_by_their_names(
    shop: Account, server: Server, tmp_path: Path
) -> None:
    """With exact amounts; the second load begins at the end of the first."""
    destination = DuckDB(tmp_path / "further.duckdb", tmp_path / "pipelines")
    names = ["orders", "products", "push_errors"]
    destination.pipeline().run(source(server, None, tables=names))
    before = len(server.requests)
    shop.shop.add_order("late", profile_id=None, at=shop.now, grand_total=10.10, quantity=1)
    destination.pipeline().run(source(server, None, tables=names))

    promised = expected_further(shop, "1042", "uk")
    for name in names:
        found = [
            {column: value for column, value in row.items() if column != "__synced_at"}
            for row in destination.rows(name)
        ]
        assert sorted(found, key=lambda row: row["__sync_key"]) == promised[name]
    assert destination.tables() >= {*names}
    asked = [each for each in server.requests[before:] if each.path.endswith("/orders")]
    assert all(int(each.query.get("offset", "1")) or "updateSince" in each.query for each in asked)
