from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from ometria_replica.errors import TRY_AGAIN_LATER
from tests.faults.child import Plan
from tests.faults.ladders import KINDS
from tests.faults.scenarios import mail
from tests.faults.world import World

EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", "8"))
"""The number of lives, of a dozen steps each. Set it to hundreds for a long night."""

STEPS = (
    "before request", "after request", "before page", "after page", "before fetch", "after file",
    "after mapping", "after comparison", "after renewal", "before delete", "after delete",
    "after insert", "after file log", "after watermarks", "before commit of the batch",
    "after commit of the batch", "after detach", "before release of the lease", "before history",
)  # fmt: skip

some = st.integers(0, 10_000)


class Life(RuleBasedStateMachine):
    """
    Two accounts in one warehouse live on, are replicated, and runs die at any step.

    After each run that went through, both accounts' tables are what they should be; after
    each that did not, nothing is lost and no state is ahead of its data.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self._open.callback(shutil.rmtree, folder)
        self.world = self._open.enter_context(
            World(folder, profiles=130, lists=3, email_events=60, settings="max_deleted_share = 1")
        )
        self.other = self._open.enter_context(self.world.beside("us"))
        self.both = (self.world, self.other)
        self.synced = False

    def teardown(self) -> None:
        """End what was started."""
        self._open.close()

    # --- the accounts live on ---

    @rule(hours=st.sampled_from((1, 7, 24, 100)))
    def time_passes(self, hours: int) -> None:
        """Let both accounts live, by the same span."""
        for world in self.both:
            world.account.advance(timedelta(hours=hours))

    @rule(which=some, count=st.integers(1, 40))
    def profiles_change(self, which: int, count: int) -> None:
        """Change some profiles in a row."""
        for profile in self._profiles(which, count):
            self.world.account.update_profile(profile, lastname=f"Changed {which}")

    @rule(which=some)
    def a_profile_is_deleted(self, which: int) -> None:
        """Delete one."""
        self.world.account.delete_profile(*self._profiles(which, 1))

    @rule(which=some)
    def profiles_are_merged(self, which: int) -> None:
        """Merge one profile into its neighbour."""
        survivor, loser = self._profiles(which, 2)
        self.world.account.merge_profiles(survivor, [loser])

    @rule(which=some)
    def a_list_is_refreshed(self, which: int) -> None:
        """Let some enter a list."""
        lists = self.world.account.lists
        if lists:
            chosen = lists[which % len(lists)].id
            self.world.account.refresh_list(chosen, enter=self._profiles(which, 5))

    @rule(which=some, days=st.integers(0, 5))
    def somebody_opts_out(self, which: int, days: int) -> None:
        """Add an opt-out, which may have happened days ago."""
        account = self.world.account
        account.add_unsubscribe(*self._profiles(which, 1), at=account.now - timedelta(days=days))

    @rule(which=some, days=st.integers(0, 5), count=st.integers(1, 30))
    def mails_are_exported(self, which: int, days: int, count: int) -> None:
        """Write a file of the feed, with events that may be old."""
        account = self.world.account
        at = account.now - timedelta(days=days)
        for number in range(count):
            moment = at + timedelta(seconds=number)
            account.add_event(f"{which}@example.com", "click", occurred_at=moment)
        self.world.feed.export()
        mail(self.other, f"{which}@example.com")
        self.other.feed.export()

    @rule(which=some)
    def a_file_is_written_again(self, which: int) -> None:
        """Write a file of the feed again, with other contents."""
        names = sorted({each.file for each in self.world.feed.delivered})
        self.world.feed.rewrite(names[which % len(names)])

    # --- and are replicated ---

    @rule(option=st.sampled_from(((), (), ("--full",), ("--detect-deletes",))))
    def sync(self, option: tuple[str, ...]) -> None:
        """Replicate everything."""
        self.world.run("sync", *option)
        self._check()

    @rule(table=st.sampled_from(tuple(KINDS)))
    def sync_one_table(self, table: str) -> None:
        """Replicate one table."""
        self.world.run("sync", table)
        for world in self.both:
            world.replica.check([table])

    @rule(days=st.integers(0, 10), until=st.integers(0, 10))
    def backfill(self, days: int, until: int) -> None:
        """Read some days again: what is there is as before, or as it should become."""
        first = self.world.account.now.date() - timedelta(days=days + until)
        last = first + timedelta(days=days)
        self.world.run("backfill", "--since", first.isoformat(), "--until", last.isoformat())
        self._check_partly()

    @precondition(lambda self: self.synced)
    @rule(table=st.sampled_from(tuple(KINDS)))
    def rewind(self, table: str) -> None:
        """Let a table be forgotten."""
        self.world.run("state", "rewind", table)
        for world in self.both:
            world.replica.note_marks()

    @precondition(lambda self: self.synced)
    @rule()
    def replay(self) -> None:
        """Try the rejects again."""
        self.world.run("rejects", "replay")
        for world in self.both:
            world.replica.check(["email_events"])

    @rule(
        step=st.sampled_from(STEPS), table=st.sampled_from(("", *KINDS)), nth=st.integers(1, 3),
        option=st.sampled_from(((), (), ("--full",))),
    )  # fmt: skip
    def die(self, step: str, table: str, nth: int, option: tuple[str, ...]) -> None:
        """Replicate, and be killed on the way, if that step is ever reached."""
        plan = Plan(step, table if "giv" not in step and "hist" not in step else "", nth)
        if self.world.run("sync", *option, plan=plan, code=None).code == 0:
            self._check()
        else:
            self._check_partly()

    @rule()
    def two_at_once(self) -> None:
        """Start a second run while the first waits for an answer; it gives way."""
        first = self.world.start(plan=Plan("before request", do="stall"))
        self.world.wait_for_stall(first)
        self.world.run(code=TRY_AGAIN_LATER)
        self.other.replica.check()  # No other run held its lease, so the second run synced it.
        (self.world.folder / "go on").touch()
        self.world.end(first)
        for leftover in ("go on", "stalled"):
            (self.world.folder / leftover).unlink()
        self._check()

    def _check(self) -> None:
        for world in self.both:
            world.replica.check()
        self.synced = True

    def _check_partly(self) -> None:
        for world in self.both:
            world.replica.check_after_crash()

    def _profiles(self, which: int, count: int) -> list[str]:
        everyone = [profile.id for profile in self.world.account.profiles]
        start = which % (len(everyone) - count)
        return everyone[start : start + count]


@pytest.mark.slow
def test_whatever_happens_the_replica_is_the_account() -> None:
    """Accounts change, runs are mixed and killed: nothing is lost, duplicated or ahead."""
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            derandomize="FAULTS_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
