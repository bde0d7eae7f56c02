from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Account, Dialect, Feed, S3Server, Server, serve
from tests.duck import read_file
from tests.e2e.oracle import after, expected
from tests.e2e.program import api_env, run, s3_env
from tests.replicas import everything

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.duck import Row

ACCOUNT, SOURCE = "1042", "ometria-uk"


@pytest.fixture
def shop() -> Account:
    """Make a shop with a past, some of its names with a NUL in them, as of the real today."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Account.create(profiles=320, lists=5, email_events=800, nul_characters=True, now=now)


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve it."""
    with serve(shop, requests_per_second=None) as running:
        yield running


def test_the_replica_is_the_account(
    shop: Account, server: Server, s3: S3Server, tmp_path: Path
) -> None:
    """Over HTTP and S3, all five tables are exactly what the account's own state says they are."""
    warehouse = tmp_path / "replica.duckdb"
    feed = Feed(shop, f"s3://{s3.bucket}/customer-17/events", s3=s3.access)
    feed.export_history()
    env = api_env(server, warehouse) | s3_env(s3, "customer-17/events/")
    began = datetime.now(UTC)

    first = run("sync", "--json", env=env, cwd=tmp_path, check=True).json

    rows = everything(warehouse)
    assert rows == expected(shop, feed, ACCOUNT, SOURCE)
    assert all(rows.values())
    assert {each["table"]: each["inserted"] for each in first["tables"]} == {
        name: len(found) for name, found in rows.items()
    }
    ended = datetime.now(UTC)
    for found in everything(warehouse, load_time=True).values():
        assert all(began <= row["__synced_at"] <= ended for row in found)

    # Again: only the load time changes, and the report says so.
    second = run("sync", "--json", env=env, cwd=tmp_path, check=True).json
    assert everything(warehouse) == rows
    assert {(each["inserted"], each["updated"]) for each in second["tables"]} == {(0, 0)}
    told = run("sync", env=env, cwd=tmp_path, check=True).out
    assert "No row changed, except the load time of rows that were read again." in told
    full = run("sync", "--full", "--json", env=env, cwd=tmp_path, check=True).json
    assert everything(warehouse) == rows
    assert {(each["inserted"], each["updated"]) for each in full["tables"]} == {(0, 0)}
    assert {each["table"]: each["unchanged"] for each in full["tables"]} == {
        name: len(found) for name, found in rows.items()
    }

    # Time passes: profiles change, merge and vanish, lists refresh, mails go out.
    before = len(server.requests)
    shop.advance(timedelta(days=2))
    feed.export()
    feed.rewrite(min(record.file for record in feed.delivered))
    gone = shop.profiles[0].id
    shop.delete_profile(gone)
    third = run("sync", "--json", env=env, cwd=tmp_path, check=True).json
    asked = {
        request.query["updateSince"]
        for request in server.requests[before:]
        if "updateSince" in request.query
    }
    assert len(asked) == 1
    asked_since = datetime.fromisoformat(asked.pop()).replace(tzinfo=UTC)

    now = everything(warehouse)
    assert now == after(rows, expected(shop, feed, ACCOUNT, SOURCE), asked_since)
    assert gone in {row["profile_id"] for row in now["profiles"]}
    assert sum(each["inserted"] for each in third["tables"]) > 0
    assert sum(each["updated"] for each in third["tables"]) > 0


DIALECTS = {
    "csv gzip": (Dialect(compression="gzip"), ""),
    "tab zstd without header": (
        Dialect(
            compression="zstd",
            delimiter="\t",
            header=False,
            timestamp_form="postgres_micro",
            columns=("uuid", "dt_occurred", "to_address", "event_type", "reason", "target_url"),
        ),
        """
        columns = ["uuid", "dt_occurred", "to_address", "event_type", "reason", "target_url"]
        delimiter = "tab"
        header = false
        """,
    ),
    "semicolons all quoted, other order": (
        Dialect(
            delimiter=";",
            quoting="all",
            line_ending="\r\n",
            encoding="utf-8-sig",
            null_marker="NULL",
            columns=("dt_occurred", "event_type", "to_address", "campaign_title", "event_id"),
        ),
        'null = "NULL"\n',
    ),
    "json lines in a zip": (
        Dialect("jsonl", compression="zip", omit_nulls=True, timestamp_form="epoch"),
        "",
    ),
    "parquet": (Dialect("parquet", timestamp_form="naive"), ""),
    "a name that lies": (Dialect("jsonl", compression="gzip", name="{number}.csv"), ""),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.startswith(("json", "a name")))
        for name in DIALECTS
    ],
)
def test_events_are_the_same_in_every_dialect(name: str, s3: S3Server, tmp_path: Path) -> None:
    """However the export is written, its rows are exactly those that were delivered."""
    dialect, settings = DIALECTS[name]
    shop = Account.create(profiles=150, lists=1, email_events=400, nul_characters=True)
    prefix = name.replace(" ", "-")
    feed = Feed(shop, f"s3://{s3.bucket}/{prefix}", dialect=dialect, s3=s3.access)
    feed.export_history(files_per_day=1 / 40)
    (tmp_path / "ometria.toml").write_text(
        f'[[accounts]]\naccount_id = "{ACCOUNT}"\nsource_id = "{SOURCE}"\n'
        f'[accounts.feed]\nurl = "s3://{s3.bucket}/{prefix}"\n{settings}'
    )
    warehouse = tmp_path / "replica.duckdb"
    env = s3_env(s3, prefix) | {"OMETRIA_WAREHOUSE_URL": str(warehouse)}
    del env["OMETRIA_FEED_URL"]

    report = run("sync", "--json", env=env, cwd=tmp_path, check=True).json

    assert (
        everything(warehouse)["email_events"]
        == expected(shop, feed, ACCOUNT, SOURCE)["email_events"]
    )
    assert report["warnings"] == []
    assert report["tables"][0]["records"] == len(feed.delivered)


