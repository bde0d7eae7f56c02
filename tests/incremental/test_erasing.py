"""The erasure of people, and the syncs after it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from ometria_replica.config import Secret
from ometria_replica.erasing import allow, erase, find, ids_in, ids_of, read_held
from ometria_replica.errors import Busy, ConfigError
from ometria_replica.rehashing import rehash
from ometria_replica.state_commands import replay, rewind
from ometria_replica.warehouse import open_warehouse
from ometria_simulator import Account, Feed, Server, serve
from tests.duck import opened, read_file
from tests.e2e.oracle import after, expected
from tests.e2e.program import api_env, invoke
from tests.incremental.shops import DAY, HOUR, MINUTE, NOON, account, config, replicate, state
from tests.replicas import everything, of, write_feed_file
from tests.warehouses.loads import a_lease, somebody_elses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from tests.duck import Row

COLUMNS = {"profile_id": "profile", "customer_id": "customer", "email": "address"}
"""The columns with ids of people, and whose: told here anew, and not from the program."""


def ids_in_row(row: Row) -> set[tuple[str, str]]:
    found = {(kind, str(row[name] or "")) for name, kind in COLUMNS.items() if name in row}
    found = {(kind, text.strip().lower() if kind == "address" else text) for kind, text in found}
    return {(kind, text) for kind, text in found if text.strip()}


def hanging_together(
    ids: set[tuple[str, str]], tables: Iterable[dict[str, list[Row]]]
) -> set[tuple[str, str]]:
    """Give all ids that stand in a row with one of *ids*, or with one that does."""
    rows = [ids_in_row(row) for found in tables for name in found for row in found[name]]
    known, before = set(ids), 0
    while len(known) != before:
        before = len(known)
        for beside in rows:
            if beside & known:
                known |= beside
    return known


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def without(ids: set[tuple[str, str]], tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    return {
        name: [row for row in rows if not ids_in_row(row) & ids] for name, rows in tables.items()
    }


@pytest.mark.parametrize(
    ("people", "profiles"), [(8, 60), pytest.param(200, 1500, marks=pytest.mark.slow)]
)
def test_the_replica_is_the_account_without_those_who_were_erased(
    people: int, profiles: int, warehouse: Path, tmp_path: Path
) -> None:
    """After each kind of read, however they were named; everyone else is as in the account."""
    shop = Account.create(profiles=profiles, lists=4, email_events=3 * profiles, now=NOON)
    feed = Feed(shop, tmp_path / "feed")
    feed.export_history(files_per_day=1 / 60)
    chosen = Random(3).sample([p for p in shop.profiles if p.email], people)
    gone: set[tuple[str, str]] = set()
    with serve(shop, requests_per_second=None) as server:
        settings = account(server, tmp_path / "feed")
        replicate(warehouse, settings, at=NOON)
        rows = everything(warehouse)
        assert rows == expected(shop, feed, "1042", "uk")

        for some, now in ((chosen[: people // 2], NOON), (chosen[people // 2 :], NOON + DAY)):
            if now != NOON:
                shop.advance(DAY)
                feed.export()
                replicate(warehouse, settings, at=now)
                asked = datetime.combine(NOON - 2 * DAY, datetime.min.time(), UTC)
                rows = after(rows, expected(shop, feed, "1042", "uk"), asked)
                gone = hanging_together(gone, [rows])
                assert everything(warehouse) == without(gone, rows)
            named = ids_of(
                [f" {p.email.upper()}" for p in some[::2] if p.email], [p.id for p in some[1::2]]
            )
            own = {("address", p.email.strip().lower()) for p in some[::2] if p.email}
            gone |= hanging_together(own | {("profile", p.id) for p in some[1::2]}, [rows])
            receipts = erase(config(warehouse, settings), named, clock=at(now + HOUR))
            assert everything(warehouse) == without(gone, rows)
            assert receipts[0].people <= len(some)

        reads: list[dict[str, Any]] = [{}, {"full": True}, {}, {"since": date(2025, 1, 1)}]
        for number, options in enumerate(reads):
            if number == 2:
                rewind(config(warehouse, settings), ["email_events"], None)
                replay(config(warehouse, settings))
            report = replicate(warehouse, settings, at=now + (number + 2) * HOUR, **options)
            assert {name: [dict(row, updated_at=None) for row in found]
                    for name, found in everything(warehouse).items()} == {
                name: [dict(row, updated_at=None) for row in found]
                for name, found in without(gone, rows).items()
            }  # fmt: skip
            assert sum(each.inserted for each in report.tables) == 0
        assert of(report, "profiles").suppressed > 0


@pytest.fixture
def shop() -> Account:
    """Make a shop with Ann, who has two profiles, and Bob; all of it is old."""
    shop = Account(now=NOON - 90 * DAY)
    shop.add_profile("ann", email=" Ann@Example.com", customer_id="c7", firstname="Ann")
    shop.add_profile("anna", email="anna@example.com", customer_id="c7")
    shop.add_profile("bob", email="bob@example.com")
    shop.add_list("10", type="STATIC", title="VIP")
    shop.refresh_list("10", enter=["ann", "bob"], leave=[])
    shop.add_unsubscribe("ann", email_address="ann@example.com")
    shop.set_time(NOON)
    return shop


@pytest.fixture
def server(shop: Account) -> Iterator[Server]:
    """Serve the shop."""
    with serve(shop, requests_per_second=None) as running:
        yield running


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> AccountSettings:
    """Give the settings of the shop, with an export of three events."""
    mailed(tmp_path, "1", "ANN@example.com ", "anna@example.com", "bob@example.com")
    return account(server, tmp_path / "feed")


def mailed(folder: Path, name: str, *addresses: str) -> None:
    events = [
        {"to_address": to, "event_type": "open", "dt_occurred": "2026-01-01T00:00:00Z"}
        for to in addresses
    ]
    write_feed_file(folder / "feed", f"{name}.jsonl", NOON - DAY, events)


def profiles(warehouse: Path) -> list[str]:
    return sorted(row["profile_id"] for row in read_file(warehouse, "ometria.profiles"))


def addressed(warehouse: Path) -> list[str]:
    return sorted(str(row["email"]) for row in read_file(warehouse, "ometria.email_events"))


def test_ids_that_appear_later_are_suppressed_with_the_person(
    shop: Account, settings: AccountSettings, warehouse: Path, tmp_path: Path
) -> None:
    """A new address or profile of the person does not come either; what came before, goes."""
    replicate(warehouse, settings, at=NOON)
    erase(config(warehouse, settings), ids_of(customer_ids=["c7"]), clock=lambda: NOON)
    mailed(tmp_path, "2", "ann@new.example")
    replicate(warehouse, settings, at=NOON + HOUR)
    assert addressed(warehouse) == ["ann@new.example", "bob@example.com"]

    shop.update_profile("ann", email="ANN@new.example")
    shop.add_profile("back", email="anna@example.com")
    shop.refresh_list("10", enter=["back"], leave=["bob"])
    mailed(tmp_path, "3", "ann@new.example")
    report = replicate(warehouse, settings, at=NOON + 2 * HOUR)

    assert [each for each in report.warnings if "erase --again" in each]
    assert profiles(warehouse) == ["bob"]
    members = read_file(warehouse, "ometria.member_lists")
    assert {row["profile_id"] for row in members} == {"bob"}
    assert find(config(warehouse, settings), frozenset(), again=True)[0].rows["email_events"] == 1
    erase(config(warehouse, settings), frozenset(), again=True, clock=lambda: NOON + 3 * HOUR)
    assert addressed(warehouse) == ["bob@example.com"]

    assert allow(config(warehouse, settings), ids_of(profile_ids=["back"])) == {"uk": 1}
    assert state(warehouse, "suppressions") == []
    rewind(config(warehouse, settings), ["email_events"], None)
    replicate(warehouse, settings, at=NOON + 4 * HOUR, full=True)
    assert profiles(warehouse) == ["ann", "anna", "back", "bob"]
    assert len(addressed(warehouse)) == 4


def test_an_erasure_waits_for_no_run_and_disturbs_none(
    settings: AccountSettings, warehouse: Path
) -> None:
    """While a run holds the lease of the account, nothing is changed."""
    replicate(warehouse, settings, at=NOON)
    now = datetime.now(UTC)
    with open_warehouse(f"duckdb:///{warehouse}") as other:
        other.leases.acquire(somebody_elses(a_lease(until=now + HOUR)), now)
    with pytest.raises(Busy, match="another-run"):
        erase(config(warehouse, settings), ids_of(["bob@example.com"]))
    assert profiles(warehouse) == ["ann", "anna", "bob"]
    assert state(warehouse, "suppressions") == []


def test_a_table_that_an_erasure_emptied_is_not_taken_for_lost(
    settings: AccountSettings, warehouse: Path
) -> None:
    """Nothing is read again for it, until rows that a later run has loaded are gone."""
    replicate(warehouse, settings, at=NOON)
    erase(config(warehouse, settings), ids_of(["ann@example.com"]), clock=at(NOON + HOUR))
    assert read_file(warehouse, "ometria.unsubscribes") == []

    report = replicate(warehouse, settings, at=NOON + 2 * HOUR)

    assert report.warnings == ()
    assert of(report, "unsubscribes").suppressed == 0  # They are older than the look-back.


@pytest.mark.slow
def test_people_of_both_secrets_stay_erased(settings: AccountSettings, warehouse: Path) -> None:
    """Of a random one, and of a hash_key that the account has got since; not without it."""
    keyed = replace(settings, hash_key=Secret("a key", "the test"))
    replicate(warehouse, settings, at=NOON)
    erase(config(warehouse, settings), ids_of(["ann@example.com"]), clock=at(NOON))
    replicate(warehouse, keyed, at=NOON + HOUR)
    erase(config(warehouse, keyed), ids_of(["bob@example.com"]), clock=at(NOON + HOUR))
    assert {row["keyed_by"].split()[0] for row in state(warehouse, "suppressions")} == {
        "state", "hash_key",
    }  # fmt: skip

    report = replicate(warehouse, keyed, at=NOON + 2 * HOUR, full=True)

    assert of(report, "profiles").suppressed >= 3
    assert report.warnings == ()
    assert profiles(warehouse) == []
    with pytest.raises(ConfigError, match=r"hash_key: 2 people of 'uk' were erased.*Restore it"):
        replicate(warehouse, settings, at=NOON + 3 * HOUR)
    other = replace(keyed, hash=("*.email",), hash_key=Secret("another key", "the test"))
    with pytest.raises(ConfigError, match=r"hash_key: 2 people of 'uk' were erased.*Restore it"):
        rehash(config(warehouse, other), reload=True)


@pytest.mark.parametrize("named", ["email", pytest.param("pseudonym", marks=pytest.mark.slow)])
def test_people_are_followed_by_pseudonyms(
    named: str, settings: AccountSettings, warehouse: Path
) -> None:
    """Where ids are hashed: by the id itself, or by its pseudonym; they do not come back."""
    hashed = replace(
        settings,
        hash_key=Secret("a key", "the test"),
        hash=("profiles.email", "profiles.customer_id", "email_events.email"),
        exclude=("unsubscribes.email",),
    )
    replicate(warehouse, hashed, at=NOON)
    anna = {row["profile_id"]: row["email"] for row in read_file(warehouse, "ometria.profiles")}[
        "anna"
    ]
    assert len(anna) == 64
    ids = ids_of(["ANNA@example.com"] if named == "email" else [anna])
    for other in (settings, replace(hashed, hash_key=Secret("another key", "the test"))):
        for look in (find, read_held):  # They would find nothing.
            with pytest.raises(ConfigError, match=r"profiles.email: .* holds it hashed"):
                look(config(warehouse, other), ids)

    (found,) = find(config(warehouse, hashed), ids)
    erase(config(warehouse, hashed), ids, clock=at(NOON + MINUTE))

    assert found.rows == {"profiles": 2, "member_lists": 1, "email_events": 2, "unsubscribes": 1}
    assert (found.ids("profile"), found.ids("address"), found.ids("customer")) == (2, 2, 1)
    assert found.not_followed == ("unsubscribes.email",)
    report = replicate(warehouse, hashed, at=NOON + HOUR, full=True)
    rewind(config(warehouse, hashed), ["email_events"], None)
    replicate(warehouse, hashed, at=NOON + 2 * HOUR)
    assert (profiles(warehouse), len(addressed(warehouse))) == (["bob"], 1)
    assert not [each for each in report.warnings if "read again" in each]


def test_what_names_an_erased_person_is_not_rejected(
    settings: AccountSettings, warehouse: Path, tmp_path: Path
) -> None:
    """A line that cannot be parsed, a record without an identity, a value in another's row."""
    replicate(warehouse, settings, at=NOON)
    erase(config(warehouse, settings), ids_of(["ann@example.com"]), clock=at(NOON))
    folder = tmp_path / "feed"
    (folder / "2.csv").write_text(
        "event_type,to_address,dt_occurred\nopen,bob@example.com,2026-01-03T00:00:00Z\n"
        "open,x,y,z?to=Ann%40example.com&n=1,1,2\nann@example.com,,\n"
        "click,bob@example.com,ann@example.com\n"
    )

    report = replicate(warehouse, settings, at=datetime.now(UTC))

    found = of(report, "email_events")
    assert (found.inserted, found.suppressed, found.rejected) == (2, 2, 0)
    rejects = str(state(warehouse, "rejects"))
    assert "nn%40" not in rejects
    assert "ann@" not in rejects


