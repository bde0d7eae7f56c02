"""
What the marts must hold, in plain Python from the rows that the simulator's state makes.

Nothing here comes from the replica or from the package: `tests/e2e/oracle.py` has the rows.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.dbt.email_oracle import bounces_of, figures, sends_of
from tests.dbt.order_oracle import attributed_of, customers_of, revenue_of
from tests.dbt.people_oracle import members_of, periods_of, profiles_of, reasons_of
from tests.dbt.shown import CAMPAIGN, SOURCE, consent_of, groups, least, most, named_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from tests.dbt.shown import Shown
    from tests.spec.oracle import Row


def marts(shown: Shown) -> dict[str, list[Row]]:
    """Make the rows of each mart but `lifecycle_daily`, which depends on when dbt ran."""
    sends = sends_of(shown)
    periods = periods_of(shown)
    members = members_of(shown, periods)
    attributed = attributed_of(shown, sends)
    by_day = (*CAMPAIGN, "sent_on")
    return {
        "email_sends": sends,
        "campaign_performance": [
            figures(found)
            | {
                "first_sent_at": least(send["sent_at"] for send in found),
                "last_sent_at": most(send["sent_at"] for send in found),
                "days": len({send["sent_on"] for send in found if send["is_sent"]}),
            }
            | named_of(CAMPAIGN, found)
            for found in groups(sends, CAMPAIGN)
        ],
        "campaign_performance_daily": [
            figures(found) | named_of(by_day, found) for found in groups(sends, by_day)
        ],
        "campaign_bounces": bounces_of(sends),
        "deliverability_daily": [
            figures(found) | named_of((*SOURCE, "sent_on", "email_domain"), found)
            for found in groups(sends, (*SOURCE, "sent_on", "email_domain"))
        ],
        "profile_current": profiles_of(shown, members),
        "list_membership_periods": periods,
        "list_members_current": members,
        "unsubscribe_reasons": reasons_of(shown),
        "customer_orders": customers_of(shown),
        "order_attribution": attributed,
        "campaign_revenue": revenue_of(attributed),
    }


def stages(shown: Shown) -> dict[tuple[Any, ...], int]:
    """Count the profiles that Ometria has by source, account, stage and consent."""
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in shown.existing("profiles", "profile_id"):
        stage = (row["lifecycle_status"] or "").strip(" ") or "unknown"
        counts[row["source_id"], row["account_id"], stage, consent_of(row)] += 1
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
