"""Which scenario shows best that the checks see a seeded defect, and what they report."""

from __future__ import annotations

from dataclasses import dataclass

CLOCK = "watermark past the server's clock|rows are lost"
DUPLICATED, LOST, OLD = "rows are duplicated", "rows are lost", "rows are not as they should be"
AHEAD, SHRUNK = "state ahead of data", "rows are lost that were there before"
KILLED_FIRST = "a first read killed between batches"
KILLED_BETWEEN = "kills between the tables"
ALL_TABLES = "all tables through days"
KILLED_IN_LISTS = "kills while lists are synced"


@dataclass(frozen=True)
class Proof:
    """A scenario, of a kill ladder one *rung*, and a pattern for the report of the checks."""

    scenario: str
    report: str
    rung: str = ""


PROOFS = {
    "merge without delete": Proof("rewound", DUPLICATED),
    "delete committed before insert": Proof(KILLED_IN_LISTS, SHRUNK, "before insert"),
    "state before rows": Proof("out of memory", AHEAD),
    "state before reading": Proof(KILLED_IN_LISTS, AHEAD, "before request"),
    "watermark with first batch": Proof(KILLED_BETWEEN, AHEAD, "after commit of the batch"),
    "continued read with its own time": Proof(KILLED_FIRST, f"profiles: {OLD}, in last_name"),
    "position not checked": Proof(KILLED_FIRST, f"profiles: \\d+ {LOST}"),
    "errors of writing swallowed": Proof(
        "no room for the file", "exit code 0, not 5|does not say that the disk is full"
    ),
    "holder not named": Proof("another process has the file open", "does not name the process"),
    "tables made once": Proof("rewound", "exit code 5"),
    "full read empties first": Proof("a full read fails midway", SHRUNK),
    "first copy wins": Proof("two copies in one batch", OLD),
    "last file wins": Proof("a late file with an old copy", f"{OLD}, in campaign_title"),
    "file log by name": Proof("a file written again", f"{OLD}, in campaign_title"),
    "file log by time": Proof("two files in one second", LOST),
    "listed version not checked": Proof(
        "a file that changes while it is fetched", f"{AHEAD}|{LOST}|{OLD}"
    ),
    "offsets trusted": Proof("profiles vanish between pages", LOST),
    "short page is the last": Proof("pages shorter than requested", OLD),
    "failed request is empty": Proof("an html page", "exit code 0, not 3"),
    "no second try": Proof("connections reset", "exit code 75"),
    "one refusal ends the run": Proof("one endpoint refused", OLD),
    "vanished list ends the table": Proof("a list vanishes", "exit code 3"),
    "gzip endings not checked": Proof("a truncated file", LOST),
    "unreadable file ends the run": Proof("unreadable files among others", "exit code 3"),
    "rejects dropped": Proof("an event without a key", "not in the rejects"),
    "watermark from records": Proof("a record from the future", CLOCK),
    "watermark from the end": Proof("the clock jumps ahead during a run", CLOCK),
    "own clock trusted": Proof("this machine a year ahead", CLOCK),
    "no look back": Proof("events that arrive late", LOST),
    "no full round": Proof("a list without a new refresh time", LOST),
    "local time": Proof("times without a zone", f"email_events: {OLD}, in event_at"),
    "lease ignored": Proof("a second run at the same time", "exit code 0, not 75"),
    "dead runs hold on": Proof(KILLED_BETWEEN, "exit code 75", "after commit of the lease"),
    "no fence": Proof("a run that stalls past its lease", "exit code 0, not 75"),
    "delete detection with every batch": Proof("delete detection fails midway", SHRUNK),
    "no limit to deletes": Proof("too many deleted profiles", f"removed|{LOST}"),
    "deleted for ever": Proof("a profile comes back", "still in deleted_upstream"),
    "always removes": Proof("deleted profiles stay and are recorded", LOST),
    "open quote takes the rest": Proof("an open quote", LOST),
    "headers are records": Proof("parts that were joined", f"{LOST}|should not be there"),
    "bytes are escaped": Proof("text without its mark", LOST),
    "zones guessed": Proof("a time with the name of a zone", f"{OLD}, in event_at"),
    "young files read": Proof("a young file that grows", "should not be there"),
    "one day of overlap": Proof(
        "days that begin west of utc", f"{OLD}, in (lifecycle_status|last_name)"
    ),
    "refreshes compared with the watermark": Proof("a refresh that shows late", LOST),
    "state believed": Proof("a dropped table", LOST),
    "changes not asked for": Proof(ALL_TABLES, f"orders: {OLD}"),
    "first collection only": Proof(ALL_TABLES, f"contacts: \\d+ {LOST}"),
    "rows left inside": Proof(ALL_TABLES, "rows are left that are no longer inside"),
    "records of the first copy": Proof(ALL_TABLES, "a record is not that of its row"),
    "records twice": Proof(ALL_TABLES, f"records of .*{DUPLICATED}"),
    "version of each load": Proof(ALL_TABLES, "two alike in a row"),
    "versions overwritten": Proof(ALL_TABLES, "rows are not as they were at"),
    "deleted rows hold on": Proof(ALL_TABLES, "the history of .*: not in both"),
    "delete detection over all sources": Proof(
        "delete detection beside another account", f"of the other account|{LOST}"
    ),
}
"""The proof of each defect, but of those that `test_canary.py` shows: they leak secrets."""
