# ruff: noqa: D401, D404, E501 -- A story's docstring tells what happens, and the page quotes it.
"""What else goes wrong: networks, files, clocks, other runs, disks, deletes."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_replica.errors import TRY_AGAIN_LATER
from ometria_simulator import Dialect, Fault, Quirks
from tests.faults.child import Plan
from tests.faults.scenarios import mail, scenario
from tests.faults.world import Finding, World, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from ometria_simulator.server import LoggedRequest

LOST = "rows are lost"
OLD = "rows are not as they should be"
SMALL_PAGES = Quirks(ignore_limit=frozenset({"profiles"}))
"""Pages of ten, so that a table has many."""
YEAR = timedelta(days=365)

# --- SIGKILL between tables, and on the first run ------------------------------------------------

KILLS = "SIGKILL before, between and after the tables"


def _killed_once(step: str, world: World, nth: int = 1) -> None:
    world.run(plan=Plan(step, nth=nth), code=-9)
    world.check_after_crash()
    world.run()
    world.check()


@scenario(KILLS, "dead runs hold on", "exit code 75")
def killed_with_the_lease(world: World) -> None:
    """The process is killed just after it took the lease; the next run takes it over at once."""
    _killed_once("after commit of the lease", world)


@scenario(KILLS, "merge without delete", "rows are doubled")
def killed_while_taking_the_lease(world: World) -> None:
    """The process is killed between writing the lease and committing it."""
    _killed_once("after lease", world)


@scenario(KILLS, "merge without delete", "rows are doubled")
def killed_while_giving_the_lease_back(world: World) -> None:
    """The process is killed when all is loaded, and the lease not yet given back."""
    _killed_once("before giving back", world)


@scenario(KILLS, "merge without delete", "rows are doubled")
def killed_before_the_history(world: World) -> None:
    """The process is killed when all is loaded, and the run not yet in the history."""
    _killed_once("before history", world)


@scenario(KILLS, "merge without delete", "rows are doubled")
def killed_with_the_history(world: World) -> None:
    """The process is killed between writing the run's history and committing it."""
    _killed_once("before commit of the history", world)


@scenario(KILLS, "merge without delete", "rows are doubled")
def killed_while_letting_the_file_go(world: World) -> None:
    """The process is killed while it detaches the warehouse, between two batches."""
    _killed_once("before detach", world, nth=3)


@scenario(KILLS, "watermark with first batch", "state ahead of data")
def killed_between_two_batches(world: World) -> None:
    """The process is killed when the first of two batches of profiles is committed."""
    world.run(plan=Plan("after commit", "profiles"), code=-9)
    world.check_after_crash()
    world.run()
    world.check()


@scenario(KILLS, "tables made once", "exit code 5", fresh=True)
def killed_while_the_first_table_is_made(world: World) -> None:
    """The very first run is killed when the first schema is made, then run again."""
    _killed_once("after schema", world)


@scenario(KILLS, "tables made once", "exit code 5", fresh=True)
def killed_among_the_tables(world: World) -> None:
    """The very first run is killed when some tables are made, and others not."""
    _killed_once("after schema", world, nth=6)


@scenario(KILLS, "tables made once", "exit code 5", fresh=True)
def killed_before_the_account_is_noted(world: World) -> None:
    """The very first run is killed before it notes whose rows it will write."""
    _killed_once("before account", world)


@scenario(KILLS, "watermark with first batch", "state ahead of data", fresh=True)
def killed_in_the_first_read(world: World) -> None:
    """The very first run is killed amid the profiles; the next one reads them all."""
    world.run(plan=Plan("after commit", "profiles", 2), code=-9)
    world.check_after_crash()
    world.run()
    world.check()


@scenario(KILLS, "merge without delete", "rows are doubled")
def killed_again_and_again(world: World) -> None:
    """Five runs in a row are killed, each a little later, while the account lives on."""
    for step in ("before page", "after insert", "before commit", "after commit", "before history"):
        world.run(plan=Plan(step), code=-9)
        world.check_after_crash()
        world.account.advance(timedelta(hours=3))
        world.feed.export()
    world.run()
    world.check()


@scenario(KILLS, "state before rows", "state ahead of data")
def out_of_memory(world: World) -> None:
    """An error that nobody foresaw ends the run in the middle of a transaction."""
    world.run(plan=Plan("after insert", "lists", do="raise"), code=1)
    world.check_after_crash()
    world.run()
    world.check()


