"""The tap as a process: the suite of the Meltano SDK, a real target, and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from ometria_replica.schema import Pages
from tests.postgres import postgres
from tests.replicas import account as settings_of
from tests.replicas import everything, replicate
from tests.singer.pipes import (
    CANARY,
    FIVE,
    config_of,
    discovered,
    loaded,
    of,
    pipe,
    tap,
    tap_command,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ometria_simulator import Account, Feed, Server
    from tests.duck import Row

pytestmark = pytest.mark.slow  # Only `make test-all` installs the Meltano SDK.

FURTHER = ("collections", "contacts", "orders", "products", "custom_events")
SUITE = """\
import json
from pathlib import Path

from singer_sdk.testing import SuiteConfig, get_tap_test_class

from ometria_replica.singer import OmetriaTap

given = json.loads(Path("given.json").read_text())
TestTap = get_tap_test_class(
    OmetriaTap,
    config=given["config"],
    catalog=given["catalog"],
    suite_config=SuiteConfig(ignore_no_records_for_streams=given["empty"]),
    parse_env_config=False,
)
"""


@pytest.fixture
def database() -> Iterator[str]:
    """Make a database, which is dropped at the end."""
    name = postgres().new_database()
    yield name
    postgres().drop(name)


def in_utc(value: Any) -> Any:
    """Read a time: the target has columns without a time zone, and loads them in UTC."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    return value


def comparable(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Drop the load time, and the time of the request of profiles, which differs by the run."""
    left_out = {"__synced_at", "_sdc_table_version"}
    return {
        name: [
            {
                column: in_utc(value)
                for column, value in row.items()
                if column not in left_out and (name, column) != ("profiles", "updated_at")
            }
            for row in found
        ]
        for name, found in rows.items()
    }


@pytest.mark.parametrize("selection", ["default", "all streams", "some fields"])
def test_the_suite_of_the_sdk_passes(
    server: Server, feed: Feed, tmp_path: Path, selection: str
) -> None:
    """Each test of singer-sdk's suite for taps passes, for several catalogs."""
    on = dict.fromkeys(FURTHER, selection == "all streams")
    catalog = None if selection == "default" else discovered(**on)
    if catalog and selection == "some fields":
        for stream in catalog["streams"]:
            for each in stream["metadata"]:
                if each["breadcrumb"] and each["metadata"]["inclusion"] == "available":
                    each["metadata"]["selected"] = each["breadcrumb"][1].endswith("_id")
    given = {"config": config_of(server, feed), "catalog": catalog}
    every = {each["stream"] for each in discovered()["streams"]}
    empty = {"rejects", "push_errors", "data_deletion_requests", "custom_events"}
    given["empty"] = sorted(empty if selection == "all streams" else every - set(FIVE))
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    ended = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "test_suite.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout
    assert "failed" not in ended.stdout


def test_a_target_ends_with_the_rows_of_a_sync(
    shop: Account, server: Server, feed: Feed, tmp_path: Path, database: str
) -> None:
    """In a first run, in one without news, and in one with changes, column by column."""
    where, ours = tmp_path / "w.duckdb", settings_of(server, tmp_path / "feed")
    target = target_of(postgres(), database)
    state = None
    for days in (0, 0, 2):
        shop.advance(timedelta(days=days))
        feed.export()
        replicate(where, ours, at=shop.now)
        state = pipe(tmp_path, config_of(server, feed), target, state)

        rows, expected = loaded(postgres(), database, FIVE), everything(where)
        assert comparable(rows) == comparable(expected)
        assert all(rows.values())
        for row, known in zip(rows["profiles"], expected["profiles"], strict=True):
            assert known["updated_at"] in {None, in_utc(row["updated_at"])}


def test_further_streams_reach_a_target_too(
    shop: Account, server: Server, feed: Feed, tmp_path: Path, database: str
) -> None:
    """Each table that is not inside another can be selected, and ends as a sync loads it."""
    from tests.duck import read_file  # noqa: PLC0415
    from dataclasses import replace  # noqa: PLC0415

    where, ours = tmp_path / "w.duckdb", settings_of(server, tmp_path / "feed")
    replicate(where, replace(ours, tables=FURTHER), at=shop.now)
    catalog = discovered(**dict.fromkeys(FURTHER, True), **dict.fromkeys(FIVE, False))
    pipe(tmp_path, config_of(server, feed), target_of(postgres(), database), catalog=catalog)

    rows = loaded(postgres(), database, FURTHER)
    expected = {name: read_file(where, f"ometria.{name}", order="__sync_key") for name in FURTHER}
    assert comparable(rows) == comparable(expected)
    assert rows["orders"]
