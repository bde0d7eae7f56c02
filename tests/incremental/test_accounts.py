"""Several accounts in one warehouse: each message names its account, and commands choose."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.accounts import source_ids
from ometria_replica.errors import AccessDenied, ConfigError
from ometria_replica.log_context import LogContext, log_context
from tests.e2e.program import invoke
from tests.incremental.shops import HOUR, NOON, account, replicate, state
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ometria_replica.report import RunReport
    from ometria_simulator import Account, Server

UK_AND_US = """\
[warehouse]
url = "{warehouse}"
[[accounts]]
account_id = "1042"
source_id = "uk"
api_key = "env:KEY"
api_url = "{url}"
requests_per_second = 1000
[[accounts]]
account_id = "1043"
source_id = "us"
api_key = "env:KEY"
api_url = "{url}"
requests_per_second = 1000
"""


@pytest.fixture
def env(server: Server, warehouse: Path, tmp_path: Path) -> Mapping[str, str]:
    """Write the settings of two accounts, and name them."""
    path = tmp_path / "two.toml"
    path.write_text(UK_AND_US.format(warehouse=warehouse, url=server.url))
    return {"OMETRIA_CONFIG": str(path), "KEY": server.key, "XDG_CACHE_HOME": str(tmp_path)}


def replicate_both(warehouse: Path, server: Server, **options: Any) -> RunReport:
    return replicate(
        warehouse, account(server), account(server, account_id="1043", source_id="us"), at=NOON,
        **options,
    )  # fmt: skip


def printed(*arguments: str, env: Mapping[str, str]) -> Any:
    result = invoke(*arguments, "--json", env=env)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# --- what is said names the account -------------------------------------------------------------


def test_remarks_and_warnings_name_the_account(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two accounts with the same table, each line of the report says which."""
    shop.delete_list("10")
    write_feed_file(tmp_path / "feed", "bad.jsonl", NOON, [])
    (tmp_path / "feed" / "bad.jsonl").write_bytes(b"\x1f\x8b\x08\x00 no gzip" * 9)
    server.no_rights = frozenset({"unsubscribes"})
    uk = account(server, tmp_path / "feed")
    us = account(server, account_id="1043", source_id="us")

    with pytest.raises(AccessDenied) as refused:
        replicate(warehouse, uk, us, at=NOON)

    report = refused.value.report
    assert report is not None
    assert refused.value.source_id == "uk"
    assert report.warnings[0].startswith("uk email_events: bad.jsonl: ")
    lines = report.to_text().splitlines()
    assert [line.split(": ")[1] for line in lines if line.startswith("Failed: ")] == [
        "uk unsubscribes",
        "us unsubscribes",
    ]


def test_a_single_account_is_not_named(server: Server, warehouse: Path) -> None:
    """There is nothing to tell apart."""
    server.no_rights = frozenset({"unsubscribes"})

    with pytest.raises(AccessDenied) as refused:
        replicate(warehouse, account(server), at=NOON)

    assert refused.value.source_id is None
    assert refused.value.report is not None
    assert "\nFailed: unsubscribes: " in refused.value.report.to_text()


