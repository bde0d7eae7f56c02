"""What `check` finds, and that it finds everything else although one thing fails."""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.catalog import CATALOG
from ometria_replica.check_report import CheckReport, finding_as_text
from ometria_replica.config import Limits, WarehouseSettings, load_config
from ometria_replica.doctor import api
from ometria_replica.doctor import findings as giving
from ometria_replica.doctor import rights as asking
from ometria_replica.doctor import run as running
from ometria_replica.doctor.clock import Heard, ahead_of
from ometria_replica.doctor.findings import Finding, exit_code, failed, passed, warned
from ometria_replica.doctor.machine import Load, Place, check_disks, check_memory, places
from ometria_replica.doctor.rights import rights
from ometria_replica.doctor.run import check
from ometria_replica.doctor.settings import check_settings
from ometria_replica.errors import AccessDenied, ConfigError, Unavailable, WarehouseError
from ometria_replica.records import FeedObject
from ometria_simulator import Fault
from tests.duck import opened
from tests.e2e.program import api_env, invoke
from tests.incremental.shops import account, config, replicate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ometria_simulator import Account, Server

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FIVE = {
    "profiles": ("profiles",),
    "lists": ("lists", "member_lists"),
    "lists/{id}/changes": ("member_lists",),
    "unsubscribes": ("unsubscribes",),
}
"""The endpoints of the five tables, with the tables that need each."""


# --- the rights of a key -------------------------------------------------------------------------


def test_each_endpoint_that_the_tables_need_is_asked_once(server: Server) -> None:
    """The changes of a list are asked of the first one; what is granted says so."""
    found = list(rights(account(server)))

    assert {right.endpoint: right.tables for right in found} == FIVE
    assert all(right.is_granted for right in found)
    assert len(server.requests) == len(FIVE)


def test_a_right_that_one_endpoint_lacks_is_told_of_that_one(server: Server) -> None:
    """The others are read; and a sync can do without what only optional tables need."""
    server.no_rights = frozenset({"changes", "orders"})
    found = list(rights(replace(account(server), tables=("member_lists", "orders"))))

    refused = {right.endpoint: right.can_lack for right in found if right.is_refused}
    assert refused == {"lists/{id}/changes": False, "orders": True}
    assert [right.endpoint for right in found if right.is_granted] == ["lists"]


def test_without_a_list_its_changes_are_not_asked(server: Server, shop: Account) -> None:
    """Nor if the lists cannot be read."""
    server.no_rights = frozenset({"lists"})
    *_, changes = rights(replace(account(server), tables=("member_lists",)))
    assert changes.untried == "lists could not be read"

    server.no_rights = frozenset()
    for each in list(shop.lists):
        shop.delete_list(each.id)
    *_, changes = rights(replace(account(server), tables=("member_lists",)))
    assert changes.untried == asking.NOTHING_TO_ASK


def test_an_endless_429_ends_the_questions_in_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync would wait without a limit."""
    monkeypatch.setattr(asking, "ALL_WITHIN", 0.2)
    server.faults.storm(100_000)
    first, *others = rights(account(server))

    assert "another integration uses up the account's rate limit" in str(first.error)
    assert {right.untried for right in others} == {asking.TIME_IS_OVER}


def test_an_endpoint_that_fails_keeps_no_other_from_being_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a host that cannot be reached is asked once."""
    monkeypatch.setattr(asking, "ANSWER_WITHIN", 0.3)
    server.faults.sometimes("/v2/profiles", Fault(status=503), 1.0)
    found = list(rights(account(server)))
    assert [right.is_granted for right in found] == [False, True, True, True]

    server.stop()
    first, *others = rights(account(server))
    assert isinstance(first.error, Unavailable)
    assert {right.untried for right in others} == {asking.UNREACHABLE}


# --- the clock -----------------------------------------------------------------------------------


