"""
The one statement that counts what the report shows, in the SQL that DuckDB and PostgreSQL share.

One statement sees the warehouse at one moment, while syncs may go on. Each figure is a query with
the same columns, so that they can be joined. No column that may hold people's data is selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal
from ometria_replica.schema import MARTS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

COLUMNS = ("figure", "source", "label", "part", "day", "n1", "n2", "n3", "n4", "n5", "n6")

KINDS: Mapping[str, tuple[str, ...]] = {
    "sent": ("send", "sent"),
    "opened": ("open", "opened"),
    "clicked": ("click", "clicked"),
    "bounced": ("bounce", "bounced"),
}
"""What happens to a message, and the event types that say so: Ometria documents none of them."""

SENDS = f"{MARTS_SCHEMA}.email_sends"
"""The mart of the dbt package with a row for each message."""

EVENT_TYPES, REASONS, CLASSES, CONSENTS, LISTS, CAMPAIGNS, REJECTS = 12, 5, 12, 8, 20, 20, 30
"""How many of each the report names, those with the most first."""

_TYPE = "lower(trim(event_type))"
_MARGIN = timedelta(days=7)
"""How long before the period a message may have been sent a first time, of which it has events."""


@dataclass(frozen=True)
class _Days:
    """The period in SQL: it begins at *since*, on the day *first*, and is over at *end*."""

    since: str
    end: str
    first: date

    def of(self, time: str) -> str:
        """Write the day of a *time*; null if it is after the period."""
        return f"CASE WHEN {time} < {self.end} THEN CAST({time} AS DATE) END"


def statement(
    tables: Collection[str],
    sources: Collection[str],
    since: date,
    until: date,
    *,
    rejects: bool,
    has_sends: bool = False,
) -> str | None:
    """
    Write the statement for the rows of *sources*, from the day *since* on.

    A time after the day *until*, which may be one that Python cannot hold, has no day.

    *tables* exist, and so does that of rejects if *rejects*. Campaigns are counted in the mart of
    sends if that *has_sends*, and else in the events. None if there is nothing to count.
    """
    of = f"__source_id IN ({', '.join(map(literal, sorted(sources)))})"
    days = _Days(f"TIMESTAMPTZ '{since:%Y-%m-%d} 00:00:00+00'", _end(until), since)
    parts: list[str] = []
    if "email_events" in tables:
        parts += _email(of, days, has_sends=has_sends)
    if "unsubscribes" in tables:
        parts.append(_unsubscribes(of, days))
    if "member_lists" in tables:
        parts.append(_lists(of, days, has_titles="lists" in tables))
    if "profiles" in tables:
        parts += _consents(of, days)
    if rejects:
        parts.append(_rejects(of.replace("__source_id", "source_id")))
    return "\nUNION ALL\n".join(parts) or None


def _end(until: date) -> str:
    return f"TIMESTAMPTZ '{until + timedelta(days=1):%Y-%m-%d} 00:00:00+00'"


def _figure(
    name: str,
    query: str,
    *numbers: str,
    source: str = "NULL",
    label: str = "NULL",
    part: str = "NULL",
    day: str = "NULL",
) -> str:
    """Give the rows of *query* the columns of all figures."""
    texts = ", ".join(f"CAST({text} AS VARCHAR)" for text in (literal(name), source, label, part))
    places = [*numbers, *(["NULL"] * (6 - len(numbers)))]
    counts = ", ".join(f"CAST({number} AS BIGINT)" for number in places)
    return f"SELECT {texts}, CAST({day} AS DATE), {counts} FROM ({query}) AS found"


def _email(of: str, days: _Days, *, has_sends: bool) -> Iterator[str]:
    events = f"FROM ometria.email_events WHERE {of} AND event_at >= {days.since}"
    yield _by_day("events", _TYPE, events, days, label="kind", counted="events", most=EVENT_TYPES)
    happened = ("opened", "clicked", "bounced")
    sums = ", ".join(f"sum({kind}) AS {kind}" for kind in happened)
    messages = _sends(of, days, happened) if has_sends else _messages(of, days, happened)
    yield _figure(
        "campaigns",
        f"""
