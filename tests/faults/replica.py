"""
The replica of one simulated account: what should be in the warehouse, and whether it is.

The checkers know nothing of the program: what should be there follows from the simulator's own
state, from what it was asked, and from the specification page.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.e2e.oracle import after, expected, expected_further, expected_records, told
from tests.faults.checks import (
    FIVE,
    FURTHER,
    GROWING,
    LAGGING,
    NESTED,
    VERSIONED,
    Finding,
    Past,
    by_key,
    by_value,
    check_insides,
    check_records,
    check_sent,
    check_unique,
    compare,
    insides,
    only,
)
from tests.faults.contents import Contents
from tests.places import DuckDBPlace, PostgresPlace
from tests.spec import oracle
from tests.spec.page import page_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from ometria_simulator import Account, Feed, Quirks
    from ometria_simulator.server import LoggedRequest
    from tests.duck import Row
    from tests.faults.checks import Insides, Records, Rows
    from tests.places import Place

HISTORIES = ("profiles", "lists")
EVENTS = next(table for table in page_tables() if table.name == "email_events")


class Replica:
    """
    What should have been replicated of *account* and its *feed* into *place*, by its *settings*.

    *requests* gives those that the account was sent. *known* are the rows that the warehouse
    should hold after the last sync that was checked.
    """

    def __init__(
        self,
        account: Account,
        feed: Feed,
        place: Place,
        requests: Callable[[], Sequence[LoggedRequest]],
        *,
        account_id: str,
        source_id: str,
        settings: str,
        quirks: Quirks | None = None,
    ) -> None:
        self.account, self.feed = account, feed
        self.account_id, self.source_id = account_id, source_id
        self.has_all = 'tables = "all"' in settings
        self.tables = (*FIVE, *FURTHER) if self.has_all else FIVE
        self.nested = tuple(NESTED) if self.has_all else ()
        self.contents = Contents(place, source_id, self.tables)
        histories = VERSIONED if self.has_all else HISTORIES
        self.pasts = {name: Past() for name in histories if "history = " in settings}
        self.known: Rows = {name: [] for name in self.tables}
        self.known_records: Records = {}
        self.known_insides: dict[str, Insides] = {}
        self.removes = 'deletes = "remove"' in settings
        self.keeps_records = "keep_records = true" in settings
        self._requests, self._quirks = requests, quirks
        self._asked = 0
        self._marks: list[Row] = []

    def begin_as(self, other: Replica) -> None:
        """Know what *other* knows, of which the warehouse is a copy."""
        self.known, self._marks = other.known, other._marks
        self.known_records, self.known_insides = other.known_records, other.known_insides
        self.pasts = copy.deepcopy(other.pasts)

    def begin_run(self, at: datetime) -> None:
        """Note that a run begins at that time, of which histories may speak."""
        for past in self.pasts.values():
            past.begin_run(at)

    # --- what should be there ---

    def gone(self, table: str) -> set[str]:
        """Give the keys of the rows whose records are gone."""
        sent = {row["__sync_key"] for row in self.sent()[table]}
        return {row["__sync_key"] for row in self.known[table]} - sent

    def sent(self) -> Rows:
        """Give the rows of all that the account shows and the export ever held, now."""
        rows = expected(self.account, self.feed, self.account_id, self.source_id)
        if self.has_all:
            rows |= expected_further(self.account, self.account_id, self.source_id)
        return rows

    def sent_records(self) -> Records:
        """Give the records of these rows, by key."""
        records = expected_records(self.account, self.feed, self.source_id, further=self.has_all)
        if self._quirks and "lists" not in self._quirks.only_on_single_profile:
            for record in records["profiles"].values():
                lists = json.dumps(self.account.lists_of(record["id"]))
                record["lists"] = oracle.read_json(lists)
        return records

    def asked_since(self) -> datetime | None:
        """Tell the day that profiles were asked since, last; forget what was asked before."""
        requests, self._asked = self._requests()[self._asked :], len(self._requests())
        days = [
            request.query.get("updateSince")
            for request in requests
            if request.path == "/v2/profiles"
        ]
        found = days[-1] if days else None
        return datetime.fromisoformat(found).replace(tzinfo=UTC) if found else None

    def due(self, tables: Iterable[str] | None = None, found: Rows | None = None) -> Rows:
        """
        Give the rows that should be there after a sync of *tables* that went through; None is all.

        Of what an ordinary run need not read, the rows that are *found* may be as before.
        """
        asked, sent = self.asked_since(), self.sent()
        rows = self._after(sent, asked)
        if asked and found:
            rows |= {name: self._late(name, rows, sent, found) for name in GROWING if name in rows}
        if self.removes:
            always = {"lists", *({"collections", "data_deletion_requests"} & rows.keys())}
            whole = set() if asked else {"profiles", *(set(GROWING) & rows.keys())}
            rows |= {name: only(rows[name], sent[name]) for name in always | whole}
        chosen = self.tables if tables is None else tables
        return {name: rows[name] if name in chosen else self.known[name] for name in self.tables}

    def _late(self, name: str, rows: Rows, sent: Rows, found: Rows) -> list[Row]:
        """Leave the rows of *name* as they were where only a whole read would show otherwise."""
        there, before, now = by_key(found[name]), by_key(self.known[name]), by_key(sent[name])
        due = []
        for key, row in by_key(rows[name]).items():
            is_old = key in before and there.get(key) == before[key]
            if key in now:
                due.append(before[key] if name in LAGGING and is_old else row)
            elif is_old or not self.removes:
                due.append(row)
        return due

    def _after(self, sent: Rows, asked: datetime | None) -> Rows:
        """Add what was sent to what was known; a full read leaves the days of update alone."""
        if asked is not None:
            return after(self.known, sent, asked)
        stamps = {row["__sync_key"]: row["updated_at"] for row in self.known["profiles"]}
        profiles = [
            {**row, "updated_at": stamps.get(row["__sync_key"])} for row in sent["profiles"]
        ]
        rows = after({**self.known, "profiles": []}, {**sent, "profiles": []}, self.account.now)
        merged = {**by_key(self.known["profiles"]), **by_key(profiles)}
        return {**rows, "profiles": [merged[key] for key in sorted(merged)]}

    # --- checkers ---

    def check(self, tables: Iterable[str] | None = None) -> None:
        """
        All that is there is what it should be after a sync of *tables* that went through.

        None is all tables: the rows, and where they are kept the records, the arrays inside these,
        and the histories.
        """
        with self.contents.looking():
            found = self.contents.found()
            due = self.due(tables, found)
            compare(found, due)
            self._check_marks()
            self._check_more(found, is_exact=True, tables=tables)
        self.known = due

    def check_loosely(self) -> None:
        """
        As :meth:`check`, after several runs, or one during which the account lived on.

        A day of update is one that was asked since; of who is gone, any version may be there.
        """
        with self.contents.looking():
            found = self.contents.found()
            self._check_stamps(found["profiles"])
            due = self._due_loosely(found)
            compare(_unstamped(found), _unstamped(due))
            self._check_marks()
            self._check_more(found, is_exact=False)
        self.known = found

    def _check_stamps(self, profiles: Iterable[Row]) -> None:
        asked = {
            datetime.fromisoformat(request.query["updateSince"]).replace(tzinfo=UTC)
            for request in self._requests()
            if "updateSince" in request.query
        } | {None}
        for row in profiles:
            if row["updated_at"] not in asked:
                raise Finding("profiles: an updated_at that was never asked with")

    def _due_loosely(self, found: Rows) -> Rows:
        sent = self.sent()
        due = self._after(sent, None)
        lists = {row["list_id"] for row in sent["lists"]}
        for name in ("lists", "member_lists"):
            gone = [row for row in found[name] if row["list_id"] not in lists]
            due[name] = [*gone, *(row for row in due[name] if row["list_id"] in lists)]
        for name in ("profiles", *(name for name in FURTHER if name in due)):
            there = by_key(sent[name])
            if lost := by_key(self.known[name]).keys() - by_key(found[name]).keys():
                raise Finding(f"{name}: {len(lost)} rows are lost that were there before")
            late = [row for row in found[name] if name in LAGGING or row["__sync_key"] not in there]
            due[name] = list((by_key(due[name]) | by_key(late)).values())
        return due

    def look_back(self) -> None:
        """Check the histories beside the tables as they are, and that the past is as it was."""
        if self.contents.place.is_there:
            with self.contents.looking():
                for name in self.pasts:
                    self._check_history(name, self.contents.rows(name))

    def _check_history(self, name: str, rows: list[Row], *, looks: bool = True) -> None:
        past, deleted, history = (
            self.pasts[name],
            self.contents.deleted(name),
            self.contents.history(name),
        )
        if wrong := list(past.refute(name, rows, deleted, history)):
            raise Finding(f"the history of {name}: {'; '.join(wrong[:5])}")
        if looks:
            past.look(rows, deleted, history)

    def _check_more(
        self, found: Rows, *, is_exact: bool | None, tables: Iterable[str] | None = None
    ) -> None:
        """
        Check what is kept beside the rows *found*: records, arrays inside them, and histories.

        *is_exact* is None after a crash: then only these must agree. *tables* are those that were
        synced, None all.
        """
        if self.keeps_records:
            self._check_records(found, {*(tables or self.tables)}, is_exact=is_exact)
        for name in self.pasts:
            self._check_history(name, found[name], looks=is_exact is not None)

    def _check_records(self, found: Rows, synced: Container[str], *, is_exact: bool | None) -> None:
        records = {name: self.contents.records(name) for name in self.tables}
        for name, as_they_came in records.items():
            check_records(name, found[name], as_they_came)
        bare = {name: {k: told(r) for k, r in found.items()} for name, found in records.items()}
        numbers = by_value if type(self.contents.place) is PostgresPlace else dict
        bare = numbers(bare)
        if is_exact is not None:
            sent = numbers(self.sent_records())
            before = self.known_records if is_exact else {}
            for name, come in bare.items():
                check_sent(
                    name, come, sent[name] if name in synced else before[name], before.get(name)
                )
        there = {name: insides(name, self.contents.rows(name)) for name in self.nested}
        for name, rows in there.items():
            before_rows = self.known_insides.get(name, {})
            come_too = records[NESTED[name][0]].values()
            check_insides(name, rows, come_too, before_rows, self.source_id)
        self.known_records, self.known_insides = bare, there

    def check_after_crash(self) -> None:
        """
        Look at what a run left that did not go through: nothing lost, nothing ahead of its data.

        The account has not changed since that run began. Each row is as it was before or as
        it should become; where a watermark moved, all of them are; and a file in the ledger
        has all its rows.
        """
        if not self.contents.place.is_there:
            return
        with self.contents.looking():
            self._check_after_crash(self.contents.found())

    def _check_after_crash(self, found: Rows) -> None:
        due = self._after(self.sent(), self.asked_since())
        before_marks = self._marks
        self._check_marks()
        moved = {mark["table_name"] for mark in self._marks if mark not in before_marks}
        versions = self._versions_of_events()
        for name in self.tables:
            check_unique(name, found[name])
            before, then = by_key(self.known[name]), by_key(due[name])
            have = by_key(found[name])
            if lost := before.keys() - have.keys():
                raise Finding(f"{name}: {len(lost)} rows are lost that were there before")
            for key, row in have.items():
                if row not in (before.get(key), then.get(key), *versions.get(key, ())):
                    raise Finding(f"{name}: a row is neither as before nor as it should become")
            late = before if name in LAGGING else {}
            behind = [k for k, row in then.items() if have.get(k) not in (row, late.get(k, row))]
            if name in moved and behind:
                raise Finding(f"{name}: state ahead of data, {len(behind)} rows behind its mark")
        self._check_ledger(found)
        if type(self.contents.place) in {
            DuckDBPlace,
            PostgresPlace,
        }:  # One transaction has all of it.
            self._check_more(found, is_exact=None)
        self.known = found

    def _check_marks(self) -> None:
        """
        No watermark is past the clock of the one who was asked. A listing has our own time, and
        the position of an interrupted read says nothing about what is complete; nor does a row
        that was noted.
        """
        self._marks = [
            mark
            for mark in self.contents.state("watermarks")
            if mark["source_id"] == self.source_id
            and not mark["kind"].startswith(("listed ", "position ", "written "))
        ]
        for mark in self._marks:
            if mark["reached_at"] > self.account.now + timedelta(seconds=60):
                raise Finding(f"{mark['table_name']}: a watermark past the server's clock")

    def _check_ledger(self, found: Rows) -> None:
        keys = {row["__sync_key"] for row in found["email_events"]}
        entries = {
            (entry["name"], entry["modified_at"])
            for entry in self.contents.state("files")
            if entry["unreadable_because"] is None and entry["source_id"] == self.source_id
        }
        for name, modified_at in entries:
            rows = self._keys_of_file(name, modified_at)
            if lacking := rows - keys:
                raise Finding(f"email_events: state ahead of data, {len(lacking)} rows of {name}")

    def _keys_of_file(self, name: str, modified_at: datetime) -> set[str]:
        return {
            oracle.md5(EVENTS.key, each.cells, self.source_id)
            for each in self.feed.delivered
            if each.file == name and each.modified_at == modified_at
            and oracle.identified(EVENTS, each.cells)
        }  # fmt: skip

    def _versions_of_events(self) -> dict[str, list[Row]]:
        """Give every version of every event that the export ever held."""
        versions: dict[str, list[Row]] = {}
        for each in self.feed.delivered:
            row = oracle.row(EVENTS, each.cells, self.account_id, self.source_id)
            if row:
                versions.setdefault(row["__sync_key"], []).append(row)
        return versions

    def note_marks(self) -> None:
        """Take the watermarks as they are, after they were moved by hand."""
        self._check_marks()


def _unstamped(rows: Rows) -> Rows:
    bare = [{**row, "updated_at": None} for row in rows["profiles"]]
    return {**rows, "profiles": bare}