def test_log_lines_name_the_account_while_it_is_read(server: Server, warehouse: Path) -> None:
    """And the run and the table; nothing does after the run."""
    seen = set()

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            context = log_context()
            assert record.getMessage().startswith(f"loaded {context.table}: ")
            seen.add((context.account, context.run))

    logger = logging.getLogger("ometria_replica.run_context")
    handler, level = Names(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        report = replicate_both(warehouse, server)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

    assert seen == {("uk", report.run_id), ("us", report.run_id)}
    assert log_context() == LogContext()


def test_rejects_name_the_account(
    shop: Account, server: Server, warehouse: Path, env: Mapping[str, str]
) -> None:
    """The list has a column for it, as ``state show`` has."""
    shop.update_profile("ann", date_of_birth="soon")
    replicate_both(warehouse, server)

    lines = invoke("rejects", "list", env=env).stdout.splitlines()

    assert [line.split()[2] for line in lines[1:]] == ["uk", "us"]


# --- --account ----------------------------------------------------------------------------------


def test_a_sync_reads_only_the_chosen_accounts(
    server: Server, warehouse: Path, env: Mapping[str, str]
) -> None:
    """By ``source_id`` or ``account_id``, once or more often."""
    by_source = printed("sync", "lists", "--account", "us", env=env)
    by_id = printed("sync", "lists", "--account", "1042", env=env)
    both = printed("sync", "lists", "--account", "us", "--account", "1042", env=env)

    assert [{table["source_id"] for table in each["tables"]} for each in (by_source, by_id)] == [
        {"us"},
        {"uk"},
    ]
    assert [table["source_id"] for table in both["tables"]] == ["uk", "us"]


def test_each_command_shows_only_the_chosen_accounts(
    shop: Account, server: Server, warehouse: Path, env: Mapping[str, str]
) -> None:
    """``runs``, ``state show``, ``rejects list`` and ``check`` leave out the others."""
    shop.update_profile("ann", date_of_birth="soon")
    replicate_both(warehouse, server)
    for hour in range(1, 4):
        replicate(warehouse, account(server), at=NOON + hour * HOUR, tables=["lists"])
    us = ("--account", "us")

    assert {table["source_id"] for table in printed("state", "show", *us, env=env)["tables"]} == {
        "us"
    }
    assert [
        reject["source_id"] for reject in printed("rejects", "list", *us, env=env)["rejects"]
    ] == ["us"]
    (run,) = printed("runs", "--limit", "2", *us, env=env)["runs"]
    assert {table["source_id"] for table in run["tables"]} == {"us"}
    assert len(printed("runs", env=env)["runs"]) == 4
    found = printed("check", *us, env=env)["findings"]
    assert {finding["source_id"] for finding in found} == {"us", None}


@pytest.mark.slow
def test_state_changes_only_for_the_chosen_account(
    shop: Account, server: Server, warehouse: Path, env: Mapping[str, str]
) -> None:
    """``state rewind`` leaves the watermarks of the others, and says whose it moved."""
    replicate_both(warehouse, server)

    done = printed("state", "rewind", "profiles", "--account", "us", env=env)
    text = invoke("state", "rewind", "lists", env=env).stdout

    assert done == {
        "schema": "ometria-replica/state-rewind/1",
        "tables": ["profiles"],
        "source_ids": ["us"],
        "since": None,
    }
    marks = {(row["source_id"], row["table_name"]) for row in state(warehouse, "watermarks")}
    assert ("uk", "profiles") in marks
    assert ("us", "profiles") not in marks
    assert {source for source, table in marks if table == "lists"} == set()
    assert text == "The next sync reads lists of uk, us again: everything. No row was changed.\n"


@pytest.mark.parametrize(
    "command",
    [
        ("sync",),
        ("backfill", "--since", "2026-01-01"),
        ("check",),
        ("runs",),
        ("state", "show"),
        ("state", "rewind", "profiles"),
        ("rejects", "list"),
        ("rejects", "replay"),
    ],
)
def test_an_unknown_account_is_named_with_those_that_are_there(
    command: tuple[str, ...], warehouse: Path, env: Mapping[str, str]
) -> None:
    """Exit 2, and nothing is read or written."""
    result = invoke(*command, "--account", "fr", "--account", "uk", env=env)

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "There is no account 'fr'. The accounts are uk, us."
    assert result.stdout == ""
    assert not warehouse.exists()


def test_a_name_means_the_source_id_first() -> None:
    """One account's source may be called as another's account."""
    one, other = account(account_id="a", source_id="b"), account(account_id="b", source_id="c")

    assert source_ids([one, other], ["b"]) == {"b"}
    assert source_ids([one, other], ["a", "c"]) == {"b", "c"}
