# ruff: noqa: D401, D404, E501 -- The page of the suite quotes a scenario's docstring.
"""What goes wrong beside kills: networks, files, clocks, other runs, disks, deletes."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import tests.faults.ladders  # noqa: F401 -- its scenarios come first, whatever imports this.
from ometria_replica.errors import TRY_AGAIN_LATER
from ometria_simulator import Dialect, Fault, Quirks
from tests.faults.checks import Finding, compare
from tests.faults.child import Plan
from tests.faults.scenarios import mail, scenario
from tests.faults.world import DETECT_DELETES, World, backfill

if TYPE_CHECKING:
    from collections.abc import Callable

    from ometria_simulator.server import LoggedRequest

SMALL_PAGES = Quirks(ignore_limit=frozenset({"profiles"}))
"""Pages of ten, so that a table has many."""
YEAR = timedelta(days=365)

# --- Runs that end early -------------------------------------------------------------------------

ENDS = "Runs that end early"


@scenario(ENDS)
def killed_again_and_again(world: World) -> None:
    """Five runs in a row are killed, each a little later, and the account changes after each."""
    for step in (
        "before page",
        "after insert",
        "before commit of the batch",
        "after commit of the batch",
        "before history",
    ):
        world.run(plan=Plan(step), code=-9)
        world.replica.check_after_crash()
        world.account.advance(timedelta(hours=3))
        world.feed.export()
    world.run()
    world.replica.check()


@scenario(ENDS, fresh=True, quirks=SMALL_PAGES, profiles=120)
def a_first_read_killed_between_batches(world: World) -> None:
    """
    The first read of profiles is killed twice, days apart: each run continues the last, although
    profiles that were read have changed and were deleted, and the changes are read afterwards.
    """
    plan = Plan("after commit of the batch", "profiles", batch_records=60)
    for number in range(2):
        world.run("sync", "profiles", plan=plan, code=-9)
        everyone = [profile.id for profile in world.account.profiles]
        for profile_id in everyone[:20]:
            world.account.delete_profile(profile_id)
        world.account.update_profile(everyone[20], lastname=f"Changed {number}")
        world.account.advance(timedelta(days=3))
    if "was continued" not in world.run("sync", "profiles").out:
        raise Finding("profiles: the read started over")
    world.run()
    world.replica.check_loosely()


@scenario(ENDS)
def out_of_memory(world: World) -> None:
    """A MemoryError ends the run in the middle of a transaction."""
    world.run(plan=Plan("after insert", "lists", do="raise"), code=1)
    world.replica.check_after_crash()
    world.run()
    world.replica.check()


# --- The network -----------------------------------------------------------------------------

NETWORK = "The network and the API"


def _with_faults(world: World, fault: Fault, paths: tuple[str, ...], times: int = 1) -> None:
    for path in paths:
        world.server.faults.next(path, fault, times)
    world.run(plan=Plan(timeout_seconds=0.3))
    world.replica.check()


PATHS = ("/v2/profiles", "/v2/lists", "/v2/unsubscribes")


@scenario(NETWORK)
def connections_reset(world: World) -> None:
    """Each endpoint resets two connections instead of answering."""
    _with_faults(world, Fault.reset(), PATHS, 2)


@scenario(NETWORK)
def bodies_cut(world: World) -> None:
    """Answers end before their announced length."""
    _with_faults(world, Fault.truncate(), PATHS)


@scenario(NETWORK)
def errors_of_the_server(world: World) -> None:
    """Each endpoint answers 500 twice."""
    _with_faults(world, Fault(status=500), PATHS, 2)


@scenario(NETWORK)
def bodies_with_incomplete_json(world: World) -> None:
    """An answer of the announced length holds incomplete JSON, as behind a faulty proxy."""
    _with_faults(world, Fault.bad_json(), PATHS)


@scenario(NETWORK)
def answers_that_hang(world: World) -> None:
    """Each endpoint exceeds the timeout once, and answers the retry."""
    _with_faults(world, Fault.hang(0.7), PATHS)


@scenario(NETWORK)
def a_storm_of_429(world: World) -> None:
    """Ten requests in a row are answered with 429, without a Retry-After header."""
    world.server.faults.storm(10)
    world.run(plan=Plan(give_up_seconds=30))
    world.replica.check()


@scenario(NETWORK)
def a_storm_of_429_with_a_hint(world: World) -> None:
    """A request is answered with 429 and a Retry-After header."""
    world.server.faults.storm(1, retry_after="1")
    world.run(plan=Plan(give_up_seconds=30))
    world.replica.check()


@scenario(NETWORK)
def an_html_page(world: World) -> None:
    """A gateway answers 200 with an HTML page: the run fails, and the error says that HTML came."""
    world.server.faults.next("/v2/profiles", Fault.html_200())
    ended = world.run(code=3)
    if "HTML" not in ended.err:
        raise Finding("the error does not say that HTML came")
    world.replica.check_after_crash()
    world.run()
    world.replica.check()


@scenario(NETWORK)
def the_api_is_down(world: World) -> None:
    """The API fails for longer than requests are retried: the run exits 75, and the next one catches up."""
    world.server.faults.sometimes("/v2", Fault(status=503), 1.0)
    world.run(code=TRY_AGAIN_LATER)
    world.replica.check_after_crash()
    world.server.faults.clear()
    world.run()
    world.replica.check()


@scenario(NETWORK, quirks=SMALL_PAGES, profiles=150)
def the_api_goes_down_during_a_table(world: World) -> None:
    """The API fails after some batches of profiles are committed, and before the others."""
    for profile in world.account.profiles:
        world.account.update_profile(profile.id, firstname="Again")
    _fail_after_pages(world, "sync")


@scenario(NETWORK)
def one_endpoint_refused(world: World) -> None:
    """The key may not read profiles (403): the run fails, and all other tables are loaded."""
    world.server.no_rights = frozenset({"profiles"})
    world.run(code=3)
    world.replica.check([name for name in world.replica.known if name != "profiles"])
    world.server.no_rights = frozenset()
    world.run()
    world.replica.check()


@scenario(NETWORK)
def a_list_vanishes(world: World) -> None:
    """A list is deleted after the lists are read and before its changes are requested."""
    last = world.account.lists[-1].id
    gone = {
        row["__sync_key"] for row in world.replica.sent()["member_lists"] if row["list_id"] == last
    } - {row["__sync_key"] for row in world.replica.known["member_lists"]}

    def delete(request: LoggedRequest) -> None:
        if request.path == "/v2/lists" and last in {each.id for each in world.account.lists}:
            world.account.delete_list(last)

    listed = [row for row in world.replica.sent()["lists"] if row["list_id"] == last]
    world.server.after_request = delete
    world.run()
    world.server.after_request = None
    due = world.replica.due()
    due["lists"] = sorted(
        [row for row in due["lists"] if row["list_id"] != last] + listed,
        key=lambda row: str(row["__sync_key"]),
    )
    assert not gone & {row["__sync_key"] for row in due["member_lists"]}
    compare(world.contents.found(), due)


@scenario(NETWORK, profiles=600)
def profiles_vanish_between_pages(world: World) -> None:
    """After each of two pages of a full read, thirty profiles that were read already are deleted."""
    _drift(world, lambda: _delete_first(world, 30))


@scenario(NETWORK, profiles=600)
def profiles_merge_between_pages(world: World) -> None:
    """After each of two pages of a full read, twenty profiles that were read already are merged into another."""

    def merge() -> None:
        everyone = [profile.id for profile in world.account.profiles]
        world.account.merge_profiles(everyone[-1], everyone[:20])

    _drift(world, merge)


def _delete_first(world: World, count: int) -> None:
    for profile in world.account.profiles[:count]:
        world.account.delete_profile(profile.id)


def _drift(world: World, change: Callable[[], None]) -> None:
    for profile in world.account.profiles:  # All is news, so whatever is skipped is seen.
        world.account.update_profile(profile.id, firstname="Again")

    asked: list[str] = []

    def disturb(request: LoggedRequest) -> None:
        asked.append(request.path)
        if asked.count("/v2/profiles") <= 2 and request.path == "/v2/profiles":
            change()

    world.server.after_request = disturb
    world.run("sync", "profiles", "--full")
    world.server.after_request = None
    found = {row["__sync_key"]: row for row in world.contents.found()["profiles"]}
    for row in world.replica.sent()["profiles"]:
        if row["__sync_key"] not in found or found[row["__sync_key"]]["first_name"] != "Again":
            raise Finding("profiles: rows are lost that were there throughout")
    world.run()
    world.replica.check_loosely()


@scenario(NETWORK, quirks=SMALL_PAGES, profiles=150)
def pages_shorter_than_requested(world: World) -> None:
    """The API sends pages of ten records, whatever limit is requested."""
    world.run()
    world.replica.check()


@scenario(NETWORK)
def a_list_without_a_new_refresh_time(world: World) -> None:
    """A dynamic list changes without a new refresh time: its changes are loaded within a week."""
    account = world.account
    listed = account.add_list(type="DYNAMIC", refreshed_at=account.now - timedelta(days=90))
    world.run()
    world.replica.check()
    account.advance(timedelta(days=5))
    someone = account.profiles[0].id
    account.add_change(listed.id, someone, "list_enter", at=account.now - timedelta(days=1))
    account.advance(timedelta(days=5))
    world.feed.export()
    world.run()
    world.replica.check()


# --- The feed --------------------------------------------------------------------------------

FEED = "The files of the feed"


@scenario(FEED)
def a_truncated_file(world: World) -> None:
    """A gzip file is truncated: it is rejected as a whole, and loaded once it is complete."""
    mail(world, "cut@example.com", 300)
    name = world.feed.export_truncated_gzip()
    world.run()
    _expect_unreadable(world, {name})
    world.replica.check()
    world.feed.complete(name)
    world.run()
    world.replica.check()


@scenario(FEED)
def a_file_still_being_written(world: World) -> None:
    """Half of a file has been written; the next run finds all of it."""
    mail(world, "half@example.com", 300)
    name = world.feed.export_partial()
    world.run()
    world.replica.check()
    world.feed.complete(name)
    world.run()
    world.replica.check()


@scenario(FEED)
def a_file_written_again(world: World) -> None:
    """A loaded file is written again with other contents."""
    name = world.feed.delivered[-1].file
    world.run()
    world.replica.check()
    world.account.advance(timedelta(minutes=5))
    world.feed.rewrite(name)
    world.run()
    world.replica.check()


@scenario(FEED)
def a_late_file(world: World) -> None:
    """A new file is older than files that are loaded already."""
    world.run()
    world.replica.check()
    mail(world, "late@example.com", 5)
    (name,) = world.feed.export()
    _date_back(world, name, timedelta(days=3))
    world.run()
    world.replica.check()


@scenario(FEED)
def a_late_file_with_an_old_copy(world: World) -> None:
    """A late file holds an older copy of an event that is loaded already."""
    event = world.account.add_event("twice@example.com", "open", campaign_title="new")
    world.feed.export_events([event])
    world.run()
    world.replica.check()
    (name,) = world.feed.export_events([replace(event, campaign_title="old")])
    _date_back(world, name, timedelta(days=3))
    world.run()
    world.replica.check()


@scenario(FEED)
def two_files_in_one_second(world: World) -> None:
    """A new file has exactly the time of a loaded one."""
    mail(world, "first@example.com")
    world.feed.export()
    world.run()
    world.replica.check()
    mail(world, "second@example.com")
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(FEED)
def two_copies_in_one_batch(world: World) -> None:
    """Two files of one batch hold an older and a newer copy of an event."""
    event = world.account.add_event("both@example.com", "open", campaign_title="old")
    world.run()
    world.replica.check()
    world.feed.export_events([event])
    world.account.advance(timedelta(minutes=1))
    world.feed.export_events([replace(event, campaign_title="new")])
    world.run(plan=Plan(batch_files=50))
    world.replica.check()


@scenario(FEED)
def unreadable_files_among_others(world: World) -> None:
    """An HTML page and random bytes are among the files: the other files are loaded."""
    mail(world, "a@example.com", 20)
    html = world.feed.export_html()
    mail(world, "b@example.com", 20)
    junk = world.feed.export_junk()
    mail(world, "c@example.com", 20)
    world.feed.export()
    world.run()
    _expect_unreadable(world, {html, junk})
    world.replica.check()
    world.account.advance(timedelta(minutes=1))
    world.feed.complete(html)
    world.feed.complete(junk)
    world.run()
    world.replica.check()


@scenario(FEED)
def a_file_deleted_while_it_is_fetched(world: World) -> None:
    """A file is deleted between listing and download."""
    mail(world, "brief@example.com", 3)
    (name,) = world.feed.export()
    world.run()
    world.replica.check()
    mail(world, "gone@example.com", 3)
    (name,) = world.feed.export()
    process = world.start(plan=Plan("before fetch", do="stall"))
    world.wait_for_stall(process)
    world.feed.delete(name)
    (world.folder / "go on").touch()
    world.end(process)
    world.feed.delivered = [each for each in world.feed.delivered if each.file != name]
    world.replica.check()


@scenario(FEED)
def a_file_that_changes_while_it_is_fetched(world: World) -> None:
    """A file is overwritten with a part of itself between listing and download, and completed later."""
    world.run()
    world.replica.check()
    mail(world, "moving@example.com", 40)
    (name,) = world.feed.export()
    whole = world.feed.read(name)
    process = world.start(plan=Plan("before fetch", do="stall"))
    world.wait_for_stall(process)
    world.feed.poison(name, gzip.compress(gzip.decompress(whole)[:300]))
    (world.folder / "go on").touch()
    world.end(process)
    world.replica.check_after_crash()
    world.account.advance(timedelta(minutes=1))
    world.feed.complete(name)
    world.run()
    world.replica.check()


def _expect_unreadable(world: World, names: set[str]) -> None:
    found = {
        e["name"] for e in world.contents.state("files") if e["unreadable_because"] is not None
    }
    if found != names:
        raise Finding(f"rows are lost without a trace: {len(names - found)} unreadable files")


def _date_back(world: World, name: str, span: timedelta) -> None:
    """Give a file, and what the oracle knows of it, an older time."""
    path = world.folder / "feed" / name
    moment = path.stat().st_mtime - span.total_seconds()
    os.utime(path, (moment, moment))
    world.feed.delivered = [
        replace(each, modified_at=each.modified_at - span) if each.file == name else each
        for each in world.feed.delivered
    ]


# --- Records ---------------------------------------------------------------------------------

RECORDS = "Odd records"


@scenario(RECORDS)
def a_value_that_does_not_convert(world: World) -> None:
    """A date of birth is not a date: the row is loaded, and the value is rejected."""
    profile = world.account.profiles[3]
    world.account.update_profile(profile.id, date_of_birth="31st of June")
    world.run()
    world.replica.check()
    if "31st of June" not in {reject["raw"] for reject in world.contents.state("rejects")}:
        raise Finding("a value is not in the rejects")
    ended = world.run("sync", "--full", "--strict", code=4)
    if "31st" in ended.err + ended.out:
        raise Finding("the value is in the message")


@scenario(RECORDS)
def an_event_without_a_key(world: World) -> None:
    """An event has neither an address nor a time: it is rejected as a whole."""
    event = world.account.add_event(None, "open", uuid="nobody")
    (name,) = world.feed.export_events([event])
    world.feed.rewrite(name, lambda cells: {**cells, "dt_occurred": None, "to_address": None})
    world.feed.delivered = [e for e in world.feed.delivered if e.file != name or e.version > 1]
    world.run()
    world.replica.check()
    if not any("nobody" in reject["raw"] for reject in world.contents.state("rejects")):
        raise Finding("a record is not in the rejects")


# --- Clocks ----------------------------------------------------------------------------------

CLOCKS = "Clocks"


@scenario(CLOCKS)
def this_machine_a_year_ahead(world: World) -> None:
    """This machine's clock is a year ahead during one run, and correct in the next."""
    world.run(plan=Plan(at=world.account.now + YEAR))
    world.replica.check()
    world.account.advance(timedelta(days=1))
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(CLOCKS)
def this_machine_a_year_behind(world: World) -> None:
    """This machine's clock is a year behind: late events are loaded nevertheless."""
    world.run(plan=Plan(at=world.account.now - YEAR))
    world.replica.check()
    world.account.advance(timedelta(days=1))
    world.feed.export()
    world.run()
    world.replica.check()
    _happen_late(world)
    world.run()
    world.replica.check()