def test_an_operators_bucket_is_read_by_prefix(s3: S3Server, tmp_path: Path) -> None:
    """In a bucket of several customers, each is read below its own prefix with its own keys."""
    shops = {name: Account.create(seed=seed, profiles=60, email_events=80, lists=1)
             for seed, name in enumerate(("acme", "acme-2"))}  # fmt: skip
    feeds = {name: Feed(shop, f"s3://{s3.bucket}/tenants/{name}", s3=s3.access)
             for name, shop in shops.items()}  # fmt: skip
    accounts = ""
    for name, feed in feeds.items():
        feed.export_history(files_per_day=1 / 90)
        accounts += (
            f'[[accounts]]\naccount_id = "{name}"\n[accounts.feed]\n'
            f'url = "s3://{s3.bucket}/tenants/{name}"\nendpoint_url = "{s3.endpoint_url}"\n'
            f'region = "{s3.region}"\naccess_key_id = "env:THEIR_ID"\n'
            'secret_access_key = "env:THEIR_SECRET"\n'
        )
    (tmp_path / "ometria.toml").write_text(accounts)
    env = {"THEIR_ID": s3.access_key, "THEIR_SECRET": s3.secret_key}

    run("sync", "--warehouse", "replica.duckdb", env=env, cwd=tmp_path, check=True)

    rows = everything(tmp_path / "replica.duckdb")["email_events"]
    for name, feed in feeds.items():
        ours = [row for row in rows if row["__source_id"] == name]
        assert ours == expected(shops[name], feed, name, name)["email_events"]


@pytest.mark.slow
def test_the_machines_time_zone_changes_nothing(tmp_path: Path) -> None:
    """The same rows come out in London, Kathmandu and Los Angeles, naive times and all."""
    shop = Account.create(profiles=80, lists=2, email_events=150)
    shop.update_profile(shop.profiles[0].id, dates={"account_created": "2026-03-29 01:30:00"})
    feed = Feed(shop, tmp_path / "feed", dialect=Dialect(timestamp_form="naive"))
    feed.export_history(files_per_day=1 / 90)
    with serve(shop, requests_per_second=None) as server:
        for zone in ("Europe/London", "Asia/Kathmandu", "America/Los_Angeles"):
            warehouse = tmp_path / f"{zone.replace('/', '-')}.duckdb"
            env = api_env(server, warehouse)
            env |= {"OMETRIA_FEED_URL": str(tmp_path / "feed"), "TZ": zone}
            run("sync", env=env, cwd=tmp_path, check=True)

            assert everything(warehouse) == expected(shop, feed, ACCOUNT, SOURCE), zone


def test_since_reads_again_and_moves_nothing(shop: Account, server: Server, tmp_path: Path) -> None:
    """``--since`` loads rows and does not move the watermarks."""
    warehouse = tmp_path / "replica.duckdb"
    env = api_env(server, warehouse)
    run("sync", env=env, cwd=tmp_path, check=True)
    marks = watermarks(warehouse)
    since = shop.now - timedelta(days=30)

    report = run(
        "sync", "--since", f"{since:%Y-%m-%d}", "--json", env=env, cwd=tmp_path, check=True
    )

    assert {each["inserted"] for each in report.json["tables"]} == {0}
    assert sum(each["unchanged"] for each in report.json["tables"]) > 0
    assert watermarks(warehouse) == marks


def watermarks(warehouse: Path) -> list[Row]:
    """Read how far the tables have been read, without the rows that were noted."""
    found = read_file(warehouse, "ometria_replica.watermarks", order="ALL")
    return [mark for mark in found if not str(mark["kind"]).startswith("written ")]
