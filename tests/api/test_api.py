"""The Python API returns plain data, and touches nothing of the process that calls it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ometria_replica
from ometria_replica import (
    Busy,
    CheckReport,
    ConfigError,
    ErasePreview,
    Erasure,
    RejectedRecords,
    RunReport,
    check,
    erase,
    load_config,
    maintain,
    plan,
    status,
    sync,
    verify,
)
from ometria_replica.describe import describe
from ometria_replica.state_commands import count_rejects, read_rejects, read_runs, rewind
from tests.duck import read_file
from tests.e2e.program import invoke
from tests.forked import ROOT
from tests.ometria.listener import Reply, listening
from tests.schemas import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from ometria_replica import Config
    from ometria_simulator import Account, Server

DATABASE = "w.duckdb"


def an_address(shop: Account) -> str:
    return next(each.email for each in shop.profiles if each.email)


def of_this_process() -> dict[str, Any]:
    """Return what a library must leave alone; loggers that filter URLs are told in the docs."""
    root = logging.getLogger()
    return {
        "folder": Path.cwd(),
        "environment": dict(os.environ),
        "signals": {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)},
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.stdout, sys.stderr),
        "logging": (root.level, list(root.handlers), logging.root.manager.disable),
        "levels": {
            name: each.level
            for name, each in logging.root.manager.loggerDict.items()
            if isinstance(each, logging.Logger) and each.level
        },
        "warnings": list(warnings.filters),
        "threads": {each.name for each in threading.enumerate() if not each.daemon},
    }


def test_each_function_returns_the_document_of_its_command(
    config: Config, environ: dict[str, str], shop: Account
) -> None:
    """As frozen data, and as what ``json.loads`` gives of the command's JSON, by its schema."""
    person = an_address(shop)
    results: dict[str, Any] = {
        "plan": plan(config, offline=True),
        "sync": sync(config, ("profiles", "lists", "email_events")),
        "status": status(config),
        "check": check(config),
        "verify": verify(config, "lists", everything=True),
        "maintain": maintain(config, "lists"),
        "erase-dry-run": erase(config, emails=[person], dry_run=True),
        "erase": erase(config, emails=[person], dry_run=False),
    }

    for name, result in results.items():
        document = result.to_dict()
        assert faults(name, document) == [], name
        assert json.loads(result.to_json()) == document
        assert result.to_text()
        assert is_dataclass(result)
        with pytest.raises(FrozenInstanceError):  # With setattr(), mypy has no say.
            setattr(result, fields(result)[0].name, None)
    printed = json.loads(invoke("status", "--json", env=environ).stdout)
    now = status(config).to_dict()
    differ = {"asked_at", "verdict", "disk"}
    assert {k: v for k, v in printed.items() if k not in differ} == {
        k: v for k, v in now.items() if k not in differ
    }
    checked = json.loads(invoke("check", "--json", env=environ).stdout)
    assert [each["code"] for each in checked["findings"]] == [
        each["code"] for each in results["check"].to_dict()["findings"]
    ]