@scenario(CLOCKS)
def the_clock_jumps_ahead_during_a_run(world: World) -> None:
    """This machine's clock jumps a year ahead while profiles are read."""
    world.run(plan=Plan("after page", "profiles", do="jump", jump=YEAR))
    world.replica.check()
    world.account.advance(timedelta(days=2))
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(CLOCKS)
def the_clock_jumps_back_during_a_run(world: World) -> None:
    """This machine's clock is a year ahead, and jumps back while lists are read."""
    plan = Plan("after page", "lists", do="jump", jump=-YEAR, at=world.account.now + YEAR)
    world.run(plan=plan)
    world.replica.check()
    world.account.advance(timedelta(days=2))
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(CLOCKS)
def a_record_from_the_future(world: World) -> None:
    """A list change is dated a year ahead: later changes are loaded nevertheless."""
    everyone = [profile.id for profile in world.account.profiles]
    world.account.add_unsubscribe(everyone[7], at=world.account.now + timedelta(hours=20))
    world.account.add_change(
        world.account.lists[0].id, everyone[7], "list_enter", at=world.account.now + YEAR
    )
    world.run()
    world.replica.check()
    world.account.advance(timedelta(hours=2))
    world.account.add_unsubscribe(everyone[8])
    world.run()
    world.replica.check()


