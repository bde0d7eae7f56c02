"""
Metrics of a run, for the textfile collector of Prometheus' node exporter.

What runs did is counted up from file to file, so that ``increase()`` sees each run whenever the
file is read. What holds now comes from the state; while that cannot be read, the file keeps what
it said before, because an alert on a series that is gone does not fire.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ometria_replica.errors import ReplicaError
from ometria_replica.replica_status import read_status
from ometria_replica.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.config import Config
    from ometria_replica.report import RunReport

logger = logging.getLogger(__name__)

READABLE = 0o644
"""The file holds counts and times and no data of people, and another user's collector reads it."""

HELP = {
    "last_run_exit_code": "Exit code of the last run: 0 is success, 75 asks to try again later.",
    "last_run_end_timestamp_seconds": "When the last run ended.",
    "last_run_duration_seconds": "How long the last run took.",
    "last_success_timestamp_seconds": "When the last run ended that read the account.",
    "complete_until_timestamp_seconds": "The time up to which the table is complete.",
    "lag_seconds": "How far the table was behind the end of the last run.",
    "table_rows": "Rows of the table.",
    "rejects": "Values, records and files of the table that are set aside.",
    "unreadable_files": "Export files of the table that could not be read.",
    "runs_total": "Runs that ended, by exit code.",
    "records_total": "Records that runs have read.",
    "row_changes_total": "Rows, by what runs did with them.",
    "rejected_total": "Records, values and files that runs have rejected.",
    "requests_total": "Requests that runs have sent to Ometria, retries included.",
    "rate_limited_requests_total": "Requests that Ometria has answered with 429.",
}
"""The metrics, without their prefix. Those that end in ``_total`` are counters."""

_OF_STATE = (
    "last_success_timestamp_seconds",
    "complete_until_timestamp_seconds",
    "table_rows",
    "rejects",
    "unreadable_files",
)
_ROW_CHANGES = (
    "inserted",
    "updated",
    "unchanged",
    "older",
    "merged",
    "removed",
    "erased",
    "expired",
)
_REJECTED = {
    "record": "records_rejected",
    "value": "values_rejected",
    "file": "files_unreadable",
}
_SAMPLE = re.compile(r"ometria_replica_(\w+)((?:\{.*\})?) (\S+)")


class Series(NamedTuple):
    """A metric by its name in :data:`HELP`, with its labels as they are written."""

    name: str
    labels: str = ""


@dataclass(frozen=True)
class EndedRun:
    """
    A run, which ended with *exit_code*; *report* is None if it ended before it had one.

    *error* is what ended it, None for a success, and *reason* the sentence of it, without what
    may be personal.
    """

    started_at: datetime
    ended_at: datetime
    exit_code: int
    report: RunReport | None = None
    error: BaseException | None = None
    reason: str | None = None


def write_metrics(path: Path, config: Config, run: EndedRun, *, reads_state: bool = True) -> None:
    """
    Write the metrics of a run to *path*, in place of those that are there.

    A failure is a warning. Without *reads_state*, the file keeps what it said of the state.
    """
    try:
        before = _read(path)
        samples = {series: value for series, value in before.items() if _is_counter(series)}
        for series, value in _counts(config, run):
            samples[series] = samples.get(series, 0) + value
        state = {series: value for series, value in before.items() if series.name in _OF_STATE}
        if reads_state:
            with suppress(ReplicaError):  # The run has said why.
                state = dict(_state(config))
        write_whole(path, to_text(samples | state | dict(_last_run(run, state))), READABLE)
    except OSError as error:
        logger.warning(
            "The metrics could not be written to %s: %s. The run itself went on without them.",
            path,
            error.strerror,
        )


def to_text(samples: Mapping[Series, float]) -> str:
    """Write samples in the text format, each metric once, with its help and its type."""
    lines: dict[str, list[str]] = defaultdict(list)
    for name, labels in sorted(samples):
        value = samples[Series(name, labels)]
        lines[name].append(f"ometria_replica_{name}{labels} {value:.15g}\n")
    return "".join(
        f"# HELP ometria_replica_{name} {text}\n"
        f"# TYPE ometria_replica_{name} {'counter' if name.endswith('_total') else 'gauge'}\n"
        f"{''.join(lines[name])}"
        for name, text in HELP.items()
        if lines[name]
    )


def _counts(config: Config, run: EndedRun) -> Iterator[tuple[Series, float]]:
    """Count what a run did."""
    yield Series("runs_total", _labels(exit_code=str(run.exit_code))), 1
    names = {account.source_id: account.account_id for account in config.accounts}
    for table in run.report.tables if run.report else ():
        place = {
            "account_id": names.get(table.source_id, ""),
            "source_id": table.source_id,
            "table": table.table,
        }
        yield Series("records_total", _labels(**place)), table.records
        yield Series("requests_total", _labels(**place)), table.requests
        yield Series("rate_limited_requests_total", _labels(**place)), table.rate_limited
        for kind in _ROW_CHANGES:
            yield Series("row_changes_total", _labels(**place, kind=kind)), getattr(table, kind)
        for kind, name in _REJECTED.items():
            yield Series("rejected_total", _labels(**place, kind=kind)), getattr(table, name)


def _state(config: Config) -> Iterator[tuple[Series, float]]:
    """Read what holds now of each account and table."""
    status = read_status(config, details=False)
    names = {account.source_id: account.account_id for account in status.accounts}
    for account in status.accounts:
        if account.last_success_at is not None:
            labels = _labels(account_id=account.account_id, source_id=account.source_id)
            moment = account.last_success_at.timestamp()
            yield Series("last_success_timestamp_seconds", labels), moment
    for table in status.tables:
        labels = _labels(
            account_id=names[table.source_id], source_id=table.source_id, table=table.table
        )
        if table.complete_until is not None:
            moment = table.complete_until.timestamp()
            yield Series("complete_until_timestamp_seconds", labels), moment
        yield Series("table_rows", labels), table.rows
        yield Series("rejects", labels), table.rejects
        yield Series("unreadable_files", labels), table.files_unreadable


def _last_run(run: EndedRun, state: Mapping[Series, float]) -> Iterator[tuple[Series, float]]:
    """Tell how a run ended, and how far each table was behind then."""
    ended = run.ended_at.timestamp()
    yield Series("last_run_exit_code"), run.exit_code
    yield Series("last_run_end_timestamp_seconds"), ended
    yield Series("last_run_duration_seconds"), ended - run.started_at.timestamp()
    for (name, labels), moment in state.items():
        if name == "complete_until_timestamp_seconds":
            yield Series("lag_seconds", labels), ended - moment


def _labels(**values: str) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in values.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _is_counter(series: Series) -> bool:
    return series.name.endswith("_total")


def _read(path: Path) -> dict[Series, float]:
    """Read the samples of an earlier run; of lines that are not ours, none."""
    if not path.is_file():
        return {}
    samples = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _SAMPLE.fullmatch(line)
        if found and found[1] in HELP:
            with suppress(ValueError):
                samples[Series(found[1], found[2])] = float(found[3])
    return samples
