"""What the marts of profiles and lists must hold: see `oracle.py`."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.dbt.shown import SOURCE, consent_of, domain_of, groups, most, named_of, seconds_between

if TYPE_CHECKING:
    from datetime import datetime

    from tests.dbt.shown import Shown
    from tests.spec.oracle import Row

WINDOWS = (30, 90, 365)


def profiles_of(shown: Shown, members: list[Row]) -> list[Row]:
    """Make the rows of `profile_current`."""
    by_address, unsubscribes, lists = defaultdict(list), defaultdict(list), defaultdict(list)
    for event in shown.events():
        if event["email"] and event["event_at"] and event["event_at"] <= shown.now:
            by_address[event["source_id"], event["email"]].append(event)
    for row in shown.table("unsubscribes"):
        unsubscribes[row["source_id"], row["profile_id"]].append(row["event_at"])
    for row in members:
        lists[row["source_id"], row["profile_id"]].append(row)
    people = shown.existing("profiles", "profile_id")
    alike = {
        (found[0]["source_id"], found[0]["email"]): len(found)
        for found in groups(people, ("source_id", "email"))
    }
    rows = []
    for person in people:
        key, address = (person["source_id"], person["profile_id"]), person["email"]
        events = by_address[person["source_id"], address]
        row = {name: value for name, value in person.items() if name not in _NOT_CURRENT}
        row |= {
            "email_domain": domain_of(address),
            "profiles_with_email": alike[person["source_id"], address] if address else None,
            "account_created_at": person["account_created_date"],
            "consent": consent_of(person),
            "opted_in_at": person["marketing_optin_date"],
            "opted_out_at": person["marketing_optout_date"],
            "unsubscribes": len(unsubscribes[key]),
            "last_unsubscribed_at": most(unsubscribes[key]),
            "lists": len(lists[key]),
            "counted_until": shown.now,
        }
        for kind, figure in (("sent", "sends"), ("opened", "opens"), ("clicked", "clicks")):
            times = [each["event_at"] for each in events if each["kind"] == kind]
            row |= {figure: len(times), f"last_{kind}_at": most(times)}
            row |= {
                f"{figure}_{days}_days": sum(t > shown.now - timedelta(days=days) for t in times)
                for days in WINDOWS
            }
        bounces = [each["event_at"] for each in events if each["kind"] == "bounced"]
        rows.append(row | {"last_bounced_at": most(bounces)})
    return rows


_NOT_CURRENT = {
    "sync_key", "seen", "address1", "address2", "shopify_tags", "updated_at",
    "account_created_date", "marketing_optin_date", "marketing_optout_date",
}  # fmt: skip


def periods_of(shown: Shown) -> list[Row]:
    """Make the rows of `list_membership_periods`."""
    there = {
        name: {(row["source_id"], row[key]): row for row in shown.existing(name, key)}
        for name, key in (("profiles", "profile_id"), ("lists", "list_id"))
    }
    titles = {(row["source_id"], row["list_id"]): row for row in shown.table("lists")}
    rows = []
    changes = [row for row in shown.table("member_lists") if row["event_at"] and row["profile_id"]]
    for moves in groups(changes, (*SOURCE, "list_id", "profile_id")):
        periods = _lived([(row["event_at"], row["event"]) for row in moves])
        for number, (entered_at, left_at) in enumerate(periods, 1):
            row = named_of((*SOURCE, "list_id", "profile_id"), moves)
            a_list = titles.get((row["source_id"], row["list_id"]), {})
            status = "member"
            if (row["source_id"], row["profile_id"]) not in there["profiles"]:
                status = "profile deleted"
            if (row["source_id"], row["list_id"]) not in there["lists"]:
                status = "list deleted"
            rows.append(
                row
                | {
                    "list_title": a_list.get("list_title"),
                    "list_type": a_list.get("list_type"),
                    "period_number": number,
                    "entered_at": entered_at,
                    "left_at": left_at,
                    "entered_on": shown.day(entered_at),
                    "left_on": shown.day(left_at),
                    "seconds_in_list": seconds_between(entered_at, left_at),
                    "status": "left" if left_at else status,
                }
            )
    return rows


def _lived(moves: list[tuple[datetime, str]]) -> list[tuple[datetime | None, datetime | None]]:
    """Replay moves, of which no two have one time: the specified key holds the time."""
    periods: list[tuple[datetime | None, datetime | None]] = []
    is_known, since = False, None
    for moment, event in sorted(moves):
        if event == "list_enter" and since is None:
            since = moment
        elif event == "list_exit" and (since is not None or not is_known):
            periods.append((since, moment))
            since = None
        is_known = True
    return [*periods, (since, None)] if since else periods


def members_of(shown: Shown, periods: list[Row]) -> list[Row]:
    """Make the rows of `list_members_current`."""
    addresses = {
        (row["source_id"], row["profile_id"]): row["email"] for row in shown.table("profiles")
    }
    kept = (*SOURCE, "list_id", "list_title", "list_type", "profile_id", "entered_at", "entered_on")
    return [
        {column: row[column] for column in kept}
        | {
            "email": addresses[row["source_id"], row["profile_id"]],
            "times_entered": row["period_number"],
        }
        for row in periods
        if row["status"] == "member"
    ]


def reasons_of(shown: Shown) -> list[Row]:
    """Make the rows of `unsubscribe_reasons`."""
    rows = [
        row
        | {
            "unsubscribed_on": shown.day(row["event_at"]),
            "unsubscribe_reason": (row["unsubscribe_reason"] or "").strip(" ") or "none given",
        }
        for row in shown.table("unsubscribes")
    ]
    columns = (*SOURCE, "unsubscribed_on", "unsubscribe_reason")
    counts = {
        "after_a_send": "send_id",
        "after_a_broadcast": "mass_campaign_id",
        "after_an_automation": "trigger_campaign_id",
    }
    return [
        named_of(columns, found)
        | {
            "unsubscribes": len(found),
            "profiles": len({row["profile_id"] for row in found} - {None}),
            "with_a_text": sum(
                bool((r["unsubscribe_reason_text"] or "").strip(" ")) for r in found
            ),
        }
        | {name: sum(row[column] is not None for row in found) for name, column in counts.items()}
        for found in groups(rows, columns)
    ]