@given(
    st.timedeltas(timedelta(days=-9), timedelta(days=9)),
    st.lists(st.floats(0, 30), min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_a_clock_is_never_said_to_be_further_off_than_it_is(
    off: timedelta, latencies: list[float], where: float
) -> None:
    """However long an answer takes, and wherever in that time the server wrote its date."""
    answers = []
    for latency in latencies:
        served_at = (NOON + timedelta(seconds=latency * where)).replace(microsecond=0)
        end = NOON + timedelta(seconds=latency)
        answers.append(Heard(NOON + off, end + off, served_at))
    ahead = ahead_of(answers)

    assert ahead is not None
    assert ahead == timedelta() or (ahead > timedelta()) == (off > timedelta())
    assert abs(ahead) <= abs(off)
    assert abs(ahead) >= abs(off) - timedelta(seconds=min(latencies) + 1)


def test_an_answer_without_a_date_tells_nothing() -> None:
    """Some proxies drop the header."""
    assert ahead_of([Heard(NOON, NOON, None)]) is None


@pytest.mark.parametrize(
    ("off", "level"),
    [(0, "pass"), (4, "pass"), (-8, "warn"), (60, "warn"), (-901, "fail"), (3600, "fail")],
)
def test_a_clock_that_is_off_is_told_with_the_way_to_set_it(
    off: int, level: str, server: Server, shop: Account, warehouse: Path
) -> None:
    """From seconds on it warns, and fails where S3 would refuse and leases would be misjudged."""
    elsewhere = server.url.replace("127.0.0.1", "127.1")  # Not known as this machine.
    settings = config(warehouse, account(server, api_url=elsewhere))
    now = shop.now + timedelta(seconds=off)

    (found,) = of("api.clock", check(settings, clock=lambda: now))

    assert found.level == level
    if level != "pass":
        assert ("ahead of" in found.text) == (off > 0)
        assert "timedatectl set-ntp true" in str(found.mend)


def test_the_clock_of_a_server_on_this_machine_is_not_compared(
    server: Server, warehouse: Path
) -> None:
    """A simulator has a time of its own."""
    (found,) = of("api.clock", check(config(warehouse, account(server)), clock=lambda: NOON))
    assert (found.level, "not compared" in found.text) == ("pass", True)


# --- the feed ------------------------------------------------------------------------------------


def test_one_file_tells_how_the_export_is_written_and_no_value_of_it(
    tmp_path: Path, warehouse: Path
) -> None:
    """Nor names of columns that look like values."""
    person = "caf\u00e9.owner@example.com"
    text = (
        "to_address;event_type;dt_occurred;mood;+44 20 7946 0000;private@example.com\n"
        f"{person};open;2026-01-01T00:00:00Z;x;y;z\n"
    )
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "1.csv.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    findings = list(check(config(warehouse, account(folder=folder))))

    (found,) = of("feed.dialect", findings)
    assert found.level == "pass"
    assert found.text == (
        "The newest file, 1.csv.gz, is CSV, with semicolon and double quotes, with a header,"
        " Windows-1252, gzip: 3 known columns and 3 unknown ones (mood and 2 more); these are not"
        " loaded."
    )
    (files,) = of("feed.files", findings)
    assert "holds 1 file (" in files.text
    for secret in ("owner", "private@", "7946"):
        assert secret not in CheckReport(tuple(findings)).to_json()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("1.csv", b"to_address,event_type,campaign_title\na,b,c\n", "dt_occurred"),
        ("1.csv.gz", gzip.compress(b"x" * 999, mtime=0)[:20], "gzip data ends too early"),
        ("1.csv", b"<html>502</html>", "HTML"),
        ("1.jsonl", b'{"to_address":"a","event_type":"b"}\n', "dt_occurred"),
    ],
)
def test_a_file_that_is_no_export_is_told_before_the_first_sync(
    name: str, content: bytes, says: str, tmp_path: Path, warehouse: Path
) -> None:
    """With what to do."""
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / name).write_bytes(content)
    settings = config(warehouse, account(folder=tmp_path / "feed"))

    (found,) = of("feed.dialect", check(settings))
    assert found.level != "pass"
    assert says in f"{found.text} {found.mend}"
    if says == "HTML":  # A sync sets the file aside, and then a check remembers.
        replicate(warehouse, account(folder=tmp_path / "feed"), at=NOON)
        (unreadable,) = of("warehouse.unreadable", check(settings))
        assert unreadable.text.startswith("1 file of email_events could not be read")


