"""Regression tests for the findings of an adversarial review."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ometria_replica import batching
from ometria_replica.batch import Lease, Owner
from ometria_replica.config import Secret, load_config
from ometria_replica.doctor.run import check
from ometria_replica.errors import Busy, ConfigError, WarehouseError
from ometria_replica.mapping import Staging
from ometria_replica.records import json_text, parse
from ometria_replica.run_context import LEASE
from ometria_replica.source_ids import keys_may_meet
from ometria_replica.state_commands import replay
from ometria_replica.temp_files import remove_leftovers, temp_folder
from ometria_replica.warehouse import open_warehouse
from ometria_simulator import Account, Fault, Server, serve
from tests.duck import read_file
from tests.e2e.program import api_env
from tests.incremental.shops import DAY, HOUR, MINUTE, NOON, account, config, replicate, state
from tests.replicas import of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ometria_replica.records import Page

GOOD = '{"to_address": "a@example.com", "event_type": "open", "dt_occurred": "2026-01-01"}\n'


# --- Keys that could meet ----------------------------------------------------------------------


def test_source_ids_with_a_common_start_are_refused_in_the_settings(tmp_path: Path) -> None:
    """Source `uk` with id 15 would have the same key as source `uk1` with id 5."""
    (tmp_path / "ometria.toml").write_text(
        """
        [[accounts]]
        source_id = "uk1"
        account_id = "1"
        api_key = "env:KEY"
        [[accounts]]
        source_id = "uk"
        account_id = "2"
        api_key = "env:KEY"
        """
    )
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "ometria.toml", {"KEY": "k"})

    assert str(refused.value) == (
        f"{tmp_path}/ometria.toml: accounts[0].source_id: begins with accounts[1].source_id;"
        " a key joins it with an id and nothing between, so two records could have the same key."
    )


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("uk", "uk1", True),
        ("1", "11", True),
        ("ab", "abc", True),
        ("uk", "uk-2", False),
        ("acme", "acme_eu", False),
        ("uk", "us", False),
    ],
)
def test_keys_can_collide_only_if_the_rest_could_start_an_id(
    one: str, other: str, *, meet: bool
) -> None:
    """A source id can extend another by a dash: no id of Ometria starts with one."""
    assert keys_may_meet(one, other) is keys_may_meet(other, one) is meet


def test_source_ids_with_a_common_start_are_refused_by_the_warehouse(
    server: Server, warehouse: Path
) -> None:
    """A later account must not extend the source id of one that has rows."""
    replicate(warehouse, account(server), at=NOON)

    with pytest.raises(ConfigError, match=r"'uk2' and 'uk', which .* holds, begin alike"):
        replicate(warehouse, account(server, account_id="2", source_id="uk2"), at=NOON)


# --- Times -------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_replay_reads_a_time_without_a_zone_as_utc(
    zone: str, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any time zone of the machine, a replayed value equals that of a sync."""
    feed = tmp_path / "feed"
    feed.mkdir()
    (feed / "a.jsonl").write_text(GOOD.replace("2026-01-01", "2026-01-05 10:00:00"))
    settings = account(folder=feed)
    replicate(warehouse, settings, at=NOON)
    (before,) = read_file(warehouse, "ometria.email_events")
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("UPDATE ometria.email_events SET event_at = NULL")
        connection.execute(
            "INSERT INTO ometria_replica.rejects SELECT 'r', 'uk', 'email_events', __sync_key,"
            " 'event_at', '2026-01-05 10:00:00', 'not a time', 'a.jsonl', 1, now(), 'x'"
            " FROM ometria.email_events"
        )
    monkeypatch.setenv("TZ", zone)
    time.tzset()

    assert replay(config(warehouse, settings)) == 1

    (after,) = read_file(warehouse, "ometria.email_events")
    assert after["event_at"] == before["event_at"]
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("text", ["05/01/26", "10-11-12", "26-01-05 10:00:00", "1/2/3"])
def test_a_year_of_two_digits_is_rejected(text: str, warehouse: Path, tmp_path: Path) -> None:
    """The first century is not meant; the reject has the text."""
    feed = tmp_path / "feed"
    feed.mkdir()
    (feed / "a.jsonl").write_text(GOOD.replace("2026-01-01", text))

    report = of(replicate(warehouse, account(folder=feed), at=NOON), "email_events")

    (row,) = read_file(warehouse, "ometria.email_events")
    assert (row["event_at"], report.values_rejected) == (None, 1)
    assert [reject["raw"] for reject in state(warehouse, "rejects")] == [text]