# --- The network -----------------------------------------------------------------------------

NETWORK = "The network and the API"


def _with_faults(world: World, fault: Fault, paths: tuple[str, ...], times: int = 1) -> None:
    for path in paths:
        world.server.faults.next(path, fault, times)
    world.run(plan=Plan(timeout_seconds=0.3))
    world.check()


PATHS = ("/v2/profiles", "/v2/lists", "/v2/unsubscribes")


@scenario(NETWORK, "no second try", "exit code 75")
def connections_reset(world: World) -> None:
    """Connections are reset in place of an answer, on each endpoint."""
    _with_faults(world, Fault.reset(), PATHS, 2)


@scenario(NETWORK, "failed request is empty", OLD)
def bodies_cut(world: World) -> None:
    """Answers end before their announced length."""
    _with_faults(world, Fault.truncate(), PATHS)


@scenario(NETWORK, "failed request is empty", OLD)
def errors_of_the_server(world: World) -> None:
    """The API answers 500 now and then."""
    _with_faults(world, Fault(status=500), PATHS, 2)


@scenario(NETWORK, "failed request is empty", OLD)
def bodies_that_are_no_json(world: World) -> None:
    """An answer of the right length breaks off amid its JSON, as behind a bad proxy."""
    _with_faults(world, Fault.bad_json(), PATHS)


@scenario(NETWORK, "no second try", "exit code 75")
def answers_that_hang(world: World) -> None:
    """The API does not answer within the timeout, and does at the second try."""
    _with_faults(world, Fault.hang(0.7), PATHS)


@scenario(NETWORK, "no second try", "exit code 75")
def a_storm_of_429(world: World) -> None:
    """Ten requests in a row are refused for being too many, without a hint when to come back."""
    world.server.faults.storm(10)
    world.run(plan=Plan(give_up_seconds=30))
    world.check()


@scenario(NETWORK, "failed request is empty", OLD)
def a_storm_of_429_with_a_hint(world: World) -> None:
    """Requests are refused for being too many, and the answer says when to come back."""
    world.server.faults.storm(1, retry_after="1")
    world.run(plan=Plan(give_up_seconds=30))
    world.check()


@scenario(NETWORK, "failed request is empty", "exit code 0, not 3")
def a_page_for_people(world: World) -> None:
    """A gateway answers 200 with a page that says it will be back soon: the run fails, in words."""
    world.server.faults.next("/v2/profiles", Fault.html_200())
    ended = world.run(code=3)
    if "HTML" not in ended.err:
        raise Finding("the error does not say that HTML came")
    world.check_after_crash()
    world.run()
    world.check()


@scenario(NETWORK, "failed request is empty", "exit code 0, not 75")
def the_api_is_down(world: World) -> None:
    """The API fails for longer than a request is retried; the run after it catches up."""
    world.server.faults.sometimes("/v2", Fault(status=503), 1.0)
    world.run(code=TRY_AGAIN_LATER)
    world.check_after_crash()
    world.server.faults.clear()
    world.run()
    world.check()


@scenario(
    NETWORK, "watermark with first batch", "state ahead of data", quirks=SMALL_PAGES, profiles=150
)
def the_api_goes_down_amid_a_table(world: World) -> None:
    """The API fails when some batches of profiles are committed and others are due."""
    for profile in world.account.profiles:
        world.account.update_profile(profile.id, firstname="Again")
    _fail_after_pages(world, "sync")


@scenario(NETWORK, "one refusal ends the run", OLD)
def one_endpoint_refused(world: World) -> None:
    """The key may not read profiles (403): the run fails, and all other tables are loaded."""
    world.server.no_rights = frozenset({"profiles"})
    world.run(code=3)
    world.check([name for name in world.known if name != "profiles"])
    world.server.no_rights = frozenset()
    world.run()
    world.check()


