"""The generated shop: reproducible, realistic, and changing over time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ometria_simulator import Account, time_passes
from ometria_simulator.records import API_OPT_OUT, ListChange

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)

_FINGERPRINT = """
from datetime import timedelta
from tests.simulator.test_account import fingerprint
from ometria_simulator import Account
account = Account.create(3, profiles=200, lists=4, email_events=500)
account.advance(timedelta(days=3))
print(fingerprint(account))
"""


def fingerprint(account: Account) -> str:
    """Hash everything that the account can show, in order."""
    shown = [
        [profile.record() for profile in account.profiles],
        [segment.record() for segment in account.lists],
        [change.record(with_list_id=True) for change in account.changes],
        [unsubscribe.record() for unsubscribe in account.unsubscribes],
        [event.cells("postgres_micro") for event in account.events],
        [request.record() for request in account.deletion_requests],
        [account.shop.order_record(order) for order in account.shop.orders],
        [product.record() for product in account.shop.products],
        [c.record() for name in account.shop.collections for c in account.shop.contacts(name)],
        [event.record() for event in account.shop.custom_events],
        [error.record() for error in account.shop.push_errors],
        str(account.now),
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


@pytest.fixture(scope="module")
def big() -> Account:
    """Return a shop that is large enough to measure rates; no test changes it."""
    return Account.create(profiles=3_000, lists=20, email_events=12_000)


def test_the_same_seed_gives_the_same_account_in_any_process() -> None:
    """Three simulated days give the same bytes in processes with different hash seeds."""
    root = Path(__file__).parents[2]
    prints = {
        subprocess.run(
            [sys.executable, "-c", _FINGERPRINT],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")]),
                "PYTHONHASHSEED": seed,
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = Account.create(3, profiles=200, lists=4, email_events=500)
    here.advance(timedelta(days=3))

    assert prints == {f"{fingerprint(here)}\n"}


def test_another_seed_gives_another_account() -> None:
    """Accounts with different seeds differ."""
    one = Account.create(1, profiles=20, lists=1, email_events=20)
    two = Account.create(2, profiles=20, lists=1, email_events=20)

    assert fingerprint(one) != fingerprint(two)


def test_sizes_are_exact() -> None:
    """As many profiles, lists and events as were asked for, with changes and unsubscribes."""
    account = Account.create(profiles=5_000, lists=30, email_events=20_000)

    counts = account.counts()
    assert counts["profiles"] == 5_000
    assert counts["lists"] == 30
    assert counts["email_events"] == 20_000
    assert counts["changes"] > 1_000
    assert counts["unsubscribes"] > 100


@pytest.mark.parametrize(("profiles", "events"), [(0, 0), (1, 0), (0, 50), (1, 50)])
def test_tiny_accounts_can_advance(profiles: int, events: int) -> None:
    """Time also passes with one profile or none; without profiles there are no mails."""
    account = Account.create(profiles=profiles, lists=1, email_events=events)
    account.advance(timedelta(days=2))

    assert account.now == NOW + timedelta(days=2)
    assert len(account.events) >= (events if profiles else 0)


@pytest.mark.parametrize("count", range(1, 9))
def test_any_number_of_events_is_exact(count: int) -> None:
    """A mail has several events; the surplus of the last mail is dropped."""
    account = Account.create(count, profiles=30, lists=0, email_events=count)

    assert len(account.events) == count


@pytest.mark.parametrize("fate", ["_MERGE", "_DELETE"])
def test_a_small_shop_keeps_its_last_profile(fate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges and deletes leave one profile, and none is merged with itself."""
    monkeypatch.setattr(time_passes, fate, 0.5)
    account = Account.create(profiles=5, lists=2, email_events=40)
    account.advance(timedelta(days=60))

    assert len(account.profiles) == 1
    assert account.now == NOW + timedelta(days=60)


def test_the_number_of_lists_is_stable_over_years() -> None:
    """New, archived and deleted lists balance over three years."""
    account = Account.create(profiles=3, lists=10, email_events=0)
    account.advance(timedelta(days=1_000))

    assert 0 < sum(not segment.archived for segment in account.lists) < 40


def test_a_deleted_profile_has_no_list_exit() -> None:
    """A deleted profile is no longer a member, and its entry stays in the changes."""
    account = Account()
    account.add_profile(id="a")
    account.add_list(id="1")
    account.refresh_list("1", enter=["a"])

    account.delete_profile("a")

    assert account.members("1") == []
    assert [change.event for change in account.changes_of("1")] == ["list_enter"]


