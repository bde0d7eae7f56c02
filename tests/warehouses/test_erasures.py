"""The erasure of people in every kind of warehouse."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from ometria_replica.erasing import ids_of
from ometria_replica.errors import Busy
from ometria_replica.failpoints import step
from ometria_replica.tables import EMAIL_EVENTS, LISTS, MEMBER_LISTS, PROFILES, TABLES, UNSUBSCRIBES
from ometria_replica.warehouse.erasure import erasures
from ometria_replica.warehouse.erasure.erasures import Wanted
from ometria_replica.warehouse.local_merge import engine
from tests.warehouses.loads import (
    HOUR,
    NOON,
    Load,
    a_lease,
    opened,
    rows,
    somebody_elses,
    state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ometria_replica.batch import Lease
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

ANN = ids_of(["ann@example.com"])


def wanted(source_id: str = "uk") -> Wanted:
    return Wanted(source_id, TABLES, ANN)


def fill(warehouse: Warehouse, *sources: str) -> None:
    """Load Ann with two addresses, and Bob."""
    for source_id in sources:
        for load in (
            Load(PROFILES, [
                json.dumps({"id": "p-ann", "email": "Ann@Example.com ", "customer_id": "c-7",
                            "name": "Ann", "seen": "perhaps"}),
                json.dumps({"id": "p-old", "email": "ann@old.example", "customer_id": "c-7"}),
                json.dumps({"id": "p-bob", "email": "bob@example.com", "customer_id": "",
                            "seen": "perhaps"}),
                json.dumps({"name": "ann@example.com"}),
                json.dumps({"name": "bob@example.com"}),
            ]),
            Load(LISTS, ['{"id": "1"}']),
            Load(MEMBER_LISTS, [
                json.dumps({"id": "1", "profile_id": who, "timestamp": "2026-03-01T00:00:00Z"})
                for who in ("p-ann", "p-old", "p-bob")
            ]),
            Load(UNSUBSCRIBES, [
                json.dumps({"profile_id": "p-ann", "email_address": "ann@third.example",
                            "timestamp": "2026-03-01T00:00:00Z", "send_id": "s-1"})
            ]),
            Load(EMAIL_EVENTS, [
                json.dumps({"to_address": to, "event_type": "click", "uuid": f"of {to}",
                            "dt_occurred": "2026-03-01T10:00:00Z",
                            "campaign_title": "Spring", "target_url": f"https://x.example/{to}"})
                for to in ("ANN@example.com", "ann@third.example", "bob@example.com")
            ], file=("f", NOON)),
        ):  # fmt: skip
            Load(load.table, load.records, source_id, file=load.file).into(warehouse)


def held(place: Place, source_id: str = "uk") -> dict[str, list[str]]:
    """Give what is left, as texts by table."""
    found = {table.name: list(map(str, rows(place, table.name, source_id))) for table in TABLES}
    rejects = [str(row["raw"]) for row in state(place, "rejects") if row["source_id"] == source_id]
    return {**found, "rejects": rejects}


def test_a_person_is_removed_from_all_tables(place: Place) -> None:
    """By an address in any form, with all that hangs together; others and other sources stay."""
    with opened(place, "uk", "us") as warehouse:
        fill(warehouse, "uk", "us")
        found = warehouse.erasures.find(wanted())
        receipt = warehouse.erasures.erase(wanted(), "removed", NOON, "20260302T120000-1")

    numbers = {"profiles": 2, "member_lists": 2, "email_events": 2, "unsubscribes": 1}
    assert found.rows == receipt.rows == numbers
    assert (receipt.people, receipt.profiles, receipt.addresses, receipt.customers) == (1, 2, 3, 1)
    assert receipt.rejects == len(found.rejects) == 2
    assert receipt.emptied == ("unsubscribes",)
    left = held(place)
    assert {name: len(texts) for name, texts in left.items()} == {
        "profiles": 1, "member_lists": 1, "lists": 1, "email_events": 1, "unsubscribes": 0,
        "rejects": 2,
    }  # fmt: skip
    assert not [text for texts in left.values() for text in texts if "ann" in text.lower()]
    assert sum(map(len, held(place, "us").values())) == 3 + 3 + 1 + 3 + 1 + 4


def test_what_was_erased_is_not_loaded_again(place: Place) -> None:
    """Not by any of the ids; what is left out is counted by the staging, and others load."""
    with opened(place) as warehouse:
        fill(warehouse, "uk")
        warehouse.erasures.erase(wanted(), "removed", NOON, "20260302T120000-1")
    with opened(place) as warehouse:
        suppressed = warehouse.suppressions.of("uk", None)
    assert suppressed is not None
    assert len(suppressed.hashes) == 2 + 3 + 1
    assert "ann" not in str([state(place, "suppressions"), state(place, "erasures")]).lower()


def test_events_can_stay_without_the_person(place: Place) -> None:
    """With their type, time and campaign, and a key of which the address cannot be guessed."""
    with opened(place) as warehouse:
        fill(warehouse, "uk")
        before = {row["__sync_key"] for row in rows(place, "email_events")}
        warehouse.erasures.erase(wanted(), "blanked", NOON, "20260302T120000-1")

    events = [row for row in rows(place, "email_events") if row["email"] is None]
    assert [(row["event_type"], row["campaign_title"], row["event_at"].hour) for row in events] == [
        ("click", "Spring", 10)
    ] * 2
    assert all(row["email_event_id"] == row["__sync_key"] not in before for row in events)
    assert len(rows(place, "member_lists")) == 3
    assert not [text for texts in held(place).values() for text in texts if "ann" in text.lower()]
    assert len(rows(place, "profiles")) == 1


def test_an_address_that_rows_of_others_quote_is_masked(place: Place) -> None:
    """In links and reasons; the dry run and the receipt count the texts, and other texts stay."""
    links = {
        "one": "https://x.example/?from=ANN%40example.com&n=1",
        "two": "https://x.example/?from=joann%40example.com",
        "three": "",
    }
    with opened(place) as warehouse:
        fill(warehouse, "uk")
        Load(EMAIL_EVENTS, [
            json.dumps({"to_address": "bob@example.com", "event_type": kind, "uuid": kind,
                        "dt_occurred": "2026-03-02T10:00:00Z", "target_url": link,
                        "reason": "550 <Ann@old.example>: gone" if kind == "three" else None})
            for kind, link in links.items()
        ], file=("g", NOON)).into(warehouse)  # fmt: skip
        Load(UNSUBSCRIBES, [
            json.dumps({"profile_id": "p-bob", "email_address": "bob@example.com",
                        "timestamp": "2026-03-01T00:00:00Z", "send_id": "s-1",
                        "reason_text": "Send it to ann@third.example."})
        ]).into(warehouse)  # fmt: skip
        before = {row["__sync_key"]: row for row in rows(place, "email_events")}
        found = warehouse.erasures.find(wanted())
        receipt = warehouse.erasures.erase(wanted(), "removed", NOON, "20260302T120000-1")

    assert found.quoted == receipt.quoted == 3
    (unsubscribe,) = rows(place, "unsubscribes")
    assert unsubscribe["unsubscribe_reason_text"] == "Send it to [address]."
    events = {row["event_type"]: row for row in rows(place, "email_events")}
    assert events["one"]["target_url"] == "https://x.example/?from=[address]&n=1"
    assert events["two"]["target_url"] == links["two"]
    assert events["three"]["bounce_reason"] == "550 <[address]>: gone"
    texts = {"target_url": None, "bounce_reason": None}
    for row in events.values():
        assert row | texts == before[row["__sync_key"]] | texts


def test_an_erasure_renews_the_lease_that_it_holds(place: Place) -> None:
    """As long as it takes; if another run has taken over the account, nothing is changed."""
    hours = count(1)

    def lease() -> Lease:
        return a_lease(until=NOON + next(hours) * HOUR)

    with opened(place) as warehouse:
        fill(warehouse, "uk")
        warehouse.leases.acquire(lease(), NOON)
        warehouse.erasures.erase(wanted(), "removed", NOON, "20260302T120000-1", lease)
        (held_now,) = state(place, "leases")
        taken = [held_now["expires_at"], next(hours)]
        warehouse.leases.release(lease())
        before = held(place), len(state(place, "suppressions"))
        warehouse.leases.acquire(somebody_elses(lease()), NOON)
        bob = Wanted("uk", TABLES, ids_of(["bob@example.com"]))
        with pytest.raises(Busy, match="took over 'uk'"):
            warehouse.erasures.erase(bob, "removed", NOON, "20260302T120001-1", lease)
    assert taken[0] == NOON + (taken[1] - 1) * HOUR
    assert taken[1] > 3
    assert (held(place), len(state(place, "suppressions"))) == before


class Killed(BaseException):
    """The end of a process."""


STEPS = ("suppressions", "erasure of email_events", "erasure of profiles", "end of the erasure")


@pytest.mark.slow
def test_an_erasure_that_is_killed_is_mended_by_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    At each step: nothing was done, or the next one finds what is left by the suppressed ids.

    Even if it is of another person, since the rows that held the ids together may be gone.
    """
    with opened(place) as warehouse:
        fill(warehouse, "uk")
    for number, name in enumerate(STEPS):
        with opened(place) as warehouse:
            fill(warehouse, "uk")
        with monkeypatch.context() as patch:
            patch.setattr(erasures, "step", killing_after(name))
            with opened(place) as warehouse, pytest.raises(Killed):
                warehouse.erasures.erase(wanted(), "removed", NOON, f"20260302T12000{number}-1")
        with opened(place) as warehouse:
            was_undone = number == 0 or warehouse._engine.commits_rows_with_state
            again = wanted() if was_undone else Wanted("uk", TABLES, ids_of(["x@else.example"]))
            warehouse.erasures.erase(again, "removed", NOON + HOUR, f"20260302T13000{number}-1")
        left = held(place)
        assert not [text for texts in left.values() for text in texts if "ann" in text.lower()]
        assert len(left["profiles"]) == 1
        assert all(row["finished_at"] is not None for row in state(place, "erasures"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["delta", "iceberg", "dlt+duckdb"], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_event_is_lost_when_blanking_is_killed(
    place: Place, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whether rows were written or not: the next erasure blanks what is left, and all are there.

    An event of which only the old row was left would be blanked again, and counted once.
    """
    with opened(place) as warehouse:
        fill(warehouse, "uk")
    with monkeypatch.context() as patch:
        at_rows = killing_after("remote rows") if when == "after" else killing_before("remote rows")
        patch.setattr(engine, "step", at_rows)
        with opened(place) as warehouse, pytest.raises(Killed):
            warehouse.erasures.erase(wanted(), "blanked", NOON, "20260302T120000-1")
    assert (len(rows(place, "email_events")), len(rows(place, "member_lists"))) == (3, 3)
    with opened(place) as warehouse:
        other = Wanted("uk", TABLES, ids_of(["x@else.example"]))
        warehouse.erasures.erase(other, "blanked", NOON + HOUR, "20260302T130000-1")
    left = held(place)
    assert (len(left["email_events"]), len(left["member_lists"])) == (3, 3)
    assert not [text for texts in left.values() for text in texts if "ann" in text.lower()]


def killing_after(name: str) -> Callable[[str], AbstractContextManager[None]]:
    """Give a step that ends the process after the step *name*."""

    def interrupted(this: str) -> AbstractContextManager[None]:
        return _interrupted(this, name)

    return interrupted


def killing_before(name: str) -> Callable[[str], AbstractContextManager[None]]:
    """Give a step that ends the process before the step *name*."""

    @contextmanager
    def interrupted(this: str) -> Iterator[None]:
        if this == name:
            raise Killed
        with step(this):
            yield

    return interrupted


@contextmanager
def _interrupted(this: str, name: str) -> Iterator[None]:
    with step(this):
        yield
    if this == name:
        raise Killed


# --- addresses that Ometria replaces -----------------------------------------------------------


def test_what_is_held_of_a_replaced_address_goes_before_its_profile(place: Place) -> None:
    """A run that ends in between erases again, and finds nothing; then the profile follows."""
    following = replace(PROFILES, follows_erasures=True)
    anonymous = f"{'0' * 32}@Anonymous.Ometria"
    erased = Load(following, [
        json.dumps({"id": "p-ann", "email": anonymous}),
        json.dumps({"id": "p-new", "email": anonymous}),
    ])  # fmt: skip
    with opened(place) as warehouse:
        fill(warehouse, "uk")
        before = held(place)
        for number, rows_gone in enumerate((1, 0)):
            batch = erased.staged(warehouse)
            forget = warehouse.replaced_addresses.forget
            assert forget(batch, wanted(), NOON, f"20260302T12000{number}-1") == rows_gone
        warehouse.load(batch)
        assert forget(erased.staged(warehouse), wanted(), NOON, "20260302T120002-1") == 0
    after = held(place)
    counts = {name: len(texts) - len(before[name]) for name, texts in after.items()}
    assert counts == {
        "profiles": 1, "member_lists": 0, "lists": 0, "email_events": -1, "unsubscribes": 0,
        "rejects": counts["rejects"],
    }  # fmt: skip
    assert not [text for text in after["rejects"] if "ann@example.com" in text]
    assert {len(state(place, "suppressions")), len(state(place, "erasures"))} == {1, 2}
