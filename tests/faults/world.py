"""
One simulated account, its export, a warehouse, and children that replicate the one into the other.

The checkers know nothing of the replica: what should be there follows from the simulator's
own state, from what it was asked, and from the specification page.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import duckdb

from ometria_simulator import Account, Dialect, Feed, Quirks, Server, serve
from tests.duck import read
from tests.e2e.oracle import after, expected
from tests.faults.child import Plan, Process
from tests.places import DuckDBPlace
from tests.spec import oracle
from tests.spec.page import page_tables
from tests.warehouses.histories import refute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from ometria_simulator import S3Access
    from tests.duck import Row
    from tests.places import Place

Rows = dict[str, "list[Row]"]
TABLES = ("profiles", "lists", "member_lists", "unsubscribes", "email_events")
HISTORIES = ("profiles", "lists")
HISTORY = 'history = ["profiles", "lists"]'
NOTHING: Rows = {name: [] for name in TABLES}
EVENTS = next(table for table in page_tables() if table.name == "email_events")
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


DETECT_DELETES = "--detect-deletes"
"""The option of `sync` that detects deletes."""


def backfill(first: date, last: date) -> tuple[str, ...]:
    """Give the command that reads the days from *first* to *last* again."""
    return "backfill", "--since", first.isoformat(), "--until", last.isoformat()


class Finding(AssertionError):
    """Something that a checker saw, and that must not be."""


@dataclass(frozen=True)
class Ended:
    """A child that ended: exit code (negative for a signal) and what it said."""

    code: int
    out: str
    err: str


class World:
    """
    Everything of one story. A context manager.

    *known* are the rows that the warehouse should hold after the last sync that was checked.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 7,
        profiles: int = 300,
        lists: int = 6,
        email_events: int = 300,
        now: datetime = NOW,
        account: Account | None = None,
        account_id: str = "1042",
        source_id: str = "uk",
        settings: str = "",
        dialect: Dialect | None = None,
        quirks: Quirks | None = None,
        target: str | None = None,
        s3: S3Access | None = None,
        place: Place | None = None,
        key: str = "simulated-key",
        timezone: str = "UTC",
    ) -> None:
        self.folder = folder
        self.account = account or Account.create(
            seed, profiles=profiles, lists=lists, email_events=email_events, now=now
        )
        for days in range(3):  # So that a look-back finds some that are there already.
            profile = self.account.profiles[days]
            self.account.add_unsubscribe(profile.id, at=self.account.now - timedelta(days=days))
        self.account_id, self.source_id = account_id, source_id
        self.place = place or DuckDBPlace(folder / "replica.duckdb")
        self.feed = Feed(
            self.account, target or folder / "feed", dialect or Dialect(compression="gzip"), s3=s3
        )
        self.feed.export_history(files_per_day=1 / 60)
        self.known: Rows = NOTHING
        self.defect = ""
        self.removes = 'deletes = "remove"' in settings
        self.keeps_history = "history = " in settings
        self.others: list[World] = []
        self.timezone = timezone
        self._settings, self._quirks, self._s3, self._key = settings, quirks, s3, key
        self._open = ExitStack()
        self._asked = 0
        self._marks: list[Row] = []
        self._children = 0

    server: Server

    def __enter__(self) -> Self:
        self.server = self._open.enter_context(
            serve(self.account, requests_per_second=None, quirks=self._quirks, key=self._key)
        )
        (self.folder / "ometria.toml").write_text(self.settings())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def begin_as(self, other: World) -> None:
        """Begin where *other*, made alike, has ended: with its files, and what it replicated."""
        self.place.remove()
        self.place = other.place.like_this(self.folder)
        (self.folder / "ometria.toml").write_text(self.settings())
        for file in (other.folder / "feed").iterdir():  # Links: a copy would be another version.
            target = self.folder / "feed" / file.name
            target.unlink()
            target.hardlink_to(file)
        self.known, self._marks = other.known, other._marks

    def settings(self) -> str:
        """Write the settings file. It must not contain the URL, which may have a password."""
        own = f"""\
[warehouse]
url = "env:OMETRIA_WAREHOUSE_URL"
{self.account_settings()}"""
        return own + "".join(other.account_settings() for other in self.others)

    def account_settings(self) -> str:
        """Write this account's part of them."""
        feed = f"""
[accounts.feed]
url = "{self.feed.target}"
"""
        if self._s3:
            feed += f"""\
endpoint_url = "{self._s3.endpoint_url}"
region = "{self._s3.region}"
"""
        return f"""
[[accounts]]
account_id = "{self.account_id}"
source_id = "{self.source_id}"
api_key = "env:OMETRIA_API_KEY"
api_url = "{self.server.url}"
requests_per_second = 1000
{self._settings}
{feed}"""

    def environ(self) -> dict[str, str]:
        """Give the variables to which the settings file refers."""
        return {
            "OMETRIA_API_KEY": self.server.key,
            "OMETRIA_WAREHOUSE_URL": self.place.url,
        }

    # --- children ---

    def start(self, *arguments: str, plan: Plan | None = None) -> Process:
        """Start the program; its clock begins at the account's own time, unless *plan* says."""
        self._children += 1
        plan = plan or Plan()
        env = self.environ()
        if self._s3:
            env |= {
                "AWS_ACCESS_KEY_ID": self._s3.access_key or "",
                "AWS_SECRET_ACCESS_KEY": self._s3.secret_key or "",
            }
        plan = replace(
            plan,
            at=plan.at or self.account.now,
            defect=plan.defect or self.defect,
            timezone=self.timezone,
            env={**env, **plan.env},
        )
        return Process(plan, arguments or ("sync",), self.folder, f"child-{self._children}")

    def run(self, *arguments: str, plan: Plan | None = None, code: int | None = 0) -> Ended:
        """Run the program to its end, which must have the exit code *code*; None means any."""
        return self.end(self.start(*arguments, plan=plan), code)

    @staticmethod
    def end(process: Process, code: int | None = 0) -> Ended:
        """Wait for a child's end, which must have the exit code *code*."""
        ended = Ended(*process.wait())
        if code is not None and ended.code != code:
            raise Finding(f"exit code {ended.code}, not {code}: {ended.err[-600:]}")
        return ended

    def wait_for_stall(self, process: Process) -> None:
        """Wait until a child stands still at its step."""
        while not (self.folder / "stalled").exists():
            if process.is_over:
                ended = process.wait()
                raise Finding(f"exit code {ended[0]} before its step: {ended[2][-600:]}")
            time.sleep(0.01)

    @contextmanager
    def beside(self, source_id: str) -> Iterator[World]:
        """Replicate another account into the same warehouse, by the same runs."""
        folder = self.folder / source_id
        folder.mkdir()
        other = World(
            folder, seed=8, profiles=80, lists=2, email_events=40, now=self.account.now,
            account_id=f"of {source_id}", source_id=source_id, place=self.place,
        )  # fmt: skip
        with other:
            self.others.append(other)
            (self.folder / "ometria.toml").write_text(self.settings())
            yield other

    def gone(self, table: str) -> set[str]:
        """Give the keys of the rows whose records are gone."""
        sent = {row["__sync_key"] for row in self.sent()[table]}
        return {row["__sync_key"] for row in self.known[table]} - sent

    # --- what should be there ---

    def sent(self) -> Rows:
        """Give the rows of all that the account shows and the export ever held, now."""
        return expected(self.account, self.feed, self.account_id, self.source_id)

    def asked_since(self) -> datetime | None:
        """Tell the day that profiles were asked since, last; forget what was asked before."""
        requests, self._asked = self.server.requests[self._asked :], len(self.server.requests)
        days = [
            request.query.get("updateSince")
            for request in requests
            if request.path == "/v2/profiles"
        ]
        found = days[-1] if days else None
        return datetime.fromisoformat(found).replace(tzinfo=UTC) if found else None

    def due(self, tables: Iterable[str] = TABLES) -> Rows:
        """Give the rows that should be there after a sync of *tables* that went through."""
        asked, sent = self.asked_since(), self.sent()
        rows = self._after(sent, asked)
        if self.removes:
            swept = {"lists"} if asked else {"profiles", "lists"}
            rows |= {name: _only(rows[name], sent[name]) for name in swept}
        return {name: rows[name] if name in tables else self.known[name] for name in TABLES}

    def _after(self, sent: Rows, asked: datetime | None) -> Rows:
        """Add what was sent to what was known; a full read leaves the days of update alone."""
        if asked is not None:
            return after(self.known, sent, asked)
        stamps = {row["__sync_key"]: row["updated_at"] for row in self.known["profiles"]}
        profiles = [
            {**row, "updated_at": stamps.get(row["__sync_key"])} for row in sent["profiles"]
        ]
        rows = after({**self.known, "profiles": []}, {**sent, "profiles": []}, self.account.now)
        merged = {**_by_key(self.known["profiles"]), **_by_key(profiles)}
        return {**rows, "profiles": [merged[key] for key in sorted(merged)]}

    # --- checkers ---

    def check(self, tables: Iterable[str] = TABLES) -> None:
        """All five tables are what they should be after a sync of *tables* that went through."""
        due = self.due(tables)
        compare(self.found(), due)
        self._check_marks()
        self._check_history()
        self.known = due

    def check_loosely(self) -> None:
        """
        As :meth:`check`, after several runs, or one during which the account lived on.

        A day of update is one that was asked since; of who is gone, any version may be there.
        """
        found = self.found()
        asked = {
            datetime.fromisoformat(request.query["updateSince"]).replace(tzinfo=UTC)
            for request in self.server.requests
            if "updateSince" in request.query
        } | {None}
        for row in found["profiles"]:
            if row["updated_at"] not in asked:
                raise Finding("profiles: an updated_at that was never asked with")
        sent = self.sent()
        due = self._after(sent, None)
        there = _by_key(sent["profiles"])
        found_gone = [row for row in found["profiles"] if row["__sync_key"] not in there]
        due["profiles"] = [
            *found_gone, *(row for row in due["profiles"] if row["__sync_key"] in there),
        ]  # fmt: skip
        lists = {row["list_id"] for row in sent["lists"]}
        for name in ("lists", "member_lists"):
            gone = [row for row in found[name] if row["list_id"] not in lists]
            due[name] = [*gone, *(row for row in due[name] if row["list_id"] in lists)]
        if lost := _by_key(self.known["profiles"]).keys() - _by_key(found["profiles"]).keys():
            raise Finding(f"profiles: {len(lost)} rows are lost that were there before")
        compare(_unstamped(found), _unstamped(due))
        self._check_marks()
        self._check_history()
        self.known = found

    def check_after_crash(self) -> None:
        """
        Look at what a run left that did not go through: nothing lost, nothing ahead of its data.

        The account has not changed since that run began. Each row is as it was before or as
        it should become; where a watermark moved, all of them are; and a file in the ledger
        has all its rows.
        """
        if not self.place.is_there:
            return
        asked = self.asked_since()
        due, found = self._after(self.sent(), asked), self.found()
        before_marks = self._marks
        self._check_marks()
        moved = {mark["table_name"] for mark in self._marks if mark not in before_marks}
        versions = self._versions_of_events()
        for name in TABLES:
            _check_unique(name, found[name])
            before, then = _by_key(self.known[name]), _by_key(due[name])
            have = _by_key(found[name])
            if lost := before.keys() - have.keys():
                raise Finding(f"{name}: {len(lost)} rows are lost that were there before")
            for key, row in have.items():
                if row not in (before.get(key), then.get(key), *versions.get(key, ())):
                    raise Finding(f"{name}: a row is neither as before nor as it should become")
            behind = [key for key, row in then.items() if have.get(key) != row]
            if name in moved and behind:
                raise Finding(f"{name}: state ahead of data, {len(behind)} rows behind its mark")
        self._check_ledger(found)
        self.known = found

    def _check_history(self) -> None:
        """Look whether the versions that hold are the rows, without a gap before them."""
        for name in HISTORIES if self.keeps_history else ():
            if wrong := refute(self.history(name), *self.rows_and_deleted(name)):
                raise Finding(f"the history of {name}: {'; '.join(wrong[:5])}")

    def history(self, name: str) -> list[Row]:
        """Read the versions of a table of this source."""
        with self.place.looking() as connection:
            rows = read(connection, f"ometria_history.{name}", "ALL")
        return [row for row in rows if row["__source_id"] == self.source_id]

    def rows_and_deleted(self, name: str) -> tuple[list[Row], list[str]]:
        """Read the rows of a table of this source, and the keys of those that were deleted."""
        deleted = [
            row["sync_key"]
            for row in self.state("deleted_upstream")
            if (row["source_id"], row["table_name"]) == (self.source_id, name)
        ]
        with self.place.looking() as connection:
            return self._rows(connection, name), deleted

    def _check_marks(self) -> None:
        """
        No watermark is past the clock of the one who was asked. A listing has our own time, and
        the position of an interrupted read says nothing about what is complete; nor does a row
        that was noted.
        """
        self._marks = [
            mark
            for mark in self.state("watermarks")
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
            for entry in self.state("files")
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

    # --- what is there ---

    def found(self) -> Rows:
        """Read the five tables of this source, without the load time."""
        with self.place.looking() as connection:
            return {name: self._rows(connection, name) for name in TABLES}

    def _rows(self, connection: duckdb.DuckDBPyConnection, name: str) -> list[Row]:
        try:
            rows = read(connection, f"ometria.{name}", "__sync_key")
        except duckdb.CatalogException:
            return []
        return [
            {column: row[column] for column in row if column != "__synced_at"}
            for row in rows
            if row["__source_id"] == self.source_id
        ]

    def state(self, name: str) -> list[Row]:
        """Read a table of the state."""
        with self.place.looking() as connection:
            try:
                return read(connection, f"ometria_replica.{name}")
            except duckdb.CatalogException:
                return []


def compare(found: Rows, due: Mapping[str, list[Row]]) -> None:
    """Hold what is there against what should be; a Finding says what is wrong, in numbers."""
    for name in TABLES:
        _check_unique(name, found[name])
        have, want = _by_key(found[name]), _by_key(due[name])
        if lost := want.keys() - have.keys():
            raise Finding(f"{name}: {len(lost)} rows are lost")
        if extra := have.keys() - want.keys():
            raise Finding(f"{name}: {len(extra)} rows should not be there")
        differing = {
            column
            for key, row in want.items()
            for column in row
            if row[column] != have[key][column]
        }
        if differing:
            raise Finding(
                f"{name}: rows are not as they should be, in {', '.join(sorted(differing))}"
            )


def _check_unique(name: str, rows: list[Row]) -> None:
    duplicated = len(rows) - len({row["__sync_key"] for row in rows})
    if duplicated:
        raise Finding(f"{name}: {duplicated} rows are duplicated")


def _by_key(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["__sync_key"]: row for row in rows}


def _only(rows: list[Row], sent: list[Row]) -> list[Row]:
    keys = {row["__sync_key"] for row in sent}
    return [row for row in rows if row["__sync_key"] in keys]


def _unstamped(rows: Rows) -> Rows:
    bare = [{**row, "updated_at": None} for row in rows["profiles"]]
    return {**rows, "profiles": bare}