def test_profiles_have_every_documented_form(big: Account) -> None:
    """Ids, opt-ins, tags, addresses and missing fields have all known forms."""
    records = [profile.record() for profile in big.profiles]
    optins = {repr(record["marketing_optin"]) for record in records if "marketing_optin" in record}
    tags = {
        type(record["properties"].get("shopify_tags")).__name__
        for record in records
        if isinstance(record["properties"], dict)
    }
    emails = [profile.email for profile in big.profiles]
    addresses = [email for email in emails if email]

    assert all(re.fullmatch(r"[0-9a-f]+(-[0-9a-f]+)+", str(record["id"])) for record in records)
    assert optins == {
        "True",
        "False",
        "None",
        "'EXPLICITLY_OPTEDIN'",
        "'NOT_SPECIFIED'",
        "'EXPLICITLY_OPTEDOUT'",
    }
    assert tags == {"str", "list", "NoneType"}
    assert None in emails
    assert any("+" in address for address in addresses)
    assert any(address != address.lower() for address in addresses)
    assert len(set(addresses)) < len(addresses)
    assert any("loyalty_v2" in record for record in records)
    assert any("customer_id" not in record for record in records)
    assert any(record.get("customer_id", "") is None for record in records)
    assert any("\n" in str(record.get("lastname")) for record in records)
    assert len({type(record["properties"].get("survey")) for record in records}) > 4  # type: ignore[union-attr]


def test_every_address_is_at_an_example_domain(big: Account) -> None:
    """All domains are reserved for examples."""
    domains = {profile.email.rpartition("@")[2] for profile in big.profiles if profile.email}

    assert domains == {
        "example.com",
        "example.net",
        "example.org",
        "mail.example.com",
        "shop.example",
    }


@pytest.mark.parametrize("asked", [True, False])
def test_nul_characters_are_optional(*, asked: bool) -> None:
    """U+0000 is in some names and titles with ``nul_characters``, and in none without."""
    account = Account.create(profiles=500, lists=0, email_events=500, nul_characters=asked)

    names = [str(profile.fields.get("lastname")) for profile in account.profiles]
    titles = [str(event.campaign_title) for event in account.events]
    assert any("\x00" in name for name in names) == asked
    assert any("\x00" in title for title in titles) == asked


def test_dates_and_figures_are_consistent(big: Account) -> None:
    """Profiles with orders have ordered purchase dates, none in the future, and are no leads."""
    for profile in big.profiles:
        dates, stats = profile.fields["dates"], profile.fields["stats"]
        assert isinstance(dates, dict)
        assert isinstance(stats, dict)
        first, last = dates["first_purchase"], dates["last_purchase"]
        assert bool(stats["orders"]) == bool(first)
        assert (profile.fields["lifecycle_status"] == "lead") == (not first)
        if first:
            assert str(dates["acquired"]) <= str(first) <= str(last) <= "2026-03-02T09:00:00+00:00"
        assert profile.created_at <= profile.updated_at <= NOW


def test_a_message_has_one_send_before_its_other_events(big: Account) -> None:
    """Events of one message have one uuid; none is before its send or follows a bounce."""
    first: dict[str, datetime] = {}
    kinds = Counter(event.event_type for event in big.events)
    for event in big.events:
        if event.event_type == "send" and event.uuid:
            assert event.uuid not in first
            first[event.uuid] = event.dt_occurred
    bounced = {event.uuid for event in big.events if event.event_type == "bounce"}
    for event in big.events:
        if event.uuid in first:
            assert event.dt_occurred >= first[event.uuid]
        if event.uuid in bounced:
            assert event.event_type in {"send", "bounce"}

    assert kinds["send"] > kinds["open"] > kinds["click"] > kinds["bounce"] > kinds["delay"] > 0
    assert kinds["spam_complaint"] > 0


def test_some_events_have_the_same_address_type_and_second(big: Account) -> None:
    """Two clicks in one second are two events with the same specified key."""
    seen = Counter(
        (event.to_address, event.event_type, event.cells("iso")["dt_occurred"])
        for event in big.events
    )

    assert max(seen.values()) == 2
    assert {kind for (_, kind, _), times in seen.items() if times > 1} == {"click"}


def test_some_events_are_available_days_later(big: Account) -> None:
    """A late event is available more than a day after it occurred, and none is early."""
    waits = [event.available_at - event.dt_occurred for event in big.events]

    assert min(waits) > timedelta(0)
    assert 0 < sum(wait > timedelta(days=1) for wait in waits) < len(waits) * 0.02


def test_changes_replay_to_the_members(big: Account) -> None:
    """Entries and exits of a profile alternate, and their replay gives the members of a list."""
    for segment in big.lists:
        inside: dict[str, None] = {}
        changes = big.changes_of(segment.id)
        for change in changes:
            assert (change.profile_id in inside) == (change.event == "list_exit")
            if change.event == "list_enter":
                inside[change.profile_id] = None
            else:
                del inside[change.profile_id]
        assert list(inside) == big.members(segment.id)
        assert all(one.at <= two.at for one, two in pairwise(changes))


def test_some_profiles_leave_and_enter_at_one_refresh(big: Account) -> None:
    """The exit and the entry have one timestamp: the specified key merges them."""
    assert _collisions(big.changes)


def test_lists_have_both_types_and_modes() -> None:
    """Static and dynamic, active and archived lists all occur."""
    account = Account.create(profiles=10, lists=60, email_events=0)

    assert {segment.type for segment in account.lists} == {"STATIC", "DYNAMIC"}
    assert {segment.archived for segment in account.lists} == {True, False}
    assert all(len(segment.title) <= 64 for segment in account.lists)


