"""One simulated account with its export, a warehouse, and children that replicate into it."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest

from ometria_replica.config import load_config
from ometria_replica.ometria import account_source
from ometria_replica.replication import sync
from ometria_simulator import Account, Dialect, Feed, Quirks, Server, serve
from tests.faults.checks import FIVE, Finding
from tests.faults.child import Plan, Process
from tests.faults.replica import Replica
from tests.places import DuckDBPlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from ometria_simulator import S3Access
    from tests.faults.checks import Rows
    from tests.places import Place

TABLES = FIVE
HISTORY = 'history = ["profiles", "lists"]'
NOTHING: Rows = {name: [] for name in TABLES}
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


DETECT_DELETES = "--detect-deletes"
"""The option of `sync` that detects deletes."""


def backfill(first: date, last: date) -> tuple[str, ...]:
    """Give the command that reads the days from *first* to *last* again."""
    return "backfill", "--since", first.isoformat(), "--until", last.isoformat()


@dataclass(frozen=True)
class Ended:
    """A child that ended: exit code (negative for a signal) and what it said."""

    code: int
    out: str
    err: str


class World:
    """
    Everything of one story. A context manager.

    *contents* tells what is in the warehouse, and *replica* whether it should be.
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
        self.replica = Replica(
            self.account,
            self.feed,
            self.place,
            lambda: self.server.requests,
            account_id=account_id,
            source_id=source_id,
            settings=settings,
            quirks=quirks,
        )
        self.contents = self.replica.contents
        self.defect = ""
        self.others: list[World] = []
        self.timezone = timezone
        self._settings, self._quirks, self._s3, self._key = settings, quirks, s3, key
        self._open = ExitStack()
        self._children = 0

    server: Server

    def __enter__(self) -> Self:
        self.server = self._open.enter_context(
            serve(
                self.account,
                requests_per_second=None,
                deletion_requests_per_minute=None,
                quirks=self._quirks,
                key=self._key,
            )
        )
        (self.folder / "ometria.toml").write_text(self.settings())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def begin_as(self, other: World) -> None:
        """Begin where *other*, made alike, has ended: with its files, and what it replicated."""
        self.place.remove()
        self.place = self.contents.place = other.place.like_this(self.folder)
        (self.folder / "ometria.toml").write_text(self.settings())
        for file in (other.folder / "feed").iterdir():  # Links: a copy would be another version.
            target = self.folder / "feed" / file.name
            target.unlink()
            target.hardlink_to(file)
        self.replica.begin_as(other.replica)

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
        begins_at = plan.at or self.account.now
        self._begin_run(min(begins_at, begins_at + plan.jump))
        plan = replace(
            plan,
            at=begins_at,
            defect=plan.defect or self.defect,
            timezone=self.timezone,
            env={**env, **plan.env},
        )
        return Process(plan, arguments or ("sync",), self.folder, f"child-{self._children}")

    def run(self, *arguments: str, plan: Plan | None = None, code: int | None = 0) -> Ended:
        """Run the program to its end, which must have the exit code *code*; None means any."""
        return self.end(self.start(*arguments, plan=plan), code)

    def sync_here(self, *, at: datetime | None = None, **options: Any) -> None:
        """Replicate in this process, by a clock that stands still; raises as sync() does."""
        clock = at or self.account.now
        self._begin_run(clock)
        home = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder)}
        config = load_config(self.folder / "ometria.toml", {**self.environ(), **home}, None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(account_source, "_own_limits", lambda _: {})  # No wait of ten seconds.
            patch.setenv("XDG_CACHE_HOME", str(self.folder))
            sync(config, clock=lambda: clock, **options)

    def _begin_run(self, at: datetime) -> None:
        for world in (self, *self.others):
            world.replica.begin_run(at)

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
    def beside(self, source_id: str, settings: str = "") -> Iterator[World]:
        """Replicate another account into the same warehouse, by the same runs."""
        folder = self.folder / source_id
        folder.mkdir()
        other = World(
            folder, seed=8, profiles=80, lists=2, email_events=40, now=self.account.now,
            account_id=f"of {source_id}", source_id=source_id, place=self.place, settings=settings,
        )  # fmt: skip
        with other:
            self.others.append(other)
            (self.folder / "ometria.toml").write_text(self.settings())
            yield other