# --- Poison ------------------------------------------------------------------------------------


def _damaged_parquet(path: Path) -> None:
    pq.write_table(pa.table({name: ["x"] * 50 for name in json.loads(GOOD)}), path)
    data = bytearray(path.read_bytes())
    data[4:34] = b"\xff" * 30
    path.write_bytes(data)


def _doubled_parquet(path: Path) -> None:
    names = [*json.loads(GOOD), "TO_ADDRESS"]
    pq.write_table(pa.table([pa.array(["x"])] * len(names), names=names), path)


def _written(text: str) -> object:
    return lambda path: path.write_bytes(text.encode(errors="surrogateescape"))


@pytest.mark.parametrize(
    ("poison", "rows"),
    [
        pytest.param(_written("[" * 200_000 + "\n" + GOOD), 0, id="nested without end"),
        pytest.param(_written(GOOD + "[" * 200_000 + "\n"), 1, id="a line nested without end"),
        pytest.param(
            _written(GOOD.replace("}", ', "x": ' + "[" * 400 + "]" * 400 + "}")), 1, id="deep field"
        ),
        pytest.param(
            _written('{"x": ' + "[" * 400 + "]" * 400 + "}\n"), 0, id="deep and without identity"
        ),
        pytest.param(_written(GOOD + '{"to_address": "caf\udcc3\n'), 1, id="a cut character"),
        pytest.param(_damaged_parquet, 0, id="damaged Parquet"),
        pytest.param(_doubled_parquet, 0, id="a column twice"),
    ],
)
def test_a_poison_file_blocks_no_other(
    poison: object, rows: int, warehouse: Path, tmp_path: Path
) -> None:
    """The good file is loaded completely, and the bad one is rejected in part or completely."""
    feed = tmp_path / "feed"
    feed.mkdir()
    assert callable(poison)
    poison(feed / "a.bin")
    (feed / "b.jsonl").write_text(GOOD.replace("a@", "good@"))

    report = replicate(warehouse, account(folder=feed), at=NOON)

    assert report.outcome == "succeeded"
    found = read_file(warehouse, "ometria.email_events")
    assert len(found) == rows + 1
    assert "good@example.com" in {row["email"] for row in found}


@pytest.mark.parametrize("depth", [0, 1, 400, 5_000])
def test_json_of_any_depth_is_written(depth: int) -> None:
    """JSON of any depth that can be read can be written unchanged."""
    value: object = ["x"]
    for _ in range(depth):
        value = {"a": [value, None]}

    text = json_text(value)

    assert text.count("{") == depth
    if depth <= 400:
        assert json_text(parse(text)) == text


def test_the_report_contains_no_field_names_with_personal_data(
    warehouse: Path, tmp_path: Path
) -> None:
    """A record whose keys are addresses puts none of them into the report."""
    feed = tmp_path / "feed"
    feed.mkdir()
    names = {f"alice{number}@example.com": 1 for number in range(5)}
    names |= {f"new_{number}": 1 for number in range(100)}
    (feed / "a.jsonl").write_text(json.dumps(json.loads(GOOD) | names) + "\n")

    report = of(replicate(warehouse, account(folder=feed), at=NOON), "email_events")

    assert len(report.unknown_fields) == 20
    assert all(name.startswith("new_") for name in report.unknown_fields)


# --- The first error is reported ---------------------------------------------------------------


