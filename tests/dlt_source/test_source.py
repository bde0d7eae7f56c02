"""Loaded by dlt, the five tables are the account."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import dlt
import pytest
from deltalake import DeltaTable
from dlt.pipeline.exceptions import PipelineStepFailed

from ometria_replica.config import Config
from ometria_replica.dlt import file_log, ometria, ometria_accounts
from ometria_replica.errors import ConfigError
from ometria_replica.mapping import REJECT_COLUMNS
from ometria_simulator import Account, Fault, Feed, Quirks, Server, serve
from tests.dlt_source.places import TABLES, DuckDB, Place, everything
from tests.e2e.oracle import expected
from tests.e2e.program import run
from tests.incremental.shops import small_shop
from tests.replicas import account as settings_of
from tests.replicas import write_feed_file
from tests.spec.page import page_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.duck import Row


def source(server: Server | None, feed: Feed | None, **given: Any) -> Any:
    """Make the source of an account, as a script would."""
    return ometria(
        account_id=given.pop("account_id", "1042"),
        source_id=given.pop("source_id", "uk"),
        api_key=server.key if server else None,
        api_url=server.url if server else None,
        requests_per_second=1000,
        feed_url=str(feed.target) if feed else None,
        **given,
    )


def without_stamps(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Leave out when a profile was asked for, which dlt can't keep as it was."""
    return {
        name: [
            {k: v for k, v in row.items() if (name, k) != ("profiles", "updated_at")}
            for row in found
        ]
        for name, found in rows.items()
    }


def test_dlt_loads_the_account(
    shop: Account, server: Server, feed: Feed, place: Place, alone: list[str]
) -> None:
    """Names, types, order and rows are the page's, and stay so as time passes."""
    began = datetime.now(UTC)
    place.pipeline().run(source(server, feed))

    rows = everything(place)
    assert rows == expected(shop, feed, "1042", "uk")
    assert all(rows.values())
    assert [place.columns(table.name) for table in page_tables()] == [
        table.columns for table in page_tables()
    ]
    for found in everything(place, load_time=True).values():
        assert all(began <= row["__synced_at"] <= datetime.now(UTC) for row in found)

    # Again: nothing is doubled, and files are not read twice.
    place.pipeline().run(source(server, feed))
    assert without_stamps(everything(place)) == without_stamps(rows)
    times = {row["__synced_at"] for row in place.rows("email_events")}
    assert len(times) == 1

    # Time passes: profiles change, merge and vanish, lists refresh, mails go out.
    shop.advance(timedelta(days=2))
    feed.export()
    feed.rewrite(min(record.file for record in feed.delivered))
    gone = shop.profiles[0].id
    shop.delete_profile(gone)
    asked = len(server.requests)
    place.pipeline().run(source(server, feed))

    now, then = everything(place), expected(shop, feed, "1042", "uk")
    for name in TABLES:  # What has gone stays, as nobody tells dlt.
        known = {row["__sync_key"]: row for row in rows[name]}
        known |= {row["__sync_key"]: row for row in then[name]}
        then[name] = [known[key] for key in sorted(known)]
    assert without_stamps(now) == without_stamps(then)
    assert gone in {row["profile_id"] for row in now["profiles"]}
    since = {
        request.query["updateSince"]
        for request in server.requests[asked:]
        if "updateSince" in request.query
    }
    assert len(since) == 1
    assert alone == []


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # It is dlt that uses it.
def test_a_load_that_fails_halfway_is_gone_on_with(
    shop: Account, server: Server, feed: Feed, place: Place
) -> None:
    """The run after it ends what was begun, and the one after that brings what is new since."""
    place.pipeline().run(source(server, feed))
    shop.advance(timedelta(days=2))
    feed.export()
    fail_in_the_middle(place, server, feed)
    assert place.pipeline().has_pending_data

    place.pipeline().run(source(server, feed))
    place.pipeline().run(source(server, feed))

    assert events(everything(place)) == events(expected(shop, feed, "1042", "uk"))