@scenario(CLOCKS)
def events_that_arrive_late(world: World) -> None:
    """Unsubscribes and list changes appear with times days before the last run."""
    world.run()
    world.replica.check()
    _happen_late(world)
    world.run()
    world.replica.check()


def _happen_late(world: World) -> None:
    account = world.account
    account.advance(timedelta(hours=6))
    someone = account.profiles[11].id
    account.add_unsubscribe(someone, at=account.now - timedelta(days=5))
    dynamic = account.add_list(type="STATIC").id
    account.add_change(dynamic, someone, "list_enter", at=account.now - timedelta(days=4))


@scenario(CLOCKS, quirks=Quirks(update_since_inclusive=False, update_since_utc_offset_hours=-11))
def days_in_another_time_zone(world: World) -> None:
    """The API reads updateSince in a time zone eleven hours behind, exclusively: updates are loaded nevertheless."""
    world.run()
    world.replica.check()
    world.account.advance(timedelta(hours=3))
    for profile in world.account.profiles[:40]:
        world.account.update_profile(profile.id, lastname="Later")
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(CLOCKS, fresh=True,
    dialect=Dialect(timestamp_form="naive"), timezone="America/New_York")  # fmt: skip
def times_without_a_zone(world: World) -> None:
    """The feed writes times without a zone, and this machine is in New York: they are read as UTC."""
    world.run()
    world.replica.check()