WITH messages AS ({messages}
), campaigns AS (
  SELECT title, max(kind) AS kind, count(*) AS sent, {sums}
  FROM messages GROUP BY title
), ranked AS (
  SELECT title, kind, sent, opened, clicked, bounced,
    row_number() OVER (ORDER BY sent DESC, title) AS place
  FROM campaigns
)
SELECT CASE WHEN place <= {CAMPAIGNS} THEN title END AS title,
  CASE WHEN place <= {CAMPAIGNS} THEN kind END AS kind,
  CASE WHEN place <= {CAMPAIGNS} THEN place ELSE 0 END AS place,
  count(*) AS campaigns, sum(sent) AS sent, {sums}
FROM ranked GROUP BY 1, 2, 3""",
        "place",
        "campaigns",
        "sent",
        *happened,
        label="title",
        part="kind",
    )
    yield _figure(
        "bounces",
        f"""
SELECT bounce_class, count(*) AS bounces, sum(count(*)) OVER () AS total,
  count(*) OVER () AS classes
{events} AND {is_kind("bounced")} GROUP BY bounce_class ORDER BY 2 DESC, 1 LIMIT {CLASSES}""",
        "bounces",
        "total",
        "classes",
        label="bounce_class",
    )


def _messages(of: str, days: _Days, happened: Collection[str]) -> str:
    """
    Select the messages that were first sent in the period, of the events, as the mart has them.

    All events of one email to one recipient have one send_id; without one, each is a message.
    """
    before = f"TIMESTAMPTZ '{days.first - _MARGIN:%Y-%m-%d} 00:00:00+00'"
    sent = is_kind("sent")
    flags = ", ".join(
        f"max(CASE WHEN {is_kind(kind)} THEN 1 ELSE 0 END) AS {kind}" for kind in happened
    )
    named = ", ".join(
        f"coalesce(max(CASE WHEN {sent} THEN {column} END), max({column})) AS {name}"
        for column, name in (("campaign_title", "title"), ("campaign_type", "kind"))
    )
    return f"""
  SELECT {named}, {flags}
  FROM ometria.email_events WHERE {of} AND event_at >= {before}
  GROUP BY __source_id, coalesce(send_id, __sync_key)
  HAVING min(CASE WHEN {sent} THEN event_at END) >= {days.since}"""


def _sends(of: str, days: _Days, happened: Collection[str]) -> str:
    """Select the same messages of the mart, which has a row for each."""
    flags = ", ".join(f"CASE WHEN is_{kind} THEN 1 ELSE 0 END AS {kind}" for kind in happened)
    return f"""
  SELECT campaign_title AS title, campaign_type AS kind, {flags}
  FROM {SENDS} WHERE {of.replace("__source_id", "source_id")} AND is_sent
    AND sent_at >= {days.since}"""


def is_kind(kind: str) -> str:
    """Write the condition that an event is of one of KINDS."""
    return f"{_TYPE} IN ({', '.join(map(literal, KINDS[kind]))})"


def _by_day(
    name: str, value: str, rows: str, days: _Days, *, label: str, counted: str, most: int
) -> str:
    """Count *rows* by day and by a *value*, called *label*; only the *most* frequent are named."""
    return _figure(
        name,
        f"""
WITH days AS (
  SELECT coalesce({value}, '') AS {label}, {days.of("event_at")} AS day, count(*) AS {counted}
  {rows} GROUP BY 1, 2
), named AS (
  SELECT {label} FROM days GROUP BY {label} ORDER BY sum({counted}) DESC, {label} LIMIT {most}
)
SELECT CASE WHEN {label} IN (SELECT {label} FROM named) THEN {label} END AS {label}, day,
  sum({counted}) AS {counted}
