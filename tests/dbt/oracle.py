"""
What the marts must hold, in plain Python from the rows that the simulator's state makes.

Nothing here comes from the replica or from the package: `tests/e2e/oracle.py` has the rows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

    from tests.spec.oracle import Row

KINDS = {
    "send": "sent", "open": "opened", "click": "clicked", "bounce": "bounced", "delay": "delayed",
    "spam_complaint": "complained",
}  # fmt: skip
CLASSES = {"10": "hard", "20": "soft", "21": "soft", "22": "soft", "24": "soft", "25": "admin"}
CONSENTS = {
    "true": "opted_in", "explicitly_optedin": "opted_in",
    "false": "opted_out", "explicitly_optedout": "opted_out",
}  # fmt: skip
SOURCE = ("source_id", "account_id")
CAMPAIGN = (*SOURCE, "campaign_type", "campaign_title")
WINDOWS = (30, 90, 365)
ATTRIBUTION = timedelta(days=7)
_END = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Shown:
    """
    All that the accounts have shown, at the moment *now*, with days in the time *zone*.

    *rows* are those of the tables, and *deleted* names the records that are gone, by table,
    source and id.
    """

    rows: Mapping[str, list[Row]]
    deleted: frozenset[tuple[str, str, str]]
    now: datetime
    zone: str

    def table(self, name: str) -> list[Row]:
        """Give the rows of a table, with the names and addresses of the models."""
        return [_staged(row) for row in self.rows[name]]

    def existing(self, name: str, record_id: str) -> list[Row]:
        """Give the rows whose records Ometria has."""
        return [
            row
            for row in self.table(name)
            if (name, row["source_id"], row[record_id]) not in self.deleted
        ]

    def day(self, moment: datetime | None) -> date | None:
        """Give the day of a moment."""
        return moment.astimezone(ZoneInfo(self.zone)).date() if moment else None

    def events(self) -> list[Row]:
        """Give the events, with what each says."""
        return [
            {
                **row,
                "send_key": row["send_id"] or row["sync_key"],
                "kind": KINDS.get((row["event_type"] or "").strip().lower(), "other"),
            }
            for row in self.table("email_events")
        ]


def marts(shown: Shown) -> dict[str, list[Row]]:
    """Make the rows of each mart but `lifecycle_daily`, which depends on when dbt ran."""
    sends = _sends(shown)
    periods = _periods(shown)
    members = _members(shown, periods)
    attributed = _attributed(shown, sends)
    by_day = (*CAMPAIGN, "sent_on")
    return {
        "email_sends": sends,
        "campaign_performance": [
            _figures(found)
            | {
                "first_sent_at": _least(send["sent_at"] for send in found),
                "last_sent_at": _most(send["sent_at"] for send in found),
                "days": len({send["sent_on"] for send in found if send["is_sent"]}),
            }
            | _named(CAMPAIGN, found)
            for found in _groups(sends, CAMPAIGN)
        ],
        "campaign_performance_daily": [
            _figures(found) | _named(by_day, found) for found in _groups(sends, by_day)
        ],
        "campaign_bounces": _bounces(sends),
        "deliverability_daily": [
            _figures(found) | _named((*SOURCE, "sent_on", "email_domain"), found)
            for found in _groups(sends, (*SOURCE, "sent_on", "email_domain"))
        ],
        "profile_current": _profiles(shown, members),
        "list_membership_periods": periods,
        "list_members_current": members,
        "unsubscribe_reasons": _reasons(shown),
        "customer_orders": _customers(shown),
        "order_attribution": attributed,
        "campaign_revenue": _revenue(attributed),
    }


def stages(shown: Shown) -> dict[tuple[Any, ...], int]:
    """Count the profiles that Ometria has by source, account, stage and consent."""
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in shown.existing("profiles", "profile_id"):
        stage = (row["lifecycle_status"] or "").strip(" ") or "unknown"
        counts[row["source_id"], row["account_id"], stage, _consent(row)] += 1
    return dict(counts)


def consents(shown: Shown, lifecycle: Iterable[Row]) -> list[Row]:
    """Make the rows of `consent_daily`, with the states of the rows of `lifecycle_daily`."""
    days: dict[tuple[Any, ...], Row] = {}

    def of(row: Row, day: date | None) -> Row:
        key = (row["source_id"], row["account_id"], day)
        flows = dict.fromkeys(("opt_ins", "opt_outs", "unsubscribes"), 0)
        states = dict.fromkeys(("opted_in", "opted_out", "unknown"))
        return days.setdefault(key, dict(zip((*SOURCE, "day"), key, strict=True)) | flows | states)

    for row in shown.existing("profiles", "profile_id"):
        for name in ("optin", "optout"):
            if moment := row[f"marketing_{name}_date"]:
                of(row, shown.day(moment))[f"opt_{name.removeprefix('opt')}s"] += 1
    for row in shown.table("unsubscribes"):
        if row["event_at"]:
            of(row, shown.day(row["event_at"]))["unsubscribes"] += 1
    for row in lifecycle:
        found = of(row, row["day"])
        for name in ("opted_in", "opted_out", "unknown"):
            found[name] = (found[name] or 0) + (row["profiles"] if row["consent"] == name else 0)
    return list(days.values())


def _staged(row: Row) -> Row:
    lineage = {"__source_id": "source_id", "_account_id": "account_id", "__sync_key": "sync_key"}
    named = {lineage.get(name, name): value for name, value in row.items()}
    if "email" in named:
        named["email"] = (named["email"] or "").strip(" \t\n\v\f\r").lower() or None
    return named


def _groups(rows: Iterable[Row], columns: tuple[str, ...]) -> list[list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in columns)].append(row)
    return list(found.values())


def _named(columns: tuple[str, ...], rows: list[Row]) -> Row:
    return {column: rows[0][column] for column in columns}


def _least(values: Iterable[Any]) -> Any:
    return min((value for value in values if value is not None), default=None)


def _most(values: Iterable[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


def _domain(address: str | None) -> str | None:
    return address.rpartition("@")[2] or None if address and "@" in address else None


def _consent(row: Row) -> str:
    return CONSENTS.get((row["marketing_optin"] or "").strip(" ").lower(), "unknown")


def _seconds(first: datetime | None, last: datetime | None) -> int | None:
    return None if not first or not last or last < first else (last - first) // timedelta(seconds=1)


def _in_order(events: Iterable[Row]) -> list[Row]:
    return sorted(events, key=lambda each: (each["event_at"] or _END, each["sync_key"]))


def _sends(shown: Shown) -> list[Row]:
    unsubscribes = defaultdict(list)
    for row in shown.table("unsubscribes"):
        unsubscribes[row["source_id"], row["send_id"]].append(row)
    found = []
    for events in _groups(shown.events(), ("source_id", "send_key")):
        key = (events[0]["source_id"], events[0]["send_key"])
        found.append(_send(shown, _in_order(events), _in_order(unsubscribes[key])))
    return found


def _send(shown: Shown, events: list[Row], unsubscribes: list[Row]) -> Row:
    of = {kind: [each for each in events if each["kind"] == kind] for kind in KINDS.values()}
    titled = [each for each in of["sent"] + events if each["campaign_title"]] or of["sent"] + events
    first = {kind: _least(each["event_at"] for each in found) for kind, found in of.items()}
    last = {kind: _most(each["event_at"] for each in found) for kind, found in of.items()}
    email = (of["sent"][0]["email"] if of["sent"] else None) or _most(e["email"] for e in events)
    bounced = of["bounced"][0] if of["bounced"] else {"bounce_class": None}
    where = [found[0] for found in (of["opened"], of["clicked"]) if found]
    rows = events + unsubscribes
    return {
        **_named((*SOURCE, "send_key", "send_id"), events),
        "email": email,
        "email_domain": _domain(email),
        "campaign_title": titled[0]["campaign_title"],
        "campaign_type": titled[0]["campaign_type"],
        "is_sent": bool(of["sent"]),
        "sent_at": first["sent"],
        "sent_on": shown.day(first["sent"] or _least(each["event_at"] for each in events)),
        "is_delivered": not of["bounced"] or bool(where),
        "delivered_at": None,
        "is_opened": bool(of["opened"]),
        "first_opened_at": first["opened"],
        "last_opened_at": last["opened"],
        "opens": len(of["opened"]),
        "seconds_to_open": _seconds(first["sent"], first["opened"]),
        "is_clicked": bool(of["clicked"]),
        "first_clicked_at": first["clicked"],
        "last_clicked_at": last["clicked"],
        "clicks": len(of["clicked"]),
        "links_clicked": len({each["target_url"] for each in of["clicked"]} - {None}),
        "seconds_to_click": _seconds(first["sent"], first["clicked"]),
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
        "first_event_at": _least(each["event_at"] for each in events),
        "last_event_at": _most(each["event_at"] for each in events),
        "events": len(events),
        "replica_row_count": len(rows),
        "last_sync_key": max(each["sync_key"] for each in rows),
    }


def _bounce_kind(bounce_class: str | None) -> str | None:
    return None if bounce_class is None else CLASSES.get(bounce_class.strip(" ").lower(), "other")


def _figures(sends: list[Row]) -> Row:
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
        "delivery_rate": _ratio(found["delivered"], found["sends"]),
        "bounce_rate": _ratio(found["bounced"], found["sends"]),
        "open_rate": _ratio(found["unique_opens"], found["delivered"]),
        "click_rate": _ratio(found["unique_clicks"], found["delivered"]),
        "click_to_open_rate": _ratio(found["unique_clicks"], found["unique_opens"]),
        "unsubscribe_rate": _ratio(found["unsubscribed"], found["delivered"]),
        "complaint_rate": _ratio(found["complained"], found["delivered"]),
    }


def _bounces(sends: list[Row]) -> list[Row]:
    columns = (*CAMPAIGN, "bounce_class", "bounce_kind")
    return [
        _named(columns, found)
        | {
            "bounced": len(found),
            "first_bounced_at": _least(send["bounced_at"] for send in found),
            "last_bounced_at": _most(send["bounced_at"] for send in found),
            "share_of_bounced": len(found) / len(campaign),
        }
        for campaign in _groups((send for send in sends if send["is_bounced"]), CAMPAIGN)
        for found in _groups(campaign, columns)
    ]


def _profiles(shown: Shown, members: list[Row]) -> list[Row]:
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
        for found in _groups(people, ("source_id", "email"))
    }
    rows = []
    for person in people:
        key, address = (person["source_id"], person["profile_id"]), person["email"]
        events = by_address[person["source_id"], address]
        row = {name: value for name, value in person.items() if name not in _NOT_CURRENT}
        row |= {
            "email_domain": _domain(address),
            "profiles_with_email": alike[person["source_id"], address] if address else None,
            "account_created_at": person["account_created_date"],
            "consent": _consent(person),
            "opted_in_at": person["marketing_optin_date"],
            "opted_out_at": person["marketing_optout_date"],
            "unsubscribes": len(unsubscribes[key]),
            "last_unsubscribed_at": _most(unsubscribes[key]),
            "lists": len(lists[key]),
            "counted_until": shown.now,
        }
        for kind, figure in (("sent", "sends"), ("opened", "opens"), ("clicked", "clicks")):
            times = [each["event_at"] for each in events if each["kind"] == kind]
            row |= {figure: len(times), f"last_{kind}_at": _most(times)}
            row |= {
                f"{figure}_{days}_days": sum(t > shown.now - timedelta(days=days) for t in times)
                for days in WINDOWS
            }
        bounces = [each["event_at"] for each in events if each["kind"] == "bounced"]
        rows.append(row | {"last_bounced_at": _most(bounces)})
    return rows


_NOT_CURRENT = {
    "sync_key", "seen", "address1", "address2", "shopify_tags", "updated_at",
    "account_created_date", "marketing_optin_date", "marketing_optout_date",
}  # fmt: skip


def _periods(shown: Shown) -> list[Row]:
    there = {
        name: {(row["source_id"], row[key]): row for row in shown.existing(name, key)}
        for name, key in (("profiles", "profile_id"), ("lists", "list_id"))
    }
    titles = {(row["source_id"], row["list_id"]): row for row in shown.table("lists")}
    rows = []
    changes = [row for row in shown.table("member_lists") if row["event_at"] and row["profile_id"]]
    for moves in _groups(changes, (*SOURCE, "list_id", "profile_id")):
        periods = _lived([(row["event_at"], row["event"]) for row in moves])
        for number, (entered_at, left_at) in enumerate(periods, 1):
            row = _named((*SOURCE, "list_id", "profile_id"), moves)
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
                    "seconds_in_list": _seconds(entered_at, left_at),
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


def _members(shown: Shown, periods: list[Row]) -> list[Row]:
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


def _reasons(shown: Shown) -> list[Row]:
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
        _named(columns, found)
        | {
            "unsubscribes": len(found),
            "profiles": len({row["profile_id"] for row in found} - {None}),
            "with_a_text": sum(
                bool((r["unsubscribe_reason_text"] or "").strip(" ")) for r in found
            ),
        }
        | {name: sum(row[column] is not None for row in found) for name, column in counts.items()}
        for found in _groups(rows, columns)
    ]


def _customers(shown: Shown) -> list[Row]:
    profiles = defaultdict(list)
    for row in shown.existing("profiles", "profile_id"):
        profiles[row["source_id"], row["customer_id"]].append(row)
    rows = []
    columns = (*SOURCE, "customer_id", "currency")
    orders = [row for row in shown.existing("orders", "order_id") if row["customer_id"] is not None]
    for found in _groups(orders, columns):
        valid = [row for row in found if row["is_valid"] is not False]
        same = profiles[found[0]["source_id"], found[0]["customer_id"]]
        sums = {
            name: sum((row[column] or Decimal(0) for row in valid), Decimal(0))
            for name, column in (
                ("units", "total_unit_quantity"), ("revenue", "grand_total"),
                ("refunded", "total_refunded"), ("discount", "discount"),
            )
        }  # fmt: skip
        rows.append(
            _named(columns, found)
            | sums
            | {
                "profiles": len(same),
                "profile_id": same[0]["profile_id"] if len(same) == 1 else None,
                "email": same[0]["email"] if len(same) == 1 else None,
                "orders": len(valid),
                "invalid_orders": len(found) - len(valid),
                "first_ordered_at": _least(row["ordered_at"] for row in valid),
                "last_ordered_at": _most(row["ordered_at"] for row in valid),
                "net_revenue": sums["revenue"] - sums["refunded"],
                "orders_with_coupon": sum(bool(row["coupon_code"]) for row in valid),
                "average_order_value": _ratio(sums["revenue"], len(valid)),
            }
        )
    return rows


def _attributed(shown: Shown, sends: list[Row]) -> list[Row]:
    addresses = {
        (row["source_id"], row["customer_id"], row["email"]) for row in shown.table("profiles")
    }
    campaigns = {(send["source_id"], send["send_key"]): send for send in sends}
    clicks = [each for each in shown.events() if each["kind"] == "clicked" and each["email"]]
    rows = []
    for order in shown.existing("orders", "order_id"):
        if order["is_valid"] is False or not order["customer_id"] or not order["ordered_at"]:
            continue
        before = [
            each
            for each in clicks
            if (each["source_id"], order["customer_id"], each["email"]) in addresses
            and each["source_id"] == order["source_id"]
            and order["ordered_at"] - ATTRIBUTION <= each["event_at"] <= order["ordered_at"]
        ]
        if not before:
            continue
        click = max(before, key=lambda each: (each["event_at"], each["sync_key"]))
        send = campaigns[click["source_id"], click["send_key"]]
        rows.append(
            _named((*SOURCE, "order_id", "customer_id", "ordered_at", "currency"), [order])
            | {
                "ordered_on": shown.day(order["ordered_at"]),
                "revenue": order["grand_total"] or Decimal(0),
                "refunded": order["total_refunded"] or Decimal(0),
                "send_key": click["send_key"],
                "campaign_type": send["campaign_type"],
                "campaign_title": send["campaign_title"],
                "clicked_at": click["event_at"],
                "seconds_to_order": _seconds(click["event_at"], order["ordered_at"]),
            }
        )
    return rows


def _revenue(attributed: list[Row]) -> list[Row]:
    columns = (*CAMPAIGN, "ordered_on", "currency")
    rows = []
    for found in _groups(attributed, columns):
        revenue = sum((row["revenue"] for row in found), Decimal(0))
        refunded = sum((row["refunded"] for row in found), Decimal(0))
        rows.append(
            _named(columns, found)
            | {
                "orders": len(found),
                "customers": len({row["customer_id"] for row in found}),
                "revenue": revenue,
                "refunded": refunded,
                "net_revenue": revenue - refunded,
            }
        )
    return rows