@scenario(NETWORK, "vanished list ends the table", "exit code 3")
def a_list_vanishes(world: World) -> None:
    """A list is deleted between the listing and the question for its changes."""
    last = world.account.lists[-1].id
    gone = {row["__sync_key"] for row in world.sent()["member_lists"] if row["list_id"] == last} - {
        row["__sync_key"] for row in world.known["member_lists"]
    }

    def delete(request: LoggedRequest) -> None:
        if request.path == "/v2/lists" and last in {each.id for each in world.account.lists}:
            world.account.delete_list(last)

    listed = [row for row in world.sent()["lists"] if row["list_id"] == last]
    world.server.after_request = delete
    world.run()
    world.server.after_request = None
    due = world.due()
    due["lists"] = sorted(
        [row for row in due["lists"] if row["list_id"] != last] + listed,
        key=lambda row: str(row["__sync_key"]),
    )
    assert not gone & {row["__sync_key"] for row in due["member_lists"]}
    compare(world.found(), due)


@scenario(NETWORK, "offsets trusted", LOST)
def profiles_vanish_between_pages(world: World) -> None:
    """After each of two pages of a full read, thirty profiles already read are deleted."""
    _drift(world, lambda: _delete_first(world, 30))


@scenario(NETWORK, "offsets trusted", LOST)
def profiles_merge_between_pages(world: World) -> None:
    """After each of two pages of a full read, twenty profiles already read are merged into another."""

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
    found = {row["__sync_key"]: row for row in world.found()["profiles"]}
    for row in world.sent()["profiles"]:
        if row["__sync_key"] not in found or found[row["__sync_key"]]["first_name"] != "Again":
            raise Finding("profiles: rows are lost that were there throughout")
    world.run()
    world.check_loosely()


@scenario(NETWORK, "short page is the last", OLD, quirks=SMALL_PAGES, profiles=150)
def pages_shorter_than_asked_for(world: World) -> None:
    """The API sends pages of ten, whatever limit is asked for."""
    world.run()
    world.check()


@scenario(NETWORK, "no full round", LOST)
def a_list_that_hides_its_refresh(world: World) -> None:
    """A dynamic list gets changes, and never says that it was refreshed; a week later all come."""
    account = world.account
    listed = account.add_list(type="DYNAMIC", refreshed_at=account.now - timedelta(days=90))
    world.run()
    world.check()
    account.advance(timedelta(days=5))
    someone = account.profiles[0].id
    account.add_change(listed.id, someone, "list_enter", at=account.now - timedelta(days=1))
    account.advance(timedelta(days=5))
    world.feed.export()
    world.run()
    world.check()


# --- The feed --------------------------------------------------------------------------------

FEED = "The files of the feed"


@scenario(FEED, "gzip endings not checked", LOST)
def a_truncated_file(world: World) -> None:
    """A gzip file ends too early: it is set aside whole, and read when it is whole."""
    mail(world, "cut@example.com", 300)
    name = world.feed.export_truncated_gzip()
    world.run()
    _expect_unreadable(world, {name})
    world.check()
    world.feed.complete(name)
    world.run()
    world.check()


@scenario(FEED, "ledger by name", LOST)
def a_file_still_being_written(world: World) -> None:
    """Half of a file is there; the next run finds it whole."""
    mail(world, "half@example.com", 300)
    name = world.feed.export_partial()
    world.run()
    world.check()
    world.feed.complete(name)
    world.run()
    world.check()


@scenario(FEED, "ledger by name", "not as they should be, in campaign_title")
def a_file_written_again(world: World) -> None:
    """A file that was read is written again with other contents."""
    name = world.feed.delivered[-1].file
    world.run()
    world.check()
    world.account.advance(timedelta(minutes=5))
    world.feed.rewrite(name)
    world.run()
    world.check()


@scenario(FEED, "ledger by time", LOST)
def a_late_file(world: World) -> None:
    """A file arrives whose time is older than that of files already read."""
    world.run()
    world.check()
    mail(world, "late@example.com", 5)
    (name,) = world.feed.export()
    _date_back(world, name, timedelta(days=3))
    world.run()
    world.check()


@scenario(FEED, "last file wins", "not as they should be, in campaign_title")
def a_late_file_with_an_old_copy(world: World) -> None:
    """A file that arrives late holds an older copy of an event that is there already."""
    event = world.account.add_event("twice@example.com", "open", campaign_title="new")
    world.feed.export_events([event])
    world.run()
    world.check()
    (name,) = world.feed.export_events([replace(event, campaign_title="old")])
    _date_back(world, name, timedelta(days=3))
    world.run()
    world.check()