def test_an_error_during_mapping_is_reported_itself(
    server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory and disk space, the message names that, not the lease."""
    settings = account(server)
    replicate(warehouse, settings, at=NOON)
    real = Staging.add_pages

    def cramped(self: Staging, pages: Sequence[Page], synced_at: datetime) -> int:
        self.connection.execute("SET memory_limit = '1MB'; SET max_temp_directory_size = '0KB'")
        return real(self, pages, synced_at)

    monkeypatch.setattr(Staging, "add_pages", cramped)

    with pytest.raises(WarehouseError) as refused:
        replicate(warehouse, settings, at=NOON + HOUR, full=True)

    assert "lease" not in str(refused.value)
    assert refused.value.report is not None


# --- Leases ------------------------------------------------------------------------------------


def test_a_reused_process_id_is_another_process(warehouse: Path) -> None:
    """In a restarted container, the process id can equal that of the killed run."""
    mine = Lease.of_this_process("uk", "killed", NOON + HOUR)
    theirs = Lease("uk", "killed", mine.host, mine.pid, mine.expires_at, "an-earlier-boot/1")
    with open_warehouse(f"duckdb:///{warehouse}") as opened:
        opened.prepare(Owner("1042", "uk"), NOON)
        opened.leases.acquire(theirs, NOON)
        opened.leases.acquire(Lease.of_this_process("uk", "next", NOON + HOUR), NOON + MINUTE)
        with pytest.raises(Busy, match="run next"):
            opened.leases.acquire(mine, NOON + MINUTE)


def test_a_long_quiet_round_renews_the_lease(
    shop: Account, server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round over lists without changes takes hours, and no other run takes the lease."""
    for number in range(12):
        shop.add_list(f"3{number}", title="quiet")
    minutes = iter(range(0, 10_000, 7))
    monkeypatch.setattr(batching, "BATCH_SECONDS", -1.0)

    report = replicate(warehouse, account(server), at=lambda: NOON + next(minutes) * MINUTE)

    assert report.outcome == "succeeded"
    assert report.finished_at - report.started_at > LEASE


# --- Clocks, arguments -------------------------------------------------------------------------


def test_a_watermark_ahead_of_now_skips_nothing(
    shop: Account, server: Server, warehouse: Path
) -> None:
    """The next run reads from its own start minus the look-back."""
    replicate(warehouse, account(server), at=NOON)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "UPDATE ometria_replica.watermarks SET reached_at = '2030-01-01'"
            " WHERE NOT starts_with(kind, 'written ')"
        )
    shop.set_time(NOON + 2 * DAY)
    shop.update_profile("ann", firstname="Anna")

    replicate(warehouse, account(server), at=shop.now)

    names = {row["first_name"] for row in read_file(warehouse, "ometria.profiles")}
    assert "Anna" in names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"since": date(2026, 5, 1), "until": date(2026, 1, 1)},
            "The first day, 2026-05-01, is after the last one, 2026-01-01.",
        ),
        (
            {"since": date(2026, 5, 1), "detect_deletes": True},
            (
                "--since and --until read a part of a table, --full and --detect-deletes all of"
                " it. Leave out one or the other."
            ),
        ),
    ],
)
def test_contradictory_arguments_are_refused(
    options: Mapping[str, Any], message: str, server: Server, warehouse: Path
) -> None:
    """They are errors of the settings: no request is made and no file is created."""
    with pytest.raises(ConfigError) as refused:
        replicate(warehouse, account(server), at=NOON, **options)

    assert str(refused.value) == message
    assert not warehouse.exists()
    assert server.requests == []


# --- Temporary files ---------------------------------------------------------------------------


def test_the_next_run_removes_files_of_ended_runs(tmp_path: Path) -> None:
    """Folders of ended processes are removed; those of running ones and other users stay."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead = Path(tempfile.mkdtemp(prefix=f"ometria-replica-{process.pid}-"))
    (dead / "events.csv").write_text("personal")
    other = Path(tempfile.mkdtemp(prefix="ometria-other-"))

    with temp_folder() as mine:
        remove_leftovers(Path(tempfile.gettempdir()))
        assert mine.is_dir()

    assert not mine.exists()
    assert not dead.exists()
    assert other.is_dir()
    other.rmdir()


def test_a_run_whose_process_number_is_unknown_here_keeps_its_files() -> None:
    """Two containers share a volume, and each has its own numbers: a lock shows who is alive."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with temp_folder() as mine:
        elsewhere = mine.rename(mine.with_name(f"ometria-replica-{process.pid}-elsewhere"))
        (elsewhere / "events.csv").write_text("personal")
        remove_leftovers(Path(tempfile.gettempdir()))
        assert (elsewhere / "events.csv").exists()
    remove_leftovers(Path(tempfile.gettempdir()))

    assert not elsewhere.exists()


def test_a_dead_run_whose_process_number_is_in_use_leaves_no_files() -> None:
    """In a container each run has the same number."""
    dead = Path(tempfile.mkdtemp(prefix=f"ometria-replica-{os.getpid()}-"))

    remove_leftovers(Path(tempfile.gettempdir()))

    assert not dead.exists()