@pytest.mark.parametrize("how", ["the folder is gone", "somebody gave it up"])
def test_a_load_that_is_lost_is_read_again(
    shop: Account, server: Server, feed: Feed, place: Place, how: str
) -> None:
    """Then dlt goes back to the state that came with the last rows."""
    place.pipeline().run(source(server, feed))
    shop.advance(timedelta(days=2))
    feed.export()
    fail_in_the_middle(place, server, feed)
    if how == "the folder is gone":
        shutil.rmtree(place.pipelines)
    else:
        place.pipeline().abort_packages()

    place.pipeline().run(source(server, feed))

    assert events(everything(place)) == events(expected(shop, feed, "1042", "uk"))


def fail_in_the_middle(place: Place, server: Server, feed: Feed) -> None:
    """Run a load whose events don't fit, while the other tables do; then make it fit."""
    place.execute("ALTER TABLE ometria.email_events RENAME COLUMN bounce_reason TO other")
    with pytest.raises(PipelineStepFailed, match="bounce_reason"):
        place.pipeline().run(source(server, feed))
    place.execute("ALTER TABLE ometria.email_events RENAME COLUMN other TO bounce_reason")


def events(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Keep the tables whose rows never go and never change."""
    return {name: rows[name] for name in ("member_lists", "unsubscribes", "email_events")}


def test_a_table_that_ometria_refuses_holds_back_the_load(
    shop: Account, server: Server, feed: Feed, duck: DuckDB
) -> None:
    """Nothing is loaded and no state moves, so that the next run reads all of it."""
    server.faults.sometimes("/v2/unsubscribes", Fault(status=403), 1.0)
    with pytest.raises(PipelineStepFailed, match="Ometria refused the API key"):
        duck.pipeline().run(source(server, feed))
    server.faults.clear()

    duck.pipeline().run(source(server, feed))

    assert everything(duck) == expected(shop, feed, "1042", "uk")


def test_two_accounts_share_a_dataset(
    shop: Account, server: Server, feed: Feed, place: Place, tmp_path: Path
) -> None:
    """Each goes on from its own state, and neither touches the other's rows."""
    other = Account.create(profiles=40, lists=2, email_events=50, seed=8, now=shop.now)
    other_feed = Feed(other, tmp_path / "other")
    other_feed.export_history()
    with serve(other, requests_per_second=None) as other_server:
        accounts = (
            settings_of(server, Path(feed.target), account_id="1042", source_id="uk"),
            settings_of(other_server, tmp_path / "other", account_id="1043", source_id="de"),
        )
        for _ in range(2):
            place.pipeline().run(ometria_accounts(Config(accounts)))

    uk, de = expected(shop, feed, "1042", "uk"), expected(other, other_feed, "1043", "de")
    both = {
        name: sorted(uk[name] + de[name], key=lambda row: str(row["__sync_key"])) for name in TABLES
    }
    assert without_stamps(everything(place)) == without_stamps(both)


def test_of_a_key_that_comes_twice_the_newest_row_is_loaded(place: Place, tmp_path: Path) -> None:
    """In one file the later line, of two files the one changed later, whatever dlt makes of it."""
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
    place.pipeline().run(ometria(feed_url=str(folder)))
    assert [row["device_type"] for row in place.rows("email_events")] == ["newest"]

    write_feed_file(folder, "c.jsonl", noon + timedelta(hours=2), [event("latest")])
    place.pipeline().run(ometria(feed_url=str(folder)))
    assert [row["device_type"] for row in place.rows("email_events")] == ["latest"]


def test_wide_keys_keep_apart_what_the_specified_keys_merge(duck: DuckDB, tmp_path: Path) -> None:
    """As the setting does for ``sync``."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    click = {"to_address": "ann@example.com", "event_type": "click", "dt_occurred": "2026-03-01"}
    clicks = [{**click, "uuid": "1"}, {**click, "uuid": "2"}]
    write_feed_file(tmp_path / "feed", "a.jsonl", noon, clicks)

    duck.pipeline().run(ometria(feed_url=str(tmp_path / "feed"), wide_keys=True))

    assert {row["send_id"] for row in duck.rows("email_events")} == {"1", "2"}


def test_a_file_that_comes_too_late_is_told_of(
    duck: DuckDB,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Older than all files that are remembered, it is not read; read all again, and it is."""
    monkeypatch.setattr(file_log, "MOST_FILES", 2)
    noon, folder = datetime(2026, 3, 2, 12, tzinfo=UTC), tmp_path / "feed"

    def write(hour: int) -> None:
        record = {"to_address": f"{hour}@example.com", "event_type": "open", "dt_occurred": "1"}
        write_feed_file(folder, f"{hour}.jsonl", noon + timedelta(hours=hour), [record])

    for hour in (2, 3, 4, 5):
        write(hour)
    duck.pipeline().run(ometria(feed_url=str(folder)))
    assert "are not read" not in caplog.text
    write(1)

    duck.pipeline().run(ometria(feed_url=str(folder)))
    assert "1 files are not read, because they arrived later" in caplog.text
    assert len(duck.rows("email_events")) == 4

    duck.pipeline().run(ometria(feed_url=str(folder)), refresh="drop_data")
    assert len(duck.rows("email_events")) == 5


def test_what_cannot_be_loaded_goes_to_a_table_of_its_own(place: Place, tmp_path: Path) -> None:
    """A value, a record and a file, each with its reason; the row itself is loaded."""
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
        place.pipeline().run(ometria(feed_url=str(folder)))

    assert [row["event_at"] for row in place.rows("email_events")] == [None]
    found: dict[str, list[Any]] = {"a.jsonl": [], "b.csv.gz": []}
    for row in place.rows("rejects"):
        found[row["origin"]].append((row["position"], row["column_name"], row["raw"]))
        assert row["reason"]
        assert row["source_id"] == "default"
    assert sorted(found["a.jsonl"]) == [(1, "event_at", "whenever"), (2, None, ANY)]
    assert found["b.csv.gz"] == [(None, None, None)]
    assert {name for name, _ in place.columns("rejects")} == {*REJECT_COLUMNS, "rejected_at"}


def test_the_rejects_can_be_left_out(
    duck: DuckDB, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are people's data too; that there were some is said in the log all the same."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    record = {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": "whenever"}
    write_feed_file(tmp_path / "feed", "a.jsonl", noon, [record])

    duck.pipeline().run(ometria(feed_url=str(tmp_path / "feed"), rejects=False))

    assert {name for name in duck.tables() if not name.startswith("_dlt")} == {"email_events"}
    assert "email_events: 1 records or values were rejected" in caplog.text
    assert "whenever" not in caplog.text


def test_nothing_is_there_but_what_dlt_itself_needs(
    server: Server, feed: Feed, duck: DuckDB
) -> None:
    """No column of dlt's in our tables, and no table but the five, the rejects and dlt's three."""
    duck.pipeline().run(source(server, feed))

    assert duck.tables() == {
        *TABLES,
        "rejects",
        "_dlt_loads",
        "_dlt_version",
        "_dlt_pipeline_state",
    }


def test_a_list_that_would_not_answer_is_asked_again(duck: DuckDB) -> None:
    """It is noted with what is due of it, and read from there when it answers."""
    shop = small_shop()
    with serve(shop, requests_per_second=None) as server:
        server.quirks = Quirks(archived_changes="not_found")
        shop.archive_list("10")
        duck.pipeline().run(source(server, None))
        assert {row["list_id"] for row in duck.rows("member_lists")} == {"20"}

        server.quirks = Quirks()
        duck.pipeline().run(source(server, None))

    assert {row["list_id"] for row in duck.rows("member_lists")} == {"10", "20"}


def test_delta_tables_are_merged_by_key(
    shop: Account, server: Server, feed: Feed, tmp_path: Path
) -> None:
    """There dlt has no delete-insert and takes its upsert, which wants each key once."""
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


def test_some_tables_can_be_chosen(server: Server, feed: Feed, duck: DuckDB) -> None:
    """By name when the source is made, or with dlt's own ``with_resources``."""
    duck.pipeline().run(source(server, feed, tables=["lists", "email_events"]))
    assert {"lists", "email_events"} == duck.tables() & set(TABLES)

    duck.pipeline().run(source(server, feed).with_resources("unsubscribes"))
    assert {"lists", "email_events", "unsubscribes"} == duck.tables() & set(TABLES)


def test_what_the_settings_cannot_read_is_not_in_the_source(server: Server, feed: Feed) -> None:
    """Without a feed there are no email events, without a key there is nothing else."""
    assert set(source(server, None).resources) == {*TABLES} - {"email_events"}
    assert set(source(None, feed).resources) == {"email_events"}


def test_dlt_knows_each_column_before_a_row_comes(server: Server, feed: Feed) -> None:
    """Names in order, the key, what is never null, and where BigQuery parts the events."""
    schema = source(server, feed).discover_schema()

    for page in page_tables():
        table = schema.tables[page.name]
        columns = table["columns"]
        assert list(columns) == [name for name, _ in page.columns]
        never = {"_account_id", "__source_id", "__sync_key", "__synced_at"}
        assert {name for name in columns if not columns[name]["nullable"]} == never
        assert [name for name in columns if columns[name].get("primary_key")] == ["__sync_key"]
        parted = {"event_at": "TIMESTAMP_TRUNC({column_name}, MONTH)"}
        assert table.get("x-bigquery-partition") == (parted if "event_at" in columns else None)


def test_rows_can_be_looked_at_without_a_pipeline(server: Server) -> None:
    """A resource is an iterable of Arrow tables, in the page's order of columns."""
    (table,) = source(server, None).lists

    assert len(table) == 5
    (page,) = [page for page in page_tables() if page.name == "lists"]
    assert table.column_names == [name for name, _ in page.columns]


def test_to_load_everything_again_drops_what_is_gone(
    shop: Account, server: Server, feed: Feed, duck: DuckDB
) -> None:
    """``refresh="drop_data"`` empties the tables and forgets how far they were read."""
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
def test_other_keys_than_before_are_refused(
    server: Server, duck: DuckDB, changed: dict[str, Any], words: str
) -> None:
    """They would load every row a second time."""
    duck.pipeline().run(source(server, None, tables=["lists"]))
    before = duck.rows("lists")

    with pytest.raises(PipelineStepFailed, match=words):
        duck.pipeline().run(source(server, None, tables=["lists"], **changed))

    assert duck.rows("lists") == before


def test_the_settings_come_from_the_configuration_of_dlt(
    server: Server, feed: Feed, duck: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From ``sources.ometria``, as any source's."""
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


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Before anything is contacted, by the names that dlt's configuration has."""
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
    with pytest.raises(ConfigError, match=r"there is no table 'orders'.*\n.*email_events needs"):
        ometria(api_key="key", tables=["orders", "email_events"])


def test_a_key_is_in_no_message(server: Server) -> None:
    """Neither in what a setting refuses, nor in the repr of the source."""
    with pytest.raises(ConfigError) as refused:
        ometria(api_key="se cret\n")
    assert "cret" not in str(refused.value)
    assert server.key not in repr(source(server, None))
    assert server.key not in str(source(server, None))


def test_without_dlt_it_says_what_to_install(tmp_path: Path) -> None:
    """And the package itself does without."""
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


def test_replication_brings_no_dlt(tmp_path: Path) -> None:
    """Who does not load with dlt never imports it."""
    code = """
import sys, ometria_replica.cli, ometria_replica.replication, ometria_replica.check
print([name for name in sys.modules if name.split(".")[0] == "dlt"])
"""
    assert run(code=code, cwd=tmp_path, check=True).out.strip() == "[]"