# --- Other runs ------------------------------------------------------------------------------

OTHERS = "Two runs at once"


@scenario(OTHERS)
def a_second_run_at_the_same_time(world: World) -> None:
    """A second run starts while a first one waits for an answer: it names the first and exits 75."""
    first = world.start(plan=Plan("before request", "profiles", do="stall"))
    world.wait_for_stall(first)
    second = world.run(code=TRY_AGAIN_LATER)
    if f"process {first.pid}" not in second.err:
        raise Finding("the second run does not name the first")
    (world.folder / "go on").touch()
    world.end(first)
    world.replica.check()


@scenario(OTHERS)
def a_run_that_stalls_past_its_lease(world: World) -> None:
    """A run stalls until its lease has expired, and another takes over: the first writes nothing more."""
    first = world.start(plan=Plan("after request", "profiles", do="stall"))
    world.wait_for_stall(first)
    world.account.advance(timedelta(hours=1))
    for profile in world.account.profiles[:50]:
        world.account.update_profile(profile.id, lastname="Newer")
    world.feed.export()
    world.run(plan=Plan(at=world.account.now))
    world.replica.check()
    before = world.contents.found()
    (world.folder / "go on").touch()
    ended = world.end(first, TRY_AGAIN_LATER)
    if "took over" not in ended.err:
        raise Finding(f"the first run does not say that another took over: {ended.err[-600:]}")
    compare(world.contents.found(), before)
    world.run()
    world.replica.check_loosely()