@pytest.mark.slow
def test_an_erased_address_stays_masked_in_rows_of_others(
    settings: AccountSettings, warehouse: Path, tmp_path: Path
) -> None:
    """Also where such rows come later, or again; what came before is masked by the next erasure."""
    link = "https://x.example/?from=Ann%40example.com"
    events = [
        {"to_address": "bob@example.com", "event_type": "click", "uuid": "1", "target_url": link,
         "dt_occurred": "2026-01-02T00:00:00Z"},
        {"to_address": "bob@example.com", "event_type": "bounce", "uuid": "2",
         "reason": "Not ann@example.com, but bob@example.com",
         "dt_occurred": "2026-01-03T00:00:00Z"},
    ]  # fmt: skip
    write_feed_file(tmp_path / "feed", "2.jsonl", NOON - DAY, events[:1])
    replicate(warehouse, settings, at=NOON)
    (receipt,) = erase(config(warehouse, settings), ids_of(["ann@example.com"]), clock=at(NOON))
    assert receipt.quoted == 1

    def texts() -> set[str | None]:
        found = read_file(warehouse, "ometria.email_events")
        return {row[name] for row in found for name in ("target_url", "bounce_reason")} - {None}

    write_feed_file(tmp_path / "feed", "3.jsonl", NOON - DAY, events[1:])
    replicate(warehouse, settings, at=NOON + HOUR)
    masked = {"https://x.example/?from=[address]", "Not [address], but bob@example.com"}
    assert texts() == masked
    rewind(config(warehouse, settings), ["email_events"], None)
    report = replicate(warehouse, settings, at=NOON + 2 * HOUR)
    assert (texts(), of(report, "email_events").inserted) == (masked, 0)

    with opened(warehouse, read_only=False) as connection:
        connection.execute("UPDATE ometria.email_events SET target_url = ? WHERE target_url <> ''",
                           [link])  # fmt: skip
        names = "reject_id, source_id, table_name, raw"
        connection.execute(
            f"INSERT INTO ometria_replica.rejects ({names}) VALUES"
            " ('1', 'uk', 'email_events', 'open;ANN%2540example.com;'),"
            " ('2', 'uk', 'email_events', 'open;joann@example.com;')"
        )
    (found,) = find(config(warehouse, settings), frozenset(), again=True)
    assert (found.quoted, found.rejects) == (1, ("1",))
    erase(config(warehouse, settings), frozenset(), again=True, clock=at(NOON + 3 * HOUR))
    assert texts() == masked
    assert [row["reject_id"] for row in state(warehouse, "rejects")] == ["2"]