def test_unsubscribes_have_every_type(big: Account) -> None:
    """All documented types occur: SMS without an address, mails with their send."""
    by_type = {unsubscribe.type: unsubscribe for unsubscribe in big.unsubscribes}

    assert set(by_type) == {
        "preferences_centre",
        "app",
        "list_unsubscribe",
        "link_unsubscribe",
        "stopword_unsubscribe_TF",
        "stopword_unsubscribe_DO",
        API_OPT_OUT,
    }
    assert not by_type["stopword_unsubscribe_TF"].email_address
    sends = {event.uuid for event in big.events}
    named = {unsubscribe.send_id for unsubscribe in big.unsubscribes if unsubscribe.send_id}
    assert named
    assert named <= sends


def test_time_changes_everything() -> None:
    """A month adds, updates and removes profiles, refreshes lists and sends mails."""
    account = Account.create(profiles=2_000, lists=20, email_events=6_000)
    before = {profile.id: profile for profile in account.profiles}
    counts = account.counts()

    account.advance(timedelta(days=30))

    after = {profile.id: profile for profile in account.profiles}
    assert account.now == NOW + timedelta(days=30)
    assert after.keys() - before.keys()
    assert before.keys() - after.keys()
    updated = [i for i in before.keys() & after.keys() if after[i].updated_at > NOW]
    assert 100 < len(updated) < 1_500
    assert all(change.at <= account.now for change in account.changes)
    later = account.counts()
    for name in ("changes", "unsubscribes", "email_events", "deletion_requests"):
        assert later[name] > counts[name], name
    new_events = later["email_events"] - counts["email_events"]
    assert new_events == pytest.approx(1_000, rel=0.4)


def test_time_completes_deletion_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is open at first; then the profile is anonymous and gets no more mail."""
    monkeypatch.setattr(time_passes, "_ANONYMISE", 0.02)
    account = Account.create(profiles=200, lists=2, email_events=2_000)
    account.advance(timedelta(days=30))

    requests = account.deletion_requests
    anonymous = [profile for profile in account.profiles if profile.is_anonymous]
    assert any(request.completed_at is None for request in requests)
    assert len(anonymous) > 20
    for profile in anonymous:
        assert profile.fields.get("lastname") is None
    done = {hashed for r in requests if r.completed_at for hashed in r.hashed_emails}
    assert {profile.email for profile in anonymous} <= done
    assert all(
        timedelta() <= r.completed_at - r.created_at <= timedelta(days=14)
        for r in requests
        if r.completed_at
    )
    assert not any("anonymous.ometria" in (event.to_address or "") for event in account.events)


def test_refreshes_are_regular() -> None:
    """A daily list has changes only at whole days after its first refresh."""
    account = Account.create(profiles=500, lists=0, email_events=0)
    account.add_list(id="1", type="DYNAMIC", refresh_every=timedelta(days=1))
    account.refresh_list("1", enter=[profile.id for profile in account.profiles[:200]])
    account.update_list("1", refresh_every=timedelta(days=1))

    account.advance(timedelta(days=6, hours=5))

    times = {change.at - NOW for change in account.changes_of("1")}
    assert times <= {timedelta(days=days) for days in range(7)}
    assert len(times) > 3


def test_an_archived_list_does_not_refresh() -> None:
    """A list has no new changes after it is archived."""
    account = Account.create(profiles=500, lists=0, email_events=0)
    account.add_list(id="1", type="DYNAMIC", refresh_every=timedelta(hours=4))
    account.refresh_list("1", enter=[profile.id for profile in account.profiles[:200]])
    account.archive_list("1")

    account.advance(timedelta(days=3))

    assert len(account.changes_of("1")) == 200


def test_an_event_waits_until_it_is_available() -> None:
    """The account has a future event only from its available time on."""
    account = Account()
    account.add_event("a@example.com", "open", available_at=NOW + timedelta(days=2))

    assert account.events == []
    account.set_time(NOW + timedelta(days=2))
    assert [event.event_type for event in account.events] == ["open"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda account: account.profile("nobody"),
        lambda account: account.delete_profile("nobody"),
        lambda account: account.refresh_list("nothing"),
        lambda account: account.add_change("nothing", "p", "list_enter"),
    ],
)
def test_a_change_to_a_missing_object_fails(wrong: object) -> None:
    """A profile or list that does not exist raises KeyError."""
    assert callable(wrong)
    with pytest.raises(KeyError):
        wrong(Account())


def test_ids_are_unique() -> None:
    """A second profile or list with the same id is refused."""
    account = Account()
    account.add_profile(id="a")
    account.add_list(id="1")

    with pytest.raises(ValueError, match="'a' exists already"):
        account.add_profile(id="a")
    with pytest.raises(ValueError, match="'1' exists already"):
        account.add_list(id="1")


def _collisions(changes: list[ListChange]) -> int:
    keys = Counter((change.list_id, change.profile_id, change.at) for change in changes)
    return sum(times > 1 for times in keys.values())