def test_an_export_that_has_stopped_is_told(tmp_path: Path, warehouse: Path) -> None:
    """By the age of its newest file: a sync finds nothing new, and has no reason to warn."""
    (tmp_path / "feed").mkdir()
    for day in (1, 2):
        file = tmp_path / "feed" / f"{day}.csv"
        file.write_text("to_address,event_type,dt_occurred\n")
        os.utime(file, times=(0, (NOON + timedelta(days=day)).timestamp()))
    settings = config(warehouse, account(folder=tmp_path / "feed"))

    for days, level in ((8, "pass"), (10, "warn")):
        now = NOON + timedelta(days=days)
        (found,) = of("feed.files", check(settings, clock=lambda now=now: now))  # type: ignore[misc] # mypy cannot infer its default.
        assert found.level == level
        assert f"the newest of 2026-07-03 12:00 UTC, {days - 2} days ago" in found.text


# --- the machine ---------------------------------------------------------------------------------


def files(*sizes: int) -> tuple[FeedObject, ...]:
    """Make files of these sizes."""
    return tuple(FeedObject(f"{n}", "", each, NOON) for n, each in enumerate(sizes))


def test_what_the_next_load_needs_is_compared_with_what_is_free(tmp_path: Path) -> None:
    """Temporary files and the warehouse share a disk here, so that their needs add up."""
    load = Load(files(100_000_000, 50_000_000), expansion=9.0)
    limits = Limits(memory_limit="1GB", temp_directory=str(tmp_path / "not" / "there"))
    found = places(tmp_path, limits, [load])
    assert [place.needs for place in found] == [1_500_000_000 + 1_000_000_000, 1_350_000_000]

    for free, level in ((3_850_000_000, "pass"), (3_849_999_999, "warn"), (1000, "fail")):
        (finding,) = check_disks(found, lambda _, free=free: free)  # type: ignore[misc] # mypy cannot infer its default.
        assert finding.level == level
        assert "needs up to 3.9 GB" in finding.text
    assert "OMETRIA_TEMP_DIRECTORY" in str(finding.mend)
    assert isinstance(finding.error, WarehouseError)


def test_only_the_largest_files_are_on_the_disk_at_once() -> None:
    """However many there are to load."""
    assert Load(files(*[10] * 500), 4.0).temporary == Load(files(*[10] * 5), 4.0).temporary == 250


def test_the_disks_of_this_machine_are_looked_at(tmp_path: Path) -> None:
    """A folder that is not there yet will be on the disk of the one above it."""
    (finding,) = check_disks([Place("it", tmp_path / "a" / "b", 1, "move it")])
    assert finding.level == "pass"


@pytest.mark.parametrize(
    ("limit", "available", "level"),
    [
        ("4GB", 2_000_000_000, "warn"),
        ("1GiB", 2_000_000_000, "pass"),
        ("100MB", 300_000_000, "pass"),
    ],
)
def test_more_memory_than_there_is_warns(limit: str | None, available: int, level: str) -> None:
    """The system would end the program."""
    (finding,) = check_memory(Limits(memory_limit=limit), available)
    assert finding.level == level


def test_an_extra_that_is_missing_is_named_and_the_rest_is_tested(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "deltalake", None)
    for name in [each for each in sys.modules if each.startswith("ometria_replica.warehouse.rem")]:
        monkeypatch.delitem(sys.modules, name)
    settings = replace(
        config(tmp_path, account(server)), warehouse=WarehouseSettings(f"delta:///{tmp_path}/lake")
    )
    findings = list(check(settings))

    (found,) = of("program.extra", findings)
    assert (found.level, exit_code(findings)) == ("fail", 2)
    assert "pip install 'ometria-replica[delta]'" in str(found.mend)
    assert {each.level for each in of("api.right", findings)} == {"pass"}


# --- the settings --------------------------------------------------------------------------------

TOML = """
metrics = "{folder}/nowhere/ometria.prom"

[warehouse]
url = "{warehouse}"

[[accounts]]
account_id = "1042"
api_key = "file:{key}"
api_url = "https://not-ometria.example.com/v2"
requests_per_second = 9
max_deleted_share = 0.5
normalise = false
full_read_every_days = 3
changes_parameter = "from"
tables = ["profiles", "email_events"]

[accounts.feed]
url = "{folder}"
format = "parquet"
delimiter = ";"
region = "eu-west-1"
"""