def test_a_file_of_ids(tmp_path: Path) -> None:
    """
    One id a line, or CSV with columns in any order; a line that is neither is not quoted.

    Nor is it left out: a quote without its end would hide all that follows.
    """
    file = tmp_path / "ids"
    file.write_text("email:Ann@example.com\nprofile_id:1-2\n  \ncustomer-id: 55\n")
    ids = {("address", "Ann@example.com"), ("profile", "1-2"), ("customer", "55")}
    assert ids_in(file) == ids
    file.write_text('\ufeffname,customer_id,Email\n"A, B",55,Ann@example.com\nC,,c@example.com\n')
    assert ids_in(file) == {*ids, ("address", "c@example.com")} - {("profile", "1-2")}
    file.write_text('"Name, all",E-Mail, Profile ID\r\n"A\nB",Ann@example.com , 1-2,\r\n,,\r\n')
    assert ids_in(file) == ids - {("customer", "55")}
    unreadable = ('email\n"ann@example.com\nbob@example.com\n', "email\n" + "ann@" * 40_000)
    shifted = "name,email\nAnn,Other,ann@example.com\n"
    no_address = ("email:Ann Secret\n", "customer_id,email\n55,Ann Secret\n")
    for text in (
        "ann@example.com", "email:", "", "name,email\nx,\n", shifted, *no_address, *unreadable
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(ConfigError) as refused:
            ids_in(file)
        assert "ann@" not in str(refused.value).replace("email:ann@example.com,", "")
        assert "Secret" not in str(refused.value)
        place = 1 + text.startswith("customer_id")
        assert text not in no_address or f"line {place}: is no email address" in str(refused.value)
        assert "Nothing was changed" in str(refused.value)


def test_the_command_shows_numbers_and_no_data(
    shop: Account, server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """What is found, an export that only its owner can read, an erasure, its receipt, an end."""
    env = api_env(server, warehouse)
    shop.add_profile("third", email="ann@example.com", seen="perhaps")
    assert invoke("sync", env=env).exit_code == 0
    ann, file = ("--email", "ann@EXAMPLE.com"), tmp_path / "ann.json"

    shown = invoke("erase", *ann, "--dry-run", env=env).output
    assert shown.startswith(
        "ometria-uk: 1 person, with 3 profiles, 2 addresses and 1 customer id.\n"
        "Warning: 3 profiles hang together, by an address or a customer id that they share. Make"
        " sure that they are one person.\n"
    )
    assert "profiles         3" in shown
    counts = json.loads(invoke("erase", *ann, "--dry-run", "--json", env=env).output)["accounts"][0]
    assert counts["rows"] == {"profiles": 3, "member_lists": 1, "email_events": 0,
                              "unsubscribes": 1}  # fmt: skip

    told = invoke("erase", *ann, "--export", str(file), env=env).output
    assert told == f"ometria-uk: 6 rows written to {file}, which only you can read.\n"
    assert file.stat().st_mode & 0o777 == 0o600
    held = json.loads(file.read_text())["ometria-uk"]
    assert {row["first_name"] for row in held["profiles"]} == {"Ann", None}
    assert [row["raw"] for row in held["rejects"]] == ["perhaps"]

    refused = invoke("erase", *ann, env=env)
    assert "To erase without a terminal, add --yes" in str(refused.exception)
    erased = invoke("erase", *ann, "--yes", env=env).output
    assert "1 person erased, with 3 profiles, 2 addresses and 1 customer id: removed" in erased
    assert "Erase them in Ometria too" in erased
    for output in (shown, told, erased):
        assert "example" not in output.lower().replace(str(tmp_path).lower(), "")
    again = json.loads(invoke("erase", *ann, "--yes", "--json", env=env).output)["receipts"]
    assert sum(again[0]["rows"].values()) == 0
    listed = invoke("erase", "--list", env=env).output
    assert "ometria-uk: 1 person is suppressed." in listed
    assert listed.count("removed") == 2
    assert len(json.loads(invoke("erase", "--list", "--json", env=env).output)["receipts"]) == 2
    allowed = invoke("erase", *ann, "--allow", env=env).output
    assert allowed.startswith(
        "ometria-uk: 1 person may be loaded again.\nThe next sync brings only"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Say whom"),
        (("--email", " "), "An id is empty"),
        (("--list", "--email", "a@b.example"), "Leave out the ids"),
        (("--list", "--allow"), "exclude each other"),
        (("--email", "a@b.example", "--allow", "--blank"), "--blank has no effect with --allow"),
        (("--email", "a@b.example", "--yes"), "has no rows of source 'ometria-uk'"),
        (("--file", "nowhere.csv"), "cannot be read"),
        (("--email", "ann\udcff@example.com"), "An id is not written in UTF-8"),
        (("--email", "Ann"), "An email address has an @ in it, and one that was given has none"),
        (("--email", "@example.com"), "An email address has an @ in it"),
    ],
)
def test_what_the_command_refuses(
    options: tuple[str, ...], message: str, server: Server, warehouse: Path
) -> None:
    """It says what to write."""
    refused = invoke("erase", *options, env=api_env(server, warehouse))
    assert message in str(refused.exception)