@scenario(FEED, "ledger by time", LOST)
def two_files_in_one_second(world: World) -> None:
    """A second file appears with the very time of one that was read."""
    mail(world, "first@example.com")
    world.feed.export()
    world.run()
    world.check()
    mail(world, "second@example.com")
    world.feed.export()
    world.run()
    world.check()


@scenario(FEED, "first copy stands", "not as they should be")
def two_copies_in_one_batch(world: World) -> None:
    """Two files of one batch hold an event, in an older and in a newer copy."""
    event = world.account.add_event("both@example.com", "open", campaign_title="old")
    world.run()
    world.check()
    world.feed.export_events([event])
    world.account.advance(timedelta(minutes=1))
    world.feed.export_events([replace(event, campaign_title="new")])
    world.run(plan=Plan(batch_files=50))
    world.check()


@scenario(FEED, "poison ends the run", "exit code 3")
def poison_among_the_files(world: World) -> None:
    """An error page and plain junk lie among the files; the rest is loaded."""
    mail(world, "a@example.com", 20)
    html = world.feed.export_html()
    mail(world, "b@example.com", 20)
    junk = world.feed.export_junk()
    mail(world, "c@example.com", 20)
    world.feed.export()
    world.run()
    _expect_unreadable(world, {html, junk})
    world.check()
    world.account.advance(timedelta(minutes=1))
    world.feed.complete(html)
    world.feed.complete(junk)
    world.run()
    world.check()


@scenario(FEED, "poison ends the run", "exit code 3")
def a_file_deleted_while_it_is_fetched(world: World) -> None:
    """A file is deleted between the listing and the download."""
    mail(world, "brief@example.com", 3)
    (name,) = world.feed.export()
    world.run()
    world.check()
    mail(world, "gone@example.com", 3)
    (name,) = world.feed.export()
    process = world.start(plan=Plan("before fetch", do="stall"))
    world.wait_for_stall(process)
    world.feed.delete(name)
    (world.folder / "go on").touch()
    world.end(process)
    world.feed.delivered = [each for each in world.feed.delivered if each.file != name]
    world.check()


@scenario(
    FEED, "listed version not checked", "state ahead of data|rows are lost|not as they should"
)
def a_file_that_changes_while_it_is_fetched(world: World) -> None:
    """A file is written again between the listing and the download, then cut, then whole."""
    world.run()
    world.check()
    mail(world, "moving@example.com", 40)
    (name,) = world.feed.export()
    whole = world.feed.read(name)
    process = world.start(plan=Plan("before fetch", do="stall"))
    world.wait_for_stall(process)
    world.feed.poison(name, gzip.compress(gzip.decompress(whole)[:300]))
    (world.folder / "go on").touch()
    world.end(process)
    world.check_after_crash()
    world.account.advance(timedelta(minutes=1))
    world.feed.complete(name)
    world.run()
    world.check()


def _expect_unreadable(world: World, names: set[str]) -> None:
    found = {e["name"] for e in world.state("files") if e["unreadable_because"] is not None}
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


@scenario(RECORDS, "rejects dropped", "not in the rejects")
def a_value_that_will_not_convert(world: World) -> None:
    """A date of birth is no date: the row is loaded, the value is set aside."""
    profile = world.account.profiles[3]
    world.account.update_profile(profile.id, date_of_birth="31st of June")
    world.run()
    world.check()
    if "31st of June" not in {reject["raw"] for reject in world.state("rejects")}:
        raise Finding("a value is not in the rejects")
    ended = world.run("sync", "--full", "--strict", code=4)
    if "31st" in ended.err + ended.out:
        raise Finding("the value is in the message")


@scenario(RECORDS, "rejects dropped", "not in the rejects")
def an_event_that_nothing_identifies(world: World) -> None:
    """An event has neither an address nor a time: it goes whole to the rejects."""
    event = world.account.add_event(None, "open", uuid="nobody")
    (name,) = world.feed.export_events([event])
    world.feed.rewrite(name, lambda cells: {**cells, "dt_occurred": None, "to_address": None})
    world.feed.delivered = [e for e in world.feed.delivered if e.file != name or e.version > 1]
    world.run()
    world.check()
    if not any("nobody" in reject["raw"] for reject in world.state("rejects")):
        raise Finding("a record is not in the rejects")


