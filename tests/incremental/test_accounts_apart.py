"""Nothing that happens in one account ends the others, except a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest
from obstore.store import S3Store

from ometria_replica.errors import ReplicaError
from ometria_replica.replication import sync
from tests.duck import read_file
from tests.incremental.shops import NOON, account, config, state
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.schema import Table


def panic() -> None:
    """Make the driver of buckets panic, as a line break in a secret once did."""
    store = S3Store(
        "bucket",
        config={"region": "us-east-1", "access_key_id": "x\ny", "secret_access_key": "z"},
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    list(store.list())


def misuse() -> None:
    duckdb.sql("SELECT")


def stop() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[Callable[[], None]], None]:
    """Return a sync of two accounts, the first of which calls a function while it fetches."""
    for name in ("first", "second"):
        event = {"to_address": name, "event_type": "open", "dt_occurred": "2026-01-01"}
        write_feed_file(tmp_path / name, "1.jsonl", NOON, [event])
    accounts = [
        account(folder=tmp_path / name, account_id=name, source_id=name)
        for name in ("first", "second")
    ]

    def run(call: Callable[[], None]) -> None:
        def fetch(
            account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
        ) -> Iterator[FetchedFile]:
            if account.account_id == "first":
                call()
            return iter(())

        sync(config(tmp_path / "w.duckdb", *accounts), clock=lambda: NOON, fetch=fetch)

    return run


@pytest.mark.parametrize("call", [panic, misuse])
def test_a_library_that_fails_in_one_account_does_not_end_the_others(
    call: Callable[[], None],
    broken: Callable[[Callable[[], None]], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Any exception, even a panic of Rust, which is no Exception; the run fails at its end."""
    with pytest.raises(Exception, match=r".") as failure:
        broken(call)

    if call is panic:
        assert isinstance(failure.value, ReplicaError)
        assert "PanicException" in str(failure.value)
    else:
        assert isinstance(failure.value, duckdb.Error)
    (run,) = state(tmp_path / "w.duckdb", "runs")
    assert run["outcome"] == "failed"
    listed = read_file(tmp_path / "w.duckdb", "ometria_replica.watermarks")
    assert [row["source_id"] for row in listed] == ["second"]
    assert state(tmp_path / "w.duckdb", "leases") == []
    capfd.readouterr()  # The panic's own lines.


def test_a_signal_ends_all_accounts(
    broken: Callable[[Callable[[], None]], None], tmp_path: Path
) -> None:
    """Ctrl-C and an exit of the program are not errors of an account."""
    with pytest.raises(KeyboardInterrupt):
        broken(stop)

    done = {row["source_id"] for row in state(tmp_path / "w.duckdb", "watermarks")}
    assert done <= {"second"}  # It is read at the same time.
    assert [run["outcome"] for run in state(tmp_path / "w.duckdb", "runs")] == ["stopped"]
    assert state(tmp_path / "w.duckdb", "leases") == []