def test_a_call_touches_nothing_of_the_process(
    config: Config, shop: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    """No handler of a signal, no logging, no output, no folder, no variable, no thread stays."""
    before = of_this_process()

    sync(config, ("lists", "email_events"))
    check(config)
    plan(config, "lists")
    status(config)
    verify(config, "lists")
    maintain(config)
    erase(config, emails=an_address(shop), dry_run=False)
    with pytest.raises(ConfigError):
        sync(config, "profile")

    assert of_this_process() == before
    assert capfd.readouterr() == ("", "")


def test_one_name_is_a_name_and_not_its_letters(config: Config, shop: Account) -> None:
    """Of a table, an account or a person, and in functions of other modules."""
    report = sync(config, "lists", accounts="shop")
    sync(config, "profiles")

    assert [each.table for each in report.tables] == ["lists"]
    assert [each.table for each in sync(config, iter(["lists"])).tables] == ["lists"]
    assert [each.table for each in status(config, "lists").tables] == ["lists"]
    assert [each.table for each in plan(config, "lists", offline=True).tables] == ["lists"]
    assert [each.table for each in verify(config, "lists").tables] == ["lists"]
    assert maintain(config, "lists").maintains_itself
    assert describe("lists", "text") == describe(["lists"], "text")
    rewind(config, "lists", None)
    assert read_runs(config, 1, "shop")
    assert read_rejects(config, 1, "shop") == []
    assert count_rejects(config, "lists") == 0
    preview = erase(config, profile_ids=shop.profiles[12].id, dry_run=True)
    assert [(each.people, each.rows["profiles"]) for each in preview.accounts] == [(1, 1)]
    with pytest.raises(ConfigError, match="no table 'list'"):
        sync(config, "list")
    with pytest.raises(ConfigError, match="no account 'shops'"):
        status(config, accounts="shops")
    with pytest.raises(TypeError, match="A name is a text"):
        sync(config, [ometria_replica.TABLES[0]])  # type: ignore[list-item]  # The mistake.


def test_nobody_is_erased_unless_the_call_says_so(
    config: Config, shop: Account, tmp_path: Path
) -> None:
    """``dry_run`` has no default, and only ``False`` erases; the preview has numbers alone."""
    sync(config, "profiles")
    person = an_address(shop)

    def there() -> int:
        rows = read_file(tmp_path / DATABASE, "ometria.profiles", order="email")
        return sum(row["email"] == person for row in rows)

    with pytest.raises(TypeError, match="dry_run"):
        erase(config, emails=person)  # type: ignore[call-overload]  # The mistake.
    for unsure in (None, 0, "", "False"):
        with pytest.raises(TypeError, match="dry_run: is True"):
            erase(config, emails=person, dry_run=unsure)  # type: ignore[call-overload]  # As above.
    for ids in ({}, {"emails": ()}, {"emails": "nobody"}, {"profile_ids": " "}):
        with pytest.raises(ConfigError, match="Nothing was changed"):
            erase(config, dry_run=False, **ids)
    preview = erase(config, emails=person, dry_run=True)
    assert isinstance(preview, ErasePreview)
    assert person not in repr(preview)
    assert there() == 1

    done = erase(config, emails=person.upper(), dry_run=False)

    assert isinstance(done, Erasure)
    assert person not in repr(done)
    assert there() == 0
    assert done.receipts[0].rows == preview.accounts[0].rows
    assert sync(config, "profiles", full=True).tables[0].suppressed == 1
    assert there() == 0


def test_two_threads_sync_into_two_warehouses(
    config_of: Callable[..., Config], tmp_path: Path
) -> None:
    """At the same time, each whole; into one warehouse, the second is told that it is busy."""
    together = threading.Barrier(2, timeout=60)

    def run(name: str) -> RunReport:
        config = config_of(OMETRIA_WAREHOUSE_URL=f"duckdb:///{tmp_path}/{name}.duckdb")
        together.wait()
        return sync(config)

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(run, ("one", "other"))

    counted = {each.table: each.inserted for each in one.tables}
    assert {each.table: each.inserted for each in other.tables} == counted
    assert (counted["profiles"], counted["lists"]) == (25, 2)
    assert counted["email_events"]

    refused: list[BaseException] = []

    def second(_: object) -> None:
        if not refused:
            with pytest.raises(Busy) as error:
                sync(busy)
            refused.append(error.value)

    busy = config_of(OMETRIA_WAREHOUSE_URL=f"duckdb:///{tmp_path}/busy.duckdb")

    class Second:
        """Syncs from another thread, once a table was begun."""

        def start(self, *_: object) -> None:
            thread = threading.Thread(target=second, args=(None,))
            thread.start()
            thread.join(60)

        def advance(self, *_: object) -> None: ...

        def finish(self, *_: object) -> None: ...

    assert sync(busy, "lists", progress=Second()).outcome == "succeeded"
    assert "is loading 'shop'" in str(refused[0])


@pytest.mark.slow
def test_a_sync_runs_inside_a_running_loop(config: Config) -> None:
    """As in a cell of Jupyter; and beside it, in a thread."""

    async def cell() -> tuple[RunReport, RunReport]:
        return sync(config, "lists"), await asyncio.to_thread(sync, config, "lists")

    first, second = asyncio.run(cell())

    assert first.changed
    assert second.outcome == "succeeded"


@pytest.mark.slow
def test_the_settings_have_their_effect_as_with_the_command(
    config_of: Callable[..., Config], server: Server, tmp_path: Path
) -> None:
    """Metrics are written, the webhook is told, and ``strict`` refuses rejects, report and all."""
    metrics = tmp_path / "ometria.prom"
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "bad.csv.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip file at all" * 9)
    os.utime(bad / "bad.csv.gz", (0, 0))
    with listening(lambda _: Reply(b"ok", content_type="text/plain")) as webhook:
        told = config_of(
            OMETRIA_METRICS=str(metrics),
            OMETRIA_NOTIFY=webhook.url,
            OMETRIA_FEED_URL=str(bad),
        )
        with pytest.raises(RejectedRecords) as refused:
            sync(told, ("lists", "email_events"), strict=True)
        events = [json.loads(each.body)["event"] for each in webhook.asked]

        assert events == ["rejects"]
        assert refused.value.report
        assert refused.value.report.rejected == 1
        assert "ometria_replica_last_run_exit_code 4" in metrics.read_text()
        sync(told, "lists", dry_run=True)
        assert len(webhook.asked) == 1