# --- Clocks ----------------------------------------------------------------------------------

CLOCKS = "Clocks"


@scenario(CLOCKS, "own clock trusted", "watermark past the server's clock|rows are lost")
def this_machine_a_year_ahead(world: World) -> None:
    """This machine's clock is a year ahead for one run, and right again for the next."""
    world.run(plan=Plan(at=world.account.now + YEAR))
    world.check()
    world.account.advance(timedelta(days=1))
    world.feed.export()
    world.run()
    world.check()


@scenario(CLOCKS, "no look back", LOST)
def this_machine_a_year_behind(world: World) -> None:
    """This machine's clock is a year behind, and what happened late is read all the same."""
    world.run(plan=Plan(at=world.account.now - YEAR))
    world.check()
    world.account.advance(timedelta(days=1))
    world.feed.export()
    world.run()
    world.check()
    _happen_late(world)
    world.run()
    world.check()


@scenario(CLOCKS, "watermark from the end", "watermark past the server's clock|rows are lost")
def the_clock_jumps_ahead_amid_a_run(world: World) -> None:
    """This machine's clock jumps ahead by a year while profiles are read."""
    world.run(plan=Plan("after page", "profiles", do="jump", jump=YEAR))
    world.check()
    world.account.advance(timedelta(days=2))
    world.feed.export()
    world.run()
    world.check()


@scenario(CLOCKS, "watermark from the end", "watermark past the server's clock|rows are lost")
def the_clock_jumps_back_amid_a_run(world: World) -> None:
    """This machine's clock, a year ahead, jumps back by a year while lists are read."""
    plan = Plan("after page", "lists", do="jump", jump=-YEAR, at=world.account.now + YEAR)
    world.run(plan=plan)
    world.check()
    world.account.advance(timedelta(days=2))
    world.feed.export()
    world.run()
    world.check()


@scenario(CLOCKS, "watermark from records", "watermark past the server's clock|rows are lost")
def a_record_from_the_future(world: World) -> None:
    """An unsubscribe is dated a year ahead; those after it are read all the same."""
    everyone = [profile.id for profile in world.account.profiles]
    world.account.add_unsubscribe(everyone[7], at=world.account.now + timedelta(hours=20))
    world.account.add_change(
        world.account.lists[0].id, everyone[7], "list_enter", at=world.account.now + YEAR
    )
    world.run()
    world.check()
    world.account.advance(timedelta(hours=2))
    world.account.add_unsubscribe(everyone[8])
    world.run()
    world.check()


@scenario(CLOCKS, "no look back", LOST)
def events_that_come_late(world: World) -> None:
    """Unsubscribes and list changes appear with a time days before the last run."""
    world.run()
    world.check()
    _happen_late(world)
    world.run()
    world.check()


def _happen_late(world: World) -> None:
    account = world.account
    account.advance(timedelta(hours=6))
    someone = account.profiles[11].id
    account.add_unsubscribe(someone, at=account.now - timedelta(days=5))
    dynamic = account.add_list(type="STATIC").id
    account.add_change(dynamic, someone, "list_enter", at=account.now - timedelta(days=4))


@scenario(
    CLOCKS, "no look back", "rows are not as they should be",
    quirks=Quirks(update_since_inclusive=False, update_since_utc_offset_hours=-11),
)  # fmt: skip
def days_that_begin_elsewhere(world: World) -> None:
    """A day of updateSince begins elsewhere and is not included; what was updated is read."""
    world.run()
    world.check()
    world.account.advance(timedelta(hours=3))
    for profile in world.account.profiles[:40]:
        world.account.update_profile(profile.id, lastname="Later")
    world.feed.export()
    world.run()
    world.check()


@scenario(
    CLOCKS, "local time", "email_events: rows are not as they should be, in event_at", fresh=True,
    dialect=Dialect(timestamp_form="naive"), timezone="America/New_York",
)  # fmt: skip
def times_without_a_zone(world: World) -> None:
    """The feed writes times without a zone, and this machine is in New York: they are UTC."""
    world.run()
    world.check()


# --- Other runs ------------------------------------------------------------------------------

OTHERS = "Two runs at once"


