from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica import stopping
from ometria_replica.config import AccountSettings, Config, WarehouseSettings
from ometria_replica.errors import RejectedRecords, ReplicaError, Unavailable
from ometria_replica.metrics import HELP, EndedRun, Series, _labels, to_text, write_metrics
from ometria_replica.running import measured
from tests.duck import opened
from tests.e2e.program import api_env, invoke
from tests.incremental.shops import HOUR, NOON, account, config, replicate
from tests.replicas import of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ometria_simulator import Account, Server

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Key = tuple[str, frozenset[tuple[str, str]]]
UNIT = timedelta(seconds=1)


def parsed(text: str) -> dict[Key, float]:
    """
    Read the text format as strictly as Prometheus does, and by its conventions more so.

    HELP and TYPE come once, before all samples of their metric, which stand together; no series
    comes twice; counters end in _total, and other metrics do not.
    """
    assert text.endswith("\n")
    samples: dict[Key, float] = {}
    seen: list[str] = []
    types: dict[str, str] = {}
    for line in text.removesuffix("\n").split("\n"):
        if help_line := re.fullmatch(r"# HELP (\S+) ([^\n]+)", line):
            assert NAME.fullmatch(help_line[1])
            assert help_line[1] not in seen
            seen.append(help_line[1])
        elif type_line := re.fullmatch(r"# TYPE (\S+) (counter|gauge)", line):
            assert type_line[1] == seen[-1]
            assert type_line[1] not in types
            types[type_line[1]] = type_line[2]
        else:
            found = re.fullmatch(r"([a-zA-Z0-9_:]+)(?:\{(.*)\})? (\S+)", line)
            assert found, line
            name, labels = found[1], found[2] or ""
            pairs = LABEL.findall(labels)
            assert ",".join(f'{label}="{value}"' for label, value in pairs) == labels
            assert len({label for label, _ in pairs}) == len(pairs)
            assert name == seen[-1]
            assert name.startswith("ometria_replica_")
            assert (types[name] == "counter") == name.endswith("_total")
            key = (name.removeprefix("ometria_replica_"), frozenset(map(plain, pairs)))
            assert key not in samples
            samples[key] = float(found[3])
    return samples


def plain(pair: tuple[str, str]) -> tuple[str, str]:
    return pair[0], re.sub(r'\\["\\n]', lambda found: ESCAPED[found[0]], pair[1])