@pytest.mark.slow
def test_the_progress_of_a_table_is_told(config: Config) -> None:
    """In the thread of the call, from its start to its report."""
    told: list[tuple[str, str, str]] = []
    here = threading.get_ident()

    class Progress:
        def start(self, source_id: str, table: str, *_: object) -> None:
            told.append(("start", source_id, table))
            assert threading.get_ident() == here

        def advance(self, *_: object) -> None: ...

        def finish(self, report: Any) -> None:
            told.append(("finish", report.source_id, report.table))

    sync(config, ("lists", "email_events"), progress=Progress())

    for table in ("lists", "email_events"):
        assert told.index(("start", "shop", table)) < told.index(("finish", "shop", table))


@pytest.mark.slow
def test_a_check_never_raises_for_what_it_finds(config_of: Callable[..., Config]) -> None:
    """A wrong key is a finding, with the exit code of the error that a sync would raise."""
    report = check(config_of(OMETRIA_API_KEY="another-key"))

    assert isinstance(report, CheckReport)
    assert (report.level, report.exit_code) == ("fail", 3)
    assert "another-key" not in repr(report)


@pytest.mark.slow
def test_an_old_replica_is_not_all_right(config: Config) -> None:
    """``max_age`` is the limit."""
    assert not status(config, "lists").is_all_right
    sync(config, "lists")

    assert status(config, "lists").is_all_right
    assert not status(config, "lists", max_age=timedelta()).is_all_right


def test_contradicting_arguments_are_refused(config: Config) -> None:
    """Before anything is contacted."""
    with pytest.raises(ConfigError, match="exclude each other"):
        verify(config, everything=True, share=0.5)
    with pytest.raises(ConfigError, match="at most 1"):
        verify(config, share=7)
    with pytest.raises(ConfigError, match="future"):
        sync(config, since=(status(config).asked_at + timedelta(days=3)).date())


def test_settings_are_found_by_a_path_that_is_a_text(tmp_path: Path) -> None:
    """As most people write one."""
    (tmp_path / "ometria.toml").write_text('[[accounts]]\naccount_id = "a"\napi_key = "env:KEY"\n')

    loaded = load_config(str(tmp_path / "ometria.toml"), {"KEY": "a-key-of-enough-characters"})

    assert [each.account_id for each in loaded.accounts] == ["a"]


def test_no_module_hides_a_public_function() -> None:
    """A module of the name would take its place in the package, once anything imports it."""
    modules = {each.name for each in pkgutil.iter_modules(ometria_replica.__path__)}

    assert modules & set(ometria_replica.__all__) == set()
    assert set(ometria_replica.__all__) <= set(dir(ometria_replica))
    for name in ometria_replica.__all__:
        assert getattr(ometria_replica, name)


CONSUMER = """\
from __future__ import annotations

from datetime import date, timedelta

from ometria_replica import (
    CheckReport, Erasure, ErasePreview, Maintenance, Plan, ReplicaError, RunReport, Status,
    VerifyReport, check, erase, load_config, maintain, plan, status, sync, verify,
)

config = load_config("ometria.toml")
report: RunReport = sync(config, "profiles", accounts=["uk"], since=date(2026, 1, 1), strict=True)
rows: int = sum(table.inserted for table in report.tables)
document: dict[str, object] = report.to_dict()
checked: CheckReport = check(config)
planned: Plan = plan(config, ["profiles"], offline=True)
requests: int | None = planned.requests.value
fresh: Status = status(config, max_age=timedelta(hours=3))
verified: VerifyReport = verify(config, share=0.1, requests=100)
maintained: Maintenance = maintain(config, ["lists"], retention=timedelta(days=14), dry_run=True)
small_files: int = maintained.joined.count
preview: ErasePreview = erase(config, emails="ann@example.com", dry_run=True)
erasure: Erasure = erase(config, emails="ann@example.com", dry_run=False)
try:
    sync(config)
except ReplicaError as error:
    code: int = error.exit_code
    failed: RunReport | None = error.report
"""
MISTAKES = {
    'erase(config, emails="ann@example.com")': "call-overload",
    'erase(config, emails="ann@example.com", dry_run=None)': "call-overload",
    "sync(config, tables=3)": "arg-type",
    "report.inserted": "attr-defined",
    "wrong: str = status(config).is_all_right": "assignment",
}


@pytest.mark.slow
def test_the_package_is_typed_for_a_program_that_uses_it(tmp_path: Path) -> None:
    """``mypy --strict`` takes a right program, and finds each mistake in a wrong one."""
    (tmp_path / "right.py").write_text(CONSUMER)
    (tmp_path / "wrong.py").write_text(CONSUMER + "".join(f"{each}\n" for each in MISTAKES))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"),
         "--config-file", os.devnull, "right.py", "wrong.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert [line for line in errors if line.startswith("right.py")] == []
    assert [line.rpartition("[")[2].rstrip("]") for line in errors] == list(MISTAKES.values())