@scenario(OTHERS, "lease ignored", "exit code 0, not 75")
def a_second_run_at_the_same_time(world: World) -> None:
    """While a run waits for an answer, a second one starts: it names the first and exits 75."""
    first = world.start(plan=Plan("before request", "profiles", do="stall"))
    world.wait_for_stall(first)
    second = world.run(code=TRY_AGAIN_LATER)
    if f"process {first.pid}" not in second.err:
        raise Finding("the second run does not say who is at work")
    (world.folder / "go on").touch()
    world.end(first)
    world.check()


@scenario(OTHERS, "no fence", "exit code 0, not 75")
def a_run_that_slept_too_long(world: World) -> None:
    """A run stands still past its lease, and another takes over; the first may write nothing."""
    first = world.start(plan=Plan("after request", "profiles", do="stall"))
    world.wait_for_stall(first)
    world.account.advance(timedelta(hours=1))
    for profile in world.account.profiles[:50]:
        world.account.update_profile(profile.id, lastname="Newer")
    world.feed.export()
    world.run(plan=Plan(at=world.account.now))
    world.check()
    before = world.found()
    (world.folder / "go on").touch()
    ended = world.end(first, TRY_AGAIN_LATER)
    if "took over" not in ended.err:
        raise Finding("the first run does not say that another took over")
    compare(world.found(), before)
    world.run()
    world.check_loosely()


@scenario(OTHERS, "dead runs hold on", "exit code 75")
def the_next_run_after_a_power_cut(world: World) -> None:
    """A run is killed with its lease in force; the next one neither waits nor fails."""
    world.run(plan=Plan("before request", "unsubscribes"), code=-9)
    world.check_after_crash()
    world.run()
    world.check()


@scenario(OTHERS, "nobody is named", "does not say which program")
def somebody_has_the_file_open(world: World) -> None:
    """Another program holds the DuckDB file: the run waits, then names it and exits 75."""
    holder = world.start(plan=Plan("before commit", "lists", do="stall"))
    world.wait_for_stall(holder)
    ended = world.run(code=TRY_AGAIN_LATER)
    if str(holder.pid) not in ended.err:
        raise Finding("the run does not say which program has the file open")
    (world.folder / "go on").touch()
    world.end(holder)
    world.check()


# --- Disks -----------------------------------------------------------------------------------

DISKS = "Disks"


@scenario(DISKS, "watermark with first batch", "state ahead of data", fresh=True)
def no_room_for_the_file(world: World) -> None:
    """The warehouse's file may not grow any more: the run says so, and nothing is half there."""
    ended = world.run(plan=Plan(file_bytes=1_200_000), code=5)
    if "room" not in ended.err:
        raise Finding("the error does not say that there is no room")
    world.check_after_crash()
    world.run()
    world.check()


# --- Full reads and deletes ------------------------------------------------------------------

DELETES = "Full reads and deletes"
REMOVE = 'deletes = "remove"'


@scenario(DELETES, "full read empties first", "rows are lost that were there before",
          quirks=SMALL_PAGES, profiles=150)  # fmt: skip
def a_full_read_fails_midway(world: World) -> None:
    """A full read fails after its first pages: not a row is gone."""
    _fail_after_pages(world, "sync", "--full")


@scenario(DELETES, "sweep with every batch", "rows are lost that were there before",
          settings=f"{REMOVE}\nmax_deleted_share = 1.0", quirks=SMALL_PAGES, profiles=150)  # fmt: skip
def a_sweep_fails_midway(world: World) -> None:
    """A sweep that may remove rows fails after its first pages: it removes none."""
    world.run()
    world.check()
    _fail_after_pages(world, "sync", "--detect-deletes")


def _fail_after_pages(world: World, *command: str) -> None:
    seen: list[str] = []

    def fail(request: LoggedRequest) -> None:
        seen.append(request.path)
        if seen.count("/v2/profiles") == 20:
            world.server.faults.sometimes("/v2", Fault(status=503), 1.0)

    world.server.after_request = fail
    world.run(*command, code=TRY_AGAIN_LATER, plan=Plan(batch_records=20))
    world.server.after_request = None
    world.check_after_crash()
    world.server.faults.clear()
    world.run()
    world.check()