def test_settings_without_effect_and_odd_ones_are_told(tmp_path: Path) -> None:
    """Each by its name; they are no failure."""
    key, file = tmp_path / "key", tmp_path / "ometria.toml"
    key.write_text("an-invented-key")
    key.chmod(0o640)
    file.write_text(TOML.format(warehouse=f"delta:///{tmp_path}", key=key, folder=tmp_path))
    file.chmod(0o666)
    settings = load_config(file, {})
    findings = list(check_settings(settings, CATALOG.of(settings.accounts)))

    assert {each.text.partition(" ")[0] for each in of("settings.unused", findings)} == {
        "max_deleted_share",
        "normalise",
        "full_read_every_days",
        "changes_parameter",
        "feed.delimiter",
        "feed.region",
    }
    metrics, host, rate = of("settings.unusual", findings)
    assert f"{tmp_path}/nowhere does not exist" in metrics.text
    assert "not-ometria.example.com" in host.text
    assert "requests_per_second is 9" in rate.text
    secret, writable = of("settings.permissions", findings)
    assert (secret.mend, writable.mend) == (f"chmod 600 {key}", f"chmod go-w {file}")
    assert exit_code(findings) == 0
    assert exit_code(findings, strict=True) == 4


def test_settings_that_are_wrong_are_findings_and_the_warehouse_is_tested(
    server: Server, warehouse: Path
) -> None:
    """All problems at once; a variable that is no setting is a warning."""
    wrong = {"OMETRIA_REQUESTS_PER_SECOND": "fast", "OMETRIA_API_KEY": "", "OMETRIA_ODD": "1"}
    ended = invoke("check", "--json", env=api_env(server, warehouse) | wrong)
    found = json.loads(ended.stdout)

    assert ended.exit_code == found["exit_code"] == 2
    problems = [each["text"] for each in found["findings"] if each["code"] == "settings.problem"]
    assert [problem.partition(":")[0] for problem in problems] == [
        "OMETRIA_API_KEY",
        "OMETRIA_REQUESTS_PER_SECOND",
    ]
    levels = {each["code"]: each["level"] for each in found["findings"]}
    assert levels["settings.unusual"] == "warn"
    assert levels["warehouse.open"] == "pass"
    assert server.requests == []
    assert not warehouse.exists()


def test_rows_that_are_gone_are_told_once(server: Server, warehouse: Path) -> None:
    """A table that is missing is missing for every account; settings that do not fit are one's."""
    both = [account(server, account_id=name, source_id=name) for name in ("uk", "us")]
    replicate(warehouse, *both, at=NOON, tables=["lists"])
    with opened(warehouse, read_only=False) as connection:
        connection.execute("DROP TABLE ometria.lists")
    changed = replace(both[1], wide_keys=True)

    missing, fit = of("warehouse.rows", check(config(warehouse, both[0], changed)))
    assert "ometria.lists is missing" in missing.text
    assert (missing.level, missing.source_id) == ("warn", "uk")
    assert (fit.level, fit.source_id) == ("fail", "us")
    assert "wide_keys" in str(fit.mend)


# --- all of it -----------------------------------------------------------------------------------


def test_one_failure_keeps_nothing_else_from_being_tested(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key, a folder that is not there, and no warehouse: each is told."""
    monkeypatch.setattr(api, "ANSWER_WITHIN", 0.5)
    server.faults.sometimes("/v2/profiles", Fault(status=503), 1.0)
    settings = config(
        tmp_path / "nowhere" / "w.duckdb",
        account(server, tmp_path / "no-feed", tables=("nothing",)),
    )
    findings = list(check(settings))

    assert [each.code for each in findings if each.level == "fail"] == [
        "settings.problem",
        "api.right",
        "feed.files",
        "warehouse.open",
    ]
    assert exit_code(findings) == 2
    assert of("machine.memory", findings)
    assert of("machine.disk", findings)


def test_tests_that_do_not_end_are_told_and_the_rest_is_tested(
    server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for all APIs and feeds together is limited."""
    monkeypatch.setattr(running, "SOURCES_WITHIN", 0.3)
    server.faults.sometimes("/v2", Fault.hang(2), 1.0)
    began = time.monotonic()
    findings = list(check(config(warehouse, account(server))))

    assert time.monotonic() - began < 2
    (unfinished,) = of("check.unfinished", findings)
    assert unfinished.source_id == "uk"
    assert of("warehouse.open", findings)[0].level == "pass"
    assert exit_code(findings) == 75


def test_a_check_writes_nothing(server: Server, tmp_path: Path) -> None:
    """No file is there that was not, but for the rate limit's in the cache."""
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "1.csv").write_text("to_address,event_type,dt_occurred\na,b,2026-01-01\n")
    before = sorted(tmp_path.rglob("*"))
    findings = list(check(config(tmp_path / "w.duckdb", account(server, tmp_path / "feed"))))

    assert {each.level for each in findings} == {"pass"}
    assert sorted(tmp_path.rglob("*")) == before