@scenario(OTHERS)
def another_process_has_the_file_open(world: World) -> None:
    """Another process has the DuckDB file open: the run waits, names that process and exits 75."""
    holder = world.start(plan=Plan("before commit of the batch", "lists", do="stall"))
    world.wait_for_stall(holder)
    ended = world.run(code=TRY_AGAIN_LATER)
    if str(holder.pid) not in ended.err:
        raise Finding("the run does not name the process that has the file open")
    (world.folder / "go on").touch()
    world.end(holder)
    world.replica.check()


# --- Disks -----------------------------------------------------------------------------------

DISKS = "Disks"


@scenario(DISKS, fresh=True, profiles=600)
def no_room_for_the_file(world: World) -> None:
    """The warehouse's file cannot grow: the error says so, and no batch is loaded in part."""
    ended = world.run(plan=Plan(file_bytes=1_200_000), code=5)
    if "is full" not in ended.err:
        raise Finding("the error does not say that the disk is full")
    world.replica.check_after_crash()
    world.run()
    world.replica.check()


# --- Full reads and deletes ------------------------------------------------------------------

DELETES = "Full reads and deletes"
REMOVE = 'deletes = "remove"'


@scenario(DELETES, quirks=SMALL_PAGES, profiles=150)  # fmt: skip
def a_full_read_fails_midway(world: World) -> None:
    """A full read fails after its first pages: no row is removed."""
    _fail_after_pages(world, "sync", "--full")


