"""What the marts of email must hold: see `oracle.py`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.dbt.shown import (
    CAMPAIGN,
    KINDS,
    SOURCE,
    domain_of,
    groups,
    in_order,
    least,
    most,
    named_of,
    ratio,
    seconds_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dbt.shown import Shown
    from tests.spec.oracle import Row

CLASSES = {"10": "hard", "20": "soft", "21": "soft", "22": "soft", "24": "soft", "25": "admin"}


def sends_of(shown: Shown) -> list[Row]:
    """Make the rows of `email_sends`."""
    unsubscribes = defaultdict(list)
    for row in shown.table("unsubscribes"):
        unsubscribes[row["source_id"], row["send_id"]].append(row)
    found = []
    for events in groups(shown.events(), ("source_id", "send_key")):
        key = (events[0]["source_id"], events[0]["send_key"])
        found.append(_send(shown, in_order(events), in_order(unsubscribes[key])))
    return found


def _send(shown: Shown, events: list[Row], unsubscribes: list[Row]) -> Row:
    of = {kind: [each for each in events if each["kind"] == kind] for kind in KINDS.values()}
    titled = [each for each in of["sent"] + events if each["campaign_title"]] or of["sent"] + events
    first = {kind: least(each["event_at"] for each in found) for kind, found in of.items()}
    last = {kind: most(each["event_at"] for each in found) for kind, found in of.items()}
    email = (of["sent"][0]["email"] if of["sent"] else None) or most(e["email"] for e in events)
    bounced = of["bounced"][0] if of["bounced"] else {"bounce_class": None}
    where = [found[0] for found in (of["opened"], of["clicked"]) if found]
    rows = events + unsubscribes
    return {
        **named_of((*SOURCE, "send_key", "send_id"), events),
        "email": email,
        "email_domain": domain_of(email),
        "campaign_title": titled[0]["campaign_title"],
        "campaign_type": titled[0]["campaign_type"],
        "is_sent": bool(of["sent"]),
        "sent_at": first["sent"],
        "sent_on": shown.day(first["sent"] or least(each["event_at"] for each in events)),
        "is_delivered": not of["bounced"] or bool(where),
        "delivered_at": None,
        "is_opened": bool(of["opened"]),
        "first_opened_at": first["opened"],
        "last_opened_at": last["opened"],
        "opens": len(of["opened"]),
        "seconds_to_open": seconds_between(first["sent"], first["opened"]),
        "is_clicked": bool(of["clicked"]),
        "first_clicked_at": first["clicked"],
        "last_clicked_at": last["clicked"],
        "clicks": len(of["clicked"]),
        "links_clicked": len({each["target_url"] for each in of["clicked"]} - {None}),
        "seconds_to_click": seconds_between(first["sent"], first["clicked"]),
        "is_bounced": bool(of["bounced"]),
        "bounced_at": first["bounced"],
        "bounce_class": bounced["bounce_class"],
        "bounce_kind": _bounce_kind(bounced["bounce_class"]),
        "is_delayed": bool(of["delayed"]),
        "first_delayed_at": first["delayed"],
        "delays": len(of["delayed"]),
        "is_unsubscribed": bool(unsubscribes),
        "unsubscribed_at": unsubscribes[0]["event_at"] if unsubscribes else None,
        "unsubscribe_reason": unsubscribes[0]["unsubscribe_reason"] if unsubscribes else None,
        "is_complained": bool(of["complained"]),
        "complained_at": first["complained"],
        **{
            name: next((each[name] for each in where if each[name] is not None), None)
            for name in ("device_type", "geo_country", "geo_region")
        },
        "first_event_at": least(each["event_at"] for each in events),
        "last_event_at": most(each["event_at"] for each in events),
        "events": len(events),
        "replica_row_count": len(rows),
        "last_sync_key": max(each["sync_key"] for each in rows),
    }


def _bounce_kind(bounce_class: str | None) -> str | None:
    return None if bounce_class is None else CLASSES.get(bounce_class.strip(" ").lower(), "other")


def figures(sends: list[Row]) -> Row:
    """Make the counts and rates of sends."""
    seen = [send for send in sends if send["is_sent"]]

    def count(holds: Callable[[Row], bool]) -> int:
        return sum(map(holds, seen))

    found = {
        "sends": len(seen),
        "sends_not_seen": len(sends) - len(seen),
        "delivered": count(lambda send: send["is_delivered"]),
        "bounced": count(lambda send: send["is_bounced"]),
        **{
            f"{kind}_bounced": sum(send["bounce_kind"] == kind for send in seen)
            for kind in ("hard", "soft", "block", "admin")
        },
        "delayed": count(lambda send: send["is_delayed"]),
        "unique_opens": count(lambda send: send["is_opened"]),
        "opens": sum(send["opens"] for send in sends),
        "unique_clicks": count(lambda send: send["is_clicked"]),
        "clicks": sum(send["clicks"] for send in sends),
        "unsubscribed": count(lambda send: send["is_unsubscribed"]),
        "complained": count(lambda send: send["is_complained"]),
    }
    return found | {
        "delivery_rate": ratio(found["delivered"], found["sends"]),
        "bounce_rate": ratio(found["bounced"], found["sends"]),
        "open_rate": ratio(found["unique_opens"], found["delivered"]),
        "click_rate": ratio(found["unique_clicks"], found["delivered"]),
        "click_to_open_rate": ratio(found["unique_clicks"], found["unique_opens"]),
        "unsubscribe_rate": ratio(found["unsubscribed"], found["delivered"]),
        "complaint_rate": ratio(found["complained"], found["delivered"]),
    }


def bounces_of(sends: list[Row]) -> list[Row]:
    """Make the rows of `campaign_bounces`."""
    columns = (*CAMPAIGN, "bounce_class", "bounce_kind")
    return [
        named_of(columns, found)
        | {
            "bounced": len(found),
            "first_bounced_at": least(send["bounced_at"] for send in found),
            "last_bounced_at": most(send["bounced_at"] for send in found),
            "share_of_bounced": len(found) / len(campaign),
        }
        for campaign in groups((send for send in sends if send["is_bounced"]), CAMPAIGN)
        for found in groups(campaign, columns)
    ]