def test_sigterm_ends_a_run_as_ctrl_c_does(shop: Account, tmp_path: Path, warehouse: Path) -> None:
    """
    Schedulers send SIGTERM, and SIGKILL ten seconds later. The run exits with 143 before the
    hanging response, releases its lease, and removes its temporary folder.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with serve(shop, requests_per_second=None) as server:
        server.faults.next("/v2/profiles", Fault.hang(25))
        environ = os.environ | api_env(server, warehouse) | {"TMPDIR": str(scratch)}
        with subprocess.Popen(
            [sys.executable, "-m", "ometria_replica", "sync"],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while server.faults._rules and process.poll() is None:
                time.sleep(0.05)  # Until the request that hangs is under way.
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=10)

    assert process.returncode == 143
    assert said.endswith("\nStopped. Committed data is safe; the next run continues from there.\n")
    assert list(scratch.iterdir()) == []
    assert state(warehouse, "leases") == []
    assert [run["outcome"] for run in state(warehouse, "runs")] == ["stopped"]


def test_check_fails_where_a_sync_would(server: Server, tmp_path: Path) -> None:
    """``check`` reports a warehouse in a missing folder before the first sync."""
    findings = check(config(tmp_path / "nowhere" / "w.duckdb", account(server)))
    (finding,) = [finding for finding in findings if finding.error]

    assert str(finding.error) == (
        f"{tmp_path}/nowhere does not exist, or cannot be written."
        " Create the folder, or change warehouse.url."
    )


def test_check_says_once_that_a_key_is_wrong(server: Server, warehouse: Path) -> None:
    """One endpoint that is refused has its own line; if all are, the key is wrong."""
    wrong = account(server, api_key=Secret("another-key", "the test"))

    (found,) = [finding for finding in check(config(warehouse, wrong)) if finding.error]
    assert found.source_id == "uk"
    assert found.text.endswith("every endpoint that was asked: /profiles, /lists, /unsubscribes.")

    server.no_rights = frozenset({"changes"})
    (found,) = [each for each in check(config(warehouse, account(server))) if each.error]
    assert found.text == (
        "GET /lists/{id}/changes: the API key has no right to it; member_lists cannot be read."
    )


@pytest.mark.parametrize(
    ("lines", "reasons"),
    [
        (["{}", 'a@example.com,open,2026-01-01,""', "b@example.com,open,2026-01-01,"], ["", None]),
        (['"{}"', '"a@example.com","open","2026-01-01",""'], [None]),
        (['"{}"', '"a@example.com","op""e\nn","2026-01-01",""'], [None]),
        (
            ['"{}"', '"a@example.com","open","2026-01-01",""', '"b@x.org","open",2026-01-01,""'],
            ["", ""],
        ),
    ],
)
def test_where_all_is_quoted_an_empty_cell_is_no_value(
    lines: list[str], reasons: list[str | None], warehouse: Path, tmp_path: Path
) -> None:
    """A file that quotes all cells cannot distinguish an empty text from null; others can."""
    feed = tmp_path / "feed"
    feed.mkdir()
    header = ["to_address", "event_type", "dt_occurred", "reason"]
    between = '","' if lines[0].startswith('"') else ","
    (feed / "a.csv").write_text("\n".join([lines[0].format(between.join(header)), *lines[1:]]))

    replicate(warehouse, account(folder=feed), at=NOON)

    rows = read_file(warehouse, "ometria.email_events", order="email")
    assert [row["bounce_reason"] for row in rows] == reasons


# --- What is not set ---------------------------------------------------------------------------


def test_a_table_that_cannot_be_read_is_refused_by_name(server: Server, warehouse: Path) -> None:
    """Naming it is a mistake; without names, the report says which tables were not read."""
    with pytest.raises(ConfigError, match="email_events: cannot be read: no feed is set"):
        replicate(warehouse, account(server), at=NOON, tables=["email_events"])
    assert not warehouse.exists()

    report = replicate(warehouse, account(server), at=NOON)

    reason = "no feed is set (OMETRIA_FEED_URL, or feed.url)"
    assert report.not_read == (f"email_events of uk: {reason}",)
    assert f"Not read: email_events of uk: {reason}." in report.to_text()


def test_a_required_table_makes_a_lost_variable_a_failure(server: Server, warehouse: Path) -> None:
    """A scheduled run that loses the feed does not stay green."""
    needs = account(server, require=("email_events", "profiles"))
    with pytest.raises(ConfigError, match="email_events: required for 'uk', but no feed is set"):
        replicate(warehouse, needs, at=NOON)
    with pytest.raises(ConfigError, match="email_event"):
        replicate(warehouse, account(server, require=("email_event",)), at=NOON)

    found = [finding for finding in check(config(warehouse, needs)) if finding.error]
    assert [str(finding.error) for finding in found] == [
        "uk: email_events is not read: no feed is set (OMETRIA_FEED_URL, or feed.url)"
    ]