@scenario(DELETES, settings=f"{REMOVE}\nmax_deleted_share = 1.0", quirks=SMALL_PAGES, profiles=150)  # fmt: skip
def delete_detection_fails_midway(world: World) -> None:
    """Delete detection may remove rows, and fails after the first pages: it removes none."""
    world.run()
    world.replica.check()
    _fail_after_pages(world, "sync", DETECT_DELETES)


def _fail_after_pages(world: World, *command: str) -> None:
    seen: list[str] = []

    def fail(request: LoggedRequest) -> None:
        seen.append(request.path)
        if seen.count("/v2/profiles") == 20:
            world.server.faults.sometimes("/v2", Fault(status=503), 1.0)

    world.server.after_request = fail
    world.run(*command, code=TRY_AGAIN_LATER, plan=Plan(batch_records=20))
    world.server.after_request = None
    world.replica.check_after_crash()
    world.server.faults.clear()
    world.run()
    world.replica.check()


@scenario(DELETES)
def deleted_profiles_stay_and_are_recorded(world: World) -> None:
    """Delete detection records which profiles and lists were deleted, since when, and keeps their rows."""
    world.run("sync", DETECT_DELETES)
    world.replica.check()
    gone = world.replica.gone("profiles")
    missing = {row["sync_key"]: row for row in world.contents.state("deleted_upstream")}
    if not gone or gone != {k for k, m in missing.items() if m["table_name"] == "profiles"}:
        raise Finding("the deleted profiles are not those in deleted_upstream")
    first = {key: row["first_missed_at"] for key, row in missing.items()}
    world.account.advance(timedelta(days=1))
    world.feed.export()
    world.run("sync", DETECT_DELETES)
    world.replica.check()
    again = {
        row["sync_key"]: row["first_missed_at"] for row in world.contents.state("deleted_upstream")
    }
    if not first.items() <= again.items():
        raise Finding("the time first missed has moved")