def values(samples: Mapping[Key, float], name: str, label: str = "table") -> dict[str, float]:
    """Return the values of a metric by one of their labels, added up."""
    found: dict[str, float] = defaultdict(float)
    for (metric, labels), value in samples.items():
        if metric == name:
            found[dict(labels).get(label, "")] += value
    return dict(found)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file for the metrics, in a folder of its own."""
    (tmp_path / "collected").mkdir()
    return tmp_path / "collected" / "ometria.prom"


def test_the_metrics_are_those_of_the_run_and_of_sql(
    shop: Account, server: Server, warehouse: Path, file: Path
) -> None:
    """What a run did is counted up; what holds now is what the tables say."""
    shop.update_profile("ann", seen="perhaps")
    settings = config(warehouse, account(server))
    server.faults.storm(2, retry_after="0")
    reports = [replicate(warehouse, *settings.accounts, at=NOON + hours * HOUR) for hours in (0, 1)]
    for report in reports:
        run = EndedRun(report.started_at, report.finished_at + 5 * UNIT, 0, report)
        write_metrics(file, settings, run)
    samples = parsed(file.read_text())

    assert values(samples, "last_run_exit_code") == {"": 0}
    assert values(samples, "last_run_duration_seconds") == {"": 5}
    assert values(samples, "runs_total", "exit_code") == {"0": 2}
    ended = (NOON + HOUR).timestamp()
    assert values(samples, "last_run_end_timestamp_seconds") == {"": ended + 5}
    assert values(samples, "last_success_timestamp_seconds", "source_id") == {"uk": ended}
    for name, field in (
        ("records_total", "records"),
        ("requests_total", "requests"),
        ("rate_limited_requests_total", "rate_limited"),
    ):
        assert values(samples, name) == {
            table.table: sum(getattr(of(report, table.table), field) for report in reports)
            for table in reports[0].tables
        }
    assert sum(values(samples, "rate_limited_requests_total").values()) == 2
    kinds = values(samples, "row_changes_total", "kind")
    assert kinds["inserted"] == sum(table.inserted for table in reports[0].tables) == 8
    assert kinds["unchanged"] == sum(table.unchanged for table in reports[1].tables)
    assert values(samples, "rejected_total", "kind") == {
        "record": 0,
        "value": sum(of(report, "profiles").values_rejected for report in reports),
        "file": 0,
    }
    with opened(warehouse) as connection:
        for name, query in {
            "table_rows": "SELECT count(*) FROM ometria.{}",
            "rejects": "SELECT count(*) FROM ometria_replica.rejects WHERE table_name = '{}'",
            "complete_until_timestamp_seconds": "SELECT epoch(reached_at)"
            " FROM ometria_replica.watermarks WHERE table_name = '{}' AND kind = 'watermark'",
        }.items():
            found = values(samples, name)
            assert len(found) == 4
            for table, value in found.items():
                assert connection.execute(query.format(table)).fetchall() == [
                    (pytest.approx(value, abs=1e-4),)
                ]
    until = values(samples, "complete_until_timestamp_seconds")
    assert values(samples, "lag_seconds") == {
        table: pytest.approx(ended + 5 - moment, abs=1e-4) for table, moment in until.items()
    }


def test_a_failed_run_keeps_what_the_file_said_of_the_state(
    server: Server, warehouse: Path, file: Path
) -> None:
    """An alert on the last success must not go silent because the warehouse cannot be asked."""
    settings = config(warehouse, account(server))
    report = replicate(warehouse, *settings.accounts, at=NOON)
    write_metrics(file, settings, EndedRun(NOON, NOON, 0, report))
    before = parsed(file.read_text())
    warehouse.write_text("This is no database.")
    write_metrics(file, settings, EndedRun(NOON + HOUR, NOON + HOUR, 5))
    after = parsed(file.read_text())

    for name in (
        "last_success_timestamp_seconds",
        "complete_until_timestamp_seconds",
        "table_rows",
    ):
        assert values(after, name) == values(before, name) != {}
    lags = values(before, "lag_seconds")
    assert values(after, "lag_seconds") == {
        table: pytest.approx(lag + 3600, abs=1e-4) for table, lag in lags.items()
    }
    assert values(after, "runs_total", "exit_code") == {"0": 1, "5": 1}
    assert values(after, "last_run_exit_code") == {"": 5}
    assert values(after, "requests_total") == values(before, "requests_total")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (Unavailable("later"), 75),
        (RejectedRecords("some"), 4),
        (stopping.Stopped(15), 143),
        (LookupError("a bug"), 1),
    ],
    ids=["success", "75", "4", "SIGTERM", "bug"],
)
def test_the_exit_code_is_told_however_a_run_ends(
    error: BaseException | None, code: int, warehouse: Path, file: Path, server: Server
) -> None:
    """The error goes on; the metrics are written."""
    try:
        with measured(config(warehouse, account(server)), file):
            if error is not None:
                raise error
    except (ReplicaError, stopping.Stopped, LookupError) as caught:
        assert caught is error  # noqa: PT017 -- one of the errors is none.

    assert values(parsed(file.read_text()), "last_run_exit_code") == {"": code}


def test_a_collector_of_another_user_can_read_the_file_at_any_time(
    server: Server, warehouse: Path, file: Path
) -> None:
    """It is replaced at once, whatever the umask, and nothing is left beside it."""
    env = api_env(server, warehouse) | {"OMETRIA_METRICS": str(file)}
    file.write_text("half a line, and ometria_replica_table_rows{ 7\nometria_replica_rejects x\n")
    old = file.open()
    umask = os.umask(0o077)
    try:
        assert invoke("sync", env=env).exit_code == 0
    finally:
        os.umask(umask)

    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert old.read().startswith("half a line")  # A reader of the old file reads it to its end.
    old.close()
    assert values(parsed(file.read_text()), "table_rows")["profiles"] == 3


def test_metrics_that_cannot_be_written_are_a_warning(
    server: Server, warehouse: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run itself is not affected. The option goes before the setting; a dry run writes none."""
    env = api_env(server, warehouse) | {"OMETRIA_METRICS": str(tmp_path / "of-the-setting.prom")}
    missing, own = tmp_path / "missing" / "o.prom", tmp_path / "own.prom"

    failed = invoke("sync", "--metrics", str(missing), env=env)
    invoke("sync", "--metrics", str(own), env=env)
    invoke("sync", "--metrics", str(tmp_path / "dry.prom"), "--dry-run", env=env)

    assert failed.exit_code == 0
    assert f"could not be written to {missing}: No such file or directory" in caplog.text
    assert sorted(path.name for path in tmp_path.glob("*.prom")) == ["own.prom"]


@given(st.dictionaries(st.sampled_from(sorted(HELP)), st.text(), max_size=5), st.floats(0, 1e12))
def test_any_text_can_be_a_label(labels: dict[str, str], value: float) -> None:
    """Quotes, backslashes and line breaks too: a strict reader finds the same text."""
    samples = {
        Series(name, _labels(source_id=text, table="t")): value for name, text in labels.items()
    }
    text = to_text(samples)

    assert not samples or {key[1] for key in parsed(text)} == {
        frozenset({("source_id", text), ("table", "t")}) for text in labels.values()
    }


def test_the_file_of_a_run_of_one_account_still_tells_of_the_others(
    server: Server, warehouse: Path, file: Path, tmp_path: Path
) -> None:
    """An account that is synced by a schedule of its own does not vanish from the file."""
    toml = tmp_path / "ometria.toml"
    toml.write_text(
        f'metrics = "{file}"\n[warehouse]\nurl = "duckdb:///{warehouse}"\n'
        + "".join(
            f'[[accounts]]\naccount_id = "{name}"\napi_url = "{server.url}"\n'
            'api_key = "env:KEY_OF_TEST"\nrequests_per_second = 1000\n'
            for name in ("uk", "us")
        )
    )
    env = {"KEY_OF_TEST": server.key}
    for name in ("uk", "us"):
        ended = invoke("sync", "--config", str(toml), "--account", name, env=env)
        assert ended.exit_code == 0, ended.stderr

    samples = parsed(file.read_text())
    assert set(values(samples, "last_success_timestamp_seconds", "source_id")) == {"uk", "us"}
    assert set(values(samples, "requests_total", "account_id")) == {"uk", "us"}
    assert Config((AccountSettings("1"),), WarehouseSettings()).metrics is None
