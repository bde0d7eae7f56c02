"""The tap as a process: the suite of the Meltano SDK, a real target, and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ometria_replica.singer.settings import OF_THE_SDK
from tests.duck import read_file
from tests.postgres import postgres
from tests.replicas import account as settings_of
from tests.replicas import everything, replicate
from tests.singer.pipes import (
    BIN,
    FIVE,
    Ended,
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

    from ometria_simulator import Account, Feed, Server
    from tests.duck import Row

pytestmark = pytest.mark.slow  # Only `make test-all` installs the Meltano SDK.

ROOT = Path(__file__).parents[2]
CANARY = "canary-key-91827"
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


def keyed(rows: list[Row]) -> dict[str, Row]:
    """Find the last row of each key, in the order of keys."""
    found = {row["__sync_key"]: row for row in rows}
    return {key: found[key] for key in sorted(found)}


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
    given: dict[str, Any] = {"config": config_of(server, feed), "catalog": catalog}
    every = {each["stream"] for each in discovered()["streams"]}
    empty = {"rejects", "push_errors", "data_deletion_requests", "custom_events"}
    given["empty"] = sorted(empty if selection == "all streams" else every - set(FIVE))
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "test_suite.py").write_text(SUITE)
    quietly = ["-q", "-p", "no:cacheprovider", "-c", os.devnull]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *quietly, f"--rootdir={tmp_path}", "test_suite.py"],
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
    state: dict[str, Any] | None = None
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
    where, ours = tmp_path / "w.duckdb", settings_of(server, tmp_path / "feed")
    replicate(where, replace(ours, tables=FURTHER), at=shop.now)
    catalog = discovered(**dict.fromkeys(FURTHER, True), **dict.fromkeys(FIVE, False))
    pipe(tmp_path, config_of(server, feed), target_of(postgres(), database), catalog=catalog)

    rows = loaded(postgres(), database, FURTHER)
    expected = {name: read_file(where, f"ometria.{name}", order="__sync_key") for name in FURTHER}
    assert comparable(rows) == comparable(expected)
    assert rows["orders"]


def test_a_tap_that_is_killed_is_continued_from_its_last_state(
    server: Server, feed: Feed, tmp_path: Path
) -> None:
    """SIGKILL after any state: what the first run wrote and the second one is everything."""
    config = config_of(server, feed)
    whole = tap(tmp_path, config)
    by_key = {name: keyed(whole.records(name)) for name in FIVE}
    command = tap_command(tmp_path, config)
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=DEVNULL, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            lines.append(line)
            if json.loads(line)["type"] == "STATE" and len(lines) > 400:
                killed.kill()
                break
    first = Ended(killed.returncode, [json.loads(line) for line in lines], "")
    second = tap(tmp_path, config, first.state)

    assert first.code == -signal.SIGKILL
    assert first.records("profiles")
    assert not first.records("email_events")
    for name in FIVE:
        both = keyed(first.records(name)) | keyed(second.records(name))
        assert comparable({name: [*both.values()]}) == comparable({name: [*by_key[name].values()]})


def test_a_full_read_ends_with_its_version(shop: Account, server: Server, tmp_path: Path) -> None:
    """Records have the version that is activated after the last of them, and keep it later."""
    config = config_of(server, None, emit_activate_version_messages=True)
    first = tap(tmp_path, config)
    shop.advance(timedelta(days=2))
    second = tap(tmp_path, config, first.state)

    kinds = [each["type"] for each in first.messages if each.get("stream") == "profiles"]
    assert kinds == ["SCHEMA", *["RECORD"] * 320, "ACTIVATE_VERSION"]
    (begun,) = {each["version"] for each in first.messages if each.get("stream") == "profiles"
                and "version" in each}  # fmt: skip
    later = [each for each in second.messages if each.get("stream") == "profiles"]
    assert {each["version"] for each in later if each["type"] == "RECORD"} == {begun}
    assert not [each for each in later if each["type"] == "ACTIVATE_VERSION"]
    assert [each for each in second.messages if of(each, "ACTIVATE_VERSION", "lists")]
    assert not [each for each in first.messages if of(each, "ACTIVATE_VERSION", "unsubscribes")]


def test_a_catalog_and_stream_maps_choose_fields(server: Server, tmp_path: Path) -> None:
    """A deselected field is in no record; a map hashes one and drops the rejects."""
    catalog = discovered(**{**dict.fromkeys(FIVE, False), "profiles": True})
    (profiles,) = (each for each in catalog["streams"] if each["stream"] == "profiles")
    for each in profiles["metadata"]:
        if each["breadcrumb"] == ["properties", "phone_number"]:
            each["metadata"]["selected"] = False
    maps = {"profiles": {"email": "md5(email) if email else None"}, "rejects": None}
    ended = tap(tmp_path, config_of(server, None, stream_maps=maps), catalog=catalog)

    rows, schema = ended.records("profiles"), ended.schema("profiles")["properties"]
    assert {each.get("stream") for each in ended.messages} == {"profiles", None}
    assert "phone_number" not in schema
    assert all(row.keys() == schema.keys() for row in rows)
    assert {len(row["email"]) for row in rows if row["email"]} == {32}


def test_a_refusal_ends_the_tap_with_a_sentence(server: Server, feed: Feed, tmp_path: Path) -> None:
    """As the exit codes of the program are; nothing of the key or the settings is told."""
    config = config_of(server, feed)
    newer = {"bookmarks": {"profiles": {"format": 9}}}
    for given, state, code, words in (
        ({**config, "api_key": CANARY}, None, 3, "refused the API key"),
        ({**config, "wide_keys": CANARY}, None, 2, "wide_keys: must be true or false"),
        (config, newer, 2, "not written by this version"),
    ):
        ended = tap(tmp_path, given, state)
        assert (ended.code, words in ended.err) == (code, True), ended.err
        assert "Traceback" not in ended.err
        assert CANARY not in ended.err


def test_a_target_that_ends_early_ends_the_tap(server: Server, feed: Feed, tmp_path: Path) -> None:
    """With the exit code of a closed pipe, and no traceback."""
    command = tap_command(tmp_path, config_of(server, feed))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        one.stdout.close()
        assert one.stderr is not None
        log = one.stderr.read().decode()
    assert one.returncode == 141, log
    assert "Traceback" not in log


def test_the_files_for_meltano_are_what_the_tap_says_of_itself() -> None:
    """Its capabilities and settings, each with its kind, and which are secrets."""
    command = [str(BIN / "tap-ometria"), "--about", "--format=json"]
    about = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    for path in ("hub/tap-ometria.yml", "meltano.yml"):
        known = yaml.safe_load((ROOT / "examples" / "meltano" / path).read_text())
        known = known["plugins"]["extractors"][0] if "plugins" in known else known
        assert known["name"] == about["name"]
        assert known["capabilities"] == about["capabilities"]
        settings = {each["name"]: each for each in known["settings"]}
        properties = about["settings"]["properties"]
        flat = {
            name: each for name, each in properties.items() if name not in OF_THE_SDK | {"feed"}
        }
        flat |= {f"feed.{name}": each for name, each in properties["feed"]["properties"].items()}
        assert settings.keys() == flat.keys()
        for name, each in flat.items():
            assert settings[name].get("sensitive", False) == each.get("secret", False)
