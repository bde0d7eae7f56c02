from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.report import (
    Outcome,
    RunReport,
    TableReport,
    history_as_json,
    history_as_text,
    report_from_dict,
)
from tests.incremental.shops import NOON

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

PROFILES = TableReport(
    "uk", "profiles", requests=1_204, records=300_000, inserted=299_999, updated=1
)
LISTS = TableReport("uk", "lists", requests=2, records=30, unchanged=30)
REFUSED = "Ometria refused the API key."


def report(*tables: TableReport, outcome: Outcome = "succeeded", **more: object) -> RunReport:
    made = RunReport(
        run_id="20260302T120000-abc123",
        version="1.2.3",
        warehouse="duckdb:///shop.duckdb",
        started_at=NOON,
        finished_at=NOON + timedelta(seconds=301.25),
        outcome=outcome,
        tables=tables,
    )
    return replace(made, **more)  # type: ignore[arg-type] # The snapshots check it.


SNAPSHOTS = {
    "success": (
        report(PROFILES, LISTS),
        """\
Synced to duckdb:///shop.duckdb in 5 min 1 s, with 1,206 requests.

table     inserted  updated  unchanged  rejected  requests
profiles   299,999        1          0         0     1,204
lists            0        0         30         0         2

Nothing was rejected.""",
    ),
    "nothing changed": (
        report(LISTS, finished_at=NOON + timedelta(seconds=2.04)),
        """\
Synced to duckdb:///shop.duckdb in 2.0 s, with 2 requests.

table  inserted  updated  unchanged  rejected  requests
lists         0        0         30         0         2

No row changed, except the load time of rows that were read again.
Nothing was rejected.""",
    ),
    "failed": (
        report(
            TableReport("uk", "profiles", requests=1, error=REFUSED),
            LISTS,
            outcome="failed",
        ),
        """\
Failed syncing to duckdb:///shop.duckdb in 5 min 1 s, with 3 requests.

table     inserted  updated  unchanged  rejected  requests
profiles         0        0          0         0         1
lists            0        0         30         0         2

Failed: profiles: Ometria refused the API key.""",
    ),
    "dry run": (
        report(replace(LISTS, requests=1), outcome="dry run"),
        """\
Would sync to duckdb:///shop.duckdb in 5 min 1 s, with 1 request.

table  inserted  updated  unchanged  rejected  requests
lists         0        0         30         0         1

Nothing was rejected.""",
    ),
    "several sources": (
        report(LISTS, replace(LISTS, source_id="france", inserted=1)),
        """\
Synced to duckdb:///shop.duckdb in 5 min 1 s, with 4 requests.

table         inserted  updated  unchanged  rejected  requests
uk lists             0        0         30         0         2
france lists         1        0         30         0         2

Nothing was rejected.""",
    ),
    "rejected": (
        report(
            TableReport(
                "uk",
                "email_events",
                files=7,
                files_unreadable=1,
                inserted=5,
                records_rejected=2,
                values_rejected=1_000,
            ),
            warnings=("email_events: may.csv: it is an HTML page",),
        ),
        """\
Synced to duckdb:///shop.duckdb in 5 min 1 s, with 0 requests.

table         inserted  updated  unchanged  rejected  requests  files
email_events         5        0          0     1,003         0      7

Warning: email_events: may.csv: it is an HTML page
To see what was rejected: ometria-replica rejects list.""",
    ),
    "merged, older, NULs and unknown fields": (
        report(
            TableReport(
                "uk",
                "email_events",
                files=2,
                inserted=5,
                merged=1,
                older=2,
                nuls_removed=1,
                unknown_fields=("colour", "size"),
            ),
            TableReport("uk", "unsubscribes", merged=1_200, older=1, nuls_removed=3),
        ),
        """\
Synced to duckdb:///shop.duckdb in 5 min 1 s, with 0 requests.

table         inserted  updated  unchanged  rejected  requests  files
email_events         5        0          0         0         0      2
unsubscribes         0        0          0         0         0      0

email_events: 1 event was merged into another because the specified key cannot tell them apart; the newest of each was kept. Set `wide_keys` before the first load to keep all.
email_events: 2 rows of an older file were skipped; the warehouse has newer ones.
email_events: NUL characters were removed from 1 text.
email_events: undocumented fields in the data: colour, size.
unsubscribes: 1,200 events were merged into others because the specified key cannot tell them apart; the newest of each was kept. Set `wide_keys` before the first load to keep all.
unsubscribes: 1 row of an older file was skipped; the warehouse has newer ones.
unsubscribes: NUL characters were removed from 3 texts.
Nothing was rejected.""",  # noqa: E501  # As it is printed.
    ),
    "deleted upstream and removed": (
        report(
            TableReport("uk", "profiles", inserted=1, deleted_upstream=1_234, removed=1_234),
            TableReport("uk", "lists", deleted_upstream=1),
        ),
        """\
Synced to duckdb:///shop.duckdb in 5 min 1 s, with 0 requests.

table     inserted  updated  unchanged  rejected  requests
profiles         1        0          0         0         0
lists            0        0          0         0         0

profiles: 1,234 rows deleted upstream, 1,234 removed here.
lists: 1 row deleted upstream, kept here (see ometria_replica.deleted_upstream).
Nothing was rejected.""",
    ),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_report_reads(name: str) -> None:
    """The text of the report is exactly this."""
    made, text = SNAPSHOTS[name]

    assert made.to_text() == text


def counts() -> SearchStrategy[int]:
    return st.integers(0, 10**9)


tables = st.builds(
    TableReport,
    source_id=st.text(max_size=5),
    table=st.sampled_from(["profiles", "lists"]),
    requests=counts(),
    inserted=counts(),
    deleted_upstream=counts(),
    values_rejected=counts(),
    unknown_fields=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    seconds=st.floats(0, 10**6),
    error=st.none() | st.text(max_size=9),
)
reports = st.builds(
    report,
    outcome=st.sampled_from(get_args(Outcome)),
    tables=st.lists(tables, max_size=3).map(tuple),
    warnings=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(made=reports)
def test_a_report_survives_json(made: RunReport) -> None:
    """A report that is read back from JSON is equal, and has the same text."""
    back = report_from_dict(json.loads(made.to_json()))

    assert back == made
    assert back.to_text() == made.to_text()


def test_fields_of_a_later_version_are_left_out() -> None:
    """A report that a newer program wrote can still be read."""
    data = report(LISTS).to_dict()
    data["tables"] = [{**data["tables"][0], "a_later_count": 3}]

    assert report_from_dict({**data, "a_later_field": 1}) == report(LISTS)


def test_reports_of_earlier_releases_are_shown_with_the_fields_of_this_one() -> None:
    """So that all of them are as the schema says; what they did not count is 0."""
    made = report(LISTS).to_dict()
    earlier = {name: value for name, value in made.items() if name not in {"schema", "not_read"}}
    earlier["tables"] = [{"source_id": "uk", "table": "lists", "records": 3}]

    (shown,) = json.loads(history_as_json([earlier]))["runs"]

    assert shown.keys() == made.keys()
    assert shown["tables"][0].keys() == made["tables"][0].keys()
    assert (shown["tables"][0]["records"], shown["tables"][0]["expired"]) == (3, 0)


def test_the_history_is_a_line_a_run() -> None:
    """Totals over all tables, newest first as they are given."""
    runs = [SNAPSHOTS[name][0].to_dict() for name in ("rejected", "failed", "success")]

    assert (
        history_as_text(runs)
        == f"""\
started (UTC)          outcome  seconds  records  inserted  updated  rejected
2026-03-02 12:00:00  succeeded    301.2        0         5        0     1,003
2026-03-02 12:00:00     failed    301.2       30         0        0         0
    profiles: {REFUSED}
2026-03-02 12:00:00  succeeded    301.2  300,030   299,999        1         0"""
    )
    assert history_as_text([]) == "No run has been recorded yet."
    assert json.loads(history_as_json([]))["runs"] == []


def test_a_flood_of_warnings_is_cut_for_a_person_and_whole_in_json() -> None:
    """One problem can repeat for each list; the text shows ten and the number of the others."""
    warnings = tuple(f"lists/{number}/changes is gone (404)" for number in range(250))
    report = replace(nothing_new(), warnings=warnings)

    shown = [line for line in report.to_text().splitlines() if line.startswith("Warning: ")]

    assert shown == [f"Warning: {warning}" for warning in warnings[:10]]
    assert "240 more warnings: --json shows all." in report.to_text()
    assert json.loads(report.to_json())["warnings"] == list(warnings)


def test_a_run_that_read_nothing_says_so() -> None:
    """The text does not mention rows that were read again."""
    assert "There was nothing to read." in nothing_new().to_text()


def nothing_new() -> RunReport:
    """Report a run over an empty account."""
    return RunReport(
        "a-run",
        "0.1.0",
        "duckdb:///w.duckdb",
        NOON,
        NOON,
        "succeeded",
        (TableReport("uk", "lists"),),
    )


def test_a_wrong_key_is_said_once() -> None:
    """Each table fails with the name of its own request; another error has a line of its own."""
    denied = "Ometria refused the API key for GET /{} (403). Check it."
    failed = report(
        TableReport("uk", "profiles", error=denied.format("profiles offset=0")),
        TableReport("uk", "lists", error=denied.format("lists mode=all offset=0")),
        TableReport("uk", "email_events", error="The bucket is not there."),
        outcome="failed",
    )

    assert [line for line in failed.to_text().splitlines() if line.startswith("Failed: ")] == [
        "Failed: profiles, lists: " + denied.format("profiles offset=0"),
        "Failed: email_events: The bucket is not there.",
    ]
    assert [table["error"] for table in failed.with_errors_once().to_dict()["tables"]] == [
        denied.format("profiles offset=0"),
        "The same as for profiles.",
        "The bucket is not there.",
    ]