def test_text_json_and_exit_code_say_the_same(server: Server, warehouse: Path) -> None:
    """In sections; with --strict, a warning makes the code 4."""
    env = api_env(server, warehouse)
    plain, strict = (invoke("check", *more, env=env) for more in ((), ("--strict",)))
    data = json.loads(invoke("check", "--json", "--strict", env=env).stdout)

    assert (plain.exit_code, strict.exit_code, data["exit_code"]) == (0, 4, 4)
    assert data["level"] == "warn"
    assert data["counts"] == {"pass": len(data["findings"]) - 1, "warn": 1, "fail": 0}
    lines = plain.stdout.splitlines()
    summary = f"Good enough for a sync: 1 warning in {len(data['findings'])} tests; what to do is"
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "Program",
        "Settings",
        "Account ometria-uk",
        "Warehouse",
        "Machine",
        f"{summary} below each.",
    ]
    assert [each.split()[0] for each in lines if each.startswith("  ") and each[2] != " "] == [
        each["level"] for each in data["findings"]
    ]


levels = st.sampled_from(
    [
        passed("api.clock", ""),
        warned("api.clock", "", ""),
        failed("api.clock", "", Unavailable()),
        failed("api.clock", "", ConfigError("")),
        failed("api.clock", "", AccessDenied()),
    ]
)


@given(st.lists(levels))
def test_the_exit_code_is_that_of_the_first_failure_that_does_not_pass(
    found: list[Finding],
) -> None:
    """0 without a failure; 75 only if all of them may pass by themselves."""
    codes = [each.error.exit_code for each in found if each.error]
    lasting = [code for code in codes if code != 75]

    assert exit_code(found) == (lasting or codes or [0])[0]
    warns = any(each.level == "warn" for each in found)
    assert exit_code(found, strict=True) == (lasting or codes or [4 if warns else 0])[0]


def test_a_bug_in_a_test_is_a_finding_without_its_message() -> None:
    """It may quote personal data."""

    def broken() -> Iterable[Finding]:
        yield passed("api.right", "")
        raise ValueError("ann@example.com")

    _, bug = giving.tested("api.clock", "It broke.", broken)  # type: ignore[arg-type] # A generator.
    assert (bug.level, "ValueError" in str(bug.mend)) == ("fail", True)
    assert "ann" not in repr(bug)


def test_a_panic_of_a_library_is_a_finding_too() -> None:
    """The store's driver is written in Rust, whose panics are no Exception."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def broken() -> Iterable[Finding]:
        yield passed("api.right", "")
        raise panic

    _, found = giving.tested("api.clock", "It broke.", broken)  # type: ignore[arg-type] # A generator.
    assert "PanicException" in str(found.mend)


def test_long_lines_are_broken_between_words_and_addresses_stay_whole() -> None:
    """So that an address can be copied."""
    address = f"postgresql://{'x' * 120}"
    text = finding_as_text(
        warned("api.clock", f"It is {address} that fails. " * 2, "Look at it.\nOr not.")
    )
    assert text.count(address) == 2
    assert text.splitlines()[-2:] == ["        > Look at it.", "        > Or not."]


def of(code: str, findings: Iterable[Finding]) -> list[Finding]:
    """Keep the findings of a test."""
    return [finding for finding in findings if finding.code == code]