@scenario(DELETES)
def a_profile_comes_back(world: World) -> None:
    """A profile recorded as deleted exists again: the record is removed."""
    profile = world.account.profiles[5]
    world.account.delete_profile(profile.id)
    world.run("sync", DETECT_DELETES)
    world.replica.check()
    world.account.advance(timedelta(hours=1))
    world.account.add_profile(profile.id, **dict(profile.fields))  # type: ignore[arg-type]
    world.run("sync")
    world.run("sync", DETECT_DELETES)
    world.replica.check_loosely()
    if profile.id in {row["record_id"] for row in world.contents.state("deleted_upstream")}:
        raise Finding("a profile that exists again is still in deleted_upstream")


@scenario(DELETES, settings=REMOVE)
def too_many_deleted_profiles(world: World) -> None:
    """Delete detection finds a third of the profiles deleted: it removes none, and warns."""
    world.run("sync", DETECT_DELETES)
    world.replica.check()
    for profile in world.account.profiles[:100]:
        world.account.delete_profile(profile.id)
    world.account.advance(timedelta(minutes=1))
    before = len(world.replica.known["profiles"])
    ended = world.run("sync", DETECT_DELETES)
    if "max_deleted_share" not in ended.out:
        raise Finding("rows are removed, or a warning is missing")
    if len(world.contents.found()["profiles"]) < before:
        raise Finding("profiles: rows are removed")


@scenario(DELETES, settings=REMOVE)
def deleted_profiles_are_removed(world: World) -> None:
    """With `deletes = "remove"`, delete detection removes the rows of deleted records, and no others."""
    world.run("sync", DETECT_DELETES)
    world.replica.check()


@scenario(DELETES)
def delete_detection_beside_another_account(world: World) -> None:
    """Two accounts share the tables: delete detection in one leaves the other's rows alone."""
    with world.beside("us") as other:
        world.run("sync", DETECT_DELETES)
        world.run("sync", DETECT_DELETES)
        world.replica.check()
        other.replica.check()
        missing = {
            row["sync_key"]
            for row in world.contents.state("deleted_upstream")
            if row["source_id"] == "uk"
        }
        if missing & {row["__sync_key"] for row in other.contents.found()["profiles"]}:
            raise Finding("profiles of the other account are in deleted_upstream")


# --- Maintenance ----------------------------------------------------------------------------------

MAINTENANCE = "State changed by hand"


@scenario(MAINTENANCE)
def rewound(world: World) -> None:
    """The state of every table is rewound: the next run loads everything again."""
    world.run()
    world.replica.check()
    for table in world.replica.known:
        world.run("state", "rewind", table)
    world.run()
    world.replica.check()


def _reached(world: World) -> list[dict[str, Any]]:
    """Return how far tables were read, without the rows that were noted as written."""
    marks = world.contents.state("watermarks")
    return [mark for mark in marks if not mark["kind"].startswith("written ")]


@scenario(MAINTENANCE)
def backfilled(world: World) -> None:
    """Some days are read again: no watermark moves, and no other row changes."""
    world.run()
    world.replica.check()
    marks = _reached(world)
    day = (world.account.now - timedelta(days=40)).date()
    world.run(*backfill(day, world.account.now.date()))
    world.replica.check_loosely()
    if _reached(world) != marks:
        raise Finding("the watermarks have moved")


@scenario(MAINTENANCE)
def rejects_replayed(world: World) -> None:
    """An unreadable file is replaced in place, and the rejects are replayed."""
    mail(world, "mended@example.com", 30)
    name = world.feed.export_html()
    world.run()
    world.replica.check()
    world.account.advance(timedelta(minutes=1))
    world.feed.complete(name)
    world.run("rejects", "replay")
    world.replica.check(["email_events"])
