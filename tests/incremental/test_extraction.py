"""Tables read in batches, each with the state after it, for loaders that are not ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.batch import BatchSize
from ometria_replica.catalog import CATALOG
from ometria_replica.errors import ConfigError
from ometria_replica.extraction.batches import read_batches
from ometria_replica.singer.bookmarks import bookmark, state_in
from ometria_replica.singer.records import rejects_of, rows_of, table_schema
from ometria_replica.singer.settings import (
    ELSEWHERE,
    config_of_environment,
    config_schema,
    settings_of_config,
)
from ometria_simulator import Account, Feed, serve
from tests.incremental.shops import account

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_simulator import Server

SECRET = "canary-key-91827"
FEW = BatchSize(records=250, files=3, bytes=10**9)


def of_today(**size: Any) -> Account:
    """Create a shop whose clock is right: a read that is continued must not be old."""
    return Account.create(now=datetime.now(UTC).replace(microsecond=0), **size)


def read(ours: AccountSettings, name: str, state: Any = None) -> list[tuple[dict[str, Any], Any]]:
    """Read a table in small batches: the rows of each by key, and the state after it."""
    table = CATALOG.every.table(name)
    names = list(table_schema(table)["properties"])
    found = []
    for batch in read_batches(ours, table, state or {}, CATALOG.every, size=FEW):
        rows = {row["__sync_key"]: {**row, "__synced_at": None} for row in rows_of(batch, names)}
        found.append((rows, batch.state))
        assert list(rejects_of(batch)) is not None
    return found


@pytest.mark.parametrize(
    "name",
    [
        "email_events",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("profiles", "orders")),
    ],
)
def test_each_state_continues_after_its_batch(tmp_path: Path, name: str) -> None:
    """A read that ends after any batch is continued from its state, and no row is missing."""
    shop = of_today(profiles=900, lists=2, email_events=600)
    feed = Feed(shop, str(tmp_path / "feed"))
    feed.export_history()
    with serve(shop, requests_per_second=None) as server:
        ours = account(server, tmp_path / "feed")
        whole = read(ours, name)
        rows = {key: row for part, _ in whole for key, row in part.items()}
        assert len(whole) > 2
        for ended in (1, len(whole) - 1):
            asked = len(server.requests)
            so_far = {key: row for part, _ in whole[:ended] for key, row in part.items()}
            rest = read(ours, name, whole[ended - 1][1])
            assert so_far | {k: row for part, _ in rest for k, row in part.items()} == rows
            offsets = [int(each.query.get("offset", 0)) for each in server.requests[asked:]]
            assert ended > 1 or name == "email_events" or min(offsets) > 0
        if name == "email_events":
            assert read(ours, name, whole[-1][1]) == []


def test_a_full_read_is_due_as_for_a_sync() -> None:
    """By detect_deletes_every_days: a profile that is not there is not in a complete read."""
    shop = of_today(profiles=40, lists=1, email_events=0)
    with serve(shop, requests_per_second=None) as server:
        ours = account(server, detect_deletes_every_days=7)
        table = CATALOG.table("profiles")
        (first,) = read_batches(ours, table, {})
        (second,) = read_batches(ours, table, first.state)
        old = {**first.state, "whole_at": "2001-01-01T00:00:00+00:00"}
        (third,) = read_batches(ours, table, old)
    assert [each.is_complete for each in (first, second, third)] == [True, False, True]


def test_a_bookmark_of_another_account_version_or_program_is_refused(server: Server) -> None:
    """The message names the stream, and what to do."""
    ours = account(server)
    whole = bookmark({"watermark": "2026-03-02T12:00:00+00:00"}, ours)
    assert state_in("profiles", whole, ours) == {"watermark": "2026-03-02T12:00:00+00:00"}
    assert state_in("profiles", {}, ours) == {}
    for wrong, words in (
        ({**whole, "format": 2}, "was not written by this version"),
        ({"replication_key_value": "2026-03-02"}, "was not written by this version"),
        ({**whole, "source_id": "other"}, "is of another source_id"),
        ({**whole, "wide_keys": True}, "is of another wide_keys"),
        ({**whole, "watermark": "yesterday"}, "is damaged"),
        ({**whole, "unread": 3}, "is damaged"),
        ({**whole, "ledger": {"files": 7}}, "is damaged"),
    ):
        with pytest.raises(ConfigError, match=f"stream profiles.*{words}"):
            state_in("profiles", wrong, ours)


def test_all_problems_of_a_config_are_told_at_once_and_no_value_is() -> None:
    """The checks are those of our settings."""
    with pytest.raises(ConfigError) as refused:
        settings_of_config(
            {
                "api_key": 7,
                "api_url": f"http://{SECRET}",
                "requests_per_second": SECRET,
                "tables": ["profiles"],
                "apikey": SECRET,
                "feed": {"regin": SECRET},
                "retain": {"profiles": "1 year"},
                "require": ["orders"],
            }
        )
    told = str(refused.value)
    assert SECRET not in told
    for words in (
        "tap-ometria.api_key: ",
        "tap-ometria.api_url: ",
        "tap-ometria.requests_per_second: must be a number",
        "tap-ometria.tables: is not a setting of the tap. Select streams in the catalog instead.",
        "tap-ometria.apikey: is not a setting; did you mean api_key?",
        "tap-ometria.feed.regin: is not a setting; did you mean region?",
        "tap-ometria.feed_url: is missing",
    ):
        assert words in told
    with pytest.raises(ConfigError, match=r"require: email_events cannot be read: no feed is set"):
        settings_of_config({"api_key": SECRET, "require": ["email_events"]})


def test_the_environment_gives_each_setting(tmp_path: Path) -> None:
    """Texts as they are, the others as JSON; a secret can be in a file."""
    (tmp_path / "key").write_text(f"{SECRET}\n")
    (tmp_path / "key").chmod(0o600)
    environ = {
        "TAP_OMETRIA_API_KEY": f"file:{tmp_path / 'key'}",
        "TAP_OMETRIA_ACCOUNT_ID": "1042",
        "TAP_OMETRIA_REQUESTS_PER_SECOND": "2.5",
        "TAP_OMETRIA_WIDE_KEYS": "true",
        "TAP_OMETRIA_FEED_URL": "s3://bucket/prefix",
        "TAP_OMETRIA_FEED": '{"region": "eu-west-1"}',
        "TAP_OMETRIA_EXCLUDE": '["profiles.phone_number"]',
        "TAP_OMETRIA_MEMORY_LIMIT": "400MB",
        "OMETRIA_SOURCE_ID": "not ours",
    }
    ours, limits = settings_of_config(config_of_environment(environ))
    assert ours.api_key is not None
    assert ours.api_key.reveal() == SECRET
    assert ours.feed is not None
    assert (ours.account_id, ours.source_id) == ("1042", "1042")
    assert (ours.requests_per_second, ours.wide_keys) == (2.5, True)
    assert (ours.feed.url, ours.feed.region) == ("s3://bucket/prefix", "eu-west-1")
    assert ours.exclude == ("profiles.phone_number",)
    assert limits.memory_limit == "400MB"
    wrong = config_of_environment({**environ, "TAP_OMETRIA_WIDE_KEYS": "yes"})
    with pytest.raises(ConfigError, match=r"wide_keys: must be true or false, not text"):
        settings_of_config(wrong)


def test_the_schema_of_the_config_marks_secrets() -> None:
    """Each secret, and nothing else; no setting that the tap cannot have is in it."""
    properties = config_schema()["properties"]
    feed = properties["feed"]["properties"]
    secrets = {name for name, each in {**properties, **feed}.items() if each.get("secret")}
    assert secrets == {
        "api_key",
        "hash_key",
        "access_key_id",
        "secret_access_key",
        "session_token",
    }
    assert properties.keys().isdisjoint(ELSEWHERE)


def test_a_long_history_of_files_leaves_a_small_state(tmp_path: Path) -> None:
    """The bookmark has the newest files one by one, and of older ones only their number."""
    from ometria_replica.extraction.file_log import MOST_FILES, FileLog  # noqa: PLC0415
    from ometria_replica.records import FeedObject  # noqa: PLC0415
    from tests.incremental.shops import NOON  # noqa: PLC0415

    listed = [
        FeedObject(f"{n:06}.csv.gz", "e", 10, NOON + n * timedelta(seconds=1))
        for n in range(20_000)
    ]
    log = FileLog()
    for start in range(0, len(listed), 10_000):
        log = log.after(listed, listed[start : start + 10_000])
    assert log.new_files(listed) == []
    assert len(log.to_state()["files"]) == 8 * MOST_FILES