@scenario(DELETES, "always removes", LOST)
def deleted_profiles_stay_and_are_noted(world: World) -> None:
    """A sweep notes which profiles and lists are gone, since when, and keeps their rows."""
    world.run("sync", "--detect-deletes")
    world.check()
    gone = world.gone("profiles")
    missing = {row["sync_key"]: row for row in world.state("deleted_upstream")}
    if not gone or gone != {k for k, m in missing.items() if m["table_name"] == "profiles"}:
        raise Finding("what is gone is not what is noted as missing")
    first = {key: row["first_missed_at"] for key, row in missing.items()}
    world.account.advance(timedelta(days=1))
    world.feed.export()
    world.run("sync", "--detect-deletes")
    world.check()
    again = {row["sync_key"]: row["first_missed_at"] for row in world.state("deleted_upstream")}
    if not first.items() <= again.items():
        raise Finding("the time first missed has moved")


@scenario(DELETES, "missing for ever", "still noted as missing")
def a_profile_comes_back(world: World) -> None:
    """A profile that was noted as missing is there again: it is missing no more."""
    profile = world.account.profiles[5]
    world.account.delete_profile(profile.id)
    world.run("sync", "--detect-deletes")
    world.check()
    world.account.advance(timedelta(hours=1))
    world.account.add_profile(profile.id, **dict(profile.fields))  # type: ignore[arg-type]
    world.run("sync")
    world.run("sync", "--detect-deletes")
    world.check_loosely()
    if profile.id in {row["record_id"] for row in world.state("deleted_upstream")}:
        raise Finding("a profile that is back is still noted as missing")


@scenario(DELETES, "no limit to deletes", "removed|rows are lost", settings=REMOVE)
def a_sweep_that_lost_too_much(world: World) -> None:
    """A sweep finds a third of the profiles gone: it removes none, and warns."""
    world.run("sync", "--detect-deletes")
    world.check()
    for profile in world.account.profiles[:200]:
        world.account.delete_profile(profile.id)
    before = len(world.known["profiles"])
    ended = world.run("sync", "--detect-deletes")
    if "max_deleted_share" not in ended.out:
        raise Finding("rows are removed, or there is no warning")
    if len(world.found()["profiles"]) < before:
        raise Finding("profiles: rows are removed")


@scenario(DELETES, "merge without delete", "rows are doubled", settings=REMOVE)
def deleted_profiles_are_removed(world: World) -> None:
    """With deletes = "remove" a sweep takes out the rows of what is gone, and nothing else."""
    world.run("sync", "--detect-deletes")
    world.check()


@scenario(DELETES, "sweep over all sources", "missing|rows are lost")
def a_sweep_beside_another_account(world: World) -> None:
    """Two accounts share the tables: a sweep of one does not touch the other's rows."""
    with world.beside("us") as other:
        world.run("sync", "--detect-deletes")
        world.run("sync", "--detect-deletes")
        world.check()
        other.check()
        missing = {
            row["sync_key"] for row in world.state("deleted_upstream") if row["source_id"] == "uk"
        }
        if missing & {row["__sync_key"] for row in other.found()["profiles"]}:
            raise Finding("the other account's profiles are noted as missing")


# --- Upkeep ----------------------------------------------------------------------------------

UPKEEP = "State changed by hand"


@scenario(UPKEEP, "merge without delete", "rows are doubled")
def rewound(world: World) -> None:
    """Every table's state is rewound, and what was read is read again."""
    world.run()
    world.check()
    for table in world.known:
        world.run("state", "rewind", table)
    world.run()
    world.check()


@scenario(UPKEEP, "merge without delete", "rows are doubled")
def backfilled(world: World) -> None:
    """A stretch of days is read again; no watermark moves, and nothing else does either."""
    world.run()
    world.check()
    marks = world.state("watermarks")
    day = (world.account.now - timedelta(days=40)).date()
    world.run(
        "backfill", "--since", day.isoformat(), "--until", world.account.now.date().isoformat()
    )
    world.check_loosely()
    if world.state("watermarks") != marks:
        raise Finding("the watermarks have moved")


@scenario(UPKEEP, "ledger by name", LOST)
def rejects_replayed(world: World) -> None:
    """A file that could not be read is mended in place, and the rejects are replayed."""
    mail(world, "mended@example.com", 30)
    name = world.feed.export_html()
    world.run()
    world.check()
    world.account.advance(timedelta(minutes=1))
    world.feed.complete(name)
    world.run("rejects", "replay")
    world.check(["email_events"])