FROM days GROUP BY 1, 2""",
        counted,
        label=label,
        day="day",
    )


def _unsubscribes(of: str, days: _Days) -> str:
    rows = f"FROM ometria.unsubscribes WHERE {of} AND event_at >= {days.since}"
    return _by_day(
        "unsubscribes", "unsubscribe_reason", rows, days,
        label="reason", counted="people", most=REASONS,
    )  # fmt: skip


def _lists(of: str, days: _Days, *, has_titles: bool) -> str:
    """
    Replay who entered and left each list: a profile is a member from one enter to the next exit.

    A second enter, and an exit of no member, change nothing. What was before *since* is summed in
    the day before it.
    """
    title, joined = "NULL", ""
    if has_titles:
        title = "lists.list_title"
        joined = (
            " LEFT JOIN ometria.lists AS lists ON lists.__source_id = days.__source_id"
            " AND lists.list_id = days.list_id"
        )
    before = f"DATE '{days.first:%Y-%m-%d}' - 1"
    return _figure(
        "lists",
        f"""
WITH events AS (
  SELECT __source_id, list_id, profile_id, event_at, __sync_key,
    CASE lower(trim(event)) WHEN 'list_enter' THEN 1 ELSE 0 END AS is_member
  FROM ometria.member_lists
  WHERE {of} AND lower(trim(event)) IN ('list_enter', 'list_exit') AND event_at < {days.end}
), moves AS (
  SELECT __source_id, list_id, CAST(event_at AS DATE) AS day,
    is_member - coalesce(lag(is_member) OVER (
      PARTITION BY __source_id, list_id, profile_id ORDER BY event_at, is_member DESC, __sync_key
    ), 0) AS change
  FROM events
), days AS (
  SELECT __source_id, list_id, greatest(day, {before}) AS day,
    sum(CASE WHEN change > 0 THEN 1 ELSE 0 END) AS entered,
    sum(CASE WHEN change < 0 THEN 1 ELSE 0 END) AS went
  FROM moves GROUP BY 1, 2, 3
), sizes AS (
  SELECT __source_id, list_id, sum(entered) - sum(went) AS members, count(*) OVER () AS lists
  FROM days GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {LISTS}
)
SELECT days.__source_id AS source, days.list_id AS list_id, {title} AS title, days.day AS day,
  days.entered AS entered, days.went AS went, sizes.members AS members, sizes.lists AS lists
FROM days JOIN sizes ON sizes.__source_id = days.__source_id AND sizes.list_id = days.list_id
{joined}""",
        "entered",
        "went",
        "members",
        "lists",
        source="source",
        label="title",
        part="list_id",
        day="day",
    )


def _consents(of: str, days: _Days) -> Iterator[str]:
    yield _figure(
        "consents",
        f"""
SELECT marketing_optin, count(*) AS profiles, sum(count(*)) OVER () AS total,
  count(*) OVER () AS answers
FROM ometria.profiles WHERE {of} GROUP BY marketing_optin ORDER BY 2 DESC, 1 LIMIT {CONSENTS}""",
        "profiles",
        "total",
        "answers",
        label="marketing_optin",
    )
    for name in ("optin", "optout"):
        time = f"marketing_{name}_date"
        yield _figure(
            name,
            f"SELECT {days.of(time)} AS day, count(*) AS profiles FROM ometria.profiles"
            f" WHERE {of} AND {time} >= {days.since} GROUP BY 1",
            "profiles",
            day="day",
        )


def _rejects(of: str) -> str:
    return _figure(
        "rejects",
        f"""
SELECT table_name, coalesce(column_name, '') AS column_name, reason, count(*) AS rejects,
  sum(count(*)) OVER () AS total, count(*) OVER () AS kinds
FROM ometria_replica.rejects WHERE {of} GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3
LIMIT {REJECTS}""",
        "rejects",
        "total",
        "kinds",
        source="table_name",
        label="reason",
        part="column_name",
    )
